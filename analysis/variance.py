"""Variance components of crossed random factors, for any number of runs in a cell.

Half the mean squared difference of pairs of runs that share exactly the factors A estimates the sum of
the components of all other sets of factors (Koch 1967, "A general approach to the estimation of
variance components"). Every component is a sum of these with alternating signs. They need sums by
cell only, so that leaving out each task in turn costs one pass over the tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.uncertainty import Estimate, variance_estimate, variance_share_estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cube:
    """Runs, sums and sums of squares of each combination; the last axis is the task."""

    n: Floats
    y: Floats
    q: Floats


def cube_of(table: pl.DataFrame, factors: Sequence[str]) -> Cube:
    """From a row per run with the columns ``y``, ``task`` and those of the factors."""
    axes = [*factors, "task"]
    places = [table[name].rank("dense").to_numpy().astype(np.intp) - 1 for name in axes]
    shape = tuple(int(place.max()) + 1 for place in places)
    flat = np.ravel_multi_index(places, shape)
    centred = table["y"].to_numpy() - float(table["y"].to_numpy().mean())
    size = math.prod(shape)
    sums = [
        np.bincount(flat, weights=weights, minlength=size).astype(np.float64).reshape(shape)
        for weights in (np.ones(centred.size), centred, centred**2)
    ]
    return Cube(*sums)


def subsets(names: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All parts of a set, smaller ones first."""
    return [part for size in range(len(names) + 1) for part in combinations(names, size)]


def components_of(cube: Cube) -> Floats:
    """The components: one for each non-empty set of factors, then the residual.

    Without a cell of two runs the residual is nan and the highest interaction contains it.
    """
    return _decomposed(cube, leave_out=False)[0]


def without_each_task(cube: Cube) -> Floats:
    """The components of all tasks but one, a row for each task that is left out."""
    return _decomposed(cube, leave_out=True)


def intervals(
    cube: Cube, point: Floats, left_out: Floats, level: float
) -> list[tuple[Estimate, Estimate]]:
    """Of each component and of its share of the sum, from the jackknife over tasks on a log scale."""
    tasks, runs = len(left_out), int(cube.n.sum())
    total = np.maximum(point, 0).sum()
    totals = np.maximum(left_out, 0).sum(axis=1, keepdims=True)
    noise = _noise(cube, point)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares, noise_in_share = point / total, noise / total
        errors_of_shares = _jackknife_errors(shares, left_out / totals)
    errors = _jackknife_errors(point, left_out)
    return [
        (
            variance_estimate(point[i], noise[i], errors[i], tasks, runs, level=level),
            variance_share_estimate(
                shares[i], noise_in_share[i], errors_of_shares[i], tasks, runs, level=level
            ),
        )
        for i in range(point.size)
    ]


def _jackknife_errors(point: Floats, left_out: Floats) -> Floats:
    """Standard errors over tasks, from the estimates without each of them (Arvesen 1969)."""
    tasks = len(left_out)
    moves = left_out - left_out.mean(axis=0)
    return np.sqrt((tasks - 1) / tasks * (moves**2).sum(axis=0))


def _noise(cube: Cube, point: Floats) -> Floats:
    """What finer components add to the observed variance of each, before it is taken off.

    The mean over the cells that share a level of A varies by A's component and by each finer one over
    the number of levels it is averaged over; exact for equal cells.
    """
    axes = list(range(cube.n.ndim))
    parts, levels, runs = subsets(axes)[1:], cube.n.shape, float(cube.n.sum())
    variances = np.maximum(np.nan_to_num(point), 0)

    def cells(part: Sequence[int]) -> int:
        return math.prod(levels[axis] for axis in part)

    finer = [
        sum(
            variances[index] * cells(part) / cells(other)
            for index, other in enumerate(parts)
            if set(part) < set(other)
        )
        for part in parts
    ]
    if point.size > len(parts):  # the residual has noise of its own alone
        finer = [
            of + variances[-1] * cells(part) / runs for of, part in zip(finer, parts, strict=True)
        ]
        finer.append(0.0)
    return np.asarray(finer, dtype=np.float64)


def _decomposed(cube: Cube, *, leave_out: bool) -> Floats:
    axes = list(range(cube.n.ndim))
    task = axes[-1]

    def over_tasks(by_task: Floats) -> Floats:
        """The sum over all tasks, or over all but each of them: shape (..., samples)."""
        whole = by_task.sum(axis=-1, keepdims=True)
        return whole - by_task if leave_out else whole

    pairs: dict[tuple[int, ...], Floats] = {}
    squares: dict[tuple[int, ...], Floats] = {}
    for shared in subsets(axes[:-1]):
        others = tuple(axis for axis in axes[:-1] if axis not in shared)
        n, y, q = (
            part.sum(axis=others).reshape(-1, part.shape[-1]) for part in (cube.n, cube.y, cube.q)
        )
        all_n, all_y, all_q = over_tasks(n), over_tasks(y), over_tasks(q)
        pairs[shared] = (all_n**2).sum(axis=0)
        squares[shared] = (all_n * all_q - all_y**2).sum(axis=0)
        pairs[*shared, task] = over_tasks((n**2).sum(axis=0))
        squares[*shared, task] = over_tasks((n * q - y**2).sum(axis=0))
    total_runs = over_tasks(cube.n.reshape(-1, cube.n.shape[-1]).sum(axis=0))
    everything = tuple(axes)
    half_differences: dict[tuple[int, ...], Floats] = {}
    for shared in pairs:
        count, square = _exactly(pairs, shared), _exactly(squares, shared)
        if shared == everything:
            count = count - total_runs
        with np.errstate(invalid="ignore", divide="ignore"):
            half_differences[shared] = np.where(count > 0.5, square / count, np.nan)
    total = half_differences[()]
    found: list[Floats] = []
    residual = half_differences[everything]
    for part in subsets(axes)[1:]:
        if part == everything and np.isnan(residual).all():
            found.append(total - np.sum(found, axis=0))
            continue
        terms = [
            (-1) ** (len(part) - len(inner)) * (total - half_differences[inner])
            for inner in subsets(part)
            if inner
        ]
        found.append(np.sum(terms, axis=0))
    return np.stack([*found, residual], axis=1)


def _exactly(counts: dict[tuple[int, ...], Floats], shared: tuple[int, ...]) -> Floats:
    """Of pairs that share at least these factors, those that share no other (inclusion, exclusion)."""
    terms = [
        (-1) ** (len(wider) - len(shared)) * value
        for wider, value in counts.items()
        if set(shared) <= set(wider)
    ]
    return np.asarray(np.sum(terms, axis=0), dtype=np.float64)
