"""pydantic-ai message histories, on logs written here in the shapes of its versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import pydantic_ai
from loaders.sources import Source

Object = dict[str, Any]
AT = "2026-01-31T10:00:0{}Z"
USAGE = {
    "input_tokens": 10,
    "cache_read_tokens": 3,
    "output_tokens": 5,
    "output_reasoning_tokens": 0,
    "details": {"reasoning_tokens": 2},
}


def part(kind: str, content: Any = None, **more: Any) -> Object:
    return {"content": content, **more, "part_kind": kind}


def called(tool: str, args: Any, call_id: str) -> Object:
    return {"tool_name": tool, "args": args, "tool_call_id": call_id, "part_kind": "tool-call"}


def returned(tool: str, content: Any, call_id: str, **more: Any) -> Object:
    return part("tool-return", content, tool_name=tool, tool_call_id=call_id, **more)


def request(*parts: Object, **more: Any) -> Object:
    names = {"run_id": "run-1", "conversation_id": "talk-1"}
    return {"parts": list(parts), "kind": "request", "timestamp": AT.format(0), **names, **more}


def response(*parts: Object, usage: Any = USAGE, **more: Any) -> Object:
    known = {"usage": usage, "model_name": "m-1", "timestamp": AT.format(2), "run_id": "run-1"}
    return {"parts": list(parts), "kind": "response", **known, **more}


def history() -> list[Object]:
    picture = {"data": "eHg=", "media_type": "image/png", "kind": "binary"}
    return [
        request(
            part("system-prompt", "You list."),
            part("user-prompt", ["look", picture]),
            instructions="Be brief.",
        ),
        response(
            part("thinking", "Plan it.", signature="sig"),
            part("text", "Looking."),
            called("ls", {"path": "/"}, "a"),
            called("boom", '{"a":1}', "b"),
            finish_reason="tool_call",
            provider_name="openai",
        ),
        request(
            returned("ls", ["x", "y"], "a", outcome="success"),
            returned(
                "boom",
                "not so",
                "b",
                outcome="retried",
                retry={"cause": "model_retry", "attempt": 1},
            ),
            instructions="Be brief.",
        ),
        response(part("text", "plain"), usage={"input_tokens": 0, "output_tokens": 0}),
        request(part("retry-feedback", [{"msg": "no JSON"}]), instructions="Be brief, now."),
        response(called("final_result", {"answer": "42"}, "c")),
        request(returned("final_result", "Done.", "c", outcome="success")),
    ]


def write(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def events(runs: Trajectories, *columns: str, kind: str | None = None) -> list[tuple[Any, ...]]:
    rows = runs.events.filter(pl.col("kind") == kind) if kind else runs.events
    return rows.select(columns).collect().rows()


def one(path: Path, *parts: Object) -> Trajectories:
    return loaders.load(write(path, [request(part("user-prompt", "hi")), response(*parts)]))


def test_a_whole_history(tmp_path: Path) -> None:
    runs = loaders.load(write(tmp_path / "m.json", history()))
    assert events(runs, "kind", "step", "text", "tool", "is_error", "error_type") == [
        ("system", None, "Be brief.", None, None, None),
        ("system", None, "You list.", None, None, None),
        ("user", None, "look", None, None, None),
        ("thinking", 0, "Plan it.", None, None, None),
        ("message", 0, "Looking.", None, None, None),
        ("tool_call", 0, None, "ls", None, None),
        ("tool_call", 0, None, "boom", None, None),
        ("tool_result", 0, '["x","y"]', "ls", False, None),
        ("tool_result", 0, "not so", "boom", True, "model_retry"),
        ("other", 0, '{"retry":{"attempt":1}}', None, None, "details"),
        ("message", 1, "plain", None, None, None),
        ("system", 1, "Be brief, now.", None, None, None),
        ("user", 1, '[{"msg":"no JSON"}]', None, None, "retry-feedback"),
        ("tool_call", 2, None, "final_result", None, None),
        ("tool_result", 2, "Done.", "final_result", False, None),
    ]
    assert events(runs, "call_seq", kind="tool_result") == [(5,), (6,), (13,)]
    assert events(runs, "arguments", kind="tool_call")[:2] == [('{"path":"/"}',), ('{"a":1}',)]
    assert events(runs, "media")[2] == (["image/png"],)
    columns = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "evidence")
    steps = runs.steps.select(columns).collect().rows()
    assert steps == [(10, 5, 2, 3, "unknown"), (*[None] * 4, "unknown"), (10, 5, 2, 3, "unknown")]
    times = runs.steps.select("started_at", "ended_at", "stop_reason", "model").collect().row(0)
    assert [time.second for time in times[:2]] == [0, 2]
    assert times[2:] == ("tool_call", "m-1")
    trajectory = runs.trajectories.collect().row(0, named=True)
    assert (trajectory["native_id"], trajectory["provider"]) == ("talk-1", "openai")
    assert (trajectory["framework"], trajectory["unanswered_calls"]) == ("pydantic-ai", 0)
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


@pytest.mark.parametrize(
    ("block", "state"),
    [
        (part("thinking", "words"), "text"),
        (part("thinking", "in short", id="rs_1", signature="enc"), "summary"),
        (part("thinking", "", id="rs_1", signature="enc"), "hidden"),
        (part("thinking", "", id="redacted_thinking", signature="data"), "redacted"),
    ],
)
def test_states_of_thinking(tmp_path: Path, block: Object, state: str) -> None:
    runs = one(tmp_path / "m.json", block)
    assert events(runs, "thinking_state", "signature", kind="thinking") == [
        (state, block.get("signature"))
    ]
    assert runs.steps.collect()["thinking_sent"].to_list() == [None]


def test_signatures_of_gemini_stand_on_the_part_after_the_thinking(tmp_path: Path) -> None:
    def signed(signature: str) -> Object:
        return {"provider_details": {"thought_signature": signature}}

    runs = loaders.load(
        write(
            tmp_path / "m.json",
            request(part("user-prompt", "go")),
            response(part("thinking", "A"), {**called("ls", {}, "a"), **signed("s1")}, provider_name="google-gla"),
            request(returned("ls", "x", "a")),
            response(part("text", "done", **signed("s2")), provider_name="google-gla"),
        )
    )  # fmt: skip
    assert events(runs, "kind", "text", "thinking_state", "signature") == [
        ("user", "go", None, None),
        ("thinking", "A", "summary", "s1"),
        ("tool_call", None, None, None),
        ("tool_result", "x", None, None),
        ("thinking", None, "hidden", "s2"),
        ("message", "done", None, None),
    ]
    assert runs.steps.collect()["thinking"].to_list() == ["summary", "hidden"]


def test_what_else_messages_and_parts_say_is_kept(tmp_path: Path) -> None:
    usage = {**USAGE, "cache_write_tokens": 4, "details": {"reasoning_tokens": 2, "audio": 1}}
    address = {"kind": "image-url", "url": "https://x.org/a.png", "force_download": False}
    said = {"model_id": "p:m-1", "provider_url": "https://x.org", "provider_response_id": "r"}
    details = {"finish_reason": "STOP", "timestamp": AT.format(2), "service_tier": "flex"}
    runs = loaders.load(
        write(
            tmp_path / "m.json",
            request(part("user-prompt", ["look", address]), metadata={"user": "u"}),
            response(
                part("thinking", "Hm.", id="reasoning_content"),
                called("ls", {}, "a"),
                usage=usage,
                provider_details=details,
                **said,
            ),
            request(returned("ls", "x", "a", metadata={"rows": 3})),
            response(part("text", "do"), usage=usage, state="interrupted", **said),
        )
    )
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata == {
        "metadata": {"user": "u"},
        "model_id": "p:m-1",
        "provider_url": "https://x.org",
        "provider_details": {"service_tier": "flex"},
        "thinking_in": "reasoning_content",
        "usage": {"cache_write_tokens": 8, "details.audio": 2},
    }
    assert events(runs, "text", "error_type", kind="other") == [
        ('{"files":[{"url":"https://x.org/a.png","force_download":false}]}', "details"),
        ('{"metadata":{"rows":3}}', "details"),
    ]
    assert runs.steps.collect()["stop_reason"].to_list() == ["STOP", "interrupted"]
    assert loaders.coverage(tmp_path).lost.is_empty()


def test_older_versions(tmp_path: Path) -> None:
    usage = {"requests": 1, "request_tokens": 7, "response_tokens": 4, "details": None}
    retry = part("retry-prompt", "try again", tool_name="ls", tool_call_id="a")
    loose = part("retry-prompt", "plain text is not enough", tool_name=None)
    messages = [
        {"parts": [part("user-prompt", "hi")], "kind": "request"},
        {"parts": [called("ls", {}, "a")], "usage": usage, "model_name": "m", "kind": "response"},
        {"parts": [retry, loose], "kind": "request"},
    ]
    runs = loaders.load(write(tmp_path / "m.json", messages))
    assert events(runs, "kind", "actor", "is_error", "error_type")[2:] == [
        ("tool_result", None, True, "retry-prompt"),
        ("user", "harness", None, "retry-prompt"),
    ]
    steps = runs.steps.select("input_tokens", "output_tokens", "reasoning_tokens").collect().rows()
    assert steps == [(7, 4, None)]


def test_tools_at_the_provider_and_other_parts(tmp_path: Path) -> None:
    builtin = {**called("web_search", {"q": "x"}, "w"), "part_kind": "builtin-tool-call"}
    found = {**returned("web_search", {"hits": 1}, "w"), "part_kind": "builtin-tool-return"}
    file = part("file", {"data": "eHg=", "media_type": "image/webp", "kind": "binary"})
    squeezed, new = part("compaction", "so far"), part("from-tomorrow")
    runs = one(tmp_path / "m.json", builtin, found, file, squeezed, new)
    assert events(runs, "kind", "text", "call_seq", "media")[1:] == [
        ("tool_call", None, None, None),
        ("tool_result", '{"hits":1}', 1, None),
        ("message", None, None, ["image/webp"]),
        ("compaction", "so far", None, None),
        ("other", "from-tomorrow", None, None),
    ]


@pytest.mark.parametrize("layout", ["lines", "row", "rows", "text"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    row = {"task_id": "t1", "success": True, "messages": history()}
    if layout == "text":
        row["messages"] = json.dumps(history())
    records = history() if layout == "lines" else [row] * (2 if layout == "rows" else 1)
    path = write(tmp_path / "m.jsonl", *records)
    assert pydantic_ai.sniff(Source(path).head)
    runs = loaders.load(path)
    assert runs.trajectories.collect().height == (2 if layout == "rows" else 1)
    assert runs.events.collect().height == 15 * runs.trajectories.collect().height
    outcomes = {"lines": "unknown"}.get(layout, "success")
    assert set(runs.trajectories.collect()["outcome"]) == {outcomes}
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_a_long_prompt_hides_its_kind_from_the_head(tmp_path: Path) -> None:
    messages = [request(part("system-prompt", "x" * 20_000)), response(part("text", "ok"))]
    assert pydantic_ai.sniff(Source(write(tmp_path / "m.json", messages)).head)


def test_no_other_file_is_claimed(real_logs: Path, tmp_path: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    assert [path for path in files if pydantic_ai.sniff(Source(path).head)] == []
    gemini = [{"role": "user", "parts": [{"text": "hi"}]}]
    assert not pydantic_ai.sniff(Source(write(tmp_path / "g.json", gemini)).head)


def test_a_history_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", history())
    path.write_text(path.read_text()[:-150])
    runs = loaders.load(path)
    assert runs.events.collect().height > 11
    assert any("stands before it" in reason for reason in runs.problems.collect()["reason"])


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    messages = [{**message, key: junk} for message in history() for key in message]
    for message in history():
        for number, one_part in enumerate(message["parts"]):
            for key in one_part:
                parts = [*message["parts"][:number], {**one_part, key: junk}]
                messages.append({**message, "parts": parts})
    runs = loaders.load(write(tmp_path / "m.json", [*history(), *messages, junk, *history()]))
    assert events(runs, "text")[-1] == ("Done.",)
    assert not [reason for reason in runs.problems.collect()["reason"] if "Error:" in reason]
