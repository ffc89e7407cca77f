"""Whether results hold over models, scaffolds and tasks."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals, label, percent, series, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE
from analysis.results import Result
from loaders.errors import DerailError


@draws("components")
def components(result: Result, width: int) -> Any:
    """Shares of the variance as bars with intervals."""
    shown = result.frame.filter(pl.col("share").is_not_null()).select(
        "component", "share", "share_low", "share_high", "variance", "levels"
    )
    if shown.is_empty():
        raise DerailError("not every component could be estimated, so no share is known")
    order = shown["component"].to_list()
    base = alt.Chart(shown).encode(y=alt.Y("component:N", title=None, sort=order))
    bar = base.mark_bar(height={"band": 0.55}, color=BLUE, opacity=0.85).encode(
        x=alt.X("share:Q", title="share of variance, 95 % interval", scale=share(), axis=percent()),
        tooltip=["component", "share", "share_low", "share_high", "variance", "levels"],
    )
    rule = base.mark_rule(strokeWidth=1.8, color="#222222").encode(
        x="share_low:Q", x2="share_high:Q"
    )
    text = base.mark_text(align="left", dx=8, fontSize=11).encode(
        x="end:Q", text=alt.Text("share:Q", format=".1%")
    )
    end = "isValid(datum.share_high) ? datum.share_high : datum.share"
    return (bar + rule + text.transform_calculate(end=end)).properties(
        width=width, height=alt.Step(30)
    )


@draws("ranks")
def ranks(result: Result, width: int) -> Any:
    """A line for each model across scaffolds."""
    model, scaffold = result.keys
    shown = result.frame.filter(pl.col("success").is_not_null())
    if shown.is_empty():
        raise DerailError("every model has too few runs in every scaffold")
    drawn = shown.select(
        pl.col(model).alias("model"),
        pl.col(scaffold).alias("at"),
        pl.col("success").alias("value"),
        *("low", "high", "rank", "tasks", "runs"),
    )
    return _slopes(drawn, width, sorted(drawn["at"].unique().to_list()), "success")


@draws("rank_agreement")
def rank_agreement(result: Result, width: int) -> Any:
    """Kendall's tau of each pair of scaffolds, with how many pairs of models swap."""
    shown = result.frame.filter(pl.col("tau").is_not_null())
    if shown.is_empty():
        raise DerailError("no two scaffolds share three models with enough runs")
    shown = shown.with_columns(
        pl.format("{} and {}", "a", "b").alias("label"),
        pl.format(
            "{} of {} pairs swap, {} beyond noise", "discordant", "pairs", "beyond_noise"
        ).alias("told"),
    ).select("label", "tau", "low", "high", "told", "models")
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y("label:N", title=None, sort=None)),
        "tau",
        "Kendall's tau between the orders of models, 95 % interval",
        tooltip=["label", "tau", "low", "high", "told", "models"],
        text="told:N",
        scale=alt.Scale(domain=[-1, 1]),
    )
    return drawn.properties(width=width, height=alt.Step(42))


@draws("reality")
def reality(result: Result, width: int) -> Any:
    """A line for each model from the benchmark to reality."""
    shown = result.frame.filter(pl.col("gap").is_not_null()).with_columns(
        label(result.keys).alias("model")
    )
    if shown.is_empty():
        raise DerailError("there are too few runs on both sides to draw")
    drawn = pl.concat(
        shown.select(
            "model",
            pl.lit(side).alias("at"),
            pl.col(side).alias("value"),
            pl.col(f"{side}_low").alias("low"),
            pl.col(f"{side}_high").alias("high"),
            pl.col(f"rank_{side}").alias("rank"),
            pl.col("runs" if side == "benchmark" else "real_runs").alias("runs"),
        )
        for side in ("benchmark", "real")
    )
    return _slopes(drawn, width, ["benchmark", "real"], "mean outcome")


def _slopes(drawn: pl.DataFrame, width: int, places: list[str], title: str) -> Any:
    models = drawn["model"].unique(maintain_order=True).to_list()
    is_share = bool(drawn["value"].is_between(0, 1).all())
    x = alt.X(
        "at:N",
        title=None,
        sort=places,
        axis=alt.Axis(labelAngle=0, grid=False),
        scale=alt.Scale(paddingInner=0.8, paddingOuter=0.2),
    )
    marks = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
    base = alt.Chart(drawn).encode(
        x=x,
        xOffset=alt.XOffset("model:N", sort=models),
        color=alt.Color(
            "model:N",
            title=None,
            scale=alt.Scale(domain=models, range=series(len(models))),
            legend=alt.Legend(symbolOpacity=1),
        ),
    )
    rule = base.mark_rule(strokeWidth=2, opacity=0.45).encode(
        y=alt.Y(
            "low:Q",
            title=f"{title}, 95 % interval",
            scale=share() if is_share else alt.Scale(zero=False),
            axis=percent() if is_share else alt.Axis(),
        ),
        y2="high:Q",
    )
    line = base.mark_line(strokeWidth=2.5, opacity=0.85).encode(y="value:Q")
    point = base.mark_point(size=75, filled=True, opacity=1).encode(
        y="value:Q",
        shape=alt.Shape(
            "model:N",
            title=None,
            scale=alt.Scale(
                domain=models, range=[marks[n % len(marks)] for n in range(len(models))]
            ),
        ),
        tooltip=["model", "at", "value", "low", "high", "rank", "runs"],
    )
    return (rule + line + point).properties(width=width, height=260)
