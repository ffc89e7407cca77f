"""Gemini CLI sessions and streams against the raw files, and variants written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import gemini_cli
from loaders.sources import Source

LONG, SHORT = "session-2025-10-27T19-55-981c87cb.json", "session-2025-10-29T10-36-453aa339.json"
PATCHED = "jsonl_v040.jsonl"


def raw_messages(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        return json.loads(path.read_text())["messages"]
    return [r for r in map(json.loads, path.read_text().splitlines()) if "type" in r]


def head(name: str = "s1") -> dict[str, Any]:
    return {"sessionId": name, "projectHash": "p", "startTime": "2026-01-02T03:04:05Z"}


def user(name: str, content: Any = "go") -> dict[str, Any]:
    return {"id": name, "type": "user", "content": content}


def reply(name: str, content: Any = "", **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "gemini", "content": content, **more}


def tokens(sent: int) -> dict[str, int]:
    return {"input": sent, "output": 2, "cached": 1, "thoughts": 3, "tool": 4, "total": sent + 9}


def call(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "name": "shell", "args": {"n": name}, "status": status, **more}


def given(**response: Any) -> list[Any]:
    return [{"functionResponse": {"name": "shell", "response": response}}]


def load(path: Path, *lines: Any) -> Trajectories:
    file = path / "log.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(file, format="gemini_cli")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def problems(runs: Trajectories) -> list[str | None]:
    return runs.problems.collect()["position"].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", [LONG, SHORT, PATCHED])
def test_messages_thoughts_and_calls_are_all_told(real_logs: Path, name: str) -> None:
    path = real_logs / "gemini_cli" / name
    runs, messages = loaders.load(path), raw_messages(path)
    replies = [m for m in messages if m["type"] == "gemini"]
    calls = [c for m in replies for c in m.get("toolCalls", [])]
    assert problems(runs) == []
    assert steps(runs, "model") == [m["model"] for m in replies]
    assert events(runs, "user").height == len(messages) - len(replies)
    assert events(runs, "message").height == sum(bool(m["content"]) for m in replies)
    thoughts = [t for m in replies for t in m["thoughts"]]
    told = events(runs, "thinking")
    assert told["text"].to_list() == [f"{t['subject']}\n{t['description']}" for t in thoughts]
    assert set(told["thinking_state"]) <= {"summary"}
    assert events(runs, "tool_call")["call_id"].to_list() == [c["id"] for c in calls]
    answers = events(runs, "tool_result")
    said = [next(iter(c["result"][0]["functionResponse"]["response"].values())) for c in calls]
    assert answers["text"].to_list() == said
    flags = {"success": False, "error": True, "cancelled": None}
    assert answers["is_error"].to_list() == [flags[c["status"]] for c in calls]
    assert answers["error_type"].to_list() == [
        "cancelled" if c["status"] == "cancelled" else None for c in calls
    ]


@pytest.mark.parametrize("name", [LONG, SHORT, PATCHED])
def test_tokens_of_each_call_add_up_as_logged(real_logs: Path, name: str) -> None:
    path = real_logs / "gemini_cli" / name
    runs = loaders.load(path)
    usage = [m["tokens"] for m in raw_messages(path) if m["type"] == "gemini"]
    frame = runs.steps.collect()
    sums = frame["input_tokens"] + frame["output_tokens"]
    assert sums.to_list() == [u["total"] for u in usage]
    assert frame["reasoning_tokens"].to_list() == [u["thoughts"] for u in usage]
    assert frame["cached_tokens"].to_list() == [u["cached"] for u in usage]
    assert set(frame["evidence"]) == {"unknown"}


def test_thinking_that_was_counted_and_is_not_shown_is_not_logged(real_logs: Path) -> None:
    path = real_logs / "gemini_cli" / LONG
    replies = [m for m in raw_messages(path) if m["type"] == "gemini"]
    expected = ["summary" if m["thoughts"] else "not_logged" for m in replies]
    assert steps(loaders.load(path), "thinking") == expected
    assert "not_logged" in expected


def test_places_lead_back_and_only_own_files_are_recognised(real_logs: Path) -> None:
    for name in (LONG, PATCHED):
        runs = loaders.load(real_logs / "gemini_cli" / name)
        for told in events(runs, "tool_call").to_dicts():
            raw = runs.raw(told["trajectory_id"], told["seq"])
            assert (raw["id"], raw["name"]) == (told["call_id"], told["tool"])
    assert not gemini_cli.sniff(Source(real_logs / "gemini_cli" / "README.md").head)


# ---------------------------------------------------------------------- written here


def test_the_last_writing_of_a_message_counts(tmp_path: Path) -> None:
    done = call("c", "success", result=given(output="ok"))
    runs = load(
        tmp_path,
        *(head(), user("u"), reply("a", "hm"), {"$set": {"summary": "about it"}}),
        *(user("v", "next"), reply("a", "hm", tokens=tokens(10), toolCalls=[done])),
    )
    assert events(runs)["kind"].to_list() == ["user", "message", "tool_call", "tool_result", "user"]
    assert events(runs)["source_pos"].to_list()[1] == "L6/content"
    run = row(runs)
    assert (run["input_tokens"], run["output_tokens"], run["cached_tokens"]) == (14, 5, 1)
    assert json.loads(run["metadata"]) == {"summary": "about it"}


def test_what_is_rewound_is_told_and_leaves_the_context(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(head(), user("u"), reply("a", "wrong"), user("v", "no"), reply("b"), {"$rewindTo": "a"}),
        *(reply("a", "right"), user("w", "more"), reply("c", "end")),
    )
    assert events(runs, "message")["text"].to_list() == ["wrong", "right", "end"]
    assert steps(runs, "history_edit") == [None, None, "truncated", "truncated"]
    first = {"start": 0, "stop": 1}
    assert steps(runs, "context") == [None, None, [first], [first, {"start": 3, "stop": 5}]]


def test_patches_that_replace_all_messages(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(head(), {"$set": {"messages": [user("u"), reply("a", "one", tokens=tokens(1))]}}),
        *(user("v", "two"), {"$set": {"messages": [user("s", "summary"), user("v", "two")]}}),
        *(reply("b", "three"), {"$rewindTo": "unknown"}, reply("c", "four")),
    )
    texts = ["go", "one", "two", "summary", "three", "four"]
    assert events(runs)["text"].to_list() == texts
    assert events(runs)["source_pos"].to_list()[0] == "L2/$set/messages/0/content"
    assert steps(runs, "context")[1:] == [[{"start": 2, "stop": 4}], []]
    assert steps(runs, "history_edit") == [None, "truncated", "truncated"]


@pytest.mark.parametrize("layout", ["lines", "whole lines", "array"])
def test_two_sessions_in_one_file(tmp_path: Path, layout: str) -> None:
    first, second = {**head("one"), "messages": [user("u", "a")]}, [user("u", "b"), reply("r", "c")]
    whole = {**head("two"), "messages": second}
    lines = {
        "lines": [head("one"), user("u", "a"), head("two"), *second, head("two")],
        "whole lines": [first, whole],
        "array": [json.dumps([first, whole])],
    }
    runs = load(tmp_path, *lines[layout])
    assert runs.trajectories.collect()["native_id"].to_list() == ["one", "two"]
    assert events(runs).select("run", "text").rows() == [(0, "a"), (1, "b"), (1, "c")]
    for told in events(runs).to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"]) == told["text"]


def test_a_second_session_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    text = json.dumps({**head(), "messages": [user("u")]}, indent=2)
    runs = load(tmp_path, text + "\n" + text)
    assert events(runs).height == 1
    assert len(problems(runs)) == 1


def test_statuses_and_results_of_calls(tmp_path: Path) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "x"}}
    calls = [
        call("1", "success", result=[*given(output="a"), image], agentId="agent-1"),
        call("2", "error", result=given(error="b")),
        call("3", "cancelled", resultDisplay="c"),
        call("4", "executing"),
        call("5", "success", result=given(other=1)),
        call("6", "success", result="plain"),
    ]
    runs = load(tmp_path, head(), reply("r", toolCalls=calls))
    answers = events(runs, "tool_result")
    assert answers["text"].to_list() == ["a", "b", "c", '{"other":1}', "plain"]
    assert answers["call_seq"].to_list() == [0, 1, 2, 4, 5]
    assert answers["is_error"].to_list() == [False, True, None, False, False]
    assert answers["media"].to_list()[0] == ["image/png"]
    assert row(runs)["unanswered_calls"] == 1


def test_a_subagents_session_finds_its_parent(tmp_path: Path) -> None:
    parent = [head("main"), reply("r", toolCalls=[call("1", "success", agentId="sub")])]
    for name, lines in {"a": parent, "b": [{**head("sub"), "kind": "subagent"}]}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    runs = loaders.load(tmp_path, format="gemini_cli").trajectories.collect()
    main, sub = runs.filter(native_id="main"), runs.filter(native_id="sub")
    assert sub["parent_id"].to_list() == main["trajectory_id"].to_list()


def test_messages_of_one_call_and_parts_of_all_kinds(tmp_path: Path) -> None:
    parts = [{"text": "idea", "thought": True}, {"text": "x"}, {"fileData": {"mimeType": "a/b"}}]
    runs = load(
        tmp_path,
        *(head(), user("c", "<session_context>\nfiles"), user("u", [{"text": "go"}, "now"])),
        *(reply("a", parts), reply("b", tokens=tokens(1), toolCalls=[call("1", "x")])),
        *(reply("d", tokens=tokens(2)), {"id": "e", "type": "info", "content": "note"}),
        {"id": "f", "type": "error", "content": "quota"},
    )
    frame = events(runs)
    kinds = ["user", "user", "thinking", "message", "tool_call", "other", "error"]
    assert frame["kind"].to_list() == kinds
    assert frame["actor"].to_list()[:2] == ["harness", None]
    assert frame["text"].to_list()[1:4] == ["go\nnow", "idea", "x"]
    assert frame["media"].to_list()[3] == ["a/b"]
    assert steps(runs, "input_tokens") == [5, 6]


def test_the_heads_facts_and_the_tools_own_words_are_kept(tmp_path: Path) -> None:
    described = [
        {**call(name, "success"), "displayName": "Shell", "description": name} for name in "12"
    ]
    runs = load(
        tmp_path, {**head(), "lastUpdated": "2026-01-01"}, reply("a", "x", toolCalls=described)
    )
    metadata = json.loads(row(runs)["metadata"])
    assert metadata["lastUpdated"] == "2026-01-01"
    (tool,) = metadata["tools"].values()
    assert tool == {"displayName": "Shell", "description": "1"}, "the first of each tool"


def test_nothing_of_the_real_logs_is_lost(real_logs: Path) -> None:
    assert loaders.coverage(real_logs / "gemini_cli", progress=False).lost.is_empty()


def test_hostile_records_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(head(), "[1]", '{"id": "x", "type":', {"lonely": 1}, {"$set": [1]}, {"$rewindTo": {}}),
        *({"$set": {"messages": [3, {"type": [], "content": {"a": 1}}]}}, reply("y", 4, tokens=[])),
        reply("z", toolCalls=[1, {"result": [1], "args": 2}], thoughts={"a": 1}, model=3),
        *(user("u", [None, {"thought": 1}]), reply("end", "end", tokens={"input": "many"})),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(problems(runs)) == {"L2", "L3", "L4"}


def test_time_is_linear_in_messages_and_rewinds(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        lines = [
            x for n in range(size) for x in (user(f"u{n}"), reply(f"r{n}"), {"$rewindTo": f"r{n}"})
        ]
        start = time.process_time()
        load(tmp_path, head(), *lines)
        return time.process_time() - start

    seconds(200)
    assert seconds(8_000) < 16 * seconds(1_000) + 1


# ---------------------------------------------------------------------- stream-json


def said(text: str, *, delta: bool = True, role: str = "assistant") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, "delta": delta}


INIT = {"type": "init", "timestamp": "2026-01-02T03:04:05Z", "session_id": "st", "model": "g-3"}


def test_a_stream_joins_pieces_and_links_results(tmp_path: Path) -> None:
    use = {"type": "tool_use", "tool_name": "shell", "tool_id": "t1", "parameters": {"a": 1}}
    failed = {
        "type": "tool_result",
        "tool_id": "t1",
        "status": "error",
        "error": {"type": "E", "message": "m"},
    }
    stats = {"total_tokens": 15, "input_tokens": 10, "output_tokens": 5, "cached": 2}
    runs = load(
        tmp_path,
        *(
            INIT,
            "YOLO mode is enabled.",
            said("go", role="user"),
            said("look. I "),
            said("look."),
            use,
        ),
        *(failed, said("Do. N"), said("ow Do."), said("Once more.", delta=False)),
        {"type": "result", "status": "success", "stats": stats},
    )
    assert gemini_cli.sniff(Source(tmp_path / "log.jsonl").head)
    frame = events(runs)
    kinds = ["user", "message", "tool_call", "tool_result", "message", "message"]
    assert frame["kind"].to_list() == kinds
    assert frame["text"].to_list()[1::3] == ["look. I look.", "Do. Now Do."]
    assert frame["step"].to_list() == [None, 0, 0, 0, 1, 1]
    answer = frame.row(3, named=True)
    assert (answer["text"], answer["is_error"], answer["error_type"]) == ("m", True, "E")
    assert (answer["call_seq"], answer["source_pos"]) == (2, "L7/error")
    run = row(runs)
    assert (run["native_id"], run["model"], run["end_reason"]) == ("st", "g-3", "success")
    assert (run["input_tokens"], run["output_tokens"], run["cached_tokens"]) == (10, 5, 2)
    assert steps(runs, "thinking") == ["not_logged", "not_logged"]


def test_a_stream_that_fails_and_one_cut_short(tmp_path: Path) -> None:
    end = {"type": "result", "status": "error", "error": {"type": "F", "message": "fatal"}}
    thought = {**end, "stats": {"total_tokens": 9, "input_tokens": 1, "output_tokens": 2}}
    runs = load(tmp_path, INIT, said("a"), thought, {**INIT, "session_id": "other"}, said("cut"))
    frame = runs.trajectories.collect()
    assert frame.select("native_id", "outcome", "end_reason").rows() == [
        ("st", "error", "fatal"),
        ("other", "unknown", None),
    ]
    assert frame["output_tokens"].to_list() == [None, None]
    assert json.loads(frame["metadata"][0])["error"] == end["error"]
    assert events(runs, "message")["text"].to_list() == ["a", "cut"]
