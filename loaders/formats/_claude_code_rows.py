"""Rows of the events that plain lines of Claude Code tell: of only the columns that their kind has."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from loaders.columns import frame_of_columns
from loaders.formats._claude_code_lines import HARNESS
from loaders.run import Run
from loaders.schema import EVENTS

_ROWS_AT_ONCE: Final = 4_096
"""So many become a frame: fewer cost more, and more keep all their texts as Python's objects."""
_COLUMNS: Final = (
    ("seq", "step", "text", "thinking_state", "signature", "started_at", "line"),
    ("seq", "step", "text", "started_at", "line"),
    ("seq", "step", "tool", "call_id", "arguments", "started_at", "line"),
    (
        *("seq", "step", "text", "tool", "call_id", "call_seq", "is_error", "error_type"),
        *("exit_code", "truncated", "duration_s", "started_at", "line"),
    ),
    ("seq", "step", "text", "error_type", "started_at", "source_pos"),
)
_TYPES: Final = pl.Schema({**EVENTS, "line": pl.Int64})
_PLACE: Final = pl.format("L{}/message/content/0", "line").alias("source_pos")


def _kind(name: str) -> pl.Expr:
    return pl.lit(name, EVENTS["kind"]).alias("kind")


_ALIKE: Final = (
    (_kind("thinking"), _PLACE),
    (_kind("message"), _PLACE),
    (_kind("tool_call"), _PLACE),
    (_kind("tool_result"), _PLACE),
    (_kind("other"), pl.lit(HARNESS, pl.String).alias("actor")),
)
"""What the rows of a kind need no column of Python's values for."""


class PlainRows:
    """Gathers such rows, of one run after the other.

    ``thoughts`` and the others are tuples in the order of ``_COLUMNS``, of the run that ``begin``
    named. ``turn`` makes columns of them, which is fast while they are few and in the processor's cache.
    """

    def __init__(self) -> None:
        self.thoughts: list[tuple[Any, ...]] = []
        self.texts: list[tuple[Any, ...]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.results: list[tuple[Any, ...]] = []
        self.others: list[tuple[Any, ...]] = []
        self._rows = (self.thoughts, self.texts, self.calls, self.results, self.others)
        self._run: Run | None = None
        self._columns: list[list[list[Any]]] = [[[] for _ in ("run", *names)] for names in _COLUMNS]
        self._frames: list[pl.DataFrame] = []

    def begin(self, run: Run) -> None:
        """What is told next is of this run."""
        self.turn()
        self._run = run

    def turn(self) -> None:
        """Rows into columns, and these into frames where they are many."""
        if self._run is None:
            return
        for rows, columns in zip(self._rows, self._columns, strict=True):
            if rows:
                columns[0] += [self._run.index] * len(rows)
                told = [*zip(*rows, strict=True)]
                for values, more in zip(columns[1:], told, strict=True):
                    values += more
                self._run.lasted(told[-2])
                rows.clear()
        if self._in_columns >= _ROWS_AT_ONCE:
            self._make_frames()

    @property
    def _in_columns(self) -> int:
        return sum(len(columns[0]) for columns in self._columns)

    def _make_frames(self) -> None:
        for kind, columns in enumerate(self._columns):
            if columns[0]:
                names = ("run", *_COLUMNS[kind])
                frame = frame_of_columns(columns, names, _TYPES)
                told = [name for name in names if name != "line"]
                self._frames.append(frame.select(*told, *_ALIKE[kind]))
                for values in columns:
                    values.clear()

    @property
    def count(self) -> int:
        """How many rows are held."""
        in_frames = sum(frame.height for frame in self._frames)
        return sum(map(len, self._rows)) + self._in_columns + in_frames

    def frames(self) -> list[pl.DataFrame]:
        """All of them; see ``loaders.whole_runs.Gathered``."""
        self.turn()
        self._make_frames()
        return self._frames

    def clear(self) -> None:
        """Let go of all rows."""
        self._frames = []
        for rows in (*self._rows, *(values for columns in self._columns for values in columns)):
            rows.clear()
