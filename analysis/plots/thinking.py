"""What became of the thinking."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import label, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import GREEN, GREY, ORANGE
from analysis.results import Result
from loaders.errors import DerailError


@draws("continuity")
def continuity(result: Result, width: int) -> Any:
    frame = (
        result.frame.with_columns(label(result.keys).alias("label"))
        .filter(pl.col("calls_due") > 0)
        .select("label", kept="calls_kept", dropped="calls_dropped", unknown="calls_unknown")
        .group_by("label", maintain_order=True)
        .sum()
        .unpivot(index="label", variable_name="thinking", value_name="calls")
        .with_columns(
            pl.col("thinking")
            .replace_strict({"kept": 0, "dropped": 1, "unknown": 2})
            .alias("order")
        )
    )
    if frame.is_empty():
        raise DerailError("no call had earlier thinking to send back")
    colour = alt.Color(
        "thinking:N",
        title="earlier thinking was",
        scale=alt.Scale(domain=["kept", "dropped", "unknown"], range=[GREEN, ORANGE, "#b9bec6"]),
    )
    return (
        alt.Chart(frame)
        .mark_bar(height=16)
        .encode(
            y=alt.Y("label:N", title=None, sort=None),
            x=alt.X(
                "calls:Q",
                stack="normalize",
                title="calls that had earlier thinking",
                axis=percent(),
            ),
            color=colour,
            order="order:Q",
            tooltip=["label", "thinking", "calls"],
        )
        .properties(width=width, height=alt.Step(30))
    )


@draws("sent_back")
def sent_back(result: Result, width: int) -> Any:
    """Share of earlier thinking blocks that came back, a bar each; a cross where it is not known."""
    names = [key for key in result.keys if result.frame[key].null_count() < result.frame.height]
    frame = result.frame.with_columns(
        pl.concat_str(
            [pl.col(n).cast(pl.String) for n in names],
            separator=" ",
            ignore_nulls=True,
        ).alias("label"),
        pl.when(pl.col("sent_share").is_null())
        .then(pl.lit("not known"))
        .otherwise("policy")
        .alias("policy"),
    ).select("label", "policy", "runs", "sent_share")
    domain = ["all", "turn_boundary", "last", "none", "mixed", "not known"]
    colours = [GREEN, "#56b4e9", "#e69f00", ORANGE, "#cc79a7", GREY]
    base = alt.Chart(frame).encode(
        y=alt.Y("label:N", title=None, sort=None),
        color=alt.Color("policy:N", title=None, scale=alt.Scale(domain=domain, range=colours)),
        tooltip=["label", "policy", "runs", "sent_share"],
    )
    x = alt.X("sent_share:Q", title="earlier thinking sent back", scale=share(), axis=percent())
    bar = base.mark_bar(height=9, opacity=0.8).encode(x=x)
    point = (
        base.transform_filter("isValid(datum.sent_share)")
        .mark_circle(size=90, opacity=1)
        .encode(x=x)
    )
    unknown = (
        base.transform_filter("!isValid(datum.sent_share)")
        .mark_point(shape="cross", size=70, opacity=1, filled=True)
        .encode(x=alt.value(4))
    )
    return (bar + point + unknown).properties(width=width, height=alt.Step(26))
