"""Numbers that others have published or computed, from the estimators here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_lung, load_rossi
from numpy.typing import NDArray
from scipy import stats
from simulate import Planted, simulate
from statsmodels.stats.contingency_tables import mcnemar

from analysis.hazard import person_period
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


def estimates(column: str, runs_level: bool, draws: int = 8) -> NDArray[np.float64]:
    """Log odds ratios of failing and their z, where the exposure does nothing."""
    nothing = Planted(tasks=150, task_sd=1e-9, error_rate=0.0, null_rate=0.12)
    found: list[tuple[float, float]] = []
    for seed in range(draws):
        rows = person_period(simulate(nothing, seed))
        if runs_level:
            rows = rows.group_by("run").agg(
                pl.col(column).max(), pl.col("event").max(), pl.col("task").first()
            )
        one = fit(patterns(rows, "event", [column], "task"))
        value = float(one.coefficients[1])
        found.append((value, value / float(one.standard_errors[1])))
    return np.array(found)


def test_immortal_time() -> None:
    """Runs that last meet more: "ever met" looks protective though it does nothing; per call it does not.

    How large the bias is hangs on how long runs last; -.235 with 45 % false positives has been seen,
    against -.022 per call. Here runs are short and it is larger.
    """
    ever, per_call = estimates("timeout", True), estimates("timeout", False)
    assert ever[:, 0].mean() < -0.235
    assert (np.abs(ever[:, 1]) > 1.96).mean() > 0.45
    assert abs(per_call[:, 0].mean()) < 0.1
    assert (np.abs(per_call[:, 1]) > 1.96).mean() < 0.3
