"""How a run goes, step by step."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import label, line_at, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREEN, GREY, ORANGE, SERIES
from analysis.results import Result


@draws("by_step")
def by_step(result: Result, width: int) -> Any:
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "step", "success", "low", "high", "at_risk", "failed"
    )
    colour = (
        alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(range=list(SERIES)),
            legend=alt.Legend(symbolOpacity=1, symbolType="circle"),
        )
        if frame["label"].n_unique() > 1
        else alt.value(BLUE)
    )
    base = alt.Chart(frame).encode(
        x=alt.X("step:Q", title="step (model call)", axis=alt.Axis(tickMinStep=1, grid=False))
    )
    band = base.mark_area(opacity=0.16).encode(
        y=alt.Y("low:Q", title="succeed in the end", scale=share(), axis=percent()),
        y2="high:Q",
        color=colour,
    )
    line = base.mark_line(strokeWidth=2.5).encode(y="success:Q", color=colour)
    point = base.mark_circle(size=45, opacity=1).encode(
        y="success:Q", color=colour, tooltip=["label", "step", "success", "at_risk", "failed"]
    )
    return (band + line + point).properties(width=width, height=220)


@draws("incidence")
def incidence(result: Result, width: int) -> Any:
    """A curve for each end; groups side by side."""
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "step", "end", "incidence", "low", "high", "at_risk", "events"
    )
    domain = ["failure", "success", "cut off"]
    colour = alt.Color(
        "end:N",
        title=None,
        scale=alt.Scale(domain=domain, range=[ORANGE, GREEN, GREY]),
        legend=alt.Legend(symbolOpacity=1, symbolType="circle"),
    )
    base = alt.Chart().encode(
        x=alt.X("step:Q", title="model calls made", axis=alt.Axis(tickMinStep=1, grid=False)),
        color=colour,
    )
    band = base.mark_area(opacity=0.16, interpolate="step-after").encode(
        y=alt.Y("low:Q", title="runs that ended so", scale=share(), axis=percent()), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2.5, interpolate="step-after").encode(
        y="incidence:Q", tooltip=["label", "end", "step", "incidence", "at_risk", "events"]
    )
    groups = frame["label"].n_unique()
    each = max(140, width // groups - 20 * (groups > 1))
    drawn: Any = alt.layer(band, line, data=frame).properties(width=each, height=220)
    if groups == 1:
        return drawn
    return drawn.facet(column=alt.Column("label:N", title=None, sort=None))


@draws("event_study")
def event_study(result: Result, width: int) -> Any:
    """Effects by moment; a line marks the exposure, the base call is a ring."""
    shown = result.frame.filter(pl.col("effect").is_not_null()).with_columns(
        (pl.col("tau") == -1).alias("base")
    )
    base = alt.Chart(shown).encode(
        x=alt.X(
            "tau:Q",
            title="calls since the exposure was met",
            axis=alt.Axis(tickMinStep=1, grid=False),
        )
    )
    band = base.mark_area(opacity=0.16, color=BLUE).encode(
        y=alt.Y("low:Q", title="change against runs not exposed, 95 % interval"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, color=BLUE).encode(y="effect:Q")
    point = base.mark_point(size=55, filled=True, opacity=1, color=BLUE).encode(
        y="effect:Q",
        color=alt.condition("datum.base", alt.value(GREY), alt.value(BLUE)),
        tooltip=["tau", "effect", "low", "high", "p", "exposed", "controls"],
    )
    moment = line_at(x=-0.5, colour=ORANGE)
    return alt.layer(line_at(y=0), moment, band, line, point).properties(width=width, height=220)
