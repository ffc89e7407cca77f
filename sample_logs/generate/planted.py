"""The planted effects: the whole study played many more times, and counted.

Success is counted for each policy, model, scaffold and condition. Hazards are of ending in failure at a
model call: after a response that was struck against after one that was not, within strata of step,
model and scaffold (Mantel-Haenszel). Over all calls they are what a hazard model should find; over the
calls up to the first strike they are the effect of a strike alone, for what was struck before still
harms later calls of the same run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import perturb
from design import CONDITIONS, NONE, POLICIES, TRIALS, Arm, arms, conditions
from offline import Episode, play_arm
from world import all_tasks

EXPLICIT = ("returned_error", "raised_error", "timeout")
"""Kinds that say that the call failed: what the planted interaction with thinking is told for."""


class Step(NamedTuple):
    """A model call that follows a response, and whether the run ends there in failure."""

    arm: Arm
    step: int
    after: str
    """The kind that struck the response, or none."""
    fails: bool
    is_struck_before: bool
    """Whether an earlier response than the latest was struck."""


def effects(replays: int) -> dict[str, Any]:
    """The true effects, from so many replays of the whole study with other draws."""
    played: Counter[tuple[Arm, str]] = Counter()
    solved: Counter[tuple[Arm, str]] = Counter()
    steps: Counter[Step] = Counter()
    for arm, kind, episode in _plays(replays):
        played[arm, kind] += 1
        solved[arm, kind] += episode.success
        steps.update(_steps(arm, episode))
    return {
        "replays": replays,
        "runs": sum(played.values()),
        "success": _rates(played, solved),
        "hazard": {
            "at_a_call": {p: _hazards(steps, p) for p in POLICIES},
            "odds_ratios": _odds_ratios(steps),
            "odds_ratios_of_the_first_strike": _odds_ratios(
                Counter({s: count for s, count in steps.items() if not s.is_struck_before})
            ),
        },
    }


def _plays(replays: int) -> Iterator[tuple[Arm, str, Episode]]:
    given = conditions()
    for replay in range(1, replays + 1):
        for task in all_tasks():
            for trial in range(1, TRIALS + 1):
                kind = given[task.id, trial]
                for arm in arms():
                    yield arm, kind, play_arm(task, trial + TRIALS * replay, arm, kind)


def _steps(arm: Arm, episode: Episode) -> Iterator[Step]:
    hits = dict(episode.hits)
    for step in range(1, episode.steps):
        ends = step == episode.steps - 1 and episode.outcome == "failure"
        is_struck_before = any(hit < step - 1 for hit in hits)
        yield Step(arm, step, hits.get(step - 1, NONE), ends, is_struck_before)


def _rates(played: Counter[tuple[Arm, str]], solved: Counter[tuple[Arm, str]]) -> Any:
    """Success of each cell, and over all conditions and arms as the study mixes them."""
    groups: dict[str, Callable[[Arm, str], str]] = {
        "policy": lambda arm, kind: arm.policy,
        "model": lambda arm, kind: arm.model,
        "scaffold": lambda arm, kind: arm.scaffold,
        "perturbation": lambda arm, kind: kind,
        "policy/perturbation": lambda arm, kind: f"{arm.policy}/{kind}",
        "policy/model": lambda arm, kind: f"{arm.policy}/{arm.model}",
        "policy/model/scaffold": lambda arm, kind: "/".join(arm),
    }
    found: dict[str, dict[str, float]] = {}
    for name, group_of in groups.items():
        runs: Counter[str] = Counter()
        good: Counter[str] = Counter()
        for (arm, kind), count in played.items():
            runs[group_of(arm, kind)] += count
            good[group_of(arm, kind)] += solved[arm, kind]
        found[name] = {group: round(good[group] / runs[group], 4) for group in runs}
    return found


def _hazards(steps: Counter[Step], policy: str) -> dict[str, float]:
    at_risk: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for step, count in steps.items():
        if step.arm.policy == policy:
            at_risk[step.after] += count
            failed[step.after] += count * step.fails
    return {kind: round(failed[kind] / at_risk[kind], 4) for kind in CONDITIONS if at_risk[kind]}


def _odds_ratios(steps: Counter[Step]) -> dict[str, Any]:
    """Of each kind under each policy, of dropping thinking where nothing was struck, and of both."""
    found: dict[str, Any] = {}
    for policy in POLICIES:
        found[policy] = {
            kind: _pooled(
                steps,
                lambda s, kind=kind, policy=policy: (
                    s.after == kind if s.arm.policy == policy and s.after in (NONE, kind) else None
                ),
            )
            for kind in perturb.KINDS
        }
        found[policy]["explicit error"] = _pooled(
            steps,
            lambda s, policy=policy: (
                s.after != NONE if s.arm.policy == policy and s.after in (NONE, *EXPLICIT) else None
            ),
        )
    found["thinking dropped"] = _pooled(
        steps,
        lambda s: s.arm.policy == "none" if s.arm.policy != "last" and s.after == NONE else None,
    )
    error = "explicit error"
    found["dropped x explicit error"] = round(found["none"][error] / found["all"][error], 2)
    return found


def _pooled(steps: Counter[Step], exposed: Callable[[Step], bool | None]) -> float:
    """Mantel-Haenszel odds ratio of failing; ``exposed`` is None where a call is not compared."""
    strata: dict[Any, Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for step, count in steps.items():
        is_exposed = exposed(step)
        if is_exposed is not None:
            key = step.step, step.arm.model, step.arm.scaffold
            strata[key][is_exposed, step.fails] += count
    up = down = 0.0
    for cells in strata.values():
        total = sum(cells.values())
        up += cells[True, True] * cells[False, False] / total
        down += cells[True, False] * cells[False, True] / total
    return round(up / down, 2) if down else math.inf
