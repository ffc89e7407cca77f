"""What each model call of an Inspect sample saw: told messages found again in its input.

A message keeps its id as long as nobody touches it. Stripping reasoning, trimming calls and merging
neighbours give a copy a new id, and the message pool merges messages that are equal but for their
ids. So a message is found again by its id, else by its content, where the n-th occurrence inside one
input is the n-th message told with this content, else by the calls that it makes.

All work goes into what is new since the conversation's latest call: a long run is read in linear
time where its log is pooled, and in time linear in its size where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct

from loaders.context import Range, merge
from loaders.formats._inspect_contents import calls_of, content_of
from loaders.formats._inspect_records import Message
from loaders.formats._inspect_sample import Sample
from loaders.values import as_array, as_object, as_text

Numbers = tuple[int, ...]


class Told(Struct, frozen=True, gc=False):
    """A message that has been told: the events that it became, and its thinking among them.

    ``content`` numbers what it says: the same for all messages of one sample that say the same.
    """

    start: int
    stop: int
    role: str
    content: int
    thinking: Numbers = ()


class Register:
    """Every message told so far, to be found again by id, content or calls."""

    def __init__(self, sample: Sample) -> None:
        self.messages: list[Told] = []
        self._sample = sample
        self._contents: dict[tuple[str, ...], int] = {}
        self._content_by_message: dict[int, int] = {}
        self._by_content: list[list[int]] = []
        self._by_id: dict[str, int] = {}
        self._by_call: dict[str, int] = {}

    def content(self, message: Message) -> int:
        """The number of what a message of the sample says."""
        known = self._content_by_message.get(id(message))  # the sample keeps the message
        if known is None:
            known = self._content_by_message[id(message)] = self.content_anew(message)
        return known

    def content_anew(self, message: Message) -> int:
        """The same of a message made for this question."""
        number = self._contents.setdefault(content_of(message, self._sample), len(self._by_content))
        if number == len(self._by_content):
            self._by_content.append([])
        return number

    def add(
        self, message: Message, start: int, stop: int, role: str, thinking: Numbers = ()
    ) -> int:
        """Keep a message that was told as these events; returns its number."""
        number, content = len(self.messages), self.content(message)
        self.messages.append(Told(start, stop, role, content, thinking))
        message_id = message.id
        if isinstance(message_id, str):
            self._by_id.setdefault(message_id, number)
        self._by_content[content].append(number)
        if message.tool_calls and role == "assistant":
            for call_id in calls_of(message):
                self._by_call[call_id] = number
        return number

    def find(self, message: Message, seen: Seen) -> Numbers:
        """Numbers of the told messages that this one repeats; empty where it is new."""
        number = self._by_id.get(as_text(message.id) or "")
        is_reply = message.role == "assistant"
        if number in seen.numbers:
            number = None
        if is_reply and number is not None:
            return (number,)
        content = self.content(message)
        if number is not None and self.messages[number].content == content:
            return (number,)
        same = self._by_content[content]
        occurrence = seen.occurrences.get(content, 0)
        if occurrence < len(same):
            return (same[occurrence],)
        return self._merged_or_edited(message) if is_reply else ()

    def knows(self, content: int) -> bool:
        """Whether a message that says this has been told."""
        return bool(self._by_content[content])

    def thinking_of_call(self, call_id: str) -> Numbers:
        """The thinking of the reply that made this tool call."""
        number = self._by_call.get(call_id)
        return () if number is None else self.messages[number].thinking

    def _merged_or_edited(self, message: Message) -> Numbers:
        merged = as_array(as_object(message.metadata).get("combined_from"))
        names = [as_text(name) or "" for name in merged]
        numbers = {self._by_id[name] for name in names if name in self._by_id}
        numbers.update(self._by_call[name] for name in calls_of(message) if name in self._by_call)
        return tuple(sorted(numbers))


class Seen:
    """The told messages that one input has shown so far, and how often each content."""

    def __init__(self, register: Register) -> None:
        self.numbers: dict[int, int] = {}
        self.occurrences: dict[int, int] = {}
        self._messages = register.messages

    def add(self, numbers: Numbers) -> None:
        """The input shows these next."""
        for number in numbers:
            self.numbers[number] = self.numbers.get(number, 0) + 1
            content = self._messages[number].content
            self.occurrences[content] = self.occurrences.get(content, 0) + 1

    def take_back(self, numbers: Numbers) -> None:
        """The input does not show these after all."""
        for number in numbers:
            self.occurrences[self._messages[number].content] -= 1
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
        self._keys: Sequence[int] = range(0)
        self._seen = Seen(register)
        self._ever: set[int] = set()

    def follow(
        self, keys: Sequence[int], locate: Callable[[int, Seen], Numbers], compaction: str | None
    ) -> None:
        """Go on to the input of the next call, given as numbers of pooled messages.

        ``compaction``: how the log says that the history was edited since the latest call.
        """
        kept, messages, seen = common_prefix(self._keys, keys), self.messages, self._seen
        taken_back = messages[kept:]
        for numbers in taken_back:
            seen.take_back(numbers)
        del messages[kept:]
        for key in keys[kept:]:
            numbers = locate(key, seen)
            seen.add(numbers)
            messages.append(numbers)
        self._keys = keys
        added = messages[kept:]
        if added[: len(taken_back)] == taken_back:
            added = added[len(taken_back) :]
        else:
            added, self.ranges = messages, []
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
                told = self._register.messages[number]
                extend(self.ranges, told.start, told.stop)

    def is_reply(self, numbers: Numbers) -> bool:
        """Whether a message of the input is the model's."""
        if len(numbers) == 1:
            return self._register.messages[numbers[0]].role == "assistant"
        return any(self._register.messages[number].role == "assistant" for number in numbers)

    def thinking(self, start: int, stop: int) -> Numbers:
        """The thinking that stands in these messages of the latest input as they were told."""
        told = self._register.messages
        if stop - start == 1 and len(self.messages[start]) == 1:
            return told[self.messages[start][0]].thinking
        numbers = chain.from_iterable(self.messages[start:stop])
        return tuple(chain.from_iterable(told[number].thinking for number in numbers))


def extend(ranges: list[Range], start: int, stop: int) -> None:
    """Let merged ranges take in one more, as a rule behind them.

    >>> ranges = [(0, 2)]
    >>> extend(ranges, 2, 4), extend(ranges, 5, 6), ranges
    (None, None, [(0, 4), (5, 6)])
    """
    if ranges and start < ranges[-1][0]:
        ranges[:] = merge([*ranges, (start, stop)])
    elif ranges and start <= ranges[-1][1]:
        ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
    elif start < stop:
        ranges.append((start, stop))


def common_prefix(old: Sequence[Any], new: Sequence[Any]) -> int:
    """How many items both lists begin with; compared by halves, in one pass at C's speed.

    >>> common_prefix([1, 2, 3, 4], [1, 2, 5])
    2
    """
    if type(old) is not type(new):  # a range and a list are never equal
        old, new = [*old], [*new]
    low, high = 0, min(len(old), len(new))
    if new[:high] == old:  # as nearly always: the history went on
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
