"""What each model call of an Inspect sample saw: told messages found again in its input and request.

A message keeps its id as long as nobody touches it. Stripping reasoning, trimming calls and merging
neighbours give a copy a new id, and the message pool merges messages that are equal but for their
ids. So a message is found again by its id, else by its content, where the n-th occurrence inside one
input is the n-th message told with this content, else by the calls that it makes.

All work goes into what is new since the conversation's latest call: a long run is read in linear
time where its log is pooled, and in time linear in its size where it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple

from loaders.context import Range, ThinkingWitness, merge, strings_of
from loaders.formats._inspect_sample import Sample
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

Numbers = tuple[int, ...]
Signature = tuple[str, ...]
"""What makes a message the same; the texts themselves, whose hashes Python keeps with them."""


class Told(NamedTuple):
    """A message that has been told: the events that it became, and its thinking among them."""

    start: int
    stop: int
    role: str
    signature: Signature
    thinking: Numbers = ()


class Register:
    """Every message told so far, to be found again by id, content or calls."""

    def __init__(self, sample: Sample) -> None:
        self.messages: list[Told] = []
        self._sample = sample
        self._by_id: dict[str, int] = {}
        self._by_signature: dict[Signature, list[int]] = {}
        self._by_call: dict[str, int] = {}

    def signature(self, message: Object) -> Signature:
        """What makes a message the same whatever its id, and whether or not it has its reasoning."""
        parts = [str(message.get("role")), as_name(message.get("tool_call_id")) or ""]
        content = message.get("content")
        if isinstance(content, str):
            if content:
                parts += ("text", self._text(content))
        else:
            for part in content if is_array(content) else [{"type": "text", "text": content}]:
                part = as_object(part)
                kind = as_text(part.get("type")) or ""
                value = part.get("text", part.get(kind))
                if kind != "reasoning" and value not in ("", None):
                    parts += (kind, self._text(value))
        parts += calls_of(message)
        parts.append(as_text(as_object(message.get("error")).get("message")) or "")
        return tuple(parts)

    def _text(self, value: Any) -> str:
        """A text, the same in place and as a reference to an attachment."""
        if not isinstance(value, str):
            return as_json(value) or ""
        return str(self._sample.resolve(value)).strip()

    def add(self, message: Object, told: Told) -> int:
        """Keep a told message; returns its number."""
        number = len(self.messages)
        self.messages.append(told)
        message_id = as_text(message.get("id"))
        if message_id is not None:
            self._by_id.setdefault(message_id, number)
        self._by_signature.setdefault(told.signature, []).append(number)
        if told.role == "assistant":
            for call_id in calls_of(message):
                self._by_call[call_id] = number
        return number

    def find(self, message: Object, signature: Signature, seen: Seen) -> Numbers:
        """Numbers of the told messages that this one repeats; empty where it is new."""
        number = self._by_id.get(as_text(message.get("id")) or "")
        is_reply = message.get("role") == "assistant"
        if (
            number is not None
            and number not in seen.numbers
            and (is_reply or self.messages[number].signature == signature)
        ):
            return (number,)
        same = self._by_signature.get(signature, [])
        occurrence = seen.occurrences[signature]
        if occurrence < len(same):
            return (same[occurrence],)
        return self._merged_or_edited(message) if is_reply else ()

    def knows(self, signature: Signature) -> bool:
        """Whether a message of this content has been told."""
        return signature in self._by_signature

    def thinking_of_call(self, call_id: str) -> Numbers:
        """The thinking of the reply that made this tool call."""
        number = self._by_call.get(call_id)
        return () if number is None else self.messages[number].thinking

    def _merged_or_edited(self, message: Object) -> Numbers:
        merged = as_array(as_object(message.get("metadata")).get("combined_from"))
        names = [as_text(name) or "" for name in merged]
        numbers = {self._by_id[name] for name in names if name in self._by_id}
        numbers.update(self._by_call[name] for name in calls_of(message) if name in self._by_call)
        return tuple(sorted(numbers))


class Seen:
    """The told messages that one input has shown so far."""

    def __init__(self, register: Register) -> None:
        self.numbers: Counter[int] = Counter()
        self.occurrences: Counter[Signature] = Counter()
        self._register = register

    def add(self, numbers: Numbers) -> None:
        """The input shows these next."""
        for number in numbers:
            self.numbers[number] += 1
            self.occurrences[self._register.messages[number].signature] += 1

    def take_back(self, numbers: Numbers) -> None:
        """The input does not show these after all."""
        for number in numbers:
            self.occurrences[self._register.messages[number].signature] -= 1
            self.numbers[number] -= 1
            if not self.numbers[number]:
                del self.numbers[number]


class Conversation:
    """The inputs of one agent's calls: each is compared with the one before it.

    ``messages`` of the latest input, each as the numbers of what it repeats; ``edit`` says that the
    latest input lacks what an earlier one had (``truncated``, ``compacted``).
    """

    def __init__(self, register: Register) -> None:
        self.messages: list[Numbers] = []
        self.ranges: list[Range] = []
        self.edit: str | None = None
        self._register = register
        self._keys: list[int] = []
        self._seen = Seen(register)
        self._ever: set[int] = set()

    def follow(
        self, keys: list[int], locate: Callable[[int, Seen], Numbers], compaction: str | None
    ) -> None:
        """Go on to the input of the next call, given as numbers of pooled messages.

        ``compaction``: how the log says that the history was edited since the latest call.
        """
        kept = common_prefix(self._keys, keys)
        before = self.messages[:]
        for numbers in self.messages[kept:]:
            self._seen.take_back(numbers)
        del self.messages[kept:]
        for key in keys[kept:]:
            numbers = locate(key, self._seen)
            self._seen.add(numbers)
            self.messages.append(numbers)
        self._keys = keys
        if self.messages[: len(before)] == before:
            added = self.messages[len(before) :]
        else:
            added, self.ranges = self.messages, []
            self._compare(compaction)
        self._ever.update(chain.from_iterable(added))
        self._extend_ranges(added)

    def said(self, number: int) -> None:
        """The model's reply to the latest input, which the next one will normally show."""
        self._ever.add(number)

    def _compare(self, compaction: str | None) -> None:
        """What the input lacks of earlier replies and results: trimmed, or another branch's.

        Prompts do not count: many agents replace one that tells the time or what is left to do.
        """
        told = self._register.messages
        history = {number for number in self._ever if told[number].role in ("assistant", "tool")}
        lost = history - self._seen.numbers.keys()
        latest_kept = max(history - lost, default=-1)
        if not lost:
            self.edit = None
        elif compaction is not None:
            self.edit = compaction
        elif min(lost) < latest_kept:
            self.edit = self.edit or "truncated"
        else:  # only the end is gone, or all is: a branch, or another conversation
            self.edit, self._ever = None, set()

    def _extend_ranges(self, added: Iterable[Numbers]) -> None:
        for numbers in added:
            for number in numbers:
                start, stop = self._register.messages[number][:2]
                if self.ranges and start < self.ranges[-1][0]:
                    self.ranges = merge([*self.ranges, (start, stop)])
                elif self.ranges and start <= self.ranges[-1][1]:
                    self.ranges[-1] = (self.ranges[-1][0], max(stop, self.ranges[-1][1]))
                elif start < stop:
                    self.ranges.append((start, stop))

    def is_reply(self, numbers: Numbers) -> bool:
        """Whether a message of the input is the model's."""
        return any(self._register.messages[n].role == "assistant" for n in numbers)

    def thinking(self, start: int, stop: int) -> Numbers:
        """The thinking that stands in these messages of the latest input as they were told."""
        told = (
            self._register.messages[n] for numbers in self.messages[start:stop] for n in numbers
        )
        return tuple(seq for message in told for seq in message.thinking)


class Turns:
    """Where the model's turns lie in a list of messages: neighbouring replies are one turn."""

    def __init__(self) -> None:
        self.places: list[Range] = []
        self._items: list[Any] = []

    def follow(self, items: list[Any], is_reply: Callable[[Any], bool]) -> int:
        """Go on to a new version of the list; returns how many turns at its start stay the same."""
        kept = common_prefix(self._items, items)
        while self.places and self.places[-1][1] >= kept:
            self.places.pop()
        unchanged = len(self.places)
        for index in range(self.places[-1][1] if self.places else 0, len(items)):
            if not is_reply(items[index]):
                continue
            if self.places and self.places[-1][1] == index:
                self.places[-1] = (self.places[-1][0], index + 1)
            else:
                self.places.append((index, index + 1))
        self._items = items[:]
        return unchanged


class Requests:
    """The raw requests of one agent's calls, searched for the thinking of the replies in them.

    The turns of a request stand beside those of the call's input: what a turn repeats is known, and
    equal thinking of another turn is not mistaken for it. Where the two do not pair up, a part of the
    request is matched by the tool calls in it, else by its whole content.
    """

    def __init__(self, sample: Sample, register: Register, witness: ThinkingWitness) -> None:
        self._sample, self._register, self._witness = sample, register, witness
        self._input, self._request = Turns(), Turns()
        self._found: list[set[int]] = []
        self._lacking: list[int] = []

    def follow(self, request: list[int], conversation: Conversation) -> tuple[set[int], bool]:
        """The thinking found in the next call's request; whether some of its replies lost theirs."""
        kept = min(
            self._input.follow(conversation.messages, conversation.is_reply),
            self._request.follow(request, self._is_reply),
            len(self._found),
        )
        del self._found[kept:], self._lacking[kept:]
        if len(self._input.places) != len(self._request.places):
            return self._unpaired(request, conversation)
        for told, sent in zip(self._input.places[kept:], self._request.places[kept:], strict=True):
            thinking = conversation.thinking(*told)
            parts = (
                [self._part(number) for number in request[sent[0] : sent[1]]] if thinking else []
            )
            found = self._witness.found_in(parts, among=thinking)
            self._found.append(found)
            self._lacking.append(len(thinking) - len(found))
        return set[int]().union(*self._found), any(self._lacking)

    def _unpaired(self, request: list[int], conversation: Conversation) -> tuple[set[int], bool]:
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
        self._found, self._lacking = [], []
        return found & expected, len(found & expected) < len(expected)

    def _part(self, number: int) -> Any:
        return self._sample.resolve(self._sample.requests[number])

    def _is_reply(self, number: int) -> bool:
        part = self._sample.requests[number]
        if not is_object(part):
            return isinstance(part, str)  # a prompt as one text holds all turns
        role = part.get("role")
        if role is None:  # an item of the Responses API
            return not (as_text(part.get("type")) or "_output").endswith("_output")
        return role in ("assistant", "model")


def calls_of(message: Object) -> list[str]:
    """The ids of the tool calls that a message makes."""
    calls = message.get("tool_calls")
    if not calls or not is_array(calls):
        return []
    ids = [as_text(as_object(call).get("id")) for call in calls]
    return [call_id for call_id in ids if call_id]


def common_prefix(old: list[Any], new: list[Any]) -> int:
    """How many items both lists begin with; compared by halves, in one pass at C's speed.

    >>> common_prefix([1, 2, 3, 4], [1, 2, 5])
    2
    """
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
