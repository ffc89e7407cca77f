"""OpenAI Agents SDK traces: exported ``trace`` and ``trace.span`` objects, grouped by their trace.

A trace is one run; its model calls say by which agent they were made. Spans are exported when they
end and are told in the order in which they began. Calls of chat completions (``generation``) log what
was sent and what came back. Those of the Responses API (``response``) log an id and token counts alone,
so that thinking has no place; some exporters add input and response, the latter as Python's notation
of the object, which is read without running any of it. A tool's error stands in its span, which has
no id: it is matched to its result by what it put out. What a program tells of a run in the metadata of
its trace (task, trial, success) fills the columns for it.
"""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from loaders.builder import Builder
from loaders.dialects import openai_chat, responses
from loaders.dialects.openai_chat import Thought, all_thoughts_of, text_and_media
from loaders.dialects.requests import RepeatedMessages
from loaders.heads import Head
from loaders.rows import Gathered, identity_of, metadata_of, outcome_of
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "OpenAI Agents SDK trace"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")

IGNORED = {
    "/**/id": "the name of a span or an item; calls have ids of their own, and traces and replies too",
    "/**/parent_id": "which span is around which: the steps name the agent around them",
    "/**/started_at": "calls of models and tools have times; what is around them spans these",
    "/**/ended_at": "calls of models and tools have times; what is around them spans these",
    "type=function /**/span_data/input": "arguments of a call, which the reply that made it has",
    "/**/tool_calls/*/type": "every call is of a function, as its name and arguments show",
    "type=custom /**/data/sdk_span_type": "says that the SDK itself made the span, of a turn or a task",
    "type=custom /**/data/agent_name": "the agent at work, which the span of the agent names",
    "type=custom /**/data/turn": "the number of a turn, which has one call of a model",
    "type=custom /**/data/usage/**": "the sum of what the calls within a turn or a task count",
    "type=custom /**/data/name": "the name of the workflow, which the trace has",
    "type=custom /**/span_data/type": "a span of the SDK's own is told by what its calls tell",
    "type=custom /**/span_data/name": "says turn or task; spans that a program made are told whole",
    "/**/usage/requests": "how many calls of a model a span holds, which is one",
    "/**/usage/total_tokens": "the sum of two counts that are kept",
    "/**/reasoning_details/*/format": "whose notation the details are in; the text is kept",
    "/**/reasoning_details/*/index": "the number of a detail, which its place tells",
    "/**/reasoning_details/*/type": "what a detail is, as the state of the thinking says",
    "/**/span_data_*/**": "an exporter's copy of what stands in span_data or in the response",
    "/count": "how many traces an exporter put into the file",
    "/timestamp": "when an exporter wrote the file",
}

_OBJECTS = ("trace", "trace.span")
_LISTS_IN = ("traces", "data", "spans")
_TOLD_OF_TRACE = ("object", "id", "at")
_TOLD_OF_AGENT = ("type", "name", "tools")
_TOLD_OF_USAGE = (
    *("input_tokens", "output_tokens", "total_tokens", "requests"),
    *("input_tokens_details.cached_tokens", "output_tokens_details.reasoning_tokens"),
    *("prompt_tokens", "completion_tokens"),
)
_RESPONSES_IN = ("response", "span_data_response")
_MADE_BY_THE_SDK = ("turn", "task")
_LIMIT = "Max turns"
"""What the SDK says of a run that it ended after as many turns as it may take."""
_MOST_CHARS = 4 << 20
Found = tuple[Object, str]


def sniff(head: Head) -> bool:
    """An exported trace or span, alone, in a list, or under one of the keys that exporters use."""
    record = next(iter(head.records), None)
    for _ in range(2):
        if is_object(record) and record.get("object") not in _OBJECTS:
            record = next((record[k] for k in _LISTS_IN if is_array(record.get(k))), None)
        if is_array(record):
            record = next(iter(record), None)
    return as_object(record).get("object") in _OBJECTS


def read(source: Source, out: Builder) -> None:
    """One run per trace."""
    traces: dict[str | None, Object] = {}
    spans: dict[str | None, list[Found]] = defaultdict(list)
    for pos, record in source.records():
        for found, place in _objects(record, pos):
            if found.get("object") == "trace":
                name = as_text(found.get("id"))
                traces.setdefault(name, {**found, "at": place})
                spans.setdefault(name, [])
            elif found.get("object") == "trace.span":
                spans[as_text(found.get("trace_id"))].append((found, place))
            else:
                out.problem(place, "neither a trace nor a span")
    for name, found in spans.items():
        trace = traces.get(name, {})
        with out.record(trace.get("at", "")):
            _Trace(trace, name, found, out).tell()


def _objects(record: Any, pos: str) -> Iterator[Found]:
    """The traces and spans in a record, however deep the exporter put them."""
    stack: list[tuple[Any, str]] = [(record, pos)]
    while stack:
        value, place = stack.pop()
        key = next((k for k in _LISTS_IN if is_array(as_object(value).get(k))), None)
        if is_array(value):
            stack.extend((item, f"{place}/{n}") for n, item in reversed([*enumerate(value)]))
        elif key is not None:
            if value.get("object") == "trace":
                yield {k: v for k, v in value.items() if k != key}, place
            stack.append((value[key], f"{place}/{key}"))
        else:
            yield as_object(value), place


class _Trace:
    """Tells the spans of one trace."""

    def __init__(self, trace: Object, name: str | None, spans: list[Found], out: Builder) -> None:
        self._spans = sorted(spans, key=_begin)
        self._agents: dict[str | None, str] = {}
        self._told = as_object(trace.get("metadata"))
        self._run = out.trajectory(
            pos=trace["at"] if trace else self._spans[0][1],
            **{**identity_of(self._told), "native_id": name, "framework": "openai-agents"},
        )
        said = {key: value for key, value in trace.items() if key not in _TOLD_OF_TRACE and value}
        self._metadata = metadata_of(said, ())
        self._gathered = Gathered()
        self._responses: list[str] = []
        self._messages = RepeatedMessages(self._run, _key, _thoughts, self._tell_message)
        self._tools: dict[str, str | None] = {}
        self._ran: dict[Any, deque[Found]] = defaultdict(deque)
        self._has_content = False

    def tell(self) -> None:
        parents = {as_text(s.get("id")): as_text(s.get("parent_id")) for s, _ in self._spans}
        for span, pos in self._spans:
            data = as_object(span.get("span_data"))
            kind = as_text(data.get("type")) or "unknown"
            if kind == "agent":
                self._agents[as_text(span.get("id"))] = as_text(data.get("name")) or ""
                self._tell_agent(data)
            elif kind in ("generation", "response"):
                self._tell_call(span, data, pos, self._agent_of(span, parents))
            elif kind == "function":
                self._ran[as_text(data.get("name")), as_text(data.get("output"))].append(
                    (span, pos)
                )
            elif as_object(data.get("data")).get("sdk_span_type") not in _MADE_BY_THE_SDK:
                shown = {key: value for key, value in data.items() if key != "type"}
                began, ended = as_time(span.get("started_at")), as_time(span.get("ended_at"))
                took = (ended - began).total_seconds() if began and ended else None
                more: dict[str, Any] = {"at": began, "duration_s": took}
                self._run.event("other", as_json(shown), pos, error_type=kind, **more)
            if kind not in ("generation", "response", "function") and as_object(span.get("error")):
                self._tell_error(as_object(span["error"]), pos)
        self._tell_unmatched()
        if self._responses:
            self._metadata["response_ids"] = self._responses
        self._run.set(metadata={**self._metadata, **self._gathered.metadata()})
        self._tell_outcome()

    def _tell_outcome(self) -> None:
        """What the program says in the trace's metadata; how a run broke off, its spans have said."""
        known = outcome_of(self._told)
        if known["scores"] or known["end_reason"]:
            ended = self._run.columns
            broke_off = ended["outcome"] if ended["outcome"] in ("error", "limit") else None
            known["end_reason"] = ended["end_reason"] or known["end_reason"]
            self._run.outcome(broke_off, **known)

    def _tell_agent(self, data: Object) -> None:
        rest = {k: v for k, v in data.items() if k not in _TOLD_OF_AGENT and v not in (None, [])}
        if rest:
            self._gathered.note("agents", {"name": data.get("name"), **rest})
        names = [as_text(name) for name in as_array(data.get("tools"))]
        self._run.tools([(name, None, None) for name in names if name])

    def _agent_of(self, span: Object, parents: dict[str | None, str | None]) -> str | None:
        """The name of the innermost agent around a span."""
        parent = as_text(span.get("parent_id"))
        for _ in range(20):
            if parent in self._agents or parent is None:
                break
            parent = parents.get(parent)
        return self._agents.get(parent)

    def _tell_error(self, error: Object, pos: str) -> None:
        text = as_text(error.get("message")) or as_json(error)
        detail = [f"{key}: {as_json(value)}" for key, value in as_object(error.get("data")).items()]
        self._run.event("error", "\n".join(filter(None, (text, *detail))), f"{pos}/error")
        is_limit = (text or "").startswith(_LIMIT)
        self._run.outcome("limit" if is_limit else "error", end_reason=text)

    # ------------------------------------------------------------------ model calls

    def _tell_call(self, span: Object, data: Object, pos: str, agent: str | None) -> None:
        run = self._run
        body, at_body = _response_of(span, data)
        if not body and any(span.get(key) for key in _RESPONSES_IN):
            run.problem(pos, "a response in a notation that can't be read")
        asked, place = as_array(data.get("input")), f"{pos}/span_data/input"
        if "span_data_input" in span:
            asked, place = as_array(span["span_data_input"]), f"{pos}/span_data_input"
        is_chat = data.get("type") == "generation"
        answers = as_array((data if is_chat else body).get("output"))
        request = [(as_object(message), f"{place}/{n}") for n, message in enumerate(asked)]
        if as_text(body.get("instructions")):
            system = {"role": "system", "type": "message", "content": body["instructions"]}
            request.insert(0, (system, f"{pos}/{at_body}"))
        self._has_content = self._has_content or bool(request or answers)
        shown = self._messages.take(request)
        self._tell_unmatched()
        usage = as_object(data.get("usage") or body.get("usage"))
        columns = responses.usage_columns(usage)
        self._gathered.count(usage, _TOLD_OF_USAGE)
        if name := as_text(data.get("response_id")) or as_text(body.get("id")):
            self._responses.append(name)
        error = as_object(span.get("error"))
        run.step(
            source_pos=pos,
            agent=agent,
            model=as_text(data.get("model")) or as_text(body.get("model")),
            started_at=as_time(span.get("started_at")),
            ended_at=as_time(span.get("ended_at")),
            error=as_text(error.get("message")),
            stop_reason=as_text(body.get("status")),
            **columns,
        )
        if not answers and not asked and not error:
            run.update_step(thinking="not_logged")
        if asked:
            self._messages.saw(shown, [message for message, _ in request], agent)
        params = {k: v for k, v in as_object(data.get("model_config")).items() if v is not None}
        if params and run.columns["params"] is None:
            run.set(params=params)
        for index, answer in enumerate(map(as_object, answers)):
            where = f"{pos}/span_data/output/{index}" if is_chat else f"{pos}/{at_body}"
            self._messages.reply(answer, agent, partial(self._tell_answer, answer, where))

    def _tell_answer(self, answer: Object, pos: str) -> None:
        if "type" in answer:
            responses.write_item(self._run, answer, pos)
        else:
            openai_chat.write_reply_parts(self._run, answer, pos)
            openai_chat.write_calls(self._run, answer, pos)
        self._note_tools(answer)

    def _tell_message(self, message: Object, pos: str) -> None:
        """Tell a message of chat completions, or an item of the Responses API."""
        if "type" in message:
            responses.write_item(self._run, message, pos)
        else:
            flags = self._flags_of(message) if message.get("role") == "tool" else {}
            openai_chat.write_message(self._run, message, pos, **flags)
        self._note_tools(message)

    def _note_tools(self, message: Object) -> None:
        for call in map(as_object, [*as_array(message.get("tool_calls")), message]):
            name = as_text(call.get("call_id")) or as_text(call.get("id"))
            tool = as_text(as_object(call.get("function")).get("name")) or as_text(call.get("name"))
            if name and tool:
                self._tools[name] = tool

    # ------------------------------------------------------------------ tools

    def _flags_of(self, result: Object) -> dict[str, Any]:
        """What the span of a tool says of the result that it put out."""
        tool = self._tools.get(as_text(result.get("tool_call_id")) or "")
        text, _ = text_and_media(result.get("content"))
        same = self._ran.get((tool, text))
        if not same:
            return {}
        span, _ = same.popleft()
        self._note_tool(span)
        return _ending(span)

    def _note_tool(self, span: Object) -> None:
        """What a tool's span says that has no column: details of an error, and of a server's tool."""
        self._gathered.note("tool_errors", as_object(span.get("error")).get("data"))
        self._gathered.note("mcp", as_object(span.get("span_data")).get("mcp_data"))

    def _tell_unmatched(self) -> None:
        """Tell tools that ran and whose results no request has shown so far."""
        ran = sorted((found for same in self._ran.values() for found in same), key=_begin)
        self._ran.clear()
        for span, pos in ran:
            data = as_object(span.get("span_data"))
            self._note_tool(span)
            name, at = as_text(data.get("name")), as_time(span.get("started_at"))
            if self._has_content:
                seq = None
            else:
                seq = self._run.call(name, data.get("input"), f"{pos}/span_data/input", at=at)
            text = as_text(data.get("output"))
            more = _ending(span)
            place = pos if text is None else f"{pos}/span_data/output"
            if seq is None:
                self._run.result(text, place, tool=name, by_order=True, **more)
            else:
                self._run.result(text, place, answers=seq, tool=name, **more)


def _begin(found: Found) -> float:
    began = as_time(found[0].get("started_at"))
    return began.timestamp() if began else 0.0


def _ending(span: Object) -> dict[str, Any]:
    error = as_object(span.get("error"))
    began, ended = as_time(span.get("started_at")), as_time(span.get("ended_at"))
    took = (ended - began).total_seconds() if began and ended else None
    kind = as_text(error.get("message"))
    return {"is_error": bool(error), "error_type": kind, "duration_s": took, "at": ended}


def _key(message: Object) -> Any:
    """What makes two writings of a message or an item the same: neither ids nor thinking."""
    text, _ = text_and_media(message.get("content", message.get("output")))
    calls = [as_object(as_object(c).get("function")) for c in as_array(message.get("tool_calls"))]
    said = as_text(message.get("role")) or as_text(message.get("type")) or ""
    links = as_text(message.get("call_id")) or as_text(message.get("tool_call_id"))
    spelled = as_json([[c.get("name"), c.get("arguments")] for c in calls]) if calls else None
    return (said, links, "".join((text or "").split()), spelled, as_json(message.get("arguments")))


def _thoughts(message: Object) -> Iterable[Thought]:
    if message.get("type") == "reasoning":
        text, state, signature = responses.thought_of(message)
        return [Thought(text, state, signature, "")]
    return all_thoughts_of(message)


# ---------------------------------------------------------------------- Python's notation


def _response_of(span: Object, data: Object) -> tuple[Object, str]:
    """The response that an exporter added to a span, as an object or in Python's notation; its key."""
    for key in (*_RESPONSES_IN, "span_data/response"):
        value = data.get("response") if "/" in key else span.get(key)
        if is_object(value):
            return value, key
        if isinstance(value, str) and value.startswith("Response(") and len(value) < _MOST_CHARS:
            try:
                return as_object(_value(ast.parse(value, mode="eval").body)), key
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
    return {}, ""


def _value(node: ast.AST) -> Any:
    """The JSON value that a piece of notation spells; an object is its keyword arguments."""
    if isinstance(node, ast.Call):
        return {word.arg: _value(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = (key.value if isinstance(key, ast.Constant) else None for key in node.keys)
        return {str(k): _value(v) for k, v in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.Constant):
        is_json = node.value is None or isinstance(node.value, str | bool | int | float)
        return node.value if is_json else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        value = _value(node.operand)
        is_number = isinstance(node.op, ast.USub) and isinstance(value, int | float)
        return -value if is_number else None
    return None
