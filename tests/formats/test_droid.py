"""Droid sessions and streams against counts of the raw lines, and logs written here for the rest."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import droid
from loaders.sources import Source

STORED = ["session_store_large", "session_store_schema_drift", "session_store_small"]
STREAMED = ["stream_json_large", "stream_json_schema_drift", "stream_json_small"]


def raw_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", STORED)
def test_every_block_of_a_stored_session_is_there(real_logs: Path, name: str) -> None:
    path = real_logs / "other_cli" / "droid" / f"{name}.jsonl"
    start, *lines = raw_lines(path)
    blocks = [
        (line["message"]["role"], b["type"]) for line in lines for b in line["message"]["content"]
    ]
    counts = Counter(blocks)
    runs = loaders.load(path)
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert kinds.get("message", 0) == counts["assistant", "text"]
    assert kinds.get("user", 0) == counts["user", "text"]
    assert kinds.get("tool_call", 0) == counts["assistant", "tool_use"]
    assert kinds.get("tool_result", 0) == counts["user", "tool_result"]
    assert sum(kinds.values()) == len(blocks)
    told = row(runs)
    assert told["native_id"] == start["id"]
    assert told["steps"] == sum(line["message"]["role"] == "assistant" for line in lines)
    assert told["unanswered_calls"] == told["orphan_results"] == 0
    versions = (told["framework_version"], told["format_version"])
    is_text = isinstance(start["version"], str)
    assert versions == ((start["version"], None) if is_text else (None, str(start["version"])))
    assert json.loads(told["metadata"])["title"] == start["title"]
    assert events(runs)["is_error"].null_count() == len(blocks)
    assert events(runs)["started_at"].null_count() == 0
    assert runs.problems.collect().is_empty()


@pytest.mark.parametrize("name", STREAMED)
def test_every_event_of_a_stream_is_there(real_logs: Path, name: str) -> None:
    path = real_logs / "other_cli" / "droid" / f"{name}.jsonl"
    lines = raw_lines(path)
    counts = Counter((line["type"], line.get("role")) for line in lines)
    finals = [line["finalText"] for line in lines if line["type"] == "completion"]
    said = [line["text"] for line in lines if line.get("role") == "assistant"]
    runs = loaders.load(path)
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert kinds.get("user", 0) == counts["message", "user"]
    assert kinds["message"] == len(said) + sum(final not in said[-1:] for final in finals)
    assert kinds["tool_call"] == counts["tool_call", None]
    assert kinds["tool_result"] == counts["tool_result", None]
    assert kinds.get("error", 0) == counts["error", None]
    answers = events(runs, "tool_result")
    results = [line for line in lines if line["type"] == "tool_result"]
    assert answers["is_error"].to_list() == [line.get("isError") for line in results]
    values = [line["value"] for line in results]
    codes = [value["exitCode"] if isinstance(value, dict) else None for value in values]
    assert answers["exit_code"].to_list() == codes
    shown = [value["stdout"] if isinstance(value, dict) else value for value in values]
    assert answers["text"].to_list() == shown
    assert answers["call_seq"].null_count() == 0
    names = {line.get("session_id") or line.get("sessionId") for line in lines}
    assert {row(runs)["native_id"]} == names
    assert runs.problems.collect().is_empty()


def test_what_a_stream_says_of_its_start_and_end(real_logs: Path) -> None:
    path = real_logs / "other_cli" / "droid" / "stream_json_schema_drift.jsonl"
    runs = loaders.load(path)
    told = row(runs)
    start = raw_lines(path)[0]
    assert (told["model"], json.loads(told["params"])["reasoning_effort"]) == (
        start["model"],
        start["reasoning_effort"],
    )
    assert runs.tools.collect()["name"].sort().to_list() == sorted(start["tools"])
    assert (told["input_tokens"], told["output_tokens"], told["cached_tokens"]) == (10, 5, 0)
    assert told["outcome"] == "error"
    calm = row(loaders.load(path.with_name("stream_json_large.jsonl")))
    assert (calm["outcome"], calm["end_reason"]) == ("unknown", "completion")


def test_places_lead_back(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "other_cli" / "droid")
    for event in runs.events.collect().iter_rows(named=True):
        raw = json.dumps(runs.raw(event["trajectory_id"], event["seq"]))
        wanted = event["tool"] if event["kind"] == "tool_call" else event["text"].split("\n")[0]
        assert json.dumps(wanted)[1:-1] in raw


def test_only_own_files_are_recognised(real_logs: Path) -> None:
    said = {
        path.relative_to(real_logs).as_posix()
        for path in real_logs.rglob("*.json*")
        if path.is_file() and droid.sniff(Source(path).head)
    }
    assert said == {f"other_cli/droid/{name}.jsonl" for name in STORED + STREAMED}


# ---------------------------------------------------------------------- written here

AT = "2026-09-01T10:00:00.000Z"
START = {"type": "session_start", "id": "s1", "title": "t", "cwd": "/w", "version": 2}


def message(role: str, *blocks: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    return {
        "type": "message",
        "id": f"m{len(blocks)}",
        "timestamp": AT,
        "message": {"role": role, "content": content, **more},
    }


def load(tmp_path: Path, *lines: Any, start: Any = START, **settings: Any) -> Trajectories:
    texts = [x if isinstance(x, str) else json.dumps(x) for x in (start, *lines)]
    (tmp_path / "s1.jsonl").write_text("\n".join(texts))
    if settings:
        (tmp_path / "s1.settings.json").write_text(json.dumps(settings))
    return loaders.load(tmp_path)


def test_what_stands_in_the_settings_beside_a_session(tmp_path: Path) -> None:
    usage = {
        "inputTokens": 100,
        "outputTokens": 50,
        "cacheCreationTokens": 20,
        "cacheReadTokens": 10,
        "thinkingTokens": 5,
    }
    runs = load(
        tmp_path,
        message("user", "go"),
        message("assistant", "ok"),
        model="m-1",
        providerLock="p",
        reasoningEffort="high",
        systemPrompt="Be brief.",
        tokenUsage=usage,
    )
    told = row(runs)
    assert runs.problems.collect().is_empty()
    names = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    assert [told[name] for name in names] == [130, 50, 5, 10]
    assert (told["model"], json.loads(told["params"])) == ("m-1", {"reasoning_effort": ["high"]})
    assert json.loads(told["metadata"])["settings"] == {"providerLock": "p"}
    first = events(runs).row(0, named=True)
    assert (first["kind"], first["text"]) == ("system", "Be brief.")
    assert runs.raw(first["trajectory_id"], 0) == "Be brief."


def test_thinking_of_every_provider(tmp_path: Path) -> None:
    plain = {"type": "thinking", "thinking": "a", "signature": "s", "durationMs": 1500}
    google = {"type": "thinking", "thinking": "b", "signatureProvider": "google"}
    runs = load(
        tmp_path,
        message("assistant", plain, "1", modelId="m-1", apiProvider="p"),
        message("assistant", google, "2"),
        message("assistant", {"type": "thinking", "thinking": "", "signature": "t"}, "3"),
        message("assistant", {"type": "redacted_thinking", "data": "x"}, "4"),
        message("assistant", "5", openaiReasoningSummary="c", openaiEncryptedContent="e"),
        message("assistant", "6", openaiEncryptedContent="f"),
        message("assistant", "7"),
    )
    states = ["text", "summary", "hidden", "redacted", "summary", "hidden", "absent"]
    assert steps(runs, "thinking") == states
    told = events(runs, "thinking")
    assert told["signature"].to_list() == ["s", None, "t", "x", "e", "f"]
    assert told["duration_s"].to_list()[0] == 1.5
    assert steps(runs, "model") == ["m-1", *[None] * 6]
    assert row(runs)["provider"] == "p"
    assert steps(runs, "thinking_sent") == [None] * 7


def test_who_a_users_message_is_from(tmp_path: Path) -> None:
    hook = {"hookEventName": "Stop", "hookResults": [{"exitCode": 0}, {"exitCode": 2}]}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [], "is_error": True}
    runs = load(
        tmp_path,
        message("user", "<system-reminder>\nx\n</system-reminder>", "real"),
        message("user", "seen by the model", visibility="llm_only"),
        message("user", "seen by the user", visibility="user_only"),
        message("user", "by itself", userMessageSource="automation"),
        message("user", **hook),
        message("user", result),
        message("future", "odd"),
    )
    frame = events(runs)
    kinds = ["user", "user", "user", "other", "user", "other", "tool_result", "other"]
    assert frame["kind"].to_list() == kinds
    actors = ["harness", None, "harness", "harness", "automation", "hook", None, "future"]
    assert frame["actor"].to_list() == actors
    assert frame["exit_code"].to_list()[5] == 2
    assert frame["is_error"].to_list()[6] is True
    assert row(runs)["orphan_results"] == 1


def test_what_else_a_session_notes(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        message("assistant", "a"),
        {"type": "todo_state", "id": "t", "timestamp": AT, "todos": [{"content": "x"}]},
        {
            "type": "compaction_state",
            "timestamp": AT,
            "summaryText": "so far",
            "summaryKind": "auto",
            "removedCount": 2,
            "anchorMessage": {"id": "m1", "index": 1},
        },
        message("assistant", "b"),
        message("assistant", "c"),
        {"type": "agent_turn_outcome", "turnId": "u", "reason": "cancelled"},
        {"type": "from_the_future", "data": 1},
    )
    kinds = ["message", "other", "compaction", "message", "message", "other", "other"]
    frame = events(runs)
    assert frame["kind"].to_list() == kinds
    assert frame["error_type"].to_list()[-2:] == ["agent_turn_outcome", "from_the_future"]
    assert json.loads(frame["text"][1])["todos"] == [{"content": "x"}]
    assert steps(runs, "history_edit") == [None, "compacted", "compacted"]
    told = row(runs)
    assert (told["outcome"], told["end_reason"]) == ("cancelled", "cancelled")
    assert json.loads(told["metadata"])["compactions"] == [{"removedCount": 2}]


def test_a_session_that_another_one_started(tmp_path: Path) -> None:
    call = {"type": "tool_use", "id": "c9", "name": "Task", "input": {}}
    parent = [START, message("user", "go"), message("assistant", "I delegate.", call)]
    child = [
        {**START, "id": "s2", "callingSessionId": "s1", "callingToolUseId": "c9"},
        message("user", "do it"),
    ]
    orphan = [{**START, "id": "s3", "callingSessionId": "gone"}, message("user", "do it")]
    for name, lines in {"s1": parent, "s2": child, "s3": orphan}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    runs = loaders.load(tmp_path).trajectories.collect()
    by_name = {row["native_id"]: row for row in runs.iter_rows(named=True)}
    assert by_name["s2"]["parent_id"] == by_name["s1"]["trajectory_id"]
    assert by_name["s2"]["parent_seq"] == 2
    assert by_name["s3"]["parent_id"] is by_name["s1"]["parent_id"] is None


INIT = {"type": "system", "subtype": "init", "session_id": "x", "model": "m", "cwd": "/w"}


def streamed(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "session_id": "x", "timestamp": 1767812640310, **more}


def test_a_stream_with_reasoning_printed_twice(tmp_path: Path) -> None:
    thought = streamed("reasoning", id="r1", text="hm")
    call = streamed("tool_call", id="c1", toolId="Read", toolName="Read", parameters={"a": 1})
    runs = load(
        tmp_path,
        *(streamed("message", role="user", id="u", text="go"), thought, thought, call),
        streamed("tool_result", id="c1", toolId="Read", isError=False, value={"n": 1}),
        *(streamed("reasoning", id="r2", text=""), streamed("message", role="assistant", text="A")),
        streamed(
            "completion", finalText="A", numTurns=2, durationMs=12, usage={"thinking_tokens": 3}
        ),
        start=INIT,
    )
    kinds = ["user", "thinking", "tool_call", "tool_result", "thinking", "message"]
    assert events(runs)["kind"].to_list() == kinds
    assert events(runs)["step"].to_list() == [None, 0, 0, 0, 1, 1]
    assert steps(runs, "thinking") == ["text", "hidden"]
    told = row(runs)
    assert json.loads(told["metadata"]) == {"turns": 2.0, "duration_ms": 12.0}
    assert (told["reasoning_tokens"], told["input_tokens"]) == (3, None)
    assert events(runs, "tool_result")["text"].to_list() == ['{"n":1}']


def test_two_streams_in_one_file(tmp_path: Path) -> None:
    other = {**streamed("message", role="user", text="b"), "session_id": "y"}
    runs = load(tmp_path, streamed("message", role="user", text="a"), other, start=INIT)
    assert runs.trajectories.collect()["native_id"].to_list() == ["x", "y"]


def test_broken_lines_are_problems(tmp_path: Path) -> None:
    runs = load(tmp_path, "[1]", '{"type":', {"id": "x"}, message("user", "a"))
    assert runs.problems.collect()["position"].to_list() == ["L2", "L4", "L3"]
    assert events(runs)["text"].to_list() == ["a"]


def test_a_session_without_its_start_is_read_with_doubt(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(message("assistant", "a")))
    runs = loaders.load(tmp_path, format="droid")
    assert events(runs)["text"].to_list() == ["a"]
    assert runs.problems.collect()["severity"].to_list() == ["warning"]


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, True, [[]], [None], 2**70, "\ud800"])
def test_values_of_other_types_are_missing(tmp_path: Path, hostile: Any) -> None:
    start = dict.fromkeys(START, hostile) | {"type": "session_start", "id": "s", "cwd": hostile}
    odd = dict.fromkeys(("modelId", "hookResults", "openaiReasoningSummary", "visibility"), hostile)
    runs = load(
        tmp_path,
        message(
            "assistant", {"type": "thinking", "thinking": hostile, "durationMs": hostile}, **odd
        ),
        {"type": "message", "timestamp": hostile, "message": {"role": hostile, "content": hostile}},
        {"type": "agent_turn_outcome", "reason": hostile},
        {"type": "compaction_state", "summaryText": hostile, "summaryKind": hostile},
        message("assistant", "end"),
        start=start,
        tokenUsage=hostile,
        model=hostile,
        providerLock="p",
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    parts = ("toolName", "parameters", "value", "finalText", "usage", "message", "source", "id")
    other = [streamed(k, **dict.fromkeys(parts, hostile)) for k in ("tool_call", "tool_result")]
    other += [streamed(k, **dict.fromkeys(parts, hostile)) for k in ("completion", "error", "odd")]
    said = streamed("message", role="user", text="a")
    both = loaders.load(written(tmp_path / "stream", said, *other))
    for found in (runs, both):
        reasons = found.problems.collect()["reason"]
        assert not reasons.str.contains(r"\.py:\d+").any()


def written(folder: Path, *lines: Any) -> Path:
    folder.mkdir()
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder
