"""Typed access to decoded JSON that may hold anything: the wrong type reads as missing."""

from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgspec

Object = dict[str, Any]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def is_object(value: object) -> TypeGuard[Object]:
    """Whether a decoded value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a decoded value is a JSON array."""
    return isinstance(value, list)


def as_object(value: Any) -> Object:
    """The value if it is an object, else an empty one."""
    # Not by way of is_object, which would double the time of what readers call most.
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def as_array(value: Any) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def place_of(owner: Object, key: str, pos: str) -> str:
    """Where the value of a key stands; where there is none, the place of what should hold it.

    >>> place_of({"content": "hi"}, "content", "/0"), place_of({"content": None}, "content", "/0")
    ('/0/content', '/0')
    """
    return pos if owner.get(key) is None else f"{pos}/{key}"


def as_text(value: object) -> str | None:
    """The value if it is text, else None."""
    return value if isinstance(value, str) else None


def as_name(value: object) -> str | None:
    """Text or a number as text; for ids that some logs write as integers."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value)


def as_bool(value: object) -> bool | None:
    """The value if it is true or false, else None."""
    return value if isinstance(value, bool) else None


def as_int(value: object) -> int | None:
    """A whole number that fits 64 bits, also from a whole float; else None.

    >>> as_int(3.0), as_int(True), as_int("3")
    (3, None, None)
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def as_float(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_time(value: object) -> datetime | None:
    """A moment in UTC from ISO 8601 text or epoch seconds, milli-, micro- or nanoseconds.

    Text without a zone is taken as UTC: only differences inside one log are meant to be used then.

    >>> as_time("2025-10-31T07:35:41Z") == as_time(1761896141) == as_time(1761896141000)
    True
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is UTC:
                return moment
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        number = as_float(value)
        if number is None or number <= 0:
            return None
        while number > 1e11:
            number /= 1e3
        return datetime.fromtimestamp(number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def as_json(value: object) -> str | None:
    """JSON text of a decoded value; text that is meant to be JSON already stays as it is."""
    if value is None or isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(well_formed(value)).decode()


def well_formed(value: Any) -> Any:
    r"""The same decoded value with U+FFFD for each lone surrogate, which no encoding can hold.

    >>> well_formed({"text": "cut emoji \ud83d"})["text"]
    'cut emoji \ufffd'
    """
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if is_array(value):
        return [well_formed(item) for item in value]
    if is_object(value):
        return {well_formed(key): well_formed(item) for key, item in value.items()}
    return value


def total(*numbers: int | None) -> int | None:
    """The sum of what is known; None where nothing is.

    >>> total(1, None, 2), total(None, None)
    (3, None)
    """
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def fingerprint(*parts: str | bytes) -> str:
    """16 hexadecimal digits that name this content, the same on every machine."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        pieces += (len(data).to_bytes(8, "little"), data)
    return hashlib.blake2b(b"".join(pieces), digest_size=8).hexdigest()
