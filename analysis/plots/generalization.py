"""Whether results hold over models, scaffolds and tasks."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import colour_of, dash_of, intervals, label, percent, shape_of, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, INK, SMALL_SIZE
from analysis.results import Result
from loaders.errors import DerailError


@draws("components")
def components(result: Result, width: int) -> Any:
    """Share of the variance that lies between models, scaffolds, tasks and in their interactions, with 95 % intervals.

    From ``generalization.components``: columns ``component``, ``share``, ``share_low``, ``share_high``,
    ``variance``, ``levels``.
    """
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
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(x="share_low:Q", x2="share_high:Q")
    text = base.mark_text(align="left", dx=8, fontSize=SMALL_SIZE).encode(
        x="end:Q", text=alt.Text("share:Q", format=".1%")
    )
    end = "isValid(datum.share_high) ? datum.share_high : datum.share"
    return (bar + rule + text.transform_calculate(end=end)).properties(
        width=width, height=alt.Step(30)
    )


@draws("ranks")
def ranks(result: Result, width: int) -> Any:
    """Success of each model in each scaffold with 95 % intervals: lines that cross are changes of rank.

    From ``generalization.ranks``: the model and scaffold columns, ``success``, ``low``, ``high``,
    ``rank``, ``tasks``, ``runs``.
    """
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
    """Agreement of two scaffolds on the order of models (Kendall's tau), with how many pairs swap.

    From ``generalization.agreement``: columns ``a``, ``b``, ``tau``, ``low``, ``high``, ``discordant``.
    """
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
    """A line for each model from its benchmark result to that on real tasks, with 95 % intervals.

    From ``generalization.reality``: columns ``benchmark``, ``real`` with their intervals and ranks.
    """
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
    crowded = max(map(len, places)) * 6 > width / len(places)
    base = alt.Chart(drawn).encode(
        x=alt.X(
            "at:N",
            title=None,
            sort=places,
            axis=alt.Axis(labelAngle=-35 if crowded else 0, grid=False, labelLimit=150),
            scale=alt.Scale(paddingInner=0.8, paddingOuter=0.2),
        ),
        xOffset=alt.XOffset("model:N", sort=models),
        color=colour_of(models, width, "model"),
    )
    rule = base.mark_rule(strokeWidth=1.8, opacity=0.4).encode(
        y=alt.Y(
            "low:Q",
            title=f"{title}, 95 % interval",
            scale=share() if is_share else alt.Scale(zero=False),
            axis=percent() if is_share else alt.Axis(),
        ),
        y2="high:Q",
    )
    line = base.mark_line(strokeWidth=2.2, opacity=0.85).encode(
        y="value:Q", strokeDash=dash_of(models, width, "model")
    )
    point = base.mark_point(size=60, filled=True, opacity=1).encode(
        y="value:Q",
        shape=shape_of(models, width, "model"),
        tooltip=["model", "at", "value", "low", "high", "rank", "runs"],
    )
    return (rule + line + point).properties(width=width, height=230)
