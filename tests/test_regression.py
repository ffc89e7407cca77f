"""Regression against statsmodels, against known answers, and by simulation."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from analysis.regression import firth, fit, patterns
from loaders.errors import DerailError

X = ["dropped", "error", "late"]


def rows(
    seed: int = 0,
    clusters: int = 60,
    size: int = 25,
    sd: float = 0.8,
    effects: Any = (0.6, 0.9, -0.4),
) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    x = np.column_stack([rng.random(cluster.size) < p for p in (0.4, 0.1, 0.5)]).astype(float)
    eta = -2 + x @ np.array(effects) + rng.normal(0, sd, clusters)[cluster]
    event = rng.random(cluster.size) < 1 / (1 + np.exp(-eta))
    return pl.DataFrame({"event": event, "task": cluster, **dict(zip(X, x.T, strict=True))})


def oracle(frame: pl.DataFrame, link: Any) -> Any:
    x = sm.add_constant(frame.select(X).to_numpy())
    model = sm.GLM(frame["event"].to_numpy().astype(float), x, sm.families.Binomial(link))
    groups = frame["task"].to_numpy()
    return model.fit(cov_type="cluster", cov_kwds={"groups": groups}, tol=1e-13, maxiter=200)


@pytest.mark.parametrize("link", ["logit", "cloglog"])
def test_coefficients_and_clustered_errors_equal_statsmodels(link: Any) -> None:
    frame = rows()
    links = {"logit": sm.families.links.Logit(), "cloglog": sm.families.links.CLogLog()}
    known, found = oracle(frame, links[link]), fit(patterns(frame, "event", X, "task"), link)
    assert found.converged
    np.testing.assert_allclose(found.coefficients, known.params, atol=1e-8)
    np.testing.assert_allclose(found.loglik, known.llf, rtol=1e-10)
    np.testing.assert_allclose(found.standard_errors, known.bse, rtol=1e-8)
    assert (found.n, found.clusters) == (1500, 60)


def test_rows_are_counted_by_pattern_and_cluster() -> None:
    data = patterns(rows(), "event", X, "task")
    assert data.n.sum() == 1500
    assert data.n.size <= 60 * 8
    assert data.clusters == 60


def test_firth_on_separated_events_equals_the_published_answer() -> None:
    # Two by two with an empty cell: the penalised log odds ratio is that of counts plus one half.
    frame = pl.DataFrame(
        {
            "event": [True] * 5 + [False] * 5 + [False] * 10,
            "exposed": [1.0] * 10 + [0.0] * 10,
            "task": list(range(20)),
        }
    )
    data = patterns(frame, "event", ["exposed"], "task")
    found = firth(data)
    expected = math.log((5.5 / 5.5) / (0.5 / 10.5))
    assert found.coefficients[1] == pytest.approx(expected, abs=1e-9)
    assert fit(data).coefficients[1] == pytest.approx(expected, abs=1e-9)
    assert "Firth" in fit(data).method


def test_firth_shrinks_little_where_there_is_much_data() -> None:
    data = patterns(rows(clusters=200), "event", X, "task")
    assert np.abs(firth(data).coefficients - fit(data).coefficients).max() < 0.02


def test_what_cannot_be_fitted_says_why() -> None:
    frame = rows()
    with pytest.raises(DerailError, match="'error' never varies"):
        fit(patterns(frame.with_columns(error=pl.lit(1.0)), "event", X, "task"))
    with pytest.raises(DerailError, match="combinations of others"):
        fit(patterns(frame.with_columns(error=pl.col("late") * 2), "event", X, "task"))
    with pytest.raises(DerailError, match="all rows or in none"):
        fit(patterns(frame.filter(event=False), "event", X, "task"))
    with pytest.raises(DerailError, match="no rows"):
        fit(patterns(frame.with_columns(error=pl.lit(None, pl.Float64)), "event", X, "task"))


def test_nothing_warns_at_extreme_covariates() -> None:
    frame = rows().with_columns(late=pl.col("late") * 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(patterns(frame, "event", X, "task"))
    assert found.converged


def test_a_cloglog_where_everybody_has_the_event_does_not_overflow() -> None:
    rows = pl.DataFrame({"event": [True] * 6 + [False] * 6 + [True] * 6, "x": [0.0] * 12 + [1.0] * 6, "task": list(range(6)) * 3})  # fmt: skip
    found = fit(patterns(rows, "event", ["x"], "task"), "cloglog")
    assert np.isfinite(found.coefficients).all()
    assert np.isfinite(found.covariance).all()


def test_a_model_of_the_baseline_alone_is_the_share_of_events() -> None:
    rows = pl.DataFrame(
        {"task": ["a", "a", "b", "b", "b"], "event": [True, False, False, True, False]}
    )
    data = patterns(rows, "event", [], "task")
    assert data.x.shape == (2, 1)
    found = fit(data)
    assert 1 / (1 + np.exp(-found.coefficients[0])) == pytest.approx(0.4)
