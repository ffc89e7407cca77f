"""The model calls of a run while it is told: a row each, put into columns when the run ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import astuple

TOKENS: Final = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
_PARTS_OF_TOKENS: Final = (
    ("cached_tokens", "input_tokens"),
    ("reasoning_tokens", "output_tokens"),
)
_ROWS_AT_ONCE: Final = 256
"""So few rows stay in the processor's cache while they are turned into columns: twice as fast."""


class Step(Struct, gc=False):
    """A row of ``loaders.schema.STEPS``, in the same order, but for the run's id."""

    run: int
    step: int
    seq: int
    agent: str | None = None
    model: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    stop_reason: str | None = None
    error: str | None = None
    thinking: str | None = None
    thinking_chars: int | None = 0
    thinking_available: int | None = 0
    """Thinking events before the call, until it is known whether the log shows any."""
    thinking_sent: int | None = None
    evidence: str | None = None
    history_edit: str | None = None
    context: list[dict[str, int]] | None = None
    thinking_context: list[dict[str, int]] | None = None
    toolset: str | None = None
    source_pos: str | None = None


COLUMNS: Final = Step.__struct_fields__


Doubt = tuple[str | None, str]


@dataclass
class HandedOver:
    """What the run still needs to know of steps that it has let go of."""

    count: int = 0
    tokens: dict[str, int] = field(default_factory=dict[str, int])
    models: set[str] = field(default_factory=set[str])
    times: list[datetime] = field(default_factory=list[datetime])
    no_counts: list[Doubt] = field(default_factory=list[Doubt])
    too_large: list[Doubt] = field(default_factory=list[Doubt])
    """Where and why counts of theirs were taken out; told at the end, after all else."""

    def add(self, steps: Sequence[Step]) -> None:
        """These go too: they are finished."""
        self.count += len(steps)
        for name, numbers in token_counts(steps).items():
            if numbers:
                self.tokens[name] = self.tokens.get(name, 0) + sum(numbers)
        self.models.update(step.model for step in steps if step.model)
        times = [*self.times, *times_of(steps)]
        self.times = [min(times), max(times)] if times else []


def times_of(steps: Iterable[Step]) -> Iterator[datetime]:
    """When they began and ended, as far as that is known."""
    for step in steps:
        if step.started_at:
            yield step.started_at
        if step.ended_at:
            yield step.ended_at


def columns_of(steps: Sequence[Step]) -> Iterator[list[tuple[Any, ...]]]:
    """Some rows after the other as columns, in the order of ``COLUMNS``."""
    for start in range(0, len(steps), _ROWS_AT_ONCE):
        yield [*zip(*map(astuple, steps[start : start + _ROWS_AT_ONCE]), strict=True)]


def token_counts(steps: Sequence[Step]) -> dict[str, list[int]]:
    """What is known of each column in ``TOKENS``."""
    counts: dict[str, list[int]] = {name: [] for name in TOKENS}
    for name in TOKENS if steps else ():
        values = [*map(attrgetter(name), steps)]
        is_unknown = values.count(None) == len(values)
        counts[name] = [] if is_unknown else [value for value in values if value is not None]
    return counts


def finish(steps: Sequence[Step], logs_thinking: str, shows_some: bool) -> None:
    """Say of each call what its thinking was, where it has no block of its own.

    ``logs_thinking`` as a format declares it; ``shows_some``: the run has thinking events.
    """
    counts = shows_some or logs_thinking == "always"
    for step in steps:
        state = step.thinking
        if state is None:
            tokens = step.reasoning_tokens
            state = step.thinking = _state_of_no_thinking(logs_thinking, shows_some, tokens)
        if not counts:
            step.thinking_available = None
        if state is None or state == "not_logged":
            step.thinking_chars = None
        if step.evidence is None:
            step.evidence = "unknown"


def with_states(rows: Sequence[tuple[Any, ...]], logs_thinking: str) -> Sequence[tuple[Any, ...]]:
    """The same of rows ``(step, seq, thinking, thinking_chars, thinking_available, source_pos)``."""
    states = [row[2] for row in rows]
    if None not in states:
        return rows
    shows_some = any(states)
    none = _state_of_no_thinking(logs_thinking, shows_some, None)
    if shows_some and none == "absent":
        return [row if row[2] else (*row[:2], none, *row[3:]) for row in rows]
    chars = None if none in (None, "not_logged") else 0
    counts = shows_some or logs_thinking == "always"
    return [
        (
            step,
            seq,
            state or none,
            known if state else chars,
            before if counts else None,
            pos,
        )
        for step, seq, state, known, before, pos in rows
    ]


def _state_of_no_thinking(
    logs_thinking: str, shows_some: bool, reasoning_tokens: int | None
) -> str | None:
    if reasoning_tokens:
        return "not_logged"
    if logs_thinking == "never":
        return "not_logged"
    if logs_thinking == "always" or shows_some or reasoning_tokens == 0:
        return "absent"
    return None


def are_plausible(steps: Sequence[Step]) -> bool:
    """Whether no count of tokens is below zero, and no part more than the whole; in one look."""
    for step in steps:
        fresh, out = step.input_tokens, step.output_tokens
        cached, reasoning = step.cached_tokens or 0, step.reasoning_tokens or 0
        if (fresh or 0) < 0 or (out or 0) < 0 or cached < 0 or reasoning < 0:
            return False
        if (fresh is not None and cached > fresh) or (out is not None and reasoning > out):
            return False
    return True


def negative_counts(steps: Sequence[Step]) -> Iterator[tuple[Step, str, str]]:
    """Counts of tokens below zero, which are none: the step, the column, and why it can't be."""
    known = token_counts(steps)
    if any(min(numbers, default=0) < 0 for numbers in known.values()):
        for step in steps:
            for name in TOKENS:
                number = getattr(step, name)
                if number and number < 0:
                    yield step, name, f"{name}: {number} is no count"


def parts_above_the_whole(steps: Sequence[Step]) -> Iterator[tuple[Step, str, str]]:
    """The same of counts of a part of a call's tokens that are more than the whole."""
    known = token_counts(steps)
    parts = [(part, whole) for part, whole in _PARTS_OF_TOKENS if known[part] and known[whole]]
    for step in steps if parts else ():
        for part, whole in parts:
            some, all_of_them = getattr(step, part), getattr(step, whole)
            if some and all_of_them is not None and some > all_of_them:
                yield step, part, f"{part}: {some} is more than {whole}: {all_of_them}"
