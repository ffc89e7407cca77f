"""What the body of a recorded HTTP call holds: JSON, an event stream, packed, or in base64."""

from __future__ import annotations

import base64
import binascii
import io
import re
import zlib
from typing import Any, Final

from loaders.archives import open_zstd
from loaders.errors import UnreadableRecord
from loaders.framing import event_stream_of, is_framed
from loaders.jsontext import decode
from loaders.values import is_array, is_object

MAX_BODY_BYTES: Final = 1 << 30
"""The largest size to which one packed body may unpack."""

_EVENT_STREAM = re.compile(r"\s*(?:event|data|id|retry)?:", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{16,}={0,2}\s*", re.ASCII)


def body_value(body: Any) -> Any:
    """The JSON value of a body, or its text where it is no JSON; None where there is none.

    >>> body_value(b'{"model": "m"}'), body_value('data: {"x": 1}'), body_value("")
    ({'model': 'm'}, 'data: {"x": 1}', None)
    """
    if is_object(body) or is_array(body):
        return body
    if isinstance(body, bytes | bytearray):
        body = body_text(bytes(body))
    if not isinstance(body, str) or not body.strip():
        return None
    if body.lstrip()[:1] in ("{", "["):
        try:
            return decode(body.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return body
    if not is_event_stream(body) and _BASE64.fullmatch(body):
        return _from_base64(body)
    return body


def body_text(body: bytes) -> str:
    """A body as text, unpacked where it is packed; a binary event stream as one of text.

    Raises ``UnreadableRecord`` where it is packed in a way that can't be undone, or is no text.
    """
    try:
        if body[:2] == b"\x1f\x8b":
            body = _inflated(body, 31)
        elif body[:4] == b"\x28\xb5\x2f\xfd":
            body = open_zstd(io.BytesIO(body)).read(MAX_BODY_BYTES)
        elif body[:1] == b"\x78" and int.from_bytes(body[:2], "big") % 31 == 0:
            body = _inflated(body, 15)
    except (zlib.error, EOFError, OSError) as error:
        raise UnreadableRecord(f"damaged body: {error}") from error
    if is_framed(body):
        return event_stream_of(body)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        if b"\0" in body[:1024] or body[:1] not in b"{[ \r\n\t":
            raise UnreadableRecord("the body is no text (packed by brotli, or binary)") from None
        return body.decode("utf-8", "replace")


def _inflated(body: bytes, window: int) -> bytes:
    inflate = zlib.decompressobj(window)
    data = inflate.decompress(body, MAX_BODY_BYTES)
    if inflate.unconsumed_tail:
        raise UnreadableRecord(f"the body unpacks to over {MAX_BODY_BYTES >> 20} MiB")
    if not inflate.eof:
        raise UnreadableRecord("a packed body is cut short")
    return data


def is_event_stream(text: str) -> bool:
    """Whether a text is a stream of server-sent events."""
    return _EVENT_STREAM.match(text) is not None


def _from_base64(text: str) -> Any:
    """What base64 hides, where it hides JSON or an event stream; else the text as it is."""
    try:
        inner = body_text(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError, UnreadableRecord):
        return text
    if inner.lstrip()[:1] in ("{", "["):
        try:
            return decode(inner.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return text
    return inner if is_event_stream(inner) else text
