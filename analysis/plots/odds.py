"""What precedes failure: forests of odds ratios."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREEN, GREY, ORANGE
from analysis.results import Result
from loaders.errors import DerailError


@draws("triggers")
def triggers(result: Result, width: int) -> Any:
    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError("every exposure was refused: there are too few runs to estimate anything")
    shown = shown.with_columns(
        pl.when(pl.col("p_adjusted") >= 0.05)
        .then(pl.lit("not shown to matter"))
        .when(pl.col("odds_ratio") > 1)
        .then(pl.lit("precedes failure"))
        .otherwise(pl.lit("precedes success"))
        .alias("reading"),
        pl.format(
            "{} of {}", "exposed_failed", pl.col("exposed_failed") + pl.col("exposed_succeeded")
        ).alias("failed"),
    ).select("exposure", "odds_ratio", "low", "high", "p_adjusted", "failed", "reading", "tasks")
    colour = alt.Color(
        "reading:N",
        title=None,
        scale=alt.Scale(
            domain=["precedes failure", "not shown to matter", "precedes success"],
            range=[ORANGE, GREY, GREEN],
        ),
    )
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y("exposure:N", title=None, sort=None)),
        "odds_ratio",
        "odds ratio of failing (log scale), 95 % interval",
        tooltip=["exposure", "odds_ratio", "low", "high", "p_adjusted", "failed"],
        text=alt.Text("odds_ratio:Q", format=".2f"),
        scale=alt.Scale(type="log", nice=False),
        colour=colour,
        reference=1,
    )
    return drawn.properties(width=width, height=alt.Step(42))


@draws("hazard")
def hazard(result: Result, width: int) -> Any:
    """Adjusted odds ratios with their intervals, and unadjusted ones as rings beneath."""
    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError(
            "every exposure was refused: there are too few events to estimate anything"
        )
    names = {"adjusted": ("odds_ratio", "low", "high")}
    names["unadjusted"] = ("unadjusted", "unadjusted_low", "unadjusted_high")
    events = pl.format("{} of {} calls", "exposed_events", "exposed_calls").alias("broke")
    drawn = pl.concat(
        shown.select(
            "exposure",
            pl.lit(which).alias("estimate"),
            *(pl.col(c).alias(n) for c, n in zip(columns, ("ratio", "low", "high"), strict=True)),
            "p_adjusted",
            events,
        )
        for which, columns in names.items()
    ).drop_nulls("ratio")
    domain = list(names)
    base = alt.Chart(drawn).encode(
        y=alt.Y("exposure:N", title=None, sort=None), yOffset=alt.YOffset("estimate:N", sort=domain)
    )
    colour = alt.Color("estimate:N", title=None, scale=alt.Scale(domain=domain, range=[BLUE, GREY]))
    text = (
        base.transform_filter("datum.estimate == 'adjusted'")
        .mark_text(dy=-11, fontSize=11)
        .encode(x="ratio:Q", text=alt.Text("ratio:Q", format=".2f"), color=colour)
    )
    both = intervals(
        base,
        "ratio",
        "odds ratio of the run breaking at a call (log scale), 95 % interval",
        tooltip=["exposure", "estimate", "ratio", "low", "high", "p_adjusted", "broke"],
        scale=alt.Scale(type="log", nice=False),
        colour=colour,
        shape=alt.Shape(
            "estimate:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        reference=1,
        size=70,
    )
    return (both + text).properties(width=width, height=alt.Step(24))
