"""Does a result hold elsewhere: in another scaffold, on other tasks, outside of the benchmark?

``components`` splits the variance of success between models, scaffolds, tasks and their interactions;
``ranks`` shows each model in each scaffold, ``agreement`` whether scaffolds order models alike, and
``reality`` a benchmark beside what happened in use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.crossed_runs import (
    MIN_RUNS,
    MIN_TASKS,
    common_tasks,
    design_warnings,
    role_of_outcome,
    table_of_runs,
)
from analysis.rank_agreement import REPEATS, agreements
from analysis.reality import reality
from analysis.results import Result
from analysis.uncertainty import Estimate, clustered_mean
from analysis.variance import components_of, cube_of, intervals, subsets, without_each_task
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = ["MIN_RUNS", "MIN_TASKS", "agreement", "components", "ranks", "reality"]

Floats = NDArray[np.float64]

MIN_TASKS_FOR_INTERVALS: Final = 10


def components(
    runs: Trajectories,
    model: str = "model",
    scaffold: str = "framework",
    task: str = "task",
    *,
    outcome: str = "success",
    level: float = 0.95,
) -> Result:
    """How much of the variance of success lies between models, scaffolds, tasks and their interactions.

    All factors are random and crossed. Estimated from pairs of runs: half the mean squared difference
    of pairs that share exactly these factors is the sum of the components of the others (Koch 1967).
    It is unbiased for any number of runs in a cell, and for equal numbers it is the analysis of
    variance by the method of moments. Intervals come from the jackknife over tasks, t on the logarithm
    of the variance before finer components are taken off it (Miller 1968, Arvesen and Schmitz 1970),
    with the models and scaffolds held fixed: they speak of these models and scaffolds. Percentiles of a
    bootstrap over tasks would be too narrow: 91 % hold for 60 tasks, 83 % for 12. For the task component
    these hold 93 to 96 % of the time from 12 tasks on where tasks are normal or flatter; where their
    difficulty has long tails less often (exponential: 76 % for 12 tasks, 91 % for 60), as any known one.

    ``frame`` columns: ``component`` (a factor, an interaction such as ``model x task``, or
    ``residual``: trials of one cell that differ), ``variance`` with ``low``, ``high``; ``share`` of the
    sum with ``share_low``, ``share_high``; ``levels`` (how many it rests on); ``refused``. Negative
    estimates are set to 0 and counted in a warning. Without two runs in any cell the residual and the
    highest interaction can't be told apart and are one row.

    ``model``, ``scaffold``, ``task``: columns of ``trajectories`` (``task``: the ``task_id`` within its
    benchmark). A factor with one level is left out, with a warning. ``outcome``: a column of numbers or
    of yes and no; on success (0 or 1) the residual is mostly chance, p (1 - p).

    Raises ``DerailError`` for fewer than 5 tasks or 10 runs.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> found = components(runs, scaffold="arm")
    >>> found.frame["component"].to_list()
    ['arm', 'task', 'residual with arm x task']
    >>> round(found.frame["share"].sum(), 9)
    1.0
    """
    wanted = list(dict.fromkeys([model, scaffold]))
    table, warnings = table_of_runs(runs, [*wanted, *([] if task == "task" else [task])], outcome)
    if task != "task":
        table = table.with_columns(pl.col(task).cast(pl.String).alias("task"))
    tasks = table["task"].n_unique()
    if tasks < MIN_TASKS or table.height < MIN_RUNS:
        raise DerailError(
            f"{table.height} runs of {tasks} tasks with a known {outcome}; variance components need "
            f"{MIN_RUNS} runs of {MIN_TASKS} tasks"
        )
    single = [name for name in wanted if table[name].n_unique() < 2]
    warnings += [f"{name} has one level here and is left out" for name in single]
    factors = [name for name in wanted if name not in single]
    cube = cube_of(table, factors)
    names = [" x ".join(part) for part in subsets([*factors, "task"]) if part]
    point, left_out = components_of(cube), without_each_task(cube)
    if math.isnan(point[-1]):  # no cell with two runs: the highest interaction takes the residual
        names[-1] = f"residual with {names[-1]}"
        point, left_out = point[:-1], left_out[:, :-1]
    else:
        names.append("residual")
    levels = {name: table[name].n_unique() for name in [*factors, "task"]}
    rows = _component_rows(names, point, intervals(cube, point, left_out, level), levels)
    negative = [n for n, value in zip(names, point.tolist(), strict=True) if value < 0]
    if negative:
        warnings.append(f"estimated below 0 and set to 0: {', '.join(negative)}")
    warnings += design_warnings(table, factors, levels)
    frame = pl.DataFrame(rows, schema=_COMPONENTS)
    largest = frame.drop_nulls("share").sort("share", descending=True).head(1)
    return Result(
        kind="components",
        title=f"Variance components of {outcome}",
        headline="".join(
            f"{share:.0%} of the variance is {name}." for name, share in largest.select("component", "share").rows()
        ),
        frame=frame,
        method="Method of moments on pairs of runs, which equals the analysis of variance for equal cells; "
        f"{level:.0%} t intervals of the jackknife over tasks on a log scale, models and scaffolds fixed.",
        keys=("component",),
        members=pl.concat(
            table.select(pl.lit(name).alias("component"), "trajectory_id", pl.lit("run").alias("role"))
            for name in names
        ),
        source=runs,
        warnings=tuple(warnings),
    )  # fmt: skip


def ranks(
    runs: Trajectories,
    model: str = "model",
    scaffold: str = "framework",
    *,
    paired: bool = False,
    level: float = 0.95,
) -> Result:
    """Success and rank of each model in each scaffold, and each model's worst scaffold beside its mean.

    ``frame``, a row per model and scaffold: both columns; ``success`` with ``low``, ``high`` (clustered
    by task); ``rank`` in the scaffold (1 is best); ``tasks``, ``runs``; of the model over its scaffolds:
    ``mean``, ``worst``, ``worst_in``, ``gap`` (best minus worst; noise alone makes one, and the more
    scaffolds the wider); ``refused`` (under 10 runs or 5 tasks: no success and no rank).
    ``paired``: count only tasks that every model has in every scaffold. ``agreement`` compares orders.

    Raises ``DerailError`` where paired runs have no task in common.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> found = ranks(runs, scaffold="arm")
    >>> found.frame["rank"].to_list()
    [1, 1, 1]
    """
    table, warnings = table_of_runs(runs, [model, scaffold], "success")
    if paired:
        table = common_tasks(table, model, scaffold)
    rows: list[dict[str, Any]] = []
    for (of, within), cell in table.group_by(model, scaffold, maintain_order=True):
        found = clustered_mean(cell["y"].to_list(), cell["task"].to_list(), level)
        row = {model: of, scaffold: within, "tasks": found.clusters, "runs": found.n}
        rows.append(row | _share_or_refusal(found))
    schema = {model: table.schema[model], scaffold: table.schema[scaffold], **_RANKS}
    frame = pl.DataFrame(rows, schema=schema)
    known = pl.col("success")
    frame = frame.with_columns(
        known.rank("min", descending=True).over(scaffold).cast(pl.Int64).alias("rank"),
        known.mean().over(model).alias("mean"),
        known.min().over(model).alias("worst"),
        pl.col(scaffold).sort_by("success", nulls_last=True).first().over(model).alias("worst_in"),
        pl.when(known.count().over(model) > 1)
        .then((known.max() - known.min()).over(model))
        .alias("gap"),
    ).sort("mean", model, scaffold, descending=[True, False, False], nulls_last=True)
    has_any = known.is_not_null().any().over(model)
    frame = frame.with_columns(pl.when(has_any).then("worst_in")).select(
        *(model, scaffold, "success", "low", "high", "rank", "tasks", "runs"),
        *("mean", "worst", "worst_in", "gap", "refused"),
    )
    return Result(
        kind="ranks",
        title=f"Success by {model} and {scaffold}",
        frame=frame,
        method=f"Mean of success; {level:.0%} t interval with CR1 standard errors clustered by task"
        + ("; only tasks that every cell has." if paired else "."),
        keys=(model, scaffold),
        members=table.select(model, scaffold, "trajectory_id", role_of_outcome()),
        source=runs,
        warnings=(
            *warnings,
            *design_warnings(table, [model, scaffold], {scaffold: table[scaffold].n_unique()}),
        ),
        headline=_rank_headline(table, model, scaffold, level),
    )


def agreement(
    runs: Trajectories,
    model: str = "model",
    scaffold: str = "framework",
    *,
    paired: bool = False,
    level: float = 0.95,
) -> Result:
    """Do two scaffolds put models in the same order? A row per pair of scaffolds.

    ``frame`` columns: ``a``, ``b``; ``models`` (with enough runs in both) and their ``pairs``; ``tau``
    (Kendall's tau-b of success, for at least 3 models) with ``low``, ``high`` (bootstrap over tasks);
    ``discordant`` (pairs of models that swap places), of which ``beyond_noise``: in both scaffolds the
    two differ, in opposite directions, by a paired test over their common tasks (the larger of both p,
    Holm over the pairs of models); ``swaps`` names these; ``refused``.

    Raises ``DerailError`` for fewer than two scaffolds.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> agreement(runs, scaffold="arm").frame.select("a", "b", "models", "tau").rows()
    [('all', 'last', 1, None), ('all', 'none', 1, None), ('last', 'none', 1, None)]
    """
    table, warnings = table_of_runs(runs, [model, scaffold], "success")
    if paired:
        table = common_tasks(table, model, scaffold)
    if table[scaffold].n_unique() < 2:
        raise DerailError(f"{scaffold!r} has one value here; an order needs another to agree with")
    rows = list(agreements(table, model, scaffold, level))
    warnings += design_warnings(table, [model, scaffold], {})
    return Result(
        kind="rank_agreement",
        title=f"Do scaffolds ({scaffold}) order {model}s alike?",
        frame=pl.DataFrame(rows, schema=_AGREEMENT),
        method=f"Kendall's tau-b of mean success over tasks; {level:.0%} percentiles of {REPEATS:,} bootstrap "
        "samples of tasks. A swap is beyond noise where paired t tests in both scaffolds differ in "
        "opposite directions (Holm).",
        keys=("a", "b"),
        members=pl.concat(
            table.filter(pl.col(scaffold).is_in([row["a"], row["b"]])).select(
                pl.lit(row["a"]).alias("a"),
                pl.lit(row["b"]).alias("b"),
                "trajectory_id",
                role_of_outcome(),
            )
            for row in rows
        ),
        source=runs,
        warnings=tuple(warnings),
    )


# ---------------------------------------------------------------------- runs as a table

_COMPONENTS = {
    "component": pl.String,
    **dict.fromkeys(("variance", "low", "high", "share", "share_low", "share_high"), pl.Float64),
    "levels": pl.Int64,
    "refused": pl.String,
}
_RANKS = {
    "success": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "tasks": pl.Int64,
    "runs": pl.Int64,
    "refused": pl.String,
}
_AGREEMENT = {
    "a": pl.String,
    "b": pl.String,
    "models": pl.Int64,
    "pairs": pl.Int64,
    **dict.fromkeys(("tau", "low", "high"), pl.Float64),
    "discordant": pl.Int64,
    "beyond_noise": pl.Int64,
    "swaps": pl.List(pl.String),
    "refused": pl.String,
}


# ---------------------------------------------------------------------- variance components


def _component_rows(
    names: Sequence[str],
    point: Floats,
    found: Sequence[tuple[Estimate, Estimate]],
    levels: dict[str, int],
) -> list[dict[str, Any]]:
    clipped = np.maximum(point, 0.0)
    with np.errstate(invalid="ignore"):
        shares = clipped / clipped.sum()
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        rests_on = math.prod(
            levels[part] for part in name.removeprefix("residual with ").split(" x ")
        ) if name != "residual" else None  # fmt: skip
        row: dict[str, Any] = {"component": name, "levels": rests_on}
        if math.isnan(point[index]):
            rows.append(
                row | {"refused": "these runs hold no pairs that would tell it apart from others"}
            )
            continue
        row["variance"] = float(clipped[index])
        row["share"] = None if math.isnan(shares[index]) else float(shares[index])
        variance, share = found[index]
        if levels["task"] < MIN_TASKS_FOR_INTERVALS:
            row["refused"] = (
                f"no interval for {levels['task']} tasks; {MIN_TASKS_FOR_INTERVALS} are needed"
            )
        elif not math.isnan(variance.se):
            row["low"], row["high"] = max(variance.low, 0.0), max(variance.high, 0.0)
            if not math.isnan(share.se):
                row["share_low"], row["share_high"] = share.low, share.high
        rows.append(row)
    return rows


# ---------------------------------------------------------------------- ranks


def _share_or_refusal(found: Estimate) -> dict[str, Any]:
    if found.n < MIN_RUNS or found.clusters < MIN_TASKS:
        few = f"{found.n} runs of {found.clusters} tasks"
        return {"refused": f"{few}; {MIN_RUNS} of {MIN_TASKS} are needed"}
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return {"success": found.value, "low": low, "high": high}


def _rank_headline(table: pl.DataFrame, model: str, scaffold: str, level: float) -> str:
    if table[scaffold].n_unique() < 2 or table[model].n_unique() < 2:
        return ""
    found = pl.DataFrame(
        list(agreements(table, model, scaffold, level, repeats=0)), schema=_AGREEMENT
    )
    swaps, proven, pairs = (
        int(found[name].sum()) for name in ("discordant", "beyond_noise", "pairs")
    )
    lowest = found.drop_nulls("tau").sort("tau").head(1)
    told = f"{swaps} of {pairs} pairs of models swap places between two scaffolds, {proven} beyond noise"
    if lowest.is_empty():
        return f"{told}."
    a, b, tau = lowest.select("a", "b", "tau").row(0)
    return f"{told}; least alike are {a} and {b} (Kendall's tau {tau:.2f})."
