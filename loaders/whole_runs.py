"""Rows of only the columns that they have, for readers that tell without help: of a run, of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import polars as pl

from loaders.columns import extend_columns, frame_of_columns
from loaders.schema import EVENTS
from loaders.steps import Step

EVENT_ROW: Final = (
    "run",
    "seq",
    "step",
    "kind",
    "actor",
    "text",
    "thinking_state",
    "tool",
    "call_id",
    "call_seq",
    "arguments",
    "source_pos",
)
STEP_ROW: Final = (
    "run",
    "step",
    "seq",
    "thinking",
    "thinking_chars",
    "thinking_available",
    "source_pos",
    "toolset",
    "evidence",
)


@dataclass
class Rows:
    """A whole run as rows, told at once by a reader that needs no help with numbers and links.

    ``events`` as in ``EVENT_ROW`` and ``steps`` as in ``STEP_ROW``, but for the run's number before, and
    for the tools and evidence behind; with null as the state of a step without thinking. All values
    are of the schema's types. ``answered``: the ``seq`` of the calls that have a response;
    ``responses``: what identifies those.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    steps: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    answered: set[int] = field(default_factory=set[int])
    calls: int = 0
    orphans: int = 0
    responses: list[str] = field(default_factory=list[str])
    system: str | None = None
    user: str | None = None


_ROWS_AT_ONCE: Final = 4_096
"""So many become frames: fewer cost more, and more keep all their texts as Python's objects."""


class Kind(NamedTuple):
    """Rows of one kind: their columns behind ``run``, and expressions of what is the same in all of them.

    A column that events do not have is there for these expressions alone.
    """

    columns: tuple[str, ...]
    alike: tuple[pl.Expr, ...]


class RowsByKind:
    """Rows of events of any number of runs, of each kind with only the columns that it has.

    A frame for each of many small runs would take longer than to read them. ``types`` of columns that
    events do not have.
    """

    def __init__(self, kinds: Sequence[Kind], types: dict[str, pl.DataType] | None = None) -> None:
        self._kinds = kinds
        self._types = pl.Schema({**EVENTS, **(types or {})})
        self._columns: list[list[list[Any]]] = [[[] for _ in ("run", *k.columns)] for k in kinds]
        self._frames: list[pl.DataFrame] = []
        self._in_columns = self._in_frames = 0

    def take(self, run: int, *rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of a run, those of each kind in turn; put into columns while in the processor's cache."""
        for some, columns in zip(rows, self._columns, strict=True):
            if some:
                self._in_columns += len(some)
                extend_columns(columns, ([run] * len(some), *zip(*some, strict=True)))
        if self._in_columns >= _ROWS_AT_ONCE:
            self._make_frames()

    def _make_frames(self) -> None:
        for kind, columns in zip(self._kinds, self._columns, strict=True):
            if columns[0]:
                frame = frame_of_columns(columns, ("run", *kind.columns), self._types)
                told = [name for name in frame.columns if name in EVENTS]
                self._frames.append(frame.select(*told, *kind.alike))
                self._in_frames += frame.height
                for values in columns:
                    values.clear()
        self._in_columns = 0

    @property
    def count(self) -> int:
        """How many rows are held."""
        return self._in_columns + self._in_frames

    def turn(self) -> None:
        """The run that is being told ends, and has to know what was gathered of it."""

    def frames(self) -> list[pl.DataFrame]:
        """All rows, each frame with the columns of its kind, by run and ``seq``."""
        self._make_frames()
        return self._frames

    def clear(self) -> None:
        """Let go of all rows."""
        self._frames, self._in_columns, self._in_frames = [], 0, 0
        for columns in self._columns:
            for values in columns:
                values.clear()


def of_kind(name: str) -> pl.Expr:
    """The kind of event that rows are of."""
    return pl.lit(name, EVENTS["kind"]).alias("kind")


@dataclass
class WholeRun:
    """A whole run told at once, of whose events some or all are gathered elsewhere.

    ``count`` of all of them; ``events`` of those that are here, with all columns of the schema but
    ``trajectory_id``; ``thinking`` the ``seq`` of those that are thinking; ``unanswered`` how many calls of
    tools have no response; ``responses`` what identifies these.
    """

    count: int = 0
    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    steps: list[Step] = field(default_factory=list[Step])
    thinking: list[int] = field(default_factory=list[int])
    unanswered: int = 0
    responses: list[str] = field(default_factory=list[str])
    system: str | None = None
    user: str | None = None
