"""How long each click in a widget takes, on a store of a million events.

    uv run python benchmarks/widgets.py [--events 1000000] [--study "sample_logs/study"]

A synthetic store is written to a temporary folder and scanned; then each callback is called as the
browser would call it. What is printed is seconds per click and the peak memory of the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

import loaders
from loaders import Trajectories
from loaders.schema import TABLES

TOOLS = ("search_orders", "get_order", "list_items", "update_order", "read_file", "run_query")
PER_STEP = 3


def synthetic(events: int, seed: int = 0) -> Trajectories:
    """Runs of 16 calls each: thinking, a tool call and its result per call, in 2 arms of 4 trials."""
    rng = np.random.default_rng(seed)
    steps = 16
    per_run = 2 + PER_STEP * steps
    runs = max(8, events // per_run)
    run = np.arange(runs)
    arms, trials = np.array(["dropped", "kept"])[run % 2], (run // 2) % 4
    tasks = run // 8
    success = rng.random(runs) < np.where(arms == "kept", 0.7, 0.45)
    trajectories = pl.DataFrame(
        {
            "run": run,
            "trajectory_id": [f"run-{n:06d}" for n in run],
            "source": "synthetic",
            "format": "synthetic",
            "model": np.array(["small", "large"])[tasks % 2],
            "task_id": [f"task-{n:05d}" for n in tasks],
            "trial": trials.astype(str),
            "arm": arms,
            "outcome": np.where(success, "success", "failure"),
            "success": success,
            "steps": steps,
            "events": per_run,
        }
    )
    step = np.tile(np.arange(steps), runs)
    of_run = np.repeat(run, steps)
    available = step
    dropped = (of_run % 2 == 0) & (step > 0)
    steps_table = pl.DataFrame(
        {
            "run": of_run,
            "trajectory_id": [f"run-{n:06d}" for n in of_run],
            "step": step,
            "seq": 2 + PER_STEP * step,
            "thinking": "text",
            "thinking_available": available,
            "thinking_sent": np.where(dropped, 0, available),
            "evidence": "request",
            "history_edit": np.where(dropped, "thinking_dropped", "none"),
        }
    )
    total = runs * per_run
    of_event = np.repeat(run, per_run)
    seq = np.tile(np.arange(per_run), runs)
    at = (seq - 2) % PER_STEP
    kind = np.where(
        seq == 0, "system",
        np.where(seq == 1, "user", np.array(["thinking", "tool_call", "tool_result"])[at]),
    )  # fmt: skip
    tool_number = rng.integers(0, len(TOOLS), total)
    tool_number = np.where(kind == "tool_result", np.roll(tool_number, 1), tool_number)
    is_tool = np.isin(kind, ["tool_call", "tool_result"])
    broken = (kind == "tool_result") & (rng.random(total) < 0.06)
    words = np.array(["status: shipped", "no such order", "the total is 312.50", "line 4: ok"])
    text = np.char.add(
        np.char.add("record ", rng.integers(0, 9_999, total).astype(str)), " of the day, "
    )
    text = np.char.add(text, words[rng.integers(0, len(words), total)])
    text = np.char.multiply(text, rng.integers(1, 8, total))
    events_table = pl.DataFrame(
        {
            "run": of_event,
            "trajectory_id": pl.Series(of_event).cast(pl.String).str.zfill(6),
            "seq": seq,
            "step": np.where(seq < 2, -1, (seq - 2) // PER_STEP),
            "kind": kind,
            "text": np.where(broken, "Error: connection refused", text),
            "tool": np.array(TOOLS)[tool_number],
            "arguments": np.char.add(np.char.add('{"n": ', (seq % 7 + of_event // 8).astype(str)), "}"),
            "call_seq": seq - 1,
            "is_error": broken,
        }
    ).with_columns(
        pl.format("run-{}", "trajectory_id").alias("trajectory_id"),
        pl.when(pl.col("step") >= 0).then("step").alias("step"),
        pl.when(pl.lit(pl.Series(is_tool))).then("tool").alias("tool"),
        pl.when(pl.col("kind") == "tool_call").then("arguments").alias("arguments"),
        pl.when(pl.col("kind") == "tool_call").then(None).otherwise("text").alias("text"),
        pl.when(pl.col("kind") == "tool_result").then("call_seq").alias("call_seq"),
        pl.when(pl.col("kind") == "tool_result").then("is_error").alias("is_error"),
    )  # fmt: skip
    given = {"trajectories": trajectories, "steps": steps_table, "events": events_table}
    frames: dict[str, pl.DataFrame] = {}
    for name, schema in TABLES.items():
        table = given.get(name, pl.DataFrame())
        frames[name] = table.select(
            (pl.col(c) if c in table.columns else pl.lit(None)).cast(dtype).alias(c)
            for c, dtype in schema.items()
        ) if table.width else pl.DataFrame(schema=schema)  # fmt: skip
    return Trajectories.from_frames(frames)


@contextmanager
def stored(events: int) -> Iterator[Trajectories]:
    """The synthetic runs, saved and scanned again."""
    with tempfile.TemporaryDirectory() as folder:
        yield loaders.scan(synthetic(events).save(Path(folder) / "store"))
