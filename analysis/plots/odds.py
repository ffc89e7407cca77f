"""What precedes failure: forests of odds ratios."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import legend, ratios
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, ORANGE, SMALL_SIZE
from analysis.results import Result
from loaders.errors import DerailError

_READINGS = ["precedes failure", "not shown to matter", "precedes success"]


def _failed_runs(frame: pl.DataFrame) -> str:
    return f"{frame['exposed_failed'].sum():,} failures after an exposure"


@draws("triggers", events=_failed_runs)
def triggers(result: Result, width: int) -> Any:
    """Odds ratio of failing after each exposure on a log axis, with its 95 % interval.

    From ``breakdown.triggers``: columns ``exposure``, ``odds_ratio``, ``low``, ``high``,
    ``p_adjusted`` and the four cells. Exposures without an estimate are left out; an interval that
    runs off the axis ends in an arrow.
    """
    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError("every exposure was refused: there are too few runs to estimate anything")
    shown = shown.with_columns(
        pl.when(pl.col("p_adjusted") >= 0.05)
        .then(pl.lit(_READINGS[1]))
        .when(pl.col("odds_ratio") > 1)
        .then(pl.lit(_READINGS[0]))
        .otherwise(pl.lit(_READINGS[2]))
        .alias("reading"),
        pl.format(
            "{} of {}", "exposed_failed", pl.col("exposed_failed") + pl.col("exposed_succeeded")
        ).alias("failed"),
    ).select("exposure", "odds_ratio", "low", "high", "p_adjusted", "failed", "reading", "tasks")
    order = shown["exposure"].to_list()

    def base(rows: pl.DataFrame) -> Any:
        return alt.Chart(rows).encode(y=alt.Y("exposure:N", title=None, sort=order))

    return ratios(
        base,
        "odds_ratio",
        "odds ratio of failing, 95 % interval",
        shown,
        text=alt.Text("odds_ratio:Q", format=".3~g"),
        tooltip=["exposure", "odds_ratio", "low", "high", "p_adjusted", "failed"],
        colour=alt.Color(
            "reading:N",
            title=None,
            scale=alt.Scale(domain=_READINGS, range=[ORANGE, GREY, BLUE]),
            legend=legend(_READINGS, width),
        ),
        shape=alt.Shape(
            "reading:N",
            title=None,
            scale=alt.Scale(domain=_READINGS, range=["circle", "diamond", "square"]),
        ),
    ).properties(width=width, height=alt.Step(38))


def _breaking_calls(frame: pl.DataFrame) -> str:
    row = frame.row(0, named=True)
    return f"{row['exposed_events'] + row['unexposed_events']:,} events"


@draws("hazard", events=_breaking_calls)
def hazard(result: Result, width: int) -> Any:
    """Adjusted odds ratios of breaking at a call with 95 % intervals, unadjusted ones beneath each.

    From ``hazard.hazard``: columns ``exposure``, ``odds_ratio``, ``low``, ``high``, ``unadjusted``,
    ``unadjusted_low``, ``unadjusted_high``, ``exposed_events``, ``exposed_calls``. Exposures
    without an estimate are left out; an interval that runs off the axis ends in an arrow.
    """
    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError(
            "every exposure was refused: there are too few events to estimate anything"
        )
    names = {
        "adjusted": ("odds_ratio", "low", "high"),
        "unadjusted": ("unadjusted", "unadjusted_low", "unadjusted_high"),
    }
    events = pl.format("{} of {} calls", "exposed_events", "exposed_calls").alias("broke")
    rows = pl.concat(
        shown.select(
            "exposure",
            pl.lit(which).alias("estimate"),
            *(pl.col(c).alias(n) for c, n in zip(columns, ("ratio", "low", "high"), strict=True)),
            "p_adjusted",
            events,
        )
        for which, columns in names.items()
    ).drop_nulls("ratio")
    order, domain = shown["exposure"].to_list(), list(names)

    def base(rows: pl.DataFrame) -> Any:
        return alt.Chart(rows).encode(
            y=alt.Y("exposure:N", title=None, sort=order),
            yOffset=alt.YOffset("estimate:N", sort=domain),
        )

    drawn = ratios(
        base,
        "ratio",
        "odds ratio of breaking at a call, 95 % interval",
        rows,
        text=None,
        tooltip=["exposure", "estimate", "ratio", "low", "high", "p_adjusted", "broke"],
        colour=alt.Color(
            "estimate:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[BLUE, GREY]),
            legend=legend(domain, width),
        ),
        shape=alt.Shape(
            "estimate:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        size=65,
    )
    # Numbers stand in a column of their own: beside points and whiskers they would overlap.
    numbers = (
        base(rows)
        .mark_text(align="left", dx=8, fontSize=SMALL_SIZE)
        .encode(
            x=alt.value(width),
            text=alt.Text("ratio:Q", format=".3~g"),
            color=alt.Color(
                "estimate:N",
                title=None,
                scale=alt.Scale(domain=domain, range=[BLUE, GREY]),
                legend=legend(domain, width),
            ),
        )
    )
    return alt.layer(drawn, numbers).properties(width=width, height=alt.Step(20))
