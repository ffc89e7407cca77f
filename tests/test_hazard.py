"""The hazard model on simulated runs with planted effects, and on the sample study."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from simulate import Planted, simulate
from small import runs_of

import loaders
from analysis import breakdown
from analysis.hazard import person_period
from loaders.errors import DerailError

ROOT = Path(__file__).parent.parent


def row(found: breakdown.Result, name: str) -> dict[str, float]:
    return found.frame.row(by_predicate=pl.col("exposure") == name, named=True)


@pytest.fixture(scope="module")
def planted() -> loaders.Trajectories:
    return simulate(
        Planted(tasks=120, runs=8, dropped_odds=1.8, dropped_and_error_odds=1.6), seed=5
    )


def test_rows_are_calls_and_the_event_is_the_last_of_a_failing_run(
    planted: loaders.Trajectories,
) -> None:
    rows = person_period(planted)
    runs = planted.trajectories.collect()
    assert rows.height == runs["steps"].sum()
    last = rows.group_by("run", maintain_order=True).last()
    assert last["event"].to_list() == (runs["outcome"] == "failure").to_list()
    assert rows["event"].sum() == last["event"].sum()
    limits = person_period(planted, end="limit")
    assert limits["event"].sum() == (runs["outcome"] == "limit").sum()


def test_the_planted_effects_are_found(planted: loaders.Trajectories) -> None:
    found = breakdown.hazard(planted, interactions=[("thinking_dropped", "exec_error")])
    assert "random intercept" in found.method
    for name, truth in (
        ("thinking_dropped", 1.8),
        ("exec_error", 2.5),
        ("thinking_dropped x exec_error", 1.6),
        ("timeout", 1.0),
    ):
        assert row(found, name)["low"] < truth < row(found, name)["high"], name
    assert found.frame["exposure"][0] in ("thinking_dropped", "exec_error")
    assert row(found, "timeout")["p_adjusted"] > 0.05
    assert "breaks the run" in found.headline


def test_counts_are_those_of_the_rows_and_open_their_runs(planted: loaders.Trajectories) -> None:
    found = breakdown.hazard(planted, "exec_error", model="clustered")
    rows = person_period(planted)
    met = rows.filter(pl.col("exec_error") == 1)
    told = row(found, "exec_error")
    assert (told["exposed_calls"], told["exposed_events"]) == (met.height, met["event"].sum())
    assert told["exposed_hazard"] == pytest.approx(met["event"].mean())
    behind = found.runs(exposure="exec_error", role="broke")
    assert len(behind) == met["event"].sum()
    assert found.frame["exposure"].to_list() == ["exec_error"]


def test_under_the_null_it_rejects_no_more_than_it_should() -> None:
    """No effect anywhere, tasks differ: one in twenty intervals may miss, and few more."""
    rejected = []
    for seed in range(30):
        runs = simulate(Planted(tasks=150, error_odds=1.0, null_rate=0.08), seed=1_000 + seed)
        found = breakdown.hazard(runs)
        rejected += [p < 0.05 for p in found.frame["p"].drop_nulls().to_list()]
    assert len(rejected) > 40
    assert np.mean(rejected) <= 0.12


def test_task_means_take_out_what_confounds() -> None:
    """Hard tasks meet the null exposure more often: without adjustment it looks harmful."""
    naive, adjusted = [], []
    for seed in range(25):
        runs = simulate(
            Planted(tasks=100, runs=8, null_rate=0.08, confounding=0.9), seed=2_000 + seed
        )
        for model, values in (("clustered", naive), ("random_intercept", adjusted)):
            ratio = row(breakdown.hazard(runs, model=model), "timeout")["odds_ratio"]  # type: ignore[arg-type]
            values.append(math.log(ratio))
    assert np.mean(naive) > 0.25
    assert abs(float(np.mean(adjusted))) < 0.12


def test_the_cloglog_gives_hazard_ratios(planted: loaders.Trajectories) -> None:
    odds = row(breakdown.hazard(planted, "exec_error", model="clustered"), "exec_error")
    rates = row(
        breakdown.hazard(planted, "exec_error", link="cloglog", model="clustered"), "exec_error"
    )
    assert 1 < rates["odds_ratio"] < odds["odds_ratio"]


def test_arms_enter_as_terms_of_their_own(planted: loaders.Trajectories) -> None:
    found = breakdown.hazard(planted, "exec_error", by="arm", model="clustered")
    assert "arm" in found.method
    plain = breakdown.hazard(planted, "exec_error", model="clustered")
    assert row(found, "exec_error")["odds_ratio"] != row(plain, "exec_error")["odds_ratio"]


def test_few_events_are_refused_and_said() -> None:
    runs = simulate(Planted(tasks=12, runs=4, null_rate=0.01), seed=1)
    found = breakdown.hazard(runs, model="clustered")
    told = row(found, "timeout")
    assert told["odds_ratio"] is None
    assert "10 are needed" in str(told["refused"])
    assert any("Only 12 tasks" in text for text in found.warnings)


def test_what_cannot_be_asked_says_why(planted: loaders.Trajectories) -> None:
    with pytest.raises(DerailError, match="immortal time"):
        breakdown.hazard(planted, "ever_dropped")
    with pytest.raises(DerailError, match="no call met 'nonsense'; exposures here: "):
        breakdown.hazard(planted, "nonsense")
    with pytest.raises(DerailError, match="no run ends in 'boredom'"):
        breakdown.hazard(planted, end="boredom")
    with pytest.raises(DerailError, match="not among the exposures"):
        breakdown.hazard(planted, "timeout", interactions=[("timeout", "exec_error")])
    unknown = planted.filter(pl.col("success").is_null())
    with pytest.raises(DerailError, match="no run has a known outcome"):
        breakdown.hazard(unknown)


def test_a_saturated_person_period_is_kaplan_meier() -> None:
    """With a term for every step the product of 1 - hazard is the survival curve."""
    from lifelines import KaplanMeierFitter

    from analysis.regression import fit, patterns

    runs = simulate(Planted(tasks=100), seed=9)
    rows = person_period(runs)
    last = rows.group_by("run", maintain_order=True).last()
    steps = [int(s) for s in rows.filter("event")["step"].unique().sort().to_list()]
    rows = rows.filter(pl.col("step").is_in(steps)).with_columns(
        (pl.col("step") == step).cast(pl.Float64).alias(f"s{step}") for step in steps[1:]
    )
    found = fit(patterns(rows, "event", [f"s{step}" for step in steps[1:]], "run"))
    eta = found.coefficients[0] + np.concatenate([[0.0], found.coefficients[1:]])
    survival = np.cumprod(1 - 1 / (1 + np.exp(-eta)))
    curve = KaplanMeierFitter().fit(last["step"].to_numpy() + 1, last["event"].to_numpy())
    expected = [float(curve.predict(step + 1)) for step in steps]
    np.testing.assert_allclose(survival, expected, atol=1e-10)


def test_logs_without_model_calls_are_told_apart_from_models_that_do_not_fit() -> None:
    outcomes = [{"run": n, "task_id": f"t{n % 3}", "success": n % 2 == 0} for n in range(12)]
    with pytest.raises(DerailError, match="model call in its log"):
        breakdown.hazard(runs_of(outcomes))
