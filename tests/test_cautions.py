"""Each caution can be triggered, says why, opens its runs, and stays silent where nothing is wrong."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from simulate import Planted, simulate
from small import Rows, runs_of
from test_manipulation import EXPECTED, labelled

from analysis import ablation, breakdown
from analysis.cautions import CAUTIONS
from loaders import Trajectories


def found(runs: Trajectories, caution: str, **options: Any) -> pl.DataFrame:
    return breakdown.cautions(runs, **options).frame.filter(pl.col("caution") == caution)


@pytest.fixture(scope="module")
def plain() -> Trajectories:
    """No exposure but a null, tasks alike: nothing to mind but what chance brings."""
    return simulate(Planted(tasks=30, task_sd=0.0, error_rate=0.0, null_rate=0.15, steps=6), 1)


def test_a_label_that_had_to_be_lasted_for() -> None:
    runs = simulate(Planted(tasks=40), 2)
    met = breakdown.exposures(runs).filter(exposure="timeout")["run"].unique().to_list()
    ids = runs.trajectories.select("run", "trajectory_id").collect()
    timed_out = ids.select("trajectory_id", met_timeout=pl.col("run").is_in(met))
    mine = runs.label(timed_out, on="trajectory_id")
    rows = found(mine, "immortal time", by="met_timeout")
    assert rows["applies"].to_list() == [True]
    assert "triggers(runs, 'timeout')" in rows["why"].item()
    assert rows["runs"].item() == len(met)
    behind = breakdown.cautions(mine, by="met_timeout").runs(caution="immortal time")
    assert len(behind) == len(met)
    halves = ids.select("trajectory_id", half=(pl.col("run") % 2 == 0))
    assert not found(runs.label(halves, on="trajectory_id"), "immortal time", by="half")[
        "applies"
    ].any()


def test_an_arm_whose_thinking_is_dropped_from_the_start_is_no_immortal_time() -> None:
    runs = simulate(Planted(tasks=20, dropped_odds=1.5), 0)
    assert not found(runs, "immortal time", by="arm")["applies"].any()


def test_what_hard_tasks_meet_more_is_named(plain: Trajectories) -> None:
    confounded = simulate(Planted(tasks=60, confounding=1.5, null_rate=0.08, error_rate=0.0), 3)
    rows = found(confounded, "task confounding")
    assert rows["applies"].all()
    assert any("timeout is met more often in harder tasks" in why for why in rows["why"])
    assert not found(plain, "task confounding")["applies"].any()
    asked = breakdown.hazard(confounded, "timeout", model="clustered")
    assert any("harder tasks" in text for text in asked.warnings)
    between = breakdown.triggers(confounded, "timeout", match="step")
    assert any("harder tasks" in text for text in between.warnings)
    inside = breakdown.triggers(confounded, "timeout")
    assert not any("harder tasks" in text for text in inside.warnings)


def test_an_effect_of_the_exposure_itself_is_no_confounding() -> None:
    harmful = Planted(tasks=60, error_odds=12.0, task_sd=0.0, null_rate=0.0)
    flagged = [
        found(simulate(harmful, seed), "task confounding")["applies"].any() for seed in range(8)
    ]
    assert sum(flagged) <= 1


def test_one_run_per_task_can_not_tell_difficulty() -> None:
    rows = found(simulate(Planted(tasks=12, runs=1), 0), "task confounding")
    assert any("has one run" in why for why in rows["why"])


def test_small_cells_are_counted(plain: Trajectories) -> None:
    rows = found(simulate(Planted(tasks=6), 0), "small cells")
    assert rows["applies"].all()
    assert rows["why"].str.contains("under 10").all()
    large = breakdown.cautions(simulate(Planted(tasks=60, error_rate=0.2, null_rate=0.2), 0)).frame
    names = large.filter(caution="small cells")["why"].to_list()
    assert not any("exec_error" in why for why in names)


def test_runs_without_partner_are_counted_and_opened() -> None:
    rows = [("kept", "all", True, f"t{n}") for n in range(4)]
    rows += [("dropped", "none", True, f"t{n}") for n in range(3)]
    runs = labelled(rows)
    result = breakdown.cautions(runs, by="arm", pair=["task_id"], expected=EXPECTED)
    row = result.frame.filter(caution="unpaired arms").row(0, named=True)
    assert (row["applies"], row["runs"]) == (True, 1)
    assert result.runs(caution="unpaired arms").trajectories.collect()["task_id"].to_list() == [
        "t3"
    ]
    even = labelled(rows[:3] + rows[4:])
    assert not found(even, "unpaired arms", by="arm", pair=["task_id"])["applies"].any()


def test_runs_that_got_something_else_are_counted_and_opened() -> None:
    rows = [("kept", "all", True, f"t{n}") for n in range(4)] + [("kept", "none", True, "t4")]
    rows += [("dropped", "none", True, f"t{n}") for n in range(5)]
    result = breakdown.cautions(labelled(rows), by="arm", pair=["task_id"], expected=EXPECTED)
    row = result.frame.filter(caution="non-compliance").row(0, named=True)
    assert (row["applies"], row["runs"]) == (True, 1)
    assert "1 of 5 runs of 'kept'" in row["why"]
    assert not found(labelled(rows[:4] + rows[5:]), "non-compliance", by="arm")["applies"].any()


def test_a_comparison_of_arms_says_so_too() -> None:
    rows = [("kept", "all", True, f"t{n}") for n in range(11)] + [("kept", "none", True, "t11")]
    rows += [("dropped", "none", n % 2 == 0, f"t{n}") for n in range(12)]
    asked = ablation.compare(labelled(rows), pair=["task_id"])
    assert any("Non-compliance: 1 of 12 runs of 'kept'" in text for text in asked.warnings)
    clean = ablation.compare(labelled([*rows[:11], *rows[12:]]), pair=["task_id"])
    assert not any("Non-compliance" in text for text in clean.warnings)
    late = simulate(Planted(tasks=40), 2)
    met = breakdown.exposures(late).filter(exposure="timeout")["run"].unique().to_list()
    label = pl.DataFrame({"trajectory_id": late.ids, "met": [n in met for n in range(len(late))]})
    asked = ablation.compare(late.label(label, on="trajectory_id"), by="met", pair=["task_id"])
    assert any("immortal time" in text for text in asked.warnings)


def test_a_factor_crossed_with_thinking_is_no_deviation() -> None:
    rows = [
        (arm, got, True, f"t{n}") for arm in ("x", "y") for n, got in enumerate(["all", "none"] * 6)
    ]
    assert not found(labelled(rows), "non-compliance", by="arm", pair=["task_id"])["applies"].any()


def of_lengths(failed: int, succeeded: int, tasks: int = 14) -> Trajectories:
    trajectories: Rows = []
    steps: Rows = []
    for task in range(tasks):
        for success in (True, False):
            run = len(trajectories)
            length = (succeeded if success else failed) + task % 3
            trajectories.append({"run": run, "task_id": f"t{task}", "success": success, "steps": length,
                                 "outcome": "success" if success else "failure"})  # fmt: skip
            steps += [{"run": run, "step": n, "seq": n} for n in range(length)]
    return runs_of(trajectories, steps)


def test_length_that_goes_with_failure_is_measured_inside_tasks() -> None:
    runs = of_lengths(12, 5)
    rows = found(runs, "length")
    assert rows["applies"].all()
    assert "7.0 calls longer" in rows["why"].item()
    assert any("differ by length alone" in text for text in breakdown.by_step(runs).warnings)
    assert not found(of_lengths(5, 5), "length")["applies"].any()
    assert breakdown.by_step(of_lengths(5, 5)).warnings == ()


def test_every_caution_is_answered_and_said_in_the_open(plain: Trajectories) -> None:
    result = breakdown.cautions(plain)
    assert set(result.frame["caution"]) == set(CAUTIONS)
    unasked = result.frame.filter(caution="non-compliance")["why"].item()
    assert unasked == "not asked: name arms in by="
    bad = breakdown.cautions(of_lengths(12, 5))
    assert bad.headline == "Mind: length."
    assert "Warning: Failed runs are" in repr(bad)
