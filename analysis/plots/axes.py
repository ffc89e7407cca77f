"""The five axes on which runs and arms differ."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals, legend, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, ORANGE, PALE, SKY, SMALL_SIZE, SOFT
from analysis.results import Result
from loaders.errors import DerailError

_MOST_ROWS = 40


@draws("axes")
def axes(result: Result, width: int) -> Any:
    """For each of the five axes, in how many groups of runs they differ, agree, or are unknown: a bar each.

    From ``axes.axes``: columns ``axis``, ``reading``, ``runs``.
    """
    domain = ["differ", "same", "same where known", "unknown"]
    counted = (
        result.frame.filter(pl.col("runs") > 1)
        .with_columns(pl.col("axis").str.replace("_", " "))
        .group_by("axis", "reading", maintain_order=True)
        .agg(pl.len().alias("groups"))
        .with_columns(
            pl.col("reading")
            .replace_strict({name: n for n, name in enumerate(domain)})
            .alias("order")
        )
    )
    if counted.is_empty():
        raise DerailError("no group has two runs, so there is nothing to compare")
    colour = alt.Color(
        "reading:N",
        title="runs of a group",
        scale=alt.Scale(domain=domain, range=[ORANGE, BLUE, SKY, PALE]),
        legend=legend(domain, width),
    )
    noun = "tasks" if result.keys[:-1] == ("task_id",) else "groups"
    return (
        alt.Chart(counted)
        .mark_bar(height=14)
        .encode(
            y=alt.Y("axis:N", title=None, sort=None),
            x=alt.X("groups:Q", title=f"{noun} with several runs", axis=alt.Axis(tickMinStep=1)),
            color=colour,
            order="order:Q",
            tooltip=["axis", "reading", "groups"],
        )
        .properties(width=width, height=alt.Step(24))
    )


@draws("diff")
def diff(result: Result, width: int) -> Any:
    """How often runs of both arms differ in an item, and how often two runs of one arm do.

    From ``armdiff.diff``: columns ``axis``, ``item``, ``between``, ``within_a``, ``within_b``,
    ``verdict``. Items that tell the arms apart come first; 40 at most.
    """
    shown = (
        result.frame.filter(pl.col("between").is_not_null())
        .with_columns(
            pl.concat_str(
                [pl.col("axis").str.replace("_", " "), pl.col("item").str.slice(0, 40)],
                separator=" · ",
            ).alias("label"),
            (pl.col("verdict") == "differ").alias("first"),
        )
        .sort("first", descending=True, maintain_order=True)
        .head(_MOST_ROWS)
    )
    if shown.is_empty():
        raise DerailError("nothing is known of both arms, so there is nothing to draw")
    a, b = shown.select("a", "b").row(0)
    names = {"between": "between the arms", "within_a": f"within {a}", "within_b": f"within {b}"}
    drawn = (
        shown.select("label", "verdict", "units", *names)
        .unpivot(
            list(names),
            index=["label", "verdict", "units"],
            variable_name="pairs",
            value_name="share",
        )
        .drop_nulls("share")
        .with_columns(pl.col("pairs").replace_strict(names))
    )
    domain = [name for name in names.values() if name in drawn["pairs"]]
    base = alt.Chart(drawn).encode(
        y=alt.Y(
            "label:N", title=None, sort=shown["label"].to_list(), axis=alt.Axis(labelLimit=240)
        ),
        yOffset=alt.YOffset("pairs:N", sort=domain),
        x=alt.X("share:Q", title="pairs of runs that differ", scale=share(), axis=percent()),
        color=alt.Color(
            "pairs:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[ORANGE, GREY, SOFT][: len(domain)]),
            legend=legend(domain, width),
        ),
    )
    rule = base.mark_rule(strokeWidth=1.5, opacity=1).encode(x2=alt.X2Datum(0))
    point = base.mark_point(filled=True, size=55, opacity=1).encode(
        shape=alt.Shape(
            "pairs:N",
            title=None,
            scale=alt.Scale(domain=domain, range=["circle", "diamond", "square"][: len(domain)]),
        ),
        tooltip=["label", "pairs", "share", "verdict", "units"],
    )
    return (rule + point).properties(width=width, height=alt.Step(22, **{"for": "position"}))


@draws("surface")
def surface(result: Result, width: int) -> Any:
    """How much of the variation each axis explains (left), and its worst value against the mean (right), with intervals.

    From ``axes.surface``: columns ``axis``, ``explained``, ``low``, ``high``, ``worst_effect``,
    ``worst_low``, ``worst_high``, ``worst_text``.
    """
    told = pl.format("{} runs, {} tasks", "runs", "tasks")
    frame = result.frame.with_columns(
        pl.col("axis").str.replace("_", " "),
        pl.when(pl.col("runs") > 0).then(told).otherwise(pl.lit("nothing to compare")).alias("n"),
    )
    if frame["explained"].is_null().all() and frame["worst"].is_null().all():
        raise DerailError("every axis was refused: " + "; ".join(frame["refused"].unique()))
    panels = [
        ("explained", "low", "high", "variation it explains", ".0%"),
        ("worst_effect", "worst_low", "worst_high", "worst value less mean", "+.2f"),
    ]
    each, order = (width - 20) // 2, frame["axis"].to_list()
    drawn: list[Any] = []
    for value, low, high, title, form in panels:
        rows = frame.select(
            "axis", "n", pl.col("worst_text").fill_null("–"), value=value, low=low, high=high
        )
        y = alt.Y("axis:N", title=None, sort=order, axis=alt.Axis(labels=not drawn, ticks=False))
        base = alt.Chart(rows).encode(y=y)
        estimates = intervals(
            base.transform_filter("isValid(datum.value)"),
            "value",
            title,
            tooltip=["axis", "value", "low", "high", "n", "worst_text"],
            text=alt.Text("value:Q", format=form),
            axis=alt.Axis(format=form, tickCount=4),
            reference=0,
        )
        refused = (
            base.transform_filter("!isValid(datum.value)")
            .mark_text(fontSize=SMALL_SIZE, color=GREY)
            .encode(x=alt.value(each / 2), text=alt.value("no estimate"))
        )
        drawn.append((estimates + refused).properties(width=each, height=alt.Step(32)))
    return alt.hconcat(*drawn, spacing=20)
