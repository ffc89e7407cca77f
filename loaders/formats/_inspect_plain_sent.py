"""The replies of an ordinary Inspect sample, and which of their thinking its requests hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from loaders.context import Range, ThinkingWitness, strings_of, thinking_ranges
from loaders.formats._inspect_contents import Content, content_of
from loaders.formats._inspect_context import common_prefix
from loaders.formats._inspect_parts import Thought
from loaders.formats._inspect_records import Message, ModelEvent, RequestPart, request_part_of
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


class Reply(NamedTuple):
    """A reply and what it became: its events, and its thinking among them."""

    message: Message
    start: int
    stop: int
    thoughts: list[Emitted]


class Replies:
    """The replies of the calls, and which of them the latest input shows: each once."""

    def __init__(self, sample: Sample) -> None:
        self.by_id: dict[str, Reply] = {}
        self._sample = sample
        self._waiting: set[str] = set()
        """Ids of those that no input has shown yet."""
        self._contents: dict[Content, str] = {}
        """Ids by what the replies say, as far as some had to be compared."""
        self._shown: list[str | None] = []
        """For each message of the latest input the id of the reply that it shows, if it does."""

    def keep(self, message_id: str, reply: Reply) -> None:
        """A call has put this out."""
        self._waiting.add(message_id)
        self.by_id[message_id] = reply

    def show(self, message: Message) -> Reply:
        """The reply that the next message of the input shows."""
        message_id = self._meant(message)
        if message_id not in self._waiting:
            raise Otherwise
        self._waiting.remove(message_id)
        self._shown.append(message_id)
        return self.by_id[message_id]

    def show_other(self) -> None:
        """The next message of the input is no reply."""
        self._shown.append(None)

    def show_again(self, index: int, message: Message) -> None:
        """Where a reply was, it is again: as a copy without its thinking, or as it was."""
        shown = self._shown[index]
        if shown is None or message.role != "assistant" or self._meant(message) != shown:
            raise Otherwise

    def _meant(self, message: Message) -> str:
        """The id of the reply that a message shows; stripped of its thinking it has got a new one."""
        if type(message.id) is str and message.id in self.by_id:
            return message.id
        for known in [*self.by_id][len(self._contents) :]:
            content = content_of(self.by_id[known].message, self._sample)
            if content in self._contents:
                raise Otherwise
            self._contents[content] = known
        found = self._contents.get(content_of(message, self._sample))
        if found is None:
            raise Otherwise
        return found


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
        """The thinking of the turns in the latest input."""
        self._input_ends_in_reply = False
        self._request: Sequence[int] = range(0)
        self._places: list[Range] = []
        """Where the turns lie in the latest request, and what of its thinking each holds there."""
        self._found: list[set[int]] = []
        self._sent: set[int] = set()
        self._has_lost = False

    def shows_other(self) -> None:
        """The input goes on with a message that is no reply."""
        self._input_ends_in_reply = False

    def shows_reply(self, thoughts: list[Emitted]) -> None:
        """The input goes on with a reply; replies that follow each other are one turn."""
        if not self._input_ends_in_reply:
            self._turns.append(thoughts)
        elif len(self._found) < len(self._turns):
            self._turns[-1] = [*self._turns[-1], *thoughts]
        else:
            raise Otherwise
        self._input_ends_in_reply = True

    def sent(self, event: ModelEvent, thinking: list[int], available: int) -> Sent:
        """What a call was sent of the ``available`` first blocks of thinking."""
        request = self._sample.request_of(event)
        if request is None:
            return _NOTHING_LOGGED
        parts: dict[int, RequestPart | None] = {}
        kept = min(self._follow(request, parts), len(self._found))
        if len(self._places) != len(self._turns):
            raise Otherwise
        if kept < len(self._found):
            del self._found[kept:]
            self._sent = set[int]().union(*self._found)
            self._has_lost = any(map(_lacks, self._turns, self._found))
        for emitted, (start, stop) in zip(self._turns[kept:], self._places[kept:], strict=True):
            turn = [(request[index], parts[index]) for index in range(start, stop)]
            found = self._found_in(emitted, turn) if emitted else set[int]()
            self._found.append(found)
            self._sent |= found
            self._has_lost |= len(found) < len(emitted)
        edit = "thinking_dropped" if self._has_lost else "none"
        if len(self._sent) < available:
            ranges = thinking_ranges(thinking[:available], self._sent)
        else:
            ranges = [(thinking[0], thinking[available - 1] + 1)] if available else []
        return Sent(len(self._sent), "request", edit, ranges)

    def _follow(self, request: Sequence[int], parts: dict[int, RequestPart | None]) -> int:
        """Go on to the next request; returns how many turns at its start stay the same.

        ``parts`` gets what was read of the messages behind these.
        """
        places, kept = self._places, common_prefix(self._request, request)
        first = kept
        while places and places[-1][1] >= kept:
            first = places.pop()[0]
        unchanged = len(places)
        for index in range(first, len(request)):
            number = request[index]
            part = parts[index] = request_part_of(self._sample.requests[number])
            if not is_turn_of_model(part, self._sample, number):
                continue
            if places and places[-1][1] == index:
                places[-1] = (places[-1][0], index + 1)
            else:
                places.append((index, index + 1))
        self._request = request
        return unchanged

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


def _lacks(emitted: list[Emitted], found: set[int]) -> bool:
    return len(found) < len(emitted)
