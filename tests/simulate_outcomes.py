"""Outcomes with planted effects, for what looks at them alone: factors, paths, components, axes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from small import runs_of

from loaders import Trajectories
from loaders.schema import TABLES

SD = {"m": 0.5, "s": 0.3, "t": 0.8, "ms": 0.2, "mt": 0.4, "st": 0.3, "mst": 0.25, "e": 0.6}


def effects(
    rng: np.random.Generator, models: int, scaffolds: int, tasks: int
) -> NDArray[np.float64]:
    """Expected scores by model, scaffold and task, from random effects with the planted ``SD``."""
    shapes = {
        "m": (models, 1, 1), "s": (1, scaffolds, 1), "t": (1, 1, tasks),
        "ms": (models, scaffolds, 1), "mt": (models, 1, tasks), "st": (1, scaffolds, tasks),
        "mst": (models, scaffolds, tasks),
    }  # fmt: skip
    drawn = [rng.normal(0, SD[name], shape) for name, shape in shapes.items()]
    return np.asarray(sum(drawn))


def scored(
    rng: np.random.Generator, expected: NDArray[np.float64], trials: int, keep: float = 1.0
) -> pl.DataFrame:
    """A row per run; ``keep``: the share of runs that is kept, at random."""
    m, s, t, k = np.indices((*expected.shape, trials)).reshape(4, -1)
    score = expected[m, s, t] + rng.normal(0, SD["e"], m.size)
    table = pl.DataFrame({"m": m, "s": s, "t": t, "k": k, "score": score})
    return table.filter(pl.Series(rng.random(m.size) < keep))


def as_runs(table: pl.DataFrame) -> Trajectories:
    rows: list[dict[str, Any]] = [
        {"run": n, "model": f"m{m}", "framework": f"s{s}", "task_id": f"t{t}", "score": score}
        for n, (m, s, t, score) in enumerate(table.select("m", "s", "t", "score").iter_rows())
    ]
    return runs_of(rows)


def factorial(
    seed: int,
    tasks: int = 60,
    trials: int = 4,
    policy: float = -0.2,
    model: float = 0.1,
    both: float = -0.15,
    sd: float = 0.15,
    drop: int = 0,
) -> Trajectories:
    """Two by two: success is .6 + effects + the task's own level; the first ``drop`` tasks lack a cell."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for task in range(tasks):
        level = rng.normal(0, sd)
        for (p, m), trial in itertools.product(itertools.product((0, 1), (0, 1)), range(trials)):
            if task < drop and p and m:
                continue
            chance = min(max(0.6 + level + policy * p + model * m + both * p * m, 0), 1)
            rows.append(
                {
                    "run": len(rows),
                    "trajectory_id": f"r{len(rows)}",
                    "task_id": f"t{task}",
                    "trial": str(trial),
                    "success": bool(rng.random() < chance),
                    "policy": ["all", "none"][p],
                    "model": ["base", "large"][m],
                }
            )
    schema = {**TABLES["trajectories"], "policy": pl.String}
    frames = {name: pl.DataFrame(schema=table) for name, table in TABLES.items()}
    return Trajectories.from_frames({**frames, "trajectories": pl.DataFrame(rows, schema=schema)})


def jumping(
    seed: int,
    jump: float = 2.0,
    trend: float = 0.0,
    tasks: int = 30,
    runs: int = 4,
    steps: int = 16,
) -> tuple[Trajectories, pl.DataFrame]:
    """Runs that meet an error at a random call or never; then their value jumps. ``trend``: already
    before it, the value of runs that will meet it rises by so much a call."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
    values: list[dict[str, object]] = []
    for task in range(tasks):
        path = np.cumsum(rng.normal(0, 1, steps))  # what all runs of a task share
        for trial in range(runs):
            run = len(rows["trajectories"])
            name = f"r{run}"
            meets = int(rng.integers(6, 12)) if rng.random() < 0.6 else None
            level = rng.normal(0, 3)
            for step in range(steps):
                seq = 2 * step
                rows["steps"].append({"run": run, "trajectory_id": name, "step": step, "seq": seq})
                event = {"run": run, "trajectory_id": name, "step": step, "tool": "look"}
                failed = meets is not None and step == meets - 1
                arguments = f'{{"n":{step}}}'
                rows["events"] += [
                    {**event, "seq": seq, "kind": "tool_call", "arguments": arguments},
                    {
                        **event,
                        "seq": seq + 1,
                        "kind": "tool_result",
                        "text": f"answer {step}",
                        "call_seq": seq,
                        "is_error": failed,
                    },
                ]
                value = path[step] + level + rng.normal(0, 0.5)
                if meets is not None:
                    value += trend * step + jump * (step >= meets)
                values.append({"run": run, "step": step, "value": value})
            rows["trajectories"].append(
                {
                    "run": run,
                    "trajectory_id": name,
                    "task_id": f"t{task}",
                    "trial": str(trial),
                    "steps": steps,
                }
            )
    frames = {name: pl.DataFrame(table, schema=TABLES[name]) for name, table in rows.items()}
    return Trajectories.from_frames(frames), pl.DataFrame(values)


def toolsets(
    seed: int, effect: float, tasks: int = 40, each: int = 4, chance: float = 0.5
) -> Trajectories:
    """Tool set B costs ``2 * effect`` of success; the system prompt varies too and does nothing."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for task in range(tasks):
        for toolset, sign in (("A", 1), ("B", -1)):
            for prompt in ("S1", "S2"):
                for _ in range(each):
                    success = bool(rng.random() < chance + sign * effect)
                    rows.append(
                        {
                            "task_id": str(task),
                            "toolset": toolset,
                            "system_prompt": prompt,
                            "user_prompt": f"u{task}",
                            "environment": "e",
                            "model": "m",
                            "success": success,
                        }
                    )
    return runs_of([{"run": n, **row} for n, row in enumerate(rows)])
