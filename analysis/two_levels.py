"""Logistic regression with a normal intercept for each cluster, by adaptive Gauss-Hermite quadrature.

Nodes lie where a cluster's intercept is likely to be, given its data (Pinheiro and Bates 1995). Fixed
nodes would miss the peak of a cluster with hundreds of events: it is narrower than the gap between two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.regression import Fit, Patterns, check, fit

Floats = NDArray[np.float64]

NODES: Final = 31
"""Points of the quadrature for each cluster."""

_ROUNDS: Final = 40
_MOST_PLACINGS: Final = 30
_PLACED: Final = 1e-4
_CLOSE: Final = 1e-9
_FLAT: Final = 1e-9
_FAR: Final = 4.0
"""Of the logarithm of the intercept's standard deviation: no variance to speak of, or all there is."""


def random_intercept(data: Patterns) -> Fit:
    """Logistic regression with a normal intercept for each cluster.

    The covariance is robust to clustering: what leaving out each cluster changes, in one step (CR3).
    For observational logs put the cluster's mean of each exposure among the covariates (Mundlak 1978):
    without it the intercept takes up what confounds.

    Raises ``DerailError`` as ``fit`` does.
    """
    check(data)
    start = np.append(fit(data).coefficients, np.log(0.5))
    theta, nodes, converged = climb(data, start)
    there = _at_nodes(data, theta, nodes)
    scores = _scores(data, theta, nodes, there)
    covariance = _jackknifed(scores, _information(data, theta, nodes, there))
    k = data.x.shape[1]
    return Fit(
        data.names,
        theta[:k],
        covariance[:k, :k],
        float(there.logliks.sum()),
        int(data.n.sum()),
        int(data.events.sum()),
        data.clusters,
        "logit with a random intercept for each cluster (adaptive Gauss-Hermite), errors jackknifed "
        "over clusters (CR3)",
        converged,
        float(np.exp(theta[k])),
    )


# ---------------------------------------------------------------------- quadrature


@dataclass(frozen=True)
class Nodes:
    """Where the likelihood of each cluster is looked at, in standard deviations of the intercept.

    ``points`` and ``logweights`` (which hold the normal density too) by cluster and node.
    """

    centre: Floats
    points: Floats
    logweights: Floats


@dataclass(frozen=True)
class _AtNodes:
    """Log likelihood of each cluster; how likely each of its nodes is, given its data; residuals there."""

    logliks: Floats
    likely: Floats
    residuals: Floats


def placed(data: Patterns, theta: Floats, centre: Floats) -> Nodes:
    """Nodes around the likeliest intercept of each cluster, as wide as the likelihood is curved there.

    ``centre``: where to look first. The likelihood times the normal density has one peak, which Newton's
    method finds for all clusters at once.
    """
    fixed, sd = data.x @ theta[:-1], np.exp(theta[-1])
    starts = _starts(data)
    curved = np.ones_like(centre)
    for _ in range(_MOST_PLACINGS):
        chance = 1 / (1 + np.exp(-np.clip(fixed + sd * centre[data.cluster], -700, 700)))
        slope = sd * np.add.reduceat(data.events - data.n * chance, starts) - centre
        curved = sd**2 * np.add.reduceat(data.n * chance * (1 - chance), starts) + 1
        step = np.clip(slope / curved, -1, 1)
        centre = centre + step
        if np.abs(step).max() < _PLACED:
            break
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    spread = 1 / np.sqrt(curved)
    at = centre[:, None] + spread[:, None] * points
    normalised = np.log(weights / weights.sum()) + np.log(spread)[:, None]
    return Nodes(centre, at, normalised + points**2 / 2 - at**2 / 2)


def _starts(data: Patterns) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(data.cluster, prepend=-1))


def _at_nodes(data: Patterns, theta: Floats, nodes: Nodes) -> _AtNodes:
    eta = np.exp(theta[-1]) * nodes.points[data.cluster]
    eta += (data.x @ theta[:-1])[:, None]
    small = np.exp(-np.abs(eta))  # one exponential serves the chances and both logarithms
    chances = np.where(eta >= 0, 1.0, small) / (1 + small)
    said = data.events[:, None] * eta
    said -= data.n[:, None] * (np.maximum(eta, 0) + np.log1p(small))
    joint = np.add.reduceat(said, _starts(data), axis=0) + nodes.logweights
    largest = joint.max(axis=1, keepdims=True)
    likely = np.exp(joint - largest)
    total = likely.sum(axis=1, keepdims=True)
    residuals = data.events[:, None] - data.n[:, None] * chances
    return _AtNodes((np.log(total) + largest)[:, 0], likely / total, residuals)


def _scores(data: Patterns, theta: Floats, nodes: Nodes, there: _AtNodes) -> Floats:
    """Derivatives of each cluster's log likelihood by the coefficients and the log sd."""
    expected = there.residuals * there.likely[data.cluster]
    by_sd = np.exp(theta[-1]) * (expected * nodes.points[data.cluster]).sum(axis=1)
    scores = np.column_stack([data.x * expected.sum(axis=1)[:, None], by_sd])
    return np.add.reduceat(scores, _starts(data), axis=0)


def _information(data: Patterns, theta: Floats, nodes: Nodes, there: _AtNodes) -> Floats:
    """Minus the second derivative of each cluster's marginal log likelihood (Louis 1982).

    What is expected of the information, were the cluster's intercept known, less the variance of the
    score over what the intercept may be. Shape: clusters, parameters, parameters.
    """
    likely, residuals = there.likely, there.residuals
    shift = np.exp(theta[-1]) * nodes.points
    of_rows, shift_of_rows = likely[data.cluster], shift[data.cluster]
    chances = (data.events[:, None] - residuals) / data.n[:, None]
    weights = of_rows * data.n[:, None] * chances * (1 - chances)
    weight, with_shift = weights.sum(axis=1), (weights * shift_of_rows).sum(axis=1)
    by_sd = (weights * shift_of_rows**2 - of_rows * residuals * shift_of_rows).sum(axis=1)
    starts, x, k = _starts(data), data.x, data.x.shape[1]
    found = np.empty((len(starts), k + 1, k + 1))
    scores = np.empty((*likely.shape, k + 1))
    for column in range(k):
        found[:, column, :k] = np.add.reduceat(x * (x[:, column] * weight)[:, None], starts)
        scores[..., column] = np.add.reduceat(x[:, column, None] * residuals, starts)
    found[:, k, :k] = found[:, :k, k] = np.add.reduceat(x * with_shift[:, None], starts)
    found[:, k, k] = np.add.reduceat(by_sd, starts)
    scores[..., k] = np.add.reduceat(residuals, starts) * shift
    scores -= np.einsum("cq,cqk->ck", likely, scores)[:, None, :]
    return found - (scores * likely[..., None]).transpose(0, 2, 1) @ scores


def _jackknifed(scores: Floats, information: Floats) -> Floats:
    """Covariance from what each cluster's absence would change, in one Newton step (CR3).

    Sums of squared scores alone (CR1) are too small where few clusters have what a coefficient rests
    on, because an estimate follows them (Bell and McCaffrey 2002).
    """
    groups = len(scores)
    without = information.sum(axis=0) - information
    inverse = np.asarray(np.linalg.pinv(without), np.float64)
    moves: Floats = np.einsum("cab,cb->ca", inverse, scores)
    return (groups - 1) / groups * (moves.T @ moves)


# ---------------------------------------------------------------------- the largest likelihood


def climb(data: Patterns, theta: Floats) -> tuple[Floats, Nodes, bool]:
    """The parameters at which the marginal likelihood is largest, and the nodes that fit them.

    Newton's method, the nodes placed anew after each step; where it does not get there, quasi-Newton
    steps go on: where there is no variance between clusters, its logarithm has no largest point.
    """
    at, nodes = theta, placed(data, theta, np.zeros(data.clusters))
    for _ in range(_ROUNDS):
        there = _at_nodes(data, at, nodes)
        score = _scores(data, at, nodes, there).sum(axis=0)
        values, axes = np.linalg.eigh(_information(data, at, nodes, there).sum(axis=0))
        if values[0] <= _FLAT * values[-1] or abs(at[-1]) > _FAR:
            break
        step = axes @ ((axes.T @ score) / values)
        step /= max(1.0, abs(step[-1]))  # where it is flat, a step of the log sd leads far away
        loglik = float(there.logliks.sum())
        enough = loglik - 1e-12 * abs(loglik)
        while (
            not _at_nodes(data, at + step, nodes).logliks.sum() >= enough
            and np.abs(step).max() > _CLOSE / 10
        ):
            step = step / 2
        at = at + step
        nodes = placed(data, at, nodes.centre)
        if np.abs(step).max() < _CLOSE * (1 + np.abs(at).max()):
            return at, nodes, True
    return _slowly(data, at, nodes)


def _slowly(data: Patterns, theta: Floats, nodes: Nodes) -> tuple[Floats, Nodes, bool]:
    """``climb`` by a bounded quasi-Newton method."""
    from scipy import optimize

    latest = [nodes]

    def loss(at: Floats) -> tuple[float, Floats]:
        latest[0] = placed(data, at, latest[0].centre)
        there = _at_nodes(data, at, latest[0])
        return -float(there.logliks.sum()), -_scores(data, at, latest[0], there).sum(axis=0)

    bounds = [(None, None)] * (theta.size - 1) + [(-7.0, 3.0)]
    found = optimize.minimize(
        loss,
        theta,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-13, "gtol": 1e-7},
    )
    at = np.asarray(found.x)
    return at, placed(data, at, latest[0].centre), bool(found.success)
