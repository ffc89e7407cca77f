"""How runs behave: loops, repeats, cascades of errors."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import colour_of, intervals, label, percent, shape_of, share
from analysis.plots.registry import draws
from analysis.results import Result
from loaders.errors import DerailError


@draws("behaviour")
def behaviour(result: Result, width: int) -> Any:
    """Signals of behaviour as shares of steps or runs with intervals; what is no share stands beneath.

    From ``behaviour.rates``: columns ``signal``, ``value``, ``low``, ``high``, ``unit``, ``showing``,
    ``runs``, ``tasks``.
    """
    known = result.frame.filter(pl.col("value").is_not_null())
    if known.is_empty():
        raise DerailError("no signal of behaviour could be measured in these logs")
    known = known.with_columns(label(result.keys[:-1]).alias("label")).select(
        "label", "signal", "value", "low", "high", "unit", "showing", "runs", "tasks"
    )
    arms = known["label"].unique(maintain_order=True).to_list()
    panels: list[Any] = []
    ratio, steps = pl.col("unit") == "ratio to chance", pl.col("unit") == "steps"
    for rows, title, shares in (
        (known.filter(~ratio & ~steps), "share, 95 % interval", True),
        (known.filter(ratio), "errors right after an error, over chance", False),
        (known.filter(steps), "steps since something new", False),
    ):
        if rows.is_empty():
            continue
        base = alt.Chart(rows).encode(
            y=alt.Y(
                "signal:N", title=None, sort=rows["signal"].unique(maintain_order=True).to_list()
            ),
            yOffset=alt.YOffset("label:N", sort=arms),
        )
        estimates = intervals(
            base,
            "value",
            title,
            tooltip=["label", "signal", "value", "low", "high", "unit", "showing", "runs", "tasks"],
            scale=share() if shares else alt.Scale(zero=True),
            axis=percent() if shares else alt.Axis(),
            colour=colour_of(arms, width) if len(arms) > 1 else None,
            shape=shape_of(arms, width) if len(arms) > 1 else None,
            reference=1 if title.endswith("chance") else None,
            size=50,
        )
        height = alt.Step(max(8, 20 // len(arms)))
        panels.append(estimates.properties(width=width, height=height))
    return alt.vconcat(*panels) if len(panels) > 1 else panels[0]
