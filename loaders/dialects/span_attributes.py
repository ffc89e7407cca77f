"""Attributes of a span: GenAI conventions old and new, OpenLLMetry's, OpenInference's.

The same facts have several names; the attributes come flat, or nested, or indexed
(``llm.input_messages.0.message.role``), with texts that hold JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.dialects.span_messages import id_of, messages_of, text_of
from loaders.dialects.span_named import Attributes, Events, Named
from loaders.dialects.span_said import Known, Message, Part, Said, are_told_apart, as_value
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
_MANY_REPLIES = 4
_SESSION = ("gen_ai.conversation.id", "session.id", "service.name")


def fill(span: Span, attributes: Attributes, events: Events, known: Known) -> None:
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
        _fill_model(span, Named(attributes, known), events)
    elif span.kind == "aside":
        span.aside = (as_text(_get(attributes, _KIND_IN[0])) or span.aside or "").lower() or None
        _fill_aside(span, Named(attributes, known))


def note_rest(span: Span, attributes: Attributes, events: Events, known: Known) -> None:
    """Keep what else a span's attributes and events say, for the metadata of its run."""
    is_told = known.table(_is_told)
    is_agent = span.kind == "agent"
    for name, (value, _) in attributes.items():
        is_framework = is_agent and name in _PROVIDERS
        if (is_framework or not is_told[name]) and not is_object(value):
            span.rest.append((name, value))
    for name, of_event, _ in events:
        if name.startswith("gen_ai."):
            continue
        facts = {key: value for key, (value, _) in of_event.items() if not is_object(value)}
        message = facts.get("exception.message")
        if name == "exception" and message != span.error:
            span.rest.append(("exception.message", message))
        elif name != "exception":
            span.rest.append(("events", {"name": name, **facts}))


def _is_told(name: str) -> bool:
    return name in _TOLD_WHOLE or name.startswith(_TOLD_BELOW)


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
    for name in names:
        if name in attributes:
            return attributes[name][0]
    return None


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


def _fill_aside(span: Span, named: Named) -> None:
    """What was searched or judged and what came of it: documents, or else its output."""
    attributes = named.attributes
    span.arguments = _get(attributes, *_INPUTS) if span.arguments is None else span.arguments
    documents = [value for key in _DOCUMENTS for value in named.listed(key)]
    if span.output is None and documents:
        span.output = as_json(documents)
    elif span.output is None and "output.value" in attributes:
        value, span.output_pos = attributes["output.value"]
        span.output = text_of(value)


def _fill_model(span: Span, named: Named, events: Events) -> None:
    attributes, known = named.attributes, named.known
    request = span.request or named.messages(_REQUESTS, "user")
    request = request or _of_events(events, known, is_reply=False)
    request = request or named.messages(("events", "input.value"), "user")
    raw = _as_raw(request, named, "input.value", "user")
    request, span.is_raw = raw or request, raw is not None
    system, place = attributes.get("gen_ai.system_instructions", (None, ""))
    if system and not any(message.said.role == "system" for message in request):
        request = [*_one(messages_of(known.value(system), place, "system")), *request]
    span.request = request or None
    reply = span.reply or named.messages(_REPLIES, "assistant")
    reply = reply or _of_events(events, known, is_reply=True)
    reply = reply or named.messages(("output.value",), "assistant")
    reply = _as_raw(reply, named, "output.value", "assistant") or reply
    span.reply = _joined(reply, attributes) if len(reply) > _MANY_REPLIES else reply
    span.tools = span.tools or _offered(named)
    span.columns = {**usage_of(attributes), **span.columns}
    span.columns.setdefault("model", as_text(_get(attributes, *_MODELS)))
    finish = known.value(_get(attributes, "gen_ai.response.finish_reasons"))
    if is_array(finish) and finish and isinstance(finish[0], str):
        span.columns.setdefault("stop_reason", finish[0])
    elif named_reason := as_text(_get(attributes, "llm.finish_reason")):
        span.columns.setdefault("stop_reason", named_reason)
    span.provider = span.provider or as_text(_get(attributes, *_PROVIDERS))
    given = known.value(_get(attributes, "llm.invocation_parameters"))
    asked = {
        key.removeprefix("gen_ai.request."): value
        for key, (value, _) in attributes.items()
        if key.startswith("gen_ai.request.") and key != "gen_ai.request.model"
    }
    span.params = span.params or {**asked, **as_object(given)} or None


def _offered(named: Named) -> list[Any]:
    """Definitions of the tools on offer."""
    attributes, known = named.attributes, named.known
    defined = as_array(known.value(_get(attributes, "gen_ai.tool.definitions")))
    flat_tools = named.values("llm.request.functions")
    in_llm = map(as_object, named.listed("llm.tools"))
    schemas = (known.value(as_object(tool.get("tool")).get("json_schema")) for tool in in_llm)
    return [*defined, *flat_tools, *schemas, *_of_pydantic_ai(attributes, known)]


def _as_raw(messages: list[Message], named: Named, key: str, role: str) -> list[Message] | None:
    """The same messages as the raw body writes them, which may show thinking that these lack."""
    if key not in named.attributes or _thinks(messages):
        return None
    whole = named.messages((key,), role)
    is_same = [said.role for said, _ in whole] == [said.role for said, _ in messages]
    return (whole if _thinks(whole) else messages) if is_same else None


def _thinks(messages: list[Message]) -> bool:
    return any(said.thoughts for said, _ in messages)


def _of_pydantic_ai(attributes: Attributes, known: Known) -> Iterator[Object]:
    """Definitions as pydantic-ai's own spans hold them, those for the final output included."""
    given = as_object(known.value(_get(attributes, "model_request_parameters")))
    for tool in (*as_array(given.get("function_tools")), *as_array(given.get("output_tools"))):
        yield {**as_object(tool), "parameters": as_object(tool).get("parameters_json_schema")}


def _one(messages: list[Message]) -> list[Message]:
    """System instructions come as parts: one message."""
    parts = [part for message in messages for part in message.placed_parts()]
    return [Message(Said("system", parts))] if parts else []


def _joined(replies: list[Message], attributes: Attributes) -> list[Message]:
    """Pieces of a stream that were recorded as a message each; the first may be missing."""
    parts = [part for message in replies for part in message.placed_parts()]
    if any(part.kind != "text" for part in parts):
        return replies
    is_cut = "llm.output_messages.0.message.role" not in attributes
    text = "".join(part.text or "" for part in parts)
    whole = Part("text", text, parts[0].pos, value="cut" if is_cut else None)
    return [Message(Said("assistant", [whole]))]


def _of_events(events: Events, known: Known, *, is_reply: bool) -> list[Message]:
    """Messages that a span's events hold, one each or all of them in one."""
    found: list[Message] = []
    for name, attributes, pos in events:
        if name in _EVENT_ROLES and (name == "gen_ai.choice") == is_reply:
            found.extend(Message(said, pos) for said in _of_event(name, attributes, known))
        elif any("." in key for key in attributes):  # as those have that hold messages
            keys, role = (_REPLIES, "assistant") if is_reply else (_REQUESTS, "user")
            found.extend(Named(attributes, known).messages(keys, role))
    return found


def _of_event(name: str, attributes: Attributes, known: Known) -> list[Said]:
    """What an event of a message says; all of it stands where the event does."""
    body = {key: value for key, (value, _) in attributes.items() if "." not in key}
    key = (name, *body, *body.values()) if are_told_apart(body.values()) else None
    found: list[Said] | None = None if key is None else known.get(key)
    if found is None:
        size = sum(len(value) for value in body.values() if isinstance(value, str))
        body = {key: as_value(value) for key, value in body.items()}
        message = body["message"] if is_object(body.get("message")) else body
        message.setdefault("role", _EVENT_ROLES[name])
        found = [
            said.with_parts([part._replace(pos="") for part in said.parts])
            for said, _ in messages_of(body, "", _EVENT_ROLES[name])
        ]
        if key is not None:
            known.keep(key, size, found)
    return found


def usage_of(attributes: Attributes) -> dict[str, int | None]:
    """Token columns of a step. Input includes what was cached, unless the numbers can't be so."""
    columns = {name: _first_number(attributes, keys) for name, keys in _USAGE.items()}
    given, cached = columns["input_tokens"], columns["cached_tokens"]
    if given is not None and cached is not None and cached > given:
        columns["input_tokens"] = given + cached
    return columns


def _first_number(attributes: Attributes, names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in attributes and (number := _number(attributes[name][0])) is not None:
            return number
    return None


def _number(value: Any) -> int | None:
    """A number, also one that was written as text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return as_int(value)
