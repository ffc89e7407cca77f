"""What the signals of behaviour look at in the events of some runs: read once, for all of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

from analysis.neighbours import in_a_row, is_neighbour, with_room
from analysis.parts import part_by_part
from analysis.perturbations import detect
from loaders import Trajectories

ERRORS: Final = (
    "exec_error", "exception", "timeout", "rate_limit", "http_error", "auth", "not_found", "harness_format",
)  # fmt: skip
"""Codes of ``perturbations.detect`` that make a response an explicit error."""

_WRONG = {"run": pl.Int64, "at": pl.Int64, "step": pl.Int64, "error": pl.Boolean}
_KINDS = ("user", "message", "thinking", "tool_call", "tool_result")


def told(runs: Trajectories) -> pl.LazyFrame:
    """Events of users, models and tools, a row each, those of a run together and in their order.

    Columns: ``run``, ``seq``, ``step``, ``kind``, ``tool``, ``arguments``, ``call_seq``, ``is_error``;
    ``words`` (the text of messages and thinking that say something, and of tool calls); ``written``
    (characters of messages and arguments); ``observation`` (hash of a response; null for images alone).
    """
    kind, text = pl.col("kind"), pl.col("text")
    says = kind.is_in(["message", "thinking"]) & (text.str.strip_chars() != "")
    can_compare = text.is_not_null() | (pl.col("media").list.len().fill_null(0) == 0)
    return (
        runs.clustered("events")
        .filter(kind.is_in(_KINDS))
        .select(
            *("run", "seq", "step", "kind", "tool", "arguments", "call_seq", "is_error"),
            pl.when(says | (kind == "tool_call")).then(text).alias("words"),
            pl.when(kind == "message")
            .then(text.str.len_chars())
            .when(kind == "tool_call")
            .then(pl.col("arguments").str.len_chars())
            .alias("written"),
            pl.when((kind == "tool_result") & can_compare)
            .then(pl.struct("text", "exit_code", "is_error").hash())
            .alias("observation"),
        )
    )


def explicit_errors(runs: Trajectories) -> pl.DataFrame:
    """Responses that are explicit errors: ``run``, ``at`` (their ``seq``), ``step``, ``error``."""
    return (
        detect(runs)
        .lazy()
        .filter(pl.col("code").is_in(ERRORS))
        .select("run", pl.col("seq").alias("at"), "step", pl.lit(value=True).alias("error"))
        .unique(maintain_order=True)
        .collect()
    )


class Look(NamedTuple):
    """What is seen of a part of the runs.

    ``events``: some columns that ``told`` has; ``wrong``: the ``explicit_errors``; both with ``base``, the
    number of the run ``with_room``.
    """

    runs: Trajectories
    events: pl.DataFrame
    wrong: pl.DataFrame
    ids: pl.Series

    def with_base(self, table: pl.DataFrame) -> pl.DataFrame:
        """A table of these runs with the number of each row's run."""
        number = self.ids.search_sorted(table["run"])
        return table.with_columns(with_room(pl.lit(number)).alias("base"))


def look(part: Trajectories, wrong: pl.DataFrame | None = None, *needed: str) -> Look:
    """Read a part's events once; only the columns ``needed``, if they are named."""
    ids = part.trajectories.select(pl.col("run").sort()).collect().to_series()
    wrong = pl.DataFrame(schema=_WRONG) if wrong is None else wrong
    events = told(part).select(needed or pl.all()).collect().rechunk()
    bare = Look(part, events, wrong, ids)
    return bare._replace(events=bare.with_base(events), wrong=bare.with_base(wrong))


STEP: Final = pl.col("base") + pl.col("step")
"""The number of a model call in ``Look``; null where an event belongs to none."""
SEQ: Final = pl.col("base") + pl.col("seq")
CALL: Final = pl.col("base") + pl.col("call_seq")


def failing_steps(runs: Trajectories) -> pl.DataFrame:
    """Steps with responses: ``run``, ``step``, ``error`` (one is an explicit error), ``streak`` of such."""
    return part_by_part(
        runs,
        lambda part, wrong: failing_in(look(part, wrong, "run", "step", "kind")).drop("at_step"),
        explicit_errors(runs),
    )


def failing_in(seen: Look) -> pl.DataFrame:
    """The same of a part, sorted, with ``at_step``: the number of the model call."""
    failing = seen.wrong.select(STEP.alias("at_step"), "error").drop_nulls().unique()
    steps = (
        seen.events.filter(pl.col("kind") == "tool_result", pl.col("step").is_not_null())
        .select("run", "step", STEP.alias("at_step"))
        .unique("at_step")
        .sort("at_step")
        .join(failing, on="at_step", how="left", maintain_order="left")
        .with_columns(pl.col("error").fill_null(value=False))
    )
    goes_on = is_neighbour() & pl.col("error") & pl.col("error").shift(1)
    streak = pl.when("error").then(in_a_row(goes_on)).otherwise(0).cast(pl.Int64)
    return steps.with_columns(streak.alias("streak"))
