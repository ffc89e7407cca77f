"""OpenAI Agents SDK traces, against figures counted from a raw file, and on traces written here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import openai_agents
from loaders.sources import Source

Object = dict[str, Any]
USAGE = {"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1}}
TRACE = {"object": "trace", "id": "t1", "workflow_name": "work", "group_id": "g", "metadata": None}
AGENT = {"type": "agent", "name": "main", "handoffs": ["helper"], "tools": ["ls", "boom"]}


def span(number: int, data: Object, parent: int | None = None, **more: Any) -> Object:
    times = dict.fromkeys(("started_at", "ended_at"), f"2026-01-31T10:00:{number:02}Z")
    links = {"id": f"s{number}", "parent_id": None if parent is None else f"s{parent}"}
    known: Object = {"object": "trace.span", "trace_id": "t1", "error": None}
    return {**known, **links, **times, "span_data": data, **more}


def generation(asked: list[Object], answer: Object) -> Object:
    config = {"temperature": 0.5, "top_p": None}
    shared = {"model": "m", "model_config": config, "usage": USAGE}
    return {"type": "generation", "input": asked, "output": [answer], **shared}


def function(name: str, output: str) -> Object:
    return {"type": "function", "name": name, "input": "{}", "output": output}


def reply(*tools: str, thinking: str | None = None, text: str | None = None) -> Object:
    calls = [
        {"id": f"c_{t}", "type": "function", "function": {"name": t, "arguments": "{}"}}
        for t in tools
    ]
    message: Object = {"role": "assistant", "content": text, "tool_calls": calls or None}
    return {**message, "reasoning_content": thinking} if thinking else message


def result(tool: str, text: str) -> Object:
    return {"role": "tool", "tool_call_id": f"c_{tool}", "content": text}


def chat_trace(keep: bool = False) -> list[Object]:
    """An agent that calls two tools and hands over to a helper."""
    first = [{"role": "system", "content": "list"}, {"role": "user", "content": "look"}]
    answer = reply("ls", "boom", thinking="hmm")
    shown = answer if keep else {k: v for k, v in answer.items() if k != "reasoning_content"}
    second = [*first, shown, result("ls", "a b"), result("boom", "An error occurred.")]
    third = [{"role": "system", "content": "help"}, *second[1:], reply("go"), result("go", "ok")]
    slow = {"message": "Error running tool", "data": {"error": "slow"}}
    return [
        TRACE,
        span(1, generation(first, answer), 0),
        span(3, function("boom", "An error occurred."), 0, error=slow),
        span(2, function("ls", "a b"), 0),
        span(4, generation(second, reply("go")), 0),
        span(5, {"type": "handoff", "from_agent": "main", "to_agent": "helper"}, 0),
        span(0, AGENT),
        span(7, generation(third, reply(text="done")), 6),
        span(6, {"type": "agent", "name": "helper", "tools": []}),
    ]


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def test_the_real_trace(real_logs: Path) -> None:
    path = real_logs / "openai_agents_sdk" / "traces.json"
    spans = json.loads(path.read_text())["traces"][0]["spans"]
    agents = {s["id"]: s["name"] for s in spans if s["span_data"]["type"] == "agent"}
    answered = [s for s in spans if s["span_data"]["type"] == "response"]
    answered.sort(key=lambda s: s["started_at"])
    expected: list[tuple[Any, ...]] = []
    for one in answered:
        tokens = re.search(r"usage=ResponseUsage\(input_tokens=(\d+).*?output_tokens=(\d+)", one["response"])  # fmt: skip
        model = re.search(r" model='([^']+)'", one["response"])
        assert tokens is not None
        assert model is not None
        numbers = [int(number) for number in tokens.groups()]
        expected.append((agents[one["parent_id"]], model[1], *numbers))
    runs = loaders.load(path)
    assert steps(runs, "agent", "model", "input_tokens", "output_tokens") == expected
    assert steps(runs, "thinking", "evidence", "thinking_sent") == [("absent", "request", 0)] * 3
    kinds = [kind for (kind,) in events(runs, "kind")]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "system": 3,
        "user": sum(len(one["span_data_input"]) for one in answered),
        "message": sum(one["response"].count("ResponseOutputMessage(") for one in answered),
        "tool_call": sum(one["response"].count("ResponseFunctionWebSearch(") for one in answered),
    }
    users = runs.events.filter(pl.col("kind") == "user").collect()["text"].to_list()
    assert users == [part["content"] for one in answered for part in one["span_data_input"]]
    assert runs.problems.collect().height == 0
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_only_files_of_this_format_are_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    claimed = [path for path in files if openai_agents.sniff(Source(path).head)]
    assert claimed == [real_logs / "openai_agents_sdk" / "traces.json"]


@pytest.mark.parametrize("keep", [True, False])
def test_calls_tools_and_a_handoff(tmp_path: Path, keep: bool) -> None:
    runs = loaders.load(write(tmp_path / "t.json", chat_trace(keep)))
    assert events(runs, "kind", "step", "text", "tool", "is_error", "call_seq") == [
        ("system", None, "list", None, None, None),
        ("user", None, "look", None, None, None),
        ("thinking", 0, "hmm", None, None, None),
        ("tool_call", 0, None, "ls", None, None),
        ("tool_call", 0, None, "boom", None, None),
        ("tool_result", 0, "a b", "ls", False, 3),
        ("tool_result", 0, "An error occurred.", "boom", True, 4),
        ("tool_call", 1, None, "go", None, None),
        ("other", 1, '{"from_agent":"main","to_agent":"helper"}', None, None, None),
        ("system", 1, "help", None, None, None),
        ("tool_result", 1, "ok", "go", None, 7),
        ("message", 2, "done", None, None, None),
    ]
    sent, edit = (1, "none") if keep else (0, "thinking_dropped")
    assert steps(runs, "agent", "thinking_available", "thinking_sent", "history_edit") == [
        ("main", 0, 0, "none"),
        ("main", 1, sent, edit),
        ("helper", 1, sent, edit),
    ]
    ranges = [[(p["start"], p["stop"]) for p in row] for (row,) in steps(runs, "context")]
    assert ranges == [[(0, 2)], [(0, 7)], [(1, 8), (9, 11)]]
    assert steps(runs, "reasoning_tokens", "evidence") == [(1, "request")] * 3
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], json.loads(row["params"])) == ("t1", {"temperature": 0.5})
    assert set(runs.tools.collect()["name"]) == {"ls", "boom"}
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_history_that_was_cut(tmp_path: Path) -> None:
    trace = chat_trace()
    trace[4]["span_data"]["input"] = trace[4]["span_data"]["input"][:1]
    trace[1]["span_data"]["output"][0].pop("reasoning_content")
    runs = loaders.load(write(tmp_path / "t.json", trace))
    assert steps(runs, "history_edit")[:2] == [("none",), ("truncated",)]


def test_responses_without_content(tmp_path: Path) -> None:
    answered = {"type": "response", "response_id": "r", "usage": USAGE}
    trace = [
        TRACE,
        span(1, answered, 0),
        span(2, function("ls", "a b"), 0),
        span(3, answered, 0),
        span(0, AGENT, error={"message": "Max turns exceeded", "data": {"max_turns": 2}}),
    ]
    runs = loaders.load(write(tmp_path / "t.json", trace))
    assert events(runs, "kind", "step", "tool", "text")[1:] == [
        ("tool_call", 0, "ls", None),
        ("tool_result", 0, "ls", "a b"),
    ]
    assert (
        steps(runs, "thinking", "evidence", "output_tokens") == [("not_logged", "unknown", 3)] * 2
    )
    assert events(runs, "kind", "text")[0] == ("error", "Max turns exceeded\nmax_turns: 2")
    assert runs.trajectories.select("outcome", "end_reason").collect().row(0) == (
        *("limit", "Max turns exceeded"),
    )


def test_spans_of_a_program_and_what_has_no_column_are_kept(tmp_path: Path) -> None:
    usage = {**USAGE, "input_tokens_details": {"cache_write_tokens": 4}, "total_tokens": 8}
    answered = {"type": "response", "response_id": "resp_1", "usage": usage}
    slow = {"message": "Error running tool", "data": {"error": "slow"}}
    counted = {"sdk_span_type": "turn", "turn": 1, "usage": usage}
    agent = {"type": "agent", "name": "main", "handoffs": ["helper"], "output_type": "Answer"}
    trace = [
        {**TRACE, "metadata": {"user": "u"}},
        span(1, answered, 0),
        span(2, {**function("ls", "no"), "mcp_data": {"server": "files"}}, 0, error=slow),
        span(3, {"type": "custom", "name": "lookup", "data": {"key": "k"}}, 0),
        span(4, {"type": "custom", "name": "turn", "data": counted}, 0),
        span(5, {"type": "speech", "input": "said aloud"}, 0),
        span(0, agent),
    ]
    path = write(tmp_path / "t.json", trace)
    runs = loaders.load(path)
    others = runs.events.filter(pl.col("kind") == "other").select("text", "error_type")
    assert others.collect().rows() == [
        ('{"name":"lookup","data":{"key":"k"}}', "custom"),
        ('{"input":"said aloud"}', "speech"),
    ]
    assert json.loads(runs.trajectories.collect()["metadata"][0]) == {
        "workflow_name": "work",
        "group_id": "g",
        "metadata": {"user": "u"},
        "response_ids": ["resp_1"],
        "agents": {"name": "main", "handoffs": ["helper"], "output_type": "Answer"},
        "tool_errors": {"error": "slow"},
        "mcp": {"server": "files"},
        "usage": {"input_tokens_details.cache_write_tokens": 4},
    }
    assert loaders.coverage(path).lost.is_empty()


@pytest.mark.parametrize("layout", ["lines", "payload", "nested"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    trace = chat_trace()
    path = tmp_path / "t.json"
    if layout == "lines":
        path.write_text("\n".join(json.dumps(one) for one in trace))
    elif layout == "payload":
        write(path, {"data": trace})
    else:
        write(path, {"traces": [{**TRACE, "spans": trace[1:]}]})
    runs = loaders.load(path)
    assert runs.events.collect().height == 12
    assert json.loads(runs.trajectories.collect()["metadata"][0])["workflow_name"] == "work"
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


@pytest.mark.parametrize(
    "notation",
    [
        "Response(id='r', output=[Item(type='message', role='assistant', content='hi')])",
        "Response(output=[__import__('os').system('false')])",
        "Response(" * 3_000,
        "Response(a=" * 3_000 + ")" * 3_000,
        "Response(x=-'y', **{})",
        "Response(\0)",
    ],
)
def test_notation_is_read_and_never_run(tmp_path: Path, notation: str) -> None:
    one = span(1, {"type": "response"}, response=notation, span_data_input=[])
    runs = loaders.load(write(tmp_path / "t.json", [TRACE, one]))
    shown = [text for (text,) in events(runs, "text")]
    assert shown == (["hi"] if "'hi'" in notation else [])
    assert len(steps(runs, "step")) == 1


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    trace = chat_trace()
    broken = [{**one, key: junk} for one in trace for key in one if key != "trace_id"]
    broken += [
        {**one, "span_data": {**one["span_data"], key: junk}}
        for one in trace[1:]
        for key in one["span_data"]
    ]
    runs = loaders.load(write(tmp_path / "t.json", [*trace, *broken, junk]))
    assert "done" in [text for (text,) in events(runs, "text")]
    assert not [r for r in runs.problems.collect()["reason"] if "Error:" in r]
