"""Changes of an outcome since the call before an exposure, against runs that have not met it yet.

Controls are many: each run of a task for each call at which another one meets the exposure, at each moment
around it. Only their sums are kept, and values only of a part of the runs at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.parts import between
from loaders.errors import DerailError

_CELLS: Final = 1 << 22
"""Most values of runs by steps that are laid out at once."""

_Floats = NDArray[np.float64]
_Places = NDArray[np.intp]


class _Stack(NamedTuple):
    """Exposed runs of a stratum that meet the exposure at the same call; sums over their controls."""

    first: int
    strata: _Places
    sums: _Floats
    counts: _Floats


def stacked_changes(
    table: pl.DataFrame, values: Iterable[pl.DataFrame], taus: Sequence[int]
) -> pl.DataFrame:
    """A row per exposed run and moment: its change since the base call, minus the mean of its controls.

    ``table``: ``run``, ``trajectory_id``, ``task``, ``stratum``, ``first`` (call at which it meets the exposure,
    or null); ``values``: ``run``, ``step``, ``value`` of some runs after the other, a row per call.
    Columns: ``run``, ``trajectory_id``, ``task``, ``tau``, ``effect``, ``controls``.

    Raises ``DerailError`` where a call has several values.
    """
    table = table.sort("run").with_columns(pl.col("stratum").rank("dense").cast(pl.Int64) - 1)
    moments = np.asarray(taus, dtype=np.intp)
    exposed = table.filter(pl.col("first") >= 1).select("stratum", "first").unique().sort("stratum")
    stacks = [
        _Stack(int(first), group["stratum"].to_numpy().astype(np.intp), *np.zeros((2, group.height, moments.size)))
        for (first,), group in exposed.sort("first", "stratum").group_by("first", maintain_order=True)
    ]  # fmt: skip
    last = max((stack.first for stack in stacks), default=0) + int(moments.max())
    found: list[pl.DataFrame] = []
    for some in values:
        for rows, laid_out in _laid_out(table, some, last):
            stratum = rows["stratum"].to_numpy().astype(np.intp)
            first = rows["first"].cast(pl.Float64).fill_null(np.inf).to_numpy()
            for stack in stacks:
                _add_controls(stack, stratum, first, laid_out, moments)
            found.append(_own_changes(rows, laid_out, moments))
    if not found:
        found = [_own_changes(table.clear(), np.empty((0, 1)), moments)]
    return (
        pl.concat(found)
        .join(_means(stacks, moments), on=["stratum", "first", "tau"], maintain_order="left")
        .join(table.select("run", "trajectory_id", "task"), on="run", maintain_order="left")
        .with_columns((pl.col("change") - pl.col("expected")).alias("effect"))
        .select("run", "trajectory_id", "task", "tau", "effect", "controls")
    )


def _laid_out(
    table: pl.DataFrame, values: pl.DataFrame, last: int
) -> Iterator[tuple[pl.DataFrame, _Floats]]:
    """Runs, and a row of values for each, by step up to ``last``; nan where there is none."""
    values = values.drop_nulls().filter(pl.col("step").is_between(0, last)).sort("run", "step")
    if values.select(pl.struct("run", "step").is_duplicated().any()).item():
        raise DerailError("an outcome has one value for each run and step; here some have several")
    ends = values.select(a=pl.col("run").min(), b=pl.col("run").max()).row(0)
    rows = between(table, *ends)
    steps = int(values.select(pl.col("step").max()).item() or 0) + 1
    at_once = max(1, _CELLS // steps)
    for start in range(0, rows.height, at_once):
        some = rows[start : start + at_once]
        theirs = between(values, some["run"][0], some["run"][-1])
        theirs = theirs.join(some.select("run"), on="run", how="semi", maintain_order="left")
        place = some["run"].search_sorted(theirs["run"]).to_numpy()
        laid_out = np.full((some.height, steps), np.nan)
        laid_out[place, theirs["step"].to_numpy()] = theirs["value"].to_numpy()
        yield some, laid_out


def _add_controls(
    stack: _Stack, stratum: _Places, first: _Floats, laid_out: _Floats, moments: _Places
) -> None:
    """Add the changes of runs of the same strata that have not met the exposure by then."""
    base, steps = stack.first - 1, laid_out.shape[1]
    if base >= steps:
        return
    place = np.minimum(np.searchsorted(stack.strata, stratum), stack.strata.size - 1)
    can = (stack.strata[place] == stratum) & (first > stack.first) & ~np.isnan(laid_out[:, base])
    who = np.flatnonzero(can)
    at = stack.first + moments
    change = laid_out[who[:, None], np.clip(at, 0, steps - 1)] - laid_out[who, base][:, None]
    counts = ~np.isnan(change) & (at >= 0) & (at < steps) & (first[who][:, None] > at)
    cell = place[who][:, None] * moments.size + np.arange(moments.size)
    size = stack.counts.size
    sums = np.bincount(cell[counts], weights=change[counts], minlength=size)
    stack.sums[...] += sums.reshape(stack.sums.shape)
    stack.counts[...] += np.bincount(cell[counts], minlength=size).reshape(stack.counts.shape)


def _own_changes(rows: pl.DataFrame, laid_out: _Floats, moments: _Places) -> pl.DataFrame:
    """The changes of the exposed among these runs: ``run``, ``stratum``, ``first``, ``tau``, ``change``."""
    is_exposed = (rows["first"] >= 1).fill_null(value=False).to_numpy()
    exposed, own = rows.filter(pl.col("first") >= 1), laid_out[is_exposed]
    first, steps = exposed["first"].to_numpy().astype(np.intp), laid_out.shape[1]
    at = first[:, None] + moments
    each = np.arange(first.size)
    base = np.where(first - 1 < steps, own[each, np.minimum(first - 1, steps - 1)], np.nan)
    change = own[each[:, None], np.clip(at, 0, steps - 1)] - base[:, None]
    known = ~np.isnan(change) & (at >= 0) & (at < steps)
    who, moment = np.nonzero(known)
    return exposed.select("run", "stratum", pl.col("first").cast(pl.Int64))[who].with_columns(
        tau=pl.Series(moments[moment], dtype=pl.Int64), change=pl.Series(change[known])
    )


def _means(stacks: list[_Stack], moments: _Places) -> pl.DataFrame:
    """Of each stack the mean change of its controls: ``stratum``, ``first``, ``tau``, ``expected``, ``controls``."""
    schema = {"stratum": pl.Int64, "first": pl.Int64, "tau": pl.Int64}
    frames = [pl.DataFrame(schema=schema | {"sum": pl.Float64, "controls": pl.Int64})]
    for stack in stacks:
        own, moment = np.nonzero(stack.counts)
        frames.append(
            pl.DataFrame(
                {
                    "stratum": stack.strata[own],
                    "first": np.full(own.size, stack.first),
                    "tau": moments[moment],
                    "sum": stack.sums[own, moment],
                    "controls": stack.counts[own, moment].astype(np.int64),
                },
                schema_overrides=schema,
            )
        )
    mean = (pl.col("sum") / pl.col("controls")).alias("expected")
    return pl.concat(frames).select("stratum", "first", "tau", mean, "controls")
