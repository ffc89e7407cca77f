"""What arms and factors change."""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import polars as pl

from analysis.plots.marks import colour_of, dash_of, intervals, legend, percent, shape_of
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREY, ORANGE, SMALL_SIZE
from analysis.results import Result
from loaders.errors import DerailError


def _discordant(frame: pl.DataFrame) -> str:
    return f"{frame['pairs'].sum():,} pairs, {frame.select(pl.col('gained', 'lost').sum().cast(pl.Int64)).sum_horizontal().item():,} discordant"


@draws("compare", events=_discordant)
def compare(result: Result, width: int) -> Any:
    """Success of each arm beside its baseline on the same tasks, and the paired difference with its 95 % interval.

    From ``ablation.compare``: columns ``a``, ``b``, ``rate_a``, ``rate_b``, ``difference``, ``low``,
    ``high``, ``gained``, ``lost``, ``pairs``. Left the two rates, right what lies between them.
    """
    baselines = result.frame["a"].unique(maintain_order=True).to_list()
    several = result.frame.height > 1
    baseline, arm = (baselines[0], "arm" if several else result.frame["b"][0])
    if len(baselines) > 1:
        baseline = "baseline"
    rows = result.frame.with_columns(
        pl.col("b").alias("label")
        if len(baselines) == 1
        else pl.format("{} against {}", "b", "a").alias("label")
    )
    order = rows["label"].to_list()
    y = alt.Y(
        "label:N", title=None, sort=order, axis=alt.Axis(labels=several, labelLimit=150, grid=False)
    )
    each = (width - 24) // 2
    ends = pl.concat(
        rows.select("label", pl.lit(name).alias("of"), pl.col(rate).alias("success"))
        for name, rate in ((baseline, "rate_a"), (arm, "rate_b"))
    )
    domain = [baseline, arm]
    near = ends.select(
        (pl.col("success").min() - 0.1).clip(lower_bound=0).alias("least"),
        (pl.col("success").max() + 0.1).clip(upper_bound=1).alias("most"),
    )
    room = alt.Scale(domain=list(near.row(0)), nice=True)
    bar = (
        alt.Chart(rows)
        .mark_rule(strokeWidth=4, color=GREY, opacity=0.45)
        .encode(y=y, x=alt.X("rate_a:Q", title="success", scale=room, axis=percent()), x2="rate_b")
    )
    dots = (
        alt.Chart(ends)
        .mark_point(filled=True, size=95, opacity=1)
        .encode(
            y=y,
            x="success:Q",
            color=alt.Color(
                "of:N",
                title=None,
                scale=alt.Scale(domain=domain, range=[ORANGE, BLUE]),
                legend=legend(domain, width),
            ),
            shape=alt.Shape(
                "of:N", title=None, scale=alt.Scale(domain=domain, range=["diamond", "circle"])
            ),
            tooltip=["label", "of", "success"],
        )
    )
    told = alt.Chart(ends).encode(y=y, x="success:Q", text=alt.Text("success:Q", format=".1%"))
    numbers = [  # one above and one beneath, so that near rates stay legible
        told.transform_filter(alt.FieldEqualPredicate(field="of", equal=name)).mark_text(
            dy=dy, fontSize=SMALL_SIZE
        )
        for name, dy in ((arm, -12), (baseline, 13))
    ]
    bare = alt.Y("label:N", title=None, sort=order, axis=None)
    paired = intervals(
        alt.Chart(
            rows.select("label", "difference", "low", "high", "gained", "lost", "pairs")
        ).encode(y=bare),
        "difference",
        "paired difference, 95 % interval",
        tooltip=["label", "difference", "low", "high", "gained", "lost", "pairs"],
        text=alt.Text("difference:Q", format="+.1%"),
        axis=percent("+.0%"),
        reference=0,
    )
    height = alt.Step(40)
    return alt.hconcat(
        alt.layer(bar, dots, *numbers).properties(width=each, height=height),
        paired.properties(width=each, height=height),
        spacing=24,
    )


_MOST_EFFECTS: Final = 24


def _signals(frame: pl.DataFrame) -> str:
    told = frame.filter(pl.col("effect").is_not_null() & (pl.col("difference") != 0)).height
    first = f"the first {_MOST_EFFECTS} of " if told > _MOST_EFFECTS else ""
    return f"{first}{told} differences of signals"


@draws("differences", events=_signals)
def differences(result: Result, width: int) -> Any:
    """What else differs between arms, in standard deviations of the paired difference, with 95 % intervals.

    From ``ablation.differences``: columns ``signal``, ``effect``, ``difference``, ``low``, ``high``,
    ``total_a``, ``total_b``, ``p_adjusted``. One scale for signals of all units; of very many, the first
    of the frame, where those that are shown to differ come first.
    """
    unit = pl.col("effect") / pl.col("difference")
    rows = result.frame.filter(pl.col("effect").is_not_null() & (pl.col("difference") != 0))
    if rows.is_empty():
        raise DerailError("nothing that was counted differs between the arms")
    rows = (
        rows.with_columns(
            (pl.col("low") * unit).alias("from"),
            (pl.col("high") * unit).alias("to"),
            pl.when(pl.col("p_adjusted") < 0.05)
            .then(pl.lit("differs"))
            .otherwise(pl.lit("not shown to differ"))
            .alias("reading"),
            (
                pl.col("signal")
                if rows.select("a", "b").n_unique() == 1
                else pl.format("{} ({})", "signal", "b")
            ).alias("label"),
        )
        .select(
            "label", "effect", "from", "to", "reading", "a", "total_a", "b", "total_b", "p_adjusted"
        )
        .head(_MOST_EFFECTS)
    )
    domain = ["differs", "not shown to differ"]
    drawn = intervals(
        alt.Chart(rows).encode(y=alt.Y("label:N", title=None, sort=rows["label"].to_list())),
        "effect",
        "difference per pair in standard deviations, 95 % interval",
        low="from",
        high="to",
        tooltip=["label", "a", "total_a", "b", "total_b", "effect", "p_adjusted"],
        colour=alt.Color(
            "reading:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[BLUE, GREY]),
            legend=legend(domain, width),
        ),
        shape=alt.Shape(
            "reading:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        reference=0,
        size=60,
    )
    return drawn.properties(width=width, height=alt.Step(20))


@draws("factors")
def factors(result: Result, width: int) -> Any:
    """Effects of factors and of their interactions on success within tasks, with 95 % intervals.

    From ``factors.factors``: columns ``effect``, ``kind``, ``difference``, ``low``, ``high``,
    ``p_adjusted``, ``tasks``, ``runs``. The most harmful come first, main effects above interactions; of
    very many effects, only those interactions are drawn that hold after correction.
    """
    shown = result.frame.filter(pl.col("difference").is_not_null())
    if shown.is_empty():
        raise DerailError("every effect was refused: too few tasks have all that they need")
    is_main = pl.col("kind") == "main"
    if shown.height > _MOST_EFFECTS:
        shown = shown.filter(is_main | (pl.col("p_adjusted") < 0.05))
    shown = shown.sort(~is_main, "difference")
    domain = ["main", "interaction"]
    few = shown.height <= 12
    drawn = intervals(
        alt.Chart(shown).encode(y=alt.Y("effect:N", title=None, sort=shown["effect"].to_list())),
        "difference",
        "difference of success, 95 % interval",
        tooltip=["effect", "kind", "difference", "low", "high", "p_adjusted", "tasks", "runs"],
        text=alt.Text("difference:Q", format="+.1%") if few else None,
        axis=percent("+.0%"),
        colour=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[BLUE, ORANGE]),
            legend=legend(domain, width),
        ),
        shape=alt.Shape(
            "kind:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        reference=0,
    )
    return drawn.properties(width=width, height=alt.Step(34 if few else 14))


@draws("power")
def power(result: Result, width: int) -> Any:
    """The smallest difference that would be found, by the number of tasks, a line for each number of trials.

    From ``power.plan``: columns ``tasks``, ``trials``, ``runs``, ``detectable``.
    """
    frame = result.frame.with_columns(
        pl.format("{} trial{}", "trials", pl.when(pl.col("trials") > 1).then(pl.lit("s")).otherwise(pl.lit(""))).alias("label")
    )  # fmt: skip
    names = frame.sort("trials")["label"].unique(maintain_order=True).to_list()
    base = alt.Chart(frame).encode(
        x=alt.X(
            "tasks:Q",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(
                values=frame["tasks"].unique().sort().to_list(), format="d", labelOverlap=True
            ),
        ),
        color=colour_of(names, width),
    )
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("detectable:Q", title="smallest detectable difference", axis=percent()),
        strokeDash=dash_of(names, width),
    )
    point = base.mark_point(filled=True, size=45, opacity=1).encode(
        y="detectable:Q",
        shape=shape_of(names, width),
        tooltip=["tasks", "trials", "runs", "detectable"],
    )
    return (line + point).properties(width=width, height=200)
