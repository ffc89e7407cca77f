"""Where runs part, where series change, and where breakdowns begin."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import (
    AS_LINES,
    colour_of,
    dash_of,
    label,
    names_in,
    percent,
    staircase,
    steps,
)
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, SKY
from analysis.results import Result
from loaders.errors import DerailError

_FIRST = {
    "prompts": PURPLE, "tools": SKY, "environment": GREEN, "thinking sent": ORANGE, "response": BLUE, "nothing seen": GREY,
}  # fmt: skip


def _parted(frame: pl.DataFrame) -> str:
    return f"{frame['parts'].is_not_null().sum():,} of {frame.height:,} pairs part"


def _pairs(frame: pl.DataFrame) -> str:
    first = frame.group_by("a", "b").agg(pl.col("at_risk").max())
    return f"{first['at_risk'].sum():,} pairs"


def _begun(frame: pl.DataFrame) -> str:
    return f"{frame['onset'].is_not_null().sum():,} onsets"


@draws("first_divergence", events=_parted)
def first_divergence(result: Result, width: int) -> Any:
    """Bars by the number of actions done alike: pairs that part there, by what had differed first."""
    shown = (
        result.frame.filter(pl.col("parts").is_not_null())
        .with_columns(pl.concat_str([pl.col("b"), pl.lit(" against "), pl.col("a")]).alias("arms"))
        .group_by("arms", "place", "first_difference", maintain_order=True)
        .agg(pl.len().alias("pairs"))
    )
    if shown.is_empty():
        raise DerailError("no pair parts")
    names = [name for name in _FIRST if name in shown["first_difference"].to_list()]
    scale = alt.Scale(domain=names, range=[_FIRST[name] for name in names])
    longest: Any = shown["place"].max()
    bars: Any = (
        alt.Chart(shown)
        .mark_bar(size=max(3, min(22, int(0.7 * width / (longest + 1)))))
        .encode(
            x=alt.X(
                "place:Q",
                title="actions done alike before they part",
                scale=alt.Scale(domain=[-0.5, longest + 0.5], nice=False),
                axis=alt.Axis(tickMinStep=1, grid=False, format="d"),
            ),
            y=alt.Y("pairs:Q", title="pairs", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("first_difference:N", title="first difference seen", scale=scale),
            tooltip=["arms", "place", "first_difference", "pairs"],
        )
        .properties(width=width, height=190)
    )
    if shown["arms"].n_unique() < 2:
        return bars
    return bars.facet(row=alt.Row("arms:N", title=None, sort=None))


@draws("together", events=_pairs)
def together(result: Result, width: int) -> Any:
    """A falling staircase for each two arms, dashed inside an arm: pairs that still act alike."""
    shown = result.frame.with_columns(
        pl.when(pl.col("a") == pl.col("b"))
        .then(pl.format("within {}", "a"))
        .otherwise(pl.format("{} against {}", "b", "a"))
        .alias("label")
    )
    axes = {"place": "actions done", "together": "pairs that still act alike"}
    return staircase(shown, axes, ["at_risk", "parted", "ended"], width)


@draws("change_points")
def change_points(result: Result, width: int) -> Any:
    """A level with its interval for each segment of the run, in each arm; steps where it changes."""
    arms = result.keys[:-1]
    shown = result.frame.with_columns(
        label(arms).alias("label"),
        (pl.col("first_step") - 0.5).alias("from"),
        (pl.col("last_step") + 0.5).alias("to"),
    )
    names = names_in(shown)
    longest: Any = shown["to"].max()
    along = alt.Scale(domain=[-0.5, longest], nice=False)
    base = alt.Chart(shown).encode(x=alt.X("from:Q", axis=steps(), scale=along), x2="to:Q")
    title = result.title.partition(": ")[2]
    is_share = bool((shown["value"] >= 0).all() and (shown["value"] <= 1).all())
    axis = percent(labels=True) if is_share else alt.Axis(tickCount=5)
    band = base.mark_rect(opacity=0.15).encode(
        y=alt.Y("low:Q", title=title, axis=axis),
        y2="high:Q",
        color=colour_of(names, width, **AS_LINES),
    )
    line = base.mark_rule(strokeWidth=3).encode(
        y=alt.Y("value:Q"),
        color=colour_of(names, width),
        strokeDash=dash_of(names, width, told=True),
        tooltip=[
            "label",
            "first_step",
            "last_step",
            "value",
            "low",
            "high",
            "p",
            "stability",
            "runs",
        ],
    )
    return alt.layer(band, line).properties(width=width, height=220)


@draws("onset", events=_begun)
def onset(result: Result, width: int) -> Any:
    """Bars by step: runs whose breakdown begins there, failed above successful."""
    shown = (
        result.frame.drop_nulls("onset")
        .with_columns(
            pl.when("success")
            .then(pl.lit("successful runs"))
            .otherwise(pl.lit("failed runs"))
            .alias("ended")
        )
        .group_by("ended", "onset")
        .agg(pl.len().alias("runs"))
        .sort("ended", "onset")
    )
    if shown.is_empty():
        raise DerailError("no run has an onset by this definition")
    longest: Any = shown["onset"].max()
    bars: Any = (
        alt.Chart(shown)
        .mark_bar(size=max(3, min(18, int(0.7 * width / (longest + 1)))))
        .encode(
            x=alt.X("onset:Q", axis=steps("step at which it begins"), scale=alt.Scale(domain=[-0.5, longest + 0.5], nice=False)),
            y=alt.Y("runs:Q", title="runs", axis=alt.Axis(tickCount=3, tickMinStep=1)),
            color=alt.Color(
                "ended:N",
                title=None,
                scale=alt.Scale(domain=["failed runs", "successful runs"], range=[ORANGE, PALE]),
            ),
            tooltip=["ended", "onset", "runs"],
        )
        .properties(width=width, height=110)
    )  # fmt: skip
    return bars.facet(row=alt.Row("ended:N", title=None, header=alt.Header(labels=False)))
