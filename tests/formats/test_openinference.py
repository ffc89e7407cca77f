"""OpenInference: a real trace against counts of its raw spans, and variants written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories


def test_the_real_trace(real_logs: Path) -> None:
    path = real_logs / "openinference_phoenix" / "pxi_turn_trace.json"
    spans = json.loads(path.read_text())
    calls = [item["attributes"] for item in spans if item["span_kind"] == "LLM"]
    tools = [item for item in spans if item["span_kind"] == "TOOL"]
    last = [
        key for key in calls[-1] if key.startswith("llm.input_messages.") and key.endswith(".role")
    ]
    earlier = [
        key for key in calls[0] if key.startswith("llm.input_messages.") and key.endswith(".role")
    ]
    runs = loaders.load(path)
    steps = runs.steps.collect()
    from_history = sum(calls[0][key] == "assistant" for key in earlier)
    assert steps.height == len(calls) + from_history
    told = steps.filter(pl.col("evidence") == "request")
    assert told.height == len(calls)
    for column, key in {
        "input_tokens": "llm.token_count.prompt",
        "output_tokens": "llm.token_count.completion",
        "cached_tokens": "llm.token_count.prompt_details.cache_read",
    }.items():
        assert told[column].to_list() == [attributes[key] for attributes in calls]
    events = runs.events.collect()
    results = events.filter(pl.col("kind") == "tool_result")
    in_history = sum(calls[0][key] == "tool" for key in earlier)
    assert results.height == len(tools) + in_history
    by_id = {row["call_id"]: row["is_error"] for row in results.to_dicts()}
    for tool in tools:
        assert by_id[tool["attributes"]["tool.id"]] == (tool["status_code"] == "ERROR")
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["unanswered_calls"], row["orphan_results"]) == (0, 0)
    assert (row["model"], row["provider"]) == (calls[0]["llm.model_name"], "anthropic")
    # every message of the last request, and the reply to it, is told once
    messages = sum(1 for _ in last) + 1
    more_than_one_event = sum(
        1
        for attributes in calls
        if "llm.output_messages.0.message.content" in attributes
        and "llm.output_messages.0.message.tool_calls.0.tool_call.id" in attributes
    )
    assert events.height == messages + more_than_one_event
    assert steps["context"].to_list()[-1] == [{"start": 0, "stop": events.height - 1}]
    for seq, text in events.filter(pl.col("text").is_not_null()).select("seq", "text").rows():
        assert runs.raw(runs.ids[0], seq) == text
    assert steps["thinking_sent"].null_count() == steps.height


# ---------------------------------------------------------------------- written here


def span(number: int, kind: str, attributes: Any, **more: Any) -> dict[str, Any]:
    return {
        "name": f"span {number}",
        "context": {"trace_id": "t", "span_id": f"s{number}"},
        "span_kind": kind,
        "parent_id": None,
        "start_time": f"2026-01-01T00:00:{number:02}Z",
        "end_time": f"2026-01-01T00:01:{number:02}Z",
        "attributes": attributes,
        **more,
    }


def load(tmp_path: Path, text: str) -> Trajectories:
    (tmp_path / "spans.json").write_text(text)
    return loaders.load(tmp_path)


NESTED = {
    "llm": {
        "input_messages": [{"message": {"role": "user", "content": "hi"}}],
        "output_messages": [
            {
                "message": {
                    "role": "assistant",
                    "contents": [
                        {"message_content": {"type": "reasoning", "text": "hm", "signature": "s"}},
                        {"message_content": {"type": "text", "text": "ok"}},
                    ],
                }
            }
        ],
        "tools": [{"tool": {"json_schema": '{"function": {"name": "get"}}'}}],
        "token_count": {"prompt": 5, "completion_details": {"reasoning": 3}},
        "invocation_parameters": '{"max_tokens": 9}',
    }
}


@pytest.mark.parametrize("layout", ["list", "lines", "data"])
def test_nested_attributes_in_every_layout(tmp_path: Path, layout: str) -> None:
    spans = [span(1, "LLM", NESTED), span(2, "CHAIN", {})]
    texts = {
        "list": json.dumps(spans),
        "lines": "\n".join(map(json.dumps, spans)),
        "data": json.dumps({"data": spans}),
    }
    runs = load(tmp_path, texts[layout])
    events = runs.events.collect()
    assert events.select("kind", "text").rows() == [
        ("user", "hi"),
        ("thinking", "hm"),
        ("message", "ok"),
    ]
    assert events["signature"].to_list() == [None, "s", None]
    assert runs.raw(runs.ids[0], 0) == "hi"
    step = runs.steps.collect().row(0, named=True)
    assert (step["input_tokens"], step["reasoning_tokens"], step["thinking"]) == (5, 3, "text")
    assert runs.tools.collect()["name"].to_list() == ["get"]
    assert json.loads(runs.trajectories.collect()["params"][0]) == {"max_tokens": 9}


def test_a_table_s_rows(tmp_path: Path) -> None:
    row = {
        "name": "llm",
        "span_kind": "LLM",
        "context.trace_id": "t",
        "context.span_id": "s",
        "start_time": 1_700_000_000_000,
        "attributes.llm.input_messages": [
            {"message.role": "user", "message": {"role": "user", "content": "hi"}}
        ],
        "attributes.llm.token_count.prompt": 4.0,
        "attributes.llm.token_count.completion": None,
    }
    runs = load(tmp_path, json.dumps(row))
    assert runs.events.collect()["text"].to_list() == ["hi"]
    assert runs.steps.collect()["input_tokens"].to_list() == [4]


def test_a_search_is_told_among_the_calls(tmp_path: Path) -> None:
    documents = {
        "retrieval.documents.0.document.content": "the first document",
        "retrieval.documents.0.document.score": 0.5,
        "input.value": "which one?",
    }
    asked = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi",
    }
    spans = [
        span(1, "RETRIEVER", documents, name="search"),
        span(2, "LLM", {**asked, "llm.finish_reason": "stop", "user.id": "u-1"}),
        span(3, "GUARDRAIL", {"output.value": "nothing to object to"}),
    ]
    runs = load(tmp_path, json.dumps(spans))
    assert runs.events.select("kind", "text", "actor", "error_type").collect().rows() == [
        (
            "other",
            '{"input":"which one?",'
            '"output":[{"document":{"content":"the first document","score":0.5}}]}',
            *("search", "retriever"),
        ),
        ("user", "hi", None, None),
        ("other", "nothing to object to", "span 3", "guardrail"),
    ]
    assert runs.steps.collect()["stop_reason"].to_list() == ["stop"]
    assert json.loads(runs.trajectories.collect()["metadata"][0]) == {"user.id": "u-1"}
    (tmp_path / "spans.json").write_text(json.dumps(spans[:1]))
    with pytest.raises(loaders.LoadError):
        loaders.load(tmp_path)


def test_tools_without_ids_and_a_message_with_a_picture(tmp_path: Path) -> None:
    prefix = "llm.output_messages.0.message"
    first = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "look",
        "llm.input_messages.0.message.contents.1.message_content.type": "image",
        f"{prefix}.role": "assistant",
        f"{prefix}.tool_calls.0.tool_call.function.name": "get",
        f"{prefix}.tool_calls.1.tool_call.function.name": "get",
    }
    tools = [span(n, "TOOL", {"tool.name": "get", "output.value": f"out {n}"}) for n in (2, 3)]
    runs = load(tmp_path, json.dumps([span(1, "LLM", first), *tools]))
    events = runs.events.collect()
    assert events["media"].to_list()[1] == ["image"]
    assert [runs.raw(runs.ids[0], seq) for seq in (0, 1)] == ["look", "image"]
    results = events.filter(pl.col("kind") == "tool_result")
    assert results.select("text", "call_seq", "is_error").rows() == [
        ("out 2", 2, None),
        ("out 3", 3, None),
    ]


def test_hostile_types_and_a_cut_file(tmp_path: Path) -> None:
    broken = [span(2, "LLM", {"llm.input_messages.x.message.role": [], "llm.model_name": 5}), 7, {}]
    runs = load(
        tmp_path, json.dumps([span(1, "LLM", NESTED), *broken, span(3, "TOOL", [1], events=5)])
    )
    errors = runs.problems.filter(pl.col("severity") == "error").collect()
    assert errors["position"].to_list() == ["/2", "/3"]
    assert runs.trajectories.collect()["steps"].to_list() == [1]
    text = json.dumps([span(1, "LLM", NESTED), span(2, "LLM", NESTED)])
    runs = load(tmp_path, text[:-100])
    assert "what stands before" in runs.problems.collect()["reason"][0]
    assert runs.trajectories.collect()["steps"].to_list() == [2]
