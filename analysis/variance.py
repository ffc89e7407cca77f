"""Variance components of crossed random factors, for any number of runs in a cell.

Half the mean squared difference of pairs of runs that share exactly the factors A estimates the sum of
the components of all other sets of factors (Koch 1967, "A general approach to the estimation of
variance components"). Every component is a sum of these with alternating signs. They need sums by
cell only, so a bootstrap over tasks is a few matrix products.
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


def decomposed(cube: Cube, weights: Floats) -> Floats:
    """The components of each sample of tasks: one for each non-empty set of factors, then the residual.

    Without a cell of two runs the residual is nan and the highest interaction contains it.
    """
    axes = list(range(cube.n.ndim))
    task = axes[-1]
    pairs: dict[tuple[int, ...], Floats] = {}
    squares: dict[tuple[int, ...], Floats] = {}
    for shared in subsets(axes[:-1]):
        others = tuple(axis for axis in axes[:-1] if axis not in shared)
        n, y, q = (
            part.sum(axis=others).reshape(-1, part.shape[-1]) for part in (cube.n, cube.y, cube.q)
        )
        same_task = (n**2).sum(axis=0), (n * q - y**2).sum(axis=0)
        sums = weights @ n.T, weights @ y.T, weights @ q.T
        # Two copies of a task in one sample are no pair of tasks: w^2 takes out what lies between them.
        copies = weights**2 - weights
        pairs[shared] = (sums[0] ** 2).sum(axis=1) - copies @ same_task[0]
        squares[shared] = (sums[0] * sums[2] - sums[1] ** 2).sum(axis=1) - copies @ same_task[1]
        pairs[*shared, task] = weights @ same_task[0]
        squares[*shared, task] = weights @ same_task[1]
    total_runs = weights @ cube.n.reshape(-1, cube.n.shape[-1]).sum(axis=0)
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
