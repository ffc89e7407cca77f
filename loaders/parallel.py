"""Logs read into memory by several processes, each of which takes a share of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import polars as pl

from loaders.builder import Builder, Frames
from loaders.linking import counted_together, with_counts
from loaders.logs import Group, Log, logs_of, read_source
from loaders.ranges import Part, Told, has_changed, true_parts
from loaders.registry import format_called
from loaders.schema import PROBLEMS
from loaders.shares import by_weight
from loaders.workers import Lost, Work, in_processes

_BYTES_PER_SHARE = 32 << 20
_BYTES_FOR_A_FILE = 1 << 20
"""A table of so many goes to the other process in a file: to pickle it takes five times as long."""


class _Share(NamedTuple):
    """Logs that one process reads, or a part of one; and a folder for what it finds.

    ``number`` of the first log; ``weight`` bytes to read.
    """

    number: int
    logs: tuple[Log, ...]
    weight: int
    folder: Path

    @property
    def part(self) -> Part | None:
        """The part of a log that this is; a part is read alone."""
        return self.logs[0].only

    def instead(self, part: Part | None) -> _Share:
        """Another part of the same log, or all of it."""
        return self._replace(logs=(self.logs[0]._replace(only=part),))


class _Read(NamedTuple):
    """Tables of a share, ``problems`` with how often each was; and whether lines of it need others."""

    frames: Frames
    lines_depend: bool


class _Sent(NamedTuple):
    """The same on the way from process to process, large tables as the files that they stand in."""

    tables: Mapping[str, pl.DataFrame | Path]
    lines_depend: bool


def shared_out(groups: Sequence[Group], weights: Sequence[int]) -> list[tuple[int, Log, int]]:
    """What processes would read one by one, as ``logs_of``; of a single one there is nothing to share."""
    return logs_of(groups, weights, _BYTES_PER_SHARE)


def read_in_processes(
    logs: Sequence[tuple[int, Log, int]], advance: Callable[[int], None]
) -> Iterator[Frames]:
    """Read what was ``shared_out``; gives the tables of each share, in the order of the logs.

    ``advance`` is told how many more bytes are done.
    """
    weights = [weight for _, _, weight in logs]
    with tempfile.TemporaryDirectory(prefix="derail-", ignore_cleanup_errors=True) as folder:
        shares: dict[int, _Share] = {}
        for number, batch in enumerate(by_weight(weights, _BYTES_PER_SHARE)):
            first, log, _ = logs[batch[0]]
            weight = log.only.weight if log.only else sum(weights[place] for place in batch)
            read_by = tuple(logs[place][1] for place in batch)
            shares[number] = _Share(first, read_by, weight, Path(folder))
        results = _read(shares, advance)
        in_parts = _shares_of_logs_in_parts(shares)
        again: dict[int, _Share] = {}
        for of_log in in_parts:
            again |= _to_read_again({number: shares[number] for number in of_log}, results)
        results |= _read(again)
    for of_log in in_parts:
        _tell_problems_of_all_in_the_first([results[n] for n in of_log if n in results])
    for number in sorted(results):
        frames = results.pop(number).frames
        yield frames | {"problems": frames["problems"].select(PROBLEMS.names())}


def _shares_of_logs_in_parts(shares: Mapping[int, _Share]) -> list[list[int]]:
    of_logs: dict[int, list[int]] = {}
    for number, share in shares.items():
        if share.part is not None:
            of_logs.setdefault(share.number, []).append(number)
    return [*of_logs.values()]


def _to_read_again(shares: Mapping[int, _Share], results: dict[int, _Read]) -> dict[int, _Share]:
    """Of the shares of one log those that should have been others, as they should have been.

    If it can't be read in parts, that is all of it in place of the first.
    """
    parts = [share.part for share in shares.values() if share.part is not None]
    told = [
        Told(
            results[number].frames["trajectories"].height,
            results[number].frames["problems"].height,
            results[number].lines_depend,
        )
        for number in shares
    ]
    first = min(shares)
    is_other = has_changed(shares[first].logs[0].parts[0][0], parts[0].size, parts[0].changed)
    true = None if is_other else true_parts(parts, told)
    if true is None:
        for number in shares:
            del results[number]
        return {first: shares[first].instead(None)}
    return {
        number: share.instead(part)
        for (number, share), part in zip(shares.items(), true, strict=True)
        if share.part != part
    }


def _tell_problems_of_all_in_the_first(of_log: list[_Read]) -> None:
    """What happened several times in a log is one problem, in whatever parts it was read."""
    together = counted_together([result.frames["problems"] for result in of_log])
    for result, problems in zip(
        of_log, [together, *[together.clear()] * len(of_log)], strict=False
    ):
        result.frames["problems"] = problems


# ---------------------------------------------------------------------- in the processes


def _read(
    shares: Mapping[int, _Share], advance: Callable[[int], None] = lambda count: None
) -> dict[int, _Read]:
    work = Work(_read_share, lambda share: len(share.logs), _try_one)
    numbers = [*shares]
    results: dict[int, _Read] = {}
    for place, sent in in_processes(work, [*shares.values()]):
        frames = {name: _received(table) for name, table in sent.tables.items()}
        results[numbers[place]] = _Read(frames, sent.lines_depend)
        advance(shares[numbers[place]].weight)
    return results


def _read_share(share: _Share, lost: Lost) -> _Sent:
    builder = Builder()
    lines_depend = False
    for number, log in enumerate(share.logs):
        sources = log.sources()
        read_source(format_called(log.format), sources, builder, lost=lost.get(number))
        lines_depend |= sources[0].lines_depend
    frames = builder.frames()
    frames["problems"] = with_counts(frames["problems"], builder.counted)
    sent = {name: _for_sending(frame, share.folder) for name, frame in frames.items()}
    return _Sent(sent, lines_depend)


def _try_one(share: _Share, number: int) -> None:
    builder = Builder()
    log = share.logs[number]
    read_source(format_called(log.format), log.sources(), builder)
    builder.frames()


def _for_sending(frame: pl.DataFrame, folder: Path) -> pl.DataFrame | Path:
    if frame.estimated_size() < _BYTES_FOR_A_FILE:
        return frame
    path = folder / f"{uuid4().hex}.arrow"
    try:
        frame.write_ipc(path, compression="uncompressed")
    except (OSError, pl.exceptions.PolarsError):  # no room there
        path.unlink(missing_ok=True)
        return frame
    return path


def _received(table: pl.DataFrame | Path) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    frame = pl.read_ipc(table)
    table.unlink()
    return frame
