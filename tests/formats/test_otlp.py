"""OpenTelemetry traces written here: every way of recording messages; real files hold none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import LoadError, Trajectories
from loaders.formats import otlp
from loaders.sources import Source

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("name", ["test-traces.json", "otel_traces_2025-06-29_00-23-24.json"])
def test_real_traces_without_model_calls_hold_no_run(real_logs: Path, name: str) -> None:
    path = real_logs / "otlp" / name
    assert otlp.sniff(Source(path).head)
    with pytest.raises(LoadError, match="no run in it"):
        loaders.load(path)


# ---------------------------------------------------------------------- written here


def typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    return {"stringValue": value}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": typed(value)} for key, value in attributes.items()]


def span(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    events = [{"name": n, "attributes": pairs(a)} for n, a in more.pop("events", [])]
    return {
        "traceId": more.pop("trace", TRACE),
        "spanId": f"{number:016x}",
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "name": more.pop("name", f"span {number}"),
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number * 10**9),
        "endTimeUnixNano": str(1_700_000_000_500_000_000 + number * 10**9),
        "status": more.pop("status", {}),
        "events": events,
        "attributes": pairs(more),
    }


def chat(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    named = {key.replace("__", "."): more.pop(key) for key in list(more) if "__" in key}
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    return span(number, parent, **{**given, **named, **more})


def batch(*spans: Any, **more: Any) -> dict[str, Any]:
    scoped = [{"scope": {"name": "lib"}, "spans": list(spans)}]
    resource = {"attributes": pairs({"service.name": "svc"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scoped}], **more}


def load(tmp_path: Path, *records: Any) -> Trajectories:
    (tmp_path / "t.json").write_text("\n".join(json.dumps(record) for record in records))
    return loaders.load(tmp_path)


def said(role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts), **more}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


USER = said("user", text("weather?"))
THOUGHT = {"type": "reasoning", "content": "look it up"}
CALL = {"type": "tool_call", "id": "c1", "name": "get", "arguments": {"city": "X"}}
RESULT = said("tool", {"type": "tool_call_response", "id": "c1", "response": "rain"})
TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}


def agent_loop(*second_request: Any) -> dict[str, Any]:
    first = {
        "gen_ai.input.messages": json.dumps([USER]),
        "gen_ai.output.messages": json.dumps(
            [said("assistant", THOUGHT, CALL, finish_reason="tool_call")]
        ),
        "gen_ai.system_instructions": json.dumps([text("be"), text("good")]),
        "gen_ai.tool.definitions": json.dumps([TOOL]),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.request.temperature": 1,
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "m-2",
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.tool.call.result": "rain",
    }
    second = {
        "gen_ai.input.messages": json.dumps(second_request),
        "gen_ai.system_instructions": json.dumps([text("be"), text("good")]),
        "gen_ai.output.messages": json.dumps([said("assistant", text("It rains."))]),
    }
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}
    return batch(
        chat(4, 1, **second),
        span(3, 1, **tool, status={"code": 1}),
        chat(2, 1, **first),
        span(1, **agent),
    )


def test_an_agent_s_loop(tmp_path: Path) -> None:
    runs = load(tmp_path, agent_loop(USER, said("assistant", THOUGHT, CALL), RESULT))
    events = runs.events.collect()
    assert events.select("kind", "text", "call_seq", "is_error").rows() == [
        ("system", "be", None, None),
        ("system", "good", None, None),
        ("user", "weather?", None, None),
        ("thinking", "look it up", None, None),
        ("tool_call", None, None, None),
        ("tool_result", "rain", 4, False),
        ("message", "It rains.", None, None),
    ]
    steps = runs.steps.collect()
    assert steps["thinking_sent"].to_list() == [0, 1]
    assert steps["history_edit"].to_list() == ["none", "none"]
    assert steps["evidence"].to_list() == ["request", "request"]
    assert steps["context"].to_list()[1] == [{"start": 0, "stop": 6}]
    columns = ["model", "agent", "input_tokens", "output_tokens", "cached_tokens", "stop_reason"]
    assert steps.select(columns).row(0) == ("m-2", "helper", 10, 4, 3, "tool_call")
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["provider"], row["steps"]) == (TRACE, "openai", 2)
    assert json.loads(row["params"]) == {"temperature": 1}
    assert json.loads(row["metadata"]) == {
        "scopes": {"name": "lib"},
        "instrumentation": "lib",
        "service.name": "svc",
    }
    assert runs.tools.collect()["name"].to_list() == ["get"]
    assert runs.raw(runs.ids[0], 3) == THOUGHT
    assert runs.raw(runs.ids[0], 5) == "rain"


def test_reasoning_left_out_of_every_request_is_not_called_dropped(tmp_path: Path) -> None:
    runs = load(tmp_path, agent_loop(USER, said("assistant", CALL), RESULT))
    steps = runs.steps.collect()
    assert steps["thinking_sent"].to_list() == [None, None]
    assert steps["history_edit"].to_list() == [None, None]
    assert steps["context"].to_list()[1] == [{"start": 0, "stop": 6}]


def test_ids_in_base64_and_a_trace_over_several_lines(tmp_path: Path) -> None:
    spans = agent_loop(USER, said("assistant", CALL), RESULT)["resourceSpans"][0]["scopeSpans"][0]
    for item in spans["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            item[key] = base64.b64encode(bytes.fromhex(item[key])).decode()
    runs = load(tmp_path, *(batch(item) for item in spans["spans"]))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["steps"], row["events"]) == (TRACE, 2, 7)
    assert runs.steps.collect()["agent"].to_list() == ["helper", "helper"]
    assert runs.raw(runs.ids[0], 5) == "rain"


def test_indexed_attributes_of_openllmetry(tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"llm.request.type": "chat", "gen_ai.usage.reasoning_tokens": 2}
    for number, role in enumerate(["system", "user", *(["assistant", "tool"] * 5)]):
        attributes[f"gen_ai.prompt.{number}.role"] = role
        attributes[f"gen_ai.prompt.{number}.content"] = f"{role} {number}"
        if role == "assistant":
            attributes[f"gen_ai.prompt.{number}.tool_calls.0.id"] = f"c{number}"
            attributes[f"gen_ai.prompt.{number}.tool_calls.0.name"] = "get"
            attributes[f"gen_ai.prompt.{number}.tool_calls.0.arguments"] = "{}"
        if role == "tool":
            attributes[f"gen_ai.prompt.{number}.tool_call_id"] = f"c{number - 1}"
    attributes["gen_ai.completion.0.role"] = "assistant"
    attributes["gen_ai.completion.0.content"] = "done"
    attributes["llm.request.functions.0.name"] = "get"
    runs = load(tmp_path, batch(span(1, **attributes)))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["steps"], row["unanswered_calls"], row["orphan_results"]) == (6, 0, 0)
    texts = runs.events.collect()["text"].drop_nulls().to_list()
    assert texts[-2:] == ["tool 11", "done"]
    assert runs.steps.collect()["thinking"].to_list()[-1] == "not_logged"
    assert runs.tools.collect()["name"].to_list() == ["get"]
    assert runs.raw(runs.ids[0], 0) == "system 0"


def test_what_spans_say_beside_their_calls_is_kept(tmp_path: Path) -> None:
    """Also of spans around the calls; values that repeat stand once, others in a list."""
    first = {"gen_ai.input.messages": json.dumps([USER]), "server.address": "x.org"}
    second = {**first, "llm.finish_reason": "length", "server.address": "y.org", "user.id": "u"}
    event = ("cache", {"hit": True})
    late = ("exception", {"exception.type": "E", "exception.message": "late by a second"})
    failed = {"code": 2, "message": "late"}
    runs = load(
        tmp_path,
        batch(
            span(1, **{"deployment.environment": "test"}, events=[event]),
            chat(2, 1, **first),
            {**chat(3, 1, **second, events=[late], status=failed), "droppedAttributesCount": 2},
        ),
    )
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata == {
        "scopes": {"name": "lib"},
        "service.name": "svc",
        "deployment.environment": "test",
        "events": {"name": "cache", "hit": True},
        "server.address": ["x.org", "y.org"],
        "user.id": "u",
        "exception.message": "late by a second",
        "instrumentation": "lib",
    }
    assert runs.steps.collect()["stop_reason"].to_list() == [None, "length"]
    problems = runs.problems.collect().select("position", "reason").rows()
    assert problems == [
        ("/resourceSpans/0/scopeSpans/0/spans/2", "2 attributes were dropped by the exporter")
    ]
    assert loaders.coverage(tmp_path).lost["path"].to_list() == []


def test_messages_in_events_and_in_log_records(tmp_path: Path) -> None:
    call = {"id": "c1", "function": {"name": "get", "arguments": "{}"}}
    events: list[Any] = [
        ("gen_ai.user.message", {"content": "hi"}),
        ("gen_ai.choice", {"index": 0, "message": json.dumps({"tool_calls": [call]})}),
    ]
    body = {"kvlistValue": {"values": pairs({"content": "rain", "id": "c1"})}}
    log = {"spanId": f"{2:016x}", "eventName": "gen_ai.tool.message", "body": body}
    logs = [{"scopeLogs": [{"logRecords": [log]}]}]
    choice = ("gen_ai.choice", {"message": {"content": "ok"}, "finish_reason": "stop"})
    runs = load(
        tmp_path, batch(chat(1, events=events), chat(2, events=[choice]), resourceLogs=logs)
    )
    events_told = runs.events.collect()
    assert events_told.select("kind", "text", "call_seq").rows() == [
        *[("user", "hi", None), ("tool_call", None, None)],
        *[("tool_result", "rain", 1), ("message", "ok", None)],
    ]
    assert runs.raw(runs.ids[0], 2)["eventName"] == "gen_ai.tool.message"


def test_errors_of_tools_and_calls(tmp_path: Path) -> None:
    failed = {"code": "STATUS_CODE_ERROR", "message": "boom"}
    exception = ("exception", {"exception.type": "TimeoutError", "exception.message": "late"})
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get"}
    runs = load(
        tmp_path,
        batch(
            chat(1, status={"code": 2}, events=[exception]),
            span(2, **tool, status=failed, **{"error.type": "ValueError"}),
        ),
    )
    step = runs.steps.collect().row(0, named=True)
    assert step["error"] == "late"
    events = runs.events.collect()
    assert events.select("kind", "text", "is_error", "error_type").rows() == [
        ("error", "late", None, "TimeoutError"),
        ("tool_call", None, None, None),
        ("tool_result", "boom", True, "ValueError"),
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["end_reason"]) == ("error", "TimeoutError")


def test_a_call_inside_a_call_is_one_and_a_wrapper_of_two_is_none(tmp_path: Path) -> None:
    usage = {"gen_ai.usage.input_tokens": 7}
    asked = {"gen_ai.input.messages": json.dumps([USER])}
    runs = load(
        tmp_path, batch(chat(1, **asked, **{"gen_ai.usage.input_tokens": 9}), chat(2, 1, **usage))
    )
    assert runs.steps.collect()["input_tokens"].to_list() == [7]
    assert runs.events.collect()["text"].to_list() == ["weather?"]
    runs = load(tmp_path, batch(chat(1, **usage), chat(2, 1, **usage), chat(3, 1, **usage)))
    assert runs.steps.collect()["input_tokens"].to_list() == [7, 7]


def test_two_agents_are_two_runs_and_one_called_again_goes_on(tmp_path: Path) -> None:
    def agent(number: int, name: str) -> dict[str, Any]:
        return span(
            number, 1, **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        )

    def ask(number: int, parent: int, request: list[Any], reply: str) -> dict[str, Any]:
        answer = json.dumps([said("assistant", text(reply))])
        given = {"gen_ai.input.messages": json.dumps(request), "gen_ai.output.messages": answer}
        return chat(number, parent, **given)

    again = [USER, said("assistant", text("one")), said("user", text("more"))]
    runs = load(
        tmp_path,
        batch(
            span(1),
            *(agent(2, "a"), ask(3, 2, [USER], "one")),
            *(agent(4, "b"), ask(5, 4, [said("user", text("judge"))], "fine")),
            *(agent(6, "a"), ask(7, 6, again, "two")),
        ),
    )
    rows = runs.trajectories.collect()
    assert rows["native_id"].to_list() == [f"{TRACE}/{2:016x}", f"{TRACE}/{4:016x}"]
    assert rows["steps"].to_list() == [2, 1]
    texts = runs.events.filter(pl.col("run") == 0).collect()["text"].to_list()
    assert texts == ["weather?", "one", "more", "two"]


def test_spans_of_a_console_exporter(tmp_path: Path) -> None:
    record = {
        "name": "chat m",
        "context": {"trace_id": "0xab", "span_id": "0x1"},
        "parent_id": None,
        "start_time": "2026-01-01T00:00:00Z",
        "attributes": {"gen_ai.request.model": "m", "gen_ai.input.messages": json.dumps([USER])},
    }
    for written in (record, [record], {"spans": [record]}):
        runs = load(tmp_path, written)
        assert runs.trajectories.collect()["native_id"].to_list() == ["0xab"]
        assert runs.events.collect()["text"].to_list() == ["weather?"]
        assert runs.raw(runs.ids[0], 0) == USER["parts"][0]


def test_hostile_types_cost_only_themselves(tmp_path: Path) -> None:
    hostile = chat(
        2, **{"gen_ai.input.messages": "[1, {", "gen_ai.output.messages": '[[[{"role": 5}]]]'}
    )
    hostile["attributes"].extend(
        [3, {"key": 4}, {"key": "gen_ai.prompt.99999999999.role", "value": 1}]
    )
    hostile.update(events=[1, {"attributes": 5}], status=[], startTimeUnixNano="x", parentSpanId=7)
    cyclic = chat(3, 3, **{"gen_ai.usage.input_tokens": 1})
    runs = load(
        tmp_path, batch(hostile, cyclic, 5, None), {"resourceSpans": [1, {"scopeSpans": [2]}]}, 7
    )
    assert runs.trajectories.collect()["steps"].to_list() == [2]
    (tmp_path / "t.json").write_text(json.dumps(agent_loop(USER))[:-300])
    runs = loaders.load(tmp_path)
    assert runs.problems.collect()["severity"].to_list()[0] == "error"
