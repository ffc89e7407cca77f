"""What the study's two runners share: which runs to make, how logs are packed, and their truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from design import CONDITIONS, POLICIES, TRIALS, Arm, arms, conditions, strikes
from visit import Visit
from world import Task, all_tasks

MARK = {"simulated": True, "study": "thinking sent back and broken tool responses"}
"""Metadata of every log: no real model is in it."""


class Run(NamedTuple):
    """One run of the study."""

    arm: Arm
    task: Task
    trial: int
    kind: str

    def visit(self) -> Visit:
        """The run's own desk, with the strikes that it will meet."""
        return Visit(self.task, self.trial, strikes(self.task, self.trial, self.kind))


def options(description: str | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path, help="folder to write study/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks only")
    parser.add_argument(
        "--policies", nargs="+", choices=POLICIES, default=POLICIES, help="to make some arms only"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=CONDITIONS, default=CONDITIONS, help="to make some logs only"
    )
    return parser.parse_args()


def runs_of(scaffold: str, asked: argparse.Namespace) -> Iterator[Run]:
    """The runs of one scaffold: arm by arm, tasks and trials in their order."""
    given = conditions()
    for arm in arms():
        if arm.scaffold == scaffold and arm.policy in asked.policies:
            for task in all_tasks()[: asked.limit]:
                for trial in range(1, TRIALS + 1):
                    if given[task.id, trial] in asked.kinds:
                        yield Run(arm, task, trial, given[task.id, trial])


def log_path(out: Path, arm: Arm, kind: str, ending: str) -> Path:
    """Where the runs of an arm that meet that condition are logged: every factor is in the path."""
    return out / "study" / arm.policy / arm.model / arm.scaffold / f"{kind}{ending}"


def clear(out: Path, scaffold: str, asked: argparse.Namespace) -> None:
    """Take away the logs that are about to be made anew."""
    for policy in asked.policies:
        for old in (out / "study" / policy).glob(f"*/{scaffold}/*"):
            if old.name.partition(".")[0] in asked.kinds:
                old.unlink()


def thinking_due(policy: str, replies: int) -> list[int]:
    """For each of so many requests, how many earlier replies' thinking the policy sends back."""
    sent = {"all": lambda n: n, "last": lambda n: min(n, 1), "none": lambda n: 0}
    return [sent[policy](number) for number in range(replies)]


def truth_of(run: Run, visit: Visit, steps: int, is_limit: bool) -> dict[str, Any]:
    """What is true of a run: how it ended, after how many model calls, and which calls were struck."""
    outcome = "limit" if is_limit else "success" if visit.success else "failure"
    struck = [hit["step"] for hit in visit.hits]
    return {
        **run.arm._asdict(),
        "perturbation": run.kind,
        "task_id": run.task.id,
        "trial": run.trial,
        "outcome": outcome,
        "steps": steps,
        "struck": struck,
    }


def write_part(out: Path, scaffold: str, version: str, runs: list[dict[str, Any]]) -> None:
    """Write a scaffold's part of the truth, which ``make.py`` puts together with the others."""
    folder = out / "truth_parts"
    folder.mkdir(parents=True, exist_ok=True)
    part = {"scaffold": scaffold, "version": version, "runs": runs}
    made = "_".join(sorted({run["policy"] for run in runs}))
    (folder / f"study_{scaffold}_{made}.json").write_text(json.dumps(part), encoding="utf-8")
