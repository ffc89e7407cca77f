"""What changes around the first time a run meets an exposure, against runs that have not met it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from analysis.exposures import groups_of, met_first, refuse_ever
from analysis.outcomes import task_of
from analysis.parts import each_part, slices
from analysis.perturbations import detect
from analysis.results import Result
from analysis.signals import repeated_calls
from analysis.stacked_changes import stacked_changes
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

MIN_RUNS: Final = 10
"""Fewest exposed runs with a control at a moment; moments with fewer are refused."""

OUTCOMES: Final = ("perturbed", "repeat", "calls", "thinking_chars", "output_tokens")
_SCHEMA = {
    "tau": pl.Int64,
    "effect": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "exposed": pl.Int64,
    "controls": pl.Int64,
    "tasks": pl.Int64,
    "refused": pl.String,
}


def event_study(
    runs: Trajectories,
    exposure: str,
    outcome: str | pl.DataFrame = "repeat",
    *,
    window: tuple[int, int] = (-5, 10),
    match: Literal["task", "step"] = "task",
) -> Result:
    """The path of an outcome around the first exposure, and a test of whether paths were parallel before.

    A run that first meets the exposure at call e is compared, at each call e + tau, with runs that have
    not met it by then (never or not yet), at the same call of the same task (``match="step"``: of any
    task). What is compared is the change since call e - 1, so lasting differences between runs cancel
    (a difference in differences, stacked by exposed run, as in Cengiz et al. 2019; clean controls as in
    Callaway and Sant'Anna 2021). The effect of a moment is the mean over exposed runs, its interval
    clustered by task.

    ``outcome``: ``perturbed`` (the response of the call is), ``repeat`` (the call repeats the one
    before), ``calls`` (tool calls), ``thinking_chars``, ``output_tokens``; or a frame of your own with
    ``run``, ``step``, ``value``, a row per call. A call whose value is null is left out.

    ``frame`` columns: ``tau`` (0 is the call that meets the exposure), ``effect`` with ``low``, ``high``,
    ``p``; ``exposed`` and ``controls`` (runs), ``tasks``; ``refused`` (fewer than 10 exposed runs). tau
    = -1 is the base and 0 by construction. ``runs(role="exposed")`` opens the runs.

    Runs end, so later moments are of the runs that lasted: what the frame shows there may be
    selection. Raises ``DerailError`` for an unknown exposure or outcome, for a call of several values, and
    where no moment has enough runs.

    >>> import loaders
    >>> found = event_study(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), "timeout", "thinking_chars", match="step")
    >>> found.frame.filter(tau=-1)["effect"].item()
    0.0
    """
    refuse_ever([exposure])
    met = met_first(runs)
    known = groups_of(met)
    if exposure not in known:
        raise DerailError(f"no call met {exposure!r}; exposures here: {', '.join(sorted(known))}")
    first = met.filter(exposure=exposure).select("run", first="met_at")
    del met
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("run", "trajectory_id", task_of())
        .collect()
        .join(first, on="run", how="left")
        .with_columns((pl.col("task") if match == "task" else pl.lit("")).alias("stratum"))
    )
    values, name = _values(runs, outcome)
    changes = stacked_changes(table, values, range(window[0], window[1] + 1))
    rows = [_moment(changes, tau) for tau in range(window[0], window[1] + 1)]
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    if frame.filter(pl.col("tau") != -1)["effect"].is_null().all():
        raise DerailError(
            f"at no moment {MIN_RUNS} runs that met {exposure!r} have a run of the same "
            f"{'task' if match == 'task' else 'length'} to compare with"
            + (": match='step' compares between tasks" if match == "task" else "")
        )
    before = _joint(changes, [t for t in range(window[0], -1) if _is_shown(frame, t)])
    after = _average(changes, [t for t in range(window[1] + 1) if _is_shown(frame, t)])
    return Result(
        kind="event_study",
        title=f"{name} around the first {exposure}",
        frame=frame,
        method="Stacked difference in differences against runs not (yet) exposed at the same call"
        + (" of the same task" if match == "task" else "")
        + f", base call -1; 95 % t interval clustered by task. Before: {_told(before)}.",
        keys=("tau",),
        members=_members(changes),
        source=runs,
        warnings=tuple(_warnings(before, match)),
        headline=after,
    )


# ---------------------------------------------------------------------- outcomes per call


def _values(runs: Trajectories, outcome: str | pl.DataFrame) -> tuple[Iterator[pl.DataFrame], str]:
    """``run``, ``step``, ``value`` of a part of the runs after the other; and what the value is called."""
    if isinstance(outcome, pl.DataFrame):
        if missing := {"run", "step", "value"} - set(outcome.columns):
            raise DerailError(f"an outcome of your own needs the columns {sorted(missing)}")
        given = outcome.select("run", "step", pl.col("value").cast(pl.Float64))
        return slices(given.sort("run", maintain_order=True)), "value"
    if outcome not in OUTCOMES:
        raise DerailError(f"no outcome {outcome!r}; there are {', '.join(OUTCOMES)}, or a frame")
    found = detect(runs).select("run", "step", "primary") if outcome == "perturbed" else _NOTHING
    return each_part(
        runs, lambda part, found: _of_part(part, outcome, found), found, times=4
    ), outcome


_NOTHING = pl.DataFrame(schema={"run": pl.Int64, "step": pl.Int64, "primary": pl.Boolean})


def _of_part(runs: Trajectories, outcome: str, found: pl.DataFrame) -> pl.DataFrame:
    if outcome in ("thinking_chars", "output_tokens"):
        column = pl.col(outcome).cast(pl.Float64).alias("value")
        return runs.steps.select("run", "step", column).collect()
    if outcome == "perturbed":
        counted = found.filter("primary").select("run", "step")
    elif outcome == "repeat":
        counted = repeated_calls(runs).select("run", "step")
    else:
        calls = runs.events.filter(pl.col("kind") == "tool_call")
        counted = calls.select("run", "step").collect()
    times = counted.drop_nulls().group_by("run", "step").len("value")
    value = pl.col("value").fill_null(0).cast(pl.Float64)
    if outcome != "calls":
        value = value.clip(0, 1)
    steps = runs.steps.select("run", "step").collect()
    return steps.join(times, on=["run", "step"], how="left").with_columns(value)


# ---------------------------------------------------------------------- changes against controls


def _moment(changes: pl.DataFrame, tau: int) -> dict[str, Any]:
    here = changes.filter(tau=tau)
    row: dict[str, Any] = {
        "tau": tau,
        "exposed": here.height,
        "controls": int(here["controls"].sum()),
        "tasks": here["task"].n_unique(),
    }
    if tau == -1:
        return {**row, "effect": 0.0, "low": 0.0, "high": 0.0}
    if here.height < MIN_RUNS or row["tasks"] < 2:
        return {
            **row,
            "refused": f"{here.height} exposed runs with a control; {MIN_RUNS} are needed",
        }
    found = clustered_mean(here["effect"].to_list(), here["task"].to_list())
    return {**row, "effect": found.value, "low": found.low, "high": found.high, "p": found.p}


def _is_shown(frame: pl.DataFrame, tau: int) -> bool:
    return frame.filter(tau=tau)["effect"].item() is not None


def _joint(changes: pl.DataFrame, taus: list[int]) -> float | None:
    """P of the Wald test that all these effects are 0, clustered by task; None where there are none."""
    if not taus:
        return None
    from scipy import special

    tasks = {task: n for n, task in enumerate(changes["task"].unique(maintain_order=True))}
    means = np.zeros(len(taus))
    influence = np.zeros((len(tasks), len(taus)))
    for index, tau in enumerate(taus):
        here = changes.filter(tau=tau)
        effects = here["effect"].to_numpy()
        means[index] = effects.mean()
        places = np.array([tasks[task] for task in here["task"]])
        np.add.at(influence[:, index], places, (effects - means[index]) / len(effects))
    groups = len(tasks)
    covariance = influence.T @ influence * groups / max(groups - 1, 1)
    if np.linalg.matrix_rank(covariance) < len(taus):
        covariance = covariance + 1e-9 * np.eye(len(taus))
    wald = (
        float(means @ np.linalg.solve(covariance, means))
        * (groups - len(taus))
        / max(len(taus) * (groups - 1), 1)
    )
    if groups <= len(taus):
        return None
    return 1 - float(special.fdtr(len(taus), groups - len(taus), max(wald, 0.0)))


def _average(changes: pl.DataFrame, taus: list[int]) -> str:
    if not taus:
        return "Too few runs last beyond the exposure to say what follows it."
    each = (
        changes.filter(pl.col("tau").is_in(taus))
        .group_by("run", maintain_order=True)
        .agg(pl.col("effect").mean(), pl.col("task").first())
    )
    found = clustered_mean(each["effect"].to_list(), each["task"].to_list())
    return (
        f"From the exposure on: {found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}] per call over "
        f"{each.height} runs of {found.clusters} tasks."
    )


def _told(p: float | None) -> str:
    return (
        "too few moments to test trends" if p is None else f"joint test of equal trends p = {p:.2g}"
    )


def _members(changes: pl.DataFrame) -> pl.DataFrame:
    return changes.select(
        pl.col("tau").cast(pl.String), "trajectory_id", pl.lit("exposed").alias("role")
    ).unique(maintain_order=True)


def _warnings(before: float | None, match: str) -> list[str]:
    warnings = ["Later moments are of runs that lasted so long: part of a path may be selection."]
    if before is None:
        warnings.append("Whether runs went alike before the exposure can't be tested here.")
    elif before < 0.05:
        warnings.append(
            f"Runs that met the exposure already went another way before it (p = {before:.2g}): what "
            "follows is no effect of it alone."
        )
    if match == "step":
        warnings.append("Compared between tasks: difficulty may differ.")
    return warnings
