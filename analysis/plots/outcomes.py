"""How often runs succeed, once and again."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import (
    colour_of,
    dash_of,
    highest,
    intervals,
    label,
    names_in,
    percent,
    shape_of,
    share,
)
from analysis.plots.registry import draws
from analysis.results import Result


def _successes(frame: pl.DataFrame) -> str:
    return f"{(frame['success'] * frame['runs']).sum():,.0f} successes"


@draws("success", events=_successes)
def success(result: Result, width: int) -> Any:
    """Success of each group as a dot with its 95 % interval clustered by task.

    From ``outcomes.success``: columns ``success``, ``low``, ``high``, ``tasks``, ``runs``.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "success", "low", "high", "tasks", "runs"
    )
    drawn = intervals(
        alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None)),
        "success",
        "success, 95 % interval",
        tooltip=["label", "success", "low", "high", "tasks", "runs"],
        text=alt.Text("success:Q", format=".1%"),
        scale=share(),
        axis=percent(),
    )
    return drawn.properties(width=width, height=alt.Step(40))


@draws("means")
def means(result: Result, width: int) -> Any:
    """The mean of a number of each run, for each group, as a dot with its 95 % interval.

    From ``outcomes.means``: columns ``mean``, ``low``, ``high``, ``tasks``, ``runs``.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "mean", "low", "high", "tasks", "runs"
    )
    drawn = intervals(
        alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None)),
        "mean",
        f"{result.title.lower()}, 95 % interval",
        tooltip=["label", "mean", "low", "high", "tasks", "runs"],
        text=alt.Text("mean:Q", format=".3~g"),
        scale=alt.Scale(zero=False),
    )
    return drawn.properties(width=width, height=alt.Step(36))


@draws("pass_k")
def pass_k(result: Result, width: int) -> Any:
    """The chance that k trials of a task all succeed, a line for each group with its 95 % band.

    From ``outcomes.pass_k``: columns ``k``, ``pass_k``, ``low``, ``high``, ``tasks``.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label")).select(
        "label", "k", "pass_k", "low", "high", "tasks"
    )
    names = names_in(frame)
    most = highest(frame, "k")
    base = alt.Chart(frame).encode(
        x=alt.X(
            "k:Q",
            title="k trials, all must succeed",
            scale=alt.Scale(domain=[1, max(most, 2)], nice=False, padding=8),
            axis=alt.Axis(values=list(range(1, most + 1)), format="d", grid=False),
        ),
        color=colour_of(names, width),
    )
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="pass^k, 95 % band", scale=share(), axis=percent()), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2.2).encode(y="pass_k:Q", strokeDash=dash_of(names, width))
    point = base.mark_point(filled=True, size=55, opacity=1).encode(
        y="pass_k:Q", shape=shape_of(names, width), tooltip=["label", "k", "pass_k", "low", "high", "tasks"]
    )  # fmt: skip
    return (band + line + point).properties(width=width, height=190)
