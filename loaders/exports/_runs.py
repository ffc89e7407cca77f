"""The runs of a set, one after the other, and never more of them in memory than one batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.schema import TRAJECTORIES
from loaders.trajectories import Trajectories
from loaders.values import Object

_EVENTS_PER_BATCH = 16_384
_MAX_BATCHES = 256
"""Each batch looks once through the column ``run`` of the whole set."""


@dataclass(frozen=True)
class OneRun:
    """A run with its rows, in order.

    ``tools`` (name, description, parameters) of its toolset; ``children`` the ids of the subagents'
    runs that each event started.
    """

    row: Object
    steps: list[Object]
    events: list[Object]
    tools: list[Object]
    children: dict[int, list[str]]

    @property
    def id(self) -> str:
        """Its ``trajectory_id``."""
        return str(self.row["trajectory_id"])

    @property
    def labels(self) -> Object:
        """What the user added to the row, as far as it is known."""
        added = {name: self.row[name] for name in self.row if name not in TRAJECTORIES}
        return {name: _plain(value) for name, value in added.items() if value is not None}


def each_run(runs: Trajectories) -> Iterator[OneRun]:
    """Every run of the set, by ascending ``run``."""
    table = runs.trajectories.collect().sort("run")
    offers = _offers(runs)
    children = _children(table)
    for batch in _batches(runs, table):
        within = pl.col("run").is_between(batch["run"][0], batch["run"][-1])
        steps = _Parts(runs.steps.filter(within).collect().sort("run", "step"))
        events = _Parts(runs.events.filter(within).collect().sort("run", "seq"))
        for row in batch.iter_rows(named=True):
            yield OneRun(
                row,
                steps.of(row["run"]),
                events.of(row["run"]),
                offers.get(row["toolset"], []),
                children.get(row["trajectory_id"], {}),
            )


class _Parts:
    """A table that is sorted by ``run``, and where each run's rows stand in it."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self._places: dict[int, tuple[int, int]] = {}
        offset = 0
        for length, run in frame["run"].rle().struct.unnest().iter_rows():
            self._places[run] = (offset, length)
            offset += length

    def of(self, run: int) -> list[Object]:
        """The rows of one run."""
        offset, length = self._places.get(run, (0, 0))
        return self._frame.slice(offset, length).to_dicts()


def _batches(runs: Trajectories, table: pl.DataFrame) -> list[pl.DataFrame]:
    sizes = runs.events.group_by("run").agg(size=pl.len()).collect()
    sized = table.select("run").join(sizes, on="run", how="left", maintain_order="left")
    before = sized["size"].cast(pl.Int64).fill_null(0).cum_sum().shift(1, fill_value=0)
    total = int(sizes["size"].sum() or 0)
    per_batch = max(_EVENTS_PER_BATCH, total // _MAX_BATCHES)
    parts = (before // per_batch).alias("_batch")
    return table.with_columns(parts).partition_by("_batch", maintain_order=True, include_key=False)


def _offers(runs: Trajectories) -> dict[str | None, list[Object]]:
    offers: dict[str | None, list[Object]] = {}
    for row in runs.tools.collect().iter_rows(named=True):
        offers.setdefault(row["toolset"], []).append(
            {
                "name": row["name"],
                "description": row["description"],
                "parameters": decoded(row["parameters"]),
            }
        )
    return offers


def _children(table: pl.DataFrame) -> dict[str, dict[int, list[str]]]:
    """By the parent's id, the runs that each of its events started."""
    children: dict[str, dict[int, list[str]]] = {}
    rows = table.select("parent_id", "parent_seq", "trajectory_id").drop_nulls()
    for parent, seq, child in rows.iter_rows():
        children.setdefault(parent, {}).setdefault(seq, []).append(child)
    return children


def _plain(value: Any) -> Any:
    """A label's value for JSON; what JSON has no type for as text."""
    return value if isinstance(value, str | int | float) else str(value)


def decoded(text: str | None) -> Any:
    """The value of a cell that holds JSON; its text where that is none."""
    if text is None:
        return None
    try:
        return decode(text.encode())
    except UnreadableRecord:
        return text
