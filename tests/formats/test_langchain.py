"""LangChain messages and LangSmith runs, against raw files and on logs written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import langchain, openai_chat
from loaders.sources import Source

Object = dict[str, Any]
USAGE = {
    "input_tokens": 5,
    "output_tokens": 3,
    "input_token_details": {"cache_read": 1},
    "output_token_details": {"reasoning": 2},
}
CLASSES = {"system": "SystemMessage", "human": "HumanMessage", "ai": "AIMessage", "tool": "ToolMessage"}  # fmt: skip


def written(kind: str, content: Any, notation: str = "constructor", **fields: Any) -> Object:
    """A message in one of the three notations."""
    data: Object = {"content": content, "additional_kwargs": {}, "response_metadata": {}, **fields}
    if notation == "constructor":
        names = ["langchain", "schema", "messages", CLASSES[kind]]
        return {"lc": 1, "type": "constructor", "id": names, "kwargs": {**data, "type": kind}}
    return {"type": kind, "data": data} if notation == "data" else {"type": kind, **data}


def conversation(notation: str) -> list[Object]:
    call = {"name": "ls", "args": {"p": 1}, "id": "c1", "type": "tool_call"}
    wrong = {"name": "rm", "args": "{bad", "id": "c2", "error": "not JSON"}
    known = {"model_name": "m-1", "finish_reason": "stop"}
    return [
        written("system", "s", notation),
        written("human", [{"type": "text", "text": "hi"}, {"type": "image_url"}], notation),
        written(
            *("ai", "text", notation),
            tool_calls=[call],
            invalid_tool_calls=[wrong],
            additional_kwargs={"reasoning_content": "hmm"},
            usage_metadata=USAGE,
            response_metadata=known,
        ),
        written("tool", "out", notation, tool_call_id="c1", status="error", name="ls"),
        written("ai", "<think>so</think>done", notation),
    ]


EXPECTED = [
    ("system", None, "s", None, None, None, None),
    ("user", None, "hi", None, None, None, None),
    ("thinking", 0, "hmm", None, None, None, "text"),
    ("message", 0, "text", None, None, None, None),
    ("tool_call", 0, None, "ls", None, None, None),
    ("tool_call", 0, None, "rm", None, None, None),
    ("error", 0, "not JSON", None, None, None, None),
    ("tool_result", 0, "out", "ls", 4, True, None),
    ("thinking", 1, "so", None, None, None, "tagged_in_text"),
    ("message", 1, "done", None, None, None, None),
]
COLUMNS = ("kind", "step", "text", "tool", "call_seq", "is_error", "thinking_state")


def write(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def all_raw(runs: Trajectories) -> bool:
    rows = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(run, seq) is not None for run, seq in rows)


# ---------------------------------------------------------------------- messages


@pytest.mark.parametrize("notation", ["constructor", "data", "plain"])
@pytest.mark.parametrize("layout", ["list", "lines", "row"])
def test_messages_in_every_notation(tmp_path: Path, notation: str, layout: str) -> None:
    messages = conversation(notation)
    row = {"messages": messages, "task_id": "t1", "success": True}
    records = {"list": [messages], "lines": messages, "row": [row]}[layout]
    path = write(tmp_path / "m.jsonl", *records)
    assert langchain.sniff(Source(path).head)
    assert not openai_chat.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, *COLUMNS) == EXPECTED
    tokens = ("model", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    assert steps(runs, *tokens)[0] == ("m-1", 5, 3, 2, 1)
    assert steps(runs, "thinking_sent", "evidence") == [(None, "unknown")] * 2
    outcome = "success" if layout == "row" else "unknown"
    assert runs.trajectories.select("outcome", "unanswered_calls").collect().row(0) == (outcome, 1)
    assert all_raw(runs)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "thinking", "thinking": "t", "signature": "g"}, ("t", "text", "g")),
        ({"type": "thinking", "thinking": "", "signature": "g"}, (None, "hidden", "g")),
        ({"type": "redacted_thinking", "data": "g"}, (None, "redacted", "g")),
        ({"type": "reasoning", "reasoning": "t", "extras": {"signature": "g"}}, ("t", "text", "g")),
        (
            {"type": "reasoning", "summary": [{"text": "z"}], "encrypted_content": "g"},
            ("z", "summary", "g"),
        ),
        ({"type": "reasoning", "id": "rs", "summary": []}, (None, "hidden", None)),
        (
            {"type": "reasoning_content", "reasoning_content": {"text": "t", "signature": "g"}},
            ("t", "text", "g"),
        ),
    ],
)
def test_thinking_blocks(tmp_path: Path, block: Object, expected: tuple[Any, ...]) -> None:
    use = {"type": "tool_use", "id": "c1", "name": "ls", "input": {}}
    content = [block, {"type": "text", "text": "a"}, use]
    call = {"name": "ls", "args": {}, "id": "c1"}
    runs = loaders.load(write(tmp_path / "m.json", [written("ai", content, tool_calls=[call])]))
    assert events(runs, "text", "thinking_state", "signature")[0] == expected
    assert [kind for (kind,) in events(runs, "kind")] == ["thinking", "message", "tool_call"]
    assert all_raw(runs)


def test_calls_of_older_versions(tmp_path: Path) -> None:
    function = {"name": "ls", "arguments": "{}"}
    old = {"tool_calls": [{"id": "c1", "function": function}]}
    oldest = {"function_call": function}
    messages = [written("ai", "", additional_kwargs=extra) for extra in (old, oldest)]
    runs = loaders.load(write(tmp_path / "m.json", messages))
    assert events(runs, "tool", "arguments", "call_id") == [("ls", "{}", "c1"), ("ls", "{}", None)]
    assert all_raw(runs)


# ---------------------------------------------------------------------- LangSmith


@pytest.mark.parametrize(
    "name", ["langsmith_py_wrap_openai_", "langsmith_py_wrap_openai_reasoning"]
)
def test_a_real_batch(real_logs: Path, name: str) -> None:
    path = real_logs / "langsmith" / f"{name}.json"
    raw = json.loads(path.read_text())
    asked, answered = raw["post"][0], raw["patch"][0]
    choice, usage = answered["outputs"]["choices"][0], answered["outputs"]["usage_metadata"]
    runs = loaders.load(path)
    assert events(runs, "kind", "text") == [
        ("user", asked["inputs"]["messages"][0]["content"]),
        ("message", choice["message"]["content"]),
    ]
    reasoning = usage["output_token_details"]["reasoning"]
    columns = ("model", "input_tokens", "output_tokens", "reasoning_tokens", "stop_reason")
    assert steps(runs, *columns, "thinking", "evidence") == [
        (
            *(answered["outputs"]["model"], usage["input_tokens"], usage["output_tokens"]),
            *(reasoning, "stop", "not_logged" if reasoning else "absent", "request"),
        )
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["provider"]) == (asked["trace_id"], "openai")
    assert row["started_at"].isoformat() == asked["start_time"]
    assert row["ended_at"].isoformat() == answered["end_time"]
    assert json.loads(row["params"]) == {"model": asked["inputs"]["model"], "stream": False}
    assert all_raw(runs)


def test_only_files_of_this_format_are_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    claimed = {path for path in files if langchain.sniff(Source(path).head)}
    assert claimed == set((real_logs / "langsmith").glob("*.json"))


def traced(number: int, kind: str, inputs: Object, outputs: Any, **more: Any) -> Object:
    times = {"start_time": f"2026-01-31T10:00:{number:02}Z", "end_time": "2026-01-31T10:01:00Z"}
    links = {"id": f"r{number}", "trace_id": "t1", "parent_run_id": "r0" if number else None}
    known = {"run_type": kind, "inputs": inputs, "outputs": outputs, "dotted_order": f"{number:02}"}
    return {"name": kind, **links, **times, **known, **more}


def trace(keep: bool, *, in_blocks: bool) -> list[Object]:
    """An agent whose first call thinks, in blocks or beside its content, and calls a tool."""
    block = {"type": "thinking", "thinking": "hmm", "signature": "g"}
    text = {"type": "text", "text": "a"}
    call = {"name": "ls", "args": {}, "id": "c1"}
    beside = {} if in_blocks else {"reasoning_content": "hmm"}
    content = [block, text] if in_blocks else "a"
    reply = written(
        "ai", content, tool_calls=[call], additional_kwargs=beside, usage_metadata=USAGE
    )
    without = written("ai", [text] if in_blocks else "a", tool_calls=[call])
    first = [written("system", "s"), written("human", "hi")]
    result = written("tool", "Error: slow", tool_call_id="c1", name="ls")
    second = [*first, reply if keep else without, result]
    done = written("ai", "done", usage_metadata=USAGE)
    offered = [{"type": "function", "function": {"name": "ls", "parameters": {}}}]
    extra = {"invocation_params": {"temperature": 0.5, "tools": offered}, "metadata": {"ls_model_name": "m-2"}}  # fmt: skip
    runtime = {"library": "langchain-core", "library_version": "1.0", "platform": "Linux"}
    return [
        traced(
            3, "llm", {"messages": [second]}, {"generations": [[{"message": done}]]}, extra=extra
        ),
        traced(0, "chain", {}, {}, extra={"runtime": runtime}),
        traced(
            1, "llm", {"messages": [first]}, {"generations": [[{"message": reply}]]}, extra=extra
        ),
        traced(2, "tool", {}, {"output": result}, error="TimeoutError('slow')"),
    ]


@pytest.mark.parametrize(
    ("keep", "in_blocks", "sent", "edit"),
    [
        (True, True, 1, "none"),
        (True, False, None, None),  # a class of LangChain may have dropped it on the way
        (False, True, 0, "thinking_dropped"),
        (False, False, 0, "thinking_dropped"),
    ],
)
def test_a_traced_agent(
    tmp_path: Path, keep: bool, in_blocks: bool, sent: int | None, edit: str | None
) -> None:
    runs = loaders.load(write(tmp_path / "t.json", trace(keep, in_blocks=in_blocks)))
    assert events(runs, "kind", "step", "text", "is_error", "error_type") == [
        ("system", None, "s", None, None),
        ("user", None, "hi", None, None),
        ("thinking", 0, "hmm", None, None),
        ("message", 0, "a", None, None),
        ("tool_call", 0, None, None, None),
        ("tool_result", 0, "Error: slow", True, "TimeoutError"),
        ("message", 1, "done", None, None),
    ]
    columns = ("model", "input_tokens", "thinking_available", "thinking_sent", "history_edit")
    assert steps(runs, *columns) == [("m-2", 5, 0, 0, "none"), ("m-2", 5, 1, sent, edit)]
    ranges = [[(p["start"], p["stop"]) for p in row] for (row,) in steps(runs, "context")]
    assert ranges == [[(0, 2)], [(0, 6)]]
    assert runs.tools.collect()["name"].to_list() == ["ls"]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["framework"], row["framework_version"]) == ("langchain", "1.0")
    assert json.loads(row["params"]) == {"temperature": 0.5}
    assert all_raw(runs)


def test_a_tool_s_run_gives_its_times_and_a_result_that_no_request_shows(tmp_path: Path) -> None:
    whole = trace(keep=True, in_blocks=True)
    runs = loaders.load(write(tmp_path / "t.json", whole))
    results = runs.events.filter(pl.col("kind") == "tool_result")
    assert results.select("text", "duration_s", "call_seq").collect().rows() == [
        ("Error: slow", 58.0, 4)
    ]
    whole[3] |= {"extra": {"metadata": {"tool_call_id": "c1"}}, "error": None}
    for outputs in (whole[3]["outputs"], {"output": "Error: slow"}):
        records = [*whole[1:3], {**whole[3], "outputs": outputs}]
        runs = loaders.load(write(tmp_path / "t.json", records))
        assert [kind for (kind,) in events(runs, "kind")][-2:] == ["tool_call", "tool_result"]
        results = runs.events.filter(pl.col("kind") == "tool_result")
        assert results.select("text", "duration_s", "call_seq").collect().rows() == [
            ("Error: slow", 58.0, 4)
        ]
        assert all_raw(runs)


def test_layouts_of_runs_and_failures(tmp_path: Path) -> None:
    one = trace(keep=True, in_blocks=True)
    one[0] |= {"outputs": None, "error": "Traceback\nRateLimitError: busy"}
    one[1] |= {"error": "Traceback\nRateLimitError: busy"}
    halves = {"post": [{**run, "outputs": {}} for run in one], "patch": one}
    for number, records in enumerate(([halves], one, [{"runs": one}])):
        runs = loaders.load(write(tmp_path / f"{number}.jsonl", *records))
        assert [kind for (kind,) in events(runs, "kind")][-2:] == ["tool_result", "error"]
        assert steps(runs, "error")[1] == ("Traceback\nRateLimitError: busy",)
        row = runs.trajectories.select("outcome", "end_reason").collect().rows()
        assert row == [("error", "RateLimitError: busy")]
        assert all_raw(runs)


def test_reasoning_of_a_wrapped_client_is_on_the_request(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "hi"}
    reply = {"role": "assistant", "content": "a", "reasoning_content": "hmm"}
    first = {"choices": [{"message": reply}], "model": "m"}
    again = {"messages": [asked, reply, asked]}
    runs = loaders.load(
        write(
            tmp_path / "t.json",
            traced(0, "llm", {"messages": [asked]}, first),
            traced(1, "llm", again, first),
        )
    )
    assert [kind for (kind,) in events(runs, "kind")] == [*["user", "thinking", "message"] * 2]
    assert steps(runs, "thinking_sent", "history_edit") == [(0, "none"), (1, "none")]
    assert all_raw(runs)


def test_what_runs_say_of_themselves_is_kept(tmp_path: Path) -> None:
    """Of two halves the later one counts, though both stand in the same batch."""
    usage = {**USAGE, "input_token_details": {"cache_read": 1, "cache_creation": 4}}
    found = {"choices": [{"message": {"role": "assistant", "content": "a"}}], "model": "m"}
    extra = {
        "metadata": {"revision_id": "r-1", "ls_provider": "openai", "langgraph_step": 1},
        "runtime": {"sdk": "langsmith-py", "sdk_version": "0.4"},
    }
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    whole = traced(0, "llm", asked, {}, session_name="s", extra={"metadata": {"revision_id": "-"}})
    whole["trace_id"] = "trace-number-1"
    later = ("end_time", "outputs")
    begun = {key: value for key, value in whole.items() if key not in later}
    ended = {key: whole[key] for key in ("id", "trace_id", "dotted_order", "end_time")}
    ended |= {"outputs": {**found, "usage_metadata": usage}, "extra": extra, "tags": ["new"]}
    ended |= {"total_cost": "0.25", "feedback_stats": {"correct": {"n": 2, "avg": 0.5}}}
    runs = loaders.load(write(tmp_path / "t.json", {"post": [begun], "patch": [ended]}))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["cost_usd"], row["provider"], row["success"]) == (0.25, "openai", None)
    assert [(one["name"], one["value"]) for one in row["scores"]] == [("correct", 0.5)]
    assert json.loads(row["metadata"]) == {
        "name": "llm",
        "session_name": "s",
        "tags": ["new"],
        "runtime": {"sdk": "langsmith-py", "sdk_version": "0.4"},
        "revision_id": "r-1",
        "usage": {"input_token_details.cache_creation": 4},
    }
    assert row["source_pos"] == "/post/0"
    assert loaders.coverage(tmp_path).lost.select("path").rows() == []


def test_a_trace_without_calls_of_models(tmp_path: Path) -> None:
    outputs = {"messages": conversation("constructor")}
    runs = loaders.load(write(tmp_path / "t.json", [traced(0, "chain", {}, outputs)]))
    assert events(runs, *COLUMNS) == EXPECTED


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    whole = trace(keep=True, in_blocks=True)
    broken: list[Any] = [{**run, key: junk} for run in whole for key in run]
    broken += [
        {**run, "inputs": {"messages": junk}, "outputs": {"generations": junk}} for run in whole
    ]
    apart = [{**one, "trace_id": f"x{n}", "id": f"y{n}"} for n, one in enumerate(broken)]
    runs = loaders.load(write(tmp_path / "t.json", [*whole, *broken, *apart, junk]))
    assert "done" in [text for (text,) in events(runs, "text")]
    messages = conversation("constructor")
    wrong = [{**m, "kwargs": {**m["kwargs"], key: junk}} for m in messages for key in m["kwargs"]]
    alone = loaders.load(write(tmp_path / "m.json", [*messages, *wrong, junk, *messages]))
    assert events(alone, "text")[-1] == ("done",)
    reasons = [*runs.problems.collect()["reason"], *alone.problems.collect()["reason"]]
    assert not [reason for reason in reasons if "Error:" in reason]
