"""A long JSON Lines file in ranges of whole lines, for formats in which each line is a run of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from loaders.archives import is_packed
from loaders.shares import next_share
from loaders.sources import Source

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
    after = path.stat()
    if (after.st_size, after.st_mtime_ns) != (
        before.st_size,
        before.st_mtime_ns,
    ) or read != after.st_size:
        return []
    if starts[-1] == read:
        del starts[-1]
    told = digest.hexdigest()
    return [
        Range(start, stop, before_it, before_it, told, read, after.st_mtime_ns)
        for start, stop, before_it in zip(starts, [*starts[1:], read], lines_before, strict=False)
    ]


def _line_ends(piece: bytes) -> int:
    """How many lines end in a piece; for long lines several times faster than ``count``."""
    found, place = 0, piece.find(b"\n")
    while place >= 0:
        found += 1
        place = piece.find(b"\n", place + 1)
    return found
