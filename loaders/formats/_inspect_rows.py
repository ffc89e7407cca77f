"""Rows of the events of ordinary Inspect samples: of only the columns that their kind has."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from loaders.run import response_pieces
from loaders.whole_runs import Kind, RowsByKind, WholeRun, of_kind

Row = tuple[Any, ...]
_KINDS: Final = (
    Kind(
        (
            *("seq", "step", "actor", "text", "thinking_state", "signature", "started_at"),
            "source_pos",
        ),
        (of_kind("thinking"),),
    ),
    Kind(("seq", "step", "actor", "text", "started_at", "source_pos"), (of_kind("message"),)),
    Kind(
        (
            *("seq", "step", "actor", "tool", "call_id", "arguments", "started_at"),
            "source_pos",
        ),
        (of_kind("tool_call"),),
    ),
    Kind(
        (
            *("seq", "step", "text", "tool", "call_id", "call_seq", "is_error", "error_type"),
            *("truncated", "started_at", "duration_s", "source_pos"),
        ),
        (of_kind("tool_result"),),
    ),
)


class PlainRows(RowsByKind):
    """Gathers rows of these kinds, of one run after the other."""

    def __init__(self) -> None:
        super().__init__(_KINDS)


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
        self.responses += response_pieces(tool, text, is_error)
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
