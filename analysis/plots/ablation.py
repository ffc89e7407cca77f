"""What arms and factors change."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals, percent
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, ORANGE, SERIES
from analysis.results import Result
from loaders.errors import DerailError


@draws("compare")
def compare(result: Result, width: int) -> Any:
    baseline = result.frame["a"][0]
    frame = result.frame.with_columns(pl.col("b").alias("label")).select(
        "label", "difference", "low", "high", "gained", "lost", "pairs"
    )
    drawn = intervals(
        alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None)),
        "difference",
        f"difference in success from {baseline}, 95 % interval",
        tooltip=["label", "difference", "gained", "lost", "pairs"],
        text=alt.Text("difference:Q", format="+.1%"),
        axis=percent(),
        reference=0,
    )
    return drawn.properties(width=width, height=alt.Step(46))


@draws("factors")
def factors(result: Result, width: int) -> Any:
    shown = result.frame.filter(pl.col("difference").is_not_null())
    if shown.is_empty():
        raise DerailError("every effect was refused: too few tasks have all that they need")
    domain = ["main", "interaction"]
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y("effect:N", title=None, sort=None)),
        "difference",
        "difference of success, 95 % interval",
        tooltip=["effect", "kind", "difference", "low", "high", "p_adjusted", "tasks", "runs"],
        text=alt.Text("difference:Q", format="+.1%"),
        axis=alt.Axis(format="+.0%", grid=True),
        colour=alt.Color(
            "kind:N", title=None, scale=alt.Scale(domain=domain, range=[BLUE, ORANGE])
        ),
        reference=0,
    )
    return drawn.properties(width=width, height=alt.Step(38))


@draws("power")
def power(result: Result, width: int) -> Any:
    frame = result.frame.with_columns(pl.format("{} trials", "trials").alias("label"))
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=45, filled=True))
        .encode(
            x=alt.X("tasks:Q", scale=alt.Scale(type="log", nice=False), title="tasks (log scale)"),
            y=alt.Y(
                "detectable:Q", title="smallest detectable difference", axis=alt.Axis(format=".0%")
            ),
            color=alt.Color("label:N", title=None, sort=None, scale=alt.Scale(range=list(SERIES))),
            tooltip=["tasks", "trials", "runs", "detectable"],
        )
        .properties(width=width, height=220)
    )
