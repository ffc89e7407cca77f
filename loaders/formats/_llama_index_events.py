"""LlamaIndex's agent events: what an agent was given, put out, called and got back, in their order."""

from __future__ import annotations

from functools import partial
from typing import Any

from loaders.dialects import anthropic, openai_chat
from loaders.dialects.requests import RepeatedMessages
from loaders.formats._llama_index_messages import (
    REPLIES,
    calls_of,
    key_of,
    tell_message,
    tell_reply,
    text_of,
    thoughts_of,
)
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

_ENGINE = ("StepStateChanged", "EventsQueueChanged", "UnhandledEvent")
_LIMIT = "Max iterations of "
_ENDS = {"WorkflowFailedEvent": "error", "WorkflowCancelledEvent": "cancelled"}


def event_of(record: Any, pos: str = "") -> tuple[str, Object, str] | None:
    """Name, content and place of an event, however it was dumped; None for anything else."""
    record = as_object(record)
    name = as_text(record.get("qualified_name")) or ""
    if "__is_pydantic" in record or (name and is_object(record.get("value"))):
        inner = as_object(record.get("value"))
        return name.rpartition(".")[2] or _name_by_keys(inner) or "", inner, f"{pos}/value"
    name = _name_by_keys(record)
    return None if name is None else (name, record, pos)


def _name_by_keys(event: Object) -> str | None:
    if "current_agent_name" in event:
        found = (("input", "AgentInput"), ("delta", "AgentStream"), ("response", "AgentOutput"))
        return next((name for key, name in found if key in event), None)
    if {"tool_name", "tool_kwargs", "tool_id"} <= event.keys():
        return "ToolCallResult" if "tool_output" in event else "ToolCall"
    if event.keys() == {"result"} and "current_agent_name" in as_object(event["result"]):
        return "StopEvent"
    return "AgentWorkflowStartEvent" if {"user_msg", "chat_history"} <= event.keys() else None


def flags_of(output: Object) -> dict[str, Any]:
    """What a tool's output says of its success."""
    return {"is_error": as_bool(output.get("is_error"))}


class Events:
    """Tells the events of one conversation of an agent, or of several that hand over to each other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._messages = RepeatedMessages(run, key_of, thoughts_of, self._tell_repeated)
        self._keys: set[Any] = set()
        self._shown: tuple[list[int], list[Object]] | None = None
        self._calls: set[str] = set()
        self._streamed: tuple[str, str, list[str], str] | None = None
        self._last_text: str | None = None
        self._has_stopped = self._has_replied = False

    def goes_on(self, event: tuple[str, Object, str]) -> bool:
        """Whether an event belongs to this conversation: after its end, only if it repeats some."""
        name, value, _ = event
        if not self._has_stopped:
            return True
        if name not in ("AgentInput", "AgentSetup"):
            return name not in ("StartEvent", "AgentWorkflowStartEvent")
        asked = map(as_object, as_array(value.get("input")))
        return any(key_of(m) in self._keys for m in asked if m.get("role") in REPLIES)

    def tell(self, name: str, event: Object, pos: str) -> None:
        """Tell the next event."""
        if name in ("AgentInput", "AgentSetup"):
            self._tell_input(event, pos, is_whole=name == "AgentInput")
        elif name == "AgentOutput":
            self._tell_output(event, pos)
        elif name == "AgentStream":
            self._note_stream(event, pos)
        elif name == "ToolCall":
            self._tell_call(event, pos)
        elif name == "ToolCallResult":
            self._tell_result(event, pos)
        elif name in ("StartEvent", "AgentWorkflowStartEvent"):
            inner = as_object(event.get("_data"))
            self._tell_start(inner or event, f"{pos}/_data" if inner else pos)
        elif name == "StopEvent" or name in _ENDS or name == "WorkflowTimedOutEvent":
            self._tell_end(name, event, pos)
        elif name not in _ENGINE:
            self._run.event("other", as_json(event), pos, error_type=name or None)

    def close(self) -> None:
        """No more events will come: a reply that was still being streamed is told."""
        if self._streamed is not None:
            agent, text, thinking, pos = self._streamed
            self._begin_call(agent, pos)
            if thinking:
                self._run.thinking("".join(thinking), pos)
            if text:
                self._run.message(text, f"{pos}/response")
        self._streamed = None

    def _tell_start(self, event: Object, pos: str) -> None:
        limits = {key: event[key] for key in ("max_iterations",) if event.get(key) is not None}
        if limits:
            self._run.set(metadata={**(self._run.columns["metadata"] or {}), **limits})
        asked = event.get("user_msg")
        if isinstance(asked, str):
            self._take([({"role": "user", "content": asked}, f"{pos}/user_msg")])

    def _tell_input(self, event: Object, pos: str, *, is_whole: bool) -> None:
        asked = [as_object(message) for message in as_array(event.get("input"))]
        shown = self._take([(m, f"{pos}/input/{n}") for n, m in enumerate(asked)])
        self._shown = (shown, asked) if is_whole else None

    def _take(self, messages: list[tuple[Object, str]]) -> list[int]:
        self._keys.update(key_of(message) for message, _ in messages)
        return self._messages.take(messages)

    def _tell_repeated(self, message: Object, pos: str) -> None:
        """A message that the log shows first in the input of a call."""
        if message.get("role") in REPLIES and self._has_replied:
            place = f"{pos}/blocks" if is_array(message.get("blocks")) else pos
            self._run.event("other", text_of(message), place, actor=as_text(message.get("role")))
            return
        if pos.endswith("/user_msg"):
            self._run.user(as_text(message.get("content")), pos)
            return
        tell_message(self._run, message, pos)
        self._calls.update(filter(None, (call.call_id for call in calls_of(message))))

    def _begin_call(self, agent: str | None, pos: str, **columns: Any) -> None:
        self._run.step(source_pos=pos, agent=agent, **columns)
        if self._shown is not None:
            self._messages.saw(*self._shown, agent, is_sure=False)
        self._shown, self._streamed, self._has_replied = None, None, True

    def _tell_output(self, event: Object, pos: str) -> None:
        message = as_object(event.get("response"))
        agent, raw = as_text(event.get("current_agent_name")), as_object(event.get("raw"))
        choice = as_object(next(iter(as_array(raw.get("choices"))), None))
        self._begin_call(
            agent,
            pos,
            model=as_text(raw.get("model")),
            stop_reason=as_text(choice.get("finish_reason")) or as_text(raw.get("stop_reason")),
            **_usage(raw),
        )
        self._messages.reply(message, agent, partial(self._write_output, event, message, raw, pos))
        self._keys.add(key_of(message))
        self._last_text = text_of(message)
        if event.get("structured_response") is not None:
            text = as_json(event["structured_response"])
            self._run.event("other", text, f"{pos}/structured_response", error_type="structured")
        retries = [as_object(message) for message in as_array(event.get("retry_messages"))]
        self._take([(m, f"{pos}/retry_messages/{n}") for n, m in enumerate(retries)])

    def _write_output(self, event: Object, message: Object, raw: Object, pos: str) -> None:
        if not any(thoughts_of(message)):  # older versions keep it in the raw response alone
            choice = as_object(next(iter(as_array(raw.get("choices"))), None))
            for thought in openai_chat.thoughts_of(as_object(choice.get("message"))):
                where = f"{pos}/raw/choices/0/message{thought.pointer}"
                self._run.thinking(thought.text, where, state=thought.state)
        tell_reply(self._run, message, f"{pos}/response")
        self._calls.update(filter(None, (call.call_id for call in calls_of(message))))
        for index, call in enumerate(as_array(event.get("tool_calls"))):
            self._tell_call(as_object(call), f"{pos}/tool_calls/{index}")

    def _note_stream(self, event: Object, pos: str) -> None:
        agent, text = as_text(event.get("current_agent_name")) or "", as_text(event.get("response"))
        pieces = self._streamed[2] if self._streamed else []
        if piece := as_text(event.get("thinking_delta")):
            pieces.append(piece)
        self._streamed = agent, text or "", pieces, pos

    def _tell_call(self, event: Object, pos: str) -> None:
        call_id = as_name(event.get("tool_id"))
        if call_id is None or call_id not in self._calls:
            tool = as_text(event.get("tool_name"))
            self._run.call(tool, event.get("tool_kwargs"), pos, call_id=call_id)
            self._calls.add(call_id or "")

    def _tell_result(self, event: Object, pos: str) -> None:
        output, call_id = as_object(event.get("tool_output")), as_name(event.get("tool_id"))
        message = {
            "role": "tool",
            "additional_kwargs": {"tool_call_id": call_id, "name": event.get("tool_name")},
            **{key: output[key] for key in ("blocks", "content") if key in output},
        }
        place = f"{pos}/tool_output" if "tool_output" in event else pos
        tell = partial(tell_message, self._run, message, place, **flags_of(output))
        self._messages.reply(message, None, tell)
        self._last_text = text_of(message)

    def _tell_end(self, name: str, event: Object, pos: str) -> None:
        self._has_stopped = True
        result = as_object(event.get("result"))
        text = text_of(as_object(result.get("response"))) or as_text(event.get("result"))
        if text and text != self._last_text:
            self._run.event("other", text, f"{pos}/result", error_type="result")
        if name != "StopEvent":
            known = as_object(event.get("exception")) or event
            place = f"{pos}/exception" if known is not event else pos
            kind, words = (as_text(known.get(f"exception_{key}")) for key in ("type", "message"))
            reason = ": ".join(filter(None, (kind, words))) or name
            outcome = "limit" if words and words.startswith(_LIMIT) else _ENDS.get(name, "limit")
            self._run.outcome(outcome, end_reason=reason)
            self._run.event("error", words, place, error_type=kind or name)


def _usage(raw: Object) -> dict[str, int | None]:
    usage = as_object(raw.get("usage"))
    return (anthropic if "input_tokens" in usage else openai_chat).usage_columns(usage)
