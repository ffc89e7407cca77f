"""What an export wrote, and what its format had no place for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

import polars as pl

from loaders.values import Object

LOSSES: Final = pl.Schema(
    {
        "trajectory_id": pl.String,
        "seq": pl.Int64,
        "step": pl.Int64,
        "what": pl.String,
        "count": pl.Int64,
        "reason": pl.String,
    }
)
"""A row per run and kind of loss.

``what`` the column (``events.is_error``), or the kind of event or thinking that it happened to;
``count`` how often in this run; ``seq``, ``step`` the first event or model call; ``reason`` where
it is kept, or what became of it.
"""

LEFT_OUT: Final = "left out: the format has no field for it"

_ROWS_PER_CHUNK = 50_000
_SHOWN = 40
_SAY_UNKNOWN = ("outcome", "evidence")
"""Columns whose word for what is not known is ``unknown``; elsewhere a log may have written it."""


class Losses:
    """Collects what a target has no place for, counted by run, thing and reason."""

    def __init__(self) -> None:
        self.runs = 0
        """How many runs were written."""
        self._id = ""
        self._of_run: dict[tuple[str, str], list[Any]] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._chunks: list[pl.DataFrame] = []

    def begin(self, trajectory_id: str) -> None:
        """What is added from here on belongs to this run."""
        self._end()
        self._id = trajectory_id

    def add(self, what: str, reason: str, row: Object | None = None, count: int = 1) -> None:
        """Something was not told as it is; ``row`` the event or step that it happened to."""
        if count <= 0:
            return
        known = self._of_run.get((what, reason))
        if known is not None:
            known[0] += count
            return
        row = row or {}
        self._of_run[what, reason] = [count, row.get("seq"), row.get("step")]

    def refuse(self, reason: str) -> None:
        """The run is not written at all, which says all that there is to say of it."""
        self._of_run = {("run", f"not written: {reason}"): [1, None, None]}

    def keep(self, table: str, row: Object, columns: Iterable[str], reason: str) -> Object:
        """The known ones of these columns, plain enough for JSON, each counted as a loss."""
        kept: Object = {}
        for name in columns:
            value = row.get(name)
            if value is None or (name in _SAY_UNKNOWN and value == "unknown"):
                continue
            kept[name] = value.isoformat() if isinstance(value, datetime) else value
            self.add(f"{table}.{name}", reason, None if table == "trajectories" else row)
        return kept

    def frame(self) -> pl.DataFrame:
        """All losses, in the order of the runs."""
        self._end()
        self._chunk()
        return pl.concat([pl.DataFrame(schema=LOSSES), *self._chunks])

    def _end(self) -> None:
        for (what, reason), (count, seq, step) in self._of_run.items():
            self._rows.append((self._id, seq, step, what, count, reason))
        self._of_run = {}
        if len(self._rows) >= _ROWS_PER_CHUNK:
            self._chunk()

    def _chunk(self) -> None:
        self._chunks.append(pl.DataFrame(self._rows, schema=LOSSES, orient="row"))
        self._rows = []


@dataclass(frozen=True, repr=False)
class ExportReport:
    """What ``export`` wrote: ``paths``, the number of ``runs``, and the ``losses``.

    ``losses`` has a row per run and kind of loss: ``trajectory_id``, ``seq`` and ``step`` of the
    first, ``what`` (a column, or a kind of event or thinking), ``count``, ``reason``.
    """

    target: str
    version: str | None
    path: Path
    paths: list[Path]
    runs: int
    losses: pl.DataFrame

    @property
    def _title(self) -> str:
        name = f"{self.target} {self.version}" if self.version else self.target
        runs = f"{self.runs:,} run{'s' if self.runs != 1 else ''}"
        files = f"{len(self.paths):,} file{'s' if len(self.paths) != 1 else ''}"
        return f"{runs} as {name} in {files}: {self.path}"

    def _kinds(self) -> list[tuple[str, int, int, str]]:
        """(what, how often, in how many runs, why) over all runs, the most frequent first."""
        kinds = self.losses.group_by("what", "reason").agg(
            pl.col("count").sum(), runs=pl.col("trajectory_id").n_unique()
        )
        ordered = kinds.sort("count", "what", "reason", descending=[True, False, False])
        return ordered.select("what", "count", "runs", "reason").rows()

    def __repr__(self) -> str:
        kinds = self._kinds()
        if not kinds:
            return f"ExportReport: {self._title}\n  nothing was lost"
        width = max(len(what) for what, *_ in kinds[:_SHOWN])
        lines = [
            f"  {what.ljust(width)}  {count:>9,}  {reason}"
            for what, count, _, reason in kinds[:_SHOWN]
        ]
        more = [f"  and {len(kinds) - _SHOWN} more in .losses"] if len(kinds) > _SHOWN else []
        return "\n".join([f"ExportReport: {self._title}", *lines, *more])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{escape(what)}</code></td><td>{count:,}</td><td>{runs:,}</td>"
            f"<td>{escape(reason)}</td></tr>"
            for what, count, runs, reason in self._kinds()
        )
        head = "<tr><th>no field for</th><th>times</th><th>runs</th><th>what became of it</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else "<p>nothing was lost</p>"
        return f"<div class='derail-export'><b>{escape(self._title)}</b>{table}</div>"
