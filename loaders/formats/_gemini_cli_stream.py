"""Gemini CLI's ``--output-format stream-json``: events of a run as they happen.

Thinking has no place in it, and tokens are summed over the run. ``output`` of a tool is what the
user was shown; the model may have been given more. Model calls are not marked: what the model says
or calls after a result, or after the user, begins one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.run import Run
from loaders.values import Object, as_int, as_json, as_object, as_text, as_time


def is_stream_event(record: Any) -> bool:
    """Whether this is the first event of a stream."""
    record = as_object(record)
    return record.get("type") == "init" and "session_id" in record


class Stream:
    """Tells a stream event by event."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_open = False
        self.said: list[str] = []
        self.said_at: tuple[str, datetime | None] = ("", None)
        run.set(framework="gemini-cli")

    def tell(self, event: Object, pos: str) -> None:
        run, kind, at = self.run, as_text(event.get("type")), as_time(event.get("timestamp"))
        if kind == "message" and event.get("role") == "assistant":
            self._say(event, pos, at)
            return
        self._end_message()
        if kind == "init":
            run.set(model=as_text(event.get("model")), started_at=at)
        elif kind == "message":
            run.user(as_text(event.get("content")), f"{pos}/content", at=at)
            self.is_open = False
        elif kind == "tool_use":
            self._begin_call(pos)
            name, call_id = as_text(event.get("tool_name")), as_text(event.get("tool_id"))
            run.call(name, event.get("parameters"), pos, call_id=call_id, at=at)
        elif kind == "tool_result":
            self._tell_result(event, pos, at)
        elif kind == "error":
            text = as_text(event.get("message"))
            run.event("error", text, pos, error_type=as_text(event.get("severity")), at=at)
        elif kind == "result":
            self._conclude(event, at)
        else:
            run.event("other", as_json(event), pos, actor=kind, at=at)

    def _say(self, event: Object, pos: str, at: datetime | None) -> None:
        """Pieces of one message are one event; only a piece goes on."""
        if event.get("delta") is not True:
            self._end_message()
        if not self.said:
            self.said_at = f"{pos}/content", at
        self.said.append(as_text(event.get("content")) or "")

    def _end_message(self) -> None:
        text, (pos, at) = "".join(self.said), self.said_at
        if text:
            self._begin_call(pos.removesuffix("/content"))
            self.run.message(text, pos, at=at)
        self.said = []

    def _begin_call(self, pos: str) -> None:
        if not self.is_open:
            self.is_open = True
            model = self.run.columns["model"]
            self.run.step(source_pos=pos, model=model, thinking="not_logged")

    def _tell_result(self, event: Object, pos: str, at: datetime | None) -> None:
        error, output = as_object(event.get("error")), as_text(event.get("output"))
        message = as_text(error.get("message"))
        place = "/output" if output is not None else "/error" if message is not None else ""
        self.run.result(
            message if output is None else output,
            pos + place,
            call_id=as_text(event.get("tool_id")),
            is_error={"success": False, "error": True}.get(as_text(event.get("status")) or ""),
            error_type=as_text(error.get("type")),
            at=at,
        )
        self.is_open = False

    def _conclude(self, event: Object, at: datetime | None) -> None:
        stats, status = as_object(event.get("stats")), as_text(event.get("status"))
        sent, received = as_int(stats.get("input_tokens")), as_int(stats.get("output_tokens"))
        error = as_object(event.get("error"))
        is_whole = stats.get("total_tokens") == (sent or 0) + (received or 0)
        self.run.set(
            input_tokens=sent,
            output_tokens=received if is_whole else None,  # else without what was thought
            cached_tokens=as_int(stats.get("cached")),
            ended_at=at,
            metadata={"stats": stats, **({"error": error} if error else {})},
        )
        reason = as_text(error.get("message")) or status
        self.run.outcome("error" if status == "error" else None, end_reason=reason)

    def finish(self) -> None:
        """The stream ends here."""
        self._end_message()
