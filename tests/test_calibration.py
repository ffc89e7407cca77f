"""A few draws of the calibration of ``benchmarks/calibration.py``: coverage and rejections.

Bounds follow from the number of draws: with n intervals that hold 95 % of the time, fewer than the
bound hold in one of ten thousand such tests. Draws of one analysis share data, so n counts draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from calibrate import draw, truths_of
from scipy import stats

ONCE_IN = 1e-4


def fewest(draws: int, chance: float) -> int:
    """As few successes as happen once in ten thousand times."""
    return int(stats.binom.ppf(ONCE_IN, draws, chance))


def most(draws: int, chance: float) -> int:
    return int(stats.binom.ppf(1 - ONCE_IN, draws, chance))


def told(setting: str, draws: int, tasks: int = 1_500) -> Iterator[tuple[str, pl.DataFrame]]:
    truths = truths_of(setting, tasks)
    rows = [row for seed in range(draws) for row in draw(setting, 50_000 + seed, truths)]
    for keys, frame in pl.DataFrame(rows).group_by("analysis", "quantity", maintain_order=True):
        yield ": ".join(map(str, keys)), frame


@pytest.mark.parametrize(("setting", "draws"), [("null", 4), ("outcomes", 12)])
def test_intervals_hold_and_nulls_are_not_rejected(setting: str, draws: int) -> None:
    names = set()
    for name, frame in told(setting, draws):
        names.add(name)
        assert frame["covered"].sum() >= fewest(frame.height, 0.95), name
        nulls = frame.filter("is_null")["rejected"].drop_nulls()
        if len(nulls):
            assert nulls.sum() <= most(len(nulls), 0.05), name
    assert len(names) >= 10


def test_a_trap_is_seen() -> None:
    """One level where hard tasks meet more does not hold; the model with task means does."""
    covered = {name: frame["covered"].mean() for name, frame in told("confounded", 4, 300)}
    assert covered["hazard, one level: exec_error"] < 0.7
    assert covered["hazard: exec_error"] >= fewest(4, 0.95) / 4
