"""A random intercept for each cluster: against integration, the jackknife and what was planted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from test_regression import X, rows

from analysis.regression import Fit, fit, patterns
from analysis.two_levels import climb, random_intercept


def likelihood_by_integration(frame: pl.DataFrame, beta: np.ndarray, sd: float) -> float:
    """The marginal log likelihood by adaptive integration, cluster by cluster."""
    from scipy import integrate

    total = 0.0
    for part in frame.partition_by("task"):
        eta = sm.add_constant(part.select(X).to_numpy(), has_constant="add") @ beta
        y = part["event"].to_numpy()

        def density(u: float, eta: Any = eta, y: Any = y) -> float:
            p = 1 / (1 + np.exp(-(eta + sd * u)))
            return (
                float(np.prod(np.where(y, p, 1 - p)))
                * math.exp(-u * u / 2)
                / math.sqrt(2 * math.pi)
            )

        total += math.log(integrate.quad(density, -8, 8)[0])
    return total


def test_the_likelihood_of_a_random_intercept_is_the_integral() -> None:
    frame = rows(clusters=12, size=10)
    found = random_intercept(patterns(frame, "event", X, "task"))
    assert found.intercept_sd is not None
    exact = likelihood_by_integration(frame, found.coefficients, found.intercept_sd)
    assert found.loglik == pytest.approx(exact, abs=1e-6)
    for index in range(4):  # it is the largest there is
        for step in (-0.05, 0.05):
            beta = found.coefficients.copy()
            beta[index] += step
            assert likelihood_by_integration(frame, beta, found.intercept_sd) < exact


def test_clusters_of_hundreds_of_events_are_narrower_than_fixed_nodes_could_see() -> None:
    """Each cluster's intercept is then as good as known: its spread is that of separate fits, less their error."""
    frame = rows(4, clusters=20, size=4_000, effects=(0.0, 0.0, 0.0))
    found = random_intercept(patterns(frame, "event", [], "task"))
    counts = frame.group_by("task").agg(pl.len().alias("n"), pl.col("event").sum())
    n, events = counts["n"].to_numpy(), counts["event"].to_numpy()
    own, error = np.log(events / (n - events)), 1 / events + 1 / (n - events)
    assert found.intercept_sd is not None
    assert found.intercept_sd**2 == pytest.approx(own.var() - error.mean(), rel=0.01)
    assert found.coefficients[0] == pytest.approx(own.mean(), abs=0.01)
    assert found.standard_errors[0] == pytest.approx(own.std(ddof=1) / math.sqrt(20), rel=0.1)


def covered(found: Fit, index: int, truth: float) -> bool:
    return abs(found.coefficients[index] - truth) < 1.96 * found.standard_errors[index]


def test_a_random_intercept_finds_what_was_planted() -> None:
    """Conditional effects and the spread of tasks; plain logit gives the smaller marginal ones."""
    hits, sds = [], []
    for seed in range(40):
        found = random_intercept(patterns(rows(seed), "event", X, "task"))
        hits += [covered(found, 1, 0.6), covered(found, 2, 0.9), covered(found, 3, -0.4)]
        sds.append(found.intercept_sd)
    assert 0.89 < np.mean(hits) <= 0.99
    assert np.mean(sds) == pytest.approx(0.8, abs=0.06)


def test_errors_of_a_random_intercept_are_those_of_leaving_out_each_cluster() -> None:
    frame = rows(5).filter(pl.col("task").rank("dense") <= 25)
    data = patterns(frame, "event", X, "task")
    found = random_intercept(data)
    left_out = [
        random_intercept(patterns(frame.filter(pl.col("task") != task), "event", X, "task"))
        for task in frame["task"].unique()
    ]
    moves = np.stack([other.coefficients for other in left_out]) - found.coefficients
    jackknife = np.sqrt(24 / 25 * (moves**2).sum(axis=0))
    np.testing.assert_allclose(found.standard_errors, jackknife, rtol=0.12)
    np.testing.assert_allclose(found.standard_errors[1:], jackknife[1:], rtol=0.02)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("log_sd", [-3.5, -1.0, 1.5, 3.0])
def test_the_climb_gets_there_from_afar(log_sd: float) -> None:
    """Also from where the likelihood is flat, and a step of Newton's would leave what can be computed."""
    data = patterns(rows(2), "event", X, "task")
    theta, _, converged = climb(data, np.append(fit(data).coefficients, log_sd))
    assert converged
    np.testing.assert_allclose(theta[:-1], random_intercept(data).coefficients, atol=2e-4)


def test_without_spread_between_clusters_the_intercept_is_fixed() -> None:
    frame = rows(3, sd=0.0)
    data = patterns(frame, "event", X, "task")
    found = random_intercept(data)
    assert found.intercept_sd is not None
    assert found.intercept_sd < 0.25
    np.testing.assert_allclose(found.coefficients, fit(data).coefficients, atol=0.02)
