"""Back from a row to the raw record behind it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from loaders.bodies import body_text, body_value, is_event_stream
from loaders.databases import value_at
from loaders.errors import UnreadableRecord
from loaders.jsontext import NotJSON, decode, decode_glued
from loaders.sources import MemorySource, Source
from loaders.values import is_array, is_object

_PLACE = re.compile(r"(?:L(?P<line>\d{1,12}))?(?P<pointer>(?:/.*)?)", re.DOTALL)


def raw_record(name: str, position: str | None) -> Any:
    """What stands at a ``source_pos`` of a source: the raw record behind an event.

    Raises ``UnreadableRecord`` where the source is gone or no longer holds it.
    """
    if position is None:
        raise UnreadableRecord("the log gives this event no place of its own")
    source = find_source(name)
    try:
        source, place = _member_and_place(source, position)
        if place["line"] is None and source.head.is_database:
            return follow(*value_at(source, place["pointer"]))
        if place["line"] is None:
            return follow(source.json(), place["pointer"])
        wanted = int(place["line"])
        line = next((line for number, line in source.lines() if number == wanted), None)
        if line is None:
            raise UnreadableRecord("the source has no such line any more", f"L{wanted}")
        return follow(_decoded(line, is_text=not place["pointer"]), place["pointer"])
    except OSError as error:
        raise UnreadableRecord(f"{name} can't be read: {error.strerror or error}") from error


def _decoded(line: bytes, *, is_text: bool) -> Any:
    """The value of a line; a list of them where a line holds several objects.

    ``is_text``: a line without any is its text, as in a log of plain text.
    """
    try:
        return decode(line)
    except NotJSON:
        values, _ = decode_glued(line)
        if not values and is_text:
            return line.decode("utf-8", "replace")
        if not values:
            raise
        return values


def _member_and_place(source: Source, position: str) -> tuple[Source, re.Match[str]]:
    """Splits ``member#L12/pointer``; member names and keys may hold a ``#`` themselves."""
    place = _PLACE.fullmatch(position)
    if place is not None:
        return source, place
    for index, letter in enumerate(position):
        place = _PLACE.fullmatch(position, index + 1) if letter == "#" else None
        if place is None:
            continue
        member = position[:index]
        if not source.head.is_zip:
            found = source.beside(member)
        else:
            found = source.inside(member) if member in source.archive else None
        if found is not None:
            return found, place
    raise UnreadableRecord(f"{source.name} holds nothing at {position!r} any more", position)


def follow(value: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), which may go on inside a text that holds JSON.

    Inside a stream of events nothing can be pointed to, whether it is text or a list: it is given whole.

    Raises ``UnreadableRecord`` where the value has no such place.

    >>> follow({"messages": [{"content": "hi"}]}, "/messages/0/content")
    'hi'
    """
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, str | bytes):
            value = body_value(value)
            if isinstance(value, str) and is_event_stream(value):
                return value
        if is_array(value) and key.isascii() and key.isdigit() and len(key) < 12:
            if int(key) < len(value):
                value = value[int(key)]
                continue
        elif is_object(value) and key in value:
            value = value[key]
            continue
        elif is_array(value) and any(map(is_object, value)):
            return value
        raise UnreadableRecord("the source no longer holds this record", pointer)
    return body_text(value) if isinstance(value, bytes) else value


def find_source(name: str) -> Source:
    """The source of that name; a name may go on inside an archive.

    Raises ``UnreadableRecord`` where no such file exists.
    """
    if name in MemorySource.known:
        return MemorySource.known[name]
    path = Path(name)
    with suppress(OSError):
        if path.is_file():
            return Source(path)
        for folder in path.parents:
            if folder.is_file():
                return Source(folder, name[len(folder.as_posix()) :].removeprefix("/"))
    raise UnreadableRecord(f"{name} does not exist any more; load the logs from where they are now")
