"""Where pairs of runs part."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import colour_of, dash_of, names_in, percent, share, steps
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, SMALL_SIZE
from analysis.results import Result


def _parted(frame: pl.DataFrame) -> str:
    return f"{frame['parted'].sum():,} pairs part"


@draws("together", events=_parted)
def together(result: Result, width: int) -> Any:
    """Share of pairs that still act alike after so many actions, between arms and inside each, with 95 % bands.

    From ``divergence.together``: columns ``a``, ``b``, ``place``, ``together``, ``low``, ``high``,
    ``at_risk``. Two runs of one arm part as well, by chance: that is what a curve between arms is
    held against.
    """
    inside = pl.col("a") == pl.col("b")
    frame = result.frame.with_columns(
        pl.when(inside)
        .then(pl.format("within {}", "a"))
        .otherwise(pl.format("{} and {}", "a", "b"))
        .alias("label")
    ).select("label", "place", "together", "low", "high", "at_risk", "parted")
    names = names_in(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("place:Q", axis=steps("actions done")),
        color=colour_of(names, width, symbolType="stroke"),
    )
    band = base.mark_area(opacity=0.12, interpolate="step-after").encode(
        y=alt.Y("low:Q", title="pairs that still act alike", scale=share(), axis=percent()),
        y2="high:Q",
    )
    line = base.mark_line(strokeWidth=2.2, interpolate="step-after").encode(
        y="together:Q",
        strokeDash=dash_of(names, width),
        tooltip=["label", "place", "together", "low", "high", "at_risk", "parted"],
    )
    return (band + line).properties(width=width, height=190)


@draws("first_divergence", events=lambda frame: f"{frame.height:,} pairs")
def first_divergence(result: Result, width: int) -> Any:
    """In how many pairs the first difference that was seen is of each sort, a bar for each.

    From ``divergence.first_divergence``: column ``first_difference``.
    """
    counted = (
        result.frame.with_columns(pl.col("first_difference").fill_null("do not part"))
        .group_by(pl.col("first_difference").alias("label"))
        .agg(pl.len().alias("pairs"))
        .sort("pairs", "label", descending=[True, False])
    )
    base = alt.Chart(counted).encode(
        y=alt.Y("label:N", title=None, sort=counted["label"].to_list()),
        x=alt.X("pairs:Q", title="pairs", axis=alt.Axis(tickMinStep=1, format="d")),
    )
    bar = base.mark_bar(height=12, color=BLUE).encode(tooltip=["label", "pairs"])
    number = base.mark_text(align="left", dx=5, fontSize=SMALL_SIZE).encode(text="pairs:Q")
    return (bar + number).properties(width=width, height=alt.Step(20))
