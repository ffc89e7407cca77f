"""Attributes of a span: GenAI conventions old and new, OpenLLMetry's, OpenInference's.

The same facts have several names; the attributes come flat, or nested, or indexed
(``llm.input_messages.0.message.role``), with texts that hold JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.dialects.span_messages import Message, Part, as_value, id_of, messages_of, text_of
from loaders.dialects.spans import Span
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

Attributes = dict[str, tuple[Any, str]]
"""Values of attributes by their full names, each with its place in the record."""

_AGENT_KINDS = ("AGENT", "agent", "invoke_agent")
_TOOL_KINDS = ("TOOL", "tool", "execute_tool")
_MODEL_KINDS = ("LLM", "chat", "text_completion", "generate_content", "completion")
_REQUESTS = ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt", "llm.prompts")
_REPLIES = ("gen_ai.output.messages", "llm.output_messages", "gen_ai.completion")
_EVENT_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}
_USAGE = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "cached_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
}
_MODELS = (
    *("gen_ai.response.model", "llm.response.model_name", "llm.model_name"),
    *("gen_ai.request.model", "llm.request.model_name"),
)
_PROVIDERS = ("gen_ai.provider.name", "llm.provider", "gen_ai.system", "llm.system")
_KIND_IN = (
    *("openinference.span.kind", "gen_ai.operation.name", "traceloop.span.kind"),
    *("llm.request.type",),
)
ASIDES = ("RETRIEVER", "RERANKER", "GUARDRAIL", "EMBEDDING", "EVALUATOR")
_OUTPUTS = (
    *("gen_ai.tool.call.result", "tool_response", "output.value", "traceloop.entity.output"),
)
_INPUTS = (
    *("gen_ai.tool.call.arguments", "tool_arguments", "input.value", "tool.parameters"),
    *("traceloop.entity.input",),
)
_DOCUMENTS = ("retrieval.documents", "reranker.output_documents")

_TOLD_WHOLE = frozenset(
    (
        *(name for names in _USAGE.values() for name in names),
        *(*_MODELS, *_PROVIDERS, *_KIND_IN, *_REQUESTS, *_REPLIES, *_INPUTS, *_OUTPUTS),
        *("gen_ai.response.finish_reasons", "llm.finish_reason", "gen_ai.tool.definitions"),
        *("gen_ai.system_instructions", "llm.token_count.total", "gen_ai.usage.total_tokens"),
        *("llm.usage.total_tokens", "input.mime_type", "output.mime_type", "tool.name"),
        *("gen_ai.tool.name", "gen_ai.tool.call.id", "tool_call.id", "tool.id", "error.type"),
        *("gen_ai.agent.name", "agent.name", "agent_name", "traceloop.entity.name", "events"),
        *("model_request_parameters", "all_messages_events", "llm.invocation_parameters"),
        *("llm.tools", "llm.request.functions", *_DOCUMENTS),
    )
)
_TOLD_BELOW = (
    *(f"{name}." for name in (*_REQUESTS, *_REPLIES, *_INPUTS, *_OUTPUTS, *_DOCUMENTS)),
    *("llm.tools", "llm.request.functions", "llm.invocation_parameters.", "gen_ai.request."),
    *("gen_ai.tool.definitions.", "gen_ai.system_instructions.", "pydantic_ai.all_messages"),
    *("model_request_parameters.", "logfire.json_schema", "gcp.vertex.agent.llm_re", "events."),
    "gcp.vertex.agent.tool_",
)
_DEEPEST = 12
_MANY_REPLIES = 4
_SESSION = ("gen_ai.conversation.id", "session.id", "service.name")


def flat(attributes: Any, pos: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Attributes by their full names; objects inside them are more of the same."""
    for key, value in as_object(attributes).items():
        name, place = f"{prefix}{key}", f"{pos}/{key.replace('~', '~0').replace('/', '~1')}"
        yield name, (value, place)
        if is_object(value) and depth < 6:
            yield from flat(value, place, f"{name}.", depth + 1)


def indexed(attributes: Attributes, prefix: str) -> list[tuple[Any, str]]:
    """Values under ``prefix.0``, ``prefix.1``, ... put together, each with a place of its own."""
    return [(value, place) for _, value, place in _numbered(attributes, prefix)]


def _numbered(attributes: Attributes, prefix: str) -> list[tuple[int, Any, str]]:
    start = f"{prefix}."
    found: dict[int, Object] = {}
    places: dict[int, str] = {}
    for key, (value, place) in attributes.items():
        if not key.startswith(start):
            continue
        number, _, rest = key[len(start) :].partition(".")
        if not number.isdecimal() or len(number) > 9:
            continue
        if key.endswith("content") or int(number) not in places:
            places[int(number)] = place
        holder, names = found.setdefault(int(number), {}), rest.split(".")
        for name in names[:-1]:
            inner = holder.setdefault(name, {})
            holder = inner if is_object(inner) else {}
        holder.setdefault(names[-1], value)
    return [(n, _with_lists(found[n]), places[n]) for n in sorted(found)]


def _listed(attributes: Attributes, name: str) -> list[Any]:
    """Values of an array, which stands there whole or indexed."""
    whole = as_array(attributes[name][0]) if name in attributes else []
    return whole or [value for value, _ in indexed(attributes, name)]


def _with_lists(value: Any, depth: int = 0) -> Any:
    """The same value with arrays where an object's keys are numbers."""
    if not is_object(value) or depth > 20:
        return value
    if value and all(key.isdecimal() and len(key) < 10 for key in value):
        return [_with_lists(value[key], depth + 1) for key in sorted(value, key=int)]
    return {key: _with_lists(inner, depth + 1) for key, inner in value.items()}


def fill(span: Span, attributes: Attributes, events: list[tuple[str, Attributes, str]]) -> None:
    """Put what a span's attributes and events say into the span."""
    span.kind = kind_of(attributes) if span.kind == "other" else span.kind
    for key in _SESSION:
        if (name := as_name(_get(attributes, key))) is not None:
            span.metadata[key] = name
    for name, of_event, _ in events:
        if name == "exception":
            message = as_text(_get(of_event, "exception.message"))
            span.error = span.error or (message if span.error is not None else None)
            span.error_type = span.error_type or as_text(_get(of_event, "exception.type"))
    if span.error is not None and span.error_type is None:
        span.error_type = as_text(_get(attributes, "error.type"))
    if span.kind == "agent":
        span.name = (
            as_text(_get(attributes, "gen_ai.agent.name", "agent.name", "agent_name")) or span.name
        )
    elif span.kind == "tool":
        _fill_tool(span, attributes)
    elif span.kind == "model":
        _fill_model(span, attributes, events)
    elif span.kind == "aside":
        span.aside = (as_text(_get(attributes, _KIND_IN[0])) or span.aside or "").lower() or None
        _fill_aside(span, attributes)


def note_rest(
    span: Span, attributes: Attributes, events: list[tuple[str, Attributes, str]]
) -> None:
    """Keep what else a span's attributes and events say, for the metadata of its run."""
    for name, (value, _) in attributes.items():
        is_told = name in _TOLD_WHOLE or name.startswith(_TOLD_BELOW)
        if span.kind == "agent" and name in _PROVIDERS:
            is_told = False  # an agent's is the name of its framework
        if not is_told and not is_object(value):
            span.rest.append((name, value))
    for name, of_event, _ in events:
        facts = {key: value for key, (value, _) in of_event.items() if not is_object(value)}
        message = facts.get("exception.message")
        if name == "exception" and message != span.error:
            span.rest.append(("exception.message", message))
        elif name != "exception" and not name.startswith("gen_ai."):
            span.rest.append(("events", {"name": name, **facts}))


def kind_of(attributes: Attributes) -> str:
    """What a span is, by the name of its operation or its kind."""
    if _get(attributes, _KIND_IN[0]) in ASIDES:
        return "aside"
    for key in _KIND_IN:
        kind = _get(attributes, key)
        for name, kinds in (
            ("agent", _AGENT_KINDS),
            ("tool", _TOOL_KINDS),
            ("model", _MODEL_KINDS),
        ):
            if kind in kinds:
                return name
        if kind is not None and key in _KIND_IN[:2]:
            return "other"
    if "pydantic_ai.all_messages" in attributes or "all_messages_events" in attributes:
        return "agent"
    if "gen_ai.tool.name" in attributes or "gen_ai.tool.call.id" in attributes:
        return "tool"
    return "model" if "gen_ai.request.model" in attributes else "other"


def _get(attributes: Attributes, *names: str) -> Any:
    """The value of the first of these attributes that is there."""
    return next((attributes[name][0] for name in names if name in attributes), None)


def _fill_tool(span: Span, attributes: Attributes) -> None:
    name = as_text(_get(attributes, "gen_ai.tool.name", "tool.name", "traceloop.entity.name"))
    span.name = name or span.name
    call_id = _get(attributes, "gen_ai.tool.call.id", "tool_call.id", "tool.id")
    span.call_id = id_of(call_id) or span.call_id
    span.arguments = _get(attributes, *_INPUTS) if span.arguments is None else span.arguments
    for key in _OUTPUTS:
        if span.output is None and key in attributes:
            value, span.output_pos = attributes[key]
            inner = as_object(as_value(value))
            is_wrapped = {"name", "response"} <= inner.keys()  # Gemini's way
            span.output = text_of(inner["response"] if is_wrapped else value)


def _fill_aside(span: Span, attributes: Attributes) -> None:
    """What was searched or judged and what came of it: documents, or else its output."""
    span.arguments = _get(attributes, *_INPUTS) if span.arguments is None else span.arguments
    documents = [value for key in _DOCUMENTS for value in _listed(attributes, key)]
    if span.output is None and documents:
        span.output = as_json(documents)
    elif span.output is None and "output.value" in attributes:
        value, span.output_pos = attributes["output.value"]
        span.output = text_of(value)


def _fill_model(
    span: Span, attributes: Attributes, events: list[tuple[str, Attributes, str]]
) -> None:
    request = span.request or _messages(attributes, _REQUESTS, "user")
    request = request or _of_events(events, is_reply=False)
    request = request or _messages(attributes, ("events", "input.value"), "user")
    raw = _as_raw(request, attributes, "input.value", "user")
    request, span.is_raw = raw or request, raw is not None
    system, place = attributes.get("gen_ai.system_instructions", (None, ""))
    if system and not any(message.role == "system" for message in request):
        request = [*_one(messages_of(as_value(system), place, "system")), *request]
    span.request = request or None
    reply = span.reply or _messages(attributes, _REPLIES, "assistant")
    reply = reply or _of_events(events, is_reply=True)
    reply = reply or _messages(attributes, ("output.value",), "assistant")
    reply = _as_raw(reply, attributes, "output.value", "assistant") or reply
    span.reply = _joined(reply, attributes) if len(reply) > _MANY_REPLIES else reply
    defined = as_array(as_value(_get(attributes, "gen_ai.tool.definitions")))
    flat_tools = (value for value, _ in indexed(attributes, "llm.request.functions"))
    in_llm = map(as_object, _listed(attributes, "llm.tools"))
    schemas = (as_value(as_object(tool.get("tool")).get("json_schema")) for tool in in_llm)
    span.tools = span.tools or [*defined, *flat_tools, *schemas, *_of_pydantic_ai(attributes)]
    span.columns = {**usage_of(attributes), **span.columns}
    span.columns.setdefault("model", as_text(_get(attributes, *_MODELS)))
    finish = as_value(_get(attributes, "gen_ai.response.finish_reasons"))
    if is_array(finish) and finish and isinstance(finish[0], str):
        span.columns.setdefault("stop_reason", finish[0])
    elif named := as_text(_get(attributes, "llm.finish_reason")):
        span.columns.setdefault("stop_reason", named)
    span.provider = span.provider or as_text(_get(attributes, *_PROVIDERS))
    given = as_value(_get(attributes, "llm.invocation_parameters"))
    asked = {
        key.removeprefix("gen_ai.request."): value
        for key, (value, _) in attributes.items()
        if key.startswith("gen_ai.request.") and key != "gen_ai.request.model"
    }
    span.params = span.params or {**asked, **as_object(given)} or None


def _as_raw(
    messages: list[Message], attributes: Attributes, key: str, role: str
) -> list[Message] | None:
    """The same messages as the raw body writes them, which may show thinking that these lack."""
    if key not in attributes or _thinks(messages):
        return None
    whole = _messages(attributes, (key,), role)
    is_same = [message.role for message in whole] == [message.role for message in messages]
    return (whole if _thinks(whole) else messages) if is_same else None


def _thinks(messages: list[Message]) -> bool:
    return any(part.kind == "thinking" for message in messages for part in message.parts)


def _of_pydantic_ai(attributes: Attributes) -> Iterator[Object]:
    """Definitions as pydantic-ai's own spans hold them, those for the final output included."""
    given = as_object(as_value(_get(attributes, "model_request_parameters")))
    for tool in (*as_array(given.get("function_tools")), *as_array(given.get("output_tools"))):
        yield {**as_object(tool), "parameters": as_object(tool).get("parameters_json_schema")}


def _one(messages: list[Message]) -> list[Message]:
    """System instructions come as parts: one message."""
    parts = [part for message in messages for part in message.parts]
    return [Message("system", parts)] if parts else []


def _messages(attributes: Attributes, keys: tuple[str, ...], role: str) -> list[Message]:
    """Messages under the first of these attributes that holds any, whole or indexed."""
    for key in keys:
        value, place = attributes.get(key, (None, ""))
        found = messages_of(as_value(value), place, role) if value is not None else []
        if not found or not any(message.parts for message in found):
            places = _places(attributes, key)
            found = [
                _moved(message, at, places)
                for number, value, at in _numbered(attributes, key)
                for message in messages_of(value, f"/{key}/{number}", role)
            ]
        if found:
            return found
    return []


def _joined(replies: list[Message], attributes: Attributes) -> list[Message]:
    """Pieces of a stream that were recorded as a message each; the first may be missing."""
    parts = [part for message in replies for part in message.parts]
    if any(part.kind != "text" for part in parts):
        return replies
    is_cut = "llm.output_messages.0.message.role" not in attributes
    text = "".join(part.text or "" for part in parts)
    return [
        Message("assistant", [Part("text", text, parts[0].pos, value="cut" if is_cut else None)])
    ]


def _moved(message: Message, place: str, places: dict[str, str] | None = None) -> Message:
    """The message at a place; its parts, where they have places of their own, at those."""
    parts = [
        part._replace(pos=(places or {}).get(part.pos[1:].replace("/", "."), place))
        for part in message.parts
    ]
    return message._replace(parts=parts)


def _places(attributes: Attributes, prefix: str) -> dict[str, str]:
    """Where each piece of an indexed value stands: at its text, else at its first attribute."""
    texts: dict[str, str] = {}
    others: dict[str, str] = {}
    for key, (_, place) in attributes.items():
        if not key.startswith(f"{prefix}."):
            continue
        known = texts if key.rpartition(".")[2] in ("content", "text") else others
        name = key
        for _ in range(_DEEPEST):
            known.setdefault(name, place)
            name = name.rpartition(".")[0]
            if len(name) <= len(prefix):
                break
    return {**others, **texts}


def _of_events(events: list[tuple[str, Attributes, str]], *, is_reply: bool) -> list[Message]:
    """Messages that a span's events hold, one each or all of them in one."""
    found: list[Message] = []
    for name, attributes, pos in events:
        if name in _EVENT_ROLES and (name == "gen_ai.choice") == is_reply:
            body = {
                key: as_value(value) for key, (value, _) in attributes.items() if "." not in key
            }
            if not is_object(body.get("message")):
                body.setdefault("role", _EVENT_ROLES[name])
            else:
                body["message"].setdefault("role", _EVENT_ROLES[name])
            found.extend(_moved(m, pos) for m in messages_of(body, "", _EVENT_ROLES[name]))
            continue
        keys = _REPLIES if is_reply else _REQUESTS
        found.extend(_messages(attributes, keys, "assistant" if is_reply else "user"))
    return found


def usage_of(attributes: Attributes) -> dict[str, int | None]:
    """Token columns of a step. Input includes what was cached, unless the numbers can't be so."""
    columns = {
        name: next((n for key in keys if (n := _number(_get(attributes, key))) is not None), None)
        for name, keys in _USAGE.items()
    }
    given, cached = columns["input_tokens"], columns["cached_tokens"]
    if given is not None and cached is not None and cached > given:
        columns["input_tokens"] = given + cached
    return columns


def _number(value: Any) -> int | None:
    """A number, also one that was written as text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return as_int(value)
