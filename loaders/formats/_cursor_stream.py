"""Cursor's ``--output-format stream-json``: the events of a session on its standard output.

``system`` begins a session. A reply's text, its thinking (in pieces) and its calls are lines of their own:
they are one model call until a result of a tool or the user comes between, or where ``model_call_id``
changes. A call is named by the key of its object (``readToolCall``), its result is told by the key inside
(``success``, ``error``, ``rejected``). ``result`` ends the session, with sums of its tokens in newer
versions; a session that fails ends without it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_object,
    total,
)

_INIT = {"session_id", "model", "cwd", "permissionMode"}
_OF_OTHERS = frozenset(("tools", "mcp_servers", "uuid", "slash_commands"))
_IS_ERROR = {"success": False, "error": True, "failure": True}
_SUFFIX = "ToolCall"


def is_event(record: Any) -> bool:
    """Whether a record is an event that only this stream has: a call, or its own beginning."""
    record = as_object(record)
    kind, subtype = record.get("type"), record.get("subtype")
    if kind == "tool_call":
        return subtype in ("started", "completed") and is_object(record.get("tool_call"))
    is_init = kind == "system" and subtype == "init" and record.keys() >= _INIT
    return is_init and not _OF_OTHERS & record.keys()


def is_stream(head: Head) -> bool:
    """Whether a file is a stream."""
    return any(is_event(record) for record in (head.first, *head.records))


def read(source: Source, out: Builder) -> None:
    """One run per session."""
    stream: _Stream | None = None
    for pos, event in source.records():
        with out.record(pos):
            if not is_object(event) or as_text(event.get("type")) is None:
                raise UnreadableRecord("no event of a stream", pos)
            name = as_text(event.get("session_id"))
            if stream is None or (name is not None and name != stream.name):
                if stream is not None:
                    stream.finish()
                run = out.trajectory(native_id=name, pos=pos, framework="cursor")
                stream = _Stream(run, name)
            stream.tell(event, pos)
    if stream is not None:
        stream.finish()


class _Stream:
    """Tells the events of one session."""

    def __init__(self, run: Run, name: str | None) -> None:
        self.run = run
        self.name = name
        self._model: str | None = None
        self._in_call = False
        self._call: str | None = None
        self._thought: list[str] = []
        self._thought_at: tuple[str, datetime | None] = ("", None)
        self._calls: dict[str, int] = {}

    def tell(self, event: Object, pos: str) -> None:
        """One event."""
        kind, at = event["type"], as_time(event.get("timestamp_ms"))
        if kind == "thinking" and event.get("subtype") == "delta":
            if not self._thought:
                self._thought_at = pos, at
            self._thought.append(as_text(event.get("text")) or "")
            return
        self._tell_thought()
        if kind == "system":
            self._begin(event, pos)
        elif kind == "user":
            self._in_call = False
            self._tell_parts(event, pos, at)
        elif kind == "assistant":
            self._need_step(event, pos, at)
            self._tell_parts(event, pos, at)
        elif kind == "tool_call":
            self._tell_tool(event, pos, at)
        elif kind == "result":
            self._end(event, pos, at)
        elif kind != "thinking":
            self.run.event("other", as_json(event), pos, actor=as_text(kind), at=at)

    def _begin(self, event: Object, pos: str) -> None:
        self._model = as_text(event.get("model"))
        self.run.set(model=self._model)
        self.run.environment(cwd=as_text(event.get("cwd")))
        if mode := as_text(event.get("permissionMode")):
            self.run.set(metadata={"permission_mode": mode})
        if event.get("subtype") != "init":
            self.run.event("other", as_json(event), pos, actor="system")

    def _need_step(self, event: Object, pos: str, at: datetime | None) -> None:
        call = as_text(event.get("model_call_id"))
        if not self._in_call or (call and self._call and call != self._call):
            self.run.step(source_pos=pos, model=self._model, started_at=at)
            self._in_call, self._call = True, None
        self._call = call or self._call

    def _tell_thought(self) -> None:
        pieces, self._thought = self._thought, []
        if pieces:
            pos, at = self._thought_at
            self._need_step({}, pos, at)
            self.run.thinking("".join(pieces), pos, at=at)

    def _tell_parts(self, event: Object, pos: str, at: datetime | None) -> None:
        message = as_object(event.get("message"))
        for index, part in enumerate(map(as_object, as_array(message.get("content")))):
            text, place = as_text(part.get("text")), f"{pos}/message/content/{index}"
            media = None if text is not None else [as_text(part.get("type")) or "unknown"]
            tell = self.run.user if event["type"] == "user" else self.run.message
            tell(text, place, media=media, at=at)

    def _tell_tool(self, event: Object, pos: str, at: datetime | None) -> None:
        name = as_text(event.get("call_id")) or ""
        call = as_object(event.get("tool_call"))
        key = next((k for k in call if k.endswith(_SUFFIX) or k == "function"), None)
        tool = as_object(call.get(key or ""))
        if name not in self._calls:
            self._need_step(event, pos, at)
            given = tool.get("args", tool.get("arguments"))
            called = as_text(tool.get("name")) or (key or "").removesuffix(_SUFFIX) or None
            place = f"{pos}/tool_call"
            self._calls[name] = self.run.call(called, given, place, call_id=name or None, at=at)
        if event.get("subtype") != "completed":
            return
        self._in_call = False
        result = tool.get("result")
        ending = next(iter(as_object(result)), None)
        self.run.result(
            _result_text(as_object(result).get(ending or "") if ending else result),
            f"{pos}/tool_call",
            answers=self._calls[name],
            call_id=name or None,
            is_error=_IS_ERROR.get(ending or ""),
            error_type=ending if ending not in (None, "success") else None,
            at=at,
        )

    def _end(self, event: Object, pos: str, at: datetime | None) -> None:
        failed = as_bool(event.get("is_error"))
        self.run.outcome("error" if failed else None, end_reason=as_text(event.get("subtype")))
        usage = as_object(event.get("usage"))
        cached = as_int(usage.get("cacheReadTokens"))
        given = as_int(usage.get("inputTokens")), as_int(usage.get("cacheWriteTokens"))
        self.run.set(
            input_tokens=total(*given, cached),
            output_tokens=as_int(usage.get("outputTokens")),
            cached_tokens=cached,
        )
        rest = {k: event[k] for k in ("duration_ms", "request_id") if event.get(k) is not None}
        self.run.event("other", as_json(rest or None), pos, actor="result", at=at)

    def finish(self) -> None:
        """Thinking that nothing followed."""
        self._tell_thought()


def _result_text(result: Any) -> str | None:
    """What a tool gave: its one text, or all of it."""
    said = as_object(result)
    texts = [as_text(said.get(key)) for key in ("content", "stdout", "message", "error")]
    known = [text for text in texts if text is not None]
    return known[0] if len(known) == 1 and len(said) == 1 else as_json(result)
