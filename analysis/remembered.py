"""What several analyses need of the same runs is computed once for that set of runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from weakref import WeakKeyDictionary

import polars as pl

from loaders import Trajectories


def once_for_each_set(
    compute: Callable[[Trajectories], pl.DataFrame],
) -> Callable[[Trajectories], pl.DataFrame]:
    """``compute``, which keeps its frame for as long as the very same set of runs lives.

    A set never changes; ``filter`` and ``label`` make another, which is computed anew. Each caller
    gets a frame of its own over the same memory, so that renaming a column in place harms nobody.
    """
    known: WeakKeyDictionary[Trajectories, pl.DataFrame] = WeakKeyDictionary()

    @wraps(compute)
    def remembered(runs: Trajectories) -> pl.DataFrame:
        frame = known.get(runs)
        if frame is None:
            frame = known[runs] = compute(runs)
        return frame.clone()

    return remembered
