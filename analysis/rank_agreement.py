"""Whether two scaffolds put models in the same order, over tasks that both ran."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.crossed_runs import MIN_RUNS, MIN_TASKS
from analysis.uncertainty import clustered_mean, holm

Floats = NDArray[np.float64]
REPEATS: Final = 1_000


def agreements(
    table: pl.DataFrame, model: str, scaffold: str, level: float, repeats: int = REPEATS
) -> Iterator[dict[str, Any]]:
    """A row for each two scaffolds: tau of the orders in which they put models, and pairs that swap."""
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
    tau = float(kendall_tau(one, two)[0])
    if math.isnan(tau):
        return row | {"refused": "all models succeed equally often in a scaffold"}
    if not len(weights):
        return row | {"tau": tau}
    taus = kendall_tau(_over_tasks(a, weights), _over_tasks(b, weights))
    low, high = np.nanquantile(taus, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return row | {"tau": tau, "low": low, "high": high}


def _over_tasks(means: Floats, weights: Floats) -> Floats:
    """Mean over tasks for each sample of tasks: (sample, model)."""
    known = ~np.isnan(means)
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ np.where(known, means, 0.0).T) / (weights @ known.T), np.float64)  # fmt: skip


def kendall_tau(a: Floats, b: Floats) -> Floats:
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
