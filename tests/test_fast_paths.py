"""What is declared to decode fast must read as what is not: both ways give the same tables."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from conftest import ROOT

import loaders
from loaders.archives import ZipArchive
from loaders.formats import _claude_code_reading, inspect
from loaders.jsontext import decode

STUDY = sorted((ROOT / "sample_logs" / "study").rglob("*.eval"))
ODD: tuple[Any, ...] = (None, True, 7, -1.5, "x", [], {}, [1], {"a": [None]}, "attachment://none")
RARE: list[tuple[str, Any]] = [
    ("error", "TimeoutError('too slow')"),
    ("cache", "read"),
    ("retries", 2),
    ("role", "critic"),
    ("pending", True),
    ("tool_choice", {"name": "look"}),
    ("config", {"temperature": 0.5}),
    ("completed", None),
    ("timestamp", "2026-01-01T00:00:00+00:00"),
    ("span_id", "elsewhere"),
    ("model", "other/model"),
    ("input", [{"role": "user", "content": "in place"}]),
    ("call", {"request": {"messages": [{"role": "user", "content": "in place"}]}, "response": {}}),
    ("call", {"request": None, "call_refs": [[0, 1]]}),
    ("output", {"choices": [], "error": "refused", "time": 3.5, "usage": {"output_tokens": 4}}),
    ("tools", [{"name": "own", "description": "d", "parameters": {"type": "object"}}]),
]
"""Fields of model events as the study's logs do not have them."""


def tables(path: Path) -> dict[str, pl.DataFrame]:
    runs = loaders.load(path, progress=False)
    names = ("trajectories", "steps", "events", "tools", "problems")
    return {name: getattr(runs, name).collect() for name in names}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    for name, table in one.items():
        assert table.equals(other[name]), name
    assert not one["events"].is_empty()


def mutated(value: Any, rng: random.Random) -> Any:
    """The value with one thing inside it, at any depth, replaced by something odd or left out."""
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not keys:
            return value
        key = rng.choice(keys)
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
        elif isinstance(holder, dict) and rng.random() < 0.3:
            del holder[key]
            return value
        else:
            holder[key] = rng.choice(ODD)
            return value


# ---------------------------------------------------------------------- Inspect


@pytest.fixture
def untyped_inspect(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        patch.setattr(inspect, "sample_of", decode)
        yield patch


def test_inspect_samples_read_the_same_both_ways(untyped_inspect: pytest.MonkeyPatch) -> None:
    slow = [tables(path) for path in STUDY[:1]]
    untyped_inspect.undo()
    for path, expected in zip(STUDY, slow, strict=False):
        same(tables(path), expected)


def broken_archive(folder: Path, rng: random.Random) -> Path:
    """A few samples of the study, several things in each of them spoilt."""
    source = ZipArchive(STUDY[0])
    path = folder / "broken.eval"
    samples = [name for name in source.names if name.startswith("samples/")][:12]
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("header.json", source.read("header.json"))
        for name in samples:
            sample = json.loads(source.read(name))
            for event in sample["events"]:
                if event["event"] == "model":
                    event.update(rng.sample(RARE, 3))
            for _ in range(6):
                mutated(rng.choice(sample["events"]), rng)
            mutated(sample, rng)
            text = json.dumps(sample, separators=(",", ":") if rng.random() < 0.8 else None)
            if rng.random() < 0.2:
                text = text.replace('"tools"', '"tools\\ud800"', 1)
            target.writestr(name, text)
    return path


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_inspect_samples_read_the_same_both_ways(
    seed: int, tmp_path: Path, untyped_inspect: pytest.MonkeyPatch
) -> None:
    path = broken_archive(tmp_path, random.Random(seed))
    slow = tables(path)
    untyped_inspect.undo()
    same(tables(path), slow)


# ---------------------------------------------------------------------- Claude Code


def session(rng: random.Random) -> list[dict[str, Any]]:
    """A short session of thinking, calls, results and notes."""
    lines: list[dict[str, Any]] = []
    for number in range(12):
        shared = {
            "sessionId": "s",
            "isSidechain": number % 5 == 4,
            "version": "2.1.0",
            "cwd": f"/{number % 2}",
            "timestamp": f"2026-01-01T00:00:{number:02}.000Z",
            "parentUuid": f"u{number - 1}" if number else None,
        }
        usage = {"input_tokens": 3, "output_tokens": number, "cache_read_input_tokens": 5}
        blocks: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": f"t{number}", "name": "Read", "input": {"n": number}},
        ]
        message = {
            "id": f"m{number}",
            "model": "made-up",
            "usage": usage,
            "stop_reason": "tool_use",
        }
        for block in blocks:
            told = {**message, "role": "assistant", "content": [block]}
            lines.append({**shared, "type": "assistant", "uuid": f"u{number}", "message": told})
        result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "done"}
        noted = {"durationMs": 5, "exitCode": 1, "interrupted": False, "usage": {"a": 1}}
        user = {"role": "user", "content": [result]}
        lines.append(
            {
                **shared,
                "type": "user",
                "uuid": f"r{number}",
                "message": user,
                "toolUseResult": noted,
            }
        )
    for _ in range(10):
        mutated(rng.choice(lines[1:]), rng)
    return lines


@pytest.mark.parametrize("seed", range(6))
def test_claude_code_lines_read_the_same_both_ways(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    lines = session(random.Random(seed))
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    fast = tables(path)

    def refuse(_: bytes) -> Any:
        raise msgspec.ValidationError("not as declared")

    monkeypatch.setattr(_claude_code_reading, "decode_line", refuse)
    same(fast, tables(path))
