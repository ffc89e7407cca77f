"""How runs behave: repeating, stuck, silent, wandering, thinking; signals per step and rates per arm.

What a row of ``signals`` says is known once the step's tool responses are back: as an exposure it is
met by the next step. Polling is the known false positive of everything that looks stuck: a tool that
is asked again until something is ready repeats itself by design. Name such tools in ``ignore=``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from analysis import (
    behaviour_calls,
    behaviour_events,
    behaviour_rules,
    behaviour_signals,
    neighbours,
    perturbations,
)
from analysis.behaviour_events import ERRORS, Look, explicit_errors, failing_in, look
from analysis.behaviour_rules import drift_in, ends_in, plan_drift, premature_stops, stops
from analysis.behaviour_signals import calls, check_window, signals, signals_in
from analysis.outcomes import columns, task_of
from analysis.parts import part_by_part
from analysis.remembered import kept_beside_store
from analysis.results import Result
from analysis.uncertainty import Estimate, clustered_mean, t_estimate
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = ["ERRORS", "calls", "plan_drift", "premature_stops", "rates", "signals"]

MIN_RUNS: Final = 10
MIN_TASKS: Final = 5
MIN_ERRORS: Final = 10
"""Fewest errors with a response after them behind a rate of errors after errors."""

_SHARES = (
    "repeat", "stuck_same", "stuck_error", "monologue", "alternation", "entropy", "density", "interleaved",
)  # fmt: skip
_PER_STEP = (*_SHARES, "stagnation")
_FLAGS = ("repeat", "stuck_same", "stuck_error", "monologue", "alternation")
_UNITS = {
    **dict.fromkeys(("repeat", "stuck_same", "stuck_error", "alternation"), "share of steps with tools"),
    "monologue": "share of steps",
    "entropy": "share of the most possible",
    "density": "share of output",
    "interleaved": "share of steps after a response",
    "stagnation": "steps",
    "premature_stop": "share of runs",
    "plan_drift": "1 - Jaccard",
    "error": "share of steps with responses",
    "error_after_error": "share of steps with responses",
    "error_after_none": "share of steps with responses",
    "error_runs_together": "ratio to chance",
}  # fmt: skip


def rates(
    runs: Trajectories,
    by: str | Sequence[str] | None = "arm",
    *,
    window: int = 10,
    ignore: Sequence[str] = (),
    level: float = 0.95,
) -> Result:
    """How often, or how much, each signal shows in each arm, with intervals clustered by task.

    ``frame``, a row per arm and signal: the ``by`` columns, ``signal``, ``value`` with ``low`` and
    ``high``, ``unit``, ``showing`` (runs in which a yes-or-no signal shows at least once), ``runs``
    and ``tasks`` behind the value, ``refused`` (why there is no interval or value).

    Signals of ``signals`` are averaged over the steps of a run where they are known, then over runs,
    so that long runs weigh no more. Then:

    * ``premature_stop``, ``plan_drift``: see ``behaviour_rules``; a mean over the runs that can tell.
    * ``error``, ``error_after_error``, ``error_after_none``: of the steps with responses that follow
      another such step in the run (all of them, after an explicit error, after none), how many have one
      themselves; pooled over runs.
    * ``error_runs_together``: errors right after an error over the number expected had the same errors
      of each run come in random order. 1 is no cascade. Runs that are error-prone from start to end
      raise ``error_after_error``, but not this; errors that gather in a phase of a run do.

    Subagents' runs are left out. ``runs(signal=..., role="shows")`` opens runs that show it.

    >>> import loaders
    >>> found = rates(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> found.frame.filter(signal="error_after_error")["value"].item() > 0
    True
    """
    arms = columns(by, runs)
    names = arms or ["group"]
    labels = (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("run", "trajectory_id", task_of(), *arms)
        .with_columns([] if arms else [pl.lit("all runs").alias("group")])
        .collect()
    )
    check_window(window)
    told = _each_run(runs, window, tuple(sorted(ignore)))
    stopped = stops(runs, told).with_columns(pl.col("premature_stop").cast(pl.Float64))
    measured = labels.select("run", "task")
    for known in (told, stopped):
        measured = measured.join(known, on="run", how="left", maintain_order="left")
    if measured["model_calls"].is_null().all():
        raise DerailError("these logs have no model calls, so there is no behaviour to measure")
    rows: list[dict[str, Any]] = []
    for key, group in labels.group_by(names, maintain_order=True):
        arm = dict(zip(names, key, strict=True))
        here = measured.join(group.select("run"), on="run", how="semi", maintain_order="left")
        rows += [{**arm, **_mean_row(here, signal, level)} for signal in _MEANS]
        rows += [{**arm, **row} for row in _error_rows(here.filter(pl.col("pairs") > 0), level)]
    schema: dict[str, Any] = {name: labels.schema[name] for name in names} | _SCHEMA
    frame = pl.DataFrame(rows, schema=schema)
    order = {signal: number for number, signal in enumerate(_UNITS)}
    place = pl.col("signal").replace_strict(order, return_dtype=pl.Int64)
    return Result(
        kind="behaviour",
        title="How runs behave",
        frame=frame.sort(*names, place, nulls_last=True),
        method=f"Means over runs, pooled ratios for errors; {level:.0%} t interval clustered by task. "
        f"Repeats within {window} calls; stuck: 4 same, 3 errors; monologue: 3; alternation: 6.",
        keys=(*names, "signal"),
        members=_members(measured, labels, names),
        source=runs,
        warnings=_warnings(ignore, frame),
    )  # fmt: skip


# ---------------------------------------------------------------------- rates

_MEANS = (*_PER_STEP, "premature_stop", "plan_drift")
_SCHEMA = {
    "signal": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "unit": pl.String,
    "showing": pl.Int64,
    "runs": pl.Int64,
    "tasks": pl.Int64,
    "refused": pl.String,
}


_RULES = (
    perturbations,
    *perturbations.RULES,
    *(behaviour_events, behaviour_calls, behaviour_rules, behaviour_signals, neighbours),
)


@kept_beside_store("behaviour", _RULES)
def _each_run(runs: Trajectories, window: int, ignore: tuple[str, ...]) -> pl.DataFrame:
    """A row per run: ``model_calls`` (null without any), the means of its signals, its errors, its end."""
    return part_by_part(
        runs,
        lambda part, wrong: _measured(look(part, wrong), window, ignore),
        explicit_errors(runs),
        times=2,  # a sixth less time than with parts half as large, in the same memory
    )


def _measured(seen: Look, window: int, ignore: tuple[str, ...]) -> pl.DataFrame:
    failing = failing_in(seen)
    means = (
        signals_in(seen, failing, window, ignore)
        .group_by("run")
        .agg(
            pl.len().alias("model_calls"),
            *(pl.col(name).cast(pl.Float64).mean() for name in _PER_STEP),
        )
    )
    table = drift_in(seen)
    for known in (means, _error_counts(failing), ends_in(seen)):
        table = table.join(known, on="run", how="left", maintain_order="left")
    return table


def _mean_row(measured: pl.DataFrame, signal: str, level: float) -> dict[str, Any]:
    known = measured.select("task", pl.col(signal)).drop_nulls()
    found = clustered_mean(known[signal].to_list(), known["task"].to_list(), level)
    highest = None if signal == "stagnation" else 1.0
    row = _row(signal, found, "the log of no run can tell", highest)
    if signal in _FLAGS or signal == "premature_stop":
        row["showing"] = int((known[signal] > 0).sum())
    return row


def _row(signal: str, found: Estimate, nothing: str, highest: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"signal": signal, "unit": _UNITS[signal]}
    row |= {"runs": found.n, "tasks": found.clusters}
    if math.isnan(found.value):
        return row | {"refused": nothing}
    row["value"] = found.value
    if found.n < MIN_RUNS or found.clusters < MIN_TASKS:
        few = f"no interval for {found.n} runs of {found.clusters} tasks"
        return row | {"refused": f"{few}; {MIN_RUNS} of {MIN_TASKS} are needed"}
    if found.se == 0:
        return row | {"refused": "no interval: the value is the same in every task"}
    high = found.high if highest is None else min(found.high, highest)
    return row | {"low": max(found.low, 0.0), "high": high}


def _error_counts(failing: pl.DataFrame) -> pl.DataFrame:
    """What a run's errors do: pairs of neighbouring steps, and what chance would make of them."""
    before = pl.col("error").shift(1)
    count, errors = pl.len(), pl.col("error").sum()
    return (
        failing.group_by("run", maintain_order=True)
        .agg(
            before.is_not_null().sum().alias("pairs"),
            (before.is_not_null() & pl.col("error")).sum().alias("errors"),
            before.sum().alias("after_error"),
            (before & pl.col("error")).sum().alias("both"),
            # In random order each of the count - 1 pairs is two errors in S (S - 1) of count (count - 1).
            (errors * (errors.cast(pl.Float64) - 1) / count).alias("expected"),
        )
        .filter(pl.col("pairs") > 0)
        .with_columns(
            (pl.col("pairs") - pl.col("after_error")).alias("after_none"),
            (pl.col("errors") - pl.col("both")).alias("only_now"),
        )
    )


def _error_rows(counts: pl.DataFrame, level: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    few = int(counts["after_error"].sum()) < MIN_ERRORS
    for signal, of, among in (
        ("error", "errors", "pairs"),
        ("error_after_error", "both", "after_error"),
        ("error_after_none", "only_now", "after_none"),
        ("error_runs_together", "both", "expected"),
    ):
        found = _ratio(counts.filter(pl.col(among) > 0), of, among, level)
        row = _row(
            signal,
            found,
            "no step to judge by",
            None if signal == "error_runs_together" else 1.0,
        )
        if few and among in ("after_error", "expected"):
            happened = counts["after_error"].sum()
            row |= {"value": None, "low": None, "high": None}
            row["refused"] = f"{happened} errors with a response after; {MIN_ERRORS} are needed"
        rows.append(row)
    return rows


def _ratio(counts: pl.DataFrame, of: str, among: str, level: float) -> Estimate:
    """Sum over sum, with a linearised standard error clustered by task (CR1)."""
    a, b = counts[of].cast(pl.Float64).to_numpy(), counts[among].cast(pl.Float64).to_numpy()
    tasks = counts["task"].n_unique()
    if b.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, tasks, a.size)
    value = float(a.sum() / b.sum())
    index = counts["task"].rank("dense").to_numpy().astype(np.intp) - 1
    sums = np.bincount(index, weights=a - value * b)
    se = math.sqrt(tasks / max(tasks - 1, 1) * float(sums @ sums)) / float(b.sum())
    return t_estimate(value, se, tasks, a.size, level)


def _members(measured: pl.DataFrame, labels: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    ids = labels.select("run", *names, "trajectory_id")
    return pl.concat(
        measured.select("run", value=pl.col(signal))
        .drop_nulls("value")
        .join(ids, on="run", maintain_order="left")
        .select(*names, pl.lit(signal).alias("signal"), "trajectory_id", _role(signal))
        for signal in _MEANS
    )


def _role(signal: str) -> pl.Expr:
    if signal not in (*_FLAGS, "premature_stop"):
        return pl.lit("measured").alias("role")
    shows = pl.when(pl.col("value") > 0).then(pl.lit("shows")).otherwise(pl.lit("shows_not"))
    return shows.alias("role")


def _warnings(ignore: Sequence[str], frame: pl.DataFrame) -> tuple[str, ...]:
    warnings = [
        "Behaviour and failure share causes such as difficulty: a difference between arms is no effect "
        "of the behaviour."
    ]
    stuck = frame.filter(pl.col("signal").str.starts_with("stuck") & (pl.col("showing") > 0))
    if not ignore and not stuck.is_empty():
        warnings.append("Polling looks stuck: name tools that poll in ignore=.")
    return tuple(warnings)
