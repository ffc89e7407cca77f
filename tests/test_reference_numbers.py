"""Numbers that others have published or computed, from the estimators here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_lung, load_rossi
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from analysis.regression import Fit, fit, patterns
from analysis.uncertainty import mcnemar_exact


def discrete_hazard(time: Any, event: Any, x: Any, names: list[str], breaks: Any) -> Fit:
    """Complementary log-log hazard in intervals that end at ``breaks``, a free baseline in each."""
    interval = np.searchsorted(breaks, time)
    person, period = np.nonzero(np.arange(len(breaks))[None, :] <= interval[:, None])
    rows = pl.DataFrame(
        {
            "event": event[person] & (period == interval[person]),
            "person": person,
            **{name: x[person, index] for index, name in enumerate(names)},
        }
    ).with_columns(
        (pl.Series(period) == number).cast(pl.Float64).alias(f"period {number}")
        for number in range(1, len(breaks))
    )
    periods = [name for name in rows.columns if name.startswith("period ")]
    return fit(patterns(rows, "event", [*names, *periods], "person"), "cloglog")


def test_recidivism_rossi() -> None:
    """The discrete hazard in weeks comes close to Cox's with Efron's ties (Allison 1995): -.347."""
    rossi, names = load_rossi(), ["fin", "age", "prio"]
    event = rossi["arrest"].to_numpy() == 1
    weeks = rossi["week"].to_numpy()
    x = rossi[names].to_numpy().astype(float)
    found = discrete_hazard(weeks, event, x, names, np.unique(weeks[event]))
    assert found.coefficients[1] == pytest.approx(-0.3476, abs=5e-5)
    efron = CoxPHFitter().fit(rossi[[*names, "week", "arrest"]], "week", "arrest").params_
    assert efron["fin"] == pytest.approx(-0.347, abs=5e-4)
    np.testing.assert_allclose(found.coefficients[1:4], efron.to_numpy(), rtol=0.003)


def test_lung_cancer() -> None:
    """Age .017045 and sex -.5132 by Cox's model; in intervals of 30 days nearly the same."""
    lung, names = load_lung(), ["age", "sex"]
    cox = CoxPHFitter().fit(lung[[*names, "time", "status"]], "time", "status").params_
    assert cox.to_numpy() == pytest.approx([0.017045, -0.5132], abs=5e-5)
    months = np.ceil(lung["time"].to_numpy() / 30)
    event = (lung["status"].to_numpy() == 1) & (months <= 24)
    coarse = lung[names].assign(time=np.minimum(months, 24), status=event)
    found = discrete_hazard(
        coarse["time"].to_numpy(),
        event,
        lung[names].to_numpy().astype(float),
        names,
        np.arange(1, 25),
    )
    cox = CoxPHFitter().fit(coarse, "time", "status").params_
    np.testing.assert_allclose(found.coefficients[1:3], cox.to_numpy(), rtol=0.05)


def test_mcnemar() -> None:
    """b = 86, c = 150: chi-square 17.356 with p 3.10e-5, exact p 3.72e-5."""
    table = np.array([[0, 86], [150, 0]])
    oracle: Any = mcnemar(table, exact=False, correction=False)
    assert oracle.statistic == pytest.approx(17.356, abs=5e-4)
    assert oracle.pvalue == pytest.approx(3.10e-5, abs=5e-8)
    assert mcnemar_exact(86, 150) == pytest.approx(3.72e-5, abs=5e-8)
    assert mcnemar_exact(86, 150) == pytest.approx(stats.binomtest(86, 236).pvalue, rel=1e-12)


def lasting(rng: np.random.Generator) -> pl.DataFrame:
    """250 tasks of spread .8 with 4 runs of at most 40 calls; from some call on thinking is dropped.

    At each call a run fails (log odds -3 in a task of mean difficulty), else it succeeds (-2.5), else
    dropping begins with a chance of .2. It does nothing.
    """
    difficulty = np.repeat(rng.normal(0, 0.8, 250), 4)
    fails = rng.geometric(1 / (1 + np.exp(3 - difficulty)))
    succeeds = rng.geometric(1 / (1 + np.exp(2.5)), 1_000)
    drops = rng.geometric(0.2, 1_000)
    last = np.minimum(np.minimum(fails, succeeds), 40)
    return pl.DataFrame(
        {
            "task": np.repeat(np.arange(250), 4),
            "failed": (fails <= succeeds) & (fails <= 40),
            "last": last - 1,
            "drops": drops,
            "ever": (drops < last).astype(float),
        }
    )


def test_immortal_time() -> None:
    """Of a true null: runs ever exposed against others -.235, by call -.022; 45 % rejected.

    Many designs have these numbers; this is one of them. A run must last to be exposed, so that those
    which ever were look protected.
    """
    rng = np.random.default_rng(0)
    ever, by_call = [], []
    starts = (1, 2, 3, 5, 8, 12, 18, 27)
    for _ in range(40):
        runs = lasting(rng)
        ever.append(fit(patterns(runs, "failed", ["ever"], "task")))
        step = pl.col("step")
        calls = runs.with_columns(step=pl.int_ranges(0, pl.col("last") + 1)).explode("step")
        calls = calls.with_columns(
            (pl.col("failed") & (step == pl.col("last"))).alias("event"),
            (step >= pl.col("drops")).cast(pl.Float64).alias("dropped"),
            *((step >= start).cast(pl.Float64).alias(f"from_{start}") for start in starts),
        )
        baseline = [f"from_{start}" for start in starts]
        by_call.append(fit(patterns(calls, "event", ["dropped", *baseline], "task")))
    odds = [np.array([found.coefficients[1] for found in fits]) for fits in (ever, by_call)]
    errors = [np.array([found.standard_errors[1] for found in fits]) for fits in (ever, by_call)]
    rejected = [(np.abs(b) > 1.96 * se).mean() for b, se in zip(odds, errors, strict=True)]
    assert odds[0].mean() == pytest.approx(-0.235, abs=0.06)
    assert odds[1].mean() == pytest.approx(-0.022, abs=0.08)
    assert 0.3 < rejected[0] < 0.6
    assert rejected[1] < 0.15
