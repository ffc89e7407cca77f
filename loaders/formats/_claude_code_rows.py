"""Rows of the events that plain lines of Claude Code tell: of only the columns that their kind has."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from loaders.formats._claude_code_lines import HARNESS
from loaders.run import Run
from loaders.whole_runs import Kind, RowsByKind, of_kind

_PLACE: Final = pl.format("L{}/message/content/0", "line").alias("source_pos")
_HARNESS: Final = pl.lit(HARNESS, pl.String).alias("actor")
_KINDS: Final = (
    Kind(
        ("seq", "step", "text", "thinking_state", "signature", "started_at", "line"),
        (of_kind("thinking"), _PLACE),
    ),
    Kind(("seq", "step", "text", "started_at", "line"), (of_kind("message"), _PLACE)),
    Kind(
        ("seq", "step", "tool", "call_id", "arguments", "started_at", "line"),
        (of_kind("tool_call"), _PLACE),
    ),
    Kind(
        (
            *("seq", "step", "text", "tool", "call_id", "call_seq", "is_error", "error_type"),
            *("exit_code", "truncated", "duration_s", "started_at", "line"),
        ),
        (of_kind("tool_result"), _PLACE),
    ),
    Kind(
        ("seq", "step", "text", "error_type", "started_at", "source_pos"),
        (of_kind("other"), _HARNESS),
    ),
)


class PlainRows(RowsByKind):
    """Gathers such rows, of one run after the other.

    ``thoughts`` and the others are tuples in the order of ``_KINDS``, of the run that ``begin`` named;
    ``turn`` makes columns of them.
    """

    def __init__(self) -> None:
        super().__init__(_KINDS, {"line": pl.Int64()})
        self.thoughts: list[tuple[Any, ...]] = []
        self.texts: list[tuple[Any, ...]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.results: list[tuple[Any, ...]] = []
        self.others: list[tuple[Any, ...]] = []
        self._rows = (self.thoughts, self.texts, self.calls, self.results, self.others)
        self._run: Run | None = None

    def begin(self, run: Run) -> None:
        """What is told next is of this run."""
        self.turn()
        self._run = run

    def turn(self) -> None:
        """Rows into columns, whose times the run has to know."""
        if self._run is None:
            return
        self.take(self._run.index, *self._rows)
        for rows in self._rows:
            if rows:
                self._run.lasted(row[-2] for row in rows)
                rows.clear()

    @property
    def count(self) -> int:
        """How many rows are held."""
        return sum(map(len, self._rows)) + super().count

    def frames(self) -> list[pl.DataFrame]:
        """All rows; see ``RowsByKind``."""
        self.turn()
        return super().frames()

    def clear(self) -> None:
        """Let go of all rows."""
        super().clear()
        for rows in self._rows:
            rows.clear()
