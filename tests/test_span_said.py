"""Messages that the spans of a trace repeat: read once, each told at its own place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders.dialects import span_said
from loaders.dialects.span_messages import messages_of
from loaders.dialects.span_named import Attributes, Named
from loaders.dialects.span_said import Known, Message

Object = dict[str, Any]


def parts_of(messages: list[Message]) -> list[list[Any]]:
    """All of the parts of each message, with their whole places."""
    return [list(message.placed_parts()) for message in messages]


def history(turns: int) -> list[Object]:
    messages: list[Object] = [{"role": "user", "content": "Look it up."}]
    for turn in range(turns):
        function = {"name": "find", "arguments": json.dumps({"page": turn})}
        call = {"id": f"c{turn}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": f"Page {turn}.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": f"It says {turn}."},
        ]
    return messages


def item(kind: str, number: int) -> Object:
    """An item of the Responses API."""
    if kind == "function_call":
        return {"type": kind, "call_id": f"c{number}", "name": "find", "arguments": "{}"}
    return {"type": kind, "call_id": f"c{number}", "output": "found"}


def test_what_is_known_is_the_same_object_at_another_place() -> None:
    known = Known()
    first = messages_of(history(2), "/0/input", "user", known)
    again = messages_of(history(3), "/1/input", "user", known)
    assert [m.said for m in first] == [m.said for m in again[:5]]
    assert parts_of(again) == parts_of(messages_of(history(3), "/1/input"))
    assert again[1].place_of(again[1].parts[1]) == "/1/input/1/tool_calls/0"


def test_items_that_are_one_reply_are_put_together_once() -> None:
    known = Known()
    items = [{"role": "user", "content": "hi"}, item("function_call", 0), item("function_call", 1)]
    first = messages_of(items, "/0", "user", known)
    again = messages_of([*items, item("function_call_output", 0)], "/1", "user", known)
    assert len(first[1].parts) == 2
    assert first[1].said is again[1].said
    assert parts_of(again) == parts_of(
        messages_of([*items, item("function_call_output", 0)], "/1", "user")
    )
    assert [again[1].place_of(part) for part in again[1].parts] == ["/1/1", "/1/2"]


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), ("1", 1)])
def test_values_that_are_written_differently_are_not_taken_for_the_same(
    one: Any, other: Any
) -> None:
    known = Known()
    for value in (one, other):
        call = {"role": "assistant", "tool_calls": [{"name": "f", "args": {"all": value}}]}
        [message] = messages_of([call], "", "user", known)
        assert json.dumps(message.parts[0].value["all"]) == json.dumps(value)
        attributes: Attributes = {
            "gen_ai.prompt.0.role": ("assistant", "/0"),
            "gen_ai.prompt.0.tool_calls.0.name": ("f", "/1"),
            "gen_ai.prompt.0.tool_calls.0.arguments": (value, "/2"),
        }
        [message] = Named(attributes, known).messages(("gen_ai.prompt",), "user")
        assert json.dumps(message.parts[0].value) == json.dumps(value)


@pytest.mark.parametrize("number", ["3", "003"])
def test_parts_of_a_message_stand_at_their_texts(number: str) -> None:
    start = f"llm.input_messages.{number}.message"
    attributes: Attributes = {
        f"{start}.role": ("assistant", "/role"),
        f"{start}.contents.0.message_content.type": ("reasoning", "/type"),
        f"{start}.contents.0.message_content.text": ("hm", "/thought"),
        f"{start}.content": ("Found.", "/content"),
        f"{start}.tool_calls.0.tool_call.function.name": ("find", "/name"),
        f"{start}.tool_calls.0.tool_call.function.arguments": ("{}", "/arguments"),
    }
    [message] = Named(attributes, Known()).messages(("llm.input_messages",), "user")
    places = {part.kind: message.place_of(part) for part in message.parts}
    assert places == {"thinking": "/thought", "text": "/content", "call": "/name"}


def test_a_trace_reads_the_same_where_nothing_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [
        {
            "context": {"trace_id": "t", "span_id": f"s{turn}"},
            "name": "chat",
            "start_time": f"2026-01-01T00:00:{turn:02}Z",
            "attributes": {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": json.dumps(history(turn)),
                "gen_ai.output.messages": json.dumps(history(turn + 1)[-2:-1]),
            },
        }
        for turn in range(5)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, spans)))
    tables = [loaders.load(tmp_path)]
    monkeypatch.setattr(span_said, "_MOST_HELD", 0)
    monkeypatch.setattr(span_said, "_MOST_NAMES", 1)
    tables.append(loaders.load(tmp_path))
    remembered, forgotten = (runs.events.collect() for runs in tables)
    assert remembered.equals(forgotten)
    assert remembered.filter(pl.col("kind") == "tool_call").height == 5
    assert tables[0].steps.collect().equals(tables[1].steps.collect())
