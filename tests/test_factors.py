"""Effects of several factors, planted; sample sizes and looks against published figures."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from simulate_outcomes import factorial

from analysis.factors import factors
from analysis.power import (
    Spread,
    alpha_of_looks,
    detectable,
    error_of_looks,
    plan,
    spread_of,
    tasks_needed,
)
from loaders import Trajectories
from loaders.errors import DerailError
from loaders.schema import TABLES

BY = ["policy", "model"]


def test_planted_effects_are_covered_as_often_as_they_should() -> None:
    # A main effect averages over the other factor: -.2 - .15/2 and .1 - .15/2.
    truth = {"policy=none": -0.275, "model=large": 0.025, "policy=none x model=large": -0.15}
    hits = []
    for seed in range(80):
        frame = factors(factorial(seed, sd=0.05), BY).frame
        hits += [
            row["low"] < truth[row["effect"]] < row["high"] for row in frame.iter_rows(named=True)
        ]
    assert 0.91 < np.mean(hits) < 0.985


def test_the_null_is_rejected_as_often_as_it_should() -> None:
    p = [
        p
        for seed in range(80)
        for p in factors(factorial(seed, policy=0, model=0, both=0), BY).frame["p"].to_list()
    ]
    assert np.mean(np.array(p) < 0.05) < 0.09


def test_effects_equal_those_by_hand() -> None:
    runs = factorial(3)
    table = runs.trajectories.collect()
    means = {
        (p, m): table.filter(policy=p, model=m).group_by("task_id").agg(pl.col("success").mean()).sort("task_id")[
            "success"
        ].to_numpy()
        for p in ("all", "none")
        for m in ("base", "large")
    }  # fmt: skip
    main = (
        (means["none", "base"] - means["all", "base"])
        + (means["none", "large"] - means["all", "large"])
    ) / 2
    did = (means["none", "large"] - means["all", "large"]) - (
        means["none", "base"] - means["all", "base"]
    )
    frame = factors(runs, BY).frame
    by_name = {row["effect"]: row for row in frame.iter_rows(named=True)}
    assert by_name["policy=none"]["difference"] == pytest.approx(main.mean())
    assert by_name["policy=none x model=large"]["difference"] == pytest.approx(did.mean())
    se = np.std(did, ddof=1) / math.sqrt(60)
    half = (
        by_name["policy=none x model=large"]["high"] - by_name["policy=none x model=large"]["low"]
    ) / 2
    assert half == pytest.approx(2.0010 * se, rel=1e-4)  # t with 59 degrees of freedom
    assert by_name["policy=none"]["runs"] == 960


def test_baselines_are_chosen_and_runs_are_opened() -> None:
    found = factors(factorial(4), BY, baseline={"policy": "none"})
    row = found.frame.row(by_predicate=pl.col("effect") == "policy=all", named=True)
    assert row["difference"] > 0.15
    assert len(found.runs(effect="policy=all x model=large")) == 960
    assert "policy=all" in found.headline


def test_tasks_that_lack_a_cell_are_left_out_and_said() -> None:
    found = factors(factorial(5, drop=8), BY)
    by_name = {row["effect"]: row for row in found.frame.iter_rows(named=True)}
    assert by_name["policy=none x model=large"]["tasks"] == 52
    assert by_name["policy=none"]["tasks"] == 60
    assert any("8 of 60 tasks lack runs" in text for text in found.warnings)


def test_few_tasks_are_refused_and_one_level_is_no_factor() -> None:
    found = factors(factorial(6, tasks=7), BY)
    assert found.frame["difference"].null_count() == 3
    assert "10 are needed" in found.frame["refused"][0]
    with pytest.raises(DerailError, match="has one level"):
        factors(factorial(6).filter(policy="all"), BY)
    with pytest.raises(DerailError, match="no level 'some'"):
        factors(factorial(6), BY, baseline={"policy": "some"})
    with pytest.raises(DerailError, match="is no factor here"):
        factors(factorial(6), ["policy"], baseline={"model": "base"})


def test_looking_several_times_is_warned_of() -> None:
    found = factors(factorial(7), BY, looks=5)
    assert any("Tested 5 times: at 5 % each, 14%" in text for text in found.warnings)
    assert any("0.0158" in text for text in found.warnings)


def test_looks_cost_what_is_published() -> None:
    # Armitage, McPherson and Rowe 1969: .083, .107, .126, .142, .193; Pocock 1977 for levels.
    assert [round(error_of_looks(k), 3) for k in (2, 3, 4, 5, 10)] == [
        0.083,
        0.107,
        0.126,
        0.142,
        0.193,
    ]
    assert [round(alpha_of_looks(k), 4) for k in (2, 3, 5)] == [0.0294, 0.0221, 0.0158]


def test_sample_sizes_are_the_published_ones() -> None:
    spread = Spread(1 / 9, 1 / 6, 1 / 6)
    assert tasks_needed(0.03, spread) == 3876
    assert tasks_needed(0.03, spread, math.inf) == 969
    assert detectable(969, spread, math.inf) == pytest.approx(0.03, abs=1e-4)


def test_the_spread_of_a_pilot_is_recovered() -> None:
    """Of many tasks: the variance between is that of their true differences, within that of trials."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    chances = rng.uniform(0.2, 0.8, (3_000, 2))
    for task, pair in enumerate(chances):
        for arm, chance in zip(("a", "b"), pair, strict=True):
            for _ in range(4):
                rows.append(
                    {
                        "run": len(rows),
                        "trajectory_id": f"r{len(rows)}",
                        "task_id": str(task),
                        "arm": arm,
                        "success": bool(rng.random() < chance),
                    }
                )
    frames = {name: pl.DataFrame(schema=table) for name, table in TABLES.items()}
    table = pl.DataFrame(rows, schema=TABLES["trajectories"])
    found = spread_of(Trajectories.from_frames({**frames, "trajectories": table}))
    assert found.between == pytest.approx(np.var(chances[:, 1] - chances[:, 0]), abs=0.008)
    assert found.within_a == pytest.approx(np.mean(chances[:, 0] * (1 - chances[:, 0])), abs=0.005)


def test_a_study_of_the_planned_size_finds_its_effect_with_the_planned_power() -> None:
    pilot = factorial(0, tasks=400, both=0, policy=-0.2).filter(model="base")
    spread = spread_of(pilot, by="policy")
    tasks = tasks_needed(0.2, spread, trials=1)
    found = [
        factors(factorial(1_000 + seed, tasks=tasks, trials=1, both=0).filter(model="base"), ["policy"]).frame["p"][0]
        for seed in range(120)
    ]  # fmt: skip
    assert 0.7 < np.mean(np.array(found) < 0.05) < 0.9


def test_a_plan_is_a_grid_and_says_what_it_takes() -> None:
    found = plan(factorial(8).filter(model="base"), by="policy")
    grid = found.frame
    assert grid.height == 25
    assert (
        grid.filter(tasks=500, trials=16)["detectable"].item()
        < grid.filter(tasks=30, trials=1)["detectable"].item()
    )
    assert "takes" in found.headline
    with pytest.raises(DerailError, match="10 are needed"):
        plan(factorial(8, tasks=5).filter(model="base"), by="policy")
