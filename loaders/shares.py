"""How much of a long work goes to a process at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_LAST: Final = 2
"""What is left when shares get smaller, in shares."""
_SMALLER: Final = 4
_SMALLEST: Final = 8 << 20
"""Bytes; of fewer the files of a shard would take longer than what is in them."""


def next_share(left: int, usual: int) -> int:
    """Bytes to take next of those that are left: less towards the end, or one process ends alone.

    >>> next_share(640 << 20, 64 << 20) >> 20, next_share(100 << 20, 64 << 20) >> 20
    (64, 16)
    """
    if left > _LAST * usual:
        return usual
    return max(usual // _SMALLER, min(usual, _SMALLEST))


def by_weight(weights: Sequence[int], usual: int, is_shared: bool = True) -> Iterator[list[int]]:
    """Numbers of what makes a share of this weight together, or is one alone, in their order.

    Not ``is_shared``: one process does all of it, and shares stay as they are to the end.

    >>> list(by_weight([5, 5, 30, 1], usual=10))
    [[0, 1], [2], [3]]
    """
    left = sum(weights)
    share = next_share(left, usual) if is_shared else usual
    batch: list[int] = []
    filled = 0
    for number, weight in enumerate(weights):
        if batch and filled + weight > share:
            yield batch
            left -= filled
            share = next_share(left, usual) if is_shared else usual
            batch, filled = [], 0
        batch.append(number)
        filled += weight
    if batch:
        yield batch
