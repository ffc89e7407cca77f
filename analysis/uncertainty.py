"""Intervals and tests that hold for agent runs: tasks cluster, arms pair, many tests are corrected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval: ``value``, standard error ``se``, ``low`` and ``high``, ``p``.

    ``p`` tests value = 0 against both sides; null (nan) where it has no meaning.
    """

    value: float
    se: float
    low: float
    high: float
    p: float
    clusters: int
    n: int


def clustered_mean(
    values: Sequence[float], clusters: Sequence[object], level: float = 0.95
) -> Estimate:
    """The mean of values that cluster, with a CR1 standard error and a t interval.

    ``SE^2 = G/(G-1) * n^-2 * sum_c (sum_{i in c} (x_i - mean))^2`` with G clusters; t has G-1
    degrees of freedom. It equals an intercept-only regression with clustered covariance. Paired
    differences are such values too (Miller 2024, "Adding error bars to evals").

    Returns nan for what one cluster can't tell.

    >>> round(clustered_mean([1, 0, 1, 1], ["a", "a", "b", "b"]).se, 4)
    0.25
    """
    x = np.asarray(values, dtype=np.float64)
    labels = {label: index for index, label in enumerate(dict.fromkeys(clusters))}
    groups = len(labels)
    if x.size == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0)
    mean = float(x.mean())
    if groups < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, groups, x.size)
    index = np.fromiter((labels[label] for label in clusters), dtype=np.intp, count=x.size)
    sums = np.bincount(index, weights=x - mean, minlength=groups)
    se = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / x.size
    return t_estimate(mean, se, groups, x.size, level)


def clustered_share(
    values: Sequence[bool], clusters: Sequence[object], level: float = 0.95
) -> Estimate:
    """The share of yes among values that cluster, with a Wilson interval that stays inside 0 and 1.

    The interval is that of the effective sample size: n over the design effect, which is the
    clustered variance over the binomial one, not below 1; with a t quantile of G-1 degrees of freedom
    for G clusters (Korn and Graubard 1998; Dean and Pagano 2015). For rare events a t interval would
    reach below 0, and have no width where nothing happened. ``p`` is nan: a share of 0 is no hypothesis.

    >>> e = clustered_share([False] * 30, range(30))
    >>> e.value, e.low, round(e.high, 3)
    (0.0, 0.0, 0.122)
    """
    return _inside(clustered_mean([float(value) for value in values], clusters, level), level)


def counted_mean(
    successes: NDArray[np.float64], of: NDArray[np.float64], level: float = 0.95
) -> Estimate:
    """``clustered_mean`` of yes and no, from counts: an entry of each array per cluster.

    >>> counted_mean(np.array([1.0, 2.0]), np.array([2.0, 2.0])) == clustered_mean([1, 0, 1, 1], "aabb")
    True
    """
    n, groups = int(of.sum()), of.size
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0)
    mean = float(successes.sum()) / n
    if groups < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, groups, n)
    sums = successes - mean * of
    se = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / n
    return t_estimate(mean, se, groups, n, level)


def counted_share(
    successes: NDArray[np.float64], of: NDArray[np.float64], level: float = 0.95
) -> Estimate:
    """``clustered_share`` from counts: an entry of each array per cluster.

    >>> few = clustered_share([True, False, False, False], "aabb")
    >>> counted_share(np.array([1.0, 0.0]), np.array([2.0, 2.0])).high == few.high
    True
    """
    return _inside(counted_mean(successes, of, level), level)


def _inside(mean: Estimate, level: float) -> Estimate:
    """A share with its Wilson interval, given its mean and clustered standard error."""
    from scipy import special

    n, share = mean.n, mean.value
    if mean.clusters < 2:
        return mean
    binomial = share * (1 - share) / n
    effect = max(1.0, mean.se**2 / binomial) if binomial > 0 else 1.0
    effective = n / effect
    t = float(special.stdtrit(mean.clusters - 1, 0.5 + level / 2))
    middle = (share + t * t / (2 * effective)) / (1 + t * t / effective)
    spread = share * (1 - share) / effective + t * t / (4 * effective**2)
    half = t * math.sqrt(spread) / (1 + t * t / effective)
    low = 0.0 if share == 0 else max(0.0, middle - half)
    high = 1.0 if share == 1 else min(1.0, middle + half)
    return Estimate(share, mean.se, low, high, math.nan, mean.clusters, n)


def t_estimate(value: float, se: float, clusters: int, n: int, level: float = 0.95) -> Estimate:
    """Interval and two-sided p from a t distribution with ``clusters - 1`` degrees of freedom."""
    from scipy import special  # a second of import, and not everyone who loads logs needs it

    df = max(clusters - 1, 1)
    half = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = 1.0 if value == 0 else math.nan
    if se > 0:
        p = 2 * float(special.stdtr(df, -abs(value) / se))
    return Estimate(value, se, value - half, value + half, p, clusters, n)


def share_interval(found: Estimate, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, for as many independent cases as its clustered error speaks of.

    Near 0 and 1 it holds where the symmetric interval is too short on one side: of pass^3 = .08 over 50
    tasks 91 % against 89 %, of pass^4 = .05 97 % against 90 % (simulated). A share of 0 or 1, whose error is 0, counts
    as one case for each cluster. nan for fewer than two clusters.

    >>> e = clustered_mean([1.0] * 10, range(10))
    >>> tuple(round(bound, 2) for bound in share_interval(e))
    (0.66, 1.0)
    """
    from scipy import special

    if found.clusters < 2:
        return math.nan, math.nan
    p, z = found.value, float(special.stdtrit(found.clusters - 1, 0.5 + level / 2))
    known = found.se > 0 and 0 < p < 1
    n = p * (1 - p) / found.se**2 if known else float(found.clusters)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def variance_estimate(
    value: float, noise: float, se: float, clusters: int, n: int, *, level: float = 0.95
) -> Estimate:
    """Interval and two-sided p of a variance that was estimated as what is left above some noise.

    ``noise`` is what chance alone adds to the observed variance before it is taken off. Such an estimate
    is skewed: the larger it comes out, the larger its error. On the logarithm of ``value + noise``, the
    variance as observed, a t interval with ``clusters - 1`` degrees of freedom holds for normal and for
    uniform effects, and misses least for skewed ones (Miller 1968, "Jackknifing variances"; Arvesen and
    Schmitz 1970, "Robust procedures for variance component problems using the jackknife"). An estimate
    below 0 has an interval too. Where the error is as large as the observed variance, a logarithm would
    tell nothing: it is taken of no less than half the reach of the interval.

    >>> e = variance_estimate(1.0, 0.0, 0.2, 30, 30)
    >>> round(e.low, 2), round(e.high, 2)
    (0.66, 1.51)
    """
    from scipy import special

    df = max(clusters - 1, 1)
    reach = float(special.stdtrit(df, 0.5 + level / 2)) * se
    scale = max(value + noise, reach / 2)
    if not scale > 0 or not se > 0:
        return t_estimate(value, se, clusters, n, level)
    low, high = (value + scale * math.expm1(side * reach / scale) for side in (-1, 1))
    at_zero = 1 - value / scale  # of the logarithm's argument, as a share of what was estimated
    distance = abs(math.log(at_zero)) * scale if at_zero > 0 else math.inf
    p = 2 * float(special.stdtr(df, -distance / se))
    return Estimate(value, se, low, high, p, clusters, n)


def variance_share_estimate(
    share: float, noise: float, se: float, clusters: int, n: int, *, level: float = 0.95
) -> Estimate:
    """The same for a variance's share of a whole, on the log odds of ``share + noise``, inside 0 and 1.

    >>> e = variance_share_estimate(0.9, 0.0, 0.06, 30, 30)
    >>> round(e.low, 2), round(e.high, 2)
    (0.7, 0.97)
    """
    from scipy import special

    df = max(clusters - 1, 1)
    reach = float(special.stdtrit(df, 0.5 + level / 2)) * se
    part, rest = max(share + noise, reach / 2), max(1 - share, reach / 2)
    if not (part > 0 and rest > 0 and se > 0):
        return t_estimate(share, se, clusters, n, level)
    bounds: list[float] = []
    for side in (-1, 1):
        odds = part / rest * math.exp(side * reach * (1 / part + 1 / rest))
        bounds.append((part + rest) * odds / (1 + odds) - (part - share))
    low, high = (min(max(bound, 0.0), 1.0) for bound in bounds)
    return Estimate(share, se, low, high, math.nan, clusters, n)


def e_value(odds_ratio: float) -> float:
    """How strong an unmeasured confounder must be to explain an odds ratio away, as a risk ratio.

    For an outcome that is common the odds ratio is first turned into a risk ratio by its square root
    (VanderWeele and Ding 2017).

    >>> round(e_value(4.0), 2)
    3.41
    """
    risk_ratio = math.sqrt(max(odds_ratio, 1 / odds_ratio))
    return risk_ratio + math.sqrt(risk_ratio * (risk_ratio - 1))


def mcnemar_exact(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test from the two discordant counts.

    >>> round(mcnemar_exact(39, 15), 4)
    0.0015
    """
    if gained + lost == 0:
        return 1.0
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))


def pass_hat_k(successes: int, trials: int, k: int) -> float:
    """Unbiased estimate that k fresh trials of a task all succeed: C(c, k) / C(n, k).

    The plug-in (c/n)^k is biased upwards (Yao et al. 2024, tau-bench). nan for k > trials.

    >>> pass_hat_k(2, 4, 2)
    0.16666666666666666
    """
    if k > trials:
        return math.nan
    return math.comb(successes, k) / math.comb(trials, k)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted by Holm's step-down method; nan stays nan and is not counted.

    >>> [round(p, 2) for p in holm([.01, .04, .03, .005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    p, known = _known(p_values)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order])
    return _filled(len(p_values), known, order, np.minimum(stepped, 1.0))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for the false discovery rate; nan stays nan and is not counted.

    >>> [round(p, 2) for p in benjamini_hochberg([.01, .04, .03, .005])]
    [0.02, 0.04, 0.04, 0.02]
    """
    p, known = _known(p_values)
    order = np.argsort(p)
    ranked = p[order] * p.size / np.arange(1, p.size + 1)
    stepped = np.minimum.accumulate(ranked[::-1])[::-1]
    return _filled(len(p_values), known, order, np.minimum(stepped, 1.0))


def _known(p_values: Sequence[float]) -> tuple[Floats, NDArray[np.intp]]:
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    return p[known], known


def _filled(
    size: int, known: NDArray[np.intp], order: NDArray[np.intp], adjusted: Floats
) -> list[float]:
    result = np.full(size, np.nan)
    result[known[order]] = adjusted
    return result.tolist()


def mantel_haenszel(
    *,
    exposed_failed: Sequence[float],
    exposed: Sequence[float],
    unexposed_failed: Sequence[float],
    unexposed: Sequence[float],
    clusters: Sequence[object],
    level: float = 0.95,
) -> Estimate:
    """Common log odds ratio over strata, with an interval that is robust to clustering of strata.

    One entry per stratum. Only comparisons inside a stratum count, so whatever differs between
    strata can't confound, and sparse strata do no harm (Mantel and Haenszel 1959). The variance
    sums the estimating equation's terms by cluster (CR1), so rows of one task may depend on each
    other. Returns nan where no stratum has both exposed and unexposed.

    >>> e = mantel_haenszel(exposed_failed=[8, 7], exposed=[10, 10], unexposed_failed=[4, 3],
    ...     unexposed=[10, 10], clusters=["a", "b"])
    >>> round(math.exp(e.value), 2)
    5.71
    """
    a, n1, c, n0 = (
        np.asarray(column, dtype=np.float64)
        for column in (exposed_failed, exposed, unexposed_failed, unexposed)
    )
    informative = (n1 > 0) & (n0 > 0)
    a, n1, c, n0 = a[informative], n1[informative], c[informative], n0[informative]
    kept = [label for label, keep in zip(clusters, informative.tolist(), strict=True) if keep]
    total = n1 + n0
    up, down = a * (n0 - c) / total, (n1 - a) * c / total
    n = int(total.sum())
    labels = {label: index for index, label in enumerate(dict.fromkeys(kept))}
    if not total.size or up.sum() == 0 or down.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, len(labels), n)
    ratio = float(up.sum() / down.sum())
    index = np.fromiter((labels[label] for label in kept), dtype=np.intp, count=len(kept))
    terms = np.bincount(index, weights=up - ratio * down)
    groups = len(labels)
    if groups < 2:
        return Estimate(math.log(ratio), math.nan, math.nan, math.nan, math.nan, groups, n)
    se = math.sqrt(groups / (groups - 1) * float(terms @ terms)) / float(up.sum())
    return t_estimate(math.log(ratio), se, groups, n, level)


def mantel_haenszel_across(
    *,
    event: Sequence[bool],
    exposed: Sequence[bool],
    stratum: Sequence[int],
    clusters: Sequence[object],
    n: Sequence[int] | None = None,
    level: float = 0.95,
) -> Estimate:
    """The same common log odds ratio where clusters reach across strata; one entry per row.

    ``n``: how many rows are just like each; 1 by default.

    For few large strata, such as the steps of runs. Each row's influence on the estimating equation,
    centred among the exposed or unexposed rows of its stratum, is summed by cluster (CR1). Returns
    nan where no stratum has both exposed and unexposed.
    """
    y, x = np.asarray(event, dtype=np.float64), np.asarray(exposed, dtype=np.float64)
    _, k = np.unique(np.asarray(stratum), return_inverse=True)
    times = np.ones(y.size) if n is None else np.asarray(n, dtype=np.float64)
    n1, n0 = np.bincount(k, weights=times * x), np.bincount(k, weights=times * (1 - x))
    a = np.bincount(k, weights=times * x * y)
    c = np.bincount(k, weights=times * (1 - x) * y)
    both = (n1 > 0) & (n0 > 0)
    total = np.where(both, n1 + n0, 1.0)
    up, down = both * a * (n0 - c) / total, both * (n1 - a) * c / total
    labels = {label: index for index, label in enumerate(dict.fromkeys(clusters))}
    groups, rows = len(labels), int(total[both].sum())
    if up.sum() == 0 or down.sum() == 0 or groups < 2:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, groups, rows)
    ratio = float(up.sum() / down.sum())
    p1, p0 = a / np.maximum(n1, 1), c / np.maximum(n0, 1)
    of_exposed = (n0 / total)[k] * (y * (1 - p0[k]) - ratio * (1 - y) * p0[k])
    of_others = (n1 / total)[k] * (p1[k] * (1 - y) - ratio * (1 - p1[k]) * y)
    mean_exposed = ((up - ratio * down) / np.maximum(n1, 1))[k]
    mean_others = ((up - ratio * down) / np.maximum(n0, 1))[k]
    influence = np.where(x > 0, of_exposed - mean_exposed, of_others - mean_others) * both[k]
    index = np.fromiter((labels[label] for label in clusters), dtype=np.intp, count=y.size)
    sums = np.bincount(index, weights=times * influence, minlength=groups)
    se = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / float(up.sum())
    return t_estimate(math.log(ratio), se, groups, rows, level)
