"""One log as the formats see it: a file, a member of an archive, or files that belong together."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, cast

from loaders import archives
from loaders.archives import (
    Damaged,
    ZipArchive,
    is_packed,
    open_unpacked,
    unpacked,
)
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.jsontext import BOM, NotJSON, decode, decode_cut, decode_with_doubt
from loaders.values import is_array, is_object
from loaders.yamltext import decode_yaml_cut, is_yaml_name

MAX_LISTED_PROBLEMS = 1_000
"""So many problems of one file are listed; the rest is counted."""
_CHUNK = 1 << 18
_SMALL = 1 << 20
_ARCHIVES = frozenset((".eval", ".zip"))
"""What archives are called; of a packed log by another name only the packed size is known."""


class Problem(NamedTuple):
    """Something in a source that was not read, or read with doubt."""

    position: str | None
    severity: str
    reason: str
    counted: Counted | None = None


class Counted(NamedTuple):
    """What happened several times: how to say it of one time and of many, NUL in place of the number."""

    once: str
    often: str
    times: int

    def __str__(self) -> str:
        """What to say."""
        return self.once if self.times == 1 else self.often.replace("\0", f"{self.times:,}")


class Source:
    """A log to be read by one format.

    ``path`` the file on disk, ``member`` its name inside a zip archive, ``parts`` all files of a
    log that lies in several (this one among them), ``companions`` files read along with it,
    ``problems`` what could not be read of it, ``position`` the record being read.
    """

    def __init__(
        self, path: Path, member: str | None = None, container: ZipArchive | None = None
    ) -> None:
        self.path = path
        self.member = member
        self.parts: tuple[Source, ...] = (self,)
        self.companions: list[Source] = []
        self.problems: list[Problem] = []
        self.position: str | None = None
        self.bytes_told = 0
        """Bytes of the lines given so far."""
        self.bytes_to_tell: int | None = None
        """After so many bytes no more lines are given, where a file is read twice that may grow."""
        self.advance: Callable[[int], object] = int
        """Is told how many bytes more were read, for whoever shows how far that is."""
        self.lines_before = self.runs_before = 0
        """Of the file, where only some of its lines are read."""
        self.lines_depend = False
        self._looked_for: set[str] = set()
        self._given_container = container
        self._unlisted = 0
        self._doubts: dict[str, tuple[int, str | None]] = {}

    @cached_property
    def name(self) -> str:
        """The source as it is shown; a member stands under its archive like a file in a folder."""
        return f"{self.path.as_posix()}/{self.member}" if self.member else self.path.as_posix()

    @cached_property
    def filename(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    @cached_property
    def size(self) -> int:
        """Bytes on disk, or unpacked inside an archive."""
        if self.member is not None:
            return self._container.size(self.member)
        return self.path.stat().st_size

    @cached_property
    def unpacked_size(self) -> int:
        """Bytes that are to be read: of an archive those of its members, as its directory says."""
        if self.member is None and self.path.suffix in _ARCHIVES:
            with suppress(OSError, UnreadableRecord):
                archive = self._container
                return min(sum(map(archive.size, archive.names)), archives.MAX_RATIO * self.size)
        return self.size

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the bytes of this log; of the parts' hashes where it lies in several."""
        if len(self.parts) > 1:
            joined = "".join(part.own_hash for part in self.parts)
            return hashlib.sha256(joined.encode()).hexdigest()
        return self.own_hash

    @cached_property
    def own_hash(self) -> str:
        """SHA-256 of the bytes of this one file, unpacked if it is packed: packing is no change."""
        if (plain := self.plain) is not None:
            return hashlib.sha256(plain).hexdigest()
        digest = hashlib.sha256()
        with suppress(Damaged):  # what stands before a damage is the content; reading reports it
            buffer = memoryview(bytearray(_CHUNK))
            with self.open() as stream:
                while size := stream.readinto1(buffer):
                    digest.update(buffer[:size])
        return digest.hexdigest()

    # ------------------------------------------------------------------ bytes

    @property
    def _container(self) -> ZipArchive:
        if self._given_container is not None:
            return self._given_container
        status = self.path.stat()
        return _archive_at(self.path, status.st_mtime_ns, status.st_size)

    @cached_property
    def archive(self) -> ZipArchive:
        """The source as a zip archive; for formats whose log is one."""
        return self._container if self.member is None else ZipArchive(self.read_bytes())

    @cached_property
    def _small(self) -> bytes | None:
        """The bytes of a small file, read once for detection, hash and records."""
        if self.member is not None or self.size > _SMALL:
            return None
        return bytes_of(self.path)

    @property
    def plain(self) -> bytes | None:
        """The bytes of a small file that is not packed: thousands of these are read without streams."""
        small = self._small
        return None if small is None or is_packed(small) else small

    def open(self) -> io.BufferedReader:
        """The bytes as a stream, unpacked if they are packed.

        Take pieces with ``read1``, or what stands before a damage is lost.
        """
        if self.member is not None:
            return unpacked(self._container.open(self.member))
        if self._small is not None:
            return unpacked(io.BufferedReader(cast(io.RawIOBase, io.BytesIO(self._small))))
        return open_unpacked(self.path)

    def _chunks(self) -> Iterator[bytes]:
        if (plain := self.plain) is not None:
            yield plain
            return
        with self.open() as stream:
            while chunk := stream.read1(_CHUNK):
                self.advance(len(chunk))
                yield chunk

    def read_bytes(self) -> bytes:
        """All unpacked bytes; of a compressed file cut short, those before the cut."""
        chunks: list[bytes] = []
        try:
            chunks.extend(self._chunks())
        except Damaged as error:
            self.problem(None, f"{error.reason}; what stands before that is read")
        return b"".join(chunks)

    def release(self) -> None:
        """Forget the bytes and the head that are kept between detection, hash and reading."""
        for kept in ("_small", "head", "archive"):
            self.__dict__.pop(kept, None)

    # ------------------------------------------------------------------ problems

    def problem(self, position: str | None, reason: str, severity: str = "error") -> None:
        """Record what could not be read (``error``), or was read with doubt (``warning``)."""
        if len(self.problems) < MAX_LISTED_PROBLEMS:
            self.problems.append(Problem(position, severity, reason))
        else:
            self._unlisted += 1

    def doubt(self, position: str | None, reason: str) -> None:
        """Record that something was read with doubt, as often as it occurs and in one problem."""
        count, first = self._doubts.get(reason, (0, position))
        self._doubts[reason] = (count + 1, first)

    def take_problems(self) -> list[Problem]:
        """All problems of this file, which then has none any more."""
        taken = [
            *self.problems,
            *(
                Problem(first, "warning", str(counted), counted)
                for reason, (n, first) in self._doubts.items()
                for counted in [Counted(reason, f"{reason}, \0 times", n)]
            ),
        ]
        if self._unlisted:
            taken.append(Problem(None, "error", f"{self._unlisted:,} more problems, not listed"))
        self.problems, self._doubts, self._unlisted = [], {}, 0
        return taken

    # ------------------------------------------------------------------ records

    def json(self) -> Any:
        """The whole source as one JSON (or YAML) value; of one cut short, what stands before the cut.

        Raises ``UnreadableRecord`` where there is none.
        """
        data = self.read_bytes()
        if is_yaml_name(self.name):
            value, error = decode_yaml_cut(data)
            if error:
                self.problem(error.position, f"{error.reason}; what stands before it is read")
            return value
        try:
            value, doubt = decode_with_doubt(data)
        except NotJSON as error:
            position = f"byte {error.byte}"
            try:
                value, doubt = decode_cut(data.removeprefix(BOM)[: error.byte]), None
            except UnreadableRecord:
                raise UnreadableRecord(error.reason, position) from None
            self.problem(position, f"{error.reason}; what stands before it is read")
        if doubt:
            self.doubt(None, doubt)
        return value

    def json_lines(self, known: Callable[[bytes], Any] | None = None) -> Iterator[tuple[str, Any]]:
        """The records of a JSON Lines source, each with its position (``L12``).

        A line that can't be read becomes a problem with its number, and the rest is read. ``known``
        may decode a line in its own way, where that is of a shape it knows; else it gives None.
        """
        for number, line in self.lines():
            self.position = f"L{number}"
            if known is not None and (record := known(line)) is not None:
                yield self.position, record
                continue
            try:
                record, doubt = decode_with_doubt(line)
            except UnreadableRecord as error:
                self.problem(self.position, error.reason)
                continue
            if doubt:
                self.doubt(self.position, doubt)
            yield self.position, record

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Numbered lines that are not blank, read in chunks so that memory stays bounded."""
        number = self.lines_before
        begun: list[bytes] = []
        try:
            for chunk in self._chunks():
                if self.bytes_to_tell is not None:
                    chunk = chunk[: self.bytes_to_tell - self.bytes_told]
                self.bytes_told += len(chunk)
                lines = io.BytesIO(chunk).readlines()  # finds line ends faster than split() does
                rest = b"" if chunk.endswith(b"\n") or not lines else lines.pop()
                if begun and lines:
                    lines[0] = b"".join([*begun, lines[0]])
                    begun = []
                if number == 0 and lines:
                    lines[0] = lines[0].removeprefix(BOM)
                for line in lines:
                    number += 1
                    if not line.isspace():
                        yield number, line[:-1]
                if rest:
                    begun.append(rest)
        except Damaged as error:
            self.problem(None, f"{error.reason}; what stands before that is read")
        line = b"".join(begun)
        if number == 0:
            line = line.removeprefix(BOM)
        if line and not line.isspace():
            yield number + 1, line

    def ties_lines(self) -> None:
        """Lines belong together here: where only some of them are read, that was wrong."""
        self.lines_depend = True

    @cached_property
    def is_json_lines(self) -> bool:
        """Whether there is more than one line and each is a JSON value of its own.

        Looks beyond the head only where the head ends inside the first line.
        """
        head = self.head
        if head.is_json_lines or head.is_whole or b"\n" in head.data.lstrip():
            return head.is_json_lines
        return self._has_second_line() and self._first_line_is_a_record()

    def _has_second_line(self) -> bool:
        first_line_ended = False
        with suppress(Damaged):
            for chunk in self._chunks():
                if not first_line_ended:
                    _, newline, chunk = chunk.lstrip().partition(b"\n")
                    first_line_ended = bool(newline)
                if first_line_ended and chunk.strip():
                    return True
        return False

    def _first_line_is_a_record(self) -> bool:
        with suppress(UnreadableRecord, StopIteration):
            value = decode(next(self.lines())[1])
            return is_object(value) or is_array(value)
        return False

    def records(self) -> Iterator[tuple[str, Any]]:
        """Records however they are laid out: JSON Lines, one array of them, or one single value.

        Each comes with its position: ``L3``, ``/3``, or empty for a single value.
        """
        if self.is_json_lines:
            yield from self.json_lines()
            return
        value = self.json()
        if is_array(value) and any(is_object(item) or is_array(item) for item in value):
            for index, item in enumerate(value):
                self.position = f"/{index}"
                yield self.position, item
        else:
            yield "", value

    def beside(self, relative: str) -> Source | None:
        """Another file, named relative to this one's folder, if it exists; also inside archives.

        What goes wrong with it is reported under its own name.
        """
        self._looked_for.add(relative)
        found = self._beside(relative)
        if found is None:
            return None
        known = next((other for other in self.companions if other.name == found.name), None)
        if known is None:
            self.companions.append(found)
        return known or found

    def _beside(self, relative: str) -> Source | None:
        if PurePosixPath(relative).is_absolute():
            return None  # a log may name any file of this machine; only its own surroundings count
        if self.member is not None:
            wanted = _normalized(PurePosixPath(self.member).parent / relative)
            container = self._container
            return Source(self.path, wanted, self._given_container) if wanted in container else None
        target = Path(_normalized(PurePosixPath((self.path.parent / relative).as_posix())))
        try:
            return Source(target) if target.is_file() else None
        except OSError:  # a name that no file can have
            return None

    def names_in(self, folder: str) -> list[str]:
        """Names of the files right inside a folder beside this file; also inside archives."""
        if self.member is not None:
            inside = _normalized(PurePosixPath(self.member).parent / folder) + "/"
            names = (n.removeprefix(inside) for n in self._container.names if n.startswith(inside))
            return sorted(name for name in names if "/" not in name)
        self._looked_for.add(folder)
        try:
            return sorted(found.name for found in (self.path.parent / folder).iterdir())
        except OSError:
            return []

    @property
    def looked_for(self) -> set[str]:
        """Files and folders on disk that were looked for, be they there or not.

        Where one changes, comes or goes, this log may read otherwise.
        """
        if self.member is not None:  # the archive as a whole tells
            return set()
        folder = self.path.parent.as_posix()
        return {os.path.normpath(f"{folder}/{relative}") for relative in self._looked_for}

    @property
    def companions_read(self) -> set[str]:
        """Names of the files that were found beside this one."""
        return {companion.name for companion in self.companions}

    def share(self, members: Sequence[str]) -> Sequence[str]:
        """Of an archive's members that are runs those to be read: all, where no other process helps."""
        return members

    def inside(self, member: str) -> Source:
        """A member of this source, which is an archive, as a source of its own."""
        return Source(self.path, member, self.archive)

    @cached_property
    def head(self) -> Head:
        """What detection looks at."""
        return Head(self.name, self.open, self.plain, lambda: self.archive)


class MemorySource(Source):
    """A log that is in memory, under a name that is no file's."""

    known: ClassVar[dict[str, MemorySource]] = {}
    """All of this process, by name: the raw records behind the runs that were made from them."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(Path(name))
        self._content = content
        self.size = len(content)
        self.known[name] = self

    def open(self) -> io.BufferedReader:
        """The bytes as a stream."""
        return io.BufferedReader(cast(io.RawIOBase, io.BytesIO(self._content)))

    @property
    def plain(self) -> bytes | None:
        """None, so that ``open`` is asked for the bytes."""
        return None

    def _beside(self, relative: str) -> Source | None:
        return None  # nothing lies beside it


def bytes_of(path: Path) -> bytes:
    """A small file's bytes; without Python's streams, which take longer to make than it to read."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        pieces: list[bytes] = []
        while piece := os.read(descriptor, _SMALL):
            pieces.append(piece)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


@lru_cache(maxsize=16)
def _archive_at(path: Path, _changed: int, _size: int) -> ZipArchive:
    """One archive for all its members: its directory would else be read once for each of them."""
    return ZipArchive(path)


def _normalized(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        elif part != ".":
            parts.append(part)
    return str(PurePosixPath(*parts)) if parts else "."
