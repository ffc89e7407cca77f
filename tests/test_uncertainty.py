"""Estimators against statsmodels, published reference numbers, and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from statsmodels.stats.contingency_tables import StratifiedTable, mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.uncertainty import (
    Estimate,
    benjamini_hochberg,
    clustered_mean,
    holm,
    mantel_haenszel,
    mantel_haenszel_across,
    mcnemar_exact,
    pass_hat_k,
    share_interval,
)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_mean_equals_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 12, 80)
    values = rng.normal(size=80) + clusters / 3
    fit = sm.OLS(values, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    # The oracle also multiplies by (n-1)/(n-k), which is 1 for an intercept alone.
    ours = clustered_mean(values.tolist(), clusters.tolist())
    assert ours.value == pytest.approx(float(fit.params[0]), abs=1e-13)
    assert ours.se == pytest.approx(float(fit.bse[0]), abs=1e-13)
    assert ours.clusters == len(set(clusters.tolist()))


def test_one_cluster_tells_no_interval() -> None:
    alone = clustered_mean([1, 0, 1], ["a", "a", "a"])
    assert alone.value == pytest.approx(2 / 3)
    assert math.isnan(alone.se)


def test_interval_covers_the_truth_when_tasks_cluster() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        task = rng.normal(0, 1, 40).repeat(5)
        e = clustered_mean(
            (task + rng.normal(0, 1, 200)).tolist(), np.arange(40).repeat(5).tolist()
        )
        covered += e.low <= 0 <= e.high
    assert 0.92 <= covered / 400 <= 0.98


def test_mcnemar_reference_numbers() -> None:
    assert mcnemar_exact(86, 150) == pytest.approx(3.72e-5, rel=0.01)
    oracle: Any = mcnemar(np.array([[0, 39], [15, 0]]), exact=True)
    assert mcnemar_exact(39, 15) == pytest.approx(float(oracle.pvalue), rel=1e-12)
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_corrections_equal_statsmodels_and_leave_nan_out(ours, method) -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.2]
    expected: Any = multipletests(p, method=method)[1]
    assert ours(p) == pytest.approx(expected.tolist(), abs=1e-15)
    with_gap = ours([0.01, math.nan, *p[1:]])
    assert math.isnan(with_gap[1])
    assert [*with_gap[:1], *with_gap[2:]] == pytest.approx(expected.tolist())
    assert ours([]) == []


def test_pass_hat_k_is_unbiased_where_the_plug_in_is_not() -> None:
    rng = np.random.default_rng(0)
    chance = 0.6
    successes = rng.binomial(4, chance, 20_000).tolist()
    unbiased = np.mean([pass_hat_k(c, 4, 3) for c in successes])
    plug_in = np.mean([(c / 4) ** 3 for c in successes])
    assert unbiased == pytest.approx(chance**3, abs=0.01)
    assert plug_in > chance**3 + 0.05
    assert math.isnan(pass_hat_k(1, 2, 3))


def tables(seed: int, strata: int, odds: float):
    """Sparse strata with very different baselines and one common odds ratio."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(strata):
        base = rng.uniform(0.1, 0.9)
        exposed_chance = base * odds / (1 - base + base * odds)
        n1, n0 = rng.integers(1, 6), rng.integers(1, 6)
        rows.append((rng.binomial(n1, exposed_chance), n1, rng.binomial(n0, base), n0))
    return [list(map(int, column)) for column in zip(*rows, strict=True)]


def test_mantel_haenszel_equals_statsmodels_and_covers() -> None:
    a, n1, c, n0 = tables(3, 200, 2.0)
    oracle = StratifiedTable(
        [
            np.array([[x, m - x], [y, n - y]], dtype=float)
            for x, m, y, n in zip(a, n1, c, n0, strict=True)
        ]
    )
    ours = mantel_haenszel(
        exposed_failed=a, exposed=n1, unexposed_failed=c, unexposed=n0, clusters=range(200)
    )
    assert math.exp(ours.value) == pytest.approx(float(oracle.oddsratio_pooled), rel=1e-12)
    assert ours.se == pytest.approx(float(oracle.logodds_pooled_se), rel=0.1)
    covered = 0
    for seed in range(200):
        a, n1, c, n0 = tables(seed, 60, 2.0)
        e = mantel_haenszel(
            exposed_failed=a, exposed=n1, unexposed_failed=c, unexposed=n0, clusters=range(60)
        )
        covered += e.low <= math.log(2) <= e.high
    assert 0.91 <= covered / 200 <= 0.99


def random_rows(rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """400 rows of 40 tasks in 4 strata, without an effect: event, exposed, stratum, task."""
    task = np.arange(40).repeat(10)
    difficulty = rng.normal(0, 1, 40)[task]
    exposed, stratum = rng.random(400) < 0.3, rng.integers(0, 4, 400)
    return rng.random(400) < 1 / (1 + np.exp(-difficulty)), exposed, stratum, task


def across(event: Any, exposed: Any, stratum: Any, task: Any) -> Estimate:
    return mantel_haenszel_across(
        event=event.tolist(),
        exposed=exposed.tolist(),
        stratum=stratum.tolist(),
        clusters=task.tolist(),
    )


def test_mantel_haenszel_across_knows_clusters() -> None:
    rng = np.random.default_rng(1)
    rejected = sum(across(*random_rows(rng)).p < 0.05 for _ in range(200))
    assert rejected / 200 <= 0.09


def test_mantel_haenszel_across_agrees_on_the_estimate() -> None:
    event, exposed, stratum, task = random_rows(np.random.default_rng(2))
    inside = [stratum == s for s in range(4)]
    same = mantel_haenszel(
        exposed_failed=[int((event & exposed & here).sum()) for here in inside],
        exposed=[int((exposed & here).sum()) for here in inside],
        unexposed_failed=[int((event & ~exposed & here).sum()) for here in inside],
        unexposed=[int((~exposed & here).sum()) for here in inside],
        clusters=range(4),
    )
    assert across(event, exposed, stratum, task).value == pytest.approx(same.value, abs=1e-12)


def test_no_overlap_gives_no_estimate() -> None:
    e = mantel_haenszel(
        exposed_failed=[1, 0],
        exposed=[2, 0],
        unexposed_failed=[0, 1],
        unexposed=[0, 3],
        clusters="ab",
    )
    assert math.isnan(e.value)


def test_the_interval_of_a_small_share_holds_better_than_the_symmetric_one() -> None:
    rng = np.random.default_rng(5)
    symmetric, ours = [], []
    tasks = range(50)
    for _ in range(1_500):
        chance = 1 / (1 + np.exp(0.6 - 0.8 * rng.normal(size=50)))
        values = [pass_hat_k(int(c), 4, 4) for c in rng.binomial(4, chance)]
        e = clustered_mean(values, tasks)
        low, high = share_interval(e)
        symmetric.append(e.low <= 0.0468 <= e.high)
        ours.append(low <= 0.0468 <= high)
    assert np.mean(symmetric) < 0.93 < np.mean(ours)
    assert math.isnan(share_interval(clustered_mean([1.0], ["a"]))[0])


def test_mantel_haenszel_across_counts_rows_that_are_alike() -> None:
    event, exposed, stratum, task = random_rows(np.random.default_rng(7))
    each = pl.DataFrame({"e": event, "x": exposed, "s": stratum, "t": task})
    some = each.group_by("e", "x", "s", "t").len()
    assert some.height < each.height
    counted = mantel_haenszel_across(
        event=some["e"].to_list(), exposed=some["x"].to_list(), stratum=some["s"].to_list(),
        clusters=some["t"].to_list(), n=some["len"].to_list(),
    )  # fmt: skip
    plain = across(event, exposed, stratum, task)
    assert (counted.n, counted.clusters) == (plain.n, plain.clusters)
    assert counted.value == pytest.approx(plain.value, abs=1e-12)
    assert counted.se == pytest.approx(plain.se, rel=1e-12)
