"""Parts of an Inspect log as they stand for themselves: scopes of events, content parts, usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from loaders.dialects.openai_chat import split_think_tags
from loaders.formats._inspect_sample import Placed
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
    total,
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


def in_scopes(events: list[Placed]) -> list[tuple[str, Object, Scope]]:
    """The events of a sample in order, each with its position and scope."""
    return list(_in_scopes(events, Scope(), {}))


def _in_scopes(
    events: list[Placed], outer: Scope, spans: dict[str, Scope]
) -> Iterator[tuple[str, Object, Scope]]:
    steps = [outer]
    for pos, event in events:
        event = as_object(event)
        kind, name = as_text(event.get("event")), as_text(event.get("name"))
        scope = spans.get(as_text(event.get("span_id")) or "", steps[-1])
        if kind == "span_begin":
            span = as_text(event.get("id")) or pos
            around = spans.get(as_text(event.get("parent_id")) or "", scope)
            spans[span] = around.inside(as_text(event.get("type")), name, span)
        elif kind == "step" and event.get("action") == "begin":  # what spans are in newer logs
            steps.append(scope.inside(as_text(event.get("type")), name, pos))
        elif kind == "step":
            steps = steps[:-1] or [outer]
        else:
            yield pos, event, scope
        if kind in ("tool", "subtask"):  # whose events old logs nest
            nested = as_array(event.get("events"))
            placed = [(f"{pos}/events/{index}", item) for index, item in enumerate(nested)]
            yield from _in_scopes(placed, scope.inside(kind, name, pos), spans)


def pieces(part: Object) -> Iterator[tuple[str, Object, list[str]]]:
    """The events that a content part becomes: kind, columns, and what proves a thinking block."""
    kind = as_text(part.get("type"))
    if kind == "text" or kind is None:
        for is_thinking, text in split_think_tags(as_text(part.get("text")) or ""):
            if is_thinking:
                yield "thinking", {"text": text, "state": "tagged_in_text"}, [text]
            else:
                refused = "refusal" if part.get("refusal") is True else None
                yield "message", {"text": text, "error_type": refused}, []
    elif kind == "reasoning":
        yield from _thinking(part)
    elif kind == "tool_use":
        yield "server_tool", {}, []
    elif kind == "data":
        yield "other", {"text": as_json(part.get("data")), "error_type": "data"}, []
    else:
        yield "message", {"text": None, "media": [kind]}, []


def _thinking(part: Object) -> Iterator[tuple[str, Object, list[str]]]:
    text, summary = as_text(part.get("reasoning")), as_text(part.get("summary"))
    signature = as_text(part.get("signature"))
    contents = [content for content in (text, summary, signature) if content]
    contents += _openrouter_details(signature or "")
    if part.get("redacted") is True:  # what stands in for the text is encrypted
        contents.append((text or "").replace("+", "-").replace("/", "_"))  # Google's base64
        state = "summary" if summary else "redacted"
        yield (
            "thinking",
            {"text": summary, "state": state, "signature": text or signature},
            contents,
        )
    elif text or summary or signature:
        state = "text" if text else "summary" if summary else "hidden"
        columns = {"text": text or summary, "state": state, "signature": signature}
        yield "thinking", columns, contents


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


def merged_message(messages: list[Object]) -> Object:
    """Neighbours as Inspect merges them for providers that want turns to alternate."""
    contents = [message.get("content") for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return {**messages[0], "content": "\n".join(texts)}
    parts: list[Any] = []
    for content in contents:
        parts += content if is_array(content) else [{"type": "text", "text": content}]
    return {**messages[0], "content": parts}


def response(record: Object, text: str | None, pos: str) -> tuple[str | None, str, Object]:
    """Text, position and error columns of a tool's response, out of its message or event.

    With an error the model reads the error's message; partial output is kept behind it.
    """
    error = as_object(record.get("error"))
    reason = as_text(error.get("message")) or as_text(record.get("tool_error"))  # in old logs
    key = next((key for key in ("content", "result") if key in record), None)
    where = f"{pos}/{key}" if key else pos
    if reason and text and reason != text:
        text, where = f"{reason}\n{text}", pos
    elif reason:
        text = reason
        where = f"{pos}/error/message" if "message" in error else f"{pos}/tool_error"
    columns = {
        "is_error": bool(error) or reason is not None,
        "error_type": as_text(error.get("type")),
    }
    return text, where, columns


def started_at(event: Object) -> datetime | None:
    """When an event began: tools and model calls are logged under that time."""
    return as_time(event.get("timestamp"))


def ended_at(event: Object) -> datetime | None:
    """When a model call ended: old logs only have how long it took."""
    start, seconds = started_at(event), as_float(as_object(event.get("output")).get("time"))
    completed = as_time(event.get("completed"))
    if completed is not None or start is None or seconds is None or not 0 <= seconds < 1e9:
        return completed
    return start + timedelta(seconds=seconds)


def duration_of(event: Object) -> float | None:
    """Seconds that a tool took by the clock."""
    start, end = started_at(event), as_time(event.get("completed"))
    return None if start is None or end is None else (end - start).total_seconds()


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns out of Inspect's ``usage``.

    ``input_tokens`` leaves out what came from or went to the cache. In older logs it is that
    way for some providers only, and output may leave out reasoning: which of the sums gives
    ``total_tokens`` tells.

    >>> usage_columns({"input_tokens": 5, "output_tokens": 2, "total_tokens": 16,
    ...     "input_tokens_cache_read": 9})["input_tokens"]
    14
    """
    usage = as_object(usage)
    fresh, out = as_int(usage.get("input_tokens")), as_int(usage.get("output_tokens"))
    read = as_int(usage.get("input_tokens_cache_read"))
    cached = total(read, as_int(usage.get("input_tokens_cache_write"))) or 0
    reasoning = as_int(usage.get("reasoning_tokens"))
    known = as_int(usage.get("total_tokens"))
    if fresh is not None:
        sums = [
            (fresh + more_input, (out or 0) + more_output)
            for more_output in (0, reasoning or 0)
            for more_input in (cached, 0)
        ]
        fresh, summed = next((pair for pair in sums if sum(pair) == known), sums[0])
        out = None if out is None else summed
    return {
        "input_tokens": fresh,
        "output_tokens": out,
        "reasoning_tokens": reasoning,
        "cached_tokens": read,
    }
