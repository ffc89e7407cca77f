"""Google ADK sessions, against figures counted from a raw file, and on sessions written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loaders
from loaders import Trajectories
from loaders.formats import google_adk
from loaders.sources import Source

Object = dict[str, Any]
USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 2,
    "cachedContentTokenCount": 1,
}


def event(author: str, *parts: Object, role: str = "model", **more: Any) -> Object:
    content = {"parts": list(parts), "role": role}
    known = {"invocationId": "i1", "author": author, "timestamp": 1761896141.5}
    return {"content": content, **known, **more}


def call(name: str, call_id: str | None = None, **more: Any) -> Object:
    link = {"id": call_id} if call_id else {}
    return {"functionCall": {**link, "name": name, "args": {"path": "/"}}, **more}


def answer(name: str, response: Any, call_id: str | None = None) -> Object:
    link = {"id": call_id} if call_id else {}
    return {"functionResponse": {**link, "name": name, "response": response}}


def session() -> Object:
    events = [
        event("user", {"text": "look"}, role="user"),
        event("main", {"text": "cut"}, partial=True),
        event(
            "main",
            {"text": "plan", "thought": True, "thoughtSignature": "c2c="},
            call("ls", "a"),
            call("get", "b"),
            usageMetadata=USAGE,
            modelVersion="g-1",
            finishReason="STOP",
        ),
        event(
            "main",
            answer("get", {"error": "bad"}, "b"),
            answer("ls", {"result": "x y"}, "a"),
            role="user",
        ),
        event("main", call("ls", thoughtSignature="eno=")),
        event("main", answer("ls", {"files": []}), role="user"),
        event("helper", {"text": "done"}),
    ]
    return {"id": "s1", "appName": "app", "userId": "u", "state": {"k": 1}, "events": events}


def snake(value: Any) -> Any:
    """The same session with keys in snake case, and null-filled, as Python exports it."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {
        "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key): snake(item)
        for key, item in value.items()
    }
    return {**named, "error_code": None} if "author" in value else named


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def test_the_real_session(real_logs: Path) -> None:
    path = real_logs / "google_adk" / "sample.session.json"
    raw = json.loads(path.read_text())
    expected: list[tuple[str, str | None]] = []
    for one in raw["events"]:
        for part in one["content"]["parts"]:
            if "function_call" in part:
                expected.append(("tool_call", one["author"]))
            elif "function_response" in part:
                expected.append(("tool_result", None))
            elif one["author"] == "user":
                expected.append(("user", None))
            else:
                expected.append(("message", one["author"]))
        if one["options"].keys() - {"function_call_event_id"}:
            expected.append(("other", one["author"]))
    runs = loaders.load(path)
    assert events(runs, "kind", "actor") == expected
    authors = [e["author"] for e in raw["events"] if e["content"]["role"] == "model"]
    assert runs.steps.collect()["agent"].to_list() == authors
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["unanswered_calls"], row["orphan_results"]) == (raw["id"], 0, 0)
    assert row["ended_at"].timestamp() == pytest.approx(raw["events"][-1]["timestamp"], abs=1e-5)
    assert runs.problems.collect().height == 0


def test_only_sessions_are_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    claimed = [path for path in files if google_adk.sniff(Source(path).head)]
    assert claimed == [real_logs / "google_adk" / "sample.session.json"]


@pytest.mark.parametrize("layout", ["camel", "snake", "lines", "list", "wrapped"])
def test_a_session_in_every_layout(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "s.json"
    if layout == "lines":
        path.write_text("\n".join(json.dumps(one) for one in session()["events"]))
    else:
        by_name: Object = {"camel": session(), "snake": snake(session())}
        by_name |= {"list": [session(), session()], "wrapped": {"session": session()}}
        write(path, by_name[layout])
    assert google_adk.sniff(Source(path).head)
    runs = loaders.load(path)
    expected = [
        ("user", None, None, "look", None, None, None),
        ("thinking", 0, "main", "plan", None, None, "summary"),
        ("tool_call", 0, "main", None, "ls", None, None),
        ("tool_call", 0, "main", None, "get", None, None),
        ("tool_result", 0, None, '{"error":"bad"}', "get", 3, None),
        ("tool_result", 0, None, "x y", "ls", 2, None),
        ("thinking", 1, "main", None, None, None, "hidden"),
        ("tool_call", 1, "main", None, "ls", None, None),
        ("tool_result", 1, None, '{"files":[]}', "ls", 7, None),
        ("message", 2, "helper", "done", None, None, None),
    ]
    columns = ("kind", "step", "actor", "text", "tool", "call_seq", "thinking_state")
    assert events(runs, *columns) == expected * (2 if layout == "list" else 1)
    tokens = ("model", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    assert runs.steps.select(tokens).collect().row(0) == ("g-1", 9, 6, 2, 1)
    assert runs.steps.collect()["thinking_sent"].to_list() == [None] * runs.steps.collect().height
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_signatures_belong_to_the_thoughts_before_them(tmp_path: Path) -> None:
    """A stand-in that some client sent is none; a part with nothing but a signature tells nothing more."""
    log = {
        "events": [
            event("main", {"text": "A", "thought": True}, call("ls", thoughtSignature="eno=")),
            event("main", {"text": "so"}, {"text": "", "thoughtSignature": "owt="}),
            event("main", call("ls", thoughtSignature="skip_thought_signature_validator")),
            event("main", {"thoughtSignature": "eerht="}),
        ]
    }
    runs = loaders.load(write(tmp_path / "s.json", log))
    assert events(runs, "kind", "text", "thinking_state", "signature") == [
        ("thinking", "A", "summary", "eno="),
        ("tool_call", None, None, None),
        ("message", "so", None, None),
        ("thinking", None, "hidden", "owt="),
        ("tool_call", None, None, None),
        ("thinking", None, "hidden", "eerht="),
    ]


def test_code_media_errors_and_compaction(tmp_path: Path) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "eHg="}}
    code = {"executableCode": {"code": "1/0", "language": "PYTHON"}}
    failed = {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "ZeroDivisionError"}}
    squeezed = {"compaction": {"compactedContent": {"parts": [{"text": "so far"}]}}}
    log = {
        "events": [
            event("user", picture, role="user"),
            event("main", code, failed),
            {
                "invocationId": "i",
                "author": "main",
                "errorCode": "429",
                "errorMessage": "slow down",
            },
            {"invocationId": "i", "author": "user", "actions": squeezed},
            event("main", {"fromTomorrow": {}}),
        ]
    }
    runs = loaders.load(write(tmp_path / "s.json", log))
    assert events(runs, "kind", "text", "is_error", "error_type", "media") == [
        ("user", None, None, None, ["image/png"]),
        ("tool_call", None, None, None, None),
        ("tool_result", "ZeroDivisionError", True, "OUTCOME_FAILED", None),
        ("error", "slow down", None, "429", None),
        ("compaction", '{"parts":[{"text":"so far"}]}', None, None, None),
        ("other", '["fromTomorrow"]', None, None, None),
    ]
    assert runs.steps.collect()["error"].to_list() == [None, "slow down", None]


def test_candidates_of_litellm_include_thoughts(tmp_path: Path) -> None:
    """Gemini counts thoughts apart from candidates; other models' counts come in their own way."""
    totals = [13, 15, None]
    log = {
        "events": [
            event("main", {"text": "so"}, usageMetadata={**USAGE, "totalTokenCount": total})
            for total in totals
        ]
    }
    runs = loaders.load(write(tmp_path / "s.json", log))
    assert runs.steps.collect()["output_tokens"].to_list() == [4, 6, 6]
    assert runs.steps.collect()["reasoning_tokens"].to_list() == [2, 2, 2]


def test_what_else_a_session_says_is_kept(tmp_path: Path) -> None:
    usage = {**USAGE, "toolUsePromptTokenCount": 5, "trafficTokenCount": 2}
    actions = {"stateDelta": {"k": 2}, "artifactDelta": {}, "transferToAgent": "helper"}
    log = session()
    log |= {"lastUpdateTime": 1761896149.5, "pastEvents": []}
    log["events"] += [
        event("helper", {"text": "x"}, usageMetadata=usage, groundingMetadata={"q": ["w"]}),
        event("main", actions=actions, branch="main.helper", nodeInfo={"path": "main@1"}, id="e"),
    ]
    runs = loaders.load(write(tmp_path / "s.json", log))
    assert events(runs, "kind", "actor", "text", "error_type")[-2:] == [
        ("other", "helper", '{"groundingMetadata":{"q":["w"]}}', "details"),
        (
            *("other", "main"),
            '{"actions":{"stateDelta":{"k":2},"transferToAgent":"helper"}}',
            "details",
        ),
    ]
    assert json.loads(runs.trajectories.collect()["metadata"][0]) == {
        "app_name": "app",
        "user_id": "u",
        "state": {"k": 1},
        "lastUpdateTime": 1761896149.5,
        "invocation_ids": "i1",
        "branches": "main.helper",
        "node_paths": "main@1",
        "usage": {"trafficTokenCount": 2},
    }
    assert runs.steps.collect()["input_tokens"].to_list()[-2:] == [14, None]
    assert loaders.coverage(tmp_path).lost.is_empty()


def test_a_long_first_message_and_a_session_cut_short(tmp_path: Path) -> None:
    log = session()
    log["events"][0]["content"]["parts"][0]["text"] = "x" * 20_000
    path = write(tmp_path / "s.json", log)
    assert google_adk.sniff(Source(path).head)
    path.write_text(path.read_text()[:-60])
    runs = loaders.load(path)
    assert len(events(runs, "kind")) >= 9
    assert any("stands before it" in reason for reason in runs.problems.collect()["reason"])


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    log = session()
    whole = log["events"]
    broken = [{**one, key: junk} for one in whole for key in one]
    for one in whole:
        for part in one["content"]["parts"]:
            for key in part:
                broken.append({**one, "content": {"role": "model", "parts": [{**part, key: junk}]}})
                broken.append({**one, "content": {"role": "user", "parts": [{key: {"id": junk, "name": junk}}]}})  # fmt: skip
    runs = loaders.load(write(tmp_path / "s.json", {**log, "events": [*broken, junk, *whole]}))
    assert events(runs, "text")[-1] == ("done",)
    assert not [r for r in runs.problems.collect()["reason"] if "Error:" in r]
