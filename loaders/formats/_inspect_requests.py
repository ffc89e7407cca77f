"""Which thinking the raw requests of an Inspect sample hold: searched turn by turn, each once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw

from loaders.context import Range, strings_of
from loaders.formats._inspect_context import Conversation, Numbers, common_prefix
from loaders.formats._inspect_messages import Messages
from loaders.formats._inspect_records import RequestPart, request_part_of
from loaders.formats._inspect_sample import Sample
from loaders.values import as_text


class Turns:
    """Where the model's turns lie in a list of messages: neighbouring replies are one turn."""

    def __init__(self) -> None:
        self.places: list[Range] = []
        self._items: Sequence[Any] = ()

    def follow(self, items: Sequence[Any], is_reply: Callable[[Any], bool]) -> int:
        """Go on to a new version of the list; returns how many turns at its start stay the same."""
        places, kept = self.places, common_prefix(self._items, items)
        first = kept
        while places and places[-1][1] >= kept:
            first = places.pop()[0]
        unchanged = len(places)
        for index in range(first, len(items)):
            if not is_reply(items[index]):
                continue
            if places and places[-1][1] == index:
                places[-1] = (places[-1][0], index + 1)
            else:
                places.append((index, index + 1))
        self._items = items[:]
        return unchanged


class Requests:
    """The raw requests of one agent's calls, searched for the thinking of the replies in them.

    The turns of a request stand beside those of the call's input: what a turn repeats is known, and
    equal thinking of another turn is not mistaken for it. Where the two do not pair up, a part of the
    request is matched by the tool calls in it, else by its whole content.
    """

    def __init__(self, sample: Sample, messages: Messages) -> None:
        self._sample, self._register = sample, messages.register
        self._witness, self._references = messages.witness, messages.references
        self._input, self._request = Turns(), Turns()
        self._found: list[set[int]] = []
        self._lacking: list[int] = []
        self._all_found: set[int] = set()
        self._has_lost = False

    def follow(self, request: Sequence[int], conversation: Conversation) -> tuple[set[int], bool]:
        """The thinking found in the next call's request; whether some of its replies lost theirs."""
        kept = min(
            self._input.follow(conversation.messages, conversation.is_reply),
            self._request.follow(request, self._is_reply),
            len(self._found),
        )
        if kept < len(self._found):
            del self._found[kept:], self._lacking[kept:]
            self._all_found = set[int]().union(*self._found)
            self._has_lost = any(self._lacking)
        if len(self._input.places) != len(self._request.places):
            return self._unpaired(request, conversation)
        for told, sent in zip(self._input.places[kept:], self._request.places[kept:], strict=True):
            thinking = conversation.thinking(*told)
            found = set[int]()
            if thinking:
                found = self._search(thinking, request[sent[0] : sent[1]])
                self._all_found |= found
            self._found.append(found)
            self._lacking.append(len(thinking) - len(found))
            self._has_lost |= len(found) < len(thinking)
        return self._all_found, self._has_lost

    def _unpaired(
        self, request: Sequence[int], conversation: Conversation
    ) -> tuple[set[int], bool]:
        expected = set(conversation.thinking(0, len(conversation.messages)))
        found: set[int] = set()
        for start, stop in self._request.places if expected else ():
            for number in request[start:stop]:
                part = self._part(number)
                among = [
                    seq
                    for text in strings_of(part)
                    for seq in self._register.thinking_of_call(text)
                ]
                found |= self._witness.found_in(part, among=among or None)
        self._found, self._lacking, self._all_found, self._has_lost = [], [], set(), False
        return found & expected, len(found & expected) < len(expected)

    def _search(self, thinking: Numbers, request: Sequence[int]) -> set[int]:
        """Which of this thinking these messages of a request hold."""
        found = self._referred_to(thinking, request)
        among = [seq for seq in thinking if seq not in found]
        if among:
            parts = [self._part(number) for number in request]
            found |= self._witness.found_in(parts, among=among)
        return found

    def _referred_to(self, thinking: Numbers, request: Sequence[int]) -> set[int]:
        """Thinking whose text is stored apart, to which the request refers as the reply did."""
        parts = (self._sample.requests[number] for number in request)
        texts = [bytes(part) for part in parts if isinstance(part, Raw)]
        return {
            seq
            for seq in thinking
            if seq in self._references and any(self._references[seq] in text for text in texts)
        }

    def _part(self, number: int) -> list[str]:
        """All texts of a message of a request."""
        return self._sample.resolve([*strings_of(self._sample.request(number))])

    def _is_reply(self, number: int) -> bool:
        part = request_part_of(self._sample.requests[number])
        return is_turn_of_model(part, self._sample, number)


def is_turn_of_model(part: RequestPart | None, sample: Sample, number: int) -> bool:
    """Whether a message of a raw request, of which this was read, repeats what the model put out."""
    if part is None:
        return isinstance(sample.request(number), str)  # a prompt as one text: all turns
    if part.role is None:  # an item of the Responses API
        return not (as_text(part.type) or "_output").endswith("_output")
    return part.role in ("assistant", "model")
