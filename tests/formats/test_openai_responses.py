"""OpenAI Responses, against figures counted from the raw files, and on logs written here."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import loaders
from loaders import Trajectories
from loaders.formats import codex, openai_chat, openai_responses
from loaders.sources import Source

Object = dict[str, Any]
TOOL = {"type": "function", "name": "ls", "description": "List.", "parameters": {"type": "object"}}
USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"cached_tokens": 20},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
}


def user(text: str) -> Object:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


def said(text: str, **more: Any) -> Object:
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": parts, **more}


def thought(number: int, summary: str = "", **more: Any) -> Object:
    parts = [{"type": "summary_text", "text": summary}] if summary else []
    content = {"summary": parts, "encrypted_content": f"gAAA{number}"}
    return {"type": "reasoning", "id": f"rs_{number}", **content, **more}


def called(number: int) -> Object:
    arguments = json.dumps({"path": f"/{number}"})
    call = {"type": "function_call", "name": "ls", "call_id": f"call_{number}"}
    return {**call, "id": f"fc_{number}", "arguments": arguments, "status": "completed"}


def output(number: int, text: Any) -> Object:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": text}


def response(name: str, *items: Object, **more: Any) -> Object:
    body = {"id": name, "object": "response", "created_at": 1761896141, "status": "completed"}
    return {**body, "model": "gpt-x-1", "output": list(items), "usage": USAGE, **more}


def lines(path: Path, *records: Any) -> Trajectories:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return loaders.load(path)


def calls(path: Path, *pairs: tuple[Any, Any], **params: Any) -> Trajectories:
    """Calls as a proxy writes them: (input of the request, or all of it; body of the response)."""
    requests = [asked if isinstance(asked, dict) else {"input": asked} for asked, _ in pairs]
    return lines(
        path,
        *(
            {"request": {"model": "gpt-x", **params, **request}, "response": body}
            for request, (_, body) in zip(requests, pairs, strict=True)
        ),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def kinds(runs: Trajectories) -> list[str]:
    return [kind for (kind,) in events(runs, "kind")]


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def contexts(runs: Trajectories) -> list[list[tuple[int, int]]]:
    return [[(p["start"], p["stop"]) for p in row or []] for (row,) in steps(runs, "context")]


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


# ---------------------------------------------------------------------- real recordings


def bodies(path: Path) -> list[tuple[Object, Object]]:
    """Requests and final responses of a cassette of either layout, by code of its own."""
    data = path.read_bytes()
    tape = yaml.load(gzip.decompress(data) if path.suffix == ".gz" else data, yaml.CSafeLoader)
    if "interactions" in tape:
        pairs = [(one["request"], one["response"]) for one in tape["interactions"]]
        return [(asked["parsed_body"], given["parsed_body"]) for asked, given in pairs]
    found: list[tuple[Object, Object]] = []
    for asked, given in zip(tape["requests"], tape["responses"], strict=True):
        text = given["body"]["string"]
        text = text if isinstance(text, bytes) else text.encode()
        text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
        if text.startswith(b"event:"):
            final = text[text.rindex(b"data: ") + 6 :]
            found.append((json.loads(asked["body"]), json.loads(final)["response"]))
        else:
            found.append((json.loads(asked["body"]), json.loads(text)))
    return found


REAL = (
    "test_codex_agent_loop.yaml.gz",
    "test_compaction.yaml.gz",
    "test_openai_responses_thinking_with_tool_calls.yaml",
    "test_stream_encrypted_reasoning.yaml.gz",
)


def test_only_files_of_this_format_are_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    claimed = {path for path in files if openai_responses.sniff(Source(path).head)}
    assert claimed == {real_logs / "openai_responses" / "cassettes" / name for name in REAL}


@pytest.mark.parametrize("name", REAL)
def test_every_item_and_token_of_a_recording(real_logs: Path, name: str) -> None:
    path = real_logs / "openai_responses" / "cassettes" / name
    pairs = bodies(path)
    runs = loaders.load(path)
    emitted = [item for _, body in pairs for item in body["output"]]
    sent = pairs[-1][0]["input"]
    asked = [item for item in sent if item.get("role") == "user"]
    expected = Counter(
        {"reasoning": "thinking", "function_call": "tool_call"}.get(i["type"], i["type"])
        for i in emitted
    )
    expected["user"] = len(asked)
    expected["tool_result"] = sum(item.get("type") == "function_call_output" for item in sent)
    expected["system"] = int("instructions" in pairs[0][0])
    assert Counter(kinds(runs)) == +expected
    usages = [body["usage"] for _, body in pairs]
    assert steps(runs, "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens") == [
        (
            usage["input_tokens"],
            usage["output_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
            usage["input_tokens_details"]["cached_tokens"],
        )
        for usage in usages
    ]
    columns = ("model", "stop_reason", "evidence")
    assert steps(runs, *columns) == [(b["model"], "completed", "wire") for _, b in pairs]
    assert runs.trajectories.select("unanswered_calls", "orphan_results").collect().rows() == [
        (0, 0)
    ]
    offered = {tool["name"] for request, _ in pairs for tool in request.get("tools") or []}
    assert set(runs.tools.collect()["name"]) == offered
    assert problems(runs) == []
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_summarised_and_hidden_thinking_was_sent_back(real_logs: Path) -> None:
    folder = real_logs / "openai_responses" / "cassettes"
    columns = ("thinking", "thinking_available", "thinking_sent", "history_edit")
    rows = [("summary", 0, 0, "none"), ("absent", 1, 1, "none")]
    assert steps(loaders.load(folder / REAL[2]), *columns) == rows
    # Encrypted anew in the stream's last event; the client sent that of the finished item.
    assert steps(loaders.load(folder / REAL[3]), *columns) == [("hidden", *rows[0][1:]), rows[1]]


def test_a_compaction_replaces_what_stood_before_its_reply(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "openai_responses" / "cassettes" / REAL[1])
    assert contexts(runs) == [[(0, 1)], [(0, 3)], [(3, 6)]]
    assert [edit for (edit,) in steps(runs, "history_edit")] == ["none", "none", "compacted"]


# ---------------------------------------------------------------------- recorded calls


def test_thinking_that_the_client_drops(path: Path) -> None:
    first = [user("go")]
    reply = [thought(0, "hm"), called(0)]
    second = [*first, called(0), output(0, "a b")]
    runs = calls(path, (first, response("r0", *reply)), (second, response("r1", said("done"))))
    assert kinds(runs) == ["user", "thinking", "tool_call", "tool_result", "message"]
    assert steps(runs, "thinking_sent", "history_edit") == [(0, "none"), (0, "thinking_dropped")]
    assert steps(runs, "started_at")[0][0].isoformat() == "2025-10-31T07:35:41+00:00"


def test_requests_that_name_an_earlier_response_go_on_from_it(path: Path) -> None:
    runs = calls(
        path,
        ("go", response("r0", thought(0), called(0))),
        ({"previous_response_id": "r0", "input": [output(0, "x")]}, response("r1", called(1))),
        ({"previous_response_id": "r1", "input": [output(1, "x")]}, response("r2", said("ok"))),
        ({"previous_response_id": "r2", "input": "go"}, response("r3", said("ok"))),
        instructions="Be brief.",
        tools=[TOOL],
    )
    assert runs.trajectories.collect().height == 1
    one = ["tool_call", "tool_result"]
    assert kinds(runs) == [
        *("system", "user", "thinking", *one, *one, "message", "user", "message"),
    ]
    assert contexts(runs) == [[(0, 2)], [(0, 5)], [(0, 7)], [(0, 9)]]
    assert steps(runs, "thinking_sent") == [(0,), (1,), (1,), (1,)]
    assert runs.trajectories.select("unanswered_calls", "orphan_results").collect().row(0) == (0, 0)


def test_a_branch_and_a_compaction_of_a_held_history(path: Path) -> None:
    squeezed = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gZZZ"}
    runs = calls(
        path,
        ("go", response("r0", thought(0), said("one"))),
        ({"previous_response_id": "r0", "input": "two"}, response("r1", said("2"), squeezed)),
        ({"previous_response_id": "r1", "input": "three"}, response("r2", said("3"))),
        ({"previous_response_id": "r0", "input": "again"}, response("r3", said("4"))),
    )
    assert kinds(runs)[:6] == ["user", "thinking", "message", "user", "message", "compaction"]
    assert contexts(runs) == [[(0, 1)], [(0, 4)], [(4, 7)], [(0, 3), (8, 9)]]
    assert steps(runs, "thinking_sent", "history_edit") == [
        *((0, "none"), (1, "none"), (0, "compacted"), (1, "truncated")),
    ]


def test_a_history_that_is_not_on_the_recording_leaves_the_context_open(path: Path) -> None:
    resumed = {"previous_response_id": "gone", "input": [output(7, "x")]}
    after = {"previous_response_id": "r0", "input": "more"}
    runs = calls(path, (resumed, response("r0", said("a"))), (after, response("r1", said("b"))))
    assert runs.trajectories.select("steps", "orphan_results").collect().rows() == [(2, 1)]
    assert steps(runs, "evidence", "context") == [("unknown", None)] * 2


def test_items_named_by_id_were_sent(path: Path) -> None:
    named = [{"type": "item_reference", "id": name} for name in ("rs_0", "fc_0")]
    runs = calls(
        path,
        ([user("go")], response("r0", thought(0), called(0))),
        ([user("go"), *named, output(0, "x")], response("r1", said("ok"))),
    )
    assert kinds(runs) == ["user", "thinking", "tool_call", "tool_result", "message"]
    assert steps(runs, "thinking_sent") == [(0,), (1,)]


def test_the_compact_endpoint_begins_a_shorter_history(path: Path) -> None:
    squeezed = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gZZZ"}
    body = {**response("c", user("go"), squeezed), "object": "response.compaction"}
    runs = calls(
        path,
        ([user("go")], response("r0", said("one"))),
        ([user("go"), said("one"), user("two")], response("r1", said("three"))),
        ([user("go"), said("one"), user("two"), said("three")], body),
        ([user("go"), squeezed, user("four")], response("r2", said("five"))),
    )
    assert kinds(runs) == [*["user", "message"] * 2, "compaction", "user", "message"]
    assert contexts(runs)[-1] == [(4, 6)]
    assert steps(runs, "history_edit")[-1] == ("compacted",)


def test_a_stream_cut_short_gives_what_came(path: Path) -> None:
    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    begun = {**response("r0"), "status": "in_progress", "usage": None}
    stream = event("response.created", response=begun)
    stream += event("response.output_item.done", output_index=0, item=thought(0))
    empty = {"type": "message", "role": "assistant", "content": []}
    stream += event("response.output_item.added", output_index=1, item=empty)
    for piece in ("half ", "a word"):
        where = {"output_index": 1, "content_index": 0}
        stream += event("response.output_text.delta", **where, delta=piece)
    arguments = {"output_index": 2, "delta": '{"a":'}
    open_call = {**called(0), "arguments": ""}
    stream += event("response.output_item.added", output_index=2, item=open_call)
    stream += event("response.function_call_arguments.delta", **arguments)
    runs = calls(path, ([user("go")], stream))
    assert events(runs, "kind", "text", "arguments")[1:] == [
        ("thinking", None, None),
        ("message", "half a word", None),
        ("tool_call", None, '{"a":'),
    ]
    assert problems(runs) == ["the stream ends before the reply does"]


def test_failures_and_limits(path: Path) -> None:
    error = {"code": "server_error", "message": "try again"}
    failed = response("r0", status="failed", error=error)
    limit = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    runs = calls(path, ([user("go")], failed), ([user("go")], response("r1", said("ha"), **limit)))
    assert kinds(runs) == ["user", "error", "message"]
    assert steps(runs, "error", "stop_reason")[1] == (None, "max_output_tokens")
    assert events(runs, "text", "error_type")[1] == ("try again", "server_error")


# ---------------------------------------------------------------------- responses and items alone


def test_a_response_alone_repeats_all_but_its_input(tmp_path: Path) -> None:
    path = tmp_path / "response.json"
    echo = {"instructions": "Be brief.", "tools": [TOOL], "temperature": 0.5}
    body = response("r0", thought(0, "plan"), called(0), **echo)
    path.write_text(json.dumps(body))
    runs = loaders.load(path)
    assert kinds(runs) == ["system", "thinking", "tool_call"]
    assert steps(runs, "model", "cached_tokens", "evidence") == [("gpt-x-1", 20, "unknown")]
    params = json.loads(runs.trajectories.collect()["params"][0])
    assert params == {"temperature": 0.5}
    assert runs.raw(runs.trajectories.collect()["trajectory_id"][0], 1)["id"] == "rs_0"


def items_of_all_kinds() -> list[Object]:
    shell = {"type": "shell_call_output", "call_id": "s", "output": [
        {"stdout": "out", "stderr": "err", "outcome": {"type": "exit", "exit_code": 3}}]}  # fmt: skip
    return [
        {"role": "developer", "content": "Rules."},
        user("look"),
        thought(0, content=[{"type": "reasoning_text", "text": "open words"}]),
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"query": "q"}},
        {"type": "mcp_call", "id": "m", "name": "find", "arguments": "{}", "error": "no server"},
        {"type": "shell_call", "call_id": "s", "action": {"commands": ["ls"]}},
        shell,
        {"type": "custom_tool_call", "call_id": "p", "name": "patch", "input": "raw text"},
        {"type": "custom_tool_call_output", "call_id": "p", "output": [
            {"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": "data:"}]},
        {"type": "code_interpreter_call", "id": "ci", "code": "1", "outputs": [{"logs": "2"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "something_new", "id": "n"},
    ]  # fmt: skip


def test_items_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps(items_of_all_kinds()))
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "tool", "is_error", "exit_code", "media") == [
        ("system", None, "Rules.", None, None, None, None),
        ("user", None, "look", None, None, None, None),
        ("thinking", 0, "open words", None, None, None, None),
        ("tool_call", 0, None, "web_search", None, None, None),
        ("tool_call", 0, None, "find", None, None, None),
        ("tool_result", 0, "no server", "find", True, None, None),
        ("tool_call", 0, None, "shell", None, None, None),
        ("tool_result", 0, "out\nerr", "shell", None, 3, None),
        ("tool_call", 1, None, "patch", None, None, None),
        ("tool_result", 1, "ok", "patch", None, None, ["input_image"]),
        ("tool_call", 2, None, "code_interpreter", None, None, None),
        ("tool_result", 2, "2", "code_interpreter", None, None, None),
        ("message", 2, "No.", None, None, None, None),
        ("other", 2, '{"type":"something_new","id":"n"}', None, None, None, None),
    ]
    assert steps(runs, "evidence") == [("unknown",)] * 3


@pytest.mark.parametrize("layout", ["lines", "row", "rows", "call"])
def test_layouts_of_items(tmp_path: Path, layout: str) -> None:
    items = [user("go"), thought(0, "plan"), called(0), output(0, "a")]
    row = {"items": items, "tools": [TOOL], "instructions": "Be brief.", "task_id": "t1"}
    path = tmp_path / "log.jsonl"
    if layout == "lines":
        runs = lines(path, *items)
    elif layout == "call":
        flat = {"input": items, "model": "m", "output": [said("ok")], "usage": USAGE}
        runs = lines(path, flat)
        assert steps(runs, "evidence", "input_tokens")[-1] == ("wire", 50)
    else:
        runs = lines(path, *[row] * (2 if layout == "rows" else 1))
        assert set(runs.trajectories.collect()["task_id"]) == {"t1"}
        assert runs.trajectories.collect().height == (2 if layout == "rows" else 1)
    assert {"thinking", "tool_call", "tool_result"} <= set(kinds(runs))
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_plain_chat_and_rollouts_are_left_to_their_formats(tmp_path: Path) -> None:
    chat, rollout = tmp_path / "chat.json", tmp_path / "rollout.jsonl"
    chat.write_text(json.dumps([{"role": "user", "content": "a"}, {"role": "assistant"}]))
    head = {"id": "x", "timestamp": "2025-01-01T00:00:00Z", "instructions": None}
    rollout.write_text(json.dumps(head) + "\n" + json.dumps(called(0)) + "\n")
    both = tmp_path / "items.json"
    both.write_text(json.dumps([{"role": "user", "content": "a"}, thought(0)]))
    modules = (openai_chat, codex, openai_responses)
    found = [
        [m.__name__.split(".")[-1] for m in modules if m.sniff(Source(path).head)]
        for path in (chat, rollout, both)
    ]
    assert found == [["openai_chat"], ["codex"], ["openai_responses"]]


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], {"type": 5}])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    keys = ("content", "summary", "call_id", "name", "arguments", "output", "id", "role", "type")
    items = [{**item, key: junk} for item in items_of_all_kinds() for key in keys]
    path = tmp_path / "calls.jsonl"
    wrong = [(items, response("r0", *items)), (junk, response("r1", said("ok"), usage=junk))]
    wrong += [([user("go")], response("r2", id=junk, output=junk, incomplete_details=junk))]
    runs = calls(path, ([user("hi")], response("r", said("ok"))), *wrong, tools=junk)
    assert "hi" in [text for (text,) in events(runs, "text")]
    assert not [reason for reason in problems(runs) if "Error" in reason]
    alone = tmp_path / "items.json"
    alone.write_text(json.dumps([user("hi"), *items, junk]))
    assert events(loaders.load(alone), "text")[0] == ("hi",)


def test_time_grows_with_the_size(path: Path) -> None:
    def took(count: int) -> float:
        pairs: list[tuple[Any, Any]] = [("go", response("r0", called(0)))]
        for n in range(1, count):
            asked = {"previous_response_id": f"r{n - 1}", "input": [output(n - 1, "x" * 300)]}
            pairs.append((asked, response(f"r{n}", called(n))))
        start = time.perf_counter()
        assert calls(path, *pairs).steps.select(pl.len()).collect().item() == count
        return time.perf_counter() - start

    took(10)
    assert took(400) < 5
