"""Which tool responses broke, and whether runs recovered."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals, label, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE
from analysis.results import Result
from loaders.errors import DerailError


@draws("rates")
def rates(result: Result, width: int) -> Any:
    frame = result.frame.with_columns(label(result.keys[:-1]).alias("label")).select(
        "label", "code", "responses", "of", "share", "runs"
    )
    many = frame["label"].n_unique() > 1
    return (
        alt.Chart(frame)
        .mark_bar(height={"band": 0.75})
        .encode(
            y=alt.Y("code:N", title=None, sort="-x"),
            yOffset=alt.YOffset("label:N") if many else alt.Undefined,
            x=alt.X("share:Q", title="share of tool responses", axis=percent(".1%")),
            color=alt.Color("label:N", title=None) if many else alt.value(BLUE),
            tooltip=["label", "code", "responses", "of", "runs"],
        )
        .properties(width=width, height=alt.Step(14 if many else 26))
    )


@draws("recovery")
def recovery(result: Result, width: int) -> Any:
    shown = result.frame.filter(pl.col("rate").is_not_null())
    if shown.is_empty():
        raise DerailError("no kind has ten perturbed responses, so no rate of recovery is shown")
    name = result.keys[0]
    shown = shown.with_columns(
        pl.format("{} of {}", "recovered", "responses").alias("count")
    ).select(name, "rate", "low", "high", "count", "median")
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y(f"{name}:N", title=None, sort=None)),
        "rate",
        "recovered, 95 % interval clustered by task",
        tooltip=[name, "rate", "low", "high", "count", "median"],
        text="count:N",
        scale=share(),
        axis=percent(),
    )
    return drawn.properties(width=width, height=alt.Step(38))
