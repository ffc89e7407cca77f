"""Which tool responses broke, and whether runs recovered."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import (
    colour_of,
    highest,
    intervals,
    label,
    names_in,
    percent,
    share,
    steps,
)
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, INK, PALE, PAPER, SMALL_SIZE, SOFT
from analysis.results import Result
from loaders.errors import DerailError


def _perturbed(frame: pl.DataFrame) -> str:
    return f"{frame['responses'].sum():,} perturbed responses"


@draws("rates", events=_perturbed)
def rates(result: Result, width: int) -> Any:
    """Share of tool responses with each perturbation code, a bar for each group.

    From ``perturbations.rates``: columns ``code``, ``responses``, ``of``, ``share``, ``runs``.
    """
    frame = result.frame.with_columns(label(result.keys[:-1]).alias("label")).select(
        "label", "code", "responses", "of", "share", "runs"
    )
    names = names_in(frame.sort("label"))
    codes = (
        frame.group_by("code").agg(pl.col("share").max()).sort("share", "code", descending=[True, False])
    )  # fmt: skip
    return (
        alt.Chart(frame)
        .mark_bar(height={"band": 0.8})
        .encode(
            y=alt.Y(
                "code:N",
                title=None,
                sort=codes["code"].to_list(),
                scale=alt.Scale(paddingInner=0.25),
            ),
            yOffset=alt.YOffset("label:N", sort=names) if len(names) > 1 else alt.Undefined,
            x=alt.X("share:Q", title="share of tool responses", axis=percent(".1~%")),
            color=colour_of(names, width),
            tooltip=["label", "code", "responses", "of", "runs"],
        )
        .properties(width=width, height=alt.Step(11 if len(names) > 1 else 22))
    )


@draws("recovery", events=_perturbed)
def recovery(result: Result, width: int) -> Any:
    """Share of perturbed responses that were got over, for each kind, with its 95 % interval.

    From ``survival.recovery``: columns ``rate``, ``low``, ``high``, ``recovered``, ``responses``,
    ``median``. Kinds with fewer than ten responses are left out.
    """
    shown = result.frame.filter(pl.col("rate").is_not_null())
    if shown.is_empty():
        raise DerailError("no kind has ten perturbed responses, so no rate of recovery is shown")
    shown = shown.with_columns(
        label(result.keys).alias("label"),
        pl.format("{} of {}", "recovered", "responses").alias("count"),
    ).select("label", "rate", "low", "high", "count", "median")
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y("label:N", title=None, sort=shown["label"].to_list())),
        "rate",
        "recovered, 95 % interval",
        tooltip=["label", "rate", "low", "high", "count", "median"],
        text="count:N",
        scale=share(),
        axis=percent(),
    )
    return drawn.properties(width=width, height=alt.Step(34))


def _followed(frame: pl.DataFrame) -> str:
    first = frame.unique(frame.columns[0], keep="first", maintain_order=True)
    return f"{first['at_risk'].sum():,} perturbed responses"


@draws("recovery_curves", events=_followed)
def recovery_curves(result: Result, width: int) -> Any:
    """Share of perturbed responses that were got over by each later call (Kaplan-Meier), a panel for each kind.

    From ``survival.recovery_curves``: columns ``calls``, ``recovered``, ``low``, ``high``,
    ``at_risk``. Bands are 95 % intervals.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label"))
    kinds = names_in(frame)
    across = min(len(kinds), 3 if width < 420 else 4)
    each = (width - 16 * (across - 1)) // across
    last = highest(frame, "calls")
    panels: list[Any] = []
    for n, kind in enumerate(kinds):
        rows = frame.filter(pl.col("label") == kind)
        first = n % across == 0
        base = alt.Chart(rows).encode(
            x=alt.X(
                "calls:Q",
                axis=steps("calls later"),
                scale=alt.Scale(domain=[0, last], nice=False),
            )
        )
        band = base.mark_area(opacity=0.18, color=BLUE, interpolate="step-after").encode(
            y=alt.Y(
                "low:Q",
                title="recovered" if first else None,
                scale=share(),
                axis=percent(labels=first, tickCount=3),
            ),
            y2="high:Q",
        )
        line = base.mark_line(strokeWidth=2.2, color=BLUE, interpolate="step-after").encode(
            y="recovered:Q", tooltip=["label", "calls", "recovered", "low", "high", "at_risk"]
        )
        titled = alt.TitleParams(
            text=kind,
            subtitle=f"{rows['at_risk'].max():,} responses",
            orient="top",
            offset=4,
            limit=each + 12,
            subtitleFontSize=SMALL_SIZE,
            subtitleColor=SOFT,
            color=INK,
        )
        panels.append(alt.layer(band, line).properties(width=each, height=86, title=titled))
    return alt.concat(*panels, columns=across, spacing=16)


def _cell_events(frame: pl.DataFrame) -> str:
    return f"{frame['events'].sum():,} failures at {frame['calls'].sum():,} calls"


@draws("cells", events=_cell_events)
def cells(result: Result, width: int) -> Any:
    """Hazard of failing at a call by what it had just met and by its thinking, with event counts in the cells.

    From ``cells.cells``: the two key columns, ``calls``, ``events``, ``hazard``, ``refused``. Cells
    with too few events to estimate keep their counts and have no colour.
    """
    row, column = result.keys[:2]
    rows = result.frame.select(
        pl.col(row).alias("row"),
        pl.col(column).alias("column"),
        *("calls", "events", "hazard", "low", "high", "runs", "tasks"),
        pl.format("{} / {}", "events", "calls").alias("count"),
    )
    across, down = names_in(rows.sort("column"), "column"), names_in(rows, "row")
    most = highest(rows, "hazard")
    base = alt.Chart(rows).encode(
        x=alt.X(
            "column:N",
            title=f"{column.replace('_', ' ')}; in the cells: failures / calls",
            sort=across,
            axis=alt.Axis(orient="top", labelAngle=0, grid=False, labelLimit=width // len(across)),
        ),
        y=alt.Y("row:N", title=None, sort=down, axis=alt.Axis(grid=False)),
        tooltip=["row", "column", "calls", "events", "hazard", "low", "high", "runs", "tasks"],
    )
    empty = base.mark_rect(color=PALE, opacity=0.3, stroke=PAPER, strokeWidth=2)
    colour = alt.Color(
        "hazard:Q",
        title="fail at the call",
        scale=alt.Scale(domain=[0, most], range=["#fdf0e1", "#b34700"]),
        legend=alt.Legend(
            format=".0%", orient="bottom", direction="horizontal", gradientLength=min(160, width)
        ),
    )
    known = base.transform_filter("isValid(datum.hazard)")
    tile = known.mark_rect(stroke=PAPER, strokeWidth=2).encode(color=colour)
    # White on dark tiles, black on light ones, whatever the theme: the tiles do not change with it.
    text = known.mark_text(fontSize=SMALL_SIZE).encode(
        text="count:N",
        color=alt.condition(
            f"datum.hazard > {most * 0.55}", alt.value("#fffffe"), alt.value("#1c2027")
        ),
    )
    faint = base.transform_filter("!isValid(datum.hazard)").mark_text(
        fontSize=SMALL_SIZE, color=SOFT
    )
    return alt.layer(empty, tile, text, faint.encode(text="count:N")).properties(
        width=width, height=alt.Step(26)
    )
