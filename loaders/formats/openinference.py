"""OpenInference spans as Phoenix exports them: a list, JSON Lines, or ``{"data": [...]}``.

Attributes come flat (``llm.input_messages.0.message.role``) or nested. A trace is a run. Arguments
of a call may be empty in the reply and ``{}`` in the next request: the same call. A request that
holds turns of earlier traces tells them first, as steps without usage. Prompt tokens include cached
ones. Whether thinking was sent back counts only where some request of the run shows thinking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.dialects import span_ignored
from loaders.dialects.span_attributes import ASIDES, fill, note_rest
from loaders.dialects.span_named import Attributes, flat
from loaders.dialects.span_runs import tell_traces
from loaders.dialects.span_said import Known
from loaders.dialects.spans import Span
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import Object, as_array, as_name, as_object, as_text, as_time, is_array

TITLE = "OpenInference spans (Phoenix)"
GIVES = ("thinking", "sent", "tools", "tokens")

IGNORED = {
    **span_ignored.IGNORED,
    "/*/attributes/*/messages": "a request as a whole; its messages have attributes of their own",
    "/*/attributes/*/parts": "a reply as a whole; its parts have attributes of their own",
    "/**/id": "the name of a span in the store; calls and results are joined by ids of their own",
    "/**/*span_id": "the name of a span; calls and results are joined by ids of their own",
    "/**/parent_id": "which span is around which: agents and doubled calls are told by it",
    "/**/*_time": "calls of models and tools have times; what is around them spans these",
    "/**/events/*/name": "says that an event is of an exception, whose type and words are kept",
    "/**/events/*/timestamp": "when an error was raised, which is the end of its span",
    "/*/name": "a span's name; models, tools and agents are named by its attributes",
    "/name": "a span's name; models, tools and agents are named by its attributes",
    "/data/*/name": "a span's name; models, tools and agents are named by its attributes",
}

_KINDS = {"LLM": "model", "TOOL": "tool", "AGENT": "agent"}
_TOLD = (
    *("context", "attributes", "events", "id", "parent_id", "name", "span_kind", "start_time"),
    *("end_time", "status_code", "status_message", "annotations"),
)


def sniff(head: Head) -> bool:
    """A span with a ``span_kind``, a context and attributes."""
    data = head.first.get("data")
    return _is_span(head.first) or (is_array(data) and any(map(_is_span, data)))


def _is_span(value: Any) -> bool:
    span = as_object(value)
    keys = ("span_kind", "attributes.openinference.span.kind")
    has_context = "context.trace_id" in span or "trace_id" in as_object(span.get("context"))
    return has_context and any(key in span for key in keys)


def read(source: Source, out: Builder) -> None:
    """A run per trace that holds model calls or tools, or per agent in it."""
    spans: list[Span] = []
    known = Known()
    for pos, record in source.records():
        for place, item in _items(record, pos):
            with out.record(place):
                if _is_span(item):
                    spans.append(_span(as_object(item), place, known))
                else:
                    out.problem(place, "no span: it has no kind or no context")
    tell_traces(spans, out)


def _items(record: Any, pos: str) -> Iterator[tuple[str, Any]]:
    data = as_object(record).get("data")
    if not is_array(data):
        yield pos, record
        return
    for index, item in enumerate(data):
        yield f"{pos}/data/{index}", item


def _span(record: Object, pos: str, known: Known) -> Span:
    context = as_object(record.get("context"))
    attributes = dict(flat(record.get("attributes"), f"{pos}/attributes"))
    for key, value in record.items():  # a table's rows: one column per attribute
        if key.startswith("attributes.") and value is not None:
            attributes[key.removeprefix("attributes.")] = (value, f"{pos}/{key}")
    kind = as_text(record.get("span_kind")) or as_text(
        attributes.get("openinference.span.kind", [""])[0]
    )
    kind = (kind or "").upper()
    span = Span(
        trace=as_name(context.get("trace_id", record.get("context.trace_id"))) or "",
        id=as_name(context.get("span_id", record.get("context.span_id"))) or pos,
        parent=as_name(record.get("parent_id")) or None,
        kind=_KINDS.get(kind, "aside" if kind in ASIDES else "other"),
        aside=kind,
        pos=pos,
        name=as_text(record.get("name")),
        started_at=as_time(record.get("start_time")),
        ended_at=as_time(record.get("end_time")),
    )
    if record.get("status_code") == "ERROR":
        span.error = as_text(record.get("status_message")) or ""
    span.is_ok = record.get("status_code") == "OK"
    events = list(_events(record, pos))
    fill(span, attributes, events, known)
    note_rest(span, attributes, events, known)
    rest = {key: value for key, value in record.items() if key not in _TOLD}
    span.rest += [i for i in rest.items() if not i[0].startswith(("attributes.", "context."))]
    span.rest += [("annotations", note) for note in as_array(record.get("annotations"))]
    return span


def _events(record: Object, pos: str) -> Iterator[tuple[str, Attributes, str]]:
    for index, event in enumerate(map(as_object, as_array(record.get("events")))):
        place = f"{pos}/events/{index}"
        attributes = dict(flat(event.get("attributes"), f"{place}/attributes"))
        yield as_text(event.get("name")) or "", attributes, place
