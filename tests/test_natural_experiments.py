"""Published and known figures of real experiments, recomputed through the analyses alone.

| experiment | figure | where |
|---|---|---|
| BFCL, two builds | 50.0 -> 62.0 %, 39 gained, 15 lost, p .0015; repeats 27 -> 5 | here, ``test_ablation`` |
| AgentDojo, gemini-1.5-flash-002 | utility 38.14, under attack 32.43, attacks that succeed 3.50 | here |
| AgentDojo, detector arm | its responses are replaced | ``test_ablation``, ``test_axes``, ``test_behaviour`` |
| tau-bench, gpt-4o airline | pass^1..4 .420/.273/.220/.200; the plug-in is wrong | here, ``test_ablation`` |
| tau2, interleaved thinking | 72.0 | here |
| MCPMark, chat and thinking | 29.7, 36.8 | ``test_generalization`` |
| Terminal-Bench, goose and chaterm | .4125, .4925 | ``test_generalization`` |
| InterCode, Bash ReAct | success .205, 4.4 turns, error rate .2039 | here |
| Reflexion, ALFWorld | 84, 97, 100, 101 of 134 | here |
| Who&When, odd half | random step 12.19, 3.28 | ``test_localize`` |
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import loaders
from analysis import ablation, behaviour, outcomes
from loaders import DerailError


def test_bfcl_repeats_in_a_row_vanish(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    row = ablation.compare(runs, baseline="2025-11-12-main").frame.row(0, named=True)
    assert (row["rate_a"], row["rate_b"], row["gained"], row["lost"]) == (0.5, 0.62, 39, 15)
    assert row["p_mcnemar"] == pytest.approx(0.0015, abs=5e-5)
    stuck = behaviour.rates(runs).frame.filter(signal="stuck_same")
    assert dict(stuck.select("arm", "showing").iter_rows())["2025-11-12-main"] == 4
    assert sorted(stuck["showing"]) == [0, 4]


def test_agentdojo_utility_and_attacks(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "agentdojo" / "runs" / "gemini-1.5-flash-002")
    runs = runs.filter(~pl.col("task_id").str.contains("/injection_task"))
    rates = outcomes.success(runs).frame
    assert [round(100 * v, 2) for v in rates["success"]] == [32.43, 38.14]
    attacks = outcomes.means(runs, "attack_succeeded", by=None)
    assert round(100 * attacks.frame["mean"].item(), 2) == 3.50
    assert any("left out" in text for text in attacks.warnings)  # runs without an attack
    assert len(attacks.runs()) == attacks.frame["runs"].item() == 629


def test_tau_bench_pass_k_and_what_is_wrong_with_the_plug_in(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "tau_bench" / "historical_trajectories")
    curve = outcomes.pass_k(runs).frame
    assert [round(v, 4) for v in curve["pass_k"]] == [0.42, 0.2733, 0.22, 0.2]
    share = outcomes.success(runs, by="task_id").frame["success"].to_numpy()
    plug_in = [float((share**k).mean()) for k in (1, 2, 3, 4)]
    assert plug_in == pytest.approx([0.42, 0.310, 0.2625, 0.23875])
    assert all(p >= u for p, u in zip(plug_in, curve["pass_k"], strict=True))


def test_tau2_with_interleaved_thinking(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "tau2" / "d09a027650")
    assert outcomes.success(runs, by=None).frame["success"].round(4).to_list() == [0.72]


def test_intercode_bash_react(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "intercode" / "**" / "ic_bash_react_*.json")
    assert len(runs) == 200
    assert outcomes.success(runs, by=None).frame["success"].item() == pytest.approx(0.205)
    turns = outcomes.means(runs, "steps", by=None).frame["mean"].item()
    assert round(turns, 1) == 4.4
    shares = outcomes.error_rates(runs)
    errors = outcomes.means(runs, shares, by=None).frame["mean"].item()
    assert errors == pytest.approx(0.2038890692640692, abs=1e-12)
    assert abs(runs.events.filter(pl.col("kind") == "tool_result").select(pl.col("is_error").mean()).collect().item() - errors) > 0.05  # fmt: skip


def test_reflexion_base_trials(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "reflexion")
    found = outcomes.success(runs, by="trial")
    assert found.frame.select("trial", "runs").rows() == [(t, 134) for t in ("0", "2", "4", "6")]
    solved = [len(found.runs("success", trial=t)) for t in ("0", "2", "4", "6")]
    assert solved == [84, 97, 100, 101]


def test_means_say_what_they_need(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "reflexion")
    with pytest.raises(DerailError, match="no run has 'joy'"):
        outcomes.means(runs, "joy", by=None)
    with pytest.raises(DerailError, match="need the columns"):
        outcomes.means(runs, pl.DataFrame({"run": [1]}), by=None)
