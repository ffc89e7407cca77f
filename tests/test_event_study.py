"""The event study on paths whose shape is planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from simulate_outcomes import jumping

import loaders
from analysis import stacked_changes
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


def _one_by_one(
    table: pl.DataFrame, values: dict[tuple[int, int], float], taus: range
) -> dict[tuple[int, int], tuple[float, int]]:
    """Effect and number of controls of each exposed run and moment, by loops over all of them."""
    rows = table.rows(named=True)
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for own in rows:
        if own["first"] is None or own["first"] < 1:
            continue
        for tau in taus:
            at, base = own["first"] + tau, own["first"] - 1
            changes = [
                values[other["run"], at] - values[other["run"], base]
                for other in rows
                if other["stratum"] == own["stratum"]
                and (other["first"] is None or other["first"] > max(own["first"], at))
                and {(other["run"], at), (other["run"], base)} <= values.keys()
            ]
            if changes and {(own["run"], at), (own["run"], base)} <= values.keys():
                change = values[own["run"], at] - values[own["run"], base]
                found[own["run"], tau] = (change - float(np.mean(changes)), len(changes))
    return found


@pytest.mark.parametrize("cells", [1, 60, 1 << 22])
def test_sums_over_controls_are_those_of_each_control(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many runs are laid out at once, with calls and values missing and runs that end."""
    monkeypatch.setattr(stacked_changes, "_CELLS", cells)
    rng = np.random.default_rng(cells)
    runs = np.arange(40) * 3
    first = [None if rng.random() < 0.3 else int(n) for n in rng.integers(0, 9, 40)]
    table = pl.DataFrame(
        {"run": runs, "first": first, "stratum": rng.choice(["a", "b", "c"], 40)},
        schema_overrides={"first": pl.Int64},
    ).with_columns(trajectory_id=pl.format("t{}", "run"), task=pl.col("stratum"))
    values = {
        (int(run), step): float(rng.normal())
        for run in runs
        for step in range(rng.integers(1, 12))
        if rng.random() < 0.9
    }
    told = pl.DataFrame(
        [(run, step, value) for (run, step), value in values.items()],
        schema=["run", "step", "value"], orient="row",
    )  # fmt: skip
    taus = range(-3, 5)
    pieces = [told.filter(pl.col("run") < 45), told.filter(pl.col("run") >= 45)]
    found = stacked_changes.stacked_changes(table, pieces, taus)
    expected = _one_by_one(table, values, taus)
    assert {(row["run"], row["tau"]) for row in found.rows(named=True)} == expected.keys()
    for row in found.rows(named=True):
        effect, controls = expected[row["run"], row["tau"]]
        assert row["effect"] == pytest.approx(effect)
        assert row["controls"] == controls


def test_a_call_has_one_value() -> None:
    runs, values = jumping(6, tasks=3, runs=4)
    with pytest.raises(DerailError, match="several"):
        event_study(runs, "exec_error", pl.concat([values, values.head(1)]))
