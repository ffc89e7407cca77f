"""Amazon's binary event streams (``application/vnd.amazon.eventstream``) as server-sent events.

A message is its length, the length of its headers, a checksum of both, the headers, a payload and a
checksum of it all. Checksums are not compared: what a recorder wrote down is read as far as it goes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import as_text, is_object

_PRELUDE = 12
_CHECKSUM = 4
_MOST_HEADERS = 128 << 10
_LONGEST = 25 << 20
_BROKEN = "(cut short)"
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; texts and byte strings (6, 7) say theirs."""


class _Message(NamedTuple):
    headers: dict[str, str]
    payload: bytes


def is_framed(body: bytes) -> bool:
    """Whether a body begins with such a message: lengths that fit, and a header that the frame owns."""
    length, headers = _lengths(body, 0)
    return _fits(length, headers) and body[_PRELUDE + 1 : _PRELUDE + 2] == b":"


def event_stream_of(body: bytes) -> str:
    """The messages of a body as server-sent events, each an object with the type as its only key.

    Chunks that wrap an event of another API are unwrapped. What is cut short, or has a length that
    can't be right, ends the stream with an event that can't be read.
    """
    return "".join(f"data: {_event(one) if one else _BROKEN}\n\n" for one in _messages(body))


def _messages(body: bytes) -> Iterator[_Message | None]:
    start = 0
    while start < len(body):
        length, size = _lengths(body, start)
        stop = start + length
        if not _fits(length, size) or stop > len(body):
            yield None
            return
        headers = body[start + _PRELUDE : start + _PRELUDE + size]
        payload = body[start + _PRELUDE + size : stop - _CHECKSUM]
        yield _Message(dict(_headers(headers)), payload)
        start = stop


def _lengths(body: bytes, start: int) -> tuple[int, int]:
    prelude = body[start : start + 8]
    return int.from_bytes(prelude[:4], "big"), int.from_bytes(prelude[4:], "big")


def _fits(length: int, headers: int) -> bool:
    return headers <= _MOST_HEADERS and _PRELUDE + headers + _CHECKSUM <= length <= _LONGEST


def _headers(data: bytes) -> Iterator[tuple[str, str]]:
    """Names and values; of values that are no text, nothing."""
    start = 0
    while start < len(data):
        name_stop = start + 1 + data[start]
        name = data[start + 1 : name_stop].decode("utf-8", "replace")
        kind = data[name_stop] if name_stop < len(data) else -1
        start = name_stop + 1
        if kind in (6, 7):
            size = int.from_bytes(data[start : start + 2], "big")
            yield name, data[start + 2 : start + 2 + size].decode("utf-8", "replace")
            start += 2 + size
        elif kind in _SIZES:
            start += _SIZES[kind]
        else:
            return


def _event(message: _Message) -> str:
    headers = message.headers
    kind = headers.get(":event-type") or headers.get(":exception-type") or "error"
    try:
        value = decode(message.payload)
    except UnreadableRecord:
        value = {"message": message.payload.decode("utf-8", "replace")}
    if kind == "chunk" and is_object(value):
        return json.dumps(_unwrapped(value))
    if headers.get(":message-type") == "error":
        value = {"message": headers.get(":error-message") or headers.get(":error-code")}
    return json.dumps({kind: value})


def _unwrapped(chunk: dict[str, Any]) -> Any:
    try:
        return decode(base64.b64decode(as_text(chunk.get("bytes")) or "", validate=True))
    except (binascii.Error, ValueError, UnreadableRecord):
        return chunk
