"""Long logs in parts that can be read alone: ranges of lines, or of an archive's members, that are runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from loaders.archives import is_packed
from loaders.shares import by_weight, next_share
from loaders.sources import MAX_LISTED_PROBLEMS, Source

_PIECE = 1 << 20


class Range(NamedTuple):
    """Some of a file's lines.

    ``start`` and ``stop`` in bytes, ``lines_before`` and ``runs_before`` those that stand before it,
    the runs at first a guess; ``hash``, ``size`` and ``changed`` (ns) of the whole file.
    """

    start: int
    stop: int
    lines_before: int
    runs_before: int
    hash: str
    size: int
    changed: int

    @property
    def weight(self) -> int:
        """Bytes to read."""
        return self.stop - self.start


class Members(NamedTuple):
    """Some of an archive's members that are runs.

    ``start`` and ``stop`` their numbers among these; ``runs_before`` runs that stand before them, at
    first a guess; ``weight`` bytes to read; ``hash``, ``size`` and ``changed`` (ns) of the whole file.
    """

    start: int
    stop: int
    runs_before: int
    weight: int
    hash: str
    size: int
    changed: int


Part = Range | Members


class Told(NamedTuple):
    """What came of a part: how many runs and problems, and whether its lines need those of others."""

    runs: int
    problems: int
    lines_depend: bool


def true_parts(parts: Sequence[Part], told: Sequence[Told]) -> Sequence[Part] | None:
    """The parts of a log as they should have been read, now that all are read once.

    Runs are numbered through a log, so that a part must know how many stand before it; each line or
    member was taken for one. None where lines need others, there is no run, or so many problems that
    not all are listed: then the log is to be read as a whole.
    """
    is_tied = any(one.lines_depend for one in told)
    problems, runs = sum(one.problems for one in told), sum(one.runs for one in told)
    if is_tied or not runs or problems > MAX_LISTED_PROBLEMS:
        return None
    before = accumulate((one.runs for one in told), initial=0)
    return [part._replace(runs_before=count) for part, count in zip(parts, before, strict=False)]


class SourceOfMembers(Source):
    """An archive of which only some members are read as runs, and which for all else is the archive."""

    def __init__(self, path: Path, members: Members) -> None:
        super().__init__(path)
        self._range = members
        self.runs_before = members.runs_before
        self.hash = self.own_hash = members.hash

    def share(self, members: Sequence[str]) -> Sequence[str]:
        """Those in the range."""
        return members[self._range.start : self._range.stop]


class SourceOfLines(Source):
    """A range of a file's lines, which for all else is the file."""

    def __init__(self, path: Path, lines: Range) -> None:
        super().__init__(path)
        self._range = lines
        self.lines_before, self.runs_before = lines.lines_before, lines.runs_before
        self.size = lines.stop - lines.start
        self.hash = self.own_hash = lines.hash
        self.is_json_lines = True

    @property
    def plain(self) -> bytes | None:
        """None: it is no small file."""
        return None

    def _chunks(self) -> Iterator[bytes]:
        left = self._range.stop - self._range.start
        with self.path.open("rb") as file:
            file.seek(self._range.start)
            while left > 0 and (chunk := file.read(min(_PIECE, left))):
                left -= len(chunk)
                yield chunk

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines of the range, up to one that can't be read without others."""
        for numbered in super().lines():
            if self.lines_depend:
                return
            yield numbered


def ranges_of(path: Path, size: int) -> list[Range]:
    """A file in ranges of whole lines, each of about ``size`` bytes; none where it changes meanwhile.

    Reads the file once, for its lines and its hash. That each line is a run is the guess.
    """
    before = path.stat()
    digest = hashlib.sha256()
    starts, lines_before = [0], [0]
    read = lines = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if read == 0 and is_packed(piece):
                return []
            digest.update(piece)
            while read + len(piece) > (
                end := starts[-1] + next_share(before.st_size - starts[-1], size)
            ):
                newline = piece.find(b"\n", max(0, end - read))
                if newline < 0:
                    break
                starts.append(read + newline + 1)
                lines_before.append(lines + _line_ends(piece[: newline + 1]))
            lines += _line_ends(piece)
            read += len(piece)
    if read != before.st_size or has_changed(path, read, before.st_mtime_ns):
        return []
    if starts[-1] == read:
        del starts[-1]
    told = digest.hexdigest()
    return [
        Range(start, stop, before_it, before_it, told, read, before.st_mtime_ns)
        for start, stop, before_it in zip(starts, [*starts[1:], read], lines_before, strict=False)
    ]


def ranges_of_members(source: Source, members: Sequence[str], size: int) -> list[Members]:
    """An archive's members in ranges, each of about ``size`` bytes; none where it changes meanwhile."""
    before = source.path.stat()
    weights = [source.archive.size(name) for name in members]
    told = source.hash
    if has_changed(source.path, before.st_size, before.st_mtime_ns):
        return []
    return [
        Members(
            numbers[0],
            numbers[-1] + 1,
            numbers[0],
            sum(weights[number] for number in numbers),
            told,
            before.st_size,
            before.st_mtime_ns,
        )
        for numbers in by_weight(weights, size)
    ]


def has_changed(path: Path, size: int, changed: int) -> bool:
    """Whether a file is not there as it was, of this size and changed (ns) then."""
    with suppress(OSError):
        now = path.stat()
        return (now.st_size, now.st_mtime_ns) != (size, changed)
    return True


def _line_ends(piece: bytes) -> int:
    """How many lines end in a piece; for long lines several times faster than ``count``."""
    found, place = 0, piece.find(b"\n")
    while place >= 0:
        found += 1
        place = piece.find(b"\n", place + 1)
    return found
