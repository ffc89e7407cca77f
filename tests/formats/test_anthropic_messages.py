"""Anthropic Messages, against figures counted from the raw files, and on logs written here."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import loaders
from loaders import Trajectories
from loaders.formats import anthropic_messages, openai_chat
from loaders.sources import Source

Object = dict[str, Any]
FOLDER = "anthropic_messages"
USER = {"role": "user", "content": "fix it"}


def column(runs: Trajectories, name: str) -> list[Any]:
    return runs.trajectories.select(name).collect()[name].to_list()


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def ranges(runs: Trajectories) -> list[list[tuple[int, int]]]:
    rows = runs.steps.collect()["context"].to_list()
    return [[(part["start"], part["stop"]) for part in row or []] for row in rows]


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


def parsed(body: Any) -> Any:
    """A body as its cassette has it, decoded; the text of a stream."""
    if isinstance(body, bytes):
        body = body.decode()
    return json.loads(body) if isinstance(body, str) and body.startswith("{") else body


def cassette(path: Path) -> list[tuple[Object, Any]]:
    """Requests and responses, decoded without the loader."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    tape = yaml.load(data, yaml.CSafeLoader)
    if "interactions" in tape:
        return [
            (i["request"]["parsed_body"], i["response"]["parsed_body"])
            for i in tape["interactions"]
        ]
    pairs = zip(tape["requests"], tape["responses"], strict=True)
    return [(parsed(a["body"]), parsed(b["body"]["string"])) for a, b in pairs]


def final_usage(response: Any) -> tuple[int, int]:
    """Input and output tokens as the response last states them; streams state them last."""
    if isinstance(response, str):
        events = [json.loads(x[6:]) for x in response.split("\n") if x.startswith("data: ")]
        usage = next(e for e in events if e["type"] == "message_delta")["usage"]
    else:
        usage = response["usage"]
    return usage["input_tokens"], usage["output_tokens"]


def test_only_files_of_this_format_are_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    claimed = {path for path in files if anthropic_messages.sniff(Source(path).head)}
    assert claimed == set((real_logs / FOLDER / "cassettes").iterdir())
    assert len(claimed) == 5


# ---------------------------------------------------------------------- real cassettes

NAMES = {
    "test_agent_loop.yaml.gz": (1, 0),
    "test_anthropic_tool_with_thinking.yaml": (1, 1),
    "test_context_management.yaml.gz": (2, 0),
    "test_thinking.yaml.gz": (2, 3),
}


@pytest.mark.parametrize("name", NAMES)
def test_cassettes(real_logs: Path, name: str) -> None:
    path = real_logs / FOLDER / "cassettes" / name
    calls = cassette(path)
    runs = loaders.load(path)
    count, thoughts = NAMES[name]
    assert column(runs, "provider") == ["anthropic"] * count
    assert steps(runs, "input_tokens", "output_tokens") == [final_usage(r) for _, r in calls]
    events = runs.events.collect()
    assert events.filter(pl.col("kind") == "thinking").height == thoughts
    blocks = [b for _, r in calls if isinstance(r, dict) for b in r["content"]]
    for kind, field in (("thinking", "thinking"), ("message", "text")):
        expected = [block[field] for block in blocks if field in block]
        told = events.filter(pl.col("kind") == kind)["text"].to_list()
        assert Counter(expected) <= Counter(told)
    assert set(json.loads(column(runs, "params")[0])) == calls[0][0].keys() - {
        *("messages", "tools", "model", "stream"),
    }
    assert problems(runs) == []


def test_thinking_and_its_signature_are_sent_back(real_logs: Path) -> None:
    path = real_logs / FOLDER / "cassettes" / "test_anthropic_tool_with_thinking.yaml"
    (_, first), _ = cassette(path)
    runs = loaders.load(path)
    thought = runs.events.filter(pl.col("kind") == "thinking").collect().row(0, named=True)
    assert thought["signature"] == first["content"][0]["signature"]
    assert steps(runs, "thinking", "thinking_available", "thinking_sent", "evidence") == [
        ("text", 0, 0, "wire"),
        ("absent", 1, 1, "wire"),
    ]
    result = runs.events.filter(pl.col("kind") == "tool_result").collect().row(0, named=True)
    assert (result["is_error"], result["call_seq"]) == (False, 3)
    assert runs.tools.collect()["name"].to_list() == ["get_user_country"]


def test_equal_greetings_are_continued_by_their_thinking(real_logs: Path) -> None:
    """Two calls got the same reply; the third goes on with the one whose signature it carries."""
    path = real_logs / FOLDER / "cassettes" / "test_thinking.yaml.gz"
    calls = cassette(path)
    runs = loaders.load(path)
    assert column(runs, "steps") == [1, 2]
    signature = calls[2][0]["messages"][1]["content"][0]["signature"]
    second = runs.events.filter(pl.col("run") == 1, pl.col("kind") == "thinking").collect()
    assert second["signature"].to_list()[0] == signature
    assert signature in calls[1][1]


def test_compaction_by_the_api_is_a_call_of_its_own(real_logs: Path) -> None:
    path = real_logs / FOLDER / "cassettes" / "test_anthropic_compaction_end_to_end.yaml"
    calls = cassette(path)
    usages = [usage for _, r in calls for usage in r["usage"]["iterations"]]
    runs = loaders.load(path)
    assert steps(runs, "input_tokens", "output_tokens") == [
        (usage["input_tokens"], usage["output_tokens"]) for usage in usages
    ]
    assert column(runs, "input_tokens") == [55_196 + 220 + 239]
    kinds = runs.events.collect()["kind"].to_list()
    assert kinds == ["system", "user", "compaction", "message", "user", "message"]
    assert steps(runs, "history_edit", "stop_reason") == [
        ("none", None),
        ("compacted", "end_turn"),
        ("compacted", "end_turn"),
    ]
    assert ranges(runs) == [[(0, 2)], [(0, 1), (2, 3)], [(0, 1), (2, 5)]]


def test_searches_at_the_provider_keep_titles_and_addresses(real_logs: Path) -> None:
    path = real_logs / FOLDER / "cassettes" / "test_context_management.yaml.gz"
    _, response = cassette(path)[0]
    hits = next(b for b in response["content"] if b["type"] == "web_search_tool_result")["content"]
    runs = loaders.load(path)
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    lines = [line for hit in hits for line in (hit["title"], hit["url"], hit["page_age"]) if line]
    assert results["text"].to_list()[0].split("\n") == lines
    assert results["call_seq"].to_list() == [1, 1]


def test_every_event_leads_back_to_its_record(real_logs: Path) -> None:
    for path in (real_logs / FOLDER / "cassettes").iterdir():
        runs = loaders.load(path)
        for row in runs.events.collect().iter_rows(named=True):
            raw = runs.raw(row["trajectory_id"], row["seq"])
            if isinstance(raw, str):  # a plain text, or a stream in which texts stand in pieces
                assert row["text"] == raw or raw.startswith("event: message_start")
            else:
                held = raw.get("text", raw.get("thinking", raw.get("content")))
                assert row["kind"] in ("tool_call", "tool_result") or row["text"] == held


# ---------------------------------------------------------------------- transcripts

TRANSCRIPT: list[Object] = [
    USER,
    {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "plan", "signature": "s"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "."}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "no such file"},
        {"type": "text", "text": "try again"},
    ]},
    {"role": "assistant", "content": [
        {"type": "redacted_thinking", "data": "d"},
        {"type": "thinking", "thinking": "", "signature": "u"},
        {"type": "text", "text": "Done."},
    ]},
]  # fmt: skip
KINDS = [
    *("user", "thinking", "message", "tool_call", "tool_result", "user"),
    *("thinking", "thinking", "message"),
]
ROW = {"system": "Be kind.", "messages": TRANSCRIPT, "tools": [{"name": "ls", "input_schema": {}}]}


def as_lines(*values: Any) -> str:
    return "\n".join(json.dumps(value) for value in values)


LAYOUTS = {
    "list": (json.dumps(TRANSCRIPT), 1, False),
    "object": (json.dumps(ROW), 1, True),
    "object, indented": (json.dumps(ROW, indent=2), 1, True),
    "rows": (json.dumps([ROW, ROW]), 2, True),
    "lines of rows": (as_lines(ROW, ROW), 2, True),
    "lines of messages": (as_lines(*TRANSCRIPT), 1, False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_alike(tmp_path: Path, layout: str) -> None:
    text, count, is_row = LAYOUTS[layout]
    path = tmp_path / "log.json"
    path.write_text(text)
    assert not openai_chat.sniff(Source(path).head)
    runs = loaders.load(path)
    assert column(runs, "format") == ["anthropic_messages"] * count
    assert column(runs, "steps") == [2] * count
    for trajectory_id in column(runs, "trajectory_id"):
        events = runs.events.filter(pl.col("trajectory_id") == trajectory_id).collect()
        assert events["kind"].to_list() == ["system"] * is_row + KINDS
        states = events["thinking_state"].drop_nulls().to_list()
        assert states == ["text", "redacted", "hidden"]
        assert events["is_error"].to_list()[-5] is True
        assert all(runs.raw(trajectory_id, seq) is not None for seq in range(events.height))
    assert steps(runs, "thinking", "evidence")[:2] == [("text", "unknown"), ("hidden", "unknown")]
    assert runs.tools.collect()["name"].to_list() == ["ls"] * is_row
    assert problems(runs) == []


def test_dumped_responses_keep_usage_and_stop_reason(tmp_path: Path) -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 5}
    answer = {**TRANSCRIPT[1], "model": "m", "stop_reason": "tool_use", "usage": usage}
    path = tmp_path / "log.jsonl"
    path.write_text(as_lines(USER, answer))
    runs = loaders.load(path)
    assert steps(runs, "model", "stop_reason", "input_tokens", "cached_tokens") == [
        ("m", "tool_use", 10, 7)
    ]


# ---------------------------------------------------------------------- recorded calls


def message(*blocks: Object, **more: Any) -> Object:
    usage = {"input_tokens": 10, "output_tokens": 5}
    base = {"type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn"}
    return {**base, "usage": usage, "content": list(blocks), **more}


def think(number: int) -> Object:
    return {"type": "thinking", "thinking": f"thought {number}", "signature": f"sign {number}"}


def use(number: int) -> Object:
    return {"type": "tool_use", "id": f"t{number}", "name": "ls", "input": {"n": number}}


def answered(number: int, text: str = "out", **more: Any) -> Object:
    return {
        "type": "tool_result",
        "tool_use_id": f"t{number}",
        "content": f"{text} {number}",
        **more,
    }


def text(words: str) -> Object:
    return {"type": "text", "text": words}


def log(path: Path, *calls: tuple[list[Object], Any], **request: Any) -> Trajectories:
    """A log of (messages of the request, body of the response), as an HTTP proxy writes it."""
    url = "https://api.anthropic.com/v1/messages?beta=true"
    lines = [
        {
            "request": {"timestamp": 1_767_225_600 + 10 * n, "method": "POST", "url": url, "body": {"messages": messages, "model": "claude-x", **request}},
            "response": {"timestamp": 1_767_225_605 + 10 * n, "status_code": 200, ("body_raw" if isinstance(body, str) else "body"): body},
        }
        for n, (messages, body) in enumerate(calls)
    ]  # fmt: skip
    path.write_text(as_lines(*lines))
    return loaders.load(path)


def loop(count: int) -> list[tuple[list[Object], Object]]:
    messages: list[Object] = [USER]
    calls: list[tuple[list[Object], Object]] = []
    for number in range(count):
        blocks = [think(number), use(number)]
        calls.append((list(messages), message(*blocks)))
        messages.append({"role": "assistant", "content": blocks})
        messages.append({"role": "user", "content": [answered(number)]})
    return calls


def test_the_log_of_an_http_proxy(tmp_path: Path) -> None:
    runs = log(tmp_path / "log.jsonl", *loop(3), system=[text("Be kind.")], max_tokens=9)
    assert column(runs, "format") == ["anthropic_messages"]
    one = ["thinking", "tool_call", "tool_result"]
    assert runs.events.collect()["kind"].to_list() == ["system", "user", *(one * 3)[:-1]]
    assert steps(runs, "thinking_sent", "evidence") == [(n, "wire") for n in range(3)]
    assert ranges(runs)[-1] == [(0, 8)]
    run = runs.trajectories.collect().row(0, named=True)
    assert json.loads(run["params"]) == {"max_tokens": 9}
    assert json.loads(run["metadata"]) == {"url": "https://api.anthropic.com/v1/messages?beta=true"}
    assert (run["ended_at"] - run["started_at"]).total_seconds() == 25
    for seq in range(run["events"]):
        assert runs.raw(run["trajectory_id"], seq)


def test_reminders_that_move_are_told_once_each(tmp_path: Path) -> None:
    calls = loop(3)
    for index, (messages, _) in enumerate(calls):
        last = dict(messages[-1])
        content = [text(last["content"])] if isinstance(last["content"], str) else last["content"]
        marked = {**content[-1], "cache_control": {"type": "ephemeral"}}
        last["content"] = [*content[:-1], marked, text(f"reminder {index}")]
        messages[-1] = last
    runs = log(tmp_path / "log.jsonl", *calls)
    texts = runs.events.filter(pl.col("kind") == "user").collect()["text"].to_list()
    assert texts == ["fix it", "reminder 0", "reminder 1", "reminder 2"]
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results.height == 2
    assert steps(runs, "history_edit") == [("none",), ("truncated",), ("truncated",)]


def test_a_streamed_reply_is_put_together(tmp_path: Path) -> None:
    events = [
        {"type": "message_start", "message": message()},
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]  # fmt: skip
    body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    whole = log(tmp_path / "log.jsonl", ([USER], body))
    assert steps(whole, "output_tokens", "stop_reason") == [(8, "max_tokens")]
    assert whole.events.collect()["text"].to_list() == ["fix it", "hello"]
    assert whole.raw(column(whole, "trajectory_id")[0], 1) == body
    assert problems(whole) == []
    cut = log(tmp_path / "cut.jsonl", ([USER], body[: body.index('"lo"')]))
    assert cut.events.collect()["text"].to_list() == ["fix it", "hel"]
    (problem,) = problems(cut)
    assert problem.startswith("the stream ends before the reply does")


def test_errors_of_the_api_are_errors_of_the_call(tmp_path: Path) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "try later"}}
    runs = log(tmp_path / "log.jsonl", ([USER], error), ([USER], message(text("ok"))))
    assert runs.events.collect()["kind"].to_list() == ["user", "error", "message"]
    assert steps(runs, "error", "thinking", "model") == [
        ("try later", None, "claude-x"),
        (None, "absent", "claude-x"),
    ]


def test_a_reply_broken_off_by_an_error_is_asked_for_again(tmp_path: Path) -> None:
    events = [
        {"type": "message_start", "message": message()},
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "try later"}},
    ]
    body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    runs = log(tmp_path / "log.jsonl", ([USER], body), ([USER], message(text("hello"))))
    assert runs.events.collect()["text"].to_list() == ["fix it", "hel", "try later", "hello"]
    assert steps(runs, "error", "history_edit") == [("try later", "none"), (None, "none")]
    assert ranges(runs) == [[(0, 1)], [(0, 1)]]
    assert problems(runs) == []


@pytest.mark.parametrize("keep", [True, False])
def test_hidden_thinking_is_known_by_its_signature(tmp_path: Path, keep: bool) -> None:
    hidden = [
        {"type": "thinking", "thinking": "", "signature": "seal"},
        {"type": "redacted_thinking", "data": "box"},
    ]
    blocks = [*hidden, use(0)]
    back = {"role": "assistant", "content": blocks if keep else blocks[2:]}
    later = [USER, back, {"role": "user", "content": [answered(0)]}]
    runs = log(tmp_path / "log.jsonl", ([USER], message(*blocks)), (later, message(text("ok"))))
    assert steps(runs, "thinking", "thinking_sent")[0] == ("hidden", 0)
    edit = "none" if keep else "thinking_dropped"
    assert steps(runs, "thinking_sent", "history_edit")[1] == (2 * keep, edit)


def test_edits_that_the_api_applied(tmp_path: Path) -> None:
    calls = loop(4)
    clear = {"applied_edits": [{"type": "clear_thinking_20251015", "cleared_thinking_turns": 2}]}
    calls[2][1]["context_management"] = clear
    tools = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 1}]}
    calls[3][1]["context_management"] = tools
    runs = log(tmp_path / "log.jsonl", *calls)
    assert steps(runs, "thinking_sent", "history_edit") == [
        (0, "none"),
        (1, "none"),
        (0, "thinking_dropped"),
        (3, "truncated"),
    ]


def test_a_compaction_that_ends_its_reply_counts_all_its_tokens(tmp_path: Path) -> None:
    summed = {"type": "compaction", "content": "so far"}
    usage = {
        "input_tokens": 0,
        "output_tokens": 0,
        "iterations": [{"type": "compaction", "input_tokens": 900, "output_tokens": 30}],
    }
    calls = loop(2)
    messages = [*calls[1][0], {"role": "assistant", "content": [think(1), use(1)]}]
    messages.append({"role": "user", "content": [answered(1)]})
    calls.append((messages, message(summed, usage=usage, stop_reason="compaction")))
    later = [
        *messages,
        {"role": "assistant", "content": [summed]},
        {"role": "user", "content": "go"},
    ]
    calls.append((later, message(text("ok"))))
    runs = log(tmp_path / "log.jsonl", *calls)
    assert steps(runs, "input_tokens", "history_edit", "thinking_sent")[2:] == [
        (900, "none", 2),
        (10, "compacted", 0),
    ]
    assert ranges(runs)[3] == [(7, 9)]


def test_parallel_results_and_their_errors(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": [use(1), use(2)]}
    back = {"role": "user", "content": [answered(2, "no", is_error=True), answered(1)]}
    runs = log(
        tmp_path / "log.jsonl",
        ([USER], message(use(1), use(2))),
        ([USER, said, back], message(text("ok"))),
    )
    results = runs.events.filter(pl.col("kind") == "tool_result")
    assert results.select("text", "call_seq", "is_error").collect().rows() == [
        ("no 2", 2, True),
        ("out 1", 1, None),
    ]
    assert steps(runs, "history_edit") == [("none",), ("none",)]
