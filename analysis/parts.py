"""What looks at each run whole, and needs windows or joins inside it, goes part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVarTuple, cast

import polars as pl

from loaders import Trajectories

Known = TypeVarTuple("Known")


def part_by_part(
    runs: Trajectories,
    compute: Callable[[Trajectories, *Known], pl.DataFrame],
    *known: *Known,
) -> pl.DataFrame:
    """``compute(part, *known)`` for each part of the runs, put together in their order.

    ``known``: frames over all runs, of which each part gets the rows of its own. Right for whatever
    looks at no more than one run at a time: a part holds whole runs, so that the rows are those which
    all runs at once would give, in the memory of one part.
    """
    frames = cast(tuple[pl.DataFrame, ...], known)
    found: list[pl.DataFrame] = []
    for part in runs.parts():
        first, last = part.trajectories.select(a=pl.min("run"), b=pl.max("run")).collect().row(0)
        here = pl.col("run").is_between(pl.lit(first, pl.Int64), pl.lit(last, pl.Int64))
        mine = cast(tuple[*Known], tuple(frame.filter(here) for frame in frames))
        found.append(compute(part, *mine))
    return pl.concat(found)
