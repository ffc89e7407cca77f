"""Where in a run it went wrong: suspected steps, the chance of success along the way."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import highest, intervals, legend, names_in, percent, share, steps
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, ORANGE
from analysis.results import Result
from loaders.errors import DerailError

_MODELS = ("auto", "trees", "logit")


@draws("localization")
def localization(result: Result, width: int) -> Any:
    """How often the annotated error step is the first guess, or among three, beside constant guesses.

    From ``localize.benchmark``: columns ``group``, ``trained_on``, ``method``, ``exact``, ``low``,
    ``high``, ``top_3``, ``runs``. Filled: first guess with its 95 % interval; hollow: among three.
    A panel for each set of runs; the models were trained on the same set, grouped by task, or on
    the others alone.
    """
    is_model = pl.col("method").is_in(_MODELS)
    rows = result.frame.with_columns(
        pl.when(is_model & (pl.col("trained_on") != "same set"))
        .then(pl.format("{} (trained on {})", "method", "trained_on"))
        .otherwise("method")
        .alias("label"),
        pl.when(is_model).then(pl.lit("model")).otherwise(pl.lit("constant guess")).alias("what"),
    ).filter(is_model | (pl.col("trained_on") != "other sets"))
    domain = ["model", "constant guess"]
    colour = alt.Color(
        "what:N",
        title=None,
        scale=alt.Scale(domain=domain, range=[BLUE, GREY]),
        legend=legend(domain, width),
    )
    panels: list[Any] = []
    groups = names_in(rows, "group")
    for n, group in enumerate(groups):
        own = rows.filter(pl.col("group") == group).sort(
            "what", "exact", descending=[True, True], maintain_order=True
        )
        base = alt.Chart(
            own.select("label", "what", "exact", "low", "high", "top_3", "within_1", "mrr", "runs")
        ).encode(y=alt.Y("label:N", title=None, sort=own["label"].to_list()))
        last = n == len(groups) - 1
        drawn = intervals(
            base,
            "exact",
            "annotated step is the first guess (filled), among three (hollow)" if last else "",
            tooltip=["label", "exact", "low", "high", "top_3", "within_1", "mrr", "runs"],
            scale=share(),
            axis=percent(),
            colour=colour,
            shape=alt.Shape(
                "what:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
            ),
            size=60,
        )
        among = base.mark_point(filled=False, size=55, opacity=1, strokeWidth=1.5).encode(
            x="top_3:Q", color=colour
        )
        title = alt.TitleParams(
            text=f"{group} ({own['runs'].max():,} runs)", orient="top", fontSize=11, offset=4
        )
        panels.append(
            alt.layer(drawn, among).properties(width=width, height=alt.Step(17), title=title)
        )
    return alt.vconcat(*panels, spacing=14)


def _annotated(frame: pl.DataFrame) -> str:
    return f"{frame.filter(pl.col('is_error'))['trajectory_id'].n_unique():,} annotated errors"


@draws("ranking", events=_annotated)
def ranking(result: Result, width: int, most: int = 40) -> Any:
    """Runs as rows and turns as columns: the darker, the more suspected; a ring marks the annotated error.

    From ``localize.rank``: columns ``trajectory_id``, ``turn``, ``probability``, ``rank``,
    ``is_error``. The ``most`` runs whose first guess is surest.
    """
    tops = result.frame.filter(pl.col("rank") == 1).sort(
        "probability", "trajectory_id", descending=[True, False]
    )
    order = tops["trajectory_id"].head(most).to_list()
    rows = result.frame.filter(pl.col("trajectory_id").is_in(order)).select(
        "trajectory_id", "turn", "probability", "rank", "agent", "is_error"
    )
    base = alt.Chart(rows).encode(
        x=alt.X("turn:O", title="turn", axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False)),
        y=alt.Y(
            "trajectory_id:N",
            title=f"runs, the {len(order)} surest" if tops.height > len(order) else "runs",
            sort=order,
            axis=alt.Axis(labels=False, grid=False),
        ),
        tooltip=["trajectory_id", "turn", "agent", "probability", "rank", "is_error"],
    )
    tile = base.mark_rect().encode(
        color=alt.Color(
            "probability:Q",
            title="suspected",
            scale=alt.Scale(domain=[0, 1], range=["#eef2f7", "#0b4a85"]),
            legend=alt.Legend(format=".0%", gradientLength=120, direction="horizontal"),
        )
    )
    ring = base.transform_filter("datum.is_error === true").mark_point(
        size=36, strokeWidth=2, color=ORANGE, opacity=1, filled=False
    )
    return (tile + ring).properties(width=width, height=alt.Step(8))


def _prefixes(frame: pl.DataFrame) -> str:
    return f"{frame.height:,} prefixes"


@draws("value", events=_prefixes)
def value(result: Result, width: int, most: int = 30) -> Any:
    """The chance of success after each call, a line for each run; a dot marks its largest drop.

    From ``prefixes.value``: columns ``trajectory_id``, ``success``, ``step``, ``value``, ``largest``.
    Up to ``most`` runs of either outcome, at even distances over all of them.
    """
    every = (pl.len().cast(pl.Int64) + (most - 1)) // most
    end = pl.when("success").then(pl.lit("succeeds")).otherwise(pl.lit("fails")).alias("end")
    names = (
        result.frame.unique("trajectory_id", maintain_order=True)
        .with_columns(end)
        .filter((pl.int_range(pl.len()) % every == 0).over("end"))
    )
    rows = (
        result.frame.join(names.select("trajectory_id", "end"), on="trajectory_id")
        .select("trajectory_id", "end", "step", "value", "drop", "largest")
        .sort("trajectory_id", "step")
    )
    domain = ["succeeds", "fails"]
    each = (width - 14) // 2
    panels: list[Any] = []
    for n, (name, colour) in enumerate(zip(domain, (BLUE, ORANGE), strict=True)):
        base = alt.Chart(rows.filter(pl.col("end") == name)).encode(
            x=alt.X(
                "step:Q",
                axis=steps(),
                scale=alt.Scale(domain=[0, highest(rows, "step")], nice=False),
            ),
            y=alt.Y(
                "value:Q",
                title=None if n else "chance of success",
                scale=share(),
                axis=percent(labels=not n),
            ),
        )
        line = base.mark_line(strokeWidth=1, opacity=0.45, color=colour).encode(
            detail="trajectory_id:N"
        )
        dot = base.transform_filter("datum.largest").mark_circle(
            size=26, color=colour, opacity=0.95
        )
        told = ["trajectory_id", "step", "value", "drop"]
        title = alt.TitleParams(text=f"run {name}", orient="top", anchor="middle", fontSize=11)
        panels.append(
            (line + dot.encode(tooltip=told)).properties(width=each, height=190, title=title)
        )
    return alt.hconcat(*panels, spacing=14)


@draws("drops")
def drops(result: Result, width: int, most: int = 20) -> Any:
    """The largest drop of the chance of success in the runs where it is largest, with refit intervals.

    From ``prefixes.drops``: columns ``trajectory_id``, ``step``, ``drop``, ``low``, ``high``,
    ``agreement``, ``met``. Filled where most refits put the drop at the same call.
    """
    rows = result.frame.filter(~pl.col("success")).head(most)
    if rows.is_empty():
        raise DerailError("no run failed, so no drop is shown")
    domain = ["place is stable", "place is not to be trusted"]
    rows = rows.with_columns(
        pl.when(pl.col("agreement").fill_null(0) >= 0.5)
        .then(pl.lit(domain[0]))
        .otherwise(pl.lit(domain[1]))
        .alias("reading"),
        pl.format(
            "{} · call {}{}",
            "trajectory_id",
            "step",
            pl.when(pl.col("met").list.len() > 0)
            .then(pl.format(" · {}", pl.col("met").list.first()))
            .otherwise(pl.lit("")),
        ).alias("label"),
    ).select("label", "trajectory_id", "step", "before", "after", "drop", "low", "high", "agreement", "reading")  # fmt: skip
    drawn = intervals(
        alt.Chart(rows).encode(y=alt.Y("label:N", title=None, sort=rows["label"].to_list())),
        "drop",
        "largest drop of the chance of success",
        tooltip=["label", "before", "after", "drop", "low", "high", "agreement"],
        axis=percent(),
        scale=alt.Scale(zero=True),
        colour=alt.Color(
            "reading:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[BLUE, GREY]),
            legend=legend(domain, width),
        ),
        shape=alt.Shape(
            "reading:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        size=55,
    )
    return drawn.properties(width=width, height=alt.Step(17))


@draws("calibration", events=lambda frame: f"{frame['prefixes'].sum():,} prefixes")
def calibration(result: Result, width: int) -> Any:
    """The chance of success that was predicted against the share that succeeded, with 95 % intervals.

    From ``prefixes.calibration``: columns ``predicted``, ``observed``, ``low``, ``high``,
    ``prefixes``. On the diagonal, predictions hold.
    """
    side = min(width, 260)
    base = alt.Chart(result.frame).encode(
        x=alt.X("predicted:Q", title="predicted", scale=share(), axis=percent())
    )
    diagonal = (
        alt.Chart(pl.DataFrame({"at": [0.0, 1.0]}))
        .mark_line(strokeDash=[4, 4], color=GREY, strokeWidth=1)
        .encode(x="at:Q", y="at:Q")
    )
    rule = base.mark_rule(strokeWidth=2.5, opacity=0.55, color=BLUE).encode(
        y=alt.Y("low:Q", title="observed", scale=share(), axis=percent()), y2="high:Q"
    )
    point = base.mark_point(size=75, filled=True, opacity=1, color=BLUE).encode(
        y="observed:Q",
        tooltip=["predicted", "observed", "low", "high", "prefixes", "runs", "tasks"],
    )
    return (diagonal + rule + point).properties(width=side, height=side)
