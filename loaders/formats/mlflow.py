"""MLflow traces: ``Trace.to_json()``, ``traces.json`` artifacts, and rows of ``mlflow.search_traces()``.

Version 3 writes ids in base64 and a ``status``, version 2 a ``context`` and a ``status_code``; values of
attributes are JSON in texts in both. A trace is a run, or each agent's part of it. What the clients of
OpenAI and Anthropic were given is recorded whole, so thinking that such a request lacks was not sent;
where it continues a response that the server keeps, nothing is known. LangChain's chat models are
rewritten on the way into their spans, without any reasoning, in requests and replies alike: the thinking
of a reply is taken from the message that the node around the call gave, and none from a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.dialects import anthropic, langchain, openai_chat, responses
from loaders.dialects.span_attributes import fill
from loaders.dialects.span_messages import messages_of, text_of
from loaders.dialects.span_named import Attributes
from loaders.dialects.span_runs import tell_traces
from loaders.dialects.span_said import Known, Message, Part, as_value
from loaders.dialects.spans import Span
from loaders.formats import _mlflow_ignored
from loaders.heads import Head
from loaders.rows import metadata_of, unfolded
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "MLflow trace"
GIVES = ("thinking", "sent", "tools", "tokens")
IGNORED = _mlflow_ignored.IGNORED

_INFO = ("trace_metadata", "request_metadata", "trace_location", "experiment_id")
_KINDS = {"LLM": "model", "CHAT_MODEL": "model", "TOOL": "tool", "AGENT": "agent"}
_ERRORS = ("STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR")
_OK = ("STATUS_CODE_OK", "OK", "StatusCode.OK")
_WHOLE = ("openai", "anthropic")
"""Formats of messages whose spans hold all that the provider's own client was given."""
_ELSEWHERE = ("previous_response_id", "conversation")
_NO_PARAMS = (
    *("messages", "input", "instructions", "system", "prompt", "contents", "tools", "functions"),
    *("model", "model_name", "_type"),
)
_OF_THE_STORE = (
    *("mlflow.traceInputs", "mlflow.traceOutputs", "mlflow.trace.sizeBytes", "mlflow.traceSpans"),
    *("mlflow.artifactLocation", "mlflow.trace.spansLocation", "mlflow.trace.sizeStats"),
    *("mlflow.trace.infoFinalized", "mlflow.trace.tokenUsage"),
)
_TRACE_IN_ROW = re.compile(rb'"trace"\s*:\s*"\{\\"info\\"')
_NUMBERED = re.compile(r"_\d+$")
_DEPTH = 8


class _Trace(NamedTuple):
    """What is said of a trace, and its spans with their places."""

    info: Object
    pos: str
    spans: list[tuple[Any, str]]


def sniff(head: Head) -> bool:
    """What MLflow says of a trace, or a span with attributes of its own."""
    first = head.first
    listed = as_array(first.get("traces"))
    first = as_object(listed[0]) if listed else first
    is_long_row = _names_trace(first) and _TRACE_IN_ROW.search(head.data) is not None
    return (
        is_long_row or _is_info(as_object(first.get("info"))) or _is_row(first) or _has_spans(first)
    )


def _is_info(info: Object) -> bool:
    return _names_trace(info) and any(key in info for key in _INFO)


def _is_row(row: Object) -> bool:
    trace = row.get("trace")
    is_trace = isinstance(trace, str) and trace.lstrip()[:7] == '{"info"'
    is_trace = is_trace or _is_info(as_object(as_object(trace).get("info")))
    return _names_trace(row) and (is_trace or (_is_info(row) and "spans" in row))


def _names_trace(value: Object) -> bool:
    return any(isinstance(value.get(key), str) for key in ("trace_id", "request_id"))


def _has_spans(value: Object) -> bool:
    spans = map(as_object, as_array(value.get("spans")))
    return any("mlflow.spanType" in as_object(span.get("attributes")) for span in spans)


def read(source: Source, out: Builder) -> None:
    """A run per trace, or per agent in it."""
    for pos, record in source.records():
        with out.record(pos):
            traces = [*_traces_in(record, pos)]
            for trace in traces:
                with out.record(trace.pos):
                    _tell(trace, out)
            if not traces:
                out.problem(pos, "no trace: it has no spans")


def _traces_in(record: Any, pos: str) -> Iterator[_Trace]:
    """Traces in a record: itself, those that it lists, or the one of a row."""
    value = as_object(record)
    for index, item in enumerate(as_array(value.get("traces"))):
        yield from _traces_in(item, f"{pos}/traces/{index}")
    inner = as_object(unfolded(value.get("trace")))
    if is_object(inner.get("data")):
        yield from _traces_in(inner, f"{pos}/trace")
        return
    for key in ("data", ""):
        holder, place = (as_object(value.get(key)), f"{pos}/data") if key else (value, pos)
        spans = unfolded(holder.get("spans"))
        if is_array(spans):
            info = as_object(value.get("info")) if key or "info" in value else value
            placed = [(span, f"{place}/spans/{index}") for index, span in enumerate(spans)]
            yield _Trace(info, pos, placed)
            return


def _tell(trace: _Trace, out: Builder) -> None:
    told: list[tuple[Span, Attributes]] = []
    known = Known()
    for item, pos in trace.spans:
        with out.record(pos):
            told.append(_span(as_object(item), pos, trace, known))
    values = {span.id: attributes for span, attributes in told}
    replies: dict[str, _Replies] = {}
    for span, attributes in told:
        if span.kind == "model" and not _shows_thinking(span.reply):
            with out.record(span.pos):
                around = span.parent or ""
                if around not in replies:
                    replies[around] = _langchain_replies(values.get(around, {}))
                _add_langchain_s_own(span, {**replies[around], **_langchain_replies(attributes)})
    _rename([span for span, _ in told])
    if told:
        told[0][0].metadata.update(_metadata(trace.info))
    if not tell_traces((span for span, _ in told), out, [*_scores(trace.info)]):
        out.problem(trace.pos, "a trace without model calls and tools", "warning")


def _rename(spans: list[Span]) -> None:
    """Version 2 numbers spans of one name (``ls_1``, ``ls_2``); a tool has the name it is called by."""
    called = {part.name for span in spans for message in span.reply for part in message.parts}
    for span in spans:
        stem = _NUMBERED.sub("", span.name or "")
        if span.kind == "tool" and span.name not in called and stem in called:
            span.name = stem


# ---------------------------------------------------------------------- the trace


def _metadata(info: Object) -> Object:
    """What is said of the trace beside its spans."""
    given = as_object(info.get("trace_metadata")) or as_object(info.get("request_metadata"))
    location = as_object(info.get("trace_location"))
    kept = {
        **{key: as_value(value) for key, value in {**as_object(info.get("tags")), **given}.items()},
        "state": info.get("state", info.get("status")),
        "client_request_id": info.get("client_request_id"),
        "experiment_id": info.get("experiment_id")
        or as_object(location.get("mlflow_experiment")).get("experiment_id"),
    }
    return metadata_of({k: v for k, v in kept.items() if v not in ("", None)}, _OF_THE_STORE)


def _scores(info: Object) -> Iterator[tuple[str, float | None, str | None]]:
    """Feedback on the trace; what was expected of it is no score."""
    for item in map(as_object, as_array(info.get("assessments"))):
        name = as_text(item.get("assessment_name")) or as_text(item.get("name"))
        feedback = item.get("feedback")
        if is_object(feedback) and feedback.get("value") is not None:
            value = feedback["value"]
            number = float(value) if isinstance(value, bool) else as_float(value)
            yield name or "", number, as_json(value)


# ---------------------------------------------------------------------- spans


def _span(record: Object, pos: str, trace: _Trace, known: Known) -> tuple[Span, Attributes]:
    context = as_object(record.get("context"))
    attributes: Attributes = {
        key: (as_value(value), f"{pos}/attributes/{key.replace('~', '~0').replace('/', '~1')}")
        for key, value in as_object(record.get("attributes")).items()
    }
    names = (trace.info.get("trace_id"), trace.info.get("request_id"))
    own = (_get(attributes, "mlflow.traceRequestId"), record.get("trace_id"))
    kind = as_text(_get(attributes, "mlflow.spanType")) or ""
    span = Span(
        trace=next(filter(None, map(as_name, (*names, *own))), ""),
        id=as_name(context.get("span_id", record.get("span_id"))) or pos,
        parent=as_name(record.get("parent_span_id", record.get("parent_id"))) or None,
        kind=_KINDS.get(kind, "other"),
        pos=pos,
        name=as_text(record.get("name")),
        started_at=as_time(record.get("start_time_unix_nano", record.get("start_time"))),
        ended_at=as_time(record.get("end_time_unix_nano", record.get("end_time"))),
    )
    status = as_object(record.get("status"))
    code = status.get("code", record.get("status_code"))
    span.is_ok = code in _OK
    if code in _ERRORS:
        span.error = as_text(status.get("message")) or as_text(record.get("status_message")) or ""
    if span.kind == "model":
        _fill_model(span, attributes, known)
    elif span.kind == "tool":
        _fill_tool(span, attributes)
    fill(span, attributes, [*_events(record, pos)], known)  # what other instrumentations wrote
    return span, attributes


def _get(attributes: Attributes, name: str) -> Any:
    return attributes[name][0] if name in attributes else None


def _events(record: Object, pos: str) -> Iterator[tuple[str, Attributes, str]]:
    for index, event in enumerate(map(as_object, as_array(record.get("events")))):
        place = f"{pos}/events/{index}"
        own = {
            key: (value, f"{place}/attributes/{key}")
            for key, value in as_object(event.get("attributes")).items()
        }
        yield as_text(event.get("name")) or "", own, place


def _fill_tool(span: Span, attributes: Attributes) -> None:
    """A tool's span; LangChain wraps what the tool gave into a message."""
    given = _get(attributes, "mlflow.spanInputs")
    got, place = attributes.get("mlflow.spanOutputs", (None, None))
    found = langchain.unpacked(got)
    message = found[0] if found is not None and found[0]["role"] == "tool" else {}
    span.arguments = given or None
    span.call_id = as_name(_get(attributes, "tool_call_id")) or as_name(message.get("tool_call_id"))
    if message and found is not None:
        span.output, span.output_pos = text_of(message.get("content")), f"{place}{found[1]}/content"
        if message.get("status") == "error":
            span.error = span.error or ""
    elif got is not None:
        span.output, span.output_pos = text_of(got), place


def _fill_model(span: Span, attributes: Attributes, known: Known) -> None:
    given, at_given = attributes.get("mlflow.spanInputs", (None, ""))
    got, at_got = attributes.get("mlflow.spanOutputs", (None, ""))
    request = messages_of(given, at_given, "user", known)
    reply = [m for m in messages_of(got, at_got, "assistant") if m.parts]
    chat, at_chat = attributes.get("mlflow.chat.messages", (None, ""))
    if not request and chat:  # all of the conversation, which may end with the reply
        request = messages_of(chat, at_chat, "user", known)
        last = [request.pop()] if request and request[-1].role == "assistant" else []
        reply = reply or last
    asked, metadata = as_object(given), as_object(_get(attributes, "metadata"))
    settings = as_object(_get(attributes, "invocation_params")) or asked
    span.request, span.reply = request or None, reply
    written_by = as_text(_get(attributes, "mlflow.message.format"))
    if written_by is not None:
        span.metadata["instrumentation"] = written_by
    is_client_s = written_by in _WHOLE or (written_by is None and _is_provider_s(as_object(got)))
    continues = any(asked.get(key) for key in _ELSEWHERE)
    span.omits_nothing = is_client_s and "model" in asked and not continues
    offered = as_array(settings.get("tools"))
    span.tools = offered or as_array(_get(attributes, "mlflow.chat.tools"))
    models = (as_object(got).get("model"), _get(attributes, "mlflow.llm.model"))
    named = (*models, settings.get("model"), metadata.get("ls_model_name"))
    columns = {**_usage_of(as_object(got), attributes)}
    columns["model"] = next(filter(None, map(as_text, named)), None)
    columns["stop_reason"] = as_text(as_object(got).get("stop_reason"))
    span.columns = {key: value for key, value in columns.items() if value is not None}
    span.provider = as_text(_get(attributes, "mlflow.llm.provider")) or as_text(
        metadata.get("ls_provider")
    )
    span.cost_usd = as_float(as_object(_get(attributes, "mlflow.llm.cost")).get("total_cost"))
    params = {k: v for k, v in settings.items() if k not in _NO_PARAMS and v is not None}
    span.params = params or None


def _is_provider_s(reply: Object) -> bool:
    """Whether a reply is what a provider's API answered, word for word."""
    is_openai_s = reply.get("object") in ("chat.completion", "response")
    return is_openai_s or (reply.get("type") == "message" and "stop_reason" in reply)


def _usage_of(reply: Object, attributes: Attributes) -> dict[str, Any]:
    """The provider's own count where it is there, else MLflow's."""
    usage = as_object(reply.get("usage"))
    if "prompt_tokens" in usage:
        return openai_chat.usage_columns(usage)
    if "cache_read_input_tokens" in usage:
        return anthropic.usage_columns(usage)
    if "input_tokens" in usage:
        return responses.usage_columns(usage)
    counted = as_object(_get(attributes, "mlflow.chat.tokenUsage"))
    columns = responses.usage_columns(counted)
    if columns["cached_tokens"] is None:
        columns["cached_tokens"] = anthropic.usage_columns(counted)["cached_tokens"]
    return columns


# ---------------------------------------------------------------------- LangChain


_Replies = dict[tuple[Any, ...], tuple[Object, str]]


def _add_langchain_s_own(span: Span, known: _Replies) -> None:
    """Thinking and usage as LangChain's own message holds them, in the span or the one around it."""
    message, pos = known.get(_said(span.reply), ({}, ""))
    if not message:
        return
    parts = [
        Part("thinking", t.text, pos + t.pointer, state=t.state, signature=t.signature)
        for t in langchain.thoughts_of(message)
    ]
    columns = {k: v for k, v in langchain.step_columns(message).items() if v is not None}
    span.columns = {**span.columns, **columns}
    first = span.reply[0]
    whole = first.said.with_parts([*parts, *first.placed_parts()])
    span.reply = [Message(whole), *span.reply[1:]]


def _shows_thinking(reply: list[Message]) -> bool:
    return not reply or any(part.kind == "thinking" for m in reply for part in m.parts)


def _said(reply: list[Message]) -> tuple[Any, ...]:
    """What tells a reply from another: its calls, or else its text."""
    parts = [part for message in reply for part in message.parts]
    calls = tuple(part.call_id or part.name for part in parts if part.kind == "call")
    return calls or tuple((part.text or "").strip() for part in parts if part.kind == "text")


def _langchain_replies(attributes: Attributes) -> _Replies:
    """Messages of models anywhere in what a span gave, by what they say."""
    found: _Replies = {}
    value, pos = attributes.get("mlflow.spanOutputs", (None, ""))
    stack: list[tuple[Any, str, int]] = [(value, pos, 0)]
    while stack:
        item, place, depth = stack.pop()
        message = langchain.unpacked(item)
        if message is not None and message[0]["role"] == "assistant" and langchain.is_own(item):
            said = _said(messages_of(message[0], "", "assistant"))
            found.setdefault(said, (message[0], place + message[1]))
        elif depth < _DEPTH and is_array(item):
            stack += [(inner, f"{place}/{n}", depth + 1) for n, inner in enumerate(item)]
        elif depth < _DEPTH and is_object(item):
            for key, inner in item.items():
                name = key.replace("~", "~0").replace("/", "~1")
                stack.append((inner, f"{place}/{name}", depth + 1))
    return found
