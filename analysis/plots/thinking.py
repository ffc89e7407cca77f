"""What became of the thinking."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.marks import label, legend, percent, share
from analysis.plots.registry import draws
from analysis.plots.theme import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, SKY
from analysis.results import Result
from loaders.errors import DerailError

_FATES = ["kept", "dropped", "unknown"]
_POLICIES = ["all", "turn_boundary", "last", "none", "mixed", "not known"]
_POLICY_COLOURS = [BLUE, SKY, GREEN, ORANGE, PURPLE, GREY]


def _due(frame: pl.DataFrame) -> str:
    return f"{frame['calls_due'].sum():,} calls with earlier thinking"


@draws("continuity", events=_due)
def continuity(result: Result, width: int) -> Any:
    """Of the calls that had earlier thinking, the share with which it was sent: kept, dropped or unknown.

    From ``thinking.continuity``: columns ``calls_due``, ``calls_kept``, ``calls_dropped``,
    ``calls_unknown``. A bar for each group.
    """
    frame = (
        result.frame.with_columns(label(result.keys).alias("label"))
        .filter(pl.col("calls_due") > 0)
        .select("label", kept="calls_kept", dropped="calls_dropped", unknown="calls_unknown")
        .group_by("label", maintain_order=True)
        .sum()
        .unpivot(index="label", variable_name="thinking", value_name="calls")
        .with_columns(
            pl.col("thinking")
            .replace_strict({name: n for n, name in enumerate(_FATES)})
            .alias("order")
        )
        .filter(pl.col("calls") > 0)
    )
    if frame.is_empty():
        raise DerailError("no call had earlier thinking to send back")
    colour = alt.Color(
        "thinking:N",
        title="earlier thinking was",
        scale=alt.Scale(domain=_FATES, range=[BLUE, ORANGE, PALE]),
        legend=legend(_FATES, width),
    )
    return (
        alt.Chart(frame)
        .mark_bar(height=14)
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
        .properties(width=width, height=alt.Step(24))
    )


@draws("sent_back")
def sent_back(result: Result, width: int) -> Any:
    """Share of earlier thinking blocks that came back to the model; a cross where no request is recorded.

    From ``thinking.sent_back``: the key columns, ``policy``, ``runs``, ``sent_share``.
    """
    names = [key for key in result.keys if result.frame[key].null_count() < result.frame.height]
    frame = result.frame.with_columns(
        pl.concat_str([pl.col(n).cast(pl.String) for n in names], separator=" ", ignore_nulls=True)
        .replace("", "(not named)")
        .alias("label"),
        pl.when(pl.col("sent_share").is_null())
        .then(pl.lit("not known"))
        .otherwise("policy")
        .alias("policy"),
    ).select("label", "policy", "runs", "sent_share")
    seen = [policy for policy in _POLICIES if policy in frame["policy"]]
    colours = [_POLICY_COLOURS[_POLICIES.index(policy)] for policy in seen]
    base = alt.Chart(frame).encode(
        y=alt.Y("label:N", title=None, sort=None),
        color=alt.Color(
            "policy:N",
            title=None,
            scale=alt.Scale(domain=seen, range=colours),
            legend=legend(seen, width),
        ),
        tooltip=["label", "policy", "runs", "sent_share"],
    )
    x = alt.X("sent_share:Q", title="earlier thinking sent back", scale=share(), axis=percent())
    bar = base.mark_bar(height=7, opacity=0.75).encode(x=x)
    point = (
        base.transform_filter("isValid(datum.sent_share)")
        .mark_circle(size=75, opacity=1)
        .encode(x=x)
    )
    unknown = (
        base.transform_filter("!isValid(datum.sent_share)")
        .mark_point(shape="cross", size=55, opacity=1, filled=True, angle=45)
        .encode(x=alt.value(5))
    )
    return (bar + point + unknown).properties(width=width, height=alt.Step(20))
