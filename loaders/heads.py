"""The beginning of a log, by which formats recognise it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, wraps
from typing import Any, TypeVar

from loaders.archives import Damaged, ZipArchive, read_up_to
from loaders.errors import UnreadableRecord
from loaders.jsontext import BOM, CUT_SHORT, NotJSON, decode, decode_cut
from loaders.values import is_array, is_object
from loaders.yamltext import decode_yaml_cut, is_yaml_name

HEAD_BYTES = 16 << 10
_CHUNK = 1 << 18
_ZIP = b"PK\x03\x04"
_SQLITE = b"SQLite format 3\0"


class Head:
    """The first bytes of a source, decoded as far as they go, for formats to recognise.

    ``name`` the source's name; ``data`` its first 16 KB, unpacked; ``value`` the first JSON value
    (cut where the head ends); ``records`` the first JSON values of JSON Lines, else only
    ``value``; ``keys`` the keys of the first object; ``members`` names inside a zip archive;
    ``damage`` why it could not be unpacked so far, or None. Made of the source's name, a function that
    opens it, its bytes where these are known, and one that gives it as an archive.
    """

    def __init__(
        self,
        name: str,
        open_: Callable[[], io.BufferedReader],
        plain: bytes | None,
        archive: Callable[[], ZipArchive],
    ) -> None:
        self._open, self._archive = open_, archive
        self.answers: dict[Callable[[Head], Any], Any] = {}
        self.name = name
        self.filename = name.rpartition("/")[2]
        if plain is not None:
            data, self.damage = plain[: HEAD_BYTES + 1], None
        else:
            with open_() as stream:
                data, self.damage = read_up_to(stream, HEAD_BYTES + 1)
        self.is_whole = len(data) <= HEAD_BYTES
        self.data = data[:HEAD_BYTES].removeprefix(BOM)

    @cached_property
    def is_zip(self) -> bool:
        """Whether the source is a zip archive."""
        return self.data[:4] == _ZIP

    @cached_property
    def is_database(self) -> bool:
        """Whether the source is an SQLite database; ``loaders.databases`` opens it."""
        return self.data.startswith(_SQLITE)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the members of a zip archive; empty for anything else."""
        return self._archive().names if self.is_zip else ()

    @cached_property
    def is_binary(self) -> bool:
        """Whether the bytes are no text, and no archive either.

        Text may hold stray zeros: a crash can leave a run of them in a log.
        """
        if self.is_zip:
            return False
        looks_like_json = self.data.lstrip(b"\0 \t\r\n")[:1] in (b"{", b"[")
        return b"\0" in self.data and (not looks_like_json or self.data[1:2] == b"\0")

    @cached_property
    def tail(self) -> bytes:
        """The last 16 KB; for formats that name themselves at the end."""
        if self.is_whole:
            return self.data
        last = b""
        with self._open() as stream, suppress(Damaged):
            if stream.seekable():
                stream.seek(-HEAD_BYTES, io.SEEK_END)
            while chunk := stream.read1(_CHUNK):
                last = (last + chunk)[-HEAD_BYTES:]
        return last

    @cached_property
    def _text(self) -> bytes:
        return self.data.lstrip()

    @cached_property
    def _first_line(self) -> tuple[Any, bool]:
        """The value of the first line, if it is one, and whether more follows it."""
        line, newline, rest = self._text.partition(b"\n")
        if not newline and not self.is_whole:
            return None, False
        if newline and line.rstrip() in (b"{", b"["):  # one value over many lines
            return None, False
        try:
            value = decode(line)
        except UnreadableRecord:
            return None, False
        return value, bool(newline) and (not self.is_whole or bool(rest.strip()))

    @cached_property
    def is_json_lines(self) -> bool:
        """Whether the head is one JSON value per line, more than one of them."""
        value, more = self._first_line
        if is_object(value) or is_array(value):
            return more
        if value is None and self._text[:1] == b"{":
            second = self._text.partition(b"\n")[2].lstrip()
            return second[:2] == b'{"' and not self._goes_on_into(second)
        return False

    def _goes_on_into(self, second: bytes) -> bool:
        """Whether the first line is the beginning of a value that the second line goes on with.

        Else the first line is a broken record: then there is no JSON where the second line begins,
        or, if the break looks like an open bracket, where the third does.
        """
        third = second.partition(b"\n")[2].lstrip()
        try:
            decode(self._text)
        except NotJSON as error:
            return error.reason == CUT_SHORT or error.byte > len(self._text) - len(third)
        except UnreadableRecord:
            return False
        return True

    @cached_property
    def records(self) -> list[Any]:
        """The first JSON values of JSON Lines (whole lines of the head), else the one value."""
        if not self.is_json_lines:
            return [self.value] if self.value is not None else []
        records: list[Any] = []
        lines = self.data.split(b"\n")
        for line in lines if self.is_whole else lines[:-1]:
            with suppress(UnreadableRecord):
                records.append(decode(line))
        return records

    @cached_property
    def value(self) -> Any:
        """The first JSON value, cut where the head ends; None where there is no JSON."""
        if is_yaml_name(self.name):
            with suppress(UnreadableRecord):
                return decode_yaml_cut(self.data)[0]
            return None
        value, more = self._first_line
        if value is not None or more:
            return value
        if self.is_json_lines:
            return next(iter(self.records), None)
        try:
            return decode(self.data) if self.is_whole else decode_cut(self.data)
        except NotJSON as error:
            with suppress(UnreadableRecord):
                return decode_cut(self.data[: error.byte])
        except UnreadableRecord:
            pass
        return None

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first object: the value itself, or the first one of an array; else empty."""
        value = self.value
        if is_array(value):
            value = next((item for item in value if is_object(item)), None)
        return value if is_object(value) else {}

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the first object, as far as the head shows them."""
        return frozenset(self.first)


Answer = TypeVar("Answer")


def asked_once(question: Callable[[Head], Answer]) -> Callable[[Head], Answer]:
    """A question that several formats ask of a head: it is answered once for all of them."""

    @wraps(question)
    def answer(head: Head) -> Answer:
        if question not in head.answers:
            head.answers[question] = question(head)
        return head.answers[question]

    return answer
