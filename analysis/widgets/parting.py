"""Where the runs of a pair part: the first call or response that one has and the other has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.outcomes import columns, task_of
from analysis.pairing import pair_up
from loaders import Trajectories

RELATIONS: Final = ("gained", "lost", "both succeed", "both fail", "outcome unknown")

SCHEMA: Final = {
    "pair": pl.Int64,
    "task": pl.String,
    "a": pl.String,
    "b": pl.String,
    "trajectory_a": pl.String,
    "trajectory_b": pl.String,
    "relation": pl.String,
    "step": pl.Int64,
    "seq_a": pl.Int64,
    "seq_b": pl.Int64,
    "what": pl.String,
}


def partings(
    runs: Trajectories, by: str, a: str, b: str, pair: Sequence[str] = ("task_id", "trial")
) -> pl.DataFrame:
    """Each pair of runs of arms ``a`` and ``b``, and where they part: a row per pair.

    This is the quick look that a click waits for; ``divergence.first_divergence`` studies the same and
    compares model calls with their parallel tool calls as sets, at three levels. Runs pair as in ``ablation.compare``, those without a known outcome too. Compared are tool calls
    (tool and arguments) and responses (text), one after the other; thinking and messages, which
    differ between any two samples of a model, are not. Columns: ``task`` and the ``pair`` columns;
    ``a``, ``b``, ``trajectory_a``, ``trajectory_b``; ``relation`` (gained: b succeeds where a fails,
    lost, both succeed, both fail, outcome unknown); ``step`` at which they part (null: never), at the
    events ``seq_a`` and ``seq_b`` (null: the run has ended), ``what`` (call, response, one ends, never).

    Raises ``DerailError`` for an unknown column.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> partings(runs, "arm", "none", "all")["what"].null_count()
    0
    """
    keys = columns(pair, runs)
    columns(by, runs)
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("run", "trajectory_id", task_of(), "success", *dict.fromkeys([by, *keys]))
        .with_columns(pl.col(by).cast(pl.String))
        .collect()
    )
    pairs = pair_up(table, by, a, b, keys).pairs.with_row_index("pair")
    moves = _moves(runs)
    sides = [
        pairs.lazy()
        .select("pair", pl.col(f"run_{side}").alias("run"))
        .join(moves, on="run")
        .select("pair", "nth", *(pl.col(c).alias(f"{c}_{side}") for c in _PER_MOVE))
        for side in "ab"
    ]
    differs = pl.col("move_a").ne_missing(pl.col("move_b"))
    first = (
        sides[0]
        .join(sides[1], on=["pair", "nth"], how="full", coalesce=True)
        .filter(differs)
        .group_by("pair")
        .agg(pl.all().sort_by("nth").first())
        .collect()
    )
    what = (
        pl.when(pl.col("move_a").is_null() & pl.col("move_b").is_null())
        .then(pl.lit("never"))
        .when(pl.col("move_a").is_null() | pl.col("move_b").is_null())
        .then(pl.lit("one ends"))
        .when((pl.col("kind_a") == "tool_call") | (pl.col("kind_b") == "tool_call"))
        .then(pl.lit("call"))
        .otherwise(pl.lit("response"))
    )
    success_a, success_b = pl.col("success_a"), pl.col("success_b")
    relation = (
        pl.when(success_a.is_null() | success_b.is_null())
        .then(pl.lit("outcome unknown"))
        .when(success_a & success_b)
        .then(pl.lit("both succeed"))
        .when(success_b)
        .then(pl.lit("gained"))
        .when(success_a)
        .then(pl.lit("lost"))
        .otherwise(pl.lit("both fail"))
    )
    return pairs.join(first, on="pair", how="left", maintain_order="left").select(
        pl.col("pair").cast(pl.Int64),
        pl.col("task_a").alias("task"),
        *(key for key in keys),
        pl.lit(a).alias("a"),
        pl.lit(b).alias("b"),
        pl.col("trajectory_id_a").alias("trajectory_a"),
        pl.col("trajectory_id_b").alias("trajectory_b"),
        relation.alias("relation"),
        pl.min_horizontal("step_a", "step_b").alias("step"),
        "seq_a",
        "seq_b",
        what.alias("what"),
    )


_PER_MOVE: Final = ("move", "seq", "step", "kind")


def _moves(runs: Trajectories) -> pl.LazyFrame:
    """Calls and responses, numbered in each run: a hash says what each is, so that no text is kept."""
    is_call = pl.col("kind") == "tool_call"
    said = pl.when(is_call).then("arguments").otherwise("text")
    return (
        runs.events.filter(pl.col("kind").is_in(["tool_call", "tool_result"]))
        .select(
            "run",
            "seq",
            pl.col("step").fill_null(0),
            pl.col("kind").cast(pl.String),
            pl.struct(is_call, pl.col("tool"), said.alias("said")).hash().alias("move"),
        )
        .with_columns(pl.int_range(pl.len()).over("run").alias("nth"))
    )
