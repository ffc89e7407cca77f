"""How often runs succeed, once and again."""

from __future__ import annotations

from typing import Any

import altair as alt

from analysis.plots.marks import intervals, label, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE
from analysis.results import Result


@draws("success")
def success(result: Result, width: int) -> Any:
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "success", "low", "high", "tasks", "runs"
    )
    base = alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None))
    drawn = intervals(
        base,
        "success",
        "success, 95 % interval clustered by task",
        tooltip=["label", "success", "low", "high", "tasks", "runs"],
        text=alt.Text("success:Q", format=".1%"),
        scale=share(),
        axis=percent(),
    )
    return drawn.properties(width=width, height=alt.Step(42))


@draws("pass_k")
def pass_k(result: Result, width: int) -> Any:
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "k", "pass_k", "low", "high", "tasks"
    )
    colour = alt.Color("label:N", title=None) if frame["label"].n_unique() > 1 else alt.value(BLUE)
    base = alt.Chart(frame).encode(
        x=alt.X("k:O", title="k trials, all must succeed", axis=alt.Axis(labelAngle=0))
    )
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="pass^k", scale=share(), axis=percent()), y2="high:Q", color=colour
    )
    line = base.mark_line(point=True, strokeWidth=2.5).encode(
        y="pass_k:Q", color=colour, tooltip=["label", "k", "pass_k", "tasks"]
    )
    return (band + line).properties(width=width, height=200)
