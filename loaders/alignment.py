"""What a recorded call saw, put in the numbers of another log of the same run."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from loaders.context import Range, merge
from loaders.pairing import Step
from loaders.schema import STEPS
from loaders.trajectories import Trajectories

_EMITTED = ("message", "tool_call", "thinking")
_GIVEN = ("system", "user")
CONTEXTS = pl.Schema(
    {
        "run": pl.Int64,
        "step": pl.Int64,
        "wire_context": STEPS["context"],
        "wire_thinking_context": STEPS["thinking_context"],
    }
)


class _Event(NamedTuple):
    seq: int
    step: int | None
    kind: str
    call_seq: int | None
    text: str | None


def contexts_in_native_numbers(
    native: Trajectories, recorded: Trajectories, pairs: Mapping[Step, Step]
) -> pl.DataFrame:
    """``context`` and ``thinking_context`` of paired calls in the numbers of ``native``.

    Columns as ``CONTEXTS``. Null where some event before the call is not in the recording: what the
    call saw of it is not known.
    """
    ours, theirs = _events_by_run(native), _events_by_run(recorded)
    starts = _first_events(native)
    seen = {
        (row["run"], row["step"]): row
        for row in recorded.steps.select("run", "step", "seq", "context", "thinking_context")
        .collect()
        .iter_rows(named=True)
    }
    by_run: dict[int, dict[int, Step]] = defaultdict(dict)
    for (run, step), partner in pairs.items():
        by_run[run][step] = partner
    rows: list[tuple[Any, ...]] = []
    for run, partners in by_run.items():
        recordings = {other for other, _ in partners.values()}
        alignments = {
            other: _Alignment(ours.get(run, []), theirs.get(other, []), partners, other)
            for other in recordings
        }
        for step, partner in partners.items():
            alignment, call = alignments[partner[0]], seen[partner]
            seq = starts[run, step]
            context = alignment.context(call["context"], call["seq"], seq)
            thinking = alignment.thinking_context(call["thinking_context"])
            rows.append((run, step, _as_structs(context), _as_structs(thinking)))
    return pl.DataFrame(rows, schema=CONTEXTS, orient="row")


def _events_by_run(runs: Trajectories) -> dict[int, list[_Event]]:
    plain = pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars()
    events = (
        runs.events.filter(pl.col("kind").is_in([*_EMITTED, *_GIVEN, "tool_result"]))
        .select(
            "run",
            "seq",
            "step",
            pl.col("kind").cast(pl.String),
            "call_seq",
            pl.when(pl.col("kind").is_in(_GIVEN)).then(plain),
        )
        .collect()
    )
    by_run: dict[int, list[_Event]] = defaultdict(list)
    for run, *event in events.iter_rows():
        by_run[run].append(_Event(*event))
    return by_run


def _first_events(runs: Trajectories) -> dict[Step, int]:
    steps = runs.steps.select("run", "step", "seq").collect()
    return {(run, step): seq for run, step, seq in steps.iter_rows()}


class _Alignment:
    """Which event of a run is which event of its recording."""

    def __init__(
        self,
        ours: list[_Event],
        theirs: list[_Event],
        partners: Mapping[int, Step],
        other_run: int,
    ) -> None:
        self._native: dict[int, int] = {}
        self._align_emitted(ours, theirs, partners, other_run)
        self._align_results(ours, theirs)
        self._align_given(ours, theirs)
        aligned = set(self._native.values())
        thinking = {event.seq for event in theirs if event.kind == "thinking"}
        self._said = sorted(seq for seq in self._native if seq not in thinking)
        self._thought = sorted(seq for seq in self._native if seq in thinking)
        self._unaligned = [
            event.seq for event in ours if event.kind != "thinking" and event.seq not in aligned
        ]

    def _align_emitted(
        self,
        ours: list[_Event],
        theirs: list[_Event],
        partners: Mapping[int, Step],
        other_run: int,
    ) -> None:
        """Of two paired calls the first message is the first message, and so on."""
        emitted: dict[tuple[int, str], deque[int]] = defaultdict(deque)
        for event in theirs:
            if event.kind in _EMITTED and event.step is not None:
                emitted[event.step, event.kind].append(event.seq)
        for event in ours:
            partner = partners.get(-1 if event.step is None else event.step)
            if event.kind in _EMITTED and partner is not None and partner[0] == other_run:
                waiting = emitted.get((partner[1], event.kind))
                if waiting:
                    self._native[waiting.popleft()] = event.seq

    def _align_results(self, ours: list[_Event], theirs: list[_Event]) -> None:
        """The result of a call is the result of the same call."""
        answers = {event.call_seq: event.seq for event in ours if event.kind == "tool_result"}
        for event in theirs:
            if event.kind == "tool_result" and event.call_seq in self._native:
                answer = answers.get(self._native[event.call_seq])
                if answer is not None:
                    self._native[event.seq] = answer

    def _align_given(self, ours: list[_Event], theirs: list[_Event]) -> None:
        """Prompts and turns of the user by their text, in order."""
        waiting: dict[tuple[str, str | None], deque[int]] = defaultdict(deque)
        for event in theirs:
            if event.kind in _GIVEN:
                waiting[event.kind, event.text].append(event.seq)
        for event in ours:
            same = waiting.get((event.kind, event.text))
            if event.kind in _GIVEN and same:
                self._native[same.popleft()] = event.seq

    def context(self, ranges: Any, stop: int, seq: int) -> list[Range] | None:
        """The events before ``seq`` that were in a request, given what of the recording was."""
        if ranges is None or bisect_left(self._unaligned, seq) > 0:
            return None
        lacking: list[int] = []
        for start, end in _gaps(_as_pairs(ranges), stop):
            said = self._said[bisect_left(self._said, start) : bisect_left(self._said, end)]
            lacking.extend(self._native[number] for number in said)
        return _gaps(merge((number, number + 1) for number in lacking), seq)

    def thinking_context(self, ranges: Any) -> list[Range] | None:
        """Ranges of this run's numbers in which all its thinking was in a request."""
        if ranges is None:
            return None
        found: list[Range] = []
        for start, end in _as_pairs(ranges):
            first = bisect_left(self._thought, start)
            last = bisect_right(self._thought, end - 1) - 1
            if first <= last:
                begin, final = self._thought[first], self._thought[last]
                found.append((self._native[begin], self._native[final] + 1))
        return merge(found)


def _gaps(ranges: Iterable[Range], stop: int) -> list[Range]:
    """What the ranges leave out below ``stop``.

    >>> _gaps([(0, 2), (5, 7)], 9)
    [(2, 5), (7, 9)]
    """
    gaps: list[Range] = []
    at = 0
    for start, end in ranges:
        if at < start:
            gaps.append((at, min(start, stop)))
        at = max(at, end)
    return [*gaps, (at, stop)] if at < stop else gaps


def _as_pairs(ranges: Any) -> list[Range]:
    return [(piece["start"], piece["stop"]) for piece in ranges]


def _as_structs(ranges: list[Range] | None) -> list[dict[str, int]] | None:
    return None if ranges is None else [{"start": a, "stop": b} for a, b in ranges]
