"""Runs whose every text tries to do something: run a script, fetch, pop up, steer a terminal."""

from __future__ import annotations

from typing import Any

import polars as pl

from loaders import Trajectories
from loaders.schema import TABLES

SCRIPT = "<script>window.pwned=1;alert(1)</script>"
IMAGE = '<img src="https://evil.example/x.png" onerror="window.pwned=1;alert(1)">'
LINK = "[click](javascript:window.pwned=1) javascript:alert(1)"
BREAKOUT = "\"'`></td></title></style></textarea><svg onload=window.pwned=1><iframe src=https://evil.example>"
ANSI = "\x1b[31mred\x1b[0m\x07\x1b]0;title\x07 \u202egnitirw \u2066\x00"
LONG = "x" * 1_000_000
EVERYTHING = " ".join((SCRIPT, IMAGE, LINK, BREAKOUT, ANSI))


def hostile(tasks: int = 12) -> Trajectories:
    """Pairs of runs with all of it in texts, tools, arguments, tasks, arms, models and paths."""
    rows: dict[str, list[dict[str, Any]]] = {"trajectories": [], "steps": [], "events": []}
    for task in range(tasks):
        for n, arm in enumerate((f"{SCRIPT}{IMAGE}", f"{BREAKOUT}{ANSI}")):
            run = len(rows["trajectories"])
            key = {"run": run, "trajectory_id": f"r{run}{SCRIPT}"}
            success = (task + n) % 3 != 0
            rows["trajectories"].append(
                {
                    **key,
                    "source": f"logs/{EVERYTHING}.jsonl",
                    "source_hash": EVERYTHING,
                    "format": EVERYTHING,
                    "model": f"m{n}{EVERYTHING}",
                    "framework": EVERYTHING,
                    "task_id": f"{task}{EVERYTHING}",
                    "trial": IMAGE,
                    "arm": arm,
                    "outcome": "success" if success else "failure",
                    "success": success,
                    "end_reason": EVERYTHING,
                    "steps": 2,
                    "events": 9,
                }
            )
            rows["steps"] += [
                {**key, "step": step, "seq": 2 + 3 * step, "model": EVERYTHING, "thinking": "text",
                 "thinking_available": step, "thinking_sent": 0, "evidence": "request",
                 "history_edit": "thinking_dropped" if step else "none"}
                for step in range(2)
            ]  # fmt: skip
            texts = [
                {"kind": "system", "text": LONG if run == 0 else EVERYTHING},
                {"kind": "user", "text": EVERYTHING},
            ]
            for step in range(2):
                tool = f"{LONG if task == 0 else IMAGE}{step}"
                texts += [
                    {"kind": "thinking", "text": EVERYTHING, "thinking_state": "text", "step": step},
                    {"kind": "tool_call", "tool": tool, "arguments": f"{n} {EVERYTHING}", "call_id": EVERYTHING, "step": step},
                    {"kind": "tool_result", "tool": tool, "text": EVERYTHING, "call_seq": 3 + 3 * step, "is_error": step == 1, "error_type": EVERYTHING, "injected": EVERYTHING, "step": step},
                ]  # fmt: skip
            texts.append({"kind": "message", "actor": EVERYTHING, "text": EVERYTHING, "step": 1})
            rows["events"] += [{**text, **key, "seq": seq, "source_pos": EVERYTHING} for seq, text in enumerate(texts)]  # fmt: skip
    frames = {
        name: pl.DataFrame(rows.get(name, []), schema=schema) for name, schema in TABLES.items()
    }
    problem = dict.fromkeys(("source", "position", "reason", "format"), EVERYTHING)
    frames["problems"] = pl.DataFrame([{**problem, "severity": "error"}], schema=TABLES["problems"])
    return Trajectories.from_frames(frames)
