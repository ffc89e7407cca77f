"""At which step does a series change? Exact change points of shares and means along the steps of runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.behaviour_events import failing_steps
from analysis.exposures import refuse_ever
from analysis.outcomes import columns, judged, task_of
from analysis.results import Result
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

Floats = NDArray[np.float64]
Cost = Callable[[NDArray[np.intp], int], Floats]

MIN_RUNS: Final = 10
"""Fewest runs at a step; where fewer are left the series ends."""
_SHORTEST: Final = 2
_CUT_OFF: Final = ("limit", "cancelled")
_NULLS: Final = 199
_RESAMPLES: Final = 100
_SERIES: Final = {
    "error": "share of calls whose response is an explicit error",
    "hazard": "share of runs at a call that fail there",
    "success": "share of runs still going that succeed in the end",
    "value": "mean",
}
_SCHEMA: Final = {
    "segment": pl.Int64,
    "first_step": pl.Int64,
    "last_step": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "change": pl.Float64,
    "gain": pl.Float64,
    "p": pl.Float64,
    "stability": pl.Float64,
    "calls": pl.Int64,
    "runs": pl.Int64,
    "tasks": pl.Int64,
}


def pelt(cost: Cost, length: int, penalty: float, shortest: int = 1) -> list[int]:
    """The first positions of the segments after the first that minimise cost plus ``penalty`` each.

    Exact (Killick, Fearnhead and Eckley 2012): dynamic programming over the last change point, without
    those that can never win again. ``cost(starts, end)`` gives the cost of ``[start, end)`` for each start;
    it must not grow when a segment is split.

    >>> import numpy as np
    >>> x = np.r_[np.zeros(8), np.ones(8)]
    >>> pelt(lambda starts, end: np.array([((x[s:end] - x[s:end].mean()) ** 2).sum() for s in starts]), 16, 1.0)
    [8]
    """
    best = np.full(length + 1, math.inf)
    best[0] = -penalty
    came_from = np.zeros(length + 1, dtype=np.intp)
    out_at = np.full(length + 1, length + 1, dtype=np.intp)
    """From which end on a start can't win any more."""
    for end in range(shortest, length + 1):
        reach = np.arange(end - shortest + 1, dtype=np.intp)
        ready = reach[(out_at[reach] > end) & np.isfinite(best[reach])]
        total = best[ready] + cost(ready, end)
        pick = int(total.argmin())
        best[end] = total[pick] + penalty
        came_from[end] = ready[pick]
        # Who loses by more than the penalty loses for ever, as soon as a segment may begin here.
        lost = ready[total > best[end]]
        out_at[lost] = np.minimum(out_at[lost], end + shortest)
    found: list[int] = []
    at = length
    while at > 0:
        at = int(came_from[at])
        found.append(at)
    return [start for start in reversed(found) if start > 0]


def change_points(
    runs: Trajectories,
    of: Literal["error", "hazard", "success"] | pl.DataFrame = "error",
    by: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Result:
    """At which steps a series along the run changes its level, in each arm.

    ``of``: ``error`` (a response to the call is an explicit error), ``hazard`` (the run fails at this
    call), ``success`` (of the runs still going, those that succeed in the end), or a frame of your own with
    ``run``, ``step``, ``value``.

    Segments minimise the deviance (binomial, or Gaussian for a value that is not 0 or 1) plus a penalty for
    each change, exactly (PELT). The penalty is that gain which the best single split of a series without
    any change reaches in 5 % of the cases: made from the runs themselves by shifting each run's values
    round its own steps, which keeps their spells (``error``, values), by drawing ends at a constant hazard, or by
    giving outcomes to other runs (``success``).

    ``frame``, a row per segment: the ``by`` columns, ``segment`` (from 0), ``first_step``, ``last_step``;
    ``value`` with ``low``, ``high`` (clustered by task; the boundaries are chosen on the same data, so a
    contrast of two segments is optimistic); ``change`` against the segment before, ``gain`` of deviance
    by this boundary and its ``p`` among the series without change; ``stability``: in how many of 100 resamples
    of tasks a boundary stands within one step of this one; ``calls``, ``runs``, ``tasks``. Steps with fewer
    than 10 runs are left out. ``runs(segment=1)`` opens the runs that get there.

    Raises ``DerailError`` where no arm has ``MIN_RUNS`` runs over four steps.

    >>> import loaders
    >>> found = change_points(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), "hazard")
    >>> found.frame["first_step"][0]
    0
    """
    arms = columns(by, runs)
    names = arms or ["group"]
    series, name, is_binary = _series(runs, of, arms)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = []
    for key, group in series.group_by(names, maintain_order=True):
        table = _table(group, is_binary)
        if table is None:
            continue
        labels = dict(zip(names, key, strict=True))
        found = _segments(table, name, level, rng)
        rows += [{**labels, **row} for row in found]
        for row in found:
            inside = table.rows.filter(
                pl.col("step").is_between(row["first_step"], row["last_step"])
            )
            role = (
                pl.when(pl.col("value").max() > 0)
                .then(pl.lit("shows"))
                .otherwise(pl.lit("shows_not"))
            )
            members.append(
                inside.group_by("trajectory_id", maintain_order=True)
                .agg(role.alias("role"))
                .select(
                    *(pl.lit(v, dtype=series.schema[n]).alias(n) for n, v in labels.items()),
                    pl.lit(row["segment"], pl.Int64).alias("segment"),
                    "trajectory_id",
                    "role",
                )
            )  # fmt: skip
    if not rows:
        raise DerailError(
            f"no arm has {MIN_RUNS} runs at {2 * _SHORTEST} steps in a row: too few to see a change"
        )
    schema = {n: series.schema[n] for n in names} | _SCHEMA
    frame = pl.DataFrame(rows, schema=schema)
    return Result(
        kind="change_points",
        title=f"Where along the run it changes: {_SERIES[name]}",
        frame=frame,
        method=f"Exact change points (PELT) of the {'binomial' if is_binary else 'Gaussian'} deviance; penalty: the {level:.0%} "
        f"quantile of the best split in {_NULLS} series without change; {level:.0%} t interval clustered by task.",
        keys=(*names, "segment"),
        members=pl.concat(members),
        source=runs,
        warnings=tuple(_warnings(frame, name)),
        headline=_headline(frame, names, name),
    )  # fmt: skip


# ---------------------------------------------------------------------- series


def _series(
    runs: Trajectories, of: str | pl.DataFrame, arms: list[str]
) -> tuple[pl.DataFrame, str, bool]:
    """Rows of ``run``, ``step``, ``value`` with task and arm; the name; whether values are 0 or 1."""
    labels = (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("run", "trajectory_id", task_of(), *arms)
        .collect()
    )
    if isinstance(of, pl.DataFrame):
        if missing := {"run", "step", "value"} - set(of.columns):
            raise DerailError(f"a series of your own needs the columns {sorted(missing)}")
        values = of.select("run", "step", pl.col("value").cast(pl.Float64)).drop_nulls()
        name = "value"
    elif of == "error":
        values = failing_steps(runs).select("run", "step", value="error")
        name = of
    elif of in ("hazard", "success"):
        known = judged(runs, "outcome")
        steps = runs.steps.select("run", "step").collect().join(known, on="run")
        fails = ~pl.col("success") & ~pl.col("outcome").cast(pl.String).is_in(_CUT_OFF)
        last = pl.col("step") == pl.col("step").max().over("run")
        value = last & fails if of == "hazard" else pl.col("success")
        values = steps.select("run", "step", value.alias("value"))
        name = of
    else:
        refuse_ever([of])
        raise DerailError(f"no series {of!r}; there are error, hazard, success, or a frame")
    table = (
        values.with_columns(pl.col("value").cast(pl.Float64))
        .join(labels, on="run")
        .sort("run", "step")
        .with_columns([] if arms else [pl.lit("all runs").alias("group")])
    )
    return table, name, bool(table["value"].is_in([0.0, 1.0]).all())


@dataclass(frozen=True)
class _Table:
    """One arm's series: its rows, and where each lies on the axis of steps."""

    rows: pl.DataFrame
    steps: NDArray[np.int64]
    place: NDArray[np.intp]
    is_binary: bool
    spread: float

    def cost(self, n: Floats, total: Floats) -> Cost:
        """Deviance of segments, from cumulative counts and sums of each step."""
        counts, sums = np.r_[0.0, n.cumsum()], np.r_[0.0, total.cumsum()]

        return lambda starts, end: self.deviance(
            counts[end] - counts[starts], sums[end] - sums[starts]
        )

    def deviance(self, size: Floats, hits: Floats) -> Floats:
        """Deviance of segments with so many rows and such sums; Gaussian up to a constant of the series."""
        if self.is_binary:
            return -2 * (_xlogx(hits) + _xlogx(size - hits) - _xlogx(size))
        return -(hits**2) / np.maximum(size, 1e-12) / self.spread

    def sums(self, values: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Rows and sum of values at each step."""
        size = len(self.steps)
        n = np.bincount(self.place, weights=weights, minlength=size)
        weighted = values if weights is None else values * weights
        total = np.bincount(self.place, weights=weighted, minlength=size)
        return np.asarray(n, dtype=np.float64), np.asarray(total, dtype=np.float64)


def _xlogx(x: Floats) -> Floats:
    return np.where(x > 0, x * np.log(np.maximum(x, 1e-300)), 0.0)


def _table(group: pl.DataFrame, is_binary: bool) -> _Table | None:
    """The arm's series up to the first step that fewer than ``MIN_RUNS`` runs reach."""
    counted = group.group_by("step").agg(pl.col("run").n_unique().alias("n")).sort("step")
    enough = counted.with_columns((pl.col("n") >= MIN_RUNS).cast(pl.Int8).cum_max().alias("begun"))
    enough = enough.filter(pl.col("begun") == 1)
    enough = enough.filter((pl.col("n") >= MIN_RUNS).cast(pl.Int8).cum_min() == 1)
    if enough.height < 2 * _SHORTEST:
        return None
    steps = enough["step"].to_numpy().astype(np.int64)
    rows = group.join(enough.select("step"), on="step", how="semi", maintain_order="left")
    place = np.searchsorted(steps, rows["step"].to_numpy())
    within = rows.select((pl.col("value") - pl.col("value").mean().over("step")) ** 2).to_series()
    freedom = max(rows.height - len(steps), 1)
    spread = max(float(within.sum()) / freedom, 1e-12)
    return _Table(rows, steps, place, is_binary, spread)


# ---------------------------------------------------------------------- segments


def _segments(
    table: _Table, name: str, level: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    values = table.rows["value"].to_numpy()
    length = len(table.steps)
    chance = _best_splits(table, *_nulls(table, values, name, rng))
    penalty = float(np.quantile(chance, level))
    cost = table.cost(*table.sums(values))
    starts = pelt(cost, length, penalty, _SHORTEST)
    near = _stability(table, values, starts, penalty, rng)
    edges = [0, *starts, length]
    rows: list[dict[str, Any]] = []
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        inside = table.rows.filter(
            pl.col("step").is_between(int(table.steps[start]), int(table.steps[end - 1]))
        )
        found = clustered_mean(inside["value"].to_list(), inside["task"].to_list(), level)
        row: dict[str, Any] = {
            "segment": number,
            "first_step": int(table.steps[start]),
            "last_step": int(table.steps[end - 1]),
            "value": found.value,
            "low": _bounded(found.low, table.is_binary),
            "high": _bounded(found.high, table.is_binary),
            "calls": inside.height,
            "runs": inside["run"].n_unique(),
            "tasks": found.clusters,
        }
        if number:
            before = edges[number - 1]
            both, split = (np.array([at], dtype=np.intp) for at in (before, start))
            gain = cost(both, end) - cost(both, start) - cost(split, end)
            row["change"] = found.value - rows[-1]["value"]
            row["gain"] = float(gain[0])
            row["p"] = float((1 + (chance >= gain[0]).sum()) / (1 + len(chance)))
            row["stability"] = near[number - 1]
        rows.append(row)
    return rows


def _bounded(value: float, is_binary: bool) -> float | None:
    if math.isnan(value):
        return None
    return min(max(value, 0.0), 1.0) if is_binary else value


def _best_splits(table: _Table, n: Floats, totals: Floats) -> Floats:
    """The most that one change could gain in each series; counts of each step, sums of each series and step."""
    counts, sums = n.cumsum(), totals.cumsum(axis=1)
    places = np.arange(_SHORTEST, len(n) - _SHORTEST + 1) - 1
    left = table.deviance(counts[places], sums[:, places])
    right = table.deviance(counts[-1] - counts[places], sums[:, -1:] - sums[:, places])
    return (table.deviance(counts[-1:], sums[:, -1:]) - left - right).max(axis=1)


def _nulls(
    table: _Table, values: Floats, name: str, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Series in which nothing changes: counts of each step, sums of each series and step."""
    n, total = table.sums(values)
    if name == "hazard":
        constant = total.sum() / n.sum()
        drawn = rng.binomial(n.astype(np.int64), constant, size=(_NULLS, len(n)))
        return n, np.asarray(drawn, dtype=np.float64)
    _, run = np.unique(table.rows["run"].to_numpy(), return_inverse=True)
    first = np.flatnonzero(np.r_[True, run[1:] != run[:-1]])
    size = np.diff(np.r_[first, len(run)])
    position = np.arange(len(run)) - first[run]
    series: list[Floats] = []
    for _ in range(_NULLS):
        if name == "success":
            index = first[np.asarray(rng.permutation(len(first)), dtype=np.intp)[run]]
        else:
            by = np.asarray(rng.integers(0, size), dtype=np.intp)
            index = first[run] + (position + by[run]) % size[run]
        series.append(table.sums(values[index])[1])
    return n, np.stack(series)


def _stability(
    table: _Table, values: Floats, starts: list[int], penalty: float, rng: np.random.Generator
) -> list[float]:
    """In how many resamples of tasks a boundary stands within one step of each."""
    if not starts:
        return []
    _, task = np.unique(table.rows["task"].to_numpy(), return_inverse=True)
    tasks = int(task.max()) + 1
    near = np.zeros(len(starts))
    for _ in range(_RESAMPLES):
        weights = np.bincount(rng.integers(0, tasks, tasks), minlength=tasks).astype(np.float64)
        again = pelt(
            table.cost(*table.sums(values, weights[task])), len(table.steps), penalty, _SHORTEST
        )
        near += [any(abs(start - other) <= 1 for other in again) for start in starts]
    return (near / _RESAMPLES).tolist()


# ---------------------------------------------------------------------- in words


def _warnings(frame: pl.DataFrame, name: str) -> list[str]:
    warnings = [
        "Later steps are of the runs that last so long: a change can be a change of who is left."
    ]
    if name == "hazard":
        warnings.append(
            "A hazard falls by itself where frail runs leave first, without any run getting better."
        )
    unstable = frame.filter(pl.col("stability") < 0.5)
    if not unstable.is_empty():
        warnings.append(
            f"{unstable.height} boundaries are found in fewer than half of the resamples: where they stand is not sure."
        )
    return warnings


def _headline(frame: pl.DataFrame, names: list[str], name: str) -> str:
    changes = frame.filter(pl.col("segment") > 0).sort("gain", descending=True)
    if changes.is_empty():
        return "No change along the run is shown."
    top = changes.row(0, named=True)
    arm = ", ".join(str(top[n]) for n in names)
    before = top["value"] - top["change"]
    where = "" if names == ["group"] else f"{arm}: "
    return (
        f"{where}{_SERIES[name]} goes from {before:.3g} to {top['value']:.3g} at call {top['first_step']} (p = {top['p']:.2g}; "
        f"found within a step of there in {top['stability']:.0%} of resamples)."
    )  # fmt: skip
