"""What is read of an Inspect sample, declared: decoded fast, and what is not read never built.

Tool definitions, requests, arguments and what tools returned are left as bytes: a log says most of
them twice or more, so that they are compared as bytes and opened where they are new. Whatever is not as
declared is decoded like any other JSON and made into the same records, where a part of a wrong type
reads as missing; the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar, Union

import msgspec
from msgspec import UNSET, Raw, Struct

from loaders.jsontext import decode
from loaders.values import Object, as_array, as_json, as_object, as_text, is_array, is_object

NOTHING = Raw()
"""Stands where a record lacks a field that is left undecoded."""
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BRACE: Final = ord("{")
_Record = TypeVar("_Record", bound=Struct)


class ToolCall(Struct, gc=False):
    """A call as a message has it."""

    id: Any = None
    function: Any = None
    arguments: Raw = NOTHING


class Message(Struct, gc=False):
    """A message of a conversation; ``content`` is unset where it has none."""

    role: Any = None
    id: Any = None
    content: Any = UNSET
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Any = None
    function: Any = None
    error: Any = None
    tool_error: Any = None
    metadata: Any = None
    source: Any = None


class Choice(Struct, gc=False):
    """One of the replies between which a model call may let choose."""

    message: Message | None = None
    stop_reason: Any = None


class Output(Struct, gc=False):
    """What a model call put out."""

    model: Any = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    time: Any = None


class Call(Struct, gc=False):
    """The request as it went over the wire, its messages maybe as ranges of a pool."""

    request: Raw = NOTHING
    call_refs: Any = None


class Event(Struct, gc=False, tag_field="event"):
    """What all events have. Of many kinds nothing else is read (``SILENT``)."""

    span_id: Any = None
    timestamp: Any = None


class SpanBegin(Event, tag="span_begin", gc=False):
    """An agent, a solver, a scorer, a tool ... begins."""

    id: Any = None
    type: Any = None
    name: Any = None
    parent_id: Any = None


class ModelEvent(Event, tag="model", gc=False):
    """A call of a model."""

    completed: Any = None
    role: Any = None
    model: Any = None
    input: list[Raw] | None = None
    input_refs: Any = None
    tools: Raw = NOTHING
    tool_choice: Any = None
    config: Raw = NOTHING
    output: Output | None = None
    error: Any = None
    pending: Any = None
    cache: Any = None
    retries: Any = None
    call: Call | None = None


class ToolEvent(Event, tag="tool", gc=False):
    """A tool that ran; old logs nest in it what happened inside."""

    id: Any = None
    function: Any = UNSET
    arguments: Raw = NOTHING
    result: Raw = NOTHING
    error: Any = None
    tool_error: Any = None
    truncated: Any = None
    completed: Any = None
    events: Raw = NOTHING


class ScoreEvent(Event, tag="score", gc=False):
    """A score, given at the end or on the way."""

    intermediate: Any = None
    score: Raw = NOTHING


class OtherEvent(Event, gc=False):
    """An event of any other kind, of a wrong shape or of none, with all its fields."""

    fields: Object = {}

    @property
    def kind(self) -> str | None:
        """The name of its kind."""
        return as_text(self.fields.get("event"))


class Request(Struct, gc=False):
    """A request with its messages, under the name that its API has for them; in this order."""

    messages: Raw = NOTHING
    contents: Raw = NOTHING
    input: Raw = NOTHING
    inputs: Raw = NOTHING
    prompt: Raw = NOTHING


class RequestPart(Struct, gc=False):
    """Whose a message of a raw request is, in whatever API, and where it may have its thinking."""

    role: Any = None
    type: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Pools(Struct, gc=False):
    messages: list[Message] | None = None
    calls: list[Raw] | None = None


_SILENT: Final[tuple[Any, ...]] = tuple(
    msgspec.defstruct(f"_{name}", [], bases=(Event,), tag=name, tag_field="event", gc=False)
    for name in (
        *("anchor", "branch", "checkpoint", "sample_init", "sandbox", "score_edit", "sentinel"),
        *("span_end", "state", "store"),
    )
)
_TOLD: Final[tuple[Any, ...]] = (ModelEvent, ToolEvent, SpanBegin, ScoreEvent)
_DECLARED: Final[dict[Any, type[Event]]] = {
    kind.__struct_config__.tag: kind for kind in (*_TOLD, *_SILENT)
}
SILENT: Final[frozenset[Any]] = frozenset(_SILENT)
"""The types of the events of which nothing is told."""


# ---------------------------------------------------------------------- from bytes

_KINDS: Any = Union[_TOLD + _SILENT]  # noqa: UP007 - made out of a tuple
_all_events: Any = msgspec.json.Decoder(list[_KINDS]).decode
_event: Any = msgspec.json.Decoder(_KINDS).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_messages = msgspec.json.Decoder(list[Message]).decode
_message = msgspec.json.Decoder(Message).decode
_request = msgspec.json.Decoder(Request).decode
_request_part = msgspec.json.Decoder(RequestPart).decode
_pools = msgspec.json.Decoder(_Pools).decode
_value: Callable[[bytes | Raw], Any] = msgspec.json.Decoder[Any]().decode
_NOT_READ = frozenset(("input", "output"))


def sample_of(data: bytes) -> Any:
    """The record of a sample, its events and messages as declared.

    Raises ``UnreadableRecord`` as ``decode`` does.
    """
    try:
        return {
            key: _READ_BY.get(key, _value)(raw)
            for key, raw in _fields(data).items()
            if key not in _NOT_READ
        }
    except _REFUSED:
        return decode(data)


def events_of(data: bytes) -> Any:
    """A list of events, decoded as those of a sample.

    Raises ``UnreadableRecord`` as ``decode`` does.
    """
    return _as_declared_or_not(_read_events, data, decode)


def messages_of(data: bytes) -> Any:
    """A list of messages, decoded as those of a sample.

    Raises ``UnreadableRecord`` as ``decode`` does.
    """
    return _as_declared_or_not(_messages, data, decode)


def _as_declared_or_not(
    read: Callable[[bytes], Any], data: bytes, otherwise: Callable[[bytes], Any]
) -> Any:
    try:
        return read(data)
    except _REFUSED:
        return otherwise(data)


def _read_events(data: bytes) -> Any:
    try:
        return _all_events(data)
    except msgspec.ValidationError:  # some are of another kind or shape
        return [_read_event(raw) for raw in _items(data)]


def _read_event(raw: Raw) -> Event:
    with suppress(msgspec.ValidationError):
        return _event(raw)
    return event_of(_value(raw))


def _read_pools(data: bytes) -> Object:
    pools = _pools(data)
    return {"messages": pools.messages, "calls": pools.calls}


def _part(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: _as_declared_or_not(read, data, _value)


_READ_BY: Final[dict[str, Callable[[bytes], Any]]] = {
    "events": _part(_read_events),
    "messages": _part(_messages),
    "message_pool": _part(_messages),
    "events_data": _part(_read_pools),
    "call_pool": _part(_items),
}


def opened(value: Any) -> Any:
    """A field's value, decoded where it was left as bytes; None where there is none."""
    if not isinstance(value, Raw):
        return value
    if value is NOTHING:
        return None
    try:
        return _value(value)
    except _REFUSED:
        return decode(bytes(value))


def is_request(value: Any) -> bool:
    """Whether a request was logged, decoded or not."""
    if isinstance(value, Raw):
        return value is not NOTHING and memoryview(value)[0] == _BRACE
    return is_object(value)


def as_logged(value: Any) -> bytes | str | None:
    """A field's text, to be compared with that of another record; None where it can't be written."""
    try:
        return bytes(value) if isinstance(value, Raw) else as_json(value)
    except (OverflowError, RecursionError):
        return None


# ---------------------------------------------------------------------- from values of any shape


def event_of(value: Any) -> Event:
    """The record of an event that was decoded like any other JSON."""
    if isinstance(value, Event):
        return value
    fields = as_object(value)
    kind = _DECLARED.get(as_text(fields.get("event")))
    if kind is None:
        return OtherEvent(fields.get("span_id"), fields.get("timestamp"), fields)
    event = _record(kind, fields)
    if isinstance(event, ModelEvent):
        event.input = as_array(event.input)
        event.output = _output_of(event.output)
        event.call = _record(Call, as_object(event.call))
    return event


def message_of(value: Any) -> Message:
    """The record of a message; of one that was left as bytes, too."""
    if isinstance(value, Message):
        return value
    if isinstance(value, Raw):
        try:
            return _message(value)
        except _REFUSED:
            value = opened(value)
    message = _record(Message, as_object(value))
    calls = message.tool_calls
    message.tool_calls = (
        [_record(ToolCall, as_object(call)) for call in calls] if is_array(calls) else None
    )
    return message


def messages_of_request(value: Any) -> list[Any] | None:
    """The messages of a raw request, decoded or not; None where it has none."""
    if isinstance(value, Raw):
        try:
            fields = _request(value)
            found = [getattr(fields, key) for key in Request.__struct_fields__]
            present = [raw for raw in found if raw is not NOTHING]
            if not present:
                return None
            return _items(present[0]) if bytes(present[0])[:1] == b"[" else [present[0]]
        except _REFUSED:
            value = opened(value)
    request = as_object(value)
    for key in Request.__struct_fields__:
        if key in request:
            items = request[key]
            return items if is_array(items) else [items]
    return None


def request_part_of(value: Any) -> RequestPart | None:
    """Whose a message of a raw request is, decoded or not; None where it is no object."""
    if isinstance(value, Raw):
        try:
            return _request_part(value)
        except _REFUSED:
            value = opened(value)
    return _record(RequestPart, value) if is_object(value) else None


def _output_of(value: Any) -> Output:
    output = _record(Output, as_object(value))
    output.choices = [
        _record(
            Choice, {**as_object(choice), "message": message_of(as_object(choice).get("message"))}
        )
        for choice in as_array(output.choices)
    ]
    return output


def _record(kind: type[_Record], fields: Object) -> _Record:
    return kind(**{key: fields[key] for key in kind.__struct_fields__ if key in fields})
