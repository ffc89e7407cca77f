"""Decodes the samples of an Inspect log fast: what repeats in every model event is left as bytes.

A model event carries the definitions of all tools twice, as offered and as sent, which is most of a
log. They are compared as bytes with those of the event before it, and opened where they differ.
Whatever is not as declared here is read as any other JSON, with the same result.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from loaders.jsontext import decode
from loaders.values import Object, as_json, is_object

NOTHING = Raw()
"""Stands where an event lacks a field that is left undecoded."""
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MARKS = (b'"event":"model"', b'"event": "model"')


class _Call(Struct, gc=False):
    request: Raw = NOTHING
    call_refs: Any = None


class _Model(Struct, tag_field="event", tag="model", gc=False):
    """The fields of a model event that are read; ``call`` has the request as it went over the wire."""

    span_id: Any = None
    timestamp: Any = None
    completed: Any = None
    role: Any = None
    model: Any = None
    input: Any = None
    input_refs: Any = None
    tools: Raw = NOTHING
    tool_choice: Any = None
    config: Any = None
    output: Any = None
    error: Any = None
    pending: Any = None
    cache: Any = None
    retries: Any = None
    call: _Call | None = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_model = msgspec.json.Decoder(_Model).decode
_value: Any = msgspec.json.Decoder[Any]().decode


def sample_of(data: bytes) -> Any:
    """The record of a sample, its model events with ``tools`` and ``call.request`` left as bytes.

    Raises ``UnreadableRecord`` as ``decode`` does.
    """
    try:
        return {
            key: _events(_items(raw)) if key == "events" else _value(raw)
            for key, raw in _fields(data).items()
        }
    except _REFUSED:
        return decode(data)


def events_of(data: bytes) -> Any:
    """A list of events, decoded as those of a sample.

    Raises ``UnreadableRecord`` as ``decode`` does.
    """
    try:
        return _events(_items(data))
    except _REFUSED:
        return decode(data)


def _events(raws: list[Raw]) -> list[Any]:
    return [_event(bytes(raw)) for raw in raws]


def _event(data: bytes) -> Any:
    if any(mark in data for mark in _MARKS):  # one inside another event's text changes nothing
        with suppress(*_REFUSED):
            return _plain(_model(data))
    return _value(data)


def _plain(event: _Model) -> Object:
    """The event as an object like any other; bytes where it is left undecoded."""
    call = event.call
    return {
        "event": "model",
        "span_id": event.span_id,
        "timestamp": event.timestamp,
        "completed": event.completed,
        "role": event.role,
        "model": event.model,
        "input": event.input,
        "input_refs": event.input_refs,
        "tools": event.tools,
        "tool_choice": event.tool_choice,
        "config": event.config,
        "output": event.output,
        "error": event.error,
        "pending": event.pending,
        "cache": event.cache,
        "retries": event.retries,
        "call": None if call is None else {"request": call.request, "call_refs": call.call_refs},
    }


def opened(value: Any) -> Any:
    """A field's value, decoded where it was left as bytes; None where there is none."""
    if not isinstance(value, Raw):
        return value
    return None if value is NOTHING else decode(bytes(value))


def is_request(value: Any) -> bool:
    """Whether a request was logged, decoded or not."""
    return is_object(value) or (isinstance(value, Raw) and bytes(value)[:1] == b"{")


def as_logged(value: Any) -> bytes | str | None:
    """A field's text, to be compared with that of another event."""
    return bytes(value) if isinstance(value, Raw) else as_json(value)
