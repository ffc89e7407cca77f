"""What is true of the sample logs: the planted effects, and what happened in every run.

Effects are known from playing the study in one process many more times than it was run, which is
how any estimate from the logs can be judged.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

import perturb
from agent import MODELS
from offline import CALL_LIMIT, POLICIES, Episode, play
from world import Task, all_tasks

FIRST_TRIAL = 1000
"""Trials of the truth begin here, so that none of them is a trial of the study."""
PARAMS = MODELS["planner-1"]
STUDY = "study"
"""The part of the truth that holds the study; each other part is a framework's."""


def planted(trials: int) -> dict[str, Any]:
    """The true effects from ``trials`` plays of every task; a third of them for each perturbation."""
    tasks = all_tasks()
    numbers = range(FIRST_TRIAL, FIRST_TRIAL + trials)
    fewer = numbers[: max(1, trials // 3)]
    played = {
        arm: [play(task, trial, history, PARAMS) for task in tasks for trial in numbers]
        for arm, history in POLICIES.items()
    }
    return {
        "plays_per_arm": len(tasks) * trials,
        "success": {arm: _share(episodes) for arm, episodes in played.items()},
        "hazard_of_failure_at_the_next_step": {
            arm: _hazards(episodes) for arm, episodes in played.items()
        },
        "success_with_one_perturbation": {
            arm: _forced(tasks, fewer, history) for arm, history in POLICIES.items()
        },
    }


def _share(episodes: list[Episode]) -> float:
    return round(sum(episode.success for episode in episodes) / len(episodes), 4)


def _forced(tasks: list[Task], trials: range, history: str) -> dict[str, float]:
    """Success where just one response is perturbed, at a call drawn from the first six; or none."""
    episodes: dict[str, list[Episode]] = defaultdict(list)
    for task in tasks:
        for trial in trials:
            call = random.Random(f"forced/{task.id}/{trial}").randrange(6)
            episodes["none"].append(play(task, trial, history, PARAMS, {}))
            for kind in perturb.KINDS:
                faults = {call: kind}
                episodes[kind].append(play(task, trial, history, PARAMS, faults))
    return {kind: _share(group) for kind, group in episodes.items()}


def _hazards(episodes: list[Episode]) -> dict[str, dict[str, float]]:
    """For each kind of the latest response: how often the next step ends the run in failure."""
    at_risk: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for episode in episodes:
        hits = dict(episode.hits)
        for step in range(1, episode.steps):
            kind = hits.get(step - 1, "none")
            at_risk[kind] += 1
            failed[kind] += not episode.success and step == episode.steps - 1
    hazard = {kind: failed[kind] / at_risk[kind] for kind in ("none", *perturb.KINDS)}
    base = _log_odds(hazard["none"])
    return {
        kind: {
            "hazard": round(share, 4),
            "odds_ratio": round(math.exp(_log_odds(share) - base), 2),
        }
        for kind, share in hazard.items()
    }


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share)) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)


def gather(
    parts: dict[str, Any], trials: int, written: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The truth file's content: what was planted, and the parts that the runners wrote.

    What was ``written`` before stays true for what is not made anew.
    """
    parts = {**(written or {}).get("parts", {}), **parts}
    return {
        "note": "Simulated: real frameworks, a model server of our own, a simulated agent.",
        "seeds": "The agent is seeded by task/trial, perturbations by perturb/task/trial.",
        "call_limit": CALL_LIMIT,
        "parameters": {name: asdict(params) for name, params in MODELS.items()},
        "perturbations": {
            "rate_per_call": perturb.RATE_PER_CALL,
            "weights": perturb.WEIGHTS,
            "null": "stale",
        },
        "planted": written["planted"] if written else planted(trials),
        "parts": {name: parts[name] for name in sorted(parts, key=lambda n: (n != STUDY, n))},
    }


def as_json(truth: dict[str, Any]) -> str:
    """JSON with a line for each run."""
    runs = [run for part in truth["parts"].values() for run in part["runs"]]
    marks = {f'"@{number}@"': json.dumps(run) for number, run in enumerate(runs)}
    numbers = iter(marks)
    parts = {
        name: {**part, "runs": [json.loads(next(numbers)) for _ in part["runs"]]}
        for name, part in truth["parts"].items()
    }
    text = json.dumps({**truth, "parts": parts}, indent=1)
    lines = [_with_run(line, marks) for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _with_run(line: str, marks: dict[str, str]) -> str:
    """The line, or the run whose mark it holds."""
    mark = line.strip().rstrip(",")
    return line.replace(mark, marks[mark]) if mark in marks else line


def as_markdown(truth: dict[str, Any]) -> str:
    """The same for a reader."""
    study = truth["parts"]["study"]["runs"]
    planted_effects = truth["planted"]
    return (
        "\n\n".join(
            [
                "# What is true of these logs",
                "Generated by `generate/make.py`; `truth.json` holds the same and every run. All logs "
                "here are **simulated**: real frameworks ran a simulated agent in a simulated world.",
                "## The study: thinking kept or dropped",
                _study_table(study, planted_effects["success"]),
                "True success is the share over "
                f"{planted_effects['plays_per_arm']} plays in one process. `last` was not run.",
                "## Success with one perturbed response",
                "One of the first six responses is perturbed, all else equal; `stale` is the null.",
                _matrix(planted_effects["success_with_one_perturbation"], str),
                "## Hazard of failure at the step after a perturbed response",
                "Share of such steps that end the run in failure, and its odds ratio against steps "
                "after an unperturbed response (not adjusted for step or task).",
                _matrix(planted_effects["hazard_of_failure_at_the_next_step"], _hazard_cell),
                "## Perturbed responses in the study",
                _perturbation_table(study),
                "## The agent's parameters",
                "```json\n" + json.dumps(truth["parameters"], indent=1) + "\n```",
                "Pairs are (all thinking at hand, none of it). Runs are seeded by task and trial, "
                "whatever the arm: two arms get the same reply for the same request.",
                "## Other frameworks",
                "Thinking blocks before a request, summed over the requests: how many there were, how "
                "many came back as thinking, and how many stood in it as plain text, which the agent "
                "does not take for its thinking. The last column: of the replies, those whose thinking "
                "stands whole in the log.",
                _framework_table(truth["parts"]),
            ]
        )
        + "\n"
    )


def _study_table(runs: list[dict[str, Any]], true_success: dict[str, float]) -> str:
    rows = ["| arm | runs | tasks | success | failed | at the limit | mean steps | true success |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for arm, truth in true_success.items():
        of_arm = [run for run in runs if run["arm"] == arm]
        if not of_arm:
            rows.append(f"| {arm} | 0 | | | | | | {truth} |")
            continue
        outcomes = Counter(run["outcome"] for run in of_arm)
        steps = sum(run["steps"] for run in of_arm) / len(of_arm)
        tasks = len({run["task_id"] for run in of_arm})
        rows.append(
            f"| {arm} | {len(of_arm)} | {tasks} | {outcomes['success'] / len(of_arm):.3f} | "
            f"{outcomes['failure']} | {outcomes['limit']} | {steps:.2f} | {truth} |"
        )
    return "\n".join(rows)


def _matrix(effects: dict[str, dict[str, Any]], cell: Any) -> str:
    kinds = list(next(iter(effects.values())))
    rows = ["| arm | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for arm, row in effects.items():
        rows.append(f"| {arm} | " + " | ".join(cell(row[kind]) for kind in kinds) + " |")
    return "\n".join(rows)


def _hazard_cell(effect: dict[str, float]) -> str:
    return f"{effect['hazard']} ({effect['odds_ratio']})"


def _perturbation_table(runs: list[dict[str, Any]]) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        counts[run["arm"]].update(hit["kind"] for hit in run["perturbations"])
        counts[run["arm"]]["unperturbed runs"] += not run["perturbations"]
    names = [*perturb.KINDS, "unperturbed runs"]
    return _matrix({arm: {n: c[n] for n in names} for arm, c in counts.items()}, str)


def _framework_table(parts: dict[str, Any]) -> str:
    """A row for each arm of the study, and for each style of each framework."""
    rows = [
        "| logs | framework | style | runs | successful | thinking before | sent back | as text | "
        "in the log |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for name, part in parts.items():
        by_style: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for run in part["runs"]:
            by_style[run.get("style") or run.get("arm") or ""].append(run)
        for style, runs in by_style.items():
            rows.append(
                f"| {name} | {part['framework']} {part['version']} | {style} | {_cells(runs)}"
            )
    return "\n".join(rows)


def _cells(runs: list[dict[str, Any]]) -> str:
    keys = ("thinking_available", "thinking_sent", "thinking_as_text")
    counts = [len(runs), sum(run["success"] for run in runs)]
    counts += [sum(sum(run.get(key, [])) for run in runs) for key in keys]
    replies = sum(run["steps"] for run in runs)
    known = [run["thinking_in_log"] for run in runs if "thinking_in_log" in run]
    shown = f"{sum(known)} of {replies}" if len(known) == len(runs) else ""
    return " | ".join(str(count) for count in counts) + f" | {shown} |"
