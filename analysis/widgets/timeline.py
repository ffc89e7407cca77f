"""A run's events as a strip to walk along, or two runs on one axis with their first difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import polars as pl

from analysis.widgets.pieces import Piece, script, style, synced
from analysis.widgets.strips import KIND_NAMES, Strip, shown, side_by_side, strip_of
from loaders import Trajectories
from loaders.errors import DerailError


class Timeline(Piece):
    """A strip of events: four lanes (says, thinks, acts, gets), coloured by kind.

    ``Timeline(runs, id)`` shows one run, ``Timeline(runs, id, other)`` two, aligned step by step.
    Triangles mark perturbed responses, diamonds the calls whose request lacks earlier thinking.
    ``selected`` is [strip, index]; ``trajectory_id`` and ``seq`` name the same event. In the browser:
    arrows move, t next call of this tool, e next error, p next perturbed response, m next match of
    the search, d first difference, up and down from one run to the other, + - 0 zoom.

    Raises ``KeyError`` for an unknown run.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> line = Timeline(runs, runs.ids[0])
    >>> line.next_call()
    >>> line.kind
    'tool_call'
    """

    _esm = script("timeline")
    _css = style("timeline")
    kinds: Any = synced(())
    strips: Any = synced(())
    slots: Any = synced(0)
    difference: Any = synced()
    selected: Any = synced()
    hint: Any = synced("Click an event, or use the arrow keys.")

    def __init__(
        self,
        runs: Trajectories | None = None,
        trajectory_id: str | None = None,
        other: str | None = None,
        **values: Any,
    ) -> None:
        super().__init__(**{"kinds": KIND_NAMES, "when_empty": "No run chosen.", **values})
        self._shown: list[Strip] = []
        if runs is not None:
            chosen = [trajectory_id if trajectory_id is not None else runs.ids[0]]
            chosen += [] if other is None else [other]
            self.show(*(strip_of(runs[name], label=shown(name)) for name in chosen))

    # ------------------------------------------------------------------ show

    def show(self, *strips: Strip, difference: tuple[int, int] | None = None) -> None:
        """Show one strip, or two on one axis; ``difference``: the ``seq`` in each at which they part.

        Raises ``DerailError`` for more than two.
        """
        if len(strips) > 2:
            raise DerailError("a timeline shows one run or two")
        placed = [list(range(len(strip.seq))) for strip in strips]
        total = max((len(strip.seq) for strip in strips), default=0)
        if len(strips) == 2:
            first, second, total = side_by_side(*strips)
            placed = [first, second]
        parts = None
        if difference is not None and len(strips) == 2:
            ends = zip(strips, placed, difference, strict=True)
            places = [at[strip.seq.index(seq)] for strip, at, seq in ends if seq in strip.seq]
            parts = min(places, default=None)
        self._shown = list(strips)
        with self.together():
            self.selected = None
            self.slots = total
            self.difference = parts
            self.strips = [
                strip.as_state(slots) for strip, slots in zip(strips, placed, strict=True)
            ]

    def clear(self, why: str) -> None:
        """Show no run, and say why."""
        self.when_empty = why
        self.show()

    # ------------------------------------------------------------------ where

    @property
    def _place(self) -> tuple[Strip, int] | None:
        if not self.selected:
            return None
        strip, at = cast(list[int], self.selected)
        return self._shown[strip], at

    @property
    def trajectory_id(self) -> str | None:
        """The run of the selected event."""
        return self._place[0].trajectory_id if self._place else None

    @property
    def seq(self) -> int | None:
        """The number of the selected event in its run."""
        return self._place[0].seq[self._place[1]] if self._place else None

    @property
    def kind(self) -> str | None:
        """The kind of the selected event."""
        return KIND_NAMES[self._place[0].kind[self._place[1]]] if self._place else None

    @property
    def code(self) -> str | None:
        """The perturbation code of the selected event, if it has one."""
        return self._place[0].marks.get(self._place[1]) if self._place else None

    @property
    def dropped(self) -> str | None:
        """What the selected event's call lacked of earlier thinking, where it begins the call."""
        return self._place[0].dropped.get(self._place[1]) if self._place else None

    # ------------------------------------------------------------------ move

    def select(self, seq: int, strip: int = 0) -> None:
        """Select an event by its number.

        Raises ``KeyError`` where the run has no such event.
        """
        if strip >= len(self._shown) or seq not in self._shown[strip].seq:
            raise KeyError(f"no event {seq} is shown")
        self.selected = [strip, self._shown[strip].seq.index(seq)]

    def next_call(self) -> None:
        """Go to the next call of the selected event's tool, or of any tool where it has none."""
        strip, at = self._from()
        tool = strip.tool[at] if at >= 0 else -1
        call = KIND_NAMES.index("tool_call")
        self._go(lambda i: strip.kind[i] == call and tool in (-1, strip.tool[i]))

    def next_error(self) -> None:
        """Go to the next event that the log flags as an error."""
        errors = set(self._from()[0].errors)
        self._go(lambda i: i in errors)

    def next_perturbed(self) -> None:
        """Go to the next perturbed response."""
        marks = self._from()[0].marks
        self._go(lambda i: i in marks)

    def _from(self) -> tuple[Strip, int]:
        if not self._shown:
            raise DerailError("no run is shown")
        number, at = self.selected or (0, -1)
        return self._shown[number], at

    def _go(self, fits: Callable[[int], bool]) -> None:
        strip, at = self._from()
        count = len(strip.seq)
        ahead = ((at + step) % count for step in range(1, count + 1))
        found = next((index for index in ahead if fits(index)), None)
        if found is not None:
            self.selected = [(self.selected or (0,))[0], found]


def labelled(run: pl.DataFrame, *names: str) -> str:
    """A run's name for people: its outcome, task and trial, and these columns."""
    row = run.row(0, named=True)
    parts = [shown(row[name]) for name in names if row.get(name) is not None]
    if row.get("task_id") is not None:
        parts.append(shown(row["task_id"]))
    if row.get("trial") is not None:
        parts.append(f"trial {shown(row['trial'], 20)}")
    return " · ".join([*parts, str(row["outcome"] or "outcome unknown")])
