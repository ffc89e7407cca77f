"""Cursor's store of a chat: ``store.db``, with the tables ``meta`` and ``blobs``.

``meta`` holds one JSON object in hexadecimal digits, and names the blob of the latest state. Blobs are
named by their content: messages in JSON, in the shape of the AI SDK, and states in protobuf. The
latest state lists its messages (field 1, repeated, 32 bytes each), which gives their order. Where it is
missing or can't be read, messages are told in the order in which they were written. Messages that it
does not list were in the history once: they are counted, and a problem says so. A result's flag stands
beside its text, in what Cursor keeps of it for itself. Tokens and times of calls are not stored.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.databases import opened, plain_tables
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.jsontext import decode
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

_BLOBS, _META = "blobs", "meta"
_TABLES = tuple(re.compile(rb"TABLE [\"`\[]?%s\b" % name.encode()) for name in (_BLOBS, _META))
_FIELD_OF_MESSAGES, _FIELD_OF_FOLDER, _BYTES_OF_NAME = 1, 9, 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def sniff(head: Head) -> bool:
    """A database whose first page describes the two tables."""
    return all(table.search(head.data) for table in _TABLES)


def read(source: Source, out: Builder) -> None:
    """One run, if there is a conversation."""
    with opened(source) as connection:
        missing = {_BLOBS, _META} - plain_tables(connection)
        if missing:
            raise UnreadableRecord(f"no store of a chat: it lacks {', '.join(sorted(missing))}")
        key, meta = _meta(connection, source)
        blobs = dict(_rows(connection, source))
    root = blobs.get(as_text(meta.get("latestRootBlobId")) or "")
    names, folder = _state(root) if root is not None else (None, None)
    messages = {name: message for name, data in blobs.items() if (message := _message(data))}
    if not messages:
        source.problem(None, "a store of a chat that holds no conversation", "warning")
        return
    pos = _place(_META, key) if key else _place(_BLOBS, next(iter(messages)))
    run = _begin(out, meta, pos, folder)
    if not names:
        source.problem(None, "no latest state: messages stand as they were written", "warning")
        names = list(messages)
    teller = _Teller(run)
    for name in names:
        with out.record(_place(_BLOBS, name)):
            if name not in messages:
                raise UnreadableRecord("a message of the latest state is not there")
            teller.tell(messages[name], _place(_BLOBS, name))
    if left := messages.keys() - set(names):
        run.problem(None, f"{len(left)} messages that the latest state does not list are not told")


def _place(table: str, key: str) -> str:
    return f"/{table}/{key.replace('~', '~0').replace('/', '~1')}"


def _begin(out: Builder, meta: Object, pos: str, folder: str | None) -> Run:
    facts = {"name": "title", "mode": "mode", "lastUsedModel": "last_used_model"}
    run = out.trajectory(
        native_id=as_text(meta.get("agentId")),
        pos=pos,
        framework="cursor",
        started_at=as_time(meta.get("createdAt")),
        metadata={
            fact: meta[name] for name, fact in facts.items() if as_text(meta.get(name)) is not None
        },
    )
    run.environment(cwd=folder)
    return run


def _meta(connection: sqlite3.Connection, source: Source) -> tuple[str | None, Object]:
    """The key and the object of what the store says of itself."""
    try:
        rows = connection.execute("SELECT key, value FROM meta").fetchmany(100)
    except sqlite3.Error as error:
        source.problem(f"/{_META}", f"can't be read: {error}")
        return None, {}
    for key, value in rows:
        try:
            found = decode(bytes.fromhex(value if isinstance(value, str) else ""))
        except (ValueError, UnreadableRecord):
            continue
        if isinstance(key, str) and is_object(found):
            return key, found
    source.problem(f"/{_META}", "nothing there says what the store is of")
    return None, {}


def _rows(connection: sqlite3.Connection, source: Source) -> Iterator[tuple[str, bytes]]:
    """All blobs with their names; of a damaged table, those before the damage."""
    try:
        for name, data in connection.execute("SELECT id, data FROM blobs"):
            if isinstance(name, str) and isinstance(data, bytes | str):
                yield name, data.encode() if isinstance(data, str) else data
            else:
                source.problem(f"/{_BLOBS}", "a row that is no blob with a name")
    except sqlite3.Error as error:
        source.problem(f"/{_BLOBS}", f"can't be read further: {error}")


def _message(data: bytes) -> Object | None:
    """The message that a blob holds, if it is one."""
    if data[:1] != b"{":
        return None
    try:
        value = decode(data)
    except UnreadableRecord:
        return None
    return value if is_object(value) and as_text(value.get("role")) is not None else None


# ---------------------------------------------------------------------- the latest state


def _state(data: bytes) -> tuple[list[str] | None, str | None]:
    """The names of the messages in their order, and the folder; None where it is no state."""
    names: list[str] = []
    folder = None
    try:
        for field, value in _fields(data):
            if field == _FIELD_OF_MESSAGES and len(value) == _BYTES_OF_NAME:
                names.append(value.hex())
            elif field == _FIELD_OF_FOLDER and value.startswith(b"file://"):
                folder = value.decode("utf-8", "replace")
    except ValueError:
        return None, None
    return names, folder


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that hold bytes, with their numbers.

    Raises ``ValueError`` where it is none.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends behind the message")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError("no field of this kind")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("no number")


# ---------------------------------------------------------------------- messages


class _Teller:
    """Tells messages in the shape of the AI SDK."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def tell(self, message: Object, pos: str) -> None:
        """One message, of whatever role."""
        role, content = message["role"], message.get("content")
        cursor = as_object(as_object(message.get("providerOptions")).get("cursor"))
        parts = content if is_array(content) else [{"type": "text", "text": content}]
        if role == "assistant":
            self.run.step(source_pos=pos, model=_model(parts))
        for index, part in enumerate(map(as_object, parts)):
            place = f"{pos}/content/{index}" if is_array(content) else f"{pos}/content"
            if not part:
                self.run.problem(place, "an empty part")
            elif role == "tool" or part.get("type") == "tool-result":
                self._tell_result(part, place, as_object(cursor.get("highLevelToolCallResult")))
            elif role == "assistant":
                self._tell_part(part, place)
            else:
                self._tell_asked(role, part, place, is_summary=cursor.get("isSummary") is True)

    def _tell_asked(self, role: str, part: Object, pos: str, *, is_summary: bool) -> None:
        text = as_text(part.get("text"))
        media = None if text is not None else [as_text(part.get("type")) or "unknown"]
        if is_summary:
            self.run.event("compaction", text, pos, actor="harness", media=media)
        elif role == "system":
            self.run.system(text, pos, media=media)
        elif (text or "").lstrip().startswith("<user_info>"):
            self.run.event("user", text, pos, actor="harness")
        elif role == "user":
            self.run.user(text, pos, media=media)
        else:
            self.run.event("other", text, pos, actor=role, media=media)

    def _tell_part(self, part: Object, pos: str) -> None:
        kind, text = as_text(part.get("type")), as_text(part.get("text"))
        if kind == "reasoning":
            signature = as_text(part.get("signature"))
            state = "text" if text else "hidden"
            self.run.thinking(text or None, pos, state=state, signature=signature)
        elif kind == "redacted-reasoning":
            self.run.thinking(None, pos, state="redacted", signature=as_text(part.get("data")))
        elif kind == "tool-call":
            name, tool = as_text(part.get("toolCallId")), as_text(part.get("toolName"))
            self.run.call(tool, part.get("args", part.get("input")), pos, call_id=name)
        elif kind == "text":
            self.run.message(text, pos)
        else:
            self.run.message(text, pos, media=[as_text(part.get("mimeType")) or kind or "unknown"])

    def _tell_result(self, part: Object, pos: str, kept: Object) -> None:
        output = as_object(kept.get("output"))
        flags = (as_bool(part.get("isError")), as_bool(kept.get("isError")))
        flags = (*flags, as_bool(output.get("isError")))
        result = part.get("result", part.get("output"))
        shown = [as_object(item) for item in as_array(part.get("experimental_content"))]
        text = as_json(result)
        if text is None:
            texts = [as_text(item.get("text")) for item in shown]
            text = "\n".join(said for said in texts if said is not None) or None
        media = [as_text(item.get("mimeType")) or "image" for item in shown if "text" not in item]
        self.run.result(
            text,
            pos,
            call_id=as_text(part.get("toolCallId")),
            tool=as_text(part.get("toolName")),
            is_error=next((flag for flag in flags if flag is not None), None),
            media=media or None,
        )


def _model(parts: list[Any]) -> str | None:
    """The model that a part of a reply names."""
    options = (as_object(as_object(part).get("providerOptions")) for part in parts)
    names = (as_text(as_object(option.get("cursor")).get("modelName")) for option in options)
    return next(filter(None, names), None)
