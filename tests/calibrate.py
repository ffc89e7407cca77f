"""How often intervals hold what was planted, and how often tests reject what is null.

``SETTINGS`` names what is simulated; ``draw(setting, seed, truths)`` makes one data set and returns a
row for each quantity that an analysis estimates there. What no parameter states (the share of runs that
fail, an odds ratio that is averaged over tasks) has as its truth the estimate in a data set so large that
its error does not matter: ``truths_of(setting)``. ``benchmarks/calibration.py`` draws a thousand, the
tests a few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from simulate import SPECIFIED, Planted, simulate
from simulate_outcomes import SD, as_runs, factorial, jumping, scored, toolsets

from analysis import ablation, axes, breakdown, generalization, outcomes, survival
from analysis.results import Result
from loaders import Trajectories

LARGE = 20_000
"""Tasks of the data set that stands for the truth."""

_PLANTED = {
    "thinking_dropped": SPECIFIED.dropped_odds,
    "exec_error": SPECIFIED.error_odds,
    "empty": SPECIFIED.empty_odds,
    "timeout": 1.0,
    "thinking_dropped x exec_error": SPECIFIED.dropped_and_error_odds,
}
_NOTHING = dict.fromkeys(["thinking_dropped", "exec_error", "empty", "timeout"], 1.0)
_RANDOMISED = replace(SPECIFIED, tasks=200)
_NULL = replace(
    _RANDOMISED, tasks=300, arms=True,
    dropped_odds=1.0, dropped_and_error_odds=1.0, error_odds=1.0, empty_odds=1.0,
)  # fmt: skip
_CONFOUNDED = replace(_RANDOMISED, confounding=0.9)
_INTERACTIONS = [("thinking_dropped", "exec_error")]

Key = tuple[str, str]
Truths = dict[Key, float]


class Row(NamedTuple):
    """What one analysis says of one quantity; ``p`` tests that it is nothing."""

    analysis: str
    quantity: str
    estimate: float
    low: float
    high: float
    p: float | None
    truth: float | None
    """None: see ``truths_of``."""


def _told(
    analysis: str, quantity: str, row: dict[str, Any], estimate: str, truth: float | None
) -> Row:
    return Row(analysis, quantity, row[estimate], row["low"], row["high"], row.get("p"), truth)


# ---------------------------------------------------------------------- runs of an agent


def _odds(found: Result, analysis: str, known: dict[str, float] | None) -> Iterator[Row]:
    for row in found.frame.drop_nulls("odds_ratio").iter_rows(named=True):
        name = row["exposure"]
        if known is not None and name not in known:
            continue
        truth = math.log(known[name]) if known else 0.0 if name == "timeout" else None
        logs = {side: math.log(row[side]) for side in ("odds_ratio", "low", "high")}
        yield _told(analysis, name, {**row, **logs}, "odds_ratio", truth)


def _hazard(runs: Trajectories, known: dict[str, float]) -> Iterator[Row]:
    found = breakdown.hazard(runs, interactions=_INTERACTIONS)
    yield from _odds(found, "hazard", known)


def _pooled(runs: Trajectories, known: dict[str, float] | None = None) -> Iterator[Row]:
    found = breakdown.hazard(runs, interactions=_INTERACTIONS, model="clustered")
    yield from _odds(found, "hazard, one level", known)


def _triggers(runs: Trajectories, known: dict[str, float] | None = None) -> Iterator[Row]:
    yield from _odds(breakdown.triggers(runs, by="arm"), "triggers", known)


def _compare(runs: Trajectories, truth: float | None = None) -> Iterator[Row]:
    row = ablation.compare(runs, pair=["task_id"], baseline="kept").frame.row(0, named=True)
    yield _told("ablation.compare", "dropped - kept", row, "difference", truth)


def _curves(runs: Trajectories) -> Iterator[Row]:
    frame = survival.cumulative_incidence(runs).frame
    for end in ("failure", "success"):
        for step in (4, 8, 12):
            row = frame.filter(pl.col("end") == end, pl.col("step") == step).row(0, named=True)
            yield _told("cumulative_incidence", f"{end} by call {step}", row, "incidence", None)
    for row in survival.recovery(runs).frame.drop_nulls("rate").iter_rows(named=True):
        if row["code"] in ("exec_error", "timeout", "empty"):
            yield _told("recovery", row["code"], row, "rate", None)
    for row in outcomes.pass_k(runs).frame.iter_rows(named=True):
        yield _told("pass_k", f"k = {row['k']}", row, "pass_k", None)


def _randomised(runs: Trajectories) -> Iterator[Row]:
    yield from _pooled(runs)
    yield from _triggers(runs)
    yield from _compare(runs)
    yield from _curves(runs)


def _null(runs: Trajectories) -> Iterator[Row]:
    yield from _hazard(runs, _NOTHING)
    yield from _pooled(runs, _NOTHING)
    yield from _triggers(runs, _NOTHING)
    yield from _compare(runs, 0.0)


def _confounded(runs: Trajectories) -> Iterator[Row]:
    yield from _hazard(runs, _PLANTED)
    yield from _pooled(runs, _PLANTED)


def _dropped(runs: Trajectories) -> Iterator[Row]:
    yield from _odds(breakdown.hazard(runs), "hazard", {"thinking_dropped": SPECIFIED.dropped_odds})


def _interacting(runs: Trajectories) -> Iterator[Row]:
    product = "thinking_dropped x exec_error"
    yield from (row for row in _hazard(runs, _PLANTED) if row.quantity == product)


_Analyses = Callable[[Trajectories], Iterator[Row]]
_AGENTS: dict[str, tuple[Planted, _Analyses, _Analyses | None]] = {
    "randomised": (_RANDOMISED, lambda runs: _hazard(runs, _PLANTED), _randomised),
    "null": (_NULL, _null, None),
    "confounded": (_CONFOUNDED, _confounded, _triggers),
    "330 failures": (replace(SPECIFIED, tasks=165), _dropped, None),
    "1,650 failures": (replace(SPECIFIED, tasks=825), _interacting, None),
}
"""What is planted, analyses whose truth is planted, and those whose truth a large data set tells."""

# ---------------------------------------------------------------------- outcomes alone


def _factors(seed: int, effects: tuple[float, float, float]) -> Iterator[Row]:
    policy, model, both = effects
    truth = {
        "policy=none": policy + both / 2,
        "model=large": model + both / 2,
        "policy=none x model=large": both,
    }
    runs = factorial(seed, policy=policy, model=model, both=both, sd=0.1)
    for row in ablation.factors(runs, ["policy", "model"]).frame.iter_rows(named=True):
        yield _told("factors", row["effect"], row, "difference", truth[row["effect"]])


def _event_study(seed: int, jump: float) -> Iterator[Row]:
    runs, values = jumping(seed, jump=jump)
    found = breakdown.event_study(runs, "exec_error", values, window=(-4, 4))
    for tau in (-3, 0, 3):
        row = found.frame.filter(pl.col("tau") == tau).row(0, named=True)
        yield _told("event_study", f"tau {tau:+d}", row, "effect", jump if tau >= 0 else 0.0)


def _surface(seed: int) -> Iterator[Row]:
    effect = 0.2
    truth = {"toolset": effect**2 / 0.25, "system_prompt": 0.0}
    frame = axes.surface(toolsets(seed, effect)).frame
    for row in frame.filter(pl.col("axis").is_in(list(truth))).iter_rows(named=True):
        yield _told("surface", row["axis"], row, "explained", truth[row["axis"]])


def _components(seed: int) -> Iterator[Row]:
    """The models are these, the tasks a sample: so are the intervals meant."""
    rng = np.random.default_rng(seed)
    models = rng.normal(0, SD["m"], (4, 1, 1))
    of_tasks = rng.normal(0, SD["t"], (1, 1, 60)) + rng.normal(0, SD["mt"], (4, 1, 60))
    truth = {
        "model": float(models.var(ddof=1)),
        "task": SD["t"] ** 2,
        "model x task": SD["mt"] ** 2,
        "residual": SD["e"] ** 2,
    }
    runs = as_runs(scored(rng, models + of_tasks, 2))
    for row in generalization.components(runs, outcome="score").frame.iter_rows(named=True):
        yield _told("components", row["component"], row, "variance", truth[row["component"]])


def _outcomes(seed: int) -> Iterator[Row]:
    yield from _factors(seed, (-0.2, 0.1, -0.15))
    yield from _surface(seed)
    yield from _components(seed)


_OUTCOMES: dict[str, Callable[[int], Iterator[Row]]] = {
    "outcomes": _outcomes,
    "outcomes, null": lambda seed: _factors(seed, (0.0, 0.0, 0.0)),
    "paths": lambda seed: _event_study(seed, 2.0),
    "paths, null": lambda seed: _event_study(seed, 0.0),
}

# ---------------------------------------------------------------------- what is drawn

SETTINGS = (*_AGENTS, *_OUTCOMES)


def truths_of(setting: str, tasks: int = LARGE) -> Truths:
    """What a data set of so many tasks says of each quantity that no parameter states."""
    planted, _, limits = _AGENTS.get(setting, (SPECIFIED, _null, None))
    if limits is None:
        return {}
    rows = limits(simulate(replace(planted, tasks=tasks), seed=10**6))
    return {(row.analysis, row.quantity): row.estimate for row in rows if row.truth is None}


def draw(
    setting: str, seed: int, truths: Truths | None, tasks: int | None = None
) -> list[dict[str, Any]]:
    """One data set: a row per quantity with ``covered``, ``rejected`` (null: no test) and its error.

    Without ``truths``: only what has a planted truth. ``tasks``: other than the setting has.
    """
    if setting in _AGENTS:
        planted, known, limits = _AGENTS[setting]
        planted = replace(planted, tasks=tasks or planted.tasks)
        runs = simulate(planted, seed)
        rows = [*known(runs), *(limits(runs) if limits and truths is not None else ())]
    else:
        rows = _OUTCOMES[setting](seed)
    told: list[dict[str, Any]] = []
    for row in rows:
        truth = row.truth
        if truth is None and truths is not None:
            truth = truths[row.analysis, row.quantity]
        if truth is None:
            continue
        told.append(
            {
                "setting": setting,
                "analysis": row.analysis,
                "quantity": row.quantity,
                "truth": truth,
                "estimate": row.estimate,
                "covered": row.low <= truth <= row.high,
                "rejected": None if row.p is None else row.p < 0.05,
                "is_null": truth == 0,
            }
        )
    return told
