"""Decode JSON as it is found in logs: broken, cut, with NaN, lone surrogates or bad bytes.

A key that repeats in one object counts with its last value, as in every other decoder; it is told.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any

import msgspec

from loaders.errors import UnreadableRecord
from loaders.values import well_formed

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
# Possessive throughout: a token is never given back, so that a long open string costs one pass.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,"]|[^\s{}\[\]:,"]++', re.DOTALL)
_BLANK = re.compile(r"\s*+")
_CLOSER = {b"{": b"}", b"[": b"]"}
_REPEATED = "keys that repeat in one object; the last one counts"
BOM = b"\xef\xbb\xbf"
CUT_SHORT = "JSON is cut short"
"""Why a text is no JSON that is the beginning of one."""


class NotJSON(UnreadableRecord):
    """A text stops being JSON at ``byte``."""

    def __init__(self, reason: str, byte: int) -> None:
        super().__init__(reason)
        self.byte = byte


def decode(data: bytes) -> Any:
    """The value of a JSON text; what the fast decoder refuses goes to a lenient one.

    Python's own writer puts ``NaN`` and lone surrogates into logs: they read as null and U+FFFD.

    Raises ``UnreadableRecord`` with the byte at which it stopped making sense.

    >>> decode(b'{"score": NaN}')
    {'score': None}
    """
    return _decoded(data)[0]


def decode_with_doubt(data: bytes) -> tuple[Any, str | None]:
    """The value of a JSON text, and what had to be put in place of what is no JSON.

    Raises ``NotJSON`` where it makes no sense, ``UnreadableRecord`` where it is nested too deeply.

    >>> decode_with_doubt(b'{"score": NaN}')
    ({'score': None}, 'NaN, Infinity or numbers out of range read as null')
    """
    value, doubt = _decoded(data)
    if doubt is None and _repeats_a_key(data, value):
        doubt = _REPEATED
    return value, doubt


def _decoded(data: bytes) -> tuple[Any, str | None]:
    data = data.removeprefix(BOM)
    try:
        return _DECODER.decode(data), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _decode_leniently(data, is_cut="truncated" in str(error))
    except RecursionError:
        raise UnreadableRecord("nested too deeply to be read") from None


def _repeats_a_key(data: bytes, value: Any) -> bool:
    """Whether an object in the text has a key twice.

    Written again, the value then has fewer quotation marks. That costs a fraction of decoding; only
    where the numbers differ, as they also do where a quotation mark is written as an escape, the
    text is read once more by the slow decoder, which shows each pair.
    """
    if not isinstance(value, dict | list):
        return False
    try:
        if data.count(b'"') == msgspec.json.encode(value).count(b'"'):
            return False
    except (OverflowError, RecursionError):  # a number that the fast encoder can't write
        pass
    repeated = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len({key for key, _ in pairs}) < len(pairs)

    with suppress(ValueError, RecursionError):
        json.loads(data, object_pairs_hook=note, strict=False)
    return repeated


def _decode_leniently(data: bytes, is_cut: bool) -> tuple[Any, str | None]:
    doubts: set[str] = set()

    def no_number(_: str) -> None:
        doubts.add("NaN, Infinity or numbers out of range read as null")

    def number(digits: str) -> float | None:
        value = float(digits)
        return value if math.isfinite(value) else no_number(digits)

    text = data.decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text, parse_constant=no_number, parse_float=number, strict=False)
        clean = well_formed(value)
        if clean != value:
            doubts.add("bytes that are no UTF-8, or lone surrogates, read as U+FFFD")
    except RecursionError:
        raise UnreadableRecord("nested too deeply to be read") from None
    except json.JSONDecodeError as error:
        byte = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        if is_cut or byte == len(data) or error.msg.startswith("Unterminated"):
            raise NotJSON(CUT_SHORT, byte) from None
        if error.msg == "Extra data":
            raise NotJSON(f"more follows the first JSON value, from byte {byte}", byte) from None
        raise NotJSON(f"no JSON from byte {byte}: {error.msg}", byte) from None
    except ValueError as error:  # a whole number of thousands of digits
        raise UnreadableRecord(f"not JSON: {error}") from None
    return clean, "; ".join(sorted(doubts)) or "control characters inside strings"


def decode_glued(data: bytes) -> tuple[list[Any], str | None]:
    """Objects that stand one behind the other, as when a newline between two records was lost.

    Gives those that can be read, and why what follows them can't. Linear.

    >>> decode_glued(b'{"a": 1}{"b": 2}{"c')
    ([{'a': 1}, {'b': 2}], 'JSON is cut short')
    """
    text = data.removeprefix(BOM).decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder(parse_constant=_no_constant, strict=False)
    values: list[Any] = []
    end = _blank_until(text, 0)
    while end < len(text):
        try:
            if text[end] != "{":
                raise json.JSONDecodeError("no object", text, end)
            value, stop = decoder.raw_decode(text, end)
        except json.JSONDecodeError as error:
            is_cut = error.pos >= len(text) or error.msg.startswith("Unterminated")
            return values, CUT_SHORT if is_cut else f"no JSON: {error.msg}"
        except (ValueError, RecursionError):
            return values, "not JSON"
        values.append(well_formed(value))
        end = _blank_until(text, stop)
    return values, None


def _no_constant(_: str) -> None:
    """What reads in place of NaN and Infinity."""


def _blank_until(text: str, start: int) -> int:
    blank = _BLANK.match(text, start)
    return start if blank is None else blank.end()


def decode_cut(data: bytes) -> Any:
    """The value of a JSON text whose end is missing: what stands before the cut.

    Open strings, keys without a value and half tokens are left out and all brackets closed. Linear.

    Raises ``UnreadableRecord`` where nothing whole stands before the cut.

    >>> decode_cut(b'{"a": [1, 2, {"b": "x"}, {"c": "cut he')
    {'a': [1, 2, {'b': 'x'}, {}]}
    """
    open_brackets: list[bytes] = []
    expects_key = False
    end = 0
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token in _CLOSER:
            open_brackets.append(token)
            expects_key = token == b"{"
        elif token in (b"}", b"]"):
            if not open_brackets or _CLOSER[open_brackets[-1]] != token:
                break
            open_brackets.pop()
            expects_key = False
        elif token == b",":
            expects_key = open_brackets[-1:] == [b"{"]
            continue
        elif token == b":":
            continue
        elif token == b'"' or (match.end() == len(data) and token[:1] != b'"'):
            break  # an open string, or a number that may go on beyond the cut
        elif expects_key:
            expects_key = False
            continue
        end = match.end()
        if not open_brackets:
            break
    if not end:
        raise UnreadableRecord("cut before its first value")
    closing = b"".join(_CLOSER[bracket] for bracket in reversed(open_brackets))
    return decode(data[:end] + closing)
