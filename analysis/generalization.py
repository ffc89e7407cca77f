"""Does a result hold elsewhere: in another scaffold, on other tasks, outside of the benchmark?

``components`` splits the variance of success between models, scaffolds, tasks and their interactions;
``ranks`` shows each model in each scaffold, ``agreement`` whether scaffolds order models alike, and
``reality`` a benchmark beside what happened in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.outcomes import columns, task_of
from analysis.results import Result
from analysis.uncertainty import Estimate, clustered_mean, holm, t_estimate
from analysis.variance import cube_of, decomposed, subsets
from loaders import Trajectories
from loaders.errors import DerailError

Floats = NDArray[np.float64]

MIN_RUNS: Final = 10
MIN_TASKS: Final = 5
MIN_TASKS_FOR_INTERVALS: Final = 10
FEW_LEVELS: Final = 5
"""With fewer models or scaffolds than this, the variance between them rests on hardly any."""

_REPEATS: Final = 1_000


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
    variance by the method of moments. Intervals are percentiles of a bootstrap over tasks, with the
    models and scaffolds held fixed: they speak of these models and scaffolds.

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
    table, warnings = _table(runs, [*wanted, *([] if task == "task" else [task])], outcome)
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
    point = decomposed(cube, np.ones((1, tasks)))[0]
    rng = np.random.default_rng(0)
    weights = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=_REPEATS).astype(np.float64)
    sampled = decomposed(cube, weights)
    if math.isnan(point[-1]):  # no cell with two runs: the highest interaction takes the residual
        names[-1] = f"residual with {names[-1]}"
        point, sampled = point[:-1], sampled[:, :-1]
    else:
        names.append("residual")
    levels = {name: table[name].n_unique() for name in [*factors, "task"]}
    rows = _component_rows(names, point, sampled, levels, level)
    negative = [n for n, value in zip(names, point.tolist(), strict=True) if value < 0]
    if negative:
        warnings.append(f"estimated below 0 and set to 0: {', '.join(negative)}")
    warnings += _design_warnings(table, factors, levels)
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
        f"{level:.0%} percentiles of {_REPEATS:,} bootstrap samples of tasks, models and scaffolds fixed.",
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
    table, warnings = _table(runs, [model, scaffold], "success")
    if paired:
        table = _common_tasks(table, model, scaffold)
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
        members=table.select(model, scaffold, "trajectory_id", _role()),
        source=runs,
        warnings=(
            *warnings,
            *_design_warnings(table, [model, scaffold], {scaffold: table[scaffold].n_unique()}),
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
    table, warnings = _table(runs, [model, scaffold], "success")
    if paired:
        table = _common_tasks(table, model, scaffold)
    if table[scaffold].n_unique() < 2:
        raise DerailError(f"{scaffold!r} has one value here; an order needs another to agree with")
    rows = list(_agreements(table, model, scaffold, level))
    warnings += _design_warnings(table, [model, scaffold], {})
    return Result(
        kind="rank_agreement",
        title=f"Do scaffolds ({scaffold}) order {model}s alike?",
        frame=pl.DataFrame(rows, schema=_AGREEMENT),
        method=f"Kendall's tau-b of mean success over tasks; {level:.0%} percentiles of {_REPEATS:,} bootstrap "
        "samples of tasks. A swap is beyond noise where paired t tests in both scaffolds differ in "
        "opposite directions (Holm).",
        keys=("a", "b"),
        members=pl.concat(
            table.filter(pl.col(scaffold).is_in([row["a"], row["b"]])).select(
                pl.lit(row["a"]).alias("a"),
                pl.lit(row["b"]).alias("b"),
                "trajectory_id",
                _role(),
            )
            for row in rows
        ),
        source=runs,
        warnings=tuple(warnings),
    )


def reality(
    benchmark: Trajectories,
    real: Trajectories | str,
    by: str | Sequence[str] = "model",
    *,
    outcome: str = "success",
    level: float = 0.95,
) -> Result:
    """A benchmark beside reality, for each model: is what it says what happens in use?

    ``real``: the runs of real use, or a column of the benchmark's own runs that tells of each what came
    of it (added by ``runs.label(...)``). ``outcome``: the column of success or scores.

    ``frame`` columns: the ``by`` columns; ``benchmark`` and ``real`` with their intervals (clustered by
    task); ``gap`` (real minus benchmark) with ``gap_low``, ``gap_high`` (paired by run where ``real`` is
    a column); ``rank_benchmark``, ``rank_real`` (1 is best); ``runs``, ``real_runs``; ``refused`` (under
    10 runs or 5 tasks on either side). ``runs(role="real")`` opens the runs.

    Raises ``DerailError`` where both sides have no group in common.

    >>> import loaders, polars as pl
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> short = runs.trajectories.select("trajectory_id", kept_short=pl.col("steps") < 9).collect()
    >>> found = reality(runs.label(short, on="trajectory_id"), "kept_short", by="arm")
    >>> found.frame["gap"].is_not_null().all()
    True
    """
    names = [by] if isinstance(by, str) else list(by)
    same_runs = isinstance(real, str)
    other = outcome if isinstance(real, Trajectories) else real
    first, warnings = _table(benchmark, names, outcome)
    second, more = _table(benchmark if isinstance(real, str) else real, names, other)
    shared = first.select(names).unique().join(second.select(names).unique(), on=names)
    if shared.is_empty():
        raise DerailError(f"no value of {names} has a known outcome on both sides")
    rows: list[dict[str, Any]] = []
    for row in shared.sort(names).iter_rows(named=True):
        is_group = [pl.col(name) == value for name, value in row.items()]
        rows.append(
            {**row, **_beside(first.filter(is_group), second.filter(is_group), same_runs, level)}
        )
    frame = pl.DataFrame(rows, schema={name: first.schema[name] for name in names} | _REALITY)
    for side in ("benchmark", "real"):
        place = pl.col(side).rank("min", descending=True).cast(pl.Int64)
        frame = frame.with_columns(place.alias(f"rank_{side}"))
    if not same_runs:
        warnings.append(
            "Tasks of a benchmark and of real use differ: a gap is not of the agent alone."
        )
    sides = {"benchmark": first, "real": second}
    return Result(
        kind="reality",
        title="Benchmark and reality",
        frame=frame.sort("benchmark", descending=True, nulls_last=True),
        method=f"Means with {level:.0%} t intervals clustered by task; gap "
        + ("paired by run." if same_runs else "of independent means."),
        keys=tuple(names),
        members=pl.concat(
            side.join(shared, on=names, how="semi").select(*names, "trajectory_id", pl.lit(role).alias("role"))
            for role, side in sides.items()
        ),
        source=benchmark if isinstance(real, str) else benchmark + real,
        warnings=(*warnings, *more),
        headline=_reality_headline(frame),
    )  # fmt: skip


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
_REALITY = {
    **dict.fromkeys(
        (
            *("benchmark", "benchmark_low", "benchmark_high", "real", "real_low", "real_high"),
            *("gap", "gap_low", "gap_high"),
        ),
        pl.Float64,
    ),
    "runs": pl.Int64,
    "real_runs": pl.Int64,
    "refused": pl.String,
}


def _table(
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


def _common_tasks(table: pl.DataFrame, model: str, scaffold: str) -> pl.DataFrame:
    cells = table.select(model, scaffold).unique().height
    cell = pl.struct(model, scaffold)
    kept = table.filter(cell.n_unique().over("task") == cells)
    if kept.is_empty():
        raise DerailError(
            f"no task was run in each of the {cells} cells of {model} and {scaffold}; paired=False "
            "compares what there is"
        )
    return kept


def _design_warnings(
    table: pl.DataFrame, factors: Sequence[str], levels: dict[str, int]
) -> list[str]:
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


def _role() -> pl.Expr:
    return pl.when(pl.col("y") > 0).then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")  # fmt: skip


# ---------------------------------------------------------------------- variance components


def _component_rows(
    names: Sequence[str],
    point: Floats,
    sampled: Floats,
    levels: dict[str, int],
    level: float,
) -> list[dict[str, Any]]:
    clipped, samples = np.maximum(point, 0.0), np.maximum(sampled, 0.0)
    with np.errstate(invalid="ignore"):
        shares = clipped / clipped.sum()
        sampled_shares = samples / samples.sum(axis=1, keepdims=True)
    tails = [(1 - level) / 2, (1 + level) / 2]
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
        if levels["task"] < MIN_TASKS_FOR_INTERVALS:
            row["refused"] = (
                f"no interval for {levels['task']} tasks; {MIN_TASKS_FOR_INTERVALS} are needed"
            )
        elif not np.isnan(samples[:, index]).any():
            row["low"], row["high"] = np.quantile(samples[:, index], tails).tolist()
            if not np.isnan(sampled_shares[:, index]).any():
                ends = np.quantile(sampled_shares[:, index], tails).tolist()
                row["share_low"], row["share_high"] = ends
        rows.append(row)
    return rows


# ---------------------------------------------------------------------- ranks


def _share_or_refusal(found: Estimate) -> dict[str, Any]:
    if found.n < MIN_RUNS or found.clusters < MIN_TASKS:
        few = f"{found.n} runs of {found.clusters} tasks"
        return {"refused": f"{few}; {MIN_RUNS} of {MIN_TASKS} are needed"}
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return {"success": found.value, "low": low, "high": high}


def _agreements(
    table: pl.DataFrame, model: str, scaffold: str, level: float, repeats: int = _REPEATS
) -> Iterator[dict[str, Any]]:
    enough = (
        table.group_by(model, scaffold)
        .agg(pl.len().alias("runs"), pl.col("task").n_unique().alias("tasks"))
        .filter(pl.col("runs") >= MIN_RUNS, pl.col("tasks") >= MIN_TASKS)
    )
    models = table[model].unique().sort().to_list()
    tasks = table["task"].unique().sort().to_list()
    scaffolds = table[scaffold].unique().sort().to_list()
    means = {
        name: _task_means(table.filter(pl.col(scaffold) == name), model, models, tasks)
        for name in scaffolds
    }
    usable = {name: set(enough.filter(pl.col(scaffold) == name)[model]) for name in scaffolds}
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(tasks), np.full(len(tasks), 1 / len(tasks)), size=repeats)
    for a, b in combinations(scaffolds, 2):
        shared = [n for n, name in enumerate(models) if name in usable[a] & usable[b]]
        row: dict[str, Any] = {"a": a, "b": b, "models": len(shared)}
        row["pairs"] = math.comb(len(shared), 2)
        if len(shared) < 2:
            yield row | {"refused": f"{len(shared)} models with enough runs in both; 2 are needed"}
            continue
        names = [models[n] for n in shared]
        weights = drawn.astype(np.float64)
        yield row | _compared((means[a][shared], means[b][shared]), names, weights, level)


def _task_means(
    table: pl.DataFrame, model: str, models: Sequence[str], tasks: Sequence[str]
) -> Floats:
    """Mean success by model and task; nan where it was not run."""
    found = table.group_by(model, "task").agg(pl.col("y").mean())
    places = [
        found[column].replace_strict(list(names), list(range(len(names))), return_dtype=pl.Int64)
        for column, names in ((model, models), ("task", tasks))
    ]
    means = np.full((len(models), len(tasks)), np.nan)
    means[places[0].to_numpy(), places[1].to_numpy()] = found["y"].to_numpy()
    return means


def _compared(
    sides: tuple[Floats, Floats], models: Sequence[str], weights: Floats, level: float
) -> dict[str, Any]:
    a, b = sides
    first, second = np.triu_indices(len(models), 1)
    one, two = (_over_tasks(side, np.ones((1, side.shape[1]))) for side in (a, b))
    signs = [np.sign(_rounded(means[:, first] - means[:, second])) for means in (one, two)]
    swapped = (signs[0] * signs[1])[0] < 0
    places = list(zip(first.tolist(), second.tolist(), swapped.tolist(), strict=True))
    p = [
        _reversal_p(a[i] - a[j], b[i] - b[j]) if is_swapped else 1.0 for i, j, is_swapped in places
    ]
    proven = [value < 1 - level for value in holm(p)]
    swaps = [
        f"{models[i]} and {models[j]}"
        for (i, j, _), is_proven in zip(places, proven, strict=True)
        if is_proven
    ]
    row = {"discordant": int(swapped.sum()), "beyond_noise": len(swaps), "swaps": swaps}
    if len(models) < 3:
        return row | {"refused": "no tau for 2 models: it could only be -1 or 1"}
    tau = float(_tau(one, two)[0])
    if math.isnan(tau):
        return row | {"refused": "all models succeed equally often in a scaffold"}
    if not len(weights):
        return row | {"tau": tau}
    taus = _tau(_over_tasks(a, weights), _over_tasks(b, weights))
    low, high = np.nanquantile(taus, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return row | {"tau": tau, "low": low, "high": high}


def _over_tasks(means: Floats, weights: Floats) -> Floats:
    """Mean over tasks for each sample of tasks: (sample, model)."""
    known = ~np.isnan(means)
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ np.where(known, means, 0.0).T) / (weights @ known.T), np.float64)  # fmt: skip


def _tau(a: Floats, b: Floats) -> Floats:
    """Kendall's tau-b of each row of both; nan where one of them has only ties."""
    first, second = np.triu_indices(a.shape[1], 1)
    one = np.sign(_rounded(a[:, first] - a[:, second]))
    two = np.sign(_rounded(b[:, first] - b[:, second]))
    untied = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(untied > 0, (one * two).sum(axis=1) / untied, np.nan))


def _rounded(values: Floats) -> Floats:
    """Without the last bits, so that equal rates are ties."""
    return np.asarray(np.round(values, 12), dtype=np.float64)


def _reversal_p(a: Floats, b: Floats) -> float:
    """P that two models do not truly differ in opposite directions, from differences by task."""
    sides = [side[~np.isnan(side)] for side in (a, b)]
    if min(side.size for side in sides) < MIN_TASKS:
        return 1.0
    found = [clustered_mean(side.tolist(), range(side.size)) for side in sides]
    return max(e.p for e in found) if found[0].value * found[1].value < 0 else 1.0


def _rank_headline(table: pl.DataFrame, model: str, scaffold: str, level: float) -> str:
    if table[scaffold].n_unique() < 2 or table[model].n_unique() < 2:
        return ""
    found = pl.DataFrame(
        list(_agreements(table, model, scaffold, level, repeats=0)), schema=_AGREEMENT
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


# ---------------------------------------------------------------------- benchmark and reality


def _beside(
    first: pl.DataFrame, second: pl.DataFrame, same_runs: bool, level: float
) -> dict[str, Any]:
    means = [clustered_mean(t["y"].to_list(), t["task"].to_list(), level) for t in (first, second)]
    row: dict[str, Any] = {"runs": means[0].n, "real_runs": means[1].n}
    small = [e for e in means if e.n < MIN_RUNS or e.clusters < MIN_TASKS]
    if small:
        few = f"{small[0].n} runs of {small[0].clusters} tasks"
        return row | {"refused": f"{few}; {MIN_RUNS} of {MIN_TASKS} are needed"}
    for side, found in zip(("benchmark", "real"), means, strict=True):
        row |= {side: found.value, f"{side}_low": found.low, f"{side}_high": found.high}
    if same_runs:
        both = first.join(second.select("trajectory_id", real="y"), on="trajectory_id")
        gap = clustered_mean((both["real"] - both["y"]).to_list(), both["task"].to_list(), level)
    else:
        se = math.hypot(means[0].se, means[1].se)
        smaller = min(means[0].clusters, means[1].clusters)
        gap = t_estimate(means[1].value - means[0].value, se, smaller, row["runs"], level)
    return row | {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high}


def _reality_headline(frame: pl.DataFrame) -> str:
    known = frame.drop_nulls("gap")
    if known.is_empty():
        return "Too few runs on both sides to compare."
    told = f"On average reality is {100 * known.select(pl.col('gap').mean()).item():+.1f} points from the benchmark"
    if known.height < 3:
        return f"{told}."
    sides = [known[side].to_numpy()[None] for side in ("benchmark", "real")]
    return f"{told}; Kendall's tau of the two orders {float(_tau(sides[0], sides[1])[0]):.2f}."
