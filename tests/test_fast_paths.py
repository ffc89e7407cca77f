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
OWN = sorted((ROOT / "tests" / "inspect_logs").glob("*.eval"))
OF_EACH_ARM = [path for path in STUDY if path.match("planner-2/inspect/injection.eval")]
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


@pytest.mark.parametrize("path", [*OF_EACH_ARM, *OWN], ids=lambda path: str(path.relative_to(ROOT)))
def test_inspect_samples_read_the_same_both_ways(
    path: Path, untyped_inspect: pytest.MonkeyPatch
) -> None:
    slow = tables(path)
    untyped_inspect.undo()
    same(tables(path), slow)


def test_real_inspect_samples_read_the_same_both_ways(
    real_logs: Path, untyped_inspect: pytest.MonkeyPatch
) -> None:
    found = sorted((real_logs / "inspect").rglob("*.eval"))
    slow = [tables(path) for path in found]
    untyped_inspect.undo()
    assert len(found) >= 3
    for path, expected in zip(found, slow, strict=True):
        same(tables(path), expected)


def in_place(sample: dict[str, Any]) -> None:
    """Messages of inputs and requests back in their events, as in older logs."""
    pools = sample.pop("events_data")
    for event in sample["events"]:
        if event["event"] == "model":
            ranges, call = event.pop("input_refs"), event["call"]
            event["input"] = [m for a, b in ranges for m in pools["messages"][a:b]]
            ranges, key = call.pop("call_refs"), call.pop("call_key")
            call["request"][key] = [m for a, b in ranges for m in pools["calls"][a:b]]


HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "a key twice": (b'"content":', b'"content":"first","content":'),
    "a kind twice": (b'"event":"tool"', b'"event":"model","event":"tool"'),
    "an unknown kind": (b'"event":"state"', b'"event":"of_tomorrow"'),
    "a note": (b'"event":"state"', b'"data":[1],"event":"info"'),
    "a kind that is no text": (b'"event":"span_end"', b'"event":["span_end"]'),
    "choices that are none": (b'"choices":[', b'"choices":7,"other":['),
    "a message that is none": (b'"messages":[', b'"messages":[null,"x",[],'),
    "calls that are none": (b'"tool_calls":[{', b'"tool_calls":["no",{'),
    "references of a wrong shape": (b'_refs":[[', b'_refs":[[-5,1000000000000],"x",['),
    "an input of a wrong shape": (b'"input":[', b'"input":{"a":1},"other":['),
    "bytes that are no UTF-8": (b'"role":"tool"', b'"name":"\xff\xfe","role":"tool"'),
    "no number": (b'"working_time":', b'"other":NaN,"working_time":'),
    "attachments that are gone": (b'"attachments":{', b'"attachments":7,"other":{'),
    "attachments that are no texts": (b'"attachments":{', b'"attachments":{"a":[],'),
    "an end that is cut off": (b'"total_time":', b"\0"),
}


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "in place"])
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_inspect_samples_read_the_same_both_ways(
    what: str, pooled: bool, tmp_path: Path, untyped_inspect: pytest.MonkeyPatch
) -> None:
    source, path = ZipArchive(OWN[0]), tmp_path / "hostile.eval"
    name = next(name for name in source.names if name.startswith("samples/"))
    sample = json.loads(source.read(name))
    if not pooled:
        in_place(sample)
    text = json.dumps(sample, separators=(",", ":")).encode()
    assert HOSTILE[what][0] in text or (not pooled and "_refs" in str(HOSTILE[what]))
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("header.json", source.read("header.json"))
        target.writestr(name, text.replace(*HOSTILE[what]))
        target.writestr("samples/whole_epoch_1.json", text)
    slow = tables(path)
    untyped_inspect.undo()
    same(tables(path), slow)


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
