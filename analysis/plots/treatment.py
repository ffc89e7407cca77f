"""Thinking as a treatment: how much there is, what runs got of it, and when it went missing."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import intervals, label, percent, share, staircase
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREEN, GREY, INK, ORANGE, PALE, SKY
from analysis.results import Result
from loaders.errors import DerailError

_POLICIES = {
    "all": BLUE, "turn_boundary": SKY, "last": GREEN, "none": ORANGE, "nothing_to_send": GREY, "unknown": PALE,
}  # fmt: skip
_STATUSES = {"complied": BLUE, "deviated": ORANGE, "nothing to send": GREY, "unknown": PALE}


def _told(frame: pl.DataFrame) -> str:
    return f"{(frame['runs'] - frame['unknown']).sum():,} runs told by tokens"


def _onsets(frame: pl.DataFrame) -> str:
    return f"{frame['onsets'].sum():,} onsets"


@draws("token_accounting", events=_told)
def token_accounting(result: Result, width: int) -> Any:
    """A bar for each group: how many runs follow which policy by their token counts."""
    rows = (
        result.frame.with_columns(label(result.keys).alias("label"))
        .select("label", *_POLICIES)
        .unpivot(index="label", variable_name="policy", value_name="runs")
    )
    return _stacked(rows, "policy", _POLICIES, width, "thinking sent back, by token counts")


@draws("manipulation")
def manipulation(result: Result, width: int) -> Any:
    """A bar for each arm: runs that got what its label says, that did not, and that can't be told."""
    rows = (
        result.frame.with_columns(label(result.keys).alias("label"))
        .rename({"nothing_to_send": "nothing to send"})
        .select("label", *_STATUSES)
        .unpivot(index="label", variable_name="status", value_name="runs")
    )
    return _stacked(rows, "status", _STATUSES, width, "got what the label says")


def _stacked(rows: pl.DataFrame, by: str, colours: dict[str, str], width: int, title: str) -> Any:
    shown = rows.filter(pl.col("runs") > 0)
    if shown.is_empty():
        raise DerailError("no runs to draw")
    order = {name: number for number, name in enumerate(colours)}
    shown = shown.with_columns(
        pl.col(by).replace_strict(order, return_dtype=pl.Int64).alias("order")
    )
    names = [name for name in colours if name in shown[by].to_list()]
    scale = alt.Scale(domain=names, range=[colours[name] for name in names])
    return (
        alt.Chart(shown)
        .mark_bar(height=16)
        .encode(
            y=alt.Y("label:N", title=None, sort=None),
            x=alt.X("runs:Q", stack="zero", title="runs"),
            color=alt.Color(f"{by}:N", title=title, scale=scale),
            order="order:Q",
            tooltip=["label", by, "runs"],
        )
        .properties(width=width, height=alt.Step(30))
    )


@draws("treatment_effects")
def treatment_effects(result: Result, width: int) -> Any:
    """The effect of the label beside those of what runs got, with intervals; hollow is observational."""
    shown = result.frame.drop_nulls("difference").with_columns(
        pl.concat_str([pl.col("b"), pl.lit(" against "), pl.col("a")]).alias("contrast"),
        pl.when(pl.col("rests_on").str.contains("observational"))
        .then(pl.lit("observational"))
        .otherwise(pl.lit("by assignment"))
        .alias("design"),
    )
    if shown.is_empty():
        raise DerailError("no effect could be estimated; the frame says why")
    base = alt.Chart(shown).encode(y=alt.Y("estimate:N", title=None, sort=None))
    colour = alt.Color(
        "design:N",
        title=None,
        scale=alt.Scale(domain=["by assignment", "observational"], range=[BLUE, GREY]),
    )
    shape = alt.Shape(
        "design:N",
        title=None,
        scale=alt.Scale(domain=["by assignment", "observational"], range=["circle", "diamond"]),
    )
    drawn = intervals(
        base,
        "difference",
        "difference of success",
        tooltip=[
            "contrast",
            "estimate",
            "difference",
            "low",
            "high",
            "rests_on",
            "runs_a",
            "runs_b",
        ],
        text=alt.Text("difference:Q", format="+.1%"),
        axis=percent("+.0%"),
        colour=colour,
        shape=shape,
        reference=0,
    ).properties(width=width, height=alt.Step(38))
    if shown["contrast"].n_unique() < 2:
        return drawn
    return drawn.facet(row=alt.Row("contrast:N", title=None, sort=None), data=shown)  # fmt: skip


@draws("density")
def density(result: Result, width: int) -> Any:
    """A point with its interval for each group: the share of the output, or of calls, that is thinking."""
    return _means(
        result, width, {"density": "of the output is thinking", "thinking": "of calls think"}
    )


@draws("interleaving")
def interleaving(result: Result, width: int) -> Any:
    """A point with its interval for each group: the share of responses thought about before acting."""
    return _means(result, width, {"interleaved": "of responses are thought about before acting"})


def _means(result: Result, width: int, titles: dict[str, str]) -> Any:
    shown = result.frame.drop_nulls("value").with_columns(
        label(result.keys).alias("label"),
        pl.col("low").fill_null(pl.col("value")),
        pl.col("high").fill_null(pl.col("value")),
    )
    if shown.is_empty():
        raise DerailError("the log of no run can tell how much thinking there is")
    panels = [
        intervals(
            alt.Chart(shown.filter(pl.col("measure") == name)).encode(
                y=alt.Y("label:N", title=None, sort=None)
            ),
            "value",
            title,
            tooltip=["label", "value", "low", "high", "calls", "runs", "tasks"],
            text=alt.Text("value:Q", format=".0%"),
            scale=share(),
            axis=percent(),
        ).properties(width=width, height=alt.Step(34))
        for name, title in titles.items()
        if name in shown["measure"].to_list()
    ]
    return alt.vconcat(*panels)


@draws("onset_of_dropping", events=_onsets)
def onset_of_dropping(result: Result, width: int) -> Any:
    """A falling staircase for each group: the share of runs whose requests still hold all thinking."""
    shown = result.frame.with_columns(label(result.keys).alias("label"))
    axes = {"due_call": "calls that had earlier thinking", "kept": "runs that still have all of it"}
    return staircase(shown, axes, ["at_risk", "onsets"], width)


@draws("cautions")
def cautions(result: Result, width: int) -> Any:
    """A mark for each caution: orange where the runs show it, with how many runs are concerned."""
    shown = result.frame.group_by("caution", maintain_order=True).agg(
        pl.col("applies").any(),
        pl.col("runs").max(),
        pl.len().alias("findings"),
        pl.col("why").first(),
    )
    shown = shown.with_columns(
        pl.when("applies")
        .then(pl.format("{} found, {} runs", "findings", "runs"))
        .otherwise("why")
        .alias("told"),
        pl.when("applies").then(pl.lit("mind")).otherwise(pl.lit("not found")).alias("verdict"),
    )
    base = alt.Chart(shown).encode(y=alt.Y("caution:N", title=None, sort=None))
    mark = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=alt.value(10),
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(domain=["mind", "not found"], range=[ORANGE, PALE]),
        ),
        shape=alt.Shape(
            "verdict:N",
            title=None,
            scale=alt.Scale(domain=["mind", "not found"], range=["triangle-up", "circle"]),
        ),
        tooltip=["caution", "why"],
    )
    words = base.mark_text(align="left", color=INK).encode(x=alt.value(28), text="told:N")
    return alt.layer(mark, words).properties(width=width, height=alt.Step(26))  # fmt: skip
