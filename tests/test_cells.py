"""What the figures draw: cells, rasters and flows count what is there, and their intervals hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from simulate import Planted, simulate
from statsmodels.stats.proportion import proportion_confint  # pyright: ignore[reportMissingTypeStubs]

from analysis import breakdown, cells, flow, outcomes, raster, survival
from analysis.hazard import person_period
from analysis.uncertainty import clustered_mean, clustered_share
from loaders import Trajectories
from loaders.errors import DerailError


@pytest.fixture(scope="module")
def runs() -> Trajectories:
    return simulate(Planted(tasks=40, dropped_odds=1.8), 5)


def test_a_clustered_share_has_the_interval_of_its_effective_size() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(4000), 2)
    yes = (rng.random(4000) < 0.3).repeat(2)  # two alike in each cluster: half the information
    e = clustered_share(yes.tolist(), clusters.tolist())
    low, high = proportion_confint(yes.sum() / 2, 4000, method="wilson")
    assert e.low == pytest.approx(low, abs=1e-3)
    assert e.high == pytest.approx(high, abs=1e-3)
    assert clustered_share([True] * 20, range(20)).high == 1.0


def test_cells_hold_every_call_once(runs: Trajectories) -> None:
    table = cells.cells(runs)
    rows = person_period(runs)
    assert table.frame["calls"].sum() == rows.height
    assert table.frame["events"].sum() == rows["event"].sum()
    few = pl.col("events") < 10
    assert table.frame.filter(few)["hazard"].is_null().all()
    assert table.frame.filter(~few)["hazard"].is_not_null().all()
    assert set(table.frame["thinking"]) == {"none yet", "kept", "dropped"}
    cell = table.frame.filter(~few).row(0, named=True)
    opened = table.runs("failed", perturbation=cell["perturbation"], thinking=cell["thinking"])
    assert len(opened) == cell["events"]


def test_a_raster_shows_each_call_of_a_run_once(runs: Trajectories) -> None:
    frame = raster.raster(runs).frame
    lengths = frame.group_by("trajectory_id").agg(
        (pl.col("stop") - pl.col("start")).sum().alias("shown"), pl.col("calls").first()
    )
    assert (lengths["shown"] == lengths["calls"]).all()
    met = breakdown.exposures(runs).filter(group="tool response").unique(["run", "step"])
    perturbed = frame.filter(state="perturbed")
    assert (perturbed["stop"] - perturbed["start"]).sum() == met.height
    sampled = raster.raster(runs, most=10)
    assert sampled.frame["trajectory_id"].n_unique() <= 10
    assert "are shown" in sampled.warnings[0]


def test_a_flow_counts_transitions_and_finds_a_planted_one() -> None:
    rows, steps, events = [], [], []
    for run in range(120):
        good = run % 2 == 0
        tools = ["look", "act"] if good and run % 10 else ["look", "look", "act"]
        rows.append({"run": run, "task_id": str(run // 4), "trial": str(run % 4), "success": good,
                     "outcome": "success" if good else "failure", "steps": len(tools)})  # fmt: skip
        for step, tool in enumerate(tools):
            steps.append({"run": run, "step": step, "seq": step})
            events.append(
                {"run": run, "seq": step, "step": step, "kind": "tool_call", "tool": tool}
            )
    from small import runs_of

    result = flow.directly_follows(runs_of(rows, steps, events))
    edges = {(r["source"], r["target"]): r for r in result.frame.iter_rows(named=True)}
    again = edges["look", "look"]
    assert (again["success"], again["failure"]) == (pytest.approx(0.05), 0.25)
    assert again["count_failure"] == 60
    assert again["p_adjusted"] < 0.001
    assert len(result.runs("failure", source="look", target="look")) == 60
    assert result.frame["success"].sum() == pytest.approx(1)


def test_the_interval_of_a_flow_is_that_of_the_runs_residuals(runs: Trajectories) -> None:
    """Against the same difference computed run by run, zeros written out."""
    result = flow.directly_follows(runs)
    row = result.frame.row(0, named=True)
    shares = (
        flow._transitions(runs, flow.judged(runs).select("run"), 14)
        .group_by("run")
        .agg(((pl.col("source") == row["source"]) & (pl.col("target") == row["target"])).mean().alias("share"))
    )  # fmt: skip
    table = flow.judged(runs).join(shares, on="run")
    won = table["success"].to_numpy()
    share = table["share"].to_numpy()
    influence = np.where(
        won, (share - share[won].mean()) / won.sum(), -(share - share[~won].mean()) / (~won).sum()
    )
    n = len(influence)
    e = clustered_mean((influence * n).tolist(), table["task"].to_list())
    assert row["high"] - row["low"] == pytest.approx(e.high - e.low, rel=1e-9)
    with pytest.raises(DerailError, match="are needed"):
        flow.directly_follows(runs.filter(success=True))


def test_recovery_curves_end_where_the_rate_is_without_censoring(runs: Trajectories) -> None:
    curves = survival.recovery_curves(runs)
    assert (curves.frame.filter(calls=0)["recovered"] == 0).all()
    spells = survival.recovery_times(runs)
    for (code,), curve in curves.frame.group_by("code"):
        own = spells.filter(pl.col("code") == code)
        km = survival.kaplan_meier(own["calls"].to_list(), own["recovered"].to_list())
        assert curve["recovered"].max() == pytest.approx(1 - km["survival"].min())
        assert (curve["low"] <= curve["recovered"]).all()


def test_the_hazard_by_step_has_an_interval_around_it(runs: Trajectories) -> None:
    frame = breakdown.by_step(runs).frame
    assert (frame["hazard_low"] <= frame["hazard"]).all()
    assert (frame["hazard_high"] >= frame["hazard"]).all()
    assert (frame.filter(failed=0)["hazard_high"] > 0).all()
    assert frame["hazard"].to_list() == (frame["failed"] / frame["at_risk"]).to_list()


def test_pass_k_has_the_band_of_a_bootstrap_over_tasks(runs: Trajectories) -> None:
    """For k = 1 it is that of a mean of independent tasks, so the normal interval is near."""
    curve = outcomes.pass_k(runs, band="bootstrap")
    first, *_, last = curve.frame.iter_rows(named=True)
    assert first["low"] == pytest.approx(first["pass_k"] - 1.96 * first["se"], abs=0.015)
    assert first["high"] == pytest.approx(first["pass_k"] + 1.96 * first["se"], abs=0.015)
    assert 0 <= last["low"] <= last["pass_k"] <= last["high"] <= 1
    assert curve.frame.equals(outcomes.pass_k(runs, band="bootstrap").frame)
