"""What is true of the sample logs: the planted effects, and what happened in every run.

Effects are known from playing the whole study many more times in one process, which is how any
estimate from the logs can be judged. ``planted`` works that out; ``gather`` puts it together with what
the runners wrote, and ``pages`` tells it to a reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import perturb
import planted
from agent import MODELS
from design import CALL_LIMIT, FIRST_STRIKES, LATER_RATE, SCAFFOLDS, TRIALS, Arm, arms, conditions

STUDY = "study_"
"""How the parts of the truth begin that hold a scaffold of the study; each other is a framework's."""
_LETTERS = {"success": "S", "failure": "F", "limit": "L"}


def gather(
    parts: dict[str, Any], replays: int, written: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The truth file's content: what was planted, and the parts that the runners wrote.

    What was ``written`` before stays true for what is not made anew.
    """
    parts, study = dict(parts), (written or {}).get("study", {"versions": {}, "arms": []})
    versions = dict(study["versions"])
    runs = {_name_of(run): run for run in study_runs({"study": study})}
    for name in [name for name in parts if name.startswith(STUDY)]:
        part = parts.pop(name)
        versions[part["scaffold"]] = part["version"]
        runs |= {_name_of(run): run for run in part["runs"]}
    study = {"versions": versions, "arms": list(_compact(runs))}
    everything = {**(written or {}).get("parts", {}), **parts}
    return {
        "note": "Simulated: real frameworks, a model server of our own, a simulated agent.",
        "seeds": "The agent is seeded by task/trial, in the study by task/trial-model-scaffold; what "
        "is perturbed by task and trial alone.",
        "call_limit": CALL_LIMIT,
        "parameters": {name: asdict(params) for name, params in MODELS.items()},
        "perturbations": {
            "null": perturb.NULL,
            "frameworks": {"rate_per_call": perturb.RATE_PER_CALL, "weights": perturb.WEIGHTS},
            "study": {"first_strike_within": FIRST_STRIKES, "later_rate_per_call": LATER_RATE},
        },
        "scaffolds": SCAFFOLDS,
        "planted": planted.effects(replays) if replays else (written or {})["planted"],
        "study": study,
        "parts": {name: everything[name] for name in sorted(everything)},
    }


def _name_of(run: dict[str, Any]) -> tuple[Arm, str, int]:
    return Arm(*(run[name] for name in Arm._fields)), run["task_id"], run["trial"]


def _compact(runs: dict[tuple[Arm, str, int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An object for each arm, in which every list goes over its tasks and trials."""
    for arm in arms():
        of_arm = [
            runs[arm, task, trial] for task, trial in conditions() if (arm, task, trial) in runs
        ]
        if of_arm:
            yield {
                **arm._asdict(),
                "tasks": list(dict.fromkeys(run["task_id"] for run in of_arm)),
                "outcomes": "".join(_LETTERS[run["outcome"]] for run in of_arm),
                "steps": [run["steps"] for run in of_arm],
                "struck": [run["struck"] for run in of_arm],
            }


def study_runs(truth: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every run of the study as an object: its factors, task and trial, outcome, steps, struck calls."""
    given = conditions()
    names = {letter: outcome for outcome, letter in _LETTERS.items()}
    for arm in truth["study"]["arms"]:
        runs = ((task, trial) for task in arm["tasks"] for trial in range(1, TRIALS + 1))
        lists = zip(runs, arm["outcomes"], arm["steps"], arm["struck"], strict=True)
        for (task, trial), letter, steps, struck in lists:
            yield {
                **{name: arm[name] for name in Arm._fields},
                "perturbation": given[task, trial],
                "task_id": task,
                "trial": trial,
                "outcome": names[letter],
                "success": letter == "S",
                "steps": steps,
                "struck": struck,
            }


def as_json(truth: dict[str, Any]) -> str:
    """JSON with a line for each run of a framework, and for each list of the study."""
    rows = [run for part in truth["parts"].values() for run in part["runs"]]
    lists = [arm[key] for arm in truth["study"]["arms"] for key in ("tasks", "steps", "struck")]
    marks = {f'"@{number}@"': json.dumps(row) for number, row in enumerate([*rows, *lists])}
    numbers = iter(marks)
    parts = {
        name: {**part, "runs": [json.loads(next(numbers)) for _ in part["runs"]]}
        for name, part in truth["parts"].items()
    }
    arms = [
        {**arm, **{key: json.loads(next(numbers)) for key in ("tasks", "steps", "struck")}}
        for arm in truth["study"]["arms"]
    ]
    text = json.dumps(
        {**truth, "study": {**truth["study"], "arms": arms}, "parts": parts}, indent=1
    )
    lines = [_with_row(line, marks) for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _with_row(line: str, marks: dict[str, str]) -> str:
    """The line, or the row whose mark it holds."""
    mark = line.rpartition(": ")[2].strip().rstrip(",")
    return line.replace(mark, marks[mark]) if mark in marks else line
