"""A store of simulated runs, as large as asked: what the benchmarks of the analyses read.

Runs of 10 to 60 model calls over 500 tasks; each call thinks, calls a tool and gets a response. About
one response in twelve is broken, in one of eight ways. In half of the runs earlier thinking is not
sent back, which makes a broken response repeat its call and the run fail more often. Everything is
drawn by NumPy and put together by Polars, a block of runs at a time.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loaders import Trajectories
from loaders.schema import EVENTS, PROBLEMS, STEPS, TABLES, TOOLS, TRAJECTORIES

EVENTS_PER_RUN = 107
_BLOCK = 4_000
_TASKS = 500
_TOOLS = ("get_order", "search_items", "read_file", "run_command", "update_order")
_BROKEN = (
    "Error: the request timed out after 30 seconds.",
    'Traceback (most recent call last):\n  File "tool.py", line 3, in call\nValueError: bad id',
    "Error: 429 too many requests, retry later",
    '{"error": "no such order", "status": "failed"}',
    "",
    '{"id": 12, "items": [{"sku": "A-1", "n": 2}, {"sku": "B',
    "HTTP 503: service unavailable",
    "the first lines of the table\n[output truncated]",
)
_WORDS = [
    "the",
    "order",
    "of",
    "item",
    "shelf",
    "north",
    "box",
    "ready",
    "number",
    "with",
    "a",
    "note",
    "from",
    "desk",
    "today",
    "and",
    "open",
    "line",
]


def make(folder: Path, events: int, seed: int = 0) -> Path:
    """A store of about so many events in ``folder``; one that is there already is taken as it is."""
    if folder.exists():
        return folder
    rng = np.random.default_rng(seed)
    texts = _texts(rng)
    runs = max(1, events // EVENTS_PER_RUN)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for first in range(0, runs, _BLOCK):
            block = _block(rng, first, min(_BLOCK, runs - first), texts)
            for name, frame in block.items():
                place = Path(scratch) / name
                place.mkdir(exist_ok=True)
                frame.write_parquet(place / f"{first:012}.parquet", compression_level=1)
        tables = {
            name: pl.scan_parquet(sorted((Path(scratch) / name).glob("*.parquet")))
            for name in TABLES
        }
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        Trajectories(tables).save(unfinished)
        unfinished.rename(folder)
    return folder


def _texts(rng: np.random.Generator) -> pl.Series:
    """Responses as tools give them: half JSON of the same keys, half lines of words."""
    texts: list[str] = []
    for number in range(4_000):
        words = " ".join(rng.choice(_WORDS, rng.integers(20, 160)))
        is_json = number % 2 == 0
        texts.append(
            f'{{"id": #, "state": "open", "note": "{words}"}}' if is_json else f"#: {words}"
        )
    return pl.Series(texts)


def _numbered(texts: pl.Series, block: int) -> pl.Series:
    """No two texts alike, as in real logs, so that a dictionary can't stand for them."""
    table = pl.DataFrame({"text": texts}).with_row_index("n")
    parts = pl.col("text").str.splitn("#", 2).struct
    number = pl.format("{}", pl.col("n").cast(pl.Int64) + block * 64)
    return table.select(
        pl.concat_str(parts.field("field_0"), number, parts.field("field_1"))
    ).to_series()


def _block(
    rng: np.random.Generator, first: int, runs: int, texts: pl.Series
) -> dict[str, pl.DataFrame]:
    run = np.arange(first, first + runs)
    task = rng.integers(0, _TASKS, runs)
    difficulty = np.random.default_rng(7).normal(0, 0.8, _TASKS)[task]
    is_dropped = run % 2 == 1
    steps = rng.integers(10, 61, runs)
    of = np.repeat(np.arange(runs), steps)
    step = np.arange(of.size) - np.repeat(np.cumsum(steps) - steps, steps)
    broken = rng.random(of.size) < 1 / 12
    kind = rng.integers(0, len(_BROKEN), of.size)
    after = np.roll(broken, 1) & (step > 0)
    repeats = (step > 0) & (rng.random(of.size) < np.where(after, 0.3 + 0.3 * is_dropped[of], 0.04))
    tool = rng.integers(0, len(_TOOLS), of.size)
    argument = rng.integers(0, 400, of.size)
    kept = np.maximum.accumulate(np.where(repeats, 0, np.arange(of.size)))
    tool, argument = tool[kept], argument[kept]
    met = np.bincount(of, weights=broken, minlength=runs)
    odds = 0.8 - difficulty - (0.12 + 0.15 * is_dropped) * met
    success = rng.random(runs) < 1 / (1 + np.exp(-odds))
    text = _numbered(texts.gather(rng.integers(0, len(texts), of.size)), first)
    wrong = pl.Series(_BROKEN).gather(kind)
    names = pl.Series([f"run-{n:09}" for n in run])
    calls: dict[str, Any] = {
        "of": of, "step": step, "run": run[of], "trajectory_id": names.gather(of),
        "dropped": is_dropped[of], "tool": pl.Series(_TOOLS).gather(tool), "argument": argument,
        "broken": broken, "wrong": wrong, "text": text, "chars": rng.integers(20, 200, of.size),
        "is_error": broken & (kind % 3 == 0),
    }  # fmt: skip
    table = pl.DataFrame(calls)
    return {
        "trajectories": _trajectories(run, names, task, is_dropped, steps, success),
        "steps": _steps(table),
        "events": _events(table),
        "tools": pl.DataFrame(schema=TOOLS),
        "problems": pl.DataFrame(schema=PROBLEMS),
    }


def _filled(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )


def _trajectories(
    run: np.ndarray, names: pl.Series, task: np.ndarray, is_dropped: np.ndarray,
    steps: np.ndarray, success: np.ndarray,
) -> pl.DataFrame:  # fmt: skip
    frame = pl.DataFrame(
        {
            "run": run, "trajectory_id": names, "source": "simulated", "format": "simulated",
            "framework": "simulated", "model": pl.Series(["small", "large"]).gather(run // 2 % 2),
            "benchmark": "desk", "task_id": pl.Series([f"task-{n:03}" for n in range(_TASKS)]).gather(task),
            "arm": pl.Series(["kept", "dropped"]).gather(is_dropped.astype(np.int64)),
            "outcome": pl.Series(["failure", "success"]).gather(success.astype(np.int64)),
            "success": success, "steps": steps, "events": 3 * steps + 1,
            "toolset": "t", "system_prompt": "s", "environment": "e",
            "user_prompt": pl.Series([f"prompt {n}" for n in range(_TASKS)]).gather(task),
            "input_tokens": 900 * steps, "output_tokens": 90 * steps,
        }
    )  # fmt: skip
    return _filled(frame, TRAJECTORIES)


def _steps(table: pl.DataFrame) -> pl.DataFrame:
    step = pl.col("step")
    is_cut = pl.col("dropped") & (step > 0)
    frame = table.select(
        "run", "trajectory_id", "step",
        (3 * step + 1).alias("seq"),
        pl.lit(900, pl.Int64).alias("input_tokens"),
        (60 + pl.col("chars") // 4).alias("output_tokens"),
        pl.lit("text").alias("thinking"),
        pl.col("chars").alias("thinking_chars"),
        step.alias("thinking_available"),
        pl.when(is_cut).then(0).otherwise(step).alias("thinking_sent"),
        pl.lit("request").alias("evidence"),
        pl.when(is_cut).then(pl.lit("thinking_dropped")).otherwise(pl.lit("none")).alias("history_edit"),
        pl.lit("t").alias("toolset"),
    )  # fmt: skip
    return _filled(frame, STEPS)


def _events(table: pl.DataFrame) -> pl.DataFrame:
    """One user event before each run's calls, then thinking, call and response of each."""
    seconds = pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    began = seconds + pl.duration(seconds=pl.col("run") * 7 + pl.col("step") * 5, time_unit="us")
    keyed = table.select("of", "run", "trajectory_id", "step", began.alias("started_at"), "tool", "argument",
                         "broken", "wrong", "text", "chars", "is_error")  # fmt: skip
    seq = 3 * pl.col("step")
    user = keyed.filter(pl.col("step") == 0).select(
        "run", "trajectory_id", pl.lit(0, pl.Int64).alias("seq"), pl.lit(None, pl.Int64).alias("step"),
        pl.lit("user").alias("kind"), pl.lit("Please see to the order.").alias("text"), "started_at",
    )  # fmt: skip
    thinking = keyed.select(
        "run", "trajectory_id", (seq + 1).alias("seq"), "step", pl.lit("thinking").alias("kind"),
        pl.lit("text").alias("thinking_state"),
        pl.format("I should look at {} next, and then at what it says.", "argument").alias("text"), "started_at",
    )  # fmt: skip
    call = keyed.select(
        "run", "trajectory_id", (seq + 2).alias("seq"), "step", pl.lit("tool_call").alias("kind"), "tool",
        pl.concat_str(pl.lit('{"id": '), pl.col("argument"), pl.lit("}")).alias("arguments"), "started_at",
    )  # fmt: skip
    result = keyed.select(
        "run", "trajectory_id", (seq + 3).alias("seq"), "step", pl.lit("tool_result").alias("kind"), "tool",
        (seq + 2).alias("call_seq"), "is_error",
        pl.when("broken").then("wrong").otherwise("text").alias("text"),
        (pl.col("started_at") + pl.duration(milliseconds=pl.col("chars") * 9, time_unit="us")).alias("started_at"),
    )  # fmt: skip
    return pl.concat([_filled(part, EVENTS) for part in (user, thinking, call, result)]).sort(
        "run", "seq"
    )
