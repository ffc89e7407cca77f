"""Triggers find what was planted and nothing else, refuse what is too small or biased."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from simulate import Planted, simulate

import loaders
from analysis import breakdown
from loaders import DerailError

SETS = 40


def estimates(planted: Planted, exposure: str, *options: dict[str, Any]) -> list[pl.DataFrame]:
    """What is found in all sets, for each choice of options: a set is made and searched once for all."""
    frames: list[list[pl.DataFrame]] = [[] for _ in options]
    for seed in range(SETS):
        runs = simulate(planted, seed)
        for found, chosen in zip(frames, options, strict=True):
            found.append(breakdown.triggers(runs, exposure, **chosen).frame)
    return [pl.concat(found).drop_nulls("odds_ratio") for found in frames]


def test_a_planted_hazard_is_recovered() -> None:
    (found,) = estimates(Planted(tasks=100), "exec_error", {"within": 1})
    assert found.height > SETS / 2
    assert found["odds_ratio"].log().mean() == pytest.approx(math.log(2.5), abs=0.2)
    covered = found.select(pl.lit(2.5).is_between("low", "high").mean()).item()
    assert covered >= 0.85


def test_a_null_exposure_is_not_reported() -> None:
    (found,) = estimates(Planted(), "timeout", {})
    assert found.height > SETS / 2
    assert (found["p"] < 0.05).mean() <= 0.125
    assert abs(found["odds_ratio"].log().mean()) < 0.15


def test_hard_tasks_that_meet_more_do_not_make_a_trigger() -> None:
    confounded = Planted(confounding=1.2, null_rate=0.08)
    inside, between = estimates(confounded, "timeout", {}, {"match": "step"})
    assert (inside["p"] < 0.05).mean() <= 0.125
    assert abs(inside["odds_ratio"].log().mean()) < 0.15
    assert between["odds_ratio"].log().mean() > 0.2  # what matching inside tasks takes away


def test_ever_is_refused_with_the_right_call() -> None:
    with pytest.raises(DerailError, match=r"immortal time.*triggers\(runs, 'timeout'\)"):
        breakdown.triggers(simulate(Planted(tasks=5), 0), "ever_timeout")


def test_small_cells_are_refused_with_their_count() -> None:
    found = breakdown.triggers(simulate(Planted(tasks=6), 0)).frame
    assert found["odds_ratio"].null_count() == found.height
    assert found["refused"].str.contains("10 are needed").all()


def test_the_runs_behind_a_number_are_as_many_as_it_says() -> None:
    result = breakdown.triggers(simulate(Planted(), 3))
    row = result.frame.filter(pl.col("exposure") == "exec_error").row(0, named=True)
    for role in ("exposed_failed", "exposed_succeeded"):
        behind = result.runs(role, exposure="exec_error")
        assert len(behind) == row[role]
        assert behind.trajectories.collect()["success"].all() == (role == "exposed_succeeded")


def test_first_exposure_is_met_by_the_next_call() -> None:
    runs = simulate(Planted(), 1)
    met = breakdown.exposures(runs).filter(pl.col("exposure") == "exec_error")
    failed = runs.events.filter(pl.col("exit_code") == 1).collect()
    assert met.height == failed.height > 0
    assert sorted(met.select("run", "step").rows()) == sorted(
        (run, step + 1) for run, step in failed.select("run", "step").rows()
    )


def test_steps_count_who_is_still_going() -> None:
    runs = simulate(Planted(), 2)
    frame = breakdown.by_step(runs).frame
    lengths = runs.trajectories.collect()
    for row in frame.iter_rows(named=True):
        going = lengths.filter(pl.col("steps") > row["step"])
        assert row["at_risk"] == going.height
        assert row["success"] == pytest.approx(going["success"].mean())
    assert np.all(np.diff(frame["at_risk"].to_numpy()) <= 0)


def test_no_outcome_is_told_as_such() -> None:
    runs = simulate(Planted(tasks=3), 0)
    unknown = runs.trajectories.with_columns(
        pl.lit(None, dtype=pl.Boolean).alias("success")
    ).collect()
    tables = {n: getattr(runs, n).collect() for n in ("steps", "events", "tools", "problems")}
    blind = loaders.Trajectories.from_frames({"trajectories": unknown, **tables})
    with pytest.raises(DerailError, match="known outcome"):
        breakdown.triggers(blind)


def test_bfcl_failed_calls_precede_failure(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    found = breakdown.triggers(runs, match="step").frame
    row = found.filter(pl.col("exposure") == "exec_error").row(0, named=True)
    assert (row["exposed_failed"], row["exposed_succeeded"]) == (66, 41)
    assert row["low"] > 1
    assert found.filter(pl.col("exposure") == "needless_repeat")["refused"].item() is not None
