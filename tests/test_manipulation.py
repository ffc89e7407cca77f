"""Manipulation checks: who got what, and effects where labels and treatments part."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from small import Rows, runs_of
from test_thinking import run, together

from analysis import thinking
from loaders import DerailError, Trajectories

EXPECTED = {"kept": "all", "dropped": "none"}


def labelled(rows: list[tuple[str, str, bool, str]]) -> Trajectories:
    """Runs of ``(label, policy got, success, task)``; ``short`` got nothing to send."""
    sent: dict[str, list[int | None]] = {
        "all": [0, 1, 2, 3], "none": [0, 0, 0, 0], "last": [0, 1, 1, 1], "short": [0], "unknown": [None] * 4,
    }  # fmt: skip
    trajectories: Rows = []
    steps: Rows = []
    events: Rows = []
    for number, (label, got, success, task) in enumerate(rows):
        trajectory, more_steps, more_events = run(number, sent[got], "request", label)
        trajectories.append(
            {
                **trajectory,
                "success": success,
                "outcome": "success" if success else "failure",
                "task_id": task,
            }
        )
        steps += more_steps
        events += more_events
    return runs_of(trajectories, steps, events)


def trial(
    rng: np.random.Generator, n: int, *, effect: float, complies: float, frailty: float
) -> Trajectories:
    """Runs that would fail more often comply less often: as treated is confounded, assignment is not."""
    rows: list[tuple[str, str, bool, str]] = []
    for number in range(n):
        label = ("kept", "dropped")[number % 2]
        is_weak = rng.random() < 0.5
        wanted = rng.random() < complies * (0.4 if is_weak else 1.0)
        got = ("none" if wanted else "all") if label == "dropped" else "all"
        chance = 0.75 - frailty * is_weak - effect * (got == "none")
        rows.append((label, got, bool(rng.random() < chance), f"t{number // 4}"))
    return labelled(rows)


def test_compliance_is_counted_by_arm() -> None:
    rows = [("kept", "all", True, "a")] * 6 + [("kept", "none", True, "b")] * 2
    rows += [("dropped", "none", False, "a")] * 5 + [("dropped", "short", True, "b")]
    rows += [("dropped", "unknown", True, "b")]
    found = thinking.manipulation(labelled(rows), expected=EXPECTED, tokens=False)
    by_arm = {row["arm"]: row for row in found.frame.iter_rows(named=True)}
    kept, dropped = by_arm["kept"], by_arm["dropped"]
    assert (kept["complied"], kept["deviated"], kept["compliance"]) == (6, 2, 0.75)
    assert kept["got"] == "all 6, none 2"
    assert (dropped["complied"], dropped["unknown"], dropped["nothing_to_send"]) == (5, 1, 1)
    assert (round(kept["low"], 4), round(kept["high"], 4)) == (0.3491, 0.9681)  # scipy's exact
    assert any("Non-compliance: 2 of 8 runs of 'kept'" in text for text in found.warnings)
    assert any("no known request" in text for text in found.warnings)
    assert any("had no earlier thinking" in text for text in found.warnings)
    assert len(found.runs("deviated", arm="kept")) == 2


def test_a_label_that_did_nothing_is_seen_only_if_it_is_said_what_it_means() -> None:
    runs = labelled([("kept", "all", True, "a")] * 4 + [("dropped", "all", True, "a")] * 4)
    blind = thinking.manipulation(runs)
    assert blind.frame["compliance"].to_list() == [1.0, 1.0]
    assert any("expected= was not given" in text for text in blind.warnings)
    told = thinking.manipulation(runs, expected=EXPECTED)
    assert dict(told.frame.select("arm", "compliance").iter_rows()) == {"dropped": 0.0, "kept": 1.0}


def test_nonsense_is_refused() -> None:
    runs = labelled([("kept", "all", True, "a"), ("dropped", "none", True, "a")])
    with pytest.raises(DerailError, match="no policy 'some'"):
        thinking.manipulation(runs, expected={"kept": "some", "dropped": "none"})
    with pytest.raises(DerailError, match="no arm is called 'cept'"):
        thinking.manipulation(runs, expected={"cept": "all", "dropped": "none"})
    with pytest.raises(DerailError, match="needs two arms"):
        thinking.manipulation(together(run(0, [0, 1], "request", "only")))


def effects(runs: Trajectories) -> dict[str, dict[str, Any]]:
    found = thinking.treatment_effects(runs, expected=EXPECTED, baseline="kept", tokens=False)
    return {row["estimate"]: row for row in found.frame.iter_rows(named=True)}


def test_planted_effects_with_partial_compliance() -> None:
    """ITT is diluted, as treated is confounded, and the complier average covers the truth."""
    rng = np.random.default_rng(5)
    values: dict[str, list[float]] = {}
    covered: list[bool] = []
    for _ in range(40):
        by_name = effects(trial(rng, 400, effect=0.3, complies=0.9, frailty=0.4))
        for name, row in by_name.items():
            values.setdefault(name, []).append(row["difference"])
        iv = by_name["complier average"]
        covered.append(iv["low"] <= -0.3 <= iv["high"])
    share = (0.9 + 0.36) / 2
    assert np.mean(values["intent to treat"]) == pytest.approx(-0.3 * share, abs=0.02)
    assert np.mean(values["complier average"]) == pytest.approx(-0.3, abs=0.03)
    assert np.mean(values["as treated"]) > -0.3 + 0.06  # the strong comply: it hides harm
    assert 0.88 <= np.mean(covered) <= 1


def test_intent_to_treat_equals_a_clustered_regression() -> None:
    runs = trial(np.random.default_rng(1), 200, effect=0.2, complies=0.8, frailty=0.2)
    row = effects(runs)["intent to treat"]
    table = runs.trajectories.collect()
    y = table["success"].cast(pl.Float64).to_numpy()
    z = (table["arm"] == "dropped").cast(pl.Float64).to_numpy()
    tasks = table["task_id"].rank("dense").to_numpy()
    fit = sm.OLS(y, sm.add_constant(z)).fit(
        cov_type="cluster", cov_kwds={"groups": tasks, "use_correction": False}, use_t=True
    )
    groups = len(set(tasks.tolist()))
    assert row["difference"] == pytest.approx(fit.params[1], abs=1e-12)
    half = (row["high"] - row["low"]) / 2
    from scipy import stats

    expected = stats.t.ppf(0.975, groups - 1) * fit.bse[1] * np.sqrt(groups / (groups - 1))
    assert half == pytest.approx(expected, abs=1e-10)


def test_wald_is_the_ratio_and_equals_itt_under_full_compliance() -> None:
    runs = trial(np.random.default_rng(2), 200, effect=0.2, complies=1.0, frailty=0.0)
    full = effects(runs)
    assert set(full) == {"intent to treat", "as treated", "per protocol", "complier average"}
    got = labelled(
        [
            ("kept" if n % 2 else "dropped", "all" if n % 2 else "none", n % 3 > 0, f"t{n // 4}")
            for n in range(80)
        ]
    )
    perfect = effects(got)
    for column in ("difference", "low", "high"):
        assert perfect["complier average"][column] == pytest.approx(
            perfect["intent to treat"][column], abs=1e-12
        )


def test_no_first_stage_and_unclear_treatments_are_refused() -> None:
    same = labelled([(label, "all", n % 2 == 0, f"t{n}") for n in range(20) for label in EXPECTED])
    by_name = effects(same)
    assert "too few to divide by" in by_name["complier average"]["refused"]
    assert "10 are needed" in by_name["as treated"]["refused"]
    between = labelled([("kept", "all", True, f"t{n}") for n in range(20)]
                       + [("dropped", "last" if n < 5 else "none", True, f"t{n}") for n in range(20)])  # fmt: skip
    assert "got neither treatment" in effects(between)["complier average"]["refused"]


def test_runs_without_an_outcome_are_left_out_and_counted() -> None:
    runs = labelled([(arm, got, True, f"t{n}") for n in range(12) for arm, got in EXPECTED.items()])
    blind = pl.DataFrame({"trajectory_id": runs.ids[:3], "blind": [True] * 3})
    table = runs.label(blind, on="trajectory_id").trajectories.with_columns(
        success=pl.when(pl.col("blind").is_null()).then("success")
    )
    rest = {
        name: getattr(runs, name).collect() for name in ("steps", "events", "tools", "problems")
    }
    some = Trajectories.from_frames({"trajectories": table.collect(), **rest})
    found = thinking.treatment_effects(some, expected=EXPECTED)
    assert any("3 runs whose outcome" in text for text in found.warnings)
    itt = found.frame.filter(estimate="intent to treat").row(0, named=True)
    assert itt["runs_a"] + itt["runs_b"] == 21
