"""Which thinking the requests of an ordinary Inspect sample hold: each grows out of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from loaders.context import Range, ThinkingWitness, strings_of, thinking_ranges
from loaders.formats._inspect_parts import Thought
from loaders.formats._inspect_records import ModelEvent, RequestPart, request_part_of
from loaders.formats._inspect_requests import is_turn_of_model
from loaders.formats._inspect_sample import Sample, may_refer

_Turn = list[tuple[int, RequestPart | None]]


class Otherwise(Exception):
    """The sample is not ordinary."""


class Emitted(NamedTuple):
    """A thinking block of a reply, its event, and its text as logged."""

    seq: int
    thought: Thought
    logged: Any


class Sent(NamedTuple):
    """What a call's request says: how much of the earlier thinking it holds, and where that stands."""

    thinking: int | None
    evidence: str
    edit: str | None
    ranges: list[Range] | None


_NOTHING_LOGGED = Sent(None, "unknown", None, None)


class Growing:
    """The turns of the model in inputs and requests that only grow, beside each other."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._turns: list[list[Emitted]] = []
        """The thinking of the turns in the latest input; so many are ``_paired`` with a request's."""
        self._paired = 0
        self._input_ends_in_reply = self._request_ends_in_reply = False
        self._request: Sequence[int] = range(0)
        self._sent: set[int] = set()
        self._has_lost = False

    def shows_other(self) -> None:
        """The input goes on with a message that is no reply."""
        self._input_ends_in_reply = False

    def shows_reply(self, thoughts: list[Emitted]) -> None:
        """The input goes on with a reply; replies that follow each other are one turn."""
        if not self._input_ends_in_reply:
            self._turns.append(thoughts)
        elif self._paired < len(self._turns):
            self._turns[-1] = [*self._turns[-1], *thoughts]
        else:
            raise Otherwise
        self._input_ends_in_reply = True

    def sent(self, event: ModelEvent, thinking: list[int], available: int) -> Sent:
        """What a call was sent of the ``available`` first blocks of thinking."""
        request = self._sample.request_of(event)
        if request is None:
            return _NOTHING_LOGGED
        turns = self._turns_of(request)
        if len(turns) != len(self._turns) - self._paired:
            raise Otherwise
        for thoughts, turn in zip(self._turns[self._paired :], turns, strict=True):
            if thoughts:
                found = self._found_in(thoughts, turn)
                self._sent |= found
                self._has_lost |= len(found) < len(thoughts)
        self._paired = len(self._turns)
        edit = "thinking_dropped" if self._has_lost else "none"
        if len(self._sent) < available:
            ranges = thinking_ranges(thinking[:available], self._sent)
        else:
            ranges = [(thinking[0], thinking[available - 1] + 1)] if available else []
        return Sent(len(self._sent), "request", edit, ranges)

    def _turns_of(self, request: Sequence[int]) -> list[_Turn]:
        """The model's turns in what is new in a request, each as its messages."""
        turns: list[_Turn] = []
        for number in added(self._request, request):
            part = request_part_of(self._sample.requests[number])
            is_reply = is_turn_of_model(part, self._sample, number)
            if is_reply:
                if not self._request_ends_in_reply:
                    turns.append([(number, part)])
                elif turns:
                    turns[-1].append((number, part))
                else:
                    raise Otherwise
            self._request_ends_in_reply = is_reply
        self._request = request
        return turns

    def _found_in(self, thoughts: list[Emitted], turn: _Turn) -> set[int]:
        """Which of a turn's thinking these messages of a request hold."""
        sample = self._sample
        if len(thoughts) == len(turn) == 1 and self._is_named(thoughts[0], *turn[0]):
            return {thoughts[0].seq}
        items = [sample.requests[number] for number, _ in turn]
        texts = [bytes(item) for item in items if isinstance(item, Raw)]
        found: set[int] = set()
        witness = ThinkingWitness()
        for seq, thought, _ in thoughts:
            reference = thought.reference
            if reference is not None and any(reference in text for text in texts):
                found.add(seq)
            witness.emitted(seq, *thought.contents)
        among = [seq for seq, _, _ in thoughts if seq not in found]
        if among:
            parts = [sample.resolve([*strings_of(sample.request(number))]) for number, _ in turn]
            found |= witness.found_in(parts, among=among)
        return found

    def _is_named(self, emitted: Emitted, number: int, part: RequestPart | None) -> bool:
        """Whether thinking stands where it has a field of its own, and nothing has to be looked up."""
        logged, item = emitted.logged, self._sample.requests[number]
        if part is None or logged is None or not isinstance(item, Raw):
            return False
        if logged not in (part.reasoning_content, part.reasoning):
            return False
        return emitted.thought.reference is not None or not may_refer(bytes(item))


def added(known: Sequence[int], numbers: Sequence[int]) -> Sequence[int]:
    """The numbers that have come to the known ones.

    Raises ``Otherwise`` where these are not the first of them.
    """
    if type(known) is not type(numbers):  # a range and a list are never equal
        known, numbers = [*known], [*numbers]
    if numbers[: len(known)] != known:
        raise Otherwise
    return numbers[len(known) :]
