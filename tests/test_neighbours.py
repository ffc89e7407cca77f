"""Looks at the rows before are what windows over runs give; pieces of tables hold whole runs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from analysis.neighbours import before, in_a_row, is_neighbour, latest, so_far
from analysis.parts import between, slices, unshared


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(60) * 7, rng.integers(1, 9, 60))
    return pl.DataFrame(
        {"run": runs, "of": rng.integers(0, 2, runs.size), "value": rng.integers(0, 4, runs.size)}
    ).with_columns(pl.when(pl.col("value") > 0).then("value"))


VALUE = pl.col("value")
WINDOWS = {
    "before": (before(VALUE), VALUE.shift(1).over("run")),
    "two before": (before(VALUE, 2), VALUE.shift(2).over("run")),
    "so far": (
        so_far(VALUE == 1),
        (VALUE == 1).fill_null(value=False).cast(pl.Int64).cum_sum().over("run"),
    ),
    "latest": (latest(VALUE), VALUE.forward_fill().over("run")),
    "place": (in_a_row(is_neighbour()), pl.int_range(pl.len()).over("run") + 1),
    "neighbour": (
        is_neighbour(2, "of"),
        (pl.col("of") == pl.col("of").shift(2).over("run")).fill_null(value=False),
    ),
    "in a row": (
        in_a_row(is_neighbour(1, "of")),
        pl.int_range(pl.len()).over("run", pl.struct("run", "of").rle_id()) + 1,
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_the_rows_before_take_the_place_of_windows(name: str, table: pl.DataFrame) -> None:
    mine, window = WINDOWS[name]
    found = table.select(mine=mine.cast(pl.Int64), window=window.cast(pl.Int64))
    assert found["mine"].n_unique() > 1
    assert found["mine"].equals(found["window"])


@pytest.mark.parametrize("rows", [1, 5, 50, 10_000])
def test_slices_hold_whole_runs_and_all_of_them(rows: int, table: pl.DataFrame) -> None:
    pieces = list(slices(table, rows))
    assert pl.concat(pieces).equals(table)
    assert sum(piece["run"].n_unique() for piece in pieces) == table["run"].n_unique()
    longest = table.group_by("run").len()["len"].max()
    assert isinstance(longest, int)
    assert all(piece.height <= rows + longest for piece in pieces)
    assert [piece.height for piece in slices(table.clear(), rows)] == [0]


def test_the_rows_of_some_runs(table: pl.DataFrame) -> None:
    here = pl.col("run").is_between(8, 70)
    assert between(table, 8, 70).equals(table.filter(here))
    assert between(table, None, None).is_empty()


def test_texts_of_their_own_are_the_same_texts() -> None:
    texts = pl.DataFrame({"a": ["x", None, ""], "n": [1, 2, 3]})
    assert unshared(texts).equals(texts)
