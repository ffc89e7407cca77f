"""One event for the eye: a title, some facts, its text, and the raw record behind it."""

from __future__ import annotations

import json
from typing import Any, Final

import polars as pl

from analysis.widgets.pieces import EventView
from analysis.widgets.strips import shown
from analysis.widgets.timeline import Timeline
from loaders import Trajectories
from loaders.errors import DerailError

MOST_CHARS: Final = 2_000_000
"""The longest text that goes to the browser whole; of a longer one the head goes, and the view says so."""


class Reader(EventView):
    """Shows the event that is selected in a timeline; ``row`` is that event as a dict, or None."""

    def __init__(self, runs: Trajectories, timeline: Timeline, **values: Any) -> None:
        super().__init__(**values)
        self._runs, self._timeline = runs, timeline
        self.row: dict[str, Any] | None = None
        timeline.when("selected", lambda _: self._read())

    def _read(self) -> None:
        trajectory_id, seq = self._timeline.trajectory_id, self._timeline.seq
        if trajectory_id is None or seq is None:
            self.row = self.event = None
            return
        one = self._runs[trajectory_id]
        self.row = one.events.filter(pl.col("seq") == seq).collect().row(0, named=True)
        source = one.trajectories.select("source").collect().item()
        with self.together():
            self.raw = None
            self.event = as_state(self.row, source, self._timeline.code, self._timeline.dropped)
        # After the text, because a log may have to be unpacked for it.
        self.raw = raw_text(self._runs, trajectory_id, seq)


def as_state(row: dict[str, Any], source: str, code: str | None, dropped: str | None) -> dict[str, Any]:  # fmt: skip
    """What the event view shows of a row of ``events``."""
    kind = str(row["kind"])
    where = "before the first call" if row["step"] is None else f"step {row['step']}"
    facts: list[tuple[str, str]] = [("place", f"event {row['seq']}, {where}")]
    optional = (
        ("actor", row["actor"]),
        ("thinking", f"thinking: {row['thinking_state']}" if row["thinking_state"] else None),
        ("call id", row["call_id"]),
        ("exit code", None if row["exit_code"] is None else f"exit code {row['exit_code']}"),
        ("error", "flagged as error" if row["is_error"] else None),
        ("error", row["error_type"]),
        ("perturbed", f"perturbed: {code}" if code else None),
        ("dropped", dropped),
        ("injected", f"planted: {row['injected']}" if row["injected"] else None),
        ("truncated", "cut in the log" if row["truncated"] else None),
        ("duration", None if row["duration_s"] is None else f"{row['duration_s']:.2f} s"),
    )
    facts += [(name, shown(value)) for name, value in optional if value is not None]
    text, arguments = row["text"], row["arguments"]
    longest = max(len(text or ""), len(arguments or ""))
    return {
        "kind": kind,
        "title": kind.replace("_", " ") + (f": {shown(row['tool'])}" if row["tool"] else ""),
        "facts": facts,
        "text": None if text is None else text[:MOST_CHARS],
        "arguments": None if arguments is None else _pretty(arguments)[:MOST_CHARS],
        "cut": f"the first {MOST_CHARS:,} of {longest:,} characters"
        if longest > MOST_CHARS
        else "",
        "source": shown(f"{source} {row['source_pos'] or ''}".strip(), 300),
    }


def raw_text(runs: Trajectories, trajectory_id: str, seq: int) -> str:
    """The raw record as indented JSON, or why it can't be shown."""
    try:
        record = runs.raw(trajectory_id, seq)
    except (DerailError, KeyError, OSError) as error:
        return f"The raw record can't be read: {error.args[0] if error.args else error}"
    text = json.dumps(record, indent=2, ensure_ascii=False, default=str)
    if len(text) > MOST_CHARS:
        return f"{text[:MOST_CHARS]}\n… the first {MOST_CHARS:,} of {len(text):,} characters"
    return text


def _pretty(arguments: str) -> str:
    """Arguments as indented JSON where they are JSON; as logged where they are not."""
    if len(arguments) > MOST_CHARS:
        return arguments
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
