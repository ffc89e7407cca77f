"""What ``droid exec --output-format stream-json`` prints: flat events of a run as they happen.

Model calls are not marked: what the model thinks, says or calls after a result, or after the user,
begins one. Reasoning is printed twice under one id, and the last reply once more as ``finalText``;
each is told once. Usage is a sum over the whole run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.dialects.anthropic import usage_columns
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_object,
)

REMINDER = "<system-reminder>", "</system-reminder>"
"""Between these tags stands what the harness adds to a user's message."""

_SUMS = {"numTurns": "turns", "durationMs": "duration_ms"}


def is_stream_event(record: Any) -> bool:
    """Whether a record is one of the events that only such a stream has."""
    if not is_object(record):
        return False
    kind, session = record.get("type"), session_of(record)
    if kind == "completion":
        return "finalText" in record
    if kind == "tool_call":
        return {"toolName", "parameters"} <= record.keys()
    if kind == "tool_result":
        return "value" in record and bool({"toolCallId", "toolId"} & record.keys())
    if kind == "message":
        return session is not None and "role" in record and isinstance(record.get("text"), str)
    return kind == "system" and session is not None and "reasoning_effort" in record


def session_of(event: Object) -> str | None:
    """The name of the session that an event belongs to; newer versions write it in snake case."""
    return as_text(event.get("session_id")) or as_text(event.get("sessionId"))


def actor_of(text: str | None) -> str | None:
    """The harness, where a user's text is nothing but its reminder."""
    text = (text or "").strip()
    return "harness" if text.startswith(REMINDER[0]) and text.endswith(REMINDER[1]) else None


class Stream:
    """Tells one session event by event."""

    def __init__(self, run: Run, name: str | None) -> None:
        self.run = run
        self.name = name
        self._is_open = False
        self._said: str | None = None
        self._reasoned: set[str] = set()
        self._sums: Object = {}

    def tell(self, event: Object, pos: str) -> None:
        """The next event."""
        at = as_time(event.get("timestamp"))
        text = as_text(event.get("text"))
        kind = as_text(event.get("type")) or "unknown"
        if kind == "system":
            self._tell_start(event, at)
        elif kind == "message" and event.get("role") == "assistant":
            self._begin_call(pos)
            self._said = text
            self.run.message(text, f"{pos}/text", at=at)
        elif kind == "message":
            self._is_open = False
            role = as_text(event.get("role"))
            actor = actor_of(text) if role == "user" else role
            self.run.user(text, f"{pos}/text", actor=actor, at=at)
        elif kind == "reasoning":
            self._tell_reasoning(event, text, pos, at)
        elif kind == "tool_call":
            self._begin_call(pos)
            name = as_text(event.get("toolName")) or as_text(event.get("toolId"))
            self.run.call(name, event.get("parameters"), pos, call_id=_call_id(event), at=at)
        elif kind == "tool_result":
            self._is_open = False
            self._tell_result(event, pos, at)
        elif kind == "completion":
            self._tell_end(event, pos, at)
        elif kind == "error":
            said = as_text(event.get("message")) or text
            source = as_text(event.get("source"))
            self.run.event("error", said, pos, actor=source or "harness", at=at)
            self.run.outcome("error", end_reason=said or "error")
        else:
            self.run.event("other", as_json(event), pos, error_type=kind, at=at)

    def _begin_call(self, pos: str) -> None:
        if not self._is_open:
            self._is_open = True
            self.run.step(source_pos=pos)

    def _tell_start(self, event: Object, at: datetime | None) -> None:
        effort = as_text(event.get("reasoning_effort"))
        self.run.set(
            started_at=at,
            model=as_text(event.get("model")),
            params={"reasoning_effort": effort} if effort else None,
        )
        self.run.environment(cwd=as_text(event.get("cwd")))
        names = [as_text(name) for name in as_array(event.get("tools"))]
        if names:
            self.run.tools((name, None, None) for name in names)

    def _tell_reasoning(
        self, event: Object, text: str | None, pos: str, at: datetime | None
    ) -> None:
        name = as_name(event.get("id")) or pos
        if name not in self._reasoned:
            self._reasoned.add(name)
            self._begin_call(pos)
            state = "text" if text else "hidden"
            self.run.thinking(text or None, f"{pos}/text" if text else pos, state=state, at=at)

    def _tell_result(self, event: Object, pos: str, at: datetime | None) -> None:
        value = event.get("value")
        output = as_object(value)
        shown = [as_text(output.get(key)) for key in ("stdout", "stderr") if key in output]
        is_shown = any(text is not None for text in shown)
        self.run.result(
            "\n".join(text for text in shown if text) if is_shown else as_json(value),
            f"{pos}/value" if "value" in event else pos,
            call_id=_call_id(event),
            is_error=as_bool(event.get("isError")),
            exit_code=as_int(output.get("exitCode")),
            at=at,
        )

    def _tell_end(self, event: Object, pos: str, at: datetime | None) -> None:
        final = as_text(event.get("finalText"))
        if final and final != self._said:
            self._begin_call(pos)
            self.run.message(final, f"{pos}/finalText", at=at)
        self._is_open = False
        usage = as_object(event.get("usage"))
        if usage:
            tokens = usage_columns(usage)
            tokens["reasoning_tokens"] = as_int(usage.get("thinking_tokens"))
            self.run.set(**{name: n for name, n in tokens.items() if n is not None})
        for key, name in _SUMS.items():
            if (number := as_float(event.get(key))) is not None:
                self._sums[name] = number
        self.run.set(ended_at=at, metadata=self._sums)
        is_error = event.get("is_error", event.get("isError")) is True
        self.run.outcome("error" if is_error else None, end_reason="completion")


def _call_id(event: Object) -> str | None:
    return as_name(event.get("toolCallId")) or as_name(event.get("id"))
