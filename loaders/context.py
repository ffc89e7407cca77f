"""What each model call saw: ranges of events, and the thinking that was sent back."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from loaders.values import is_array, is_object

Range = tuple[int, int]
_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)>")


def ranges_of(numbers: Iterable[int]) -> list[Range]:
    """Ascending half-open ranges that cover exactly these numbers.

    >>> ranges_of([0, 1, 2, 5, 6])
    [(0, 3), (5, 7)]
    """
    ranges: list[Range] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in as few ascending half-open ranges as possible.

    >>> merge([(4, 6), (0, 2), (2, 3)])
    [(0, 3), (4, 6)]
    """
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        elif start < stop:
            merged.append((start, stop))
    return merged


def thinking_ranges(thinking: list[int], sent: set[int]) -> list[Range]:
    """Ranges of ``seq`` in which every thinking event was sent, as wide as possible.

    Under the usual policies (all, since the last user turn, last, none) this is one range or none,
    however long the run: dropping leaves no trail of holes.

    >>> thinking_ranges([2, 5, 8], {5, 8})
    [(5, 9)]
    """
    if len(sent) == len(thinking) and sent.issuperset(thinking):
        return [(thinking[0], thinking[-1] + 1)] if thinking else []
    ranges: list[Range] = []
    previous = -1
    for seq in sorted(sent):
        index = bisect_left(thinking, seq)
        if thinking[index : index + 1] != [seq]:
            continue
        if ranges and index == previous + 1:
            ranges[-1] = (ranges[-1][0], seq + 1)
        else:
            ranges.append((seq, seq + 1))
        previous = index
    return ranges


class ThinkingWitness:
    """Finds a run's earlier thinking blocks inside what was sent to the model.

    A block counts as sent if its text, its signature or its encrypted content stands in the
    request. Only identity of content counts; that a log shows thinking is no evidence that the
    model had it.
    """

    def __init__(self) -> None:
        self._by_content: dict[str, list[int]] = {}
        self._contents: dict[int, list[str]] = {}

    def emitted(self, seq: int, *contents: str | None) -> None:
        """A model call emitted the thinking event ``seq`` with this text, signature, ..."""
        for content in contents:
            stripped = (content or "").strip()
            if stripped:
                self._by_content.setdefault(stripped, []).append(seq)
                self._contents.setdefault(seq, []).append(stripped)

    def found_in(self, request_part: Any, among: Iterable[int] | None = None) -> set[int]:
        """The thinking events whose content stands in this part of a request.

        Where the caller knows which call's output the part repeats, it names that call's thinking
        in ``among``: those are found also inside longer strings, and equal texts of other calls are
        not mistaken for them. Otherwise a block must fill a string or a pair of think tags, and all
        blocks of the same content count as found.
        """
        if among is not None:
            wanted = [(seq, text) for seq in among for text in self._contents.get(seq, ())]
            strings = list(strings_of(request_part)) if wanted else []
            return {
                seq
                for seq, text in wanted
                if text in strings or any(text in string for string in strings)
            }
        found: set[int] = set()
        for string in strings_of(request_part):
            for piece in (string, *_tagged(string)):
                found.update(self._by_content.get(piece.strip(), ()))
        return found


def _tagged(text: str) -> Iterator[str]:
    """What stands in think tags; the first opening tag may be missing, as in some templates."""
    start: int | None = 0
    for tag in _TAG.finditer(text):
        if tag[1] and start is not None:
            yield text[start : tag.start()]
            start = None
        elif not tag[1] and not start:
            start = tag.end()


def strings_of(value: Any) -> Iterator[str]:
    """Every string inside a decoded JSON value, keys apart."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif is_array(item):
            stack.extend(item)
        elif is_object(item):
            stack.extend(item.values())
