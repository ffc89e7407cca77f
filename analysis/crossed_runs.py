"""Runs as a table of outcomes by model, scaffold and task, and what is wrong with its design."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.outcomes import columns, task_of
from loaders import Trajectories
from loaders.errors import DerailError

MIN_RUNS: Final = 10
MIN_TASKS: Final = 5
FEW_LEVELS: Final = 5
"""With fewer models or scaffolds than this, the variance between them rests on hardly any."""


def table_of_runs(
    runs: Trajectories, names: Sequence[str], outcome: str
) -> tuple[pl.DataFrame, list[str]]:
    """Runs with a known outcome ``y`` and their labels; what was left out, in words.

    Where a label is null in every run it is one level; where in some, these runs are left out.
    """
    names = list(dict.fromkeys(names))
    dtype = runs.trajectories.collect_schema()[columns([outcome], runs)[0]]
    if not (dtype.is_numeric() or dtype == pl.Boolean):
        raise DerailError(
            f"{outcome!r} is no column of numbers or of yes and no, so it can't be averaged"
        )
    top = (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("trajectory_id", task_of(), pl.col(outcome).cast(pl.Float64).alias("y"), *columns(names, runs))
        .collect()
    )  # fmt: skip
    table = top.drop_nulls("y")
    warnings = (
        [f"{top.height - table.height} runs without a known {outcome} are left out"]
        if table.height < top.height
        else []
    )
    for name in names:
        unknown = table[name].null_count()
        if unknown == table.height:
            table = table.with_columns(pl.lit("not known").alias(name))
        elif unknown:
            table = table.drop_nulls(name)
            warnings.append(f"{unknown} runs whose {name} is not known are left out")
    text = [pl.col(name).cast(pl.String) for name in names]
    return table.with_columns(text), warnings


def common_tasks(table: pl.DataFrame, model: str, scaffold: str) -> pl.DataFrame:
    """Only tasks that were run in every cell of model and scaffold; ``DerailError`` where there is none."""
    cells = table.select(model, scaffold).unique().height
    cell = pl.struct(model, scaffold)
    kept = table.filter(cell.n_unique().over("task") == cells)
    if kept.is_empty():
        raise DerailError(
            f"no task was run in each of the {cells} cells of {model} and {scaffold}; paired=False "
            "compares what there is"
        )
    return kept


def design_warnings(
    table: pl.DataFrame, factors: Sequence[str], levels: dict[str, int]
) -> list[str]:
    """What the design cannot tell: few levels, cells that are empty, unbalanced or unpaired."""
    warnings = [
        f"{levels[name]} level{'s' * (levels[name] > 1)} of {name}: how much it matters in general can't be "
        "told from so few"
        for name in factors
        if levels.get(name, FEW_LEVELS) < FEW_LEVELS
    ]
    if not factors:
        return warnings
    cells = table.group_by(factors).agg(
        pl.len().alias("runs"), pl.col("task").n_unique().alias("tasks")
    )
    possible = math.prod(table[name].n_unique() for name in factors)
    if cells.height < possible:
        warnings.append(
            f"{possible - cells.height} of {possible} combinations of {' and '.join(factors)} have no run"
        )
    if cells["runs"].n_unique() > 1:
        warnings.append(
            f"unbalanced: from {cells['runs'].min()} to {cells['runs'].max()} runs in a cell"
        )
    if (cells["tasks"] < table["task"].n_unique()).any():
        warnings.append(
            "unpaired: not every cell has every task, so cells differ in what they were asked as well"
        )
    return warnings


def role_of_outcome() -> pl.Expr:
    """``role``: whether the run had any success."""
    return pl.when(pl.col("y") > 0).then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")  # fmt: skip
