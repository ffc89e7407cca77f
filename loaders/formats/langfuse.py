"""Langfuse traces: a JSON object with ``trace`` and ``observations``, as the UI downloads them.

Inputs and outputs are what each framework gave: messages in a dozen shapes, or texts. The UI's
download can leave them out; then the span's own attributes in ``metadata`` may still hold them, and
where nothing does, calls have usage alone. LangGraph's callbacks write tool definitions as
messages of role ``tool``: they are definitions, no results. A generation inside a generation is the
same call. ``level`` ERROR flags what failed; costs of 0 are unknown. Scores judge the trace and are
no success.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.dialects.span_attributes import fill, note_rest
from loaders.dialects.span_messages import messages_of, text_of
from loaders.dialects.span_named import Attributes, flat
from loaders.dialects.span_runs import tell_traces
from loaders.dialects.span_said import Known, Message, as_value
from loaders.dialects.spans import Span
from loaders.formats._langfuse_ignored import PATHS
from loaders.heads import Head
from loaders.sources import Source
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
    is_object,
    total,
)

TITLE = "Langfuse trace"
GIVES = ("thinking", "sent", "tools", "tokens")
IGNORED = PATHS
EXCEPTIONS = {
    "positions_lead_to_the_raw_record": (
        "one instrumentation logs a streamed reply as a message per token; they are told as the one "
        "message that they are, and its place is that of the first"
    ),
}

_KINDS = {"GENERATION": "model", "TOOL": "tool", "AGENT": "agent"}
_ASIDES = ("RETRIEVER", "EVALUATOR", "GUARDRAIL", "EMBEDDING", "EVENT")
_MOST_CHARS = 2_000
_TOLD_OF_TRACE = (
    *("id", "timestamp", "createdAt", "updatedAt", "projectId", "bookmarked", "public", "latency"),
    *("input", "output", "scores", "observations", "metadata", "htmlPath", "totalCost"),
)
_TOLD_OF_OBSERVATION = (
    *("id", "traceId", "type", "name", "startTime", "endTime", "parentObservationId", "input"),
    *("output", "metadata", "model", "modelId", "internalModelId", "modelParameters", "usage"),
    *("usageDetails", "costDetails", "providedCostDetails", "latency", "createdAt", "updatedAt"),
    *("projectId", "totalCost", "calculatedTotalCost", "inputCost", "outputCost", "level"),
    *("calculatedInputCost", "calculatedOutputCost", "inputUsage", "outputUsage", "totalUsage"),
    *("promptTokens", "completionTokens", "totalTokens", "inputPrice", "outputPrice"),
    *("totalPrice", "usagePricingTierId", "environment", "version"),
)
_TOLD_OF_SCORE = (
    *("id", "name", "value", "stringValue", "timestamp", "createdAt", "updatedAt", "projectId"),
    *("traceId", "authorUserId", "environment", "dataType"),
)
_TOLD_OF_METADATA = (
    *("attributes", "resourceAttributes", "scope", "ls_model_name", "ls_model_type"),
    *("ls_provider", "checkpoint_ns"),
)
_USAGE = {
    "output_tokens": ("output", "completion_tokens"),
    "reasoning_tokens": (
        "output_reasoning",
        "output_reasoning_tokens",
        "completion_details.reasoning",
        "reasoning_tokens",
    ),
    "cached_tokens": (
        "input_cache_read",
        "input_cached_tokens",
        "prompt_details.cache_read",
        "cache_read_input_tokens",
    ),
}


def sniff(head: Head) -> bool:
    """A trace of a project, with its observations beside or inside."""
    trace = as_object(head.first.get("trace")) or head.first
    is_trace = {"id", "projectId", "timestamp"} <= trace.keys()
    return is_trace and ("trace" in head.keys or "observations" in trace)


def read(source: Source, out: Builder) -> None:
    """A run per trace, or per agent in it."""
    for pos, record in source.records():
        with out.record(pos):
            _read_trace(as_object(record), pos, out)


def _read_trace(record: Object, pos: str, out: Builder) -> None:
    is_apart = is_object(record.get("trace"))
    trace = as_object(record["trace"]) if is_apart else record
    place = pos if "observations" in record else f"{pos}/trace"
    listed = as_array(record.get("observations", trace.get("observations")))
    spans: list[Span] = []
    known = Known()
    for index, item in enumerate(listed):
        at = f"{place}/observations/{index}"
        with out.record(at):
            spans.append(_span(as_object(item), at, trace, known))
    for index, score in enumerate(as_array(trace.get("scores"))):
        if not is_object(score):
            out.problem(f"{pos}/trace/scores/{index}" if is_apart else pos, "not a score")
    runs = tell_traces(spans, out, scores=[*_scores(trace)])
    if not runs:
        out.problem(pos, "a trace without model calls and tools", "warning")


# ---------------------------------------------------------------------- the trace


def _scores(trace: Object) -> Iterator[tuple[str, float | None, str | None]]:
    """Judgements of the trace; each of its runs has them."""
    for score in as_array(trace.get("scores")):
        if is_object(score):
            value = score.get("stringValue") or score.get("value")
            yield as_text(score.get("name")) or "", as_float(score.get("value")), as_json(value)


# ---------------------------------------------------------------------- observations


def _span(item: Object, pos: str, trace: Object, known: Known) -> Span:
    metadata = as_value(item.get("metadata"))
    place = f"{pos}/metadata"
    attributes: Attributes = dict(
        flat(as_object(metadata).get("attributes"), f"{place}/attributes")
    )
    kind = as_text(item.get("type")) or ""
    span = Span(
        trace=as_text(item.get("traceId")) or as_text(trace.get("id")) or "",
        id=as_text(item.get("id")) or pos,
        parent=as_text(item.get("parentObservationId")),
        kind=_KINDS.get(kind, "aside" if kind in _ASIDES else "other"),
        aside=kind,
        pos=pos,
        name=as_text(item.get("name")),
        started_at=as_time(item.get("startTime")),
        ended_at=as_time(item.get("endTime")),
        cost_usd=as_float(item.get("totalCost", item.get("calculatedTotalCost"))),
        metadata=_metadata(trace, as_object(metadata)),
    )
    if item.get("level") == "ERROR":
        span.error = as_text(item.get("statusMessage")) or ""
    given, got = as_value(item.get("input")), as_value(item.get("output"))
    told_of_trace = as_object(known.value(trace.get("metadata")))
    span.rest = [*_rest(item, got, as_object(metadata), told_of_trace)]
    if span.kind == "model":
        _fill_model(span, item, given, got, holds_better=_holds_messages(metadata), known=known)
    elif (
        span.kind in ("tool", "aside")
        or attributes.get("openinference.span.kind", ("",))[0] == "TOOL"
    ):
        span.arguments = given or None
        if got not in (None, "", {}):
            span.output, span.output_pos = _output(item.get("output")), f"{pos}/output"
    fill(span, attributes, [], known)
    note_rest(span, attributes, [], known)
    if span.kind == "other":
        around = _short({"name": span.name, "input": given, "output": got})
        span.rest += [("spans", around)] if around else []
    return span


def _short(around: Object) -> Object | None:
    """What a span was given and gave, where it is no state with all of the conversation."""
    said = {key: value for key, value in around.items() if value not in (None, "", {}, [])}
    is_short = len(as_json(said) or "") < _MOST_CHARS
    return said if is_short and said.keys() != {"name"} else None


def _rest(item: Object, got: Any, metadata: Object, of_trace: Object) -> Iterator[tuple[str, Any]]:
    """What else an observation says, of itself and of the program that made it."""
    kept = {key: value for key, value in item.items() if key not in _TOLD_OF_OBSERVATION}
    if item.get("level") == "ERROR":
        kept.pop("statusMessage", None)
    elif item.get("level") != "DEFAULT":
        kept["level"] = item.get("level")
    kept["versions"] = item.get("version")
    kept["service_tier"] = as_object(got).get("service_tier")
    yield from ((key, value) for key, value in kept.items() if value)
    for holder in (metadata, of_trace):
        yield from as_object(holder.get("resourceAttributes")).items()
        scope = as_object(holder.get("scope"))
        yield "scopes", {key: scope[key] for key in ("name", "version") if scope.get(key)}
        for key, value in holder.items():
            if key not in _TOLD_OF_METADATA and not key.startswith("langgraph_"):
                yield key, value
    usage = as_object(item.get("usageDetails"))
    counted = {"input", "output", "total", "input_cache_creation"}.union(*_USAGE.values())
    yield from ((f"usage.{key}", n) for key, n in usage.items() if key not in counted and n)


def _output(value: Any) -> str | None:
    """A tool's output; LangChain's is a message around it."""
    inner = as_object(as_value(value))
    is_message = inner.get("type") == "tool" and "content" in inner
    return text_of(inner["content"] if is_message else value)


def _metadata(trace: Object, metadata: Object) -> dict[str, Any]:
    kept = {key: value for key, value in trace.items() if key not in _TOLD_OF_TRACE and value}
    scores = [
        {"name": score.get("name"), **said}
        for score in map(as_object, as_array(trace.get("scores")))
        if (said := {k: v for k, v in score.items() if k not in _TOLD_OF_SCORE and v})
    ]
    kept.update({"scores": scores} if scores else {})
    scope = as_text(as_object(metadata.get("scope")).get("name"))
    return {**kept, **({"instrumentation": scope} if scope else {})}


def _holds_messages(metadata: Any) -> bool:
    """Whether a span's own attributes hold what its model was given."""
    names = as_object(as_object(metadata).get("attributes"))
    return any(name.startswith(("llm.input_messages.", "gen_ai.input")) for name in names)


def _fill_model(
    span: Span, item: Object, given: Any, got: Any, *, holds_better: bool, known: Known
) -> None:
    pos = span.pos
    request = messages_of(given, f"{pos}/input", "user", known)
    shows_text_alone = isinstance(given, str) or any(
        isinstance(message, str) for message in as_array(as_object(given).get("messages"))
    )
    instructions = as_text(as_object(got).get("instructions"))  # the Responses API repeats them
    if instructions and not any(message.role == "system" for message in request):
        system = messages_of(instructions, f"{pos}/output/instructions", "system")
        request = [*system, *request] if request else []
    span.request = None if shows_text_alone and holds_better else request or None
    span.tools = [*_definitions(request), *_offered(given), *as_array(as_object(got).get("tools"))]
    span.reply = _with_output(messages_of(got, f"{pos}/output", "assistant"))
    span.columns = {
        **usage_columns(item.get("usageDetails") or item.get("usage")),
        "model": as_text(item.get("model")),
    }
    params = {
        key: value
        for key, value in as_object(item.get("modelParameters")).items()
        if value not in (None, "")
    }
    span.params = params or None


def _with_output(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.parts]


def _definitions(request: list[Message]) -> Iterator[Any]:
    """Definitions that stand among the messages, as LangGraph's callbacks write them."""
    for message in request:
        yield from (part.value for part in message.parts if part.kind == "definition")


def _offered(given: Any) -> Iterator[Any]:
    """Definitions beside the messages, OpenAI's or Gemini's."""
    request = as_object(given)
    tools = request.get("tools", as_object(request.get("config")).get("tools"))
    for tool in as_array(tools):
        declared = as_object(tool).get("function_declarations")
        yield from as_array(declared) if is_array(declared) else [tool]


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step; ``input`` may leave out what ``input_...`` keys count apart."""
    usage = as_object(usage)
    columns = {
        name: next((n for key in keys if (n := as_int(usage.get(key))) is not None), None)
        for name, keys in _USAGE.items()
    }
    fresh = as_int(usage.get("input", usage.get("prompt_tokens")))
    known, written = as_int(usage.get("total")), as_int(usage.get("input_cache_creation"))
    apart = total(fresh, columns["cached_tokens"], written)
    is_apart = known is not None and known == total(apart, columns["output_tokens"])
    is_apart = is_apart or (columns["cached_tokens"] or 0) > (fresh or 0)
    return {"input_tokens": apart if is_apart else fresh, **columns}
