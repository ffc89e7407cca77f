"""Curves of what has not happened yet, and of ends that compete, with bands that tasks may cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPEATS: Final = 1_000
"""Samples of the bootstrap over tasks behind a band."""


def kaplan_meier(
    time: Sequence[float],
    event: Sequence[bool],
    level: float = 0.95,
    clusters: Sequence[object] | None = None,
) -> pl.DataFrame:
    """The Kaplan-Meier curve: the share that has not had the event yet.

    Columns: ``time`` (of events and of censoring), ``at_risk``, ``events``, ``censored``, ``survival``,
    ``low``, ``high`` (Greenwood's variance on the log-log scale, as ``lifelines`` has it). With
    ``clusters`` (a label per row, such as its task) the variance sums what the rows of a cluster
    contribute before squaring (Ying and Wei 1994; Williams 1995), by which it is Greenwood's where each row is a
    cluster but for the factor G / (G - 1), and t has G - 1 degrees of freedom; for one cluster null.

    >>> kaplan_meier([1, 2, 2, 3], [True, True, False, True])["survival"].to_list()
    [0.75, 0.5, 0.0]
    >>> twice = kaplan_meier([1, 1, 2, 2, 3, 3], [True] * 6, clusters="aabbcc")
    >>> alone = kaplan_meier([1, 2, 3], [True] * 3, clusters="abc")
    >>> abs(twice["low"][0] - alone["low"][0]) < 1e-12
    True
    """
    times, events = np.asarray(time, float), np.asarray(event, bool)
    table = _counts(times, events)
    n, d = table["at_risk"].to_numpy(), table["events"].to_numpy()
    survival = np.cumprod(1 - d / n)
    if clusters is None:
        with np.errstate(divide="ignore"):
            variance = np.cumsum(np.where(d > 0, d / (n * np.maximum(n - d, 0)), 0.0))
        quantile = _normal(level)
    else:
        labels = {label: index for index, label in enumerate(dict.fromkeys(clusters))}
        index = np.fromiter((labels[label] for label in clusters), np.intp, count=times.size)
        variance = _clustered_greenwood(times, events, index, n, d)
        quantile = _student(level, len(labels) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_log = np.log(-np.log(survival))
        half = quantile * np.sqrt(variance) / np.abs(np.log(survival))
        low, high = np.exp(-np.exp(log_log + half)), np.exp(-np.exp(log_log - half))
    trivial = (survival >= 1) | (survival <= 0)
    one_cluster = clusters is not None and not np.isfinite(quantile)
    bounds = (np.where(trivial, survival, bound) for bound in (low, high))
    return table.with_columns(
        pl.Series("survival", survival),
        *(
            pl.Series(name, np.full(n.size, np.nan) if one_cluster else bound).fill_nan(None)
            for name, bound in zip(("low", "high"), bounds, strict=True)
        ),
    )


def _clustered_greenwood(
    times: Floats, events: NDArray[np.bool_], cluster: NDArray[np.intp], n: Floats, d: Floats
) -> Floats:
    """Variance of the logarithm of Kaplan-Meier at each time, from what each cluster contributes.

    A row contributes at a time its event less the hazard it was under, over those who go on.
    """
    at, place = np.unique(times, return_inverse=True)
    groups = int(cluster.max()) + 1
    shape = (groups, at.size)
    flat = np.ravel_multi_index((cluster, place), shape)
    leaving = np.bincount(flat, minlength=groups * at.size).reshape(shape)
    happened = np.bincount(flat, weights=events, minlength=groups * at.size).reshape(shape)
    at_risk = leaving[:, ::-1].cumsum(axis=1)[:, ::-1]
    going_on = np.maximum(n - d, 1)  # where none goes on, the curve is 0 and has no band
    contributed = ((happened - at_risk * (d / n)) / going_on).cumsum(axis=1)
    return np.asarray((contributed**2).sum(axis=0) * groups / max(groups - 1, 1), np.float64)


def aalen_johansen(time: Sequence[float], end: Sequence[str | None]) -> pl.DataFrame:
    """The share that has come to each end by each time, where ends compete; null is censored.

    One minus Kaplan-Meier of one end overstates it, because whoever came to another end can't come to
    this one any more. Columns: ``time``, ``end``, ``at_risk``, ``events``, ``incidence``.

    >>> curve = aalen_johansen([1, 2, 3, 4], ["fail", "win", "fail", None])
    >>> curve.filter(end="fail")["incidence"].to_list()
    [0.25, 0.25, 0.5, 0.5]
    """
    times, names = np.asarray(time, float), list(dict.fromkeys(e for e in end if e is not None))
    ends = np.array([-1 if e is None else names.index(e) for e in end])
    at = np.unique(times)
    place = np.searchsorted(at, times)
    events = np.zeros((1, len(names), at.size))
    ended = np.flatnonzero(ends >= 0)
    np.add.at(events[0], (ends[ended], place[ended]), 1)
    leaving = np.bincount(place, minlength=at.size).astype(float)
    at_risk = leaving[::-1].cumsum()[::-1][None]
    incidence = _incidence(events, at_risk)[0]
    return pl.concat(
        pl.DataFrame(
            {
                "time": at,
                "end": [name] * at.size,
                "at_risk": at_risk[0].astype(np.int64),
                "events": events[0, index].astype(np.int64),
                "incidence": incidence[index],
            }
        )
        for index, name in enumerate(names)
    )


def _normal(level: float) -> float:
    from scipy import special

    return float(special.ndtri(0.5 + level / 2))


def _student(level: float, df: int) -> float:
    from scipy import special

    return float(special.stdtrit(df, 0.5 + level / 2)) if df > 0 else float("nan")


def _counts(time: Floats, event: NDArray[np.bool_]) -> pl.DataFrame:
    at, place = np.unique(time, return_inverse=True)
    events = np.bincount(place, weights=event, minlength=at.size)
    leaving = np.bincount(place, minlength=at.size)
    return pl.DataFrame(
        {
            "time": at,
            "at_risk": leaving[::-1].cumsum()[::-1],
            "events": events.astype(np.int64),
            "censored": (leaving - events).astype(np.int64),
        }
    )


def _incidence(events: Floats, at_risk: Floats) -> Floats:
    """Cumulative incidence from counts: events (sample, end, time), at risk (sample, time)."""
    hazard = np.divide(
        events, at_risk[:, None], out=np.zeros_like(events), where=at_risk[:, None] > 0
    )
    going_on = 1 - np.asarray(np.einsum("bet->bt", hazard), dtype=np.float64)
    surviving = np.cumprod(going_on, axis=1)
    before = np.concatenate([np.ones((len(surviving), 1)), surviving[:, :-1]], axis=1)
    return np.asarray(np.cumsum(before[:, None] * hazard, axis=2), dtype=np.float64)


def banded(group: pl.DataFrame, level: float) -> pl.DataFrame:
    """The incidence of each end with a band from resampled tasks, all samples at once."""
    curve = aalen_johansen(group["step"].to_list(), group["end"].to_list())
    ends = curve["end"].unique(maintain_order=True).to_list()
    at = np.unique(group["step"].to_numpy())
    place = np.searchsorted(at, group["step"].to_numpy())
    task = group["task"].rank("dense").to_numpy().astype(int) - 1
    which = (
        group["end"].replace_strict(ends, list(range(len(ends))), return_dtype=pl.Int64).to_numpy()
    )
    tasks = int(task.max()) + 1
    counts = np.zeros((tasks, len(ends), at.size))
    np.add.at(counts, (task, which, place), 1)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=REPEATS).astype(float)
    events = np.einsum("bt,tes->bes", weights, counts, optimize=True)
    leaving = events.sum(axis=1)
    at_risk = leaving[:, ::-1].cumsum(axis=1)[:, ::-1]
    sampled = _incidence(events, at_risk)
    low, high = np.quantile(sampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (
        curve.rename({"time": "step"})
        .with_columns(
            pl.col("step").cast(pl.Int64),
            pl.Series("low", low.ravel()),
            pl.Series("high", high.ravel()),
        )
        .select("step", "end", "at_risk", "events", "incidence", "low", "high")
    )
