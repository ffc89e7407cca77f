"""The event study on paths whose shape is planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from simulate_outcomes import jumping

import loaders
from analysis.event_study import event_study
from loaders.errors import DerailError


def test_a_planted_jump_is_found_where_it_is() -> None:
    runs, values = jumping(1)
    found = event_study(runs, "exec_error", values)
    frame = found.frame
    assert frame["tau"].to_list() == list(range(-5, 11))
    assert frame.filter(tau=-1)["effect"].item() == 0
    after = frame.filter(pl.col("tau") >= 0).drop_nulls("effect")
    before = frame.filter(pl.col("tau") < -1).drop_nulls("effect")
    assert after.height >= 6
    assert ((after["low"] < 2.0) & (after["high"] > 2.0)).mean() > 0.8
    assert ((before["low"] < 0) & (before["high"] > 0)).mean() > 0.7
    assert "equal trends p" in found.method
    assert "[+1" in found.headline
    assert len(found.runs(role="exposed")) == frame.filter(tau=0)["exposed"].item()


def test_intervals_cover_and_the_test_of_trends_keeps_its_level() -> None:
    hits, rejected = [], []
    for seed in range(60):
        runs, values = jumping(100 + seed, tasks=25)
        found = event_study(runs, "exec_error", values, window=(-4, 2))
        row = found.frame.filter(tau=1).row(0, named=True)
        hits.append(row["low"] < 2.0 < row["high"])
        rejected.append("already went another way" in " ".join(found.warnings))
    assert np.mean(hits) >= 0.88
    assert np.mean(rejected) <= 0.13


def test_runs_that_went_another_way_before_are_told() -> None:
    runs, values = jumping(2, jump=0.0, trend=0.8)
    found = event_study(runs, "exec_error", values)
    assert any("already went another way" in text for text in found.warnings)


def test_what_all_runs_of_a_task_share_is_no_effect() -> None:
    """Without controls the common path of a task would look like one."""
    runs, values = jumping(3, jump=0.0)
    steep = values.with_columns(pl.col("value") + 5 * pl.col("step"))
    found = event_study(runs, "exec_error", steep).frame.drop_nulls("p")
    assert found["effect"].abs().max() < 1


def test_outcomes_that_are_counted_from_events() -> None:
    runs, _ = jumping(4)
    found = event_study(runs, "exec_error", "perturbed", window=(-3, 3))
    # The call before the one that meets the error is the one whose response was the error: the base.
    # Some controls meet one at their next call, so that their response is perturbed at this one.
    assert found.frame.filter(tau=0)["effect"].item() == pytest.approx(-1, abs=0.15)
    calls = event_study(runs, "exec_error", "calls", window=(-2, 2))
    assert calls.frame["effect"].drop_nulls().to_list() == [0.0] * 5


def test_what_cannot_be_asked_says_why() -> None:
    runs, values = jumping(5, tasks=3, runs=2)
    with pytest.raises(DerailError, match="match='step' compares between tasks"):
        event_study(runs, "exec_error", values)
    with pytest.raises(DerailError, match="no call met 'timeout'; exposures here: exec_error"):
        event_study(runs, "timeout", values)
    with pytest.raises(DerailError, match="no outcome 'mood'"):
        event_study(runs, "exec_error", "mood")
    with pytest.raises(DerailError, match=r"needs the columns \['value'\]"):
        event_study(runs, "exec_error", values.drop("value"))
    with pytest.raises(DerailError, match="immortal time"):
        event_study(runs, "ever_exec_error")


def test_the_sample_study_has_runs_to_compare() -> None:
    runs = loaders.load("sample_logs/study/*/planner-1/inspect/returned_error.eval")
    found = event_study(runs, "exec_error", "repeat", match="step")
    assert found.frame.filter(tau=0)["exposed"].item() >= 20
