"""Runs of two arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

MIN_PAIRS: Final = 10
"""Fewest pairs that are given an interval."""


@dataclass(frozen=True)
class Pairing:
    """Runs of two arms side by side: a row per pair with the suffixes ``_a`` and ``_b``."""

    a: str
    b: str
    pairs: pl.DataFrame
    unpaired: int
    repeated: int


def pair_up(table: pl.DataFrame, by: str, a: str, b: str, pair: Sequence[str]) -> Pairing:
    """Pair each run of arm ``a`` with the run of arm ``b`` that has the same ``pair`` columns.

    Runs without a partner are left out and counted in ``unpaired``. Where several runs of one arm
    share a key, they pair in order and ``repeated`` counts them.
    """
    order = pl.int_range(pl.len()).over(by, *pair)
    numbered = table.with_columns(order.alias("_nth"))
    left, right = (numbered.filter(pl.col(by) == name).drop(by) for name in (a, b))
    keys = [*pair, "_nth"]
    pairs = left.join(right, on=keys, suffix="_b", nulls_equal=True, maintain_order="left")
    renamed = {name: f"{name}_a" for name in left.columns if name not in keys}
    repeated = pairs.filter(pl.col("_nth") > 0).height
    return Pairing(
        a, b, pairs.rename(renamed), left.height + right.height - 2 * pairs.height, repeated
    )
