"""CrewAI's events: what its event bus passed on, as listeners dump it and checkpoints record it.

``event.to_json()`` writes what lies five levels deep in Python's notation; so do all dumps with what
stood in a model's messages. It is read by ``plain``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict, deque
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

from loaders.dialects import openai_chat
from loaders.dialects.openai_chat import all_thoughts_of, split_think_tags, text_and_media
from loaders.dialects.requests import RepeatedMessages
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

ENVELOPE = frozenset(
    (
        *("timestamp", "type", "source_fingerprint", "source_type", "fingerprint_metadata"),
        *("event_id", "parent_event_id", "previous_event_id", "triggered_by_event_id"),
        *("started_event_id", "emission_sequence", "from_task", "from_agent"),
        *("task", "agent", "crew", "agent_id", "agent_key", "task_id", "tools"),
    )
)
"""Keys of an event that say where it belongs; the objects among them are told by other events."""
_TOLD_BY_OTHERS = re.compile(
    r"agent_execution_(?:started|completed)|lite_agent_execution_(?:started|completed)"
    r"|agent_logs_\w+|checkpoint_\w+|flow_(?:created|started|finished)|method_execution_\w+"
    r"|llm_stream_chunk|crew_kickoff_completed|tool_execution_error"
)
END = ("crew_kickoff_completed", "crew_kickoff_failed")
BEGIN = ("task_started", "llm_call_started", "lite_agent_execution_started")
_SETTINGS = (
    *("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty"),
    *("n", "stream"),
)
_EXCEPTION = re.compile(r"([A-Za-z_]\w*)\(")
_MOST_CHARS = 1 << 20


class _Ran(NamedTuple):
    """A tool that ran, before a message shows what the model was told of it."""

    event: Object
    pos: str
    failures: list[Object]


class Events:
    """Tells the events of one kickoff of a crew, or of an agent alone."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._conversations: dict[Any, RepeatedMessages] = {}
        self._asked: dict[str | None, tuple[Object, list[int], list[Object]]] = {}
        self._thinking: dict[str | None, list[str]] = defaultdict(list)
        self._waiting: dict[str | None, int] = defaultdict(int)
        self._ran: dict[str | None, deque[_Ran]] = defaultdict(deque)
        self._last_text: str | None = None
        self._tasks: list[Object] = []

    def tell(self, event: Object, pos: str) -> None:
        """Tell the next event."""
        kind, at = as_text(event.get("type")) or "", as_time(event.get("timestamp"))
        if kind == "crew_kickoff_started":
            names = {key: event[key] for key in ("crew_name", "inputs") if event.get(key)}
            self._add_metadata(**names)
            self._run.set(native_id=as_text(event.get("event_id")), started_at=at)
        elif kind == "task_started":
            self._begin_task(event)
        elif kind == "llm_call_started":
            self._ask(event, pos)
        elif kind == "llm_thinking_chunk":
            self._thinking[_call_id(event)].append(as_text(event.get("chunk")) or "")
        elif kind in ("llm_call_completed", "llm_call_failed"):
            self._tell_call(event, pos, at)
        elif kind.startswith("tool_") and kind != "tool_execution_error":
            self._tell_tool(kind, event, pos)
        elif kind == "task_completed":
            self._tell_unmatched()
            self._tell_output(as_object(event.get("output")), f"{pos}/output")
        elif kind.endswith(("_failed", "_error")):
            self._tell_error(kind, event, pos)
        elif kind == "context_window_summarization_completed":
            self._run.event("compaction", as_json(_content(event)), pos, at=at)
        elif not _TOLD_BY_OTHERS.fullmatch(kind):
            self._run.event("other", as_json(_content(event)), pos, error_type=kind or None, at=at)

    def close(self) -> None:
        """No more events will come; calls without an answer are told as such."""
        self._tell_unmatched()
        for started, shown, asked in self._asked.values():
            pos = as_text(started.get("at")) or ""
            self._begin_call(started, {}, pos, shown, asked)
        self._asked.clear()
        if self._tasks:
            self._add_metadata(tasks=self._tasks)
            if len(self._tasks) == 1:
                self._run.set(task_id=as_text(self._tasks[0].get("name")))

    def _add_metadata(self, **more: Any) -> None:
        if more:
            self._run.set(metadata={**(self._run.columns["metadata"] or {}), **more})

    def _conversation(self, event: Object) -> RepeatedMessages:
        """The messages of an agent at a task: each task begins with a system prompt of its own."""
        key = as_text(event.get("task_id")), as_text(event.get("agent_id"))
        if key not in self._conversations:
            self._conversations[key] = RepeatedMessages(
                self._run, _key, all_thoughts_of, self._tell_message
            )
        return self._conversations[key]

    def _begin_task(self, event: Object) -> None:
        task = as_object(event.get("task"))
        known = {key: task[key] for key in ("description", "expected_output") if task.get(key)}
        self._tasks.append({"name": as_text(event.get("task_name")), **known})

    # ------------------------------------------------------------------ model calls

    def _ask(self, event: Object, pos: str) -> None:
        asked = [_message(message) for message in as_array(event.get("messages"))]
        if isinstance(event.get("messages"), str):
            asked = [{"role": "user", "content": event["messages"]}]
        conversation = self._conversation(event)
        shown = conversation.take([(m, f"{pos}/messages/{n}") for n, m in enumerate(asked)])
        self._tell_unmatched()
        tools = [_definition(tool) for tool in as_array(event.get("tools"))]
        if tools:
            self._run.tools(tools)
        params = {key: event[key] for key in _SETTINGS if event.get(key) is not None}
        if params and self._run.columns["params"] is None:
            self._run.set(params=params)
        self._asked[_call_id(event)] = ({**event, "at": pos}, shown, asked)

    def _tell_call(self, event: Object, pos: str, at: Any) -> None:
        if _call_id(event) not in self._asked:
            self._ask(event, pos)
        started, shown, asked = self._asked.pop(_call_id(event))
        failed = as_text(event.get("error")) if event["type"] == "llm_call_failed" else None
        self._begin_call(started, event, pos, shown, asked)
        thinking = "".join(self._thinking.pop(_call_id(event), []))
        if thinking:
            self._run.thinking(thinking, pos, at=at)
        if failed is not None:
            self._run.update_step(error=failed)
            self._run.event("error", failed, f"{pos}/error", at=at)
            return
        reply = _reply(event.get("response"))
        tell = partial(self._tell_reply, reply, f"{pos}/response", at)
        self._conversation(started).reply(reply, as_text(event.get("agent_role")), tell)

    def _begin_call(
        self, started: Object, ended: Object, pos: str, shown: list[int], asked: list[Object]
    ) -> None:
        event = ended or started
        role = as_text(event.get("agent_role"))
        self._run.step(
            source_pos=pos,
            agent=role,
            model=as_text(event.get("model")),
            started_at=as_time(started.get("timestamp")),
            ended_at=as_time(ended.get("timestamp")),
            stop_reason=as_text(ended.get("finish_reason")),
            **_usage(ended.get("usage")),
        )
        self._conversation(started).saw(shown, asked, role, is_sure=False)
        # A provider's class may put thinking back that these messages lack.
        self._run.update_step(thinking_sent=None, thinking_context=None)
        if self._run.steps[-1].history_edit != "truncated":
            self._run.update_step(history_edit=None)

    def _tell_reply(self, reply: Object, pos: str, at: Any) -> None:
        for is_thinking, piece in split_think_tags(as_text(reply.get("content")) or ""):
            if is_thinking:
                self._run.thinking(piece, pos, state="tagged_in_text", at=at)
            else:
                self._run.message(piece, pos, at=at)
        for index, call in enumerate(as_array(reply.get("tool_calls"))):
            function = as_object(call.get("function"))
            tool = as_text(function.get("name"))
            place = f"{pos}/{index}"
            call_id = as_name(call.get("id"))
            self._run.call(tool, function.get("arguments"), place, call_id=call_id, at=at)
            self._waiting[tool] += 1
        self._last_text = as_text(reply.get("content")) or self._last_text

    def _tell_message(self, message: Object, pos: str) -> None:
        """A message that the log shows first in the messages of a call."""
        self._last_text, _ = text_and_media(message.get("content"))
        if message.get("role") == "tool":
            flags = self._flags_of(message)
            openai_chat.write_message(self._run, message, pos, **flags)
        elif message.get("role") == "assistant" and self._run.steps:
            # What an agent says of itself between two calls: no call of the model.
            text, media = text_and_media(message.get("content"))
            self._run.event("other", text, f"{pos}/content", actor="assistant", media=media)
        else:
            openai_chat.write_message(self._run, message, pos)

    # ------------------------------------------------------------------ tools

    def _tell_tool(self, kind: str, event: Object, pos: str) -> None:
        tool = as_text(event.get("tool_name"))
        if kind == "tool_usage_started":
            if self._waiting[tool]:
                self._waiting[tool] -= 1
            else:
                at = as_time(event.get("timestamp"))
                self._run.call(tool, event.get("tool_args"), f"{pos}/tool_args", at=at)
        elif kind in ("tool_usage_finished", "tool_usage_error"):
            self._ran[tool].append(_Ran(event, pos, []))
        elif kind == "tool_failure_detected" and self._ran[tool]:
            ran = next((r for r in self._ran[tool] if _failed(r) and not r.failures), None)
            (ran or self._ran[tool][-1]).failures.append(as_object(event.get("failure")))
        else:
            self._tell_error(kind, event, pos)

    def _flags_of(self, message: Object) -> dict[str, Any]:
        """What the events say of the response that a message shows; the text tells which of several."""
        ran = self._ran[as_text(message.get("name"))]
        if not ran:
            return {}
        text = text_and_media(message.get("content"))[0] or ""
        same = next((r for r in ran if not _failed(r) and _output(r) == text), None)
        found = same or next(filter(_failed, ran), ran[0])
        ran.remove(found)
        return _ending(found)

    def _tell_unmatched(self) -> None:
        """Tell what tools put out that no request has shown so far."""
        for tool, ran in self._ran.items():
            while ran:
                found = ran.popleft()
                key = "error" if "error" in found.event else "output"
                text = as_json(found.event.get(key))
                message = {"role": "tool", "content": text}
                more = {"tool": tool, "by_order": True, **_ending(found)}
                tell = partial(self._tell_result, text, f"{found.pos}/{key}", more)
                self._conversation(found.event).reply(message, None, tell)
                self._last_text = text

    def _tell_result(self, text: str | None, pos: str, more: dict[str, Any]) -> None:
        self._run.result(text, pos, **more)

    # ------------------------------------------------------------------ ends

    def _tell_output(self, output: Object, pos: str) -> None:
        """What came out of a task, where it is not what was said last."""
        text = as_text(output.get("raw"))
        if text and text != self._last_text:
            self._run.event("other", text, f"{pos}/raw", error_type="output")

    def _tell_error(self, kind: str, event: Object, pos: str) -> None:
        text = as_text(event.get("error")) or as_json(_content(event))
        place = f"{pos}/error" if "error" in event else pos
        named = as_text(event.get("error_type")) or kind
        self._run.event("error", text, place, error_type=named, at=as_time(event.get("timestamp")))
        if kind == "crew_kickoff_failed":
            self._run.outcome("error", end_reason=text)


def _call_id(event: Object) -> str | None:
    return as_text(event.get("call_id"))


def _content(event: Object) -> Object:
    """An event without its envelope."""
    return {key: v for key, v in event.items() if key not in ENVELOPE and v is not None}


def _failed(ran: _Ran) -> bool:
    return ran.event.get("type") == "tool_usage_error" or is_object(ran.event.get("failure"))


def _output(ran: _Ran) -> str | None:
    return as_json(ran.event.get("output"))


def _ending(ran: _Ran) -> dict[str, Any]:
    """How a tool ended, and how long it took."""
    began, ended = (as_time(ran.event.get(key)) for key in ("started_at", "finished_at"))
    took = (ended - began).total_seconds() if began and ended and began <= ended else None
    failures = [*ran.failures, as_object(ran.event.get("failure"))]
    named = _EXCEPTION.match(as_text(ran.event.get("error")) or "")
    codes = (as_text(f.get(key)) for f in failures for key in ("code", "reason"))
    code = next(filter(None, codes), named[1] if named else None)
    return {
        "is_error": _failed(ran),
        "error_type": code if _failed(ran) else None,
        "duration_s": took,
        "actor": "cache" if ran.event.get("from_cache") is True else None,
        "at": as_time(ran.event.get("timestamp")),
    }


def _usage(usage: Any) -> dict[str, int | None]:
    """Token columns; CrewAI's classes for Anthropic and Gemini count the cache as input as well."""
    usage = as_object(usage)
    asked = as_int(usage.get("prompt_tokens", usage.get("input_tokens")))
    details = as_object(usage.get("prompt_tokens_details"))
    cached = usage.get("cached_prompt_tokens", details.get("cached_tokens"))
    return {
        "input_tokens": asked,
        "output_tokens": as_int(usage.get("completion_tokens", usage.get("output_tokens"))),
        "reasoning_tokens": as_int(usage.get("reasoning_tokens")),
        "cached_tokens": as_int(cached),
    }


# ---------------------------------------------------------------------- messages


def _key(message: Object) -> Hashable:
    """What makes two writings of a message the same: not the form of its calls."""
    text, _ = text_and_media(message.get("content"))
    calls = tuple(as_name(as_object(c).get("id")) for c in as_array(message.get("tool_calls")))
    return as_text(message.get("role")), "".join((text or "").split()), calls


def _message(value: Any) -> Object:
    message = as_object(value)
    content, calls = message.get("content"), as_array(message.get("tool_calls"))
    if calls:
        message = {**message, "tool_calls": [_call(call) for call in calls]}
    if is_array(content):
        message = {**message, "content": [plain(part) for part in content]}
    return message


def _reply(response: Any) -> Object:
    """What a model answered: text, or calls in its provider's form."""
    if is_array(response):
        calls = [_call(call) for call in response]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    return {"role": "assistant", "content": as_json(response)}


def _call(value: Any) -> Object:
    """A call in OpenAI's form; a name in quotes shows that its arguments are in quotes too."""
    call = as_object(plain(value))
    body = as_object(plain(call.get("function"))) or call
    name = as_text(body.get("name")) or ""
    arguments = body.get("arguments", body.get("input"))
    if name[:1] in ("'", '"'):
        name, arguments = as_text(plain(name)) or name, plain(arguments)
    elif is_object(arguments) and any(_is_quoted(value) for value in arguments.values()):
        arguments = {key: plain(value) for key, value in arguments.items()}
    return {
        "id": as_name(plain(call.get("id"))),
        "function": {"name": name, "arguments": arguments},
    }


def _definition(tool: Any) -> tuple[str | None, str | None, Any]:
    body = as_object(as_object(plain(tool)).get("function")) or as_object(plain(tool))
    name, description = as_text(body.get("name")), as_text(body.get("description"))
    parameters = body.get("parameters", body.get("input_schema"))
    if _is_quoted(name):
        name, description = as_text(plain(name)), as_text(plain(description))
        parameters = plain(parameters)
    return name, description, parameters


def _is_quoted(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def plain(value: Any) -> Any:
    """The value that a text spells in Python's notation; anything else as it is.

    >>> plain("{'id': 'c1'}"), plain("'ls'"), plain("ls")
    ({'id': 'c1'}, 'ls', 'ls')
    """
    if not isinstance(value, str) or len(value) > _MOST_CHARS:
        return value
    if not _is_quoted(value) and value[:1] not in ("{", "["):
        return value
    try:
        found: Any = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return value
    is_json = isinstance(found, str) or is_object(found) or is_array(found)
    return found if is_json else value
