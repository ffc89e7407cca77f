"""OpenTelemetry traces with the GenAI semantic conventions, as OTLP JSON or console spans.

OTLP JSON (``resourceSpans``, whole or a batch per line) writes ids in hex, some writers in base64,
numbers as text and attributes as lists of typed values; the SDKs' console exporters write plain
objects with a ``context``. Messages stand in attributes (``gen_ai.input.messages``, or indexed
``gen_ai.prompt.0.role``), in events of the span, or in log records of the same file. A trace is a
run. What a span's input holds is evidence of what the model was sent, with one exception: some
instrumentations leave reasoning out, so it counts only where some request of the run shows it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.dialects import span_ignored
from loaders.dialects.span_attributes import fill, note_rest
from loaders.dialects.span_named import Attributes, Events, flat
from loaders.dialects.span_runs import tell_traces
from loaders.dialects.span_said import Known
from loaders.dialects.spans import Span
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "OpenTelemetry traces (GenAI conventions)"
GIVES = ("thinking", "sent", "tools", "tokens")

IGNORED = {
    **span_ignored.IGNORED,
    "/**/attributes/*/key": "the name of an attribute, which decides where its value is told",
    "/**/kind": "whether a span is a client's or a server's, which tells nothing of agents",
    "/**/flags": "how the span was sampled by the program that wrote it",
    "/**/spanId": "the name of a span; calls and their results are joined by ids of their own",
    "/**/span_id": "the name of a span; calls and their results are joined by ids of their own",
    "/**/parentSpanId": "which span is around which: agents and doubled calls are told by it",
    "/**/parent_id": "which span is around which: agents and doubled calls are told by it",
    "/**/*TimeUnixNano": "calls of models and tools have times; what is around them spans these",
    "/**/timeUnixNano": "when an event of a span happened, which its messages' order tells",
    "/**/spans/*/name": "a span's name; models, tools and agents are named by its attributes",
    "/*/name": "a span's name; models, tools and agents are named by its attributes",
    "/name": "a span's name; models, tools and agents are named by its attributes",
    "/**/links/**": "links name spans of other traces, which are runs of their own",
}

_HEX = re.compile(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{32}")
_LISTS = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")
_ERRORS = (2, "2", "STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR")
_OK = (1, "1", "STATUS_CODE_OK", "OK", "StatusCode.OK")
_DROPPED = ("droppedAttributesCount", "droppedEventsCount", "dropped_attributes_count")
_AS_THEY_ARE = frozenset(("stringValue", "boolValue", "string_value", "bool_value"))
_DEPTH = 12


def sniff(head: Head) -> bool:
    """An object of resource spans or logs; or a span with its context, alone, in a list or ``spans``."""
    first = head.first
    if any(is_array(first.get(key)) for key in _LISTS):
        return True
    spans = first.get("spans")
    return _is_console_span(first) or (is_array(spans) and any(map(_is_console_span, spans)))


def _is_console_span(value: Any) -> bool:
    span = as_object(value)
    context = as_object(span.get("context"))
    is_mlflow_s = "mlflow.traceRequestId" in as_object(span.get("attributes"))
    is_span = {"trace_id", "span_id"} <= context.keys() and "span_kind" not in span
    return is_span and not is_mlflow_s


def read(source: Source, out: Builder) -> None:
    """A run per trace that holds model calls or tools, or per agent in it."""
    spans: list[tuple[Span, Attributes, Events]] = []
    logged: dict[str, Events] = defaultdict(list)
    for pos, record in source.records():
        with out.record(pos):
            spans.extend(_spans_of(as_object(record), pos))
            for span_id, event in _logs_of(as_object(record), pos):
                logged[span_id].append(event)
    known = Known()
    for span, attributes, events in spans:
        with out.record(span.pos):
            events = [*events, *logged.get(span.id, [])]
            fill(span, attributes, events, known)
            note_rest(span, attributes, events, known)
            if span.dropped:
                out.problem(span.pos, f"{span.dropped} attributes were dropped by the exporter")
    tell_traces((span for span, _, _ in spans), out)


# ---------------------------------------------------------------------- containers


def _spans_of(record: Object, pos: str) -> Iterator[tuple[Span, Attributes, Events]]:
    if _is_console_span(record):
        yield _console_span(record, pos)
        return
    for index, span in enumerate(as_array(record.get("spans"))):
        if _is_console_span(span):
            yield _console_span(span, f"{pos}/spans/{index}")
    for resource, scope, span, place in _nested(record, pos, "Spans"):
        yield _otlp_span(span, place, resource, scope)


def _nested(
    record: Object, pos: str, kind: str
) -> Iterator[tuple[Attributes, Object, Object, str]]:
    """Spans or log records below their resources and scopes."""
    names = ("spans",) if kind == "Spans" else ("logRecords", "log_records")
    for key in (f"resource{kind}", f"resource_{kind.lower()}"):
        for i, group in enumerate(map(as_object, as_array(record.get(key)))):
            resource = _attributes(as_object(group.get("resource")).get("attributes"), "")
            for inner in (f"scope{kind}", f"scope_{kind.lower()}", f"instrumentationLibrary{kind}"):
                for j, scoped in enumerate(as_array(group.get(inner))):
                    named = ("scope", "instrumentationLibrary")
                    scopes = [as_object(as_object(scoped).get(name)) for name in named]
                    scope = scopes[0] or scopes[1]
                    for name in names:
                        for k, item in enumerate(as_array(as_object(scoped).get(name))):
                            place = f"{pos}/{key}/{i}/{inner}/{j}/{name}/{k}"
                            yield resource, scope, as_object(item), place


def _logs_of(record: Object, pos: str) -> Iterator[tuple[str, tuple[str, Attributes, str]]]:
    """Events that were written as log records, with the id of their span."""
    for _, _, log, place in _nested(record, pos, "Logs"):
        attributes = _attributes(log.get("attributes"), f"{place}/attributes")
        body = as_object(_value(log.get("body")))
        name = as_text(log.get("eventName")) or as_text(attributes.get("event.name", ("", ""))[0])
        own = {key: (value, f"{place}/body") for key, value in body.items()}
        yield _id(log.get("spanId")) or "", (name or "", {**attributes, **own}, place)


# ---------------------------------------------------------------------- spans


def _otlp_span(
    record: Object, pos: str, resource: Attributes, scope: Object
) -> tuple[Span, Attributes, Events]:
    def get(name: str, other: str) -> Any:
        return record.get(name, record.get(other))

    span = Span(
        trace=_id(get("traceId", "trace_id")) or "",
        id=_id(get("spanId", "span_id")) or pos,
        parent=_id(get("parentSpanId", "parent_span_id")),
        kind="other",
        pos=pos,
        name=as_text(record.get("name")),
        started_at=as_time(_number(get("startTimeUnixNano", "start_time_unix_nano"))),
        ended_at=as_time(_number(get("endTimeUnixNano", "end_time_unix_nano"))),
        metadata={"instrumentation": scope["name"]} if as_text(scope.get("name")) else {},
        rest=[("scopes", scope), ("traceState", record.get("traceState"))],
        dropped=sum(as_int(_number(record.get(key))) or 0 for key in _DROPPED),
    )
    _note_status(span, as_object(record.get("status")))
    attributes = _attributes(record.get("attributes"), f"{pos}/attributes")
    events: Events = []
    for index, event in enumerate(map(as_object, as_array(record.get("events")))):
        place = f"{pos}/events/{index}"
        own = _attributes(event.get("attributes"), f"{place}/attributes")
        events.append((as_text(event.get("name")) or "", own, place))
    return span, {**resource, **attributes}, events


def _console_span(record: Object, pos: str) -> tuple[Span, Attributes, Events]:
    context = as_object(record.get("context"))
    span = Span(
        trace=as_name(context.get("trace_id")) or "",
        id=as_name(context.get("span_id")) or pos,
        parent=as_name(record.get("parent_id")) or None,
        kind="other",
        pos=pos,
        name=as_text(record.get("name")),
        started_at=as_time(record.get("start_time")),
        ended_at=as_time(record.get("end_time")),
    )
    _note_status(span, as_object(record.get("status")))
    resource = as_object(as_object(record.get("resource")).get("attributes"))
    span.rest = [*resource.items()]
    events: Events = []
    for index, event in enumerate(map(as_object, as_array(record.get("events")))):
        place = f"{pos}/events/{index}"
        own = dict(flat(event.get("attributes"), f"{place}/attributes"))
        events.append((as_text(event.get("name")) or "", own, place))
    return span, dict(flat(record.get("attributes"), f"{pos}/attributes")), events


def _note_status(span: Span, status: Object) -> None:
    code = status.get("code", status.get("status_code"))
    span.is_ok = code in _OK
    if code in _ERRORS:
        span.error = as_text(status.get("message")) or as_text(status.get("description")) or ""


# ---------------------------------------------------------------------- values


def _attributes(listed: Any, pos: str) -> Attributes:
    """OTLP's list of keys and typed values; some writers give an object."""
    if is_object(listed):
        return dict(flat(listed, pos))
    attributes: Attributes = {}
    for index, item in enumerate(map(as_object, as_array(listed))):
        key, typed = item.get("key"), as_object(item.get("value"))
        if not isinstance(key, str):
            continue
        if len(typed) == 1:
            [(kind, value)] = typed.items()
            value = value if kind in _AS_THEY_ARE else _value(typed)
            attributes[key] = (value, f"{pos}/{index}/value/{kind}")
        else:
            attributes[key] = (None, f"{pos}/{index}/value")
    return attributes


def _value(typed: Any, depth: int = 0) -> Any:
    """The value behind OTLP's ``{"stringValue": ...}`` and its like."""
    typed = as_object(typed)
    if len(typed) != 1 or depth > _DEPTH:
        return None
    kind, value = next(iter(typed.items()))
    if kind in ("intValue", "int_value"):
        return _number(value)
    if kind in ("arrayValue", "array_value"):
        return [_value(item, depth + 1) for item in as_array(as_object(value).get("values"))]
    if kind in ("kvlistValue", "kvlist_value"):
        items = map(as_object, as_array(as_object(value).get("values")))
        return {
            as_text(item.get("key")) or "": _value(item.get("value"), depth + 1) for item in items
        }
    return value


def _number(value: Any) -> Any:
    """64-bit numbers are texts in JSON, as protobuf writes it."""
    is_number = isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value)
    return int(value) if is_number else value


def _id(value: Any) -> str | None:
    """An id in hex; protobuf's own JSON writes base64."""
    name = as_text(value)
    if not name or _HEX.fullmatch(name):
        return name.lower() if name else None
    try:
        data = base64.b64decode(name, validate=True)
    except (binascii.Error, ValueError):
        return name
    return data.hex() if len(data) in (8, 16) else name
