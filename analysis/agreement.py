"""How far two groups of runs agree on a fact, as against how far each agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from analysis.outcomes import columns, named_task, task_of
from analysis.parts import part_by_part
from analysis.signals import responses
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

AXES: Final = ("toolset", "system_prompt", "user_prompt", "environment", "tool_responses")
FIXED: Final = AXES[:4]
"""The axes that are fixed before the first call; the agent's own calls decide about the fifth, too."""

COLUMNS_OF_ENVIRONMENT: Final = (
    "model", "provider", "framework", "framework_version", "format", "format_version", "benchmark",
)  # fmt: skip
WHOLE: Final = {
    "toolset": "all tools",
    "system_prompt": "first prompt",
    "user_prompt": "first prompt",
    "environment": "all facts",
}
SAME_CALLS: Final = "same calls"
_MIN_CLUSTERS: Final = 5


def roots(runs: Trajectories, *names: str) -> pl.DataFrame:
    """Runs that are no subagent's, with the fingerprints of their axes and their ``task``."""
    wanted = dict.fromkeys(("run", "trajectory_id", "task_id", "benchmark", *AXES, *names))
    return (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select(*wanted, named_task().alias("task"))
        .collect()
    )


@dataclass(frozen=True)
class Arms:
    """Two arms and the runs of both that can be compared: ``run``, ``side``, ``unit`` and columns."""

    by: str
    a: str
    b: str
    table: pl.DataFrame
    is_paired: bool
    left_out: int


def two_arms(runs: Trajectories, by: str, a: str | None, b: str | None, pair: list[str]) -> Arms:
    """The runs of two arms whose ``pair`` columns both arms have; see ``axes.diff``."""
    columns(by, runs)
    wanted = dict.fromkeys(
        ("run", "trajectory_id", by, *AXES, *COLUMNS_OF_ENVIRONMENT, "params", "metadata")
    )
    unit = pl.struct("benchmark", *pair)
    is_known = pl.all_horizontal(pl.col(name).is_not_null() for name in pair)
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col(by).is_not_null())
        .select(
            *wanted,
            pl.col(by).cast(pl.String).alias("side"),
            task_of().alias("cluster"),
            pl.when(is_known).then(unit.rank("dense").cast(pl.Int64)).alias("unit"),
        )
        .collect()
    )
    there = table["side"].unique().sort().to_list()
    named = [name for name in (a, b) if name is not None]
    if absent := [name for name in named if name not in there]:
        raise DerailError(f"{by!r} has no value {absent[0]!r}; there are {', '.join(there)}")
    rest = [name for name in there if name not in named]
    is_twice = a is not None and a == b
    is_open = len(named) < 2 and len(there) != 2
    if len(there) < 2 or is_twice or is_open:
        raise DerailError(
            f"diff() needs two values of {by!r}, and it has {len(there)}: {', '.join(there) or 'none'}. Name "
            "them with a= and b=, another column with by=, or label the runs: "
            "loaders.load('runs/{arm}/*.json')."
        )
    first = a if a is not None else rest.pop(0)
    second = b if b is not None else rest.pop(0)
    table = table.filter(pl.col("side").is_in([first, second]))
    shared = table.drop_nulls("unit").filter(pl.col("side").n_unique().over("unit") == 2)
    if shared.is_empty():
        everything = table.with_columns(pl.lit(0, pl.Int64).alias("unit"))
        return Arms(by, first, second, everything, is_paired=False, left_out=0)
    return Arms(by, first, second, shared, True, table.height - shared.height)


def agreement(
    facts: pl.DataFrame, keys: Sequence[str], a: str, b: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """For each ``keys``, how often runs of two sides differ in ``value``, and how often two of one side.

    ``facts``: ``keys``, ``unit`` (runs are compared inside it only), ``cluster`` of the unit, ``side``,
    ``value`` (null: unknown) and ``n`` runs. Returns a row per ``keys``, and the same for each unit:
    ``units`` (both sides known), ``units_differ``, ``units_unknown``; ``between`` (share of pairs of
    runs, one from each side, that differ; mean over units), ``within_a`` and ``within_b`` (the same for
    two runs of one side; null where no unit has two); ``verdict``.

    ``same``: no pair differs. ``differ``: some do and no two runs of a side ever do, or the excess
    ``between - (within_a + within_b) / 2``, which is zero where both sides draw from the same values,
    has an interval above zero, clustered. ``vary``: no such excess. ``unknown``: nothing to compare.
    """
    unit = [*keys, "unit"]
    counts = facts.group_by(*unit, "side", "value", maintain_order=True).agg(
        pl.col("n").sum(), pl.col("cluster").first()
    )
    known = counts.drop_nulls("value").with_columns(pl.col("n").cast(pl.Float64))
    sides = {
        label: known.filter(pl.col("side") == name).drop("side", "cluster")
        for label, name in (("a", a), ("b", b))
    }
    n = pl.col("n")
    per_unit = counts.select(*unit, "cluster").unique(unit, keep="first", maintain_order=True)
    for label, own in sides.items():
        pairs = n.sum() * (n.sum() - 1)
        counted = own.group_by(unit).agg(
            n.sum().alias(f"n_{label}"),
            pl.when(pairs > 0).then(1 - (n * (n - 1)).sum() / pairs).alias(f"within_{label}"),
        )
        per_unit = per_unit.join(
            counted, on=unit, how="left", nulls_equal=True, maintain_order="left"
        )
    same = (
        sides["a"]
        .join(sides["b"], on=[*unit, "value"], suffix="_b", nulls_equal=True)
        .group_by(unit)
        .agg((n * pl.col("n_b")).sum().alias("agreeing"))
    )
    both = pl.col("n_a").is_not_null() & pl.col("n_b").is_not_null()
    share = 1 - pl.col("agreeing").fill_null(0) / (pl.col("n_a") * pl.col("n_b"))
    chance = (pl.col("within_a") + pl.col("within_b")) / 2
    per_unit = (
        per_unit.join(same, on=unit, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(pl.when(both).then(share).alias("between"))
        .with_columns((pl.col("between") - chance).alias("excess"))
    )
    between = pl.col("between")
    table = per_unit.group_by(keys, maintain_order=True).agg(
        between.count().cast(pl.Int64).alias("units"),
        (between > 0).sum().cast(pl.Int64).alias("units_differ"),
        between.null_count().cast(pl.Int64).alias("units_unknown"),
        pl.col("between", "within_a", "within_b").mean(),
    )
    return table.with_columns(_verdicts(table, per_unit, keys)), per_unit


def _verdicts(table: pl.DataFrame, per_unit: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    excess = {
        key: (rows["excess"].to_list(), rows["cluster"].to_list())
        for key, rows in per_unit.drop_nulls("excess").group_by(keys)
    }
    verdicts: list[str] = []
    for row in table.iter_rows(named=True):
        key = tuple(row[name] for name in keys)
        varies = (row["within_a"] or 0) > 0 or (row["within_b"] or 0) > 0
        if row["units"] == 0:
            verdicts.append("unknown")
        elif row["between"] == 0:
            verdicts.append("same")
        elif not varies or key not in excess:
            verdicts.append("differ")
        else:
            verdicts.append("differ" if _is_above_zero(*excess[key]) else "vary")
    return pl.Series("verdict", verdicts, dtype=pl.String)


def _is_above_zero(excess: list[float], clusters: list[object]) -> bool:
    """With too few clusters for an interval, half of a possible 1 is taken for clear."""
    estimate = clustered_mean(excess, clusters)
    if estimate.clusters < _MIN_CLUSTERS:
        return estimate.value > 0.5
    return estimate.low > 0 or (estimate.se == 0 and estimate.value > 0)


def same_calls(runs: Trajectories) -> pl.DataFrame:
    """Responses with what had gone before, by which runs can be compared that asked the same.

    Columns: ``run``, ``place`` (how many calls were answered before), ``asked`` (names this call, and
    all calls and responses before it), ``answer`` (names the response), ``seq`` of the response. Two runs of a task
    with the same ``asked`` and another ``answer`` were answered otherwise, and not because they had
    done otherwise. From the first call on whose arguments or response are unknown (or hold media) a
    run has no more rows.
    """
    return part_by_part(runs, _same_calls)


def _same_calls(runs: Trajectories) -> pl.DataFrame:
    is_known = pl.col("arguments").is_not_null() & pl.col("text").is_not_null()
    no_media = pl.col("media").list.len().fill_null(0) == 0
    table = (
        responses(runs)
        .sort("run", "call_seq", "seq", nulls_last=True)
        .with_columns((is_known & no_media).cast(pl.Int8).cum_min().over("run").alias("known"))
        .filter(pl.col("known") == 1)
        .with_columns(
            pl.int_range(pl.len()).over("run").cast(pl.Int64).alias("place"),
            pl.struct("tool", "arguments").hash().alias("call"),
            pl.struct("text", "is_error").hash().alias("answer"),
        )
        # Each pair of call and response is hashed with its place, so their sum names the sequence.
        .with_columns(pl.struct("place", "call", "answer").hash().alias("pair"))
    )
    before = pl.col("pair").cum_sum().over("run") - pl.col("pair")
    return table.with_columns(before.alias("before")).select(
        "run", "place", pl.struct("before", "place", "call").hash().alias("asked"), "answer", "seq"
    )


def forks(answers: pl.DataFrame, units: pl.DataFrame) -> pl.DataFrame:
    """Where runs of one unit asked the same and were answered otherwise: each run's first such place.

    ``answers`` from ``same_calls``; ``units``: ``run`` and ``unit``. Columns: ``run``, ``unit``,
    ``asked``, ``answer``, ``seq`` of the response.
    """
    return (
        answers.join(units, on="run", maintain_order="left")
        .filter(pl.col("answer").n_unique().over("unit", "asked") > 1)
        .sort("run", "place")
        .unique("run", keep="first", maintain_order=True)
        .select("run", "unit", "asked", "answer", "seq")
    )
