"""A log: the files that it lies in, what reading it costs, and reading it into a builder."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.discovery import Labels
from loaders.errors import LoadError, UnreadableRecord
from loaders.ranges import (
    Part,
    Range,
    SourceOfLines,
    SourceOfMembers,
    ranges_of,
    ranges_of_members,
)
from loaders.registry import Format, formats
from loaders.sources import Source

_BYTES_PER_FILE = 16 << 10
"""What reading one more file costs, in bytes that could be read in that time."""

Group = tuple[Format, list[Source], Labels]
"""A log as it was found: its format, its files and the labels that their paths give."""


class Log(NamedTuple):
    """One log as another process finds it: the name of its format and its files, or ``only`` a part of one."""

    format: str
    parts: tuple[tuple[Path, str | None], ...]
    only: Part | None = None

    def sources(self) -> list[Source]:
        """The files as sources, for one that reads them."""
        if isinstance(self.only, Range):
            return [SourceOfLines(self.parts[0][0], self.only)]
        if self.only is not None:
            return [SourceOfMembers(self.parts[0][0], self.only)]
        return [Source(path, member) for path, member in self.parts]


def logs_of(
    groups: Sequence[Group], sizes: Sequence[int], per_share: int, in_parts: bool = True
) -> list[tuple[int, Log, int]]:
    """What processes read one by one: logs, and of long ones the parts.

    Each with the number of its log and with what it weighs; a part weighs a share, whatever is in it,
    so that it is read alone. Not ``in_parts``: one process reads all, and logs stay whole.
    """
    logs: list[tuple[int, Log, int]] = []
    for number, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        chosen, sources, _ = group
        whole = Log(chosen.name, tuple((source.path, source.member) for source in sources))
        parts = _parts_of(group, size, per_share) if in_parts else ()
        logs += [(number, whole._replace(only=part), per_share) for part in parts]
        if not parts:
            logs.append((number, whole, size))
    return logs


def _parts_of(group: Group, size: int, per_part: int) -> Sequence[Part]:
    """A long log in several ranges of its lines or members, where these are runs; else none."""
    chosen, sources, _ = group
    if size < 2 * per_part or len(sources) > 1 or sources[0].member:
        return []
    source = sources[0]
    with suppress(Exception):  # whatever is wrong with it, reading it whole will tell
        parts: Sequence[Part] = []
        if chosen.splits and chosen.splits(source):
            parts = ranges_of(source.path, per_part)
        elif chosen.members and (members := chosen.members(source)):
            parts = ranges_of_members(source, members, per_part)
        source.release()
        return parts if len(parts) > 1 else []
    return []


def weight_of(source: Source) -> int:
    """What reading a source costs, in bytes."""
    with suppress(OSError, UnreadableRecord):  # gone by now: reading it will say so
        return source.unpacked_size + _BYTES_PER_FILE
    return 0


def are_known(groups: list[Group]) -> bool:
    """Whether other processes know the formats too; a module of the user's own they might not."""
    return all(formats().get(chosen.name) is chosen for chosen, _, _ in groups)


def read_source(
    chosen: Format,
    parts: list[Source],
    builder: Builder,
    strict: bool = False,
    lost: str | None = None,
) -> None:
    """Read one log; whatever goes wrong becomes a problem and what came before it is kept.

    With ``strict`` the first error is raised as ``LoadError`` instead. ``lost``: why it is not to be
    read at all.
    """
    source = parts[0]
    source.parts = tuple(parts)
    known_problems = len(builder.problem_rows)
    builder.begin(source, chosen.name, chosen.logs_thinking)
    if lost is not None:
        builder.problem(None, lost)
    else:
        with builder.record(None):
            chosen.read(source, builder)
    is_whole = not (source.lines_before or source.runs_before)
    if builder.runs_in_source == 0 and not builder.has_problem(source) and is_whole:
        builder.problem(None, f"recognised as {chosen.name}, but there is no run in it", "warning")
    builder.end()
    if strict:
        raise_first(builder.problem_rows[known_problems:])


def raise_first(problems: Iterable[tuple[Any, ...]]) -> None:
    for source, position, severity, reason, *_ in problems:
        if severity == "error":
            raise LoadError(f"{source}{f' at {position}' if position else ''}: {reason}")


@contextmanager
def collector_spared() -> Generator[None]:
    """For as long as this lasts Python's garbage collector searches only what is new.

    It would else go through all that the process has imported and made before, again and again while
    rows are made. That is left as it was afterwards.
    """
    if gc.get_freeze_count():  # somebody else has set objects apart, who may rely on it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
