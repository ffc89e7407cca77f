"""Qwen Code sessions against the raw files, and variants written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import claude_code, qwen_code
from loaders.sources import Source

SESSION, BRANCHES, GLUED = (f"019f0000-0000-7000-8000-00000000000{n}.jsonl" for n in (1, 4, 5))
TELEMETRY = "system_telemetry.jsonl"
FILES = (
    *(SESSION, BRANCHES, TELEMETRY, "019f0000-0000-7000-8000-000000000002.jsonl"),
    "019f0000000070008000000000000003.jsonl",
)


@pytest.fixture
def folder(real_logs: Path) -> Path:
    return real_logs / "other_cli" / "qwen"


def parts_of(path: Path, kind: str, key: str) -> list[Any]:
    """All values of a key in the parts of the raw records of a type."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    messages = [r["message"]["parts"] for r in records if r["type"] == kind and "message" in r]
    return [part[key] for parts in messages for part in parts if key in part]


def record(name: str, parent: str | None, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "uuid": name,
        "parentUuid": parent,
        "sessionId": "s1",
        "timestamp": f"2026-01-02T03:04:{len(name):02d}Z",
        "type": kind,
        **more,
    }


def said(name: str, parent: str | None, *parts: Any, **more: Any) -> dict[str, Any]:
    kind = more.pop("kind", "assistant")
    texts = [{"text": part} if isinstance(part, str) else part for part in parts]
    return record(name, parent, kind, message={"role": "x", "parts": texts}, **more)


def asked(name: str, parent: str | None, *parts: Any, **more: Any) -> dict[str, Any]:
    return said(name, parent, *parts, kind="user", **more)


def noted(name: str, parent: str | None, subtype: str, **payload: Any) -> dict[str, Any]:
    return record(name, parent, "system", subtype=subtype, systemPayload=payload)


def load(path: Path, *lines: Any) -> Trajectories:
    file = path / "chat.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(file, format="qwen_code")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def problems(runs: Trajectories) -> list[tuple[str | None, str]]:
    return runs.problems.collect().select("position", "severity").rows()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", FILES)
def test_texts_calls_and_results_are_all_told(folder: Path, name: str) -> None:
    runs = loaders.load(folder / name)
    assert runs.trajectories.collect()["format"].to_list() == ["qwen_code"]
    assert events(runs, "user")["text"].to_list() == parts_of(folder / name, "user", "text")
    told = events(runs, "message", "thinking")["text"].to_list()
    assert told == parts_of(folder / name, "assistant", "text")
    calls = parts_of(folder / name, "assistant", "functionCall")
    assert events(runs, "tool_call")["call_id"].to_list() == [call["id"] for call in calls]
    arguments = [json.loads(text) for text in events(runs, "tool_call")["arguments"]]
    assert arguments == [call["args"] for call in calls]
    answers = parts_of(folder / name, "tool_result", "functionResponse")
    assert events(runs, "tool_result")["tool"].to_list() == [a["name"] for a in answers]
    assert problems(runs) == []


def test_thoughts_hooks_flags_and_identity_of_a_session(folder: Path) -> None:
    runs = loaders.load(folder / SESSION)
    run = runs.trajectories.collect().row(0, named=True)
    first = json.loads((folder / SESSION).read_text().splitlines()[0])
    assert (run["native_id"], run["framework_version"]) == (first["sessionId"], first["version"])
    assert run["model"] == "synthetic-model"
    frame = events(runs)
    assert frame.filter(kind="thinking")["thinking_state"].to_list() == ["text"]
    assert frame.filter(kind="user")["actor"].to_list() == [None, "hook", "notification"]
    assert frame.filter(kind="tool_result")["is_error"].to_list() == [False]
    assert json.loads(run["metadata"])["telemetry"] == {"replies": 1}


def test_a_branch_that_was_left_is_told_and_not_in_the_context(folder: Path) -> None:
    runs = loaders.load(folder / BRANCHES)
    assert steps(runs, "model") == ["synthetic-dead-model", "synthetic-active-model"]
    assert steps(runs, "history_edit") == [None, "truncated"]
    # without the answer and the title that were left behind
    assert steps(runs, "context") == [None, [{"start": 0, "stop": 1}, {"start": 3, "stop": 5}]]
    # two records of one uuid: the thought and the call are one model call
    assert events(runs).filter(step=1)["kind"].to_list()[:3] == ["thinking", "tool_call", "message"]
    assert (steps(runs, "input_tokens")[1], steps(runs, "output_tokens")[1]) == (12, 4)
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["title"] == "Active branch title"
    assert len(metadata["folders"]) == 3


def test_records_that_share_a_line_are_read_and_found_again(folder: Path) -> None:
    runs = loaders.load(folder / GLUED)
    assert events(runs)["source_pos"].to_list() == [
        "L1/0/message/parts/0/text",
        "L1/1/message/parts/0/text",
    ]
    for told in events(runs).to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"]) == told["text"]
    assert problems(runs) == [("L1", "warning")]


def test_telemetry_is_counted_and_its_errors_are_told(folder: Path) -> None:
    runs = loaders.load(folder / TELEMETRY)
    records = [json.loads(line) for line in (folder / TELEMETRY).read_text().splitlines()]
    measures = [
        r["systemPayload"]["uiEvent"] for r in records if r.get("subtype") == "ui_telemetry"
    ]
    errors = [event for event in measures if "error_message" in event]
    told = events(runs, "error")
    assert told["text"].to_list() == [event["error_message"] for event in errors]
    assert told["actor"].to_list() == ["coder-model"]
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert sum(metadata["telemetry"].values()) == len(measures) - len(errors)
    commands = sum(r.get("subtype") == "slash_command" for r in records)
    assert (
        events(runs, "other")["actor"].to_list()
        == ["slash_command"] * commands
        == [
            "slash_command",
            "slash_command",
        ]
    )


def test_places_lead_back_and_nothing_is_lost(folder: Path) -> None:
    runs = loaders.load(folder / SESSION)
    for told in events(runs, "tool_call").to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"])["id"] == told["call_id"]
    assert loaders.coverage(folder, qwen_code, progress=False).lost.is_empty()


# ---------------------------------------------------------------------- written here


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # Gemini's API: thoughts stand beside the candidates
        ({"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 6,
          "totalTokenCount": 20, "cachedContentTokenCount": 8}, (10, 10, 6, 8)),
        # OpenAI's, translated: thoughts are part of the candidates
        ({"promptTokenCount": 10, "candidatesTokenCount": 9, "thoughtsTokenCount": 6,
          "totalTokenCount": 19}, (10, 9, 6, None)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 9, "toolUsePromptTokenCount": 2,
          "totalTokenCount": 21}, (12, 9, None, None)),
        ({"promptTokenCount": "many"}, (None, None, None, None)),
    ],
)  # fmt: skip
def test_tokens_of_both_ways_to_count(
    tmp_path: Path, usage: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    runs = load(tmp_path, said("a", None, "hi", usageMetadata=usage))
    names = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    assert tuple(steps(runs, name)[0] for name in names) == expected


def test_thinking_of_all_states(tmp_path: Path) -> None:
    thought = {"text": "hm", "thought": True}
    call = {"functionCall": {"id": "c", "name": "ls", "args": {}}, "thoughtSignature": "sig-2"}
    hidden = {"thought": True, "thoughtSignature": "sig-1"}
    runs = load(
        tmp_path,
        said("a", None, thought, model="coder"),
        said("b", "a", {**thought, "thoughtSignature": "sig-0"}, model="gemini-3-pro"),
        said("c", "b", hidden, call, model="gemini-3-pro"),
    )
    told = events(runs, "thinking").select("thinking_state", "text", "signature").rows()
    assert told == [
        ("text", "hm", None),
        ("summary", "hm", "sig-0"),
        ("hidden", None, "sig-1"),
        ("hidden", None, "sig-2"),
    ]
    assert steps(runs, "thinking") == ["text", "summary", "hidden"]


def test_results_of_all_kinds(tmp_path: Path) -> None:
    def answer(name: str, status: str | None, response: Any, **more: Any) -> dict[str, Any]:
        part = {"functionResponse": {"id": name, "name": "ls", "response": response, **more}}
        noted = {"callId": name, "status": status, "errorType": more.get("type")}
        return said(f"r{name}", "a", part, kind="tool_result", toolCallResult=noted)

    calls = [{"functionCall": {"id": str(n), "name": "ls", "args": {"n": n}}} for n in range(5)]
    image = {"inlineData": {"mimeType": "image/png", "data": "x"}}
    runs = load(
        tmp_path,
        *(said("a", None, *calls), answer("0", "success", {"output": "fine"}, parts=[image])),
        *(answer("1", "error", {"error": "gone"}, type="E"), answer("2", "cancelled", {"x": 1})),
        answer("3", None, {"output": "o", "more": 2}),
    )
    told = events(runs, "tool_result")
    texts = ["fine", "gone", '{"x":1}', '{"output":"o","more":2}']
    assert told["text"].to_list() == texts
    assert told["is_error"].to_list() == [False, True, None, None]
    assert told["error_type"].to_list() == [None, "E", "cancelled", None]
    assert told["media"].to_list()[0] == ["image/png"]
    assert runs.trajectories.collect()["unanswered_calls"].to_list() == [1]


def test_after_a_compression_the_context_is_unknown(tmp_path: Path) -> None:
    summary = [{"role": "user", "parts": [{"text": "so far: nothing"}]}, {"role": "model"}]
    runs = load(
        tmp_path,
        *(asked("u", None, "go"), said("a", "u", "one")),
        noted("z", "a", "chat_compression", info={"kept": 3}, compressedHistory=summary),
        *(asked("v", "z", "on"), said("b", "v", "two"), said("c", "u", "three")),
    )
    assert events(runs, "compaction")["text"].to_list() == ["so far: nothing"]
    assert steps(runs, "history_edit") == [None, "compacted", "truncated"]
    assert steps(runs, "context") == [None, None, [{"start": 0, "stop": 1}]]
    assert json.loads(runs.trajectories.collect()["metadata"][0]) == {"compressions": [{"kept": 3}]}


def test_subagents_in_the_same_file_are_runs_of_their_own(tmp_path: Path) -> None:
    aside = {"isSidechain": True, "agentId": "explore-1", "agentName": "Explore"}
    start = {"functionCall": {"id": "c9", "name": "agent", "args": {}}}
    task = {"taskId": "explore-1", "kind": "agent", "toolUseId": "c9"}
    runs = load(
        tmp_path,
        *(asked("u", None, "go"), said("a", "u", start)),
        *(asked("x", None, "look", **aside), said("y", "x", "found", **aside)),
        asked("n", "a", "done", subtype="notification", systemPayload={"backgroundTask": task}),
        said("b", "n", "thanks"),
    )
    frame = runs.trajectories.collect()
    assert frame["native_id"].to_list() == ["s1", "explore-1"]
    assert frame["parent_id"].to_list() == [None, frame["trajectory_id"][0]]
    assert frame["parent_seq"].to_list() == [None, 1]
    assert events(runs).filter(run=1)["text"].to_list() == ["look", "found"]
    assert not claude_code.sniff(Source(tmp_path / "chat.jsonl").head)


def test_an_early_session_is_read_as_one_of_gemini_cli(tmp_path: Path) -> None:
    messages = [
        {"id": "1", "type": "user", "content": "go"},
        {"id": "2", "type": "qwen", "content": "fine", "model": "coder", "thoughts": []},
    ]
    session = {"sessionId": "old", "projectHash": "p", "messages": messages}
    (tmp_path / "session-1.json").write_text(json.dumps(session))
    runs = loaders.load(tmp_path / "session-1.json")
    run = runs.trajectories.collect().row(0, named=True)
    assert (run["format"], run["framework"], run["steps"]) == ("gemini_cli", "qwen-code", 1)
    assert events(runs, "message")["text"].to_list() == ["fine"]


def test_hostile_records_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(asked("u", None, "go"), "[1]", '{"uuid": "x", "type":', {"lonely": 1}),
        *(record("a", "u", "assistant", message=[1]), said("b", [], 3, {"functionCall": "x"})),
        said("c", "b", {"functionCall": {"id": 5}}, model=[], usageMetadata=[1], timestamp={}),
        record("d", "c", "tool_result", toolCallResult="x", message={"parts": [None, {"a": 1}]}),
        *(noted("e", "d", "ui_telemetry", uiEvent=[2]), record("f", "e", "system", subtype=7)),
        *('{"uuid": 1}{"type": 3} x', said("g", "f", "end")),
    )
    assert events(runs, "message")["text"].to_list()[-1] == "end"
    parts = {"L6/message/parts/0", "L8/message/parts/0"}
    assert {place for place, _ in problems(runs)} == {"L2", "L3", "L4", "L11/0", "L11", *parts}


def test_a_session_cut_anywhere_gives_what_stands_before(tmp_path: Path) -> None:
    lines = [asked("u", None, "go"), said("a", "u", "one"), said("b", "a", "two")]
    text = "\n".join(map(json.dumps, lines))
    whole = events(load(tmp_path, text))["text"].to_list()
    for end in range(len(json.dumps(lines[0])), len(text), 7):
        runs = load(tmp_path, text[:end])
        told = events(runs)["text"].to_list()
        assert told == whole[: len(told)]
        assert problems(runs) or text[:end].endswith("}")


def test_time_is_linear_in_records_and_branches(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        lines = [asked("u", None, "go")]
        for number in range(size):
            lines += [said(f"a{number}", "u" if number % 2 else f"a{number - 1}", "x")]
        start = time.process_time()
        load(tmp_path, *lines)
        return time.process_time() - start

    seconds(200)
    assert seconds(8_000) < 16 * seconds(1_000) + 1
