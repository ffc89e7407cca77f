"""The study's design: which runs there are, and what each of them meets.

Policy x model x scaffold are fully crossed, and every arm runs the same tasks and trials. Each task and
trial is given one condition, alike in every arm: one of a task's four trials meets no perturbation, and
the other three meet one kind each, so that ``perturbation`` is a factor that tasks balance and pairs of
runs share. Within a run its kind strikes at calls drawn beforehand.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import perturb
from world import Task, all_tasks

POLICIES = ("all", "last", "none")
"""How much of its earlier thinking is sent back to the agent."""
SYSTEM = (
    "You work at a service desk. Use the tools, one call at a time, and hand in your answer with "
    "submit. You have one attempt."
)
SCAFFOLDS = {
    "inspect": SYSTEM,
    "openai_agents": f"{SYSTEM} Before that, check that every part of the request is done.",
}
"""Scaffold to its system prompt: one of them gives advice, which the agent heeds."""
TRIALS = 4
CALL_LIMIT = 16
"""Calls that are carried out; the one after them is still asked for, and ends the run."""
NONE = "none"
CONDITIONS = (NONE, *perturb.KINDS)
FIRST_STRIKES = 5
"""The first strike comes at one of so many first calls, which every task takes."""
LATER_RATE = 0.25
"""Of every later call, whatever came before it."""


class Arm(NamedTuple):
    """What differs between runs of the same task and trial."""

    policy: str
    model: str
    scaffold: str


def arms(models: tuple[str, ...] = ("planner-1", "planner-2")) -> list[Arm]:
    """Every combination of policy, model and scaffold."""
    return [Arm(*levels) for levels in itertools.product(POLICIES, models, SCAFFOLDS)]


def conditions() -> dict[tuple[str, int], str]:
    """Task and trial (from 1) to the condition of its run.

    Kinds go round over the tasks, whose order is by domain and difficulty; the null has a few more
    runs than the others, because nothing is all that it has to show.
    """
    order = sorted(perturb.KINDS, key=lambda kind: random.Random(f"order/{kind}").random())
    rounds = [order * 4 + [perturb.NULL]] * 4
    kinds = iter([kind for part in rounds for kind in part])
    found: dict[tuple[str, int], str] = {}
    for number, task in enumerate(all_tasks()):
        for trial in range(1, TRIALS + 1):
            is_plain = trial == number % TRIALS + 1
            found[task.id, trial] = NONE if is_plain else next(kinds)
    return found


def strikes(task: Task, trial: int, kind: str) -> dict[int, str]:
    """Number of the tool call (from 0, submitting apart) to the kind that strikes it."""
    if kind == NONE:
        return {}
    rng = random.Random(f"strikes/{task.id}/{trial}")
    first = rng.randrange(FIRST_STRIKES)
    later = [call for call in range(first + 1, CALL_LIMIT) if rng.random() < LATER_RATE]
    return dict.fromkeys([first, *later], kind)


def draw(trial: int, model: str, scaffold: str) -> str:
    """What seeds the agent beside the task: alike for all policies, and for nothing else."""
    return f"{trial}-{model}-{scaffold}"
