"""MLflow traces: figures counted from traces of its own, the truth beside them, and small ones."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories
from loaders.formats import langfuse, mlflow, openinference, otlp
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs"
TRUTH = json.loads((SAMPLES / "truth.json").read_text())["parts"]["mlflow"]["runs"]
THINKS = {"text": "hmm", "signature": "sig"}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def all_raw(runs: Trajectories) -> bool:
    rows = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(run, seq) is not None for run, seq in rows)


# ---------------------------------------------------------------------- traces written by MLflow


def raw_spans(path: Path) -> list[Object]:
    """The spans of a file, their attributes decoded by nothing but ``json``."""
    log = json.loads(path.read_text())
    trace = json.loads(log[0]["trace"]) if isinstance(log, list) else log
    spans = trace["data"]["spans"]
    for span in spans:
        span["attributes"] = {key: json.loads(v) for key, v in span["attributes"].items()}
    return spans


def of_type(spans: list[Object], kind: str) -> list[Object]:
    return [span for span in spans if span["attributes"]["mlflow.spanType"] == kind]


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: run["style"])
def test_the_figures_of_a_trace(run: Object) -> None:
    path = SAMPLES / run["log"]
    spans = raw_spans(path)
    runs = loaders.load(path)
    (row,) = runs.trajectories.collect().rows(named=True)
    models, tools = of_type(spans, "CHAT_MODEL"), of_type(spans, "TOOL")
    assert row["native_id"] == run["native_id"]
    assert (row["steps"], len(models)) == (run["steps"], run["steps"])
    assert row["model"] == "planner-1"
    is_raised = run["ended"] == "ToolRaised"
    assert (row["outcome"], row["end_reason"]) == (
        ("error", "ToolRaised") if is_raised else ("unknown", None)
    )
    counts = [span["attributes"]["mlflow.chat.tokenUsage"] for span in models]
    assert steps(runs, "input_tokens", "output_tokens") == [
        (count["input_tokens"], count["output_tokens"]) for count in counts
    ]
    told = runs.events.collect()
    results = told.filter(told["kind"] == "tool_result")
    assert results["tool"].to_list() == [span["name"] for span in tools]
    assert results["is_error"].to_list() == [
        span["status"]["code"] == "STATUS_CODE_ERROR" for span in tools
    ]
    assert results["error_type"].drop_nulls().to_list() == ["ToolRaised"] * is_raised
    assert (row["unanswered_calls"], row["orphan_results"]) == (0, 0)
    arguments = told.filter(told["kind"] == "tool_call")["arguments"].to_list()
    given = [span["attributes"]["mlflow.spanInputs"] for span in tools]
    assert [json.loads(text) for text in arguments] == given
    assert all_raw(runs)


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: run["style"])
def test_thinking_against_the_truth(run: Object) -> None:
    runs = loaders.load(SAMPLES / run["log"])
    columns = steps(runs, "thinking_available", "thinking_sent", "evidence", "history_edit")
    available, sent, evidence, edits = map(list, zip(*columns, strict=True))
    assert available == run["thinking_available"]
    assert set(evidence) == {"request"}
    if run["style"] == "langchain":  # its spans' requests are without any reasoning
        assert sent == edits == [None] * run["steps"]
        assert not any(run["thinking_sent"])
        return
    assert sent == run["thinking_sent"]
    is_dropped = [a > b for a, b in zip(available, sent, strict=True)]
    assert edits == ["thinking_dropped" if dropped else "none" for dropped in is_dropped]
    assert any(is_dropped) == (run["style"] == "openai_dropped")


def test_langchain_s_thinking_stands_in_the_node_around_a_call() -> None:
    (path,) = (SAMPLES / "frameworks" / "mlflow" / "langchain").glob("*.json")
    spans = {span["span_id"]: span for span in raw_spans(path)}
    nodes = [spans[span["parent_span_id"]] for span in of_type([*spans.values()], "CHAT_MODEL")]
    messages = [
        node["attributes"]["mlflow.spanOutputs"][0]["update"]["messages"][0] for node in nodes
    ]
    runs = loaders.load(path)
    thinking = [
        row[1:] for row in events(runs, "kind", "text", "source_pos") if row[0] == "thinking"
    ]
    assert [text for text, _ in thinking] == [
        message["additional_kwargs"]["reasoning_content"] for message in messages
    ]
    assert all(place.endswith("/additional_kwargs/reasoning_content") for _, place in thinking)
    assert [n for (n,) in steps(runs, "reasoning_tokens")] == [
        message["usage_metadata"]["output_token_details"]["reasoning"] for message in messages
    ]


def test_nothing_is_lost() -> None:
    paths = sorted({SAMPLES / run["log"] for run in TRUTH})
    lost = loaders.coverage(paths, "mlflow", progress=False).lost
    assert lost.select("path", "within", "example").rows() == []


# ---------------------------------------------------------------------- small traces


def attributes(kind: str, given: Any, got: Any, **more: Any) -> dict[str, str]:
    values = {"mlflow.traceRequestId": "tr-1", "mlflow.spanType": kind, "mlflow.spanInputs": given}
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    values |= {"mlflow.spanOutputs": got, **dotted}
    return {key: json.dumps(value) for key, value in values.items() if value is not None}


def span(number: int, parent: int | None, name: str, version: int, **fields: Any) -> Object:
    """A span as a version of MLflow writes it."""
    failed = fields.pop("failed", None)
    held: Object = {"name": name, "events": [], "attributes": attributes(**fields)}
    if failed:
        raised = {"exception.type": failed, "exception.message": "gone"}
        held["events"] = [{"name": "exception", "time_unix_nano": 1, "attributes": raised}]
    start, end = (1_700_000_000_000_000_000 + n * 10**9 for n in (number, number + 1))
    if version == 2:
        identity = {"context": {"span_id": f"s{number}", "trace_id": "t"}, "parent_id": parent and f"s{parent}"}  # fmt: skip
        code = {"status_code": "ERROR" if failed else "OK", "status_message": "gone" if failed else ""}  # fmt: skip
        return {**held, **identity, **code, "start_time": start, "end_time": end}
    names = [n and base64.b64encode(bytes([n] * 8)).decode() for n in (number, parent)]
    status = {"code": "STATUS_CODE_ERROR" if failed else "STATUS_CODE_OK", "message": "gone" if failed else ""}  # fmt: skip
    identity = {"trace_id": "dA==", "span_id": names[0], "parent_span_id": names[1]}
    times = {"start_time_unix_nano": start, "end_time_unix_nano": end}
    return {**identity, **held, **times, "status": status}


def chat_reply(**message: Any) -> Object:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    choice = {"finish_reason": "stop", "message": {"role": "assistant", **message}}
    return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


CALL = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
ASKED = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def spans_of(version: int, *, keeps: bool, failed: str | None = None, **more: Any) -> list[Object]:
    """An agent that calls a model, a tool, and the model again."""
    first = {"content": "go", "reasoning_content": "hmm", "tool_calls": [CALL]}
    back = {"role": "assistant", **first}
    back = back if keeps else {key: v for key, v in back.items() if key != "reasoning_content"}
    result = {"role": "tool", "tool_call_id": "c1", "content": "out"}
    offered = [{"type": "function", "function": {"name": "ls", "parameters": {}}}]
    request = {"model": "m", "tools": offered, "temperature": 0.5}
    written = {"mlflow__message__format": "openai"} if version == 3 else {}
    fields: Object = {"kind": "CHAT_MODEL", **written, **more}
    return [
        span(1, None, "agent", version, kind="AGENT", given={"task": "u"}, got="done"),
        span(
            2,
            1,
            "Completions_1" if version == 2 else "Completions",
            version,
            **fields,
            given={**request, "messages": ASKED},
            got=chat_reply(**first),
        ),
        span(
            3,
            1,
            "ls_1" if version == 2 else "ls",
            version,
            kind="TOOL",
            given={},
            got=None if failed else "out",
            failed=failed,
        ),
        span(
            4,
            1,
            "Completions_2" if version == 2 else "Completions",
            version,
            **fields,
            given={**request, "messages": [*ASKED, back, result]},
            got=chat_reply(content="done"),
        ),
    ]


def info(version: int) -> Object:
    if version == 2:
        return {"request_id": "tr-1", "experiment_id": "5", "timestamp_ms": 1, "status": "OK", "request_metadata": {}, "tags": {"mlflow.traceName": "agent"}}  # fmt: skip
    where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "5"}}
    return {"trace_id": "tr-1", "trace_location": where, "state": "OK", "trace_metadata": {}, "tags": {"mlflow.traceName": "agent"}}  # fmt: skip


def layouts(version: int, spans: list[Object]) -> dict[str, Any]:
    """The same trace in every file that it can stand in."""
    trace = {"info": info(version), "data": {"spans": spans}}
    row = {**info(version), "request": {}, "response": "done", "spans": spans}
    return {
        "trace": trace,
        "several": [trace],
        "traces": {"traces": [trace], "next_page_token": ""},
        "artifact": {"spans": spans, "request": "{}", "response": '"done"'},
        "row": [row],
        "row_of_text": [{**info(version), "trace": json.dumps(trace)}],
    }


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("layout", layouts(3, []))
def test_a_trace_in_every_layout(tmp_path: Path, version: int, layout: str) -> None:
    path = write(tmp_path / "t.json", layouts(version, spans_of(version, keeps=True))[layout])
    head = Source(path).head
    assert [f.sniff(head) for f in (mlflow, otlp, openinference, langfuse)] == [True] + [False] * 3
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "tool", "call_seq") == [
        ("system", None, "s", None, None),
        ("user", None, "u", None, None),
        ("thinking", 0, "hmm", None, None),
        ("message", 0, "go", None, None),
        ("tool_call", 0, None, "ls", None),
        ("tool_result", 0, "out", "ls", 4),
        ("message", 1, "done", None, None),
    ]
    names = ("agent", "thinking_sent", "history_edit", "input_tokens")
    assert steps(runs, *names) == [("agent", 0, "none", 9), ("agent", 1, "none", 9)]
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["native_id"], row["params"]) == ("tr-1", '{"temperature":0.5}')
    assert runs.tools.collect()["name"].to_list() == ["ls"]
    assert runs.problems.collect().is_empty()
    assert all_raw(runs)


@pytest.mark.parametrize(
    ("version", "more", "known"),
    [
        (3, {}, True),
        (2, {}, True),  # the reply is the provider's own, so the request is the client's
        (3, {"mlflow__message__format": "crewai"}, False),
        (3, {"mlflow__message__format": "langchain"}, False),
    ],
)
def test_thinking_is_missed_only_where_a_request_is_whole(
    tmp_path: Path, version: int, more: Object, known: bool
) -> None:
    spans = spans_of(version, keeps=False, **more)
    runs = loaders.load(write(tmp_path / "t.json", layouts(version, spans)["trace"]))
    expected = (
        [(0, 0, "none"), (1, 0, "thinking_dropped")]
        if known
        else [(0, None, None), (1, None, None)]
    )
    assert steps(runs, "thinking_available", "thinking_sent", "history_edit") == expected


@pytest.mark.parametrize("key", ["previous_response_id", "conversation"])
def test_a_request_that_goes_on_elsewhere_says_nothing_of_thinking(
    tmp_path: Path, key: str
) -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "z"}],
    }
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a"}],
    }
    got = {"object": "response", "model": "m", "output": [reasoning, said]}
    again = {"model": "m", key: "r1", "input": [{"role": "user", "content": "more"}]}
    openai = {"kind": "CHAT_MODEL", "mlflow__message__format": "openai"}
    spans = [
        span(1, None, "Responses", 3, **openai, given={"model": "m", "input": "u"}, got=got),
        span(2, None, "Responses", 3, **openai, given=again, got={**got, "output": [said]}),
    ]
    runs = loaders.load(write(tmp_path / "t.json", layouts(3, spans)["trace"]))
    assert steps(runs, "thinking_sent") == [(0,), (None,)]


def test_a_tool_that_raises_and_one_whose_message_is_an_error(tmp_path: Path) -> None:
    raised = spans_of(3, keeps=True, failed="OSError")
    runs = loaders.load(write(tmp_path / "a.json", layouts(3, raised)["trace"]))
    failed = [row for row in events(runs, "kind", "is_error", "error_type") if row[1]]
    assert failed == [("tool_result", True, "OSError")]
    spans = spans_of(3, keeps=True)
    message = {"type": "tool", "content": "bad", "status": "error", "tool_call_id": "c1", "additional_kwargs": {}}  # fmt: skip
    spans[2]["attributes"]["mlflow.spanOutputs"] = json.dumps(message)
    runs = loaders.load(write(tmp_path / "b.json", layouts(3, spans)["trace"]))
    told = [
        row
        for row in events(runs, "kind", "text", "is_error", "call_id")
        if row[0] == "tool_result"
    ]
    assert ("tool_result", "bad", True, "c1") in told


def test_the_conversation_stands_in_for_inputs(tmp_path: Path) -> None:
    conversation = [*ASKED, {"role": "assistant", "content": "done"}]
    spans = [span(1, None, "llm", 2, kind="LLM", given=None, got=None, mlflow__chat__messages=conversation)]  # fmt: skip
    runs = loaders.load(write(tmp_path / "t.json", layouts(2, spans)["trace"]))
    assert events(runs, "kind", "text") == [("system", "s"), ("user", "u"), ("message", "done")]
    assert steps(runs, "context") == [([{"start": 0, "stop": 2}],)]


def test_spans_of_other_instrumentations(tmp_path: Path) -> None:
    spans = [span(1, None, "chat", 3, kind="UNKNOWN", given=None, got=None)]
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "done"}]}]
    asked = [{"role": "user", "parts": [{"type": "text", "content": "u"}]}]
    spans[0]["attributes"] |= {
        "gen_ai.operation.name": '"chat"',
        "gen_ai.usage.input_tokens": "7",
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps(said),
    }
    runs = loaders.load(write(tmp_path / "t.json", layouts(3, spans)["trace"]))
    assert events(runs, "kind", "text") == [("user", "u"), ("message", "done")]
    assert steps(runs, "input_tokens") == [(7,)]


def test_feedback_is_a_score_and_what_is_expected_is_not(tmp_path: Path) -> None:
    trace = layouts(3, spans_of(3, keeps=True))["trace"]
    trace["info"]["assessments"] = [
        {"assessment_name": "right", "feedback": {"value": True}},
        {"assessment_name": "style", "feedback": {"value": "good"}},
        {"assessment_name": "answer", "expectation": {"value": 4}},
    ]
    runs = loaders.load(write(tmp_path / "t.json", trace))
    scores = runs.trajectories.collect()["scores"].to_list()[0]
    assert [(s["name"], s["value"], s["raw"]) for s in scores] == [
        ("right", 1.0, "true"),
        ("style", None, "good"),
    ]


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, [[]], True, "{", "\ud800"])
def test_values_of_other_types(tmp_path: Path, hostile: Any) -> None:
    for layout in ("trace", "row", "row_of_text"):
        for key in ("mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.chat.tokenUsage", "mlflow.spanType"):  # fmt: skip
            spans = spans_of(3, keeps=True)
            spans[1]["attributes"][key] = hostile
            runs = loaders.load(write(tmp_path / "t.json", layouts(3, spans)[layout]))
            problems = runs.problems.collect()["reason"].to_list()
            assert not any(".py:" in reason for reason in problems), problems


def test_a_trace_without_calls_is_told_of(tmp_path: Path) -> None:
    spans = [span(1, None, "chain", 3, kind="CHAIN", given={}, got={})]
    good = layouts(3, spans_of(3, keeps=True))["trace"]
    path = write(tmp_path / "t.json", [{"info": info(3), "data": {"spans": spans}}, good])
    runs = loaders.load(path)
    assert runs.trajectories.collect().height == 1
    assert runs.problems.collect()["reason"].to_list() == ["a trace without model calls and tools"]
