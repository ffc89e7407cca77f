"""How long each click in a widget takes, on a store of a million events.

    uv run python benchmarks/widgets.py [--events 1000000] [--study "sample_logs/study/{arm}/planner-1/inspect/*.eval"]

A synthetic store is written to a temporary folder and scanned; then each callback is called as the
browser would call it. What is printed is seconds per click and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
def stored(events: int) -> Generator[Trajectories]:
    """The synthetic runs, saved and scanned again."""
    with tempfile.TemporaryDirectory() as folder:
        yield loaders.scan(synthetic(events).save(Path(folder) / "store"))


def clicks(runs: Trajectories) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """What a hand would do in each widget: its name, the click, and what the click calls."""
    from analysis.widgets import AblationBuilder, BreakdownFinder, Explorer

    made: dict[str, Any] = {}

    def make(name: str, widget: Callable[..., Any], **options: Any) -> None:
        made[name] = widget(runs, **options)

    yield "Explorer", "open the widget", lambda: make("e", Explorer)
    e = made["e"]
    tool = e.heatmap.columns[1]
    condition = e._heat.conditions[0][0]
    yield "Explorer", "a cell of the heatmap", lambda: e.pick(condition, tool)
    yield "Explorer", "a run", lambda: e.open_run(e.table["trajectory_id"][e.table.height // 2])
    yield "Explorer", "next call, its text and raw record", e.timeline.next_call
    yield "Explorer", "show all runs", lambda: e.list.click("more")
    yield "Explorer", "another measure", lambda: e.show(measure="runs")
    yield "Explorer", "filter by thinking", lambda: e.keep(thinking="dropped")
    yield "Explorer", "search in text", lambda: e.search("312.50")
    yield "Explorer", "clear the search", lambda: e.search("")
    yield "Explorer", "look for perturbations (once, beside)", lambda: (e.keep(code="look" if not e._about.knows_codes else "any"), e.wait())  # fmt: skip
    yield "Explorer", "filter by perturbation", lambda: e.keep(code="any", thinking="")
    yield "BreakdownFinder", "open the widget", lambda: make("f", BreakdownFinder)
    f = made["f"]
    a, b = f._arms
    yield "BreakdownFinder", "exchange the arms", lambda: f.arms(b, a)
    yield "BreakdownFinder", "brush steps", lambda: f.brush(0, 3)
    yield "BreakdownFinder", "all pairs", lambda: f.keep("")
    if f.pairs.is_empty():
        raise SystemExit(
            "no pairs to click: give --study as a template with arms, such as 'study/{arm}/*'"
        )
    yield "BreakdownFinder", "a pair, two timelines", lambda: f.open_pair(f.pairs.height // 2)
    yield "BreakdownFinder", "an event", lambda: f.select(3, "b")
    yield "AblationBuilder", "open the widget", lambda: make("b", AblationBuilder)
    yield "AblationBuilder", "another baseline", lambda: made["b"].choose(baseline=b)
    yield "AblationBuilder", "an effect, its runs", lambda: made["b"].pick(0)


def timed(runs: Trajectories) -> dict[tuple[str, str], float]:
    """Seconds of each click."""
    spent: dict[tuple[str, str], float] = {}
    for widget, name, click in clicks(runs):
        began = time.perf_counter()
        click()
        spent[widget, name] = time.perf_counter() - began
    return spent


def main() -> None:
    """Print the table for the study and for the synthetic store."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--study", default="sample_logs/study/{arm}/planner-1/inspect/*.eval")
    given = options.parse_args()
    study = loaders.load(given.study, progress=False)
    small = timed(study)
    with stored(given.events) as store:
        large = timed(store)
        events = store.events.select(pl.len()).collect().item()
    sizes = study.events.select(pl.len()).collect().item(), events
    print(f"| widget | click | study, {sizes[0]:,} events | store, {sizes[1]:,} events |")
    print("|---|---|---|---|")
    for (widget, name), seconds in small.items():
        print(f"| {widget} | {name} | {seconds:.3f} s | {large[widget, name]:.3f} s |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of the process, making the store included: {peak:,.0f} MB")


if __name__ == "__main__":
    main()
