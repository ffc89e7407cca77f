"""The card of a set of runs: what was read, how it ended, whether thinking was kept, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import polars as pl

from loaders.marks import is_simulated
from loaders.schema import OUTCOMES

if TYPE_CHECKING:
    from loaders.trajectories import Trajectories

Counts = list[tuple[str, int]]

# Each stands out from white and from black, and from its neighbours for the colour-blind.
_COLOURS = {
    "success": "#2b7bc4",
    "failure": "#d55e00",
    "error": "#b8468f",
    "limit": "#b07d12",
    "cancelled": "#6f8f3f",
    "unknown": "#858a94",
}
_SHOWN = 6
_NAME_CHARS, _TEXT_CHARS, _SOURCE_CHARS = 80, 300, 1_000


@dataclass(frozen=True)
class Summary:
    """Counts behind the card; every list is (name, count), largest first, long names shortened."""

    runs: int
    steps: int
    events: int
    subagents: int
    tasks: int
    formats: Counts
    frameworks: Counts
    models: Counts
    arms: Counts
    outcomes: Counts
    kinds: Counts
    thinking: Counts
    sent: Counts
    problems: Counts
    first_problems: list[tuple[str, str, str]]
    simulated: int = 0
    """Runs whose metadata says that no real model made them."""

    @property
    def thinking_line(self) -> str:
        """One sentence: was the thinking sent back to the model?"""
        sent = dict(self.sent)
        known = sent.get("kept", 0) + sent.get("dropped", 0)
        if not sum(sent.values()):
            return "no call had earlier thinking to send back, as far as the logs show"
        if not known:
            return f"unknown for all {sent['unknown']:,} calls that had earlier thinking"
        line = f"sent back in {sent.get('kept', 0):,} of {known:,} calls whose request is known"
        unknown = sent.get("unknown", 0)
        return f"{line}; unknown for {unknown:,}" if unknown else line

    @property
    def simulated_line(self) -> str:
        """How many runs say that they are simulated; empty where none does."""
        if not self.simulated:
            return ""
        which = "all runs" if self.simulated == self.runs else f"{self.simulated:,} runs"
        return f"{which}: no real model is in them"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("simulated", self.simulated_line),
            ("formats", _listed(self.formats)),
            ("frameworks", _listed(self.frameworks)),
            ("models", _listed(self.models)),
            ("arms", _listed(self.arms)),
            ("outcomes", _listed(self.outcomes)),
            ("events", _listed(self.kinds)),
            ("thinking", _listed(self.thinking, "calls")),
            ("thinking sent back", self.thinking_line),
            ("problems", _listed(self.problems) or "none"),
        ]
        return [(name, text) for name, text in rows if text]

    @property
    def _title(self) -> str:
        subagents = f" ({self.subagents:,} of subagents)" if self.subagents else ""
        tasks = f" over {self.tasks:,} tasks" if self.tasks else ""
        return f"{self.runs:,} runs{subagents}{tasks}, {self.steps:,} model calls, {self.events:,} events"

    def as_text(self) -> str:
        """The card for a terminal."""
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"Trajectories: {self._title}"]
        lines += [f"  {name.ljust(width)}  {text}" for name, text in rows]
        lines += [
            f"    {source}{f' at {position}' if position else ''}: {reason}"
            for source, position, reason in self.first_problems
        ]
        return "\n".join(lines)

    def as_html(self) -> str:
        """The card for a notebook: no script, all text of the logs escaped."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self._rows()
            if name != "outcomes"  # the key of the bar tells them
        )
        problems = "".join(
            f"<li><code>{escape(source)}{escape(f' at {position}') if position else ''}</code>: "
            f"{escape(reason)}</li>"
            for source, position, reason in self.first_problems
        )
        details = (
            f"<details><summary>{sum(n for _, n in self.problems):,} problems</summary>"
            f"<ul>{problems}</ul><small>All: <code>runs.problems.collect()</code></small></details>"
            if problems
            else ""
        )
        return (
            f"{_STYLE}<div class='derail-card'><b>{escape(self._title)}</b>"
            f"{self._outcome_bar()}<table>{rows}</table>{details}</div>"
        )

    def _outcome_bar(self) -> str:
        total = sum(count for _, count in self.outcomes)
        if not total:
            return ""
        segments = "".join(
            f"<span title='{name}: {count:,}' "
            f"style='width:{100 * count / total:.2f}%;background:{_COLOURS[name]}'></span>"
            for name, count in self.outcomes
        )
        told = ", ".join(f"{name} {count:,}" for name, count in self.outcomes)
        legend = "".join(
            f"<span><span style='background:{_COLOURS[name]}'></span>{name} {count:,} "
            f"<small>{100 * count / total:.0f} %</small></span>"
            for name, count in self.outcomes
        )
        return (
            f"<div class='derail-bar' role='img' aria-label='outcomes: {told}'>{segments}</div>"
            f"<div class='derail-key'>{legend}</div>"
        )


_STYLE = (
    "<style>.derail-card{font:13px/1.45 system-ui,sans-serif;border:1px solid #8884;border-radius:8px;"
    "padding:12px 16px;max-width:760px}.derail-card b{font-size:14px}.derail-card table{font:inherit;border-collapse:"
    "collapse;margin:4px 0;width:100%}.derail-card th,.derail-card td{text-align:left!important;"
    "padding:2px 12px 2px 0;vertical-align:top;border:0;background:none!important;white-space:normal}"
    ".derail-card tr{background:none!important}.derail-card td{word-break:break-word}.derail-card th{"
    "font-weight:500;opacity:.7;white-space:nowrap;width:9em}.derail-bar{display:flex;"
    "height:10px;border-radius:5px;overflow:hidden;margin:10px 0 6px;gap:1px}.derail-bar span{display:block}"
    ".derail-key{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 8px;font-size:12.5px}.derail-key span span{display:"
    "inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px}.derail-key small{opacity:.7}"
    ".derail-card summary{cursor:pointer}"
    ".derail-card li{word-break:break-word}</style>"
)


def summarize(runs: Trajectories) -> Summary:
    """Count what the card shows."""
    table = runs.trajectories.collect()
    kinds = runs.events.group_by("kind").len().collect()
    state = pl.col("thinking").cast(pl.String).fill_null("not known")
    thinking = runs.steps.group_by(state).len().collect()
    sent = pl.col("thinking_sent")
    available = pl.col("thinking_available")
    verdict = (
        pl.when(available.is_null() | (available == 0))
        .then(None)
        .when(sent.is_null())
        .then(pl.lit("unknown"))
        .when(sent < available)
        .then(pl.lit("dropped"))
        .otherwise(pl.lit("kept"))
    )
    sent_counts = runs.steps.group_by(verdict.alias("sent")).len().collect()
    problems = runs.problems.collect()
    worst_first = problems.sort("severity", maintain_order=True).head(_SHOWN)
    return Summary(
        runs=table.height,
        steps=int(table["steps"].sum() or 0),
        events=int(table["events"].sum() or 0),
        subagents=table["parent_id"].count(),
        tasks=table["task_id"].drop_nulls().n_unique(),
        formats=_counts(table, "format"),
        frameworks=_counts(table, "framework"),
        models=_counts(table, "model"),
        arms=_counts(table, "arm"),
        outcomes=[
            (name, count)
            for name in OUTCOMES
            if (count := table.filter(pl.col("outcome") == name).height)
        ],
        kinds=_pairs(kinds, "kind"),
        thinking=_pairs(thinking, "thinking"),
        sent=_pairs(sent_counts, "sent"),
        simulated=table.filter(is_simulated()).height,
        problems=_counts(problems, "severity"),
        first_problems=[
            (_shown(row["source"], _SOURCE_CHARS), _shown(row["position"]), _shown(row["reason"]))
            for row in worst_first.iter_rows(named=True)
        ],
    )


def _counts(table: pl.DataFrame, column: str) -> Counts:
    return _pairs(table[column].value_counts(name="len"), column)


def _pairs(counted: pl.DataFrame, column: str) -> Counts:
    """How often each value occurs, the most frequent first, those as frequent in their order."""
    if counted.is_empty():
        return []
    rows = counted.drop_nulls(column).sort(pl.col("len"), column, descending=[True, False]).rows()
    return [(_shown(str(name), _NAME_CHARS), int(count)) for name, count in rows]


def _listed(counts: Counts, unit: str = "") -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return f"{shown}{more}{f' ({unit})' if unit and shown else ''}"


def _shown(text: str | None, length: int = _TEXT_CHARS) -> str:
    """The end of a log's text is cut off, and so are control characters, which steer terminals."""
    text = text or ""
    cut = text if len(text) <= length else f"{text[: length - 3]}..."
    return "".join(c if c.isprintable() else "\ufffd" for c in cut)
