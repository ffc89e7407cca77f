"""A few draws of the calibration of ``benchmarks/calibration.py``: coverage and rejections.

Bounds follow from the number of draws: with n intervals that hold 95 % of the time, fewer than the
bound hold in one of ten thousand such tests. Draws of one analysis share data, so n counts draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from calibrate import draw
from scipy import stats

ONCE_IN = 1e-4


def fewest(draws: int, chance: float) -> int:
    """As few successes as happen once in ten thousand times."""
    return int(stats.binom.ppf(ONCE_IN, draws, chance))


def most(draws: int, chance: float) -> int:
    return int(stats.binom.ppf(1 - ONCE_IN, draws, chance))


def told(setting: str, draws: int, tasks: int | None = None) -> Iterator[tuple[str, pl.DataFrame]]:
    rows = [row for seed in range(draws) for row in draw(setting, 50_000 + seed, None, tasks)]
    for keys, frame in pl.DataFrame(rows).group_by("analysis", "quantity", maintain_order=True):
        yield ": ".join(map(str, keys)), frame


@pytest.mark.parametrize(
    ("setting", "draws", "tasks"), [("null", 5, 150), ("outcomes", 9, None), ("paths", 7, None)]
)
def test_intervals_hold_and_nulls_are_not_rejected(
    setting: str, draws: int, tasks: int | None
) -> None:
    names = set()
    for name, frame in told(setting, draws, tasks):
        names.add(name)
        assert frame["covered"].sum() >= fewest(frame.height, 0.95), name
        nulls = frame.filter("is_null")["rejected"].drop_nulls()
        if len(nulls):
            assert nulls.sum() <= most(len(nulls), 0.05), name
    assert len(names) >= 3


def test_a_trap_is_seen() -> None:
    """One level where hard tasks meet more finds harm that is not there; with task means it is gone."""
    harms = ("exec_error", "empty", "timeout")
    found = pl.DataFrame(
        [row for seed in range(3) for row in draw("confounded", 50_000 + seed, None)]
    ).filter(pl.col("quantity").is_in(harms))
    bias = dict(
        found.group_by("analysis").agg((pl.col("estimate") - pl.col("truth")).mean()).iter_rows()
    )
    assert bias["hazard, one level"] > 0.25
    assert abs(bias["hazard"]) < 0.2
