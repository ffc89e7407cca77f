"""A run as a strip of events, without their texts: what the timeline draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from analysis import perturbations
from loaders import Trajectories
from loaders.schema import KINDS

MOST_EVENTS: Final = 20_000
"""So many events of a run are drawn at first; ``all_events`` draws the rest."""

_NAME_CHARS: Final = 120


@dataclass(frozen=True)
class Strip:
    """The events of one run as parallel lists; ``marks`` and ``dropped`` by index of the event."""

    trajectory_id: str
    label: str
    seq: list[int]
    step: list[int | None]
    kind: list[int]
    tool: list[int]
    tools: list[str]
    errors: list[int]
    marks: dict[int, str]
    dropped: dict[int, str]
    matches: list[int]
    total: int

    def as_state(self, slots: list[int]) -> dict[str, Any]:
        """What goes to the browser, with the slot of each event on the common axis."""
        return {
            "label": self.label,
            "seq": self.seq,
            "step": self.step,
            "kind": self.kind,
            "tool": self.tool,
            "tools": self.tools,
            "errors": self.errors,
            "marks": {str(index): text for index, text in self.marks.items()},
            "dropped": {str(index): text for index, text in self.dropped.items()},
            "matches": self.matches,
            "slot": slots,
            "total": self.total,
        }


def shown(text: object, length: int = _NAME_CHARS) -> str:
    """A name from a log, cut where it is absurdly long; the browser makes the rest harmless.

    >>> shown("a" * 500, 10)
    'aaaaaaaaa…'
    """
    words = "unknown" if text is None else str(text)
    return words if len(words) <= length else f"{words[: length - 1]}…"


def strip_of(
    run: Trajectories,
    label: str,
    query: str = "",
    marks: dict[int, str] | None = None,
    most: int = MOST_EVENTS,
) -> Strip:
    """The strip of a single run; texts are looked through for ``query`` and not kept.

    ``marks``: codes of perturbed responses by ``seq``, where all runs have been looked at already;
    without them this run is looked at alone.

    Perturbed responses carry their code; the first event of each call whose request lacks earlier
    thinking says how much of it was sent.
    """
    is_match = says(query) if query else pl.lit(value=False)
    events = (
        run.events.head(most)
        .select(
            "trajectory_id",
            "seq",
            "step",
            pl.col("kind").to_physical(),
            "tool",
            (pl.col("is_error").fill_null(value=False) | (pl.col("kind") == "error")).alias(
                "error"
            ),
            is_match.alias("found"),
        )
        .collect()
    )
    total: int = run.trajectories.select(pl.col("events").first()).collect().item() or 0
    names: list[str] = events["tool"].drop_nulls().unique(maintain_order=True).to_list()
    numbers = {name: number for number, name in enumerate(names)}
    index = {seq: at for at, seq in enumerate(events["seq"].to_list())}
    if marks is None:
        found = perturbations.detect(run).filter("primary").select("seq", "code")
        marks = dict(found.iter_rows())
    return Strip(
        trajectory_id=events["trajectory_id"][0] if events.height else "",
        label=label,
        seq=events["seq"].to_list(),
        step=events["step"].to_list(),
        kind=events["kind"].to_list(),
        tool=[numbers.get(name, -1) for name in events["tool"].to_list()],
        tools=[shown(name) for name in names],
        errors=events["error"].arg_true().to_list(),
        marks={index[seq]: code for seq, code in sorted(marks.items()) if seq in index},
        dropped=_dropped(run, events),
        matches=events["found"].arg_true().to_list(),
        total=max(total, events.height),
    )


def says(query: str) -> pl.Expr:
    """Whether an event's text or arguments hold ``query``, in any case."""
    return pl.any_horizontal(
        pl.col(name).str.contains_any([query], ascii_case_insensitive=True).fill_null(value=False)
        for name in ("text", "arguments")
    )


def _dropped(run: Trajectories, events: pl.DataFrame) -> dict[int, str]:
    lacking = (
        run.steps.filter(
            pl.col("thinking_sent").is_not_null(),
            pl.col("thinking_sent") < pl.col("thinking_available"),
        )
        .select("step", "thinking_sent", "thinking_available")
        .collect()
    )
    first = (
        events.with_row_index("at")
        .drop_nulls("step")
        .group_by("step")
        .agg(pl.col("at").min())
        .join(lacking, on="step")
        .sort("at")
    )
    return {
        at: f"{sent} of {available} earlier thinking blocks sent"
        for at, sent, available in first.select(
            "at", "thinking_sent", "thinking_available"
        ).iter_rows()
    }


def side_by_side(a: Strip, b: Strip) -> tuple[list[int], list[int], int]:
    """Slots of two runs' events on one axis on which equal steps begin at the same place.

    Returns the slots of ``a``, those of ``b``, and how many slots there are.
    """
    lengths: dict[int, int] = {}
    for strip in (a, b):
        counts: dict[int, int] = {}
        for step in strip.step:
            key = -1 if step is None else step
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            lengths[key] = max(lengths.get(key, 0), count)
    starts: dict[int, int] = {}
    at = 0
    for step in sorted(lengths):
        starts[step] = at
        at += lengths[step]

    def slots(strip: Strip) -> list[int]:
        used: dict[int, int] = {}
        placed: list[int] = []
        for step in strip.step:
            key = -1 if step is None else step
            placed.append(starts[key] + used.get(key, 0))
            used[key] = used.get(key, 0) + 1
        return placed

    return slots(a), slots(b), at


KIND_NAMES: Final = list(KINDS)
