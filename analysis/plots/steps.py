"""How a run goes, step by step."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import (
    colour_of,
    highest,
    label,
    line_at,
    names_in,
    percent,
    shape_of,
    share,
    steps,
)
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, ORANGE, SMALL_SIZE, SOFT
from analysis.results import Result

_ENDS = ["success", "failure", "cut off"]


def _failures(frame: pl.DataFrame) -> str:
    return f"{frame['failed'].sum():,} failures"


@draws("by_step", events=_failures)
def by_step(result: Result, width: int) -> Any:
    """Of the runs that reach a step, the share that succeeds in the end: a line and 95 % band for each group.

    From ``breakdown.by_step``: columns ``step``, ``success``, ``low``, ``high``, ``at_risk``.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "step", "success", "low", "high", "at_risk", "failed"
    )
    names = names_in(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("step:Q", axis=steps()), color=colour_of(names, width)
    )  # fmt: skip
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="succeed in the end", scale=share(), axis=percent()), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2.2).encode(y="success:Q")
    point = base.mark_point(size=38, filled=True, opacity=1).encode(
        y="success:Q",
        shape=shape_of(names, width),
        tooltip=["label", "step", "success", "at_risk", "failed"],
    )
    return (band + line + point).properties(width=width, height=210)


@draws("by_step", usual=False, events=_failures)
def hazard_by_step(result: Result, width: int) -> Any:
    """Of the runs that make a call, the share that fails with it: a point and 95 % interval at each step.

    From ``breakdown.by_step``: columns ``step``, ``hazard``, ``hazard_low``, ``hazard_high``,
    ``failed``, ``at_risk``.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "step", "hazard", "hazard_low", "hazard_high", "failed", "at_risk"
    )
    names = names_in(frame)
    beside = pl.col("label").replace_strict(
        {name: 0.18 * (n - (len(names) - 1) / 2) for n, name in enumerate(names)}
    )
    frame = frame.with_columns((pl.col("step") + beside).alias("at"))  # intervals do not overlap
    base = alt.Chart(frame).encode(
        x=alt.X("at:Q", axis=steps(), scale=alt.Scale(padding=8, nice=False)),
        color=colour_of(names, width),
    )
    rule = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
        y=alt.Y(
            "hazard_low:Q", title="fail at this call", axis=percent(), scale=alt.Scale(zero=True)
        ),
        y2="hazard_high:Q",
    )
    line = base.mark_line(strokeWidth=1.4, opacity=0.7).encode(y="hazard:Q")
    point = base.mark_point(size=42, filled=True, opacity=1).encode(
        y="hazard:Q",
        shape=shape_of(names, width),
        tooltip=["label", "step", "hazard", "hazard_low", "hazard_high", "failed", "at_risk"],
    )
    return (rule + line + point).properties(width=width, height=190)


def _ends(frame: pl.DataFrame) -> str:
    counted = dict(frame.group_by("end").agg(pl.col("events").sum()).rows())
    words = {"failure": "failures", "success": "successes", "cut off": "cut off"}
    return " · ".join(f"{counted[end]:,} {word}" for end, word in words.items() if end in counted)


@draws("incidence", events=_ends)
def incidence(result: Result, width: int) -> Any:
    """How many runs have succeeded, failed or been cut off by each call, with the runs still going beneath.

    From ``survival.cumulative_incidence``: columns ``step``, ``end``, ``incidence``, ``low``,
    ``high``, ``at_risk``, ``events``. Groups stand side by side, three in a row.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "step", "end", "incidence", "low", "high", "at_risk", "events"
    )
    groups = names_in(frame)
    across = min(3, len(groups), max(1, (width + 34) // 110))
    each = (width - 34 * (across - 1)) // across
    last = highest(frame, "step")
    colour = alt.Color(
        "end:N",
        title=None,
        scale=alt.Scale(domain=_ENDS, range=[BLUE, ORANGE, GREY]),
        legend=alt.Legend(symbolOpacity=1, columns=3, symbolType="stroke"),
    )
    dash = alt.StrokeDash(
        "end:N", title=None, scale=alt.Scale(domain=_ENDS, range=[[1, 0], [6, 3], [2, 2]])
    )
    panels: list[Any] = []
    for n, group in enumerate(groups):
        rows = frame.filter(pl.col("label") == group)
        first = n % across == 0
        base = alt.Chart(rows).encode(
            x=alt.X(
                "step:Q",
                axis=steps("calls made"),
                scale=alt.Scale(domain=[0, last], nice=False),
            ),
            color=colour,
        )
        axis = percent() if first else percent(labels=False)
        band = base.mark_area(opacity=0.15, interpolate="step-after").encode(
            y=alt.Y(
                "low:Q", title="runs that ended so" if first else None, scale=share(), axis=axis
            ),
            y2="high:Q",
        )
        line = base.mark_line(strokeWidth=2.2, interpolate="step-after").encode(
            y="incidence:Q",
            strokeDash=dash,
            tooltip=["label", "end", "step", "incidence", "low", "high", "at_risk", "events"],
        )
        titled = alt.TitleParams(
            text=group if len(groups) > 1 else "", orient="top", anchor="middle", fontSize=11
        )
        curve = alt.layer(band, line).properties(width=each, height=170, title=titled)
        panels.append(
            alt.vconcat(curve, _at_risk(rows, each, last, first=first), spacing=4)
        )  # fmt: skip
    return alt.concat(*panels, columns=across, spacing=18)


def _at_risk(rows: pl.DataFrame, width: int, last: int, *, first: bool) -> Any:
    """The runs that still go on, at a few moments, written beneath the curve."""
    left = rows.select("step", "at_risk").unique().sort("step")
    every = -(-left.height // max(1, width // 26))
    told = left.gather_every(every).with_columns(pl.lit("going").alias("row"))
    return (
        alt.Chart(told)
        .mark_text(fontSize=SMALL_SIZE, color=SOFT)
        .encode(
            x=alt.X("step:Q", axis=None, scale=alt.Scale(domain=[0, last], nice=False)),
            y=alt.Y("row:N", title=None, axis=alt.Axis(labels=first, domain=False)),
            text=alt.Text("at_risk:Q", format=",d"),
        )
        .properties(width=width, height=14)
    )


def _exposed(frame: pl.DataFrame) -> str:
    met = frame.filter(pl.col("tau") == 0)["exposed"]
    return f"{met[0] if len(met) else 0:,} exposed runs at the moment itself"


@draws("event_study", events=_exposed)
def event_study(result: Result, width: int) -> Any:
    """Change around the first exposure against runs not exposed, with 95 % intervals; hollow before it.

    From ``event_study.event_study``: columns ``tau``, ``effect``, ``low``, ``high``, ``p``,
    ``exposed``, ``controls``. If runs were alike before, the hollow points lie on the zero line.
    """
    shown = result.frame.filter(pl.col("effect").is_not_null()).with_columns(
        pl.when(pl.col("tau") < 0)
        .then(pl.lit("before (no effect possible)"))
        .otherwise(pl.lit("from the exposure on"))
        .alias("time")
    )
    domain = ["before (no effect possible)", "from the exposure on"]
    base = alt.Chart(shown).encode(
        x=alt.X("tau:Q", axis=steps("calls since the exposure was met")),
        color=alt.Color(
            "time:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[GREY, BLUE]),
            legend=alt.Legend(symbolOpacity=1, columns=2),
        ),
    )
    rule = base.mark_rule(strokeWidth=2, opacity=0.55).encode(
        y=alt.Y("low:Q", title="change, 95 % interval", scale=alt.Scale(zero=True)), y2="high:Q"
    )
    line = (
        alt.Chart(shown).mark_line(strokeWidth=1.2, color=GREY).encode(x="tau:Q", y="effect:Q")
    )  # fmt: skip
    point = base.mark_point(size=52, filled=True, opacity=1).encode(
        y="effect:Q",
        shape=alt.Shape(
            "time:N", title=None, scale=alt.Scale(domain=domain, range=["diamond", "circle"])
        ),
        tooltip=["tau", "effect", "low", "high", "p", "exposed", "controls"],
    )
    moment = line_at(x=-0.5, colour=ORANGE)
    return alt.layer(line_at(y=0), moment, line, rule, point).properties(width=width, height=200)
