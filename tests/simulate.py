"""Runs with planted effects, as tables: what an estimator must find, and what it must not.

Each task has a difficulty; at each step a run may fail (log odds of the planted effects), succeed
(a competing end), or go on. Exposures vary in time. What has only outcomes is in ``simulate_outcomes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from loaders import Trajectories
from loaders.schema import TABLES


@dataclass(frozen=True)
class Planted:
    """True parameters; odds ratios per step, rates per step."""

    tasks: int = 60
    runs: int = 4
    steps: int = 12
    task_sd: float = 0.8
    error_rate: float = 0.08
    error_odds: float = 2.5
    empty_rate: float = 0.0
    empty_odds: float = 1.5
    null_rate: float = 0.05
    dropped_odds: float = 1.0
    """Of every call of the odd trials whose request lacks thinking: all but the first."""
    dropped_and_error_odds: float = 1.0
    """By which one multiplies the other's odds ratio."""
    arms: bool = False
    """Whether odd trials drop thinking although it does nothing (``dropped_odds`` of 1)."""
    confounding: float = 0.0
    """How much more often a harder task meets each tool exposure (log rate per unit of difficulty)."""


SPECIFIED = Planted(
    tasks=100,
    empty_rate=0.05,
    dropped_odds=1.8,
    dropped_and_error_odds=1.6,
)
"""All effects at once, as estimators are calibrated: tasks of sd .8 with 4 runs; errors in 8 % of steps
(odds of failing 2.5), empty responses in 5 % (1.5), a null in 5 %, thinking dropped in every other run
(1.8), by which an error does 1.6 times the harm; success ends runs too."""


def simulate(planted: Planted, seed: int) -> Trajectories:
    """Runs in which a returned error (``exec_error``) may do harm and a timeout (null) does none."""
    rng = np.random.default_rng(seed)
    runs: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    events: list[dict[str, object]] = []
    for task in range(planted.tasks):
        difficulty = rng.normal(0, planted.task_sd)
        more = math.exp(planted.confounding * difficulty)
        error_rate, empty_rate, null_rate = (
            min(0.6, rate * more)
            for rate in (planted.error_rate, planted.empty_rate, planted.null_rate)
        )
        for trial in range(planted.runs):
            run = len(runs)
            name = f"run-{run}"
            seq, step, success, effect, had_error = 0, 0, False, 0.0, False
            is_cut_off = False
            is_arm = (planted.arms or planted.dropped_odds != 1) and trial % 2 == 1
            for step in range(planted.steps):
                is_dropped = is_arm and step > 0
                steps.append(
                    {
                        "run": run,
                        "trajectory_id": name,
                        "step": step,
                        "seq": seq,
                        "thinking": "text",
                        "thinking_available": step,
                        "thinking_sent": 0 if is_dropped else step,
                        "evidence": "request",
                        "history_edit": "thinking_dropped" if is_dropped else "none",
                    }
                )
                if is_dropped:
                    both = math.log(planted.dropped_and_error_odds) if had_error else 0.0
                    effect += math.log(planted.dropped_odds) + both
                hazard = 1 / (1 + math.exp(2.9 - 1.0 * difficulty - effect))
                draw = rng.random()
                is_cut_off = draw >= hazard and step == planted.steps - 1
                if draw < hazard or is_cut_off:
                    break
                if step > 2 and draw > 0.88:
                    success = True
                    break
                is_error, is_null = rng.random() < error_rate, rng.random() < null_rate
                is_empty = empty_rate > 0 and rng.random() < empty_rate
                effect = math.log(planted.error_odds) if is_error else 0.0
                effect += math.log(planted.empty_odds) if is_empty else 0.0
                had_error = is_error
                events.append(
                    {
                        "run": run,
                        "trajectory_id": name,
                        "seq": seq,
                        "step": step,
                        "kind": "tool_call",
                        "tool": "get_item",
                        "arguments": f'{{"n":{step}}}',
                    }
                )
                for text, code in (("fine", 0), ("bad", 1), ("slow", 124), ("", None)):
                    is_fine = not (is_error or is_null or is_empty)
                    if (
                        (text == "fine" and is_fine)
                        or (code == 1 and is_error)
                        or (code == 124 and is_null)
                        or (text == "" and is_empty)
                    ):
                        seq += 1
                        events.append(
                            {
                                "run": run,
                                "trajectory_id": name,
                                "seq": seq,
                                "step": step,
                                "kind": "tool_result",
                                "tool": "get_item",
                                "text": f"{text} {seq}" if text else "",
                                "exit_code": code,
                                "call_seq": seq - 1,
                            }
                        )
                seq += 1
            runs.append(
                {
                    "run": run,
                    "trajectory_id": name,
                    "task_id": f"task-{task}",
                    "trial": str(trial),
                    "arm": "dropped" if is_arm else "kept",
                    "success": success,
                    "outcome": "success" if success else "limit" if is_cut_off else "failure",
                    "steps": step + 1,
                    "format": "simulated",
                }
            )
    tables = {"trajectories": runs, "steps": steps, "events": events, "tools": [], "problems": []}
    return Trajectories.from_frames(
        {name: pl.DataFrame(rows, schema=TABLES[name]) for name, rows in tables.items()}
    )
