"""Rows of the events of ordinary Inspect samples: of only the columns that their kind has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl

from loaders.columns import frame_of_columns
from loaders.schema import EVENTS
from loaders.whole_runs import WholeRun

Row = tuple[Any, ...]
_ROWS_AT_ONCE: Final = 4_096
"""So many become frames: fewer cost more, and more keep all their texts as Python's objects."""
_COLUMNS: Final = {
    "thinking": (
        *("seq", "step", "actor", "text", "thinking_state", "signature", "started_at"),
        "source_pos",
    ),
    "message": ("seq", "step", "actor", "text", "started_at", "source_pos"),
    "tool_call": (
        *("seq", "step", "actor", "tool", "call_id", "arguments", "started_at"),
        "source_pos",
    ),
    "tool_result": (
        *("seq", "step", "text", "tool", "call_id", "call_seq", "is_error", "error_type"),
        *("truncated", "started_at", "duration_s", "source_pos"),
    ),
}


class PlainRows:
    """Gathers rows of these kinds, of one run after the other; see ``loaders.whole_runs.Gathered``."""

    def __init__(self) -> None:
        self._columns: dict[str, list[list[Any]]] = {
            kind: [[] for _ in ("run", *names)] for kind, names in _COLUMNS.items()
        }
        self._frames: list[pl.DataFrame] = []
        self._in_columns = self._in_frames = 0

    def take(
        self,
        run: int,
        thoughts: Sequence[Row],
        messages: Sequence[Row],
        calls: Sequence[Row],
        results: Sequence[Row],
    ) -> None:
        """Rows of a run, each a tuple of the values of its kind; put into columns while in the cache."""
        of_kinds = (thoughts, messages, calls, results)
        for rows, columns in zip(of_kinds, self._columns.values(), strict=True):
            if rows:
                self._in_columns += len(rows)
                columns[0] += [run] * len(rows)
                for values, more in zip(columns[1:], zip(*rows, strict=True), strict=True):
                    values += more
        if self._in_columns >= _ROWS_AT_ONCE:
            self._make_frames()

    def _make_frames(self) -> None:
        for kind, columns in self._columns.items():
            if columns[0]:
                frame = frame_of_columns(columns, ("run", *_COLUMNS[kind]), EVENTS)
                self._frames.append(frame.with_columns(kind=pl.lit(kind, EVENTS["kind"])))
                self._in_frames += frame.height
                for values in columns:
                    values.clear()
        self._in_columns = 0

    @property
    def count(self) -> int:
        """How many rows are held."""
        return self._in_columns + self._in_frames

    def turn(self) -> None:
        """Nothing is left to do when a run ends."""

    def frames(self) -> list[pl.DataFrame]:
        """All rows, each frame with the columns of its kind."""
        self._make_frames()
        return self._frames

    def clear(self) -> None:
        """Let go of all rows."""
        self._frames, self._in_columns, self._in_frames = [], 0, 0
        for columns in self._columns.values():
            for values in columns:
                values.clear()


class RowsOfRun(WholeRun):
    """The rows of one run, numbered, until it is known that all of its sample is ordinary.

    Whoever sets ``step`` says which call the rows from then on belong to. Each method tells an event
    of its kind, ``other`` one that has no columns of its own here.
    """

    def __init__(self, run: int) -> None:
        super().__init__()
        self.run = run
        self.step: int | None = None
        self.rows: tuple[list[Row], list[Row], list[Row], list[Row]] = ([], [], [], [])

    def tell_thinking(  # noqa: PLR0917
        self,
        actor: str | None,
        text: str | None,
        state: str,
        signature: str | None,
        at: datetime | None,
        pos: str,
    ) -> None:
        self.thinking.append(self.count)
        self.rows[0].append((self.count, self.step, actor, text, state, signature, at, pos))
        self.count += 1

    def tell_message(self, actor: str | None, text: str, at: datetime | None, pos: str) -> None:
        self.rows[1].append((self.count, self.step, actor, text, at, pos))
        self.count += 1

    def tell_call(  # noqa: PLR0917
        self,
        actor: str | None,
        tool: str | None,
        call_id: str,
        arguments: str | None,
        at: datetime | None,
        pos: str,
    ) -> None:
        self.rows[2].append((self.count, self.step, actor, tool, call_id, arguments, at, pos))
        self.count += 1

    def tell_result(  # noqa: PLR0917
        self,
        text: str | None,
        tool: str | None,
        call_id: str,
        call_seq: int,
        is_error: bool,
        error_type: str | None,
        truncated: bool | None,
        at: datetime | None,
        seconds: float | None,
        media: list[str] | None,
        pos: str,
    ) -> None:
        self.responses += (str(tool), "\0", str(text), "\0", str(is_error))
        if media:
            self.events.append((
                self.run, self.count, self.step, "tool_result", None, text, None, None, tool,
                call_id, call_seq, None, is_error, error_type, None, truncated, at, seconds, media,
                None, pos,
            ))  # fmt: skip
        else:
            self.rows[3].append((
                self.count, self.step, text, tool, call_id, call_seq, is_error, error_type,
                truncated, at, seconds, pos,
            ))  # fmt: skip
        self.count += 1

    def tell_other(  # noqa: PLR0917
        self,
        kind: str,
        actor: str | None,
        text: str | None,
        at: datetime | None,
        media: list[str] | None,
        pos: str,
    ) -> None:
        self.events.append((
            self.run, self.count, self.step, kind, actor, text, None, None, None, None, None, None,
            None, None, None, None, at, None, media, None, pos,
        ))  # fmt: skip
        self.count += 1
