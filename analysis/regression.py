"""Regression of a binary event on patterns of covariates, with errors that cluster.

Rows that share covariates and cluster are counted once, so that a million rows cost what their few
hundred patterns cost. Estimates equal those of ``statsmodels``; what it has not (Firth's penalty with
clustered errors) is here, and a random intercept in ``two_levels``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loaders.errors import DerailError

Floats = NDArray[np.float64]
Link = Literal["logit", "cloglog"]

_MOST_ROUNDS: Final = 100
_TOLERANCE: Final = 1e-11
_SEPARATED: Final = 15.0
"""A log odds so large in size says that the event never, or always, meets the pattern."""


@dataclass(frozen=True)
class Patterns:
    """Distinct rows of covariates inside each cluster, with how often they occur.

    ``x`` one row for each pattern of each cluster; ``n`` how many rows have it, ``events`` how many of
    them have the event; ``cluster`` ascending numbers from 0.
    """

    names: tuple[str, ...]
    x: Floats
    n: Floats
    events: Floats
    cluster: NDArray[np.int64]

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return int(self.cluster[-1]) + 1 if self.cluster.size else 0


@dataclass(frozen=True)
class Fit:
    """Coefficients with their covariance.

    ``coefficients`` and ``covariance`` in the order of ``names``; ``loglik`` without penalty; ``method``
    in words; ``intercept_sd`` of a random intercept, if there is one.
    """

    names: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    loglik: float
    n: int
    events: int
    clusters: int
    method: str
    converged: bool
    intercept_sd: float | None = None

    @property
    def standard_errors(self) -> Floats:
        """Square roots of the diagonal of the covariance."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0))


def patterns(
    rows: pl.DataFrame | pl.LazyFrame,
    event: str,
    x: Sequence[str],
    cluster: str,
    n: str | None = None,
) -> Patterns:
    """Count the distinct rows of ``x`` inside each cluster; the first column is an intercept.

    ``event`` is true or false. Rows with a null in any of these are left out. Where rows are counted
    already, ``n`` names how many a row stands for, and ``event`` how many of them have the event.
    """
    wanted = [event, cluster, *x, *([n] if n else [])]
    count = pl.col(n).sum() if n else pl.len()
    counted = (
        rows.lazy()
        .select(wanted)
        .drop_nulls()
        .group_by(cluster, *x)
        .agg(count.alias("__n"), pl.col(event).cast(pl.Int64).sum().alias("__events"))
        .sort(cluster, *x)
        .collect()
    )
    covariates = counted.select(
        pl.repeat(1.0, pl.len()).alias("intercept"), *(pl.col(c).cast(pl.Float64) for c in x)
    )
    return Patterns(
        ("intercept", *x),
        covariates.to_numpy(),
        counted["__n"].cast(pl.Float64).to_numpy(),
        counted["__events"].cast(pl.Float64).to_numpy(),
        (counted[cluster].rle_id().cast(pl.Int64)).to_numpy(),
    )


def fit(data: Patterns, link: Link = "logit") -> Fit:
    """Maximum likelihood by Newton's method, covariance CR1 clustered.

    The same coefficients as ``statsmodels`` GLM with a binomial family and that link, and the same
    covariance as its ``cov_type="cluster"``. Where the events are separated, Firth's penalty takes the
    place of plain maximum likelihood (logit only) and ``method`` says so.

    Raises ``DerailError`` where a covariate is constant or a combination of others, or nothing varies.
    """
    check(data)
    merged = _merged(data)
    beta, converged = _newton(merged, link)
    if link == "logit" and (not converged or np.abs(beta).max() > _SEPARATED):
        beta, converged = _firth(merged)
        return _result(
            data, beta, link, "logit with Firth's penalty (the events are separated)", converged
        )
    return _result(data, beta, link, f"{link} by maximum likelihood", converged)


def firth(data: Patterns) -> Fit:
    """Logistic regression with Firth's penalty (Firth 1993; Heinze and Schemper 2002), CR1 clustered."""
    check(data)
    beta, converged = _firth(_merged(data))
    return _result(data, beta, "logit", "logit with Firth's penalty", converged)


# ---------------------------------------------------------------------- one level


def check(data: Patterns) -> None:
    """``DerailError`` where a model of these has no answer."""
    if data.n.size == 0:
        raise DerailError(
            "there are no rows to fit: each lacks the event, the cluster or a covariate"
        )
    if not 0 < data.events.sum() < data.n.sum():
        raise DerailError("the event happened in all rows or in none, so nothing can explain it")
    scale = data.x / np.maximum(np.abs(data.x).max(axis=0), 1e-300)
    rank = int(np.linalg.matrix_rank(scale))
    if rank < data.x.shape[1]:
        constant = [n for n, c in zip(data.names[1:], data.x.T[1:], strict=True) if np.ptp(c) == 0]
        what = (
            f"{constant[0]!r} never varies" if constant else "covariates are combinations of others"
        )
        raise DerailError(f"{what}: take it out of the model")


def _merged(data: Patterns) -> Patterns:
    """The same patterns without regard to clusters."""
    unique, places = np.unique(data.x, axis=0, return_inverse=True)
    places = places.reshape(-1)
    n = np.bincount(places, weights=data.n).astype(np.float64)
    events = np.bincount(places, weights=data.events).astype(np.float64)
    return Patterns(data.names, unique, n, events, np.zeros(len(n), np.int64))


def _mean_and_slope(eta: Floats, link: Link) -> tuple[Floats, Floats]:
    """The chance of the event, and its derivative by the linear predictor."""
    if link == "logit":
        mean = 1 / (1 + np.exp(-np.clip(eta, -700, 700)))
        return mean, mean * (1 - mean)
    rate = np.exp(np.clip(eta, -700, 30))
    mean = -np.expm1(-rate)
    return np.clip(mean, 1e-300, 1 - 1e-16), rate * np.exp(-rate)


def _weights(data: Patterns, beta: Floats, link: Link) -> tuple[Floats, Floats]:
    """Score of each pattern by the linear predictor, and expected information."""
    mean, slope = _mean_and_slope(data.x @ beta, link)
    variance = np.maximum(mean * (1 - mean), 1e-300)
    residual = (data.events - data.n * mean) * slope / variance
    return residual, data.n * slope**2 / variance


def _observed_of_cloglog(data: Patterns, beta: Floats) -> Floats:
    """Minus the second derivative by the linear predictor; for the logit it is the expected one."""
    rate = np.exp(np.clip(data.x @ beta, -700, 6))
    shrunk = 1 / np.expm1(np.maximum(rate, 1e-6))
    of_events = np.where(rate < 1e-6, -rate / 2, rate * (shrunk - rate * (shrunk + shrunk**2)))
    return (data.n - data.events) * rate - data.events * of_events


def _loglik(data: Patterns, beta: Floats, link: Link) -> float:
    mean, _ = _mean_and_slope(data.x @ beta, link)
    mean = np.clip(mean, 1e-300, 1 - 1e-16)
    return float(data.events @ np.log(mean) + (data.n - data.events) @ np.log1p(-mean))


def _newton(data: Patterns, link: Link) -> tuple[Floats, bool]:
    """Fisher scoring with halved steps where one goes too far."""
    beta = np.zeros(data.x.shape[1])
    share = data.events.sum() / data.n.sum()
    beta[0] = np.log(share / (1 - share)) if link == "logit" else np.log(-np.log1p(-share))
    loglik = _loglik(data, beta, link)
    for _ in range(_MOST_ROUNDS):
        residual, weight = _weights(data, beta, link)
        information = data.x.T @ (data.x * weight[:, None])
        step = np.linalg.lstsq(information, data.x.T @ residual, rcond=None)[0]
        after = _loglik(data, beta + step, link)
        while after < loglik - 1e-12 * abs(loglik) and np.abs(step).max() > _TOLERANCE:
            step = step / 2
            after = _loglik(data, beta + step, link)
        beta, loglik = beta + step, after
        if np.abs(step).max() < _TOLERANCE * (1 + np.abs(beta).max()):
            return beta, True
    return beta, False


def _firth(data: Patterns) -> tuple[Floats, bool]:
    """Newton on the score with Firth's term: half a leverage is added to events and to non-events."""
    beta = np.zeros(data.x.shape[1])
    for _ in range(_MOST_ROUNDS * 5):
        mean, slope = _mean_and_slope(data.x @ beta, "logit")
        weight = data.n * slope
        information = data.x.T @ (data.x * weight[:, None])
        inverse = np.linalg.inv(information)
        leverage = weight * np.einsum("ij,jk,ik->i", data.x, inverse, data.x)
        score = data.x.T @ (data.events - data.n * mean + leverage * (0.5 - mean))
        step = inverse @ score
        largest = np.abs(step).max()
        beta = beta + step * min(1.0, 5.0 / max(largest, 1e-300))
        if largest < _TOLERANCE * (1 + np.abs(beta).max()):
            return beta, True
    return beta, False


def _result(data: Patterns, beta: Floats, link: Link, method: str, converged: bool) -> Fit:
    residual, weight = _weights(data, beta, link)
    if link == "cloglog":
        weight = _observed_of_cloglog(data, beta)
    bread = np.linalg.pinv(data.x.T @ (data.x * weight[:, None]))
    scores = data.x * residual[:, None]
    starts = np.flatnonzero(np.diff(data.cluster, prepend=-1))
    sums = np.add.reduceat(scores, starts, axis=0)
    groups, rows, k = data.clusters, float(data.n.sum()), data.x.shape[1]
    factor = groups / max(groups - 1, 1) * (rows - 1) / max(rows - k, 1)
    covariance = bread @ (sums.T @ sums * factor) @ bread
    return Fit(
        data.names,
        beta,
        covariance,
        _loglik(data, beta, link),
        int(rows),
        int(data.events.sum()),
        groups,
        f"{method}, errors clustered (CR1)",
        converged,
    )
