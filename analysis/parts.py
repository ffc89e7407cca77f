"""What looks at each run whole, and needs windows or joins inside it, goes part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVarTuple, cast

import polars as pl

from loaders import Trajectories, trajectories

Known = TypeVarTuple("Known")


def part_by_part(
    runs: Trajectories,
    compute: Callable[[Trajectories, *Known], pl.DataFrame],
    *known: *Known,
    times: int = 1,
) -> pl.DataFrame:
    """``compute(part, *known)`` for each part of the runs, put together in their order.

    ``known``: frames over all runs, of which each part gets the rows of its own. Right for whatever
    looks at no more than one run at a time: a part holds whole runs, so that the rows are those which
    all runs at once would give, in the memory of one part. ``times``: parts of so many times as many
    events, for what reads no texts.
    """
    return pl.concat(each_part(runs, compute, *known, times=times))


def each_part(
    runs: Trajectories,
    compute: Callable[[Trajectories, *Known], pl.DataFrame],
    *known: *Known,
    times: int = 1,
) -> Iterator[pl.DataFrame]:
    """The same, one part after the other."""
    frames = [_in_order(frame) for frame in cast(tuple[pl.DataFrame, ...], known)]
    for part in runs.parts(times * trajectories.PART_EVENTS):
        first, last = part.trajectories.select(a=pl.min("run"), b=pl.max("run")).collect().row(0)
        mine = cast(tuple[*Known], tuple(between(frame, first, last) for frame in frames))
        yield compute(part, *mine)


def slices(table: pl.DataFrame, rows: int = 1 << 18) -> Iterator[pl.DataFrame]:
    """A table whose runs ascend in pieces of whole runs, of about so many rows; one where there are none."""
    run, start = table["run"], 0
    while start + rows < table.height:
        stop = int(run.search_sorted(int(run[start + rows]), "right"))
        yield table[start:stop]
        start = stop
    if start < table.height or not table.height:
        yield table[start:]


def unshared(table: pl.DataFrame, *names: str) -> pl.DataFrame:
    """A small choice of rows with texts of its own: else they hold on to those of all rows that were read.

    ``names``: columns of texts, all of the table by default.
    """
    texts = names or table.select(pl.selectors.string()).columns
    return table.with_columns(pl.concat_str(name, pl.lit("")) for name in texts)


def _in_order(table: pl.DataFrame) -> pl.DataFrame:
    return table if table["run"].is_sorted() else table.sort("run", maintain_order=True)


def between(table: pl.DataFrame, first: int | None, last: int | None) -> pl.DataFrame:
    """The rows from the first to the last of these runs, of a table whose runs ascend; none without them."""
    if first is None or last is None:
        return table.clear()
    run = table["run"]
    return table[run.search_sorted(first, "left") : run.search_sorted(last, "right")]
