"""Asking for "ever dropped" is refused wherever it can be asked for, with the reason and the right call."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import polars as pl
import pytest
from simulate import Planted, simulate

from analysis import ablation, breakdown, outcomes, thinking
from loaders import DerailError, Trajectories

NAMES = ("ever_timeout", "ever:timeout", "ever timeout", "Ever-timeout", "everTimeout")
ASKED: dict[str, Callable[[Trajectories, str], object]] = {
    "triggers": breakdown.triggers,
    "several": lambda runs, name: breakdown.triggers(runs, ["exec_error", name]),
    "hazard": lambda runs, name: breakdown.hazard(runs, exposure=[name]),
    "interaction": lambda runs, name: breakdown.hazard(runs, interactions=[("exec_error", name)]),
    "event study": breakdown.event_study,
    "series": cast(Callable[[Trajectories, str], object], breakdown.change_points),
}
BY: dict[str, Callable[[Trajectories, str], object]] = {
    "compare": lambda runs, name: ablation.compare(runs, by=name),
    "factors": lambda runs, name: ablation.factors(runs, [name]),
    "success": lambda runs, name: outcomes.success(runs, by=name),
    "by_step": lambda runs, name: breakdown.by_step(runs, by=name),
    "hazard": lambda runs, name: breakdown.hazard(runs, by=name),
    "manipulation": lambda runs, name: thinking.manipulation(runs, by=name),
    "divergence": lambda runs, name: breakdown.first_divergence(runs, by=name),
}


@pytest.fixture(scope="module")
def runs() -> Trajectories:
    return simulate(Planted(tasks=5), 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", ASKED)
def test_as_an_exposure(runs: Trajectories, asked: str, name: str) -> None:
    with pytest.raises(
        DerailError, match=r"(?i)immortal time.*breakdown\.triggers\(runs, 'timeout'\)"
    ):
        ASKED[asked](runs, name)


@pytest.mark.parametrize("asked", BY)
def test_as_a_column_to_compare_by(runs: Trajectories, asked: str) -> None:
    label = pl.DataFrame(
        {"trajectory_id": runs.ids, "ever_dropped": [n % 2 == 0 for n in range(len(runs))]}
    )
    with pytest.raises(DerailError, match="immortal time"):
        BY[asked](runs.label(label, on="trajectory_id"), "ever_dropped")


def test_other_words_are_none() -> None:
    outcomes.refuse_ever(["everyday", "evergreen_tasks", "forever_loop", "never_dropped"])
