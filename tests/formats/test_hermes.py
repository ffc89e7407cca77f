"""Hermes sessions against counts of the raw messages, and transcripts written here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import hermes
from loaders.sources import Source

REAL = ["large", "schema_drift", "small"]


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", REAL)
def test_every_message_call_and_result_is_there(real_logs: Path, name: str) -> None:
    path = real_logs / "other_cli" / "hermes" / f"{name}.json"
    session = json.loads(path.read_text())
    messages = session["messages"]
    roles = Counter(message["role"] for message in messages)
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    runs = loaders.load(path)
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert kinds["user"] == roles["user"]
    assert kinds["message"] == roles["assistant"]
    assert kinds.get("tool_call", 0) == len(calls)
    assert kinds.get("tool_result", 0) == roles["tool"]
    assert kinds.get("other", 0) == roles["session_meta"]
    assert kinds.get("system", 0) == ("system_prompt" in session)
    run = row(runs)
    assert (run["native_id"], run["model"]) == (session["session_id"], session["model"])
    assert run["started_at"].isoformat()[:19] == session["session_start"][:19]
    assert run["ended_at"].isoformat()[:19] == session["last_updated"][:19]
    assert run["steps"] == roles["assistant"]
    assert run["unanswered_calls"] == run["orphan_results"] == 0
    reasons = [m.get("finish_reason") for m in messages if m["role"] == "assistant"]
    assert steps(runs, "stop_reason") == reasons
    failed = [m.get("finish_reason") == "error" for m in messages if m["role"] == "tool"]
    flags = events(runs, "tool_result")["is_error"].to_list()
    assert flags == [True if each else None for each in failed]
    metadata = json.loads(run["metadata"])
    assert metadata["message_count"] == session["message_count"]
    assert metadata["platform"] == session["platform"]
    assert runs.problems.collect().is_empty()


def test_thinking_and_tools_of_the_large_session(real_logs: Path) -> None:
    path = real_logs / "other_cli" / "hermes" / "large.json"
    session = json.loads(path.read_text())
    reply = next(m for m in session["messages"] if "reasoning" in m)
    runs = loaders.load(path)
    told = events(runs, "thinking")
    items = [item["text"] for item in reply["codex_reasoning_items"]]
    assert told["text"].to_list() == [*items, reply["reasoning"]]  # each once
    assert told["thinking_state"].to_list() == ["summary", "summary"]
    assert steps(runs, "thinking") == ["summary", "absent"]
    tool = runs.tools.collect().row(0, named=True)
    wanted = session["tools"][0]
    assert (tool["name"], tool["description"]) == (wanted["name"], wanted["description"])
    assert json.loads(tool["parameters"]) == wanted["input_schema"]


def test_places_lead_back(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "other_cli" / "hermes")
    for event in runs.events.collect().iter_rows(named=True):
        raw = runs.raw(event["trajectory_id"], event["seq"])
        if event["kind"] == "tool_call":
            assert raw["id"] == event["call_id"]
        elif event["text"] is not None:
            assert event["text"] in (raw, raw.get("text") if isinstance(raw, dict) else None)


def test_only_own_files_are_recognised(real_logs: Path) -> None:
    said = {
        path.relative_to(real_logs).as_posix()
        for path in real_logs.rglob("*.json*")
        if path.is_file() and hermes.sniff(Source(path).head)
    }
    assert said == {f"other_cli/hermes/{name}.json" for name in REAL}


# ---------------------------------------------------------------------- written here

HEAD = {"session_id": "s", "session_start": "2026-09-01T10:00:00", "platform": "cli"}


def load(tmp_path: Path, *messages: Any, **head: Any) -> Trajectories:
    path = tmp_path / "session_s.json"
    path.write_text(json.dumps({**HEAD, **head, "messages": list(messages)}))
    return loaders.load(path)


def reply(text: str = "ok", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def test_thinking_wherever_it_stands(tmp_path: Path) -> None:
    item = {"type": "reasoning", "id": "r", "encrypted_content": "e"}
    shown = {**item, "summary": [{"type": "summary_text", "text": "sum"}]}
    anthropic = {"type": "thinking", "thinking": "words", "signature": "sig"}
    runs = load(
        tmp_path,
        reply(reasoning="a", reasoning_content="a"),
        reply(reasoning="sum", codex_reasoning_items=[shown]),
        reply(codex_reasoning_items=[item]),
        reply(reasoning="words", reasoning_details=[anthropic]),
        reply("<think>plan</think>done"),
        reply(),
    )
    states = ["text", "summary", "hidden", "text", "tagged_in_text", "absent"]
    assert steps(runs, "thinking") == states
    told = events(runs, "thinking")
    assert told["text"].to_list() == ["a", "sum", None, "words", "plan"]
    assert told["signature"].to_list() == [None, "e", "e", "sig", None]
    assert steps(runs, "thinking_sent") == [None] * 6


def test_a_transcript_of_the_gateway(tmp_path: Path) -> None:
    function = {"name": "terminal", "description": "d" * 20_000, "parameters": {"type": "object"}}
    meta = {"role": "session_meta", "tools": [{"type": "function", "function": function}]}
    call = {"id": "c", "type": "function", "function": {"name": "terminal", "arguments": "{}"}}
    lines = [
        {**meta, "model": "m", "platform": "slack", "timestamp": "2026-09-01T10:00:00"},
        {"role": "user", "content": "go", "timestamp": "2026-09-01T10:00:01"},
        reply("", tool_calls=[call], finish_reason="tool_calls"),
        {"role": "tool", "content": "x", "tool_call_id": "c", "tool_name": "terminal"},
        reply("done", timestamp="2026-09-01T10:00:09"),
    ]
    path = tmp_path / "20260901_100000_abcd.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert hermes.sniff(Source(path).head)
    runs = loaders.load(path)
    run = row(runs)
    assert (run["native_id"], run["model"], run["steps"]) == (path.stem, "m", 2)
    kinds = ["other", "user", "tool_call", "tool_result", "message"]
    assert events(runs)["kind"].to_list() == kinds
    assert events(runs)["source_pos"].to_list()[2] == "L3/tool_calls/0"
    assert (run["ended_at"] - run["started_at"]).total_seconds() == 9
    assert runs.tools.collect()["name"].to_list() == ["terminal"]
    path.write_text(path.read_text()[:-10])
    cut = loaders.load(path)
    assert events(cut).height == 4
    assert cut.problems.collect()["position"].to_list() == ["L5"]


def test_what_else_a_session_says(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        reply(model="m-2"),
        model="m-1",
        model_config={"temperature": 0, "cwd": "/w"},
        parent_session_id="before",
        last_updated="2020-01-01T00:00:00",
    )
    run = row(runs)
    assert json.loads(run["params"]) == {"temperature": 0, "cwd": "/w"}
    assert json.loads(run["metadata"])["parent_session_id"] == "before"
    assert (steps(runs, "model"), run["model"]) == (["m-2"], "m-1")
    assert run["ended_at"] is None or run["ended_at"] >= run["started_at"]


def test_a_session_cut_short_and_messages_that_are_none(tmp_path: Path) -> None:
    runs = load(tmp_path, 3, {"content": "x"}, reply("a"), {"role": "odd", "content": "b"})
    assert sorted(runs.problems.collect()["position"]) == ["/messages/0", "/messages/1"]
    assert events(runs)["text"].to_list() == ["a", "b"]
    path = tmp_path / "session_s.json"
    path.write_bytes(path.read_bytes()[:-30])
    cut = loaders.load(path)
    assert events(cut)["text"].to_list()[0] == "a"
    assert any("what stands before it is read" in r for r in cut.problems.collect()["reason"])


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, True, [[]], [None], 2**70, "\ud800"])
def test_values_of_other_types_are_missing(tmp_path: Path, hostile: Any) -> None:
    keys = ("content", "reasoning", "reasoning_details", "codex_reasoning_items", "tool_calls")
    keys = (*keys, "finish_reason", "timestamp", "tool_call_id", "tool_name", "tools")
    roles = ("user", "assistant", "tool", "system", "session_meta", "odd", hostile)
    messages = [{"role": role, **dict.fromkeys(keys, hostile)} for role in roles]
    head = dict.fromkeys(("model", "tools", "system_prompt", "model_config", "cwd"), hostile)
    runs = load(tmp_path, *messages, reply("end"), **head, last_updated=hostile)
    assert events(runs, "message")["text"].to_list()[-1] == "end"
    assert not runs.problems.collect()["reason"].str.contains(r"\.py:\d+").any()
