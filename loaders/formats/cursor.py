"""Cursor's agent: transcripts (JSON Lines), the command line's store (SQLite), and ``stream-json``.

A transcript has a message with content blocks on each line, and lines about the end of turns. Calls
mostly have no id there, and results, if any are written, are linked by their order. Subagents' transcripts
lie in a folder ``subagents`` beside their parent's, which starts them with the same prompt. Names of
blocks vary (``tool_use``, ``tool_call``; ``tool_result``, ``tool-result``); a block of another name that
has a text is told as something else. Neither tokens nor requests are logged.

The store (``store.db``) and the stream are described in ``_cursor_store`` and ``_cursor_stream``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats import _cursor_store, _cursor_stream
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "Cursor agent (transcript, store.db, stream-json)"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = {
    "type=system subtype=init /apiKeySource": "where the key of the account came from",
    "type=result /result": "repeats the text of the last message",
    "/model_call_id": "tells which lines are one call, which are one step",
    "/call_id": "links a result to its call, which is told",
    "type=result /duration_api_ms": "always equal to the duration, which is kept",
    "type=tool_call /tool_call/toolCallId": "repeats the id of the call",
}

_CALLS = ("tool_use", "tool_call", "tool-call")
_RESULTS = ("tool_result", "tool-result")
_STATUS = {"success": False, "error": True, "failure": True}
_OUTCOMES = {"error": "error", "failed": "error", "aborted": "cancelled", "cancelled": "cancelled"}
_FOREIGN = frozenset(("sessionId", "uuid", "session_id"))
_QUERY = ("<user_query>", "</user_query>")


def sniff(head: Head) -> bool:
    """A message of a transcript, the tables of a store, or an event of the stream."""
    if head.is_database:
        return _cursor_store.sniff(head)
    return any(
        _is_message(record) or _cursor_stream.is_event(record)
        for record in (head.first, *head.records)
    )


def _is_message(record: Any) -> bool:
    record = as_object(record)
    message = as_object(record.get("message"))
    is_own = "type" not in record and not _FOREIGN & record.keys()
    return (
        is_own and record.get("role") in ("user", "assistant") and is_array(message.get("content"))
    )


def read(source: Source, out: Builder) -> None:
    """One run per transcript, per store, and per session of a stream."""
    if source.head.is_database:
        _cursor_store.read(source, out)
    elif _cursor_stream.is_stream(source.head):
        _cursor_stream.read(source, out)
    else:
        _read_transcript(source, out)


def _read_transcript(source: Source, out: Builder) -> None:
    transcript: _Transcript | None = None
    for pos, record in source.records():
        with out.record(pos):
            if not is_object(record):
                raise UnreadableRecord("no line of a transcript", pos)
            if transcript is None:
                name = PurePosixPath(source.filename).stem
                run = out.trajectory(native_id=name, pos=pos, framework="cursor")
                transcript = _Transcript(run, _subagents(source))
            transcript.tell(record, pos)
    if transcript is not None:
        transcript.finish()


def _subagents(source: Source) -> dict[str, str]:
    """The names of the transcripts in the folder of subagents, by the prompt that began them."""
    found: dict[str, str] = {}
    for name in source.names_in("subagents"):
        file = source.beside(f"subagents/{name}") if name.endswith(".jsonl") else None
        if file is None:
            continue
        with suppress(OSError, UnreadableRecord):  # reading that file itself says why
            content = as_object(file.head.first.get("message")).get("content")
            found.setdefault(_prompt(_text(content)), PurePosixPath(name).stem)
        source.companions.remove(file)
        file.release()
    return found


def _prompt(text: str | None) -> str:
    """What was asked, without what the harness writes around it."""
    text = text or ""
    start, stop = text.find(_QUERY[0]), text.rfind(_QUERY[1])
    return (text[start + len(_QUERY[0]) : stop] if 0 <= start < stop else text).strip()


class _Transcript:
    """Tells the lines of a transcript."""

    def __init__(self, run: Run, subagents: dict[str, str]) -> None:
        self.run = run
        self._subagents = subagents
        self._status: str | None = None

    def tell(self, record: Object, pos: str) -> None:
        """One line: a message, or the end of a turn."""
        role, message = as_text(record.get("role")), record.get("message")
        if role is None or not is_object(message):
            self._tell_other(record, pos)
            return
        rest = {k: v for k, v in record.items() if k not in ("role", "message", "model")}
        status = as_text(as_object(record.get("metadata")).get("toolResultStatus"))
        at = as_time(record.get("timestamp"))
        if role == "assistant":
            self.run.step(source_pos=pos, model=as_text(record.get("model")), ended_at=at)
        content = message.get("content")
        if isinstance(content, str):
            tell = self.run.message if role == "assistant" else self.run.user
            tell(content, f"{pos}/message/content")
        elif not is_array(content):
            self.run.problem(f"{pos}/message/content", "no blocks of a message")
        for index, block in enumerate(as_array(content)):
            place = f"{pos}/message/content/{index}"
            if is_object(block) and block:
                self._tell_block(block, place, role, _STATUS.get(status or ""))
            else:
                self.run.problem(place, "an empty block")
        if rest:
            self.run.event("other", as_json(rest), pos, actor="line", at=at)

    def _tell_block(self, block: Object, pos: str, role: str, is_error: bool | None) -> None:
        kind, text = as_text(block.get("type")), as_text(block.get("text"))
        if kind in _CALLS:
            self._tell_call(block, pos)
        elif kind in _RESULTS:
            self._tell_result(block, pos, is_error)
        elif kind in ("thinking", "reasoning"):
            said, signature = (
                as_text(block.get("thinking")) or text,
                as_text(block.get("signature")),
            )
            state = "text" if said else "hidden"
            self.run.thinking(said or None, pos, state=state, signature=signature)
        elif kind in ("redacted_thinking", "redacted-reasoning"):
            self.run.thinking(None, pos, state="redacted", signature=as_text(block.get("data")))
        elif kind != "text" and text is not None:
            self.run.event("other", text, f"{pos}/text", actor=kind)
        elif role == "user":
            media = None if text is not None else [kind or "unknown"]
            self.run.user(text, f"{pos}/text" if text is not None else pos, media=media)
        elif text is not None:
            self.run.message(text, f"{pos}/text")
        else:
            self.run.event("other", as_json(block or None), pos, actor=kind)

    def _tell_call(self, block: Object, pos: str) -> None:
        name = as_text(block.get("id")) or as_text(block.get("toolCallId"))
        given = block.get("input", block.get("args"))
        tool = as_text(block.get("name")) or as_text(block.get("toolName"))
        seq = self.run.call(tool, given, pos, call_id=name)
        child = self._subagents.get((as_text(as_object(given).get("prompt")) or "").strip())
        if child is not None:
            self.run.spawned(child, seq)
        rest = {k: v for k, v in block.items() if k not in _TOLD_OF_A_CALL}
        if rest:
            self.run.event("other", as_json(rest), pos, actor="tool_call")

    def _tell_result(self, block: Object, pos: str, is_error: bool | None) -> None:
        content = block.get("content", block.get("result"))
        flag = as_bool(block.get("is_error"))
        self.run.result(
            _text(content),
            pos,
            call_id=as_text(block.get("tool_use_id")) or as_text(block.get("toolCallId")),
            tool=as_text(block.get("name")) or as_text(block.get("toolName")),
            by_order=True,
            media=_media(content),
            is_error=is_error if flag is None else flag,
        )

    def _tell_other(self, record: Object, pos: str) -> None:
        kind = as_text(record.get("type"))
        if kind is None:
            raise UnreadableRecord("neither a message nor the end of a turn", pos)
        if kind == "turn_ended":
            self._status = as_text(record.get("status"))
        rest = {k: v for k, v in record.items() if k != "type"}
        self.run.event("other", as_json(rest or None), pos, actor=kind)

    def finish(self) -> None:
        """How the last turn ended."""
        self.run.outcome(_OUTCOMES.get(self._status or ""), end_reason=self._status)


_TOLD_OF_A_CALL = ("type", "id", "toolCallId", "name", "toolName", "input", "args")


def _media(content: Any) -> list[str] | None:
    parts = [as_object(part) for part in content] if is_array(content) else []
    types = [as_text(part.get("type")) or "unknown" for part in parts]
    return [kind for kind in types if kind != "text"] or None


def _text(content: Any) -> str | None:
    """The text of a content; of what is neither text nor blocks, its JSON."""
    if not is_array(content):
        return as_json(content)
    texts = [text for part in content if (text := as_text(as_object(part).get("text"))) is not None]
    return "\n".join(texts) if texts else as_json(content or None)
