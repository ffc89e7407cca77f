"""Curves against lifelines and against the truth of simulations; recovery against planted responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from lifelines.datasets import load_lung
from scipy import stats
from simulate import Planted, simulate

import loaders
from analysis import survival
from analysis.survival import aalen_johansen, kaplan_meier
from loaders.errors import DerailError

ROOT = Path(__file__).parent.parent


def test_kaplan_meier_equals_lifelines_on_lung() -> None:
    lung = load_lung()
    time, event = lung["time"].to_numpy(), lung["status"].to_numpy() == 1
    curve = kaplan_meier(time.tolist(), event.tolist())
    known = KaplanMeierFitter().fit(time, event)
    at = curve["time"].to_numpy()
    np.testing.assert_allclose(curve["survival"], known.predict(at), atol=1e-12)
    bands = known.confidence_interval_.loc[at].to_numpy()
    np.testing.assert_allclose(curve["low"], bands[:, 0], atol=1e-9)
    np.testing.assert_allclose(curve["high"], bands[:, 1], atol=1e-9)
    assert curve.filter(pl.col("survival") <= 0.5)["time"][0] == 310


def test_a_clustered_band_is_that_of_lifelines_where_nothing_clusters() -> None:
    """With a row per cluster the variance is Greenwood's by G / (G - 1), and t is all but normal."""
    lung = load_lung()
    time, event = lung["time"].to_list(), (lung["status"] == 1).to_list()
    plain = kaplan_meier(time, event)
    own = kaplan_meier(time, event, clusters=range(len(time)))
    wider = stats.t.ppf(0.975, len(time) - 1) / stats.norm.ppf(0.975)
    wider *= np.sqrt(len(time) / (len(time) - 1))
    inside = plain["survival"].is_between(0.001, 0.999)
    for side in ("low", "high"):
        halves = [
            np.log(np.log(curve.filter(inside)[side]) / np.log(curve.filter(inside)["survival"]))
            for curve in (plain, own)
        ]
        np.testing.assert_allclose(halves[1], halves[0] * wider, rtol=1e-9)
    one = kaplan_meier([1, 2, 3], [True, True, False], clusters="aaa")
    assert one["low"].to_list() == [None] * 3


def test_bands_hold_where_tasks_differ_only_if_they_are_clustered() -> None:
    """20 tasks of 4 runs; the log odds of the event at each call have a spread of 1 between tasks."""
    rng = np.random.default_rng(1)
    levels = 1 / (1 + np.exp(2.2 - rng.normal(0, 1, 400_000)))
    truth = {3: ((1 - levels) ** 3).mean(), 8: ((1 - levels) ** 8).mean()}
    held = {"plain": 0, "clustered": 0}
    draws, tasks = 250, np.repeat(np.arange(20), 4)
    for _ in range(draws):
        chance = 1 / (1 + np.exp(2.2 - rng.normal(0, 1, 20)))[tasks]
        happens, leaves = rng.geometric(chance), rng.integers(3, 13, tasks.size)
        time, event = np.minimum(happens, leaves).tolist(), (happens <= leaves).tolist()
        for name, clusters in (("plain", None), ("clustered", tasks.tolist())):
            curve = kaplan_meier(time, event, clusters=clusters)
            for at, share in truth.items():
                row = curve.filter(pl.col("time") <= at).row(-1, named=True)
                held[name] += row["low"] <= share <= row["high"]
    assert held["plain"] / (2 * draws) < 0.91
    assert 0.925 < held["clustered"] / (2 * draws) < 0.985


def test_aalen_johansen_equals_lifelines() -> None:
    rng = np.random.default_rng(3)
    time = rng.permutation(400).astype(float) + 1  # lifelines adds noise to tied times
    ends = rng.choice(["fail", "win", ""], 400, p=[0.4, 0.4, 0.2])
    curve = aalen_johansen(time.tolist(), [e or None for e in ends]).filter(end="fail")
    codes = np.select([ends == "fail", ends == "win"], [1, 2], 0)
    known = AalenJohansenFitter(calculate_variance=False).fit(time, codes, event_of_interest=1)
    expected = known.cumulative_density_.loc[curve["time"].to_numpy()].to_numpy().ravel()
    np.testing.assert_allclose(curve["incidence"], expected, atol=1e-12)


def test_one_minus_kaplan_meier_overstates_what_competes() -> None:
    """Constant hazards .10 of failing and .14 of succeeding: of all runs .10 / .24 fail in the end."""
    rng = np.random.default_rng(0)
    steps, ends = [], []
    for _ in range(20_000):
        step = 1
        while (draw := rng.random()) >= 0.24:
            step += 1
        steps.append(step)
        ends.append("fail" if draw < 0.10 else "win")
    fail = [end == "fail" for end in ends]
    naive = 1 - kaplan_meier(steps, fail)["survival"].to_numpy()
    right = aalen_johansen(steps, ends).filter(end="fail")["incidence"].to_numpy()
    assert naive[19] == pytest.approx(0.880, abs=0.01)  # by call 20: 1 - .9^20
    assert right[-1] == pytest.approx(np.mean(fail), abs=1e-12)
    assert right[-1] == pytest.approx(0.10 / 0.24, abs=0.01)


def test_incidences_add_up_and_the_bands_hold_them() -> None:
    runs = simulate(Planted(tasks=60), seed=3)
    found = survival.cumulative_incidence(runs)
    last = found.frame.group_by("end", maintain_order=True).last()
    assert last["incidence"].sum() == pytest.approx(1)
    table = runs.trajectories.collect()
    share = dict(last.select("end", "incidence").iter_rows())
    assert share["success"] == pytest.approx(table["success"].mean())
    assert share["cut off"] == pytest.approx((table["outcome"] == "limit").mean())
    frame = found.frame
    assert (frame["low"] <= frame["incidence"] + 1e-12).all()
    assert (frame["high"] >= frame["incidence"] - 1e-12).all()
    assert len(found.runs(role="failure")) == (table["outcome"] == "failure").sum()


def test_bands_cover_the_truth_of_tasks_that_differ() -> None:
    """The band at the last step covers the true share of failures in about 95 of 100 samples."""
    ends = pl.concat(
        simulate(Planted(tasks=800), seed=500 + seed).trajectories.select("outcome").collect()
        for seed in range(4)
    )
    truth = ends.filter(outcome="failure").height / ends.height
    hits = []
    for seed in range(40):
        found = survival.cumulative_incidence(simulate(Planted(tasks=50), seed=seed)).frame
        end = found.filter(end="failure").row(-1, named=True)
        hits.append(end["low"] <= truth <= end["high"])
    assert sum(hits) >= 34


def test_arms_have_curves_of_their_own_and_small_ones_are_left_out() -> None:
    runs = simulate(Planted(tasks=40, dropped_odds=2.0), seed=1)
    found = survival.cumulative_incidence(runs, by="arm")
    assert found.frame["arm"].unique().sort().to_list() == ["dropped", "kept"]
    few = runs.filter(runs.ids[:4])
    with pytest.raises(DerailError, match="no group has 10 runs"):
        survival.cumulative_incidence(few)


def chat(pattern: str) -> list[dict[str, object]]:
    """A run whose tool answers by the pattern: e an error, . a good answer, o another tool's."""
    log: list[dict[str, object]] = [{"role": "user", "content": "go"}]
    for number, letter in enumerate(pattern):
        tool = "look" if letter == "o" else "fetch"
        call = {"id": f"c{number}", "type": "function"}
        function = {"name": tool, "arguments": f'{{"n": {number}}}'}
        log.append({"role": "assistant", "tool_calls": [{**call, "function": function}]})
        text = '{"error": "failed"}' if letter == "e" else f"fine {number}"
        log.append({"role": "tool", "tool_call_id": f"c{number}", "content": text})
    return log


def test_recovery_counts_calls_to_the_same_tool_s_next_good_answer() -> None:
    runs = loaders.from_messages(
        [chat("e."), chat("eo."), chat("eooooooo."), chat("ee."), chat("eo")]
    )
    times = survival.recovery_times(runs)
    assert times.select("run", "step", "calls", "recovered").rows() == [
        (0, 0, 1, True),
        (1, 0, 2, True),
        (2, 0, 5, False),  # after the horizon
        (3, 0, 2, True),
        (3, 1, 1, True),
        (4, 0, 1, False),  # the run ends
    ]


def test_rates_of_recovery_and_what_is_too_few() -> None:
    runs = loaders.from_messages([chat("e.")] * 9 + [chat("eo")] * 3, task_id=[*"abcdefghiabc"])
    found = survival.recovery(runs)
    row = found.frame.row(0, named=True)
    assert (row["responses"], row["recovered"], row["median"]) == (12, 9, 1.0)
    assert row["rate"] == pytest.approx(0.75)
    assert row["low"] < 0.75 < row["high"]
    assert len(found.runs(role="not_recovered")) == 3
    few = survival.recovery(loaders.from_messages([chat("e.")] * 9))
    assert few.frame["rate"].to_list() == [None]
    assert "10 are needed" in few.frame["refused"][0]
    with pytest.raises(DerailError, match="not 'arm'"):
        survival.recovery(runs, by="arm")


def test_thinking_that_is_kept_helps_recovery_in_the_study() -> None:
    """The agent tries again more often while its notes are at hand (sample_logs/TRUTH.md)."""
    runs = loaders.load(
        ROOT / f"sample_logs/study/{{arm}}/planner-1/openai_agents/{kind}.jsonl.zst"
        for kind in ("returned_error", "raised_error", "timeout")
    )
    rates = {}
    for arm in ("all", "none"):
        times = survival.recovery_times(runs.filter(arm=arm))
        broken = times.filter(pl.col("code").is_in(["exec_error", "exception", "timeout"]))
        rates[arm] = broken["recovered"].mean()
    assert rates["all"] > rates["none"] + 0.15
