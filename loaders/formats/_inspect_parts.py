"""Parts of an Inspect log as they stand for themselves: scopes of events, content parts, usage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from loaders.dialects.openai_chat import split_think_tags
from loaders.formats._inspect_records import (
    SILENT,
    Event,
    Message,
    ModelEvent,
    OtherEvent,
    SpanBegin,
    ToolEvent,
    events_of,
)
from loaders.formats._inspect_sample import Placed, Sample, placed_events
from loaders.steps import TOKENS
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
)

_OPENROUTER_DETAILS = "reasoning-details://"


class Scope(NamedTuple):
    """Whose events these are: the agent, the span of its conversation, the scorer if it scores."""

    agent: str | None = None
    conversation: str = ""
    scorer: str | None = None

    def inside(self, kind: str | None, name: str | None, span: str) -> Scope:
        """The scope inside a span."""
        if kind in ("scorer", "scorers"):
            return self._replace(scorer=name or kind)
        if kind in ("agent", "subtask"):
            return self._replace(agent=name, conversation=span)
        if kind in ("task", "branch"):  # one of several that run beside each other
            return self._replace(conversation=span)
        return self


Scoped = tuple[str, Event, Scope]
"""An event with its position and whose it is."""


def in_scopes(sample: Sample) -> list[Scoped]:
    """The events of a sample of which something is told, in order, with position and scope."""
    found: list[Scoped] = []
    _put_in_scopes(sample.events, Scope(), {}, found)
    return found


def _put_in_scopes(
    events: Placed[Event], outer: Scope, spans: dict[Any, Scope], found: list[Scoped]
) -> None:
    steps = [outer]
    for index, event in enumerate(events.items):
        kind = type(event)
        if kind in SILENT:
            continue
        span = event.span_id
        scope = spans.get(span, steps[-1]) if isinstance(span, str) else steps[-1]
        if isinstance(event, SpanBegin):
            around = spans.get(as_text(event.parent_id), scope)
            span = as_text(event.id) or events.place(index)
            if event.type in _OF_THEIR_OWN:
                around = around.inside(event.type, as_text(event.name), span)
            spans[span] = around
        elif kind in _NESTING:
            fields = event.fields if isinstance(event, OtherEvent) else {}
            if as_text(fields.get("event")) == "step":  # what spans are in newer logs
                if fields.get("action") == "begin":
                    of, name = as_text(fields.get("type")), as_text(fields.get("name"))
                    steps.append(scope.inside(of, name, events.place(index)))
                else:
                    steps = steps[:-1] or [outer]
                continue
            pos = events.place(index)
            found.append((pos, event, scope))
            nested, inside = _nested(event, pos, scope)
            if nested:
                _put_in_scopes(placed_events(nested, f"{pos}/events"), inside, spans, found)
        else:
            found.append((events.place(index), event, scope))


_OF_THEIR_OWN: Final = ("scorer", "scorers", "agent", "subtask", "task", "branch")
"""Types of spans inside which events are somebody else's."""
_NESTING: Final = frozenset((ToolEvent, OtherEvent))
_NO_EVENTS: Final = (b"", b"[]")


def _nested(event: Event, pos: str, scope: Scope) -> tuple[list[Any], Scope]:
    """The events that old logs keep inside those of tools and subtasks, and whose they are."""
    if isinstance(event, ToolEvent):
        nested = event.events
        if type(nested) is Raw:
            data = bytes(nested)
            nested = None if data in _NO_EVENTS else events_of(data)
        return as_array(nested), scope
    if isinstance(event, OtherEvent) and event.kind == "subtask":
        inside = scope.inside("subtask", as_text(event.fields.get("name")), pos)
        return as_array(event.fields.get("events")), inside
    return [], scope


class Thought(NamedTuple):
    """A thinking block: what it shows, and what proves that it was sent back.

    ``contents`` are texts of which one must stand in a request; ``reference`` is the JSON text by
    which a request may refer to it, where the log keeps it apart.
    """

    text: str | None
    state: str
    signature: str | None
    contents: list[str]
    reference: bytes | None = None


Piece = tuple[str, Object, Thought | None]
"""Kind of an event and columns of it; a thinking block has its columns in the thought itself."""


def pieces(part: Object, resolve: Callable[[Any], Any] = lambda value: value) -> Iterator[Piece]:
    """The events that a content part becomes.

    References in it are resolved, but for those of reasoning: ``resolve`` does that.
    """
    kind = as_text(part.get("type"))
    if kind == "text" or kind is None:
        for is_thinking, text in split_think_tags(as_text(part.get("text")) or ""):
            if is_thinking:
                yield "thinking", {}, Thought(text, "tagged_in_text", None, [text])
            else:
                refused = "refusal" if part.get("refusal") is True else None
                yield "message", {"text": text, "error_type": refused}, None
    elif kind == "reasoning":
        thought = thinking_of(part, resolve)
        if thought is not None:
            yield "thinking", {}, thought
    elif kind == "tool_use":
        yield "server_tool", {}, None
    elif kind == "data":
        yield "other", {"text": as_json(part.get("data")), "error_type": "data"}, None
    else:
        yield "message", {"text": None, "media": [kind]}, None


def thinking_of(part: Object, resolve: Callable[[Any], Any]) -> Thought | None:
    """The thinking block that a reasoning part holds, if any, with references resolved."""
    get = part.get
    logged, summary, signature = get("reasoning"), get("summary"), get("signature")
    text = None if logged is None else as_text(resolve(logged))
    reference = None
    if text and logged is not text and not text.isspace():
        reference = msgspec.json.encode(logged)
    if text and summary is None and signature is None and get("redacted") is not True:
        return Thought(text, "text", None, [text], reference)  # as nearly always
    summary, signature = as_text(resolve(summary)), as_text(resolve(signature))
    contents = [content for content in (text, summary, signature) if content]
    if signature:
        contents += _openrouter_details(signature)
    if get("redacted") is True:  # what stands in for the text is encrypted
        contents.append((text or "").replace("+", "-").replace("/", "_"))  # Google's base64
        state = "summary" if summary else "redacted"
        return Thought(summary, state, text or signature, contents)
    if not contents:
        return None
    state = "text" if text else "summary" if summary else "hidden"
    return Thought(text or summary, state, signature, contents, reference)


def _openrouter_details(signature: str) -> list[str]:
    """The blocks that Inspect keeps as JSON in the signature and sends back as they came."""
    if not signature.startswith(_OPENROUTER_DETAILS):
        return []
    try:
        details = json.loads(signature.removeprefix(_OPENROUTER_DETAILS))
    except (ValueError, RecursionError):
        return []
    keys = ("text", "summary", "data", "signature")
    found = (as_text(as_object(detail).get(key)) for detail in as_array(details) for key in keys)
    return [text for text in found if text]


def merged_message(messages: list[Message]) -> Message:
    """Neighbours as Inspect merges them for providers that want turns to alternate."""
    contents = [message.content for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return replace(messages[0], content="\n".join(texts))
    parts: list[Any] = []
    for content in contents:
        parts += content if is_array(content) else [{"type": "text", "text": content}]
    return replace(messages[0], content=parts)


def response(
    error: Any, tool_error: Any, text: str | None, pos: str, key: str | None
) -> tuple[str | None, str, bool, str | None]:
    """Text, position, whether it is an error and of which type, of a tool's response.

    With an error the model reads the error's message; partial output is kept behind it. ``key``:
    where the text stands in the record at ``pos``. Old logs have ``tool_error``.
    """
    where = f"{pos}/{key}" if key else pos
    if error is None and tool_error is None:
        return text, where, False, None
    error = as_object(error)
    reason = as_text(error.get("message")) or as_text(tool_error)
    if reason and text and reason != text:
        text, where = f"{reason}\n{text}", pos
    elif reason:
        text = reason
        where = f"{pos}/error/message" if "message" in error else f"{pos}/tool_error"
    return text, where, bool(error) or reason is not None, as_text(error.get("type"))


def ended_at(event: ModelEvent, start: datetime | None) -> datetime | None:
    """When a model call ended: old logs only have how long it took."""
    completed = as_time(event.completed)
    if completed is not None or start is None:
        return completed
    seconds = None if event.output is None else as_float(event.output.time)
    if seconds is None or not 0 <= seconds < 1e9:
        return None
    return start + timedelta(seconds=seconds)


def duration_of(event: ToolEvent, start: datetime | None) -> float | None:
    """Seconds that a tool took by the clock."""
    end = as_time(event.completed)
    return None if start is None or end is None else (end - start).total_seconds()


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns out of Inspect's ``usage``.

    >>> usage_columns({"input_tokens": 5, "output_tokens": 2, "total_tokens": 16,
    ...     "input_tokens_cache_read": 9})["input_tokens"]
    14
    """
    return dict(zip(TOKENS, tokens_of(usage), strict=True))


def tokens_of(usage: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """Tokens put in and out, of reasoning and out of the cache, as ``usage`` tells them.

    ``input_tokens`` leaves out what came from or went to the cache. In older logs it is that
    way for some providers only, and output may leave out reasoning: which of the sums gives
    ``total_tokens`` tells.
    """
    usage = as_object(usage)
    fresh, out = as_int(usage.get("input_tokens")), as_int(usage.get("output_tokens"))
    read = as_int(usage.get("input_tokens_cache_read"))
    cached = (read or 0) + (as_int(usage.get("input_tokens_cache_write")) or 0)
    reasoning = as_int(usage.get("reasoning_tokens"))
    known = as_int(usage.get("total_tokens"))
    written = out or 0
    if fresh is not None and known in (None, fresh + cached + written):
        fresh, out = fresh + cached, None if out is None else written
    elif fresh is not None:
        sums = [
            (fresh + more_input, written + more_output)
            for more_output in (0, reasoning or 0)
            for more_input in (cached, 0)
        ]
        fresh, summed = next((pair for pair in sums if sum(pair) == known), sums[0])
        out = None if out is None else summed
    return fresh, out, reasoning, read
