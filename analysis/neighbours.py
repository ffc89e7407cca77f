"""Windows over tables in which the rows of a run stand together: the rows before take the place of groups.

``over("run")`` puts a group together for every run, which costs ten times as much as a look at the row
before with the mask that it is of the same run.
"""

from __future__ import annotations

import polars as pl

_RUN = pl.col("run")
_ROOM = 1 << 32


def with_room(number: pl.Expr) -> pl.Expr:
    """The number of a run, times so much that its steps, or the ``seq`` of its events, can be added.

    Joins and groups by the one number that gives take a third of the time of those by run and step.
    """
    return number.cast(pl.Int64) * _ROOM


def is_neighbour(rows: int = 1, *of: str) -> pl.Expr:
    """Whether the row so many rows before is of the same run, and has the same value in the columns ``of``."""
    same = [pl.col(name) == pl.col(name).shift(rows) for name in ("run", *of)]
    return pl.all_horizontal(same).fill_null(value=False)


def before(value: pl.Expr, rows: int = 1) -> pl.Expr:
    """The value so many rows before in the same run; null where there is none."""
    return pl.when(is_neighbour(rows)).then(value.shift(rows))


def so_far(value: pl.Expr) -> pl.Expr:
    """The sum of numbers, or of yes and no, from the run's first row up to each row; null counts as 0."""
    value = value.cast(pl.Int64).fill_null(0)
    total = value.cum_sum()
    return total - pl.when(_begins()).then(total - value).forward_fill()


def latest(value: pl.Expr) -> pl.Expr:
    """The run's latest value up to each row that is no null."""
    place = pl.int_range(pl.len())
    began = pl.when(_begins()).then(place).forward_fill()
    known = pl.when(value.is_not_null()).then(place).forward_fill()
    return pl.when(known >= began).then(value.forward_fill())


def in_a_row(goes_on: pl.Expr) -> pl.Expr:
    """How many rows in a row up to each: 1 where it does not go on from the row before, else one more."""
    place = pl.int_range(pl.len())
    return place - pl.when(~goes_on).then(place).forward_fill() + 1


def _begins() -> pl.Expr:
    return _RUN.ne_missing(_RUN.shift(1))
