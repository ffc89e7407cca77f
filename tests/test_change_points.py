"""Change points: exact against all partitions, planted shifts found, nothing found where nothing changes."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import Planted, simulate
from small import Rows, runs_of

from analysis import breakdown
from loaders import DerailError, Trajectories


@settings(max_examples=40, deadline=None)
@given(
    x=st.lists(st.integers(0, 5), min_size=4, max_size=11),
    penalty=st.floats(0.1, 8),
    shortest=st.integers(1, 3),
)
def test_pelt_finds_the_best_of_all_partitions(x: list[int], penalty: float, shortest: int) -> None:
    values = np.array(x, dtype=float)

    def cost(start: int, end: int) -> float:
        return float(((values[start:end] - values[start:end].mean()) ** 2).sum())

    def total(starts: tuple[int, ...]) -> float:
        return sum(cost(a, b) for a, b in pairwise([0, *starts, len(x)])) + penalty * len(starts)

    allowed = [
        starts
        for size in range(len(x))
        for starts in combinations(range(1, len(x)), size)
        if all(b - a >= shortest for a, b in pairwise([0, *starts, len(x)]))
    ]
    if not allowed:
        return
    found = breakdown.pelt(
        lambda starts, end: np.array([cost(int(s), end) for s in starts]), len(x), penalty, shortest
    )
    assert total(tuple(found)) == pytest.approx(min(total(starts) for starts in allowed))


def with_values(values: np.ndarray[Any, Any], tasks: int = 20) -> tuple[Trajectories, pl.DataFrame]:
    """Runs of equal length and a value for each of their steps."""
    runs, steps = values.shape
    trajectories: Rows = [
        {"run": n, "task_id": f"t{n % tasks}", "steps": steps, "arm": "x"} for n in range(runs)
    ]
    table = pl.DataFrame(
        {
            "run": np.repeat(np.arange(runs), steps),
            "step": np.tile(np.arange(steps), runs),
            "value": values.ravel(),
        }
    )
    return runs_of(trajectories), table


def test_a_planted_shift_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    chance = np.r_[np.full(7, 0.1), np.full(6, 0.4)]
    runs, table = with_values((rng.random((80, 13)) < chance).astype(float))
    found = breakdown.change_points(runs, table, by="arm")
    assert found.frame["first_step"].to_list() == [0, 7]
    before, after = found.frame.iter_rows(named=True)
    assert before["low"] < 0.1 < before["high"]
    assert after["low"] < 0.4 < after["high"]
    assert after["p"] < 0.01
    assert after["stability"] > 0.8
    assert "at call 7" in found.headline
    assert len(found.runs(arm="x", segment=1)) == 80


def test_two_shifts_of_a_number_are_found() -> None:
    rng = np.random.default_rng(1)
    level = np.r_[np.zeros(6), np.full(6, 2.0), np.full(6, -1.0)]
    runs, table = with_values(level + rng.normal(size=(40, 18)))
    assert breakdown.change_points(runs, table).frame["first_step"].to_list() == [0, 6, 12]


def test_nothing_is_found_where_nothing_changes_even_in_spells() -> None:
    """Runs that differ, with errors in spells: 40 sets, at most 5 % and what chance adds."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(40):
        noise = rng.random((30, 14)) < 0.25 * rng.random((30, 1))
        spells = (noise | np.roll(noise, 1, axis=1) | np.roll(noise, 2, axis=1)).astype(float)
        runs, table = with_values(spells)
        found += breakdown.change_points(runs, table).frame.height > 1
    assert found <= 5


def test_a_constant_hazard_has_no_change() -> None:
    planted = Planted(tasks=40, task_sd=0.0, error_rate=0.0, null_rate=0.0, steps=9)
    found = [
        breakdown.change_points(simulate(planted, seed), "hazard").frame.height > 1
        for seed in range(12)
    ]
    assert sum(found) <= 2


def test_what_is_no_series_is_refused() -> None:
    runs = simulate(Planted(tasks=4), 0)
    with pytest.raises(DerailError, match="no series 'speed'"):
        breakdown.change_points(runs, "speed")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DerailError, match="too few to see a change"):
        breakdown.change_points(simulate(Planted(tasks=2, runs=2), 0), "hazard")
    with pytest.raises(DerailError, match="needs the columns"):
        breakdown.change_points(runs, pl.DataFrame({"run": [0]}))
