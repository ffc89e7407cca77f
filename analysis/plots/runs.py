"""Many runs at once: the raster of their calls, and the graph of what follows what."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import highest, label, legend, names_in, steps
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, INK, ORANGE, PALE, PURPLE, SKY, SOFT
from analysis.results import Result

_STATES = ["ordinary", "thinking dropped", "repeat", "perturbed"]
_STATE_COLOURS = [PALE, SKY, PURPLE, ORANGE]


def _calls(frame: pl.DataFrame) -> str:
    runs = frame.unique("trajectory_id")
    return f"{runs.height:,} runs shown · {runs['calls'].sum():,} calls"


@draws("raster", events=_calls)
def raster(result: Result, width: int) -> Any:
    """Runs as rows and calls as columns, coloured by what a call had met; the last mark is how the run ended.

    From ``raster.raster``: columns ``row``, ``start``, ``stop``, ``state``, ``calls``, ``outcome``.
    A circle is a success, a cross a failure, a square any other end. Groups stand side by side.
    """
    frame = result.frame.with_columns(label(result.keys).alias("label"))
    groups = names_in(frame)
    across = min(len(groups), 3 if width < 420 else 4)
    each = (width - 14 * (across - 1)) // across
    last = highest(frame, "stop")
    tall = 1 + highest(frame, "row")
    step = max(1.6, min(9.0, 360 / tall))
    states = [state for state in _STATES if state in frame["state"]]
    colour = alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(
            domain=states, range=[_STATE_COLOURS[_STATES.index(state)] for state in states]
        ),
        legend=legend(states, width, symbolType="square"),
    )
    ends = ["success", "failure", "other end"]
    end = (
        pl.when(pl.col("outcome").is_in(ends[:2])).then("outcome").otherwise(pl.lit(ends[2]))
    )  # fmt: skip
    scale = alt.Scale(domain=[0, last + 1], nice=False)
    panels: list[Any] = []
    for n, group in enumerate(groups):
        rows = frame.filter(pl.col("label") == group).with_columns(
            (pl.col("row") + 0.9).alias("below"), (pl.col("row") + 0.5).alias("middle")
        )
        x = alt.X("start:Q", axis=steps(), scale=scale)
        y = alt.Y(
            "row:Q",
            title="runs" if n % across == 0 else None,
            scale=alt.Scale(domain=[0, tall], reverse=True, nice=False),
            axis=alt.Axis(labels=False, grid=False),
        )
        bars = (
            alt.Chart(rows.select("trajectory_id", "start", "stop", "row", "below", "state"))
            .mark_rect()
            .encode(x=x, x2="stop:Q", y=y, y2="below:Q", color=colour,
                    tooltip=["trajectory_id", "state", "start", "stop"])
        )  # fmt: skip
        finish = (
            rows.unique("trajectory_id", maintain_order=True)
            .with_columns(end.alias("end"), (pl.col("calls") + 0.6).alias("at"))
            .select("trajectory_id", "middle", "at", "end", "calls")
        )
        marks = (
            alt.Chart(finish)
            .mark_point(filled=True, opacity=1, size=max(7, min(34, step * step * 0.7)))
            .encode(
                x=alt.X("at:Q", scale=scale),
                y="middle:Q",
                shape=alt.Shape(
                    "end:N",
                    title=None,
                    scale=alt.Scale(domain=ends, range=["circle", "cross", "square"]),
                    legend=legend(ends, width, symbolFillColor=SOFT, symbolStrokeWidth=0),
                ),
                color=alt.condition("datum.end == 'success'", alt.value(BLUE), alt.value(INK)),
                tooltip=["trajectory_id", "end", "calls"],
            )
        )
        title = alt.TitleParams(
            text=group if len(groups) > 1 else "", orient="top", anchor="middle", fontSize=11, limit=each
        )  # fmt: skip
        panels.append(
            alt.layer(bars, marks).properties(width=each, height=tall * step, title=title)
        )
    return alt.concat(*panels, columns=across, spacing=14)


def _followed(frame: pl.DataFrame) -> str:
    return f"{frame.select(pl.col('count_success', 'count_failure').sum()).sum_horizontal().item():,} transitions"


@draws("directly_follows", events=_followed)
def directly_follows(result: Result, width: int, most: int = 24) -> Any:
    """Tools in the order of a run, arcs for what follows what: blue more in success, orange more in failure.

    From ``flow.directly_follows``: columns ``source``, ``target``, ``difference``, ``p_adjusted``,
    ``success``, ``failure``, ``runs``, ``position``. Arcs to the right lead down, onwards; arcs to
    the left lead back up. Width is how frequent a transition is, and those whose difference is not
    shown are dotted. The ``most`` frequent transitions are drawn.
    """
    frame = (
        result.frame.with_columns(
            ((pl.col("success") + pl.col("failure")) / 2).alias("weight"),
            pl.when(pl.col("p_adjusted").fill_null(1) >= 0.05)
            .then(pl.lit(_LEANINGS[1]))
            .when(pl.col("difference") > 0)
            .then(pl.lit(_LEANINGS[0]))
            .otherwise(pl.lit(_LEANINGS[2]))
            .alias("leaning"),
        )
        .sort("weight", "source", "target", descending=[True, False, False])
        .head(most)
    )
    names = _in_order(frame)
    height = 22 * len(names)
    curves, heads = _arcs(frame, names, width)
    colour = alt.Color(
        "leaning:N",
        title=None,
        scale=alt.Scale(domain=_LEANINGS, range=[BLUE, GREY, ORANGE]),
        legend=legend(_LEANINGS, width, symbolType="stroke"),
    )
    dash = alt.StrokeDash(
        "leaning:N",
        title=None,
        scale=alt.Scale(domain=_LEANINGS, range=[[1, 0], [2, 2], [6, 3]]),
    )
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))
    rows = alt.Scale(domain=[-0.5, len(names) - 0.5], reverse=True, nice=False)
    y = alt.Y("y:Q", axis=None, scale=rows)
    told = ["source", "target", "success", "failure", "difference", "p_adjusted", "runs"]
    thick = alt.StrokeWidth("weight:Q", scale=alt.Scale(range=[0.8, 5], zero=True), legend=None)
    lines = (
        alt.Chart(curves)
        .mark_line(opacity=0.8)
        .encode(
            x=x,
            y=y,
            detail="edge:N",
            order="at:Q",
            color=colour,
            strokeDash=dash,
            strokeWidth=thick,
        )
    )
    arrows = (
        alt.Chart(heads)
        .mark_point(shape="triangle", filled=True, size=48, opacity=1)
        .encode(x=x, y=y, angle=alt.Angle("angle:Q", scale=None), color=colour, tooltip=told)
    )
    places = pl.DataFrame(
        {"name": names, "x": [width * _SPINE] * len(names), "y": range(len(names))}
    )
    nodes = alt.Chart(places).encode(x=x, y=y)
    dots = nodes.mark_circle(size=60, color=INK, opacity=1)
    words = alt.Chart(places).mark_text(align="right", limit=190, dx=-6)
    labels = words.encode(x=alt.value(0), y=y, text="name:N")
    return alt.layer(lines, arrows, dots, labels).properties(width=width, height=height)


_LEANINGS = ["more in success", "not shown to differ", "more in failure"]
_SPINE = 0.34
"""Where the nodes stand; more leads onwards, to the right, than back."""


def _in_order(edges: pl.DataFrame) -> list[str]:
    """The nodes by where in a run they are called on average, between start and end."""
    known = edges.group_by(pl.col("source").alias("name")).agg(pl.col("position").mean())
    nodes = (
        pl.concat([edges["source"], edges["target"]]).unique(maintain_order=True).to_frame("name")
    )
    first, last = pl.col("name").str.starts_with("▶"), pl.col("name").str.starts_with("■")
    place = (
        pl.when(first).then(-1.0).when(last).then(2.0).otherwise(pl.col("position").fill_null(0.5))
    )
    return nodes.join(known, on="name", how="left").sort(place, "name")["name"].to_list()


def _arcs(edges: pl.DataFrame, names: list[str], width: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Points along a half ellipse for each edge, and an arrowhead at its middle."""
    row_of = {name: row for row, name in enumerate(names)}
    spine = width * _SPINE
    points: list[dict[str, Any]] = []
    heads: list[dict[str, Any]] = []
    for number, edge in enumerate(edges.drop("position").iter_rows(named=True)):
        start, stop = row_of[edge["source"]], row_of[edge["target"]]
        shared = {"edge": number, "weight": edge["weight"], "leaning": edge["leaning"]}
        reach = abs(stop - start) / max(1, len(names) - 1)
        room = width - spine if stop >= start else spine
        bulge = 7.0 if start == stop else room * (0.12 + 0.83 * reach**0.7)
        side = 1 if stop >= start else -1
        middle, half = (start + stop) / 2, (stop - start) / 2
        for n in range(_POINTS + 1):
            angle = math.pi * n / _POINTS
            if start == stop:  # a small circle beside the node
                at = (
                    spine + bulge - bulge * math.cos(2 * angle),
                    start + 0.3 * math.sin(2 * angle),
                )
            else:
                at = (spine + side * bulge * math.sin(angle), middle - half * math.cos(angle))
            points.append({**shared, "at": n, "x": at[0], "y": at[1]})
        tip = spine + (2 * bulge if start == stop else side * bulge)
        heads.append({**edge, "x": tip, "y": middle, "angle": 180 if stop >= start else 0})
    return pl.DataFrame(points), pl.DataFrame(heads)


_POINTS = 20
