"""One run as its requests repeat it: turns in the order in which they came up, each of them once.

Each request is laid beside the turns known so far. What matches is history that the model was shown
again, what is new becomes a turn, and what is missing or changed says how history was edited.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from loaders.context import Range, ThinkingWitness, merge, ranges_of
from loaders.dialects.wire import Reply, Turn, Wire, squeezed
from loaders.values import Object, as_json, as_object, as_text, fingerprint, is_array

Tools = list[tuple[str | None, str | None, Any]]
NEW: Final = -1
SKIPPED: Final = -2
"""A result told before that a request repeats in other words, at a place of its own."""


class Recorded(NamedTuple):
    """One recorded call of a model.

    ``request`` and ``response`` are decoded; a streamed or unreadable response is its text, a
    missing one None. The positions are those of the two bodies. ``extra``: what the record says
    beside them; ``order``: the number of the request, where responses come in another order.
    """

    request: Object
    response: Any
    request_pos: str = ""
    response_pos: str = ""
    status: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cost_usd: float | None = None
    url: str | None = None
    extra: Object = {}  # noqa: RUF012 - read only
    order: int = 0


class Response(NamedTuple):
    """What came back: the decoded body, the replies in it, and what went wrong."""

    body: Object
    replies: list[Reply]
    error: str | None
    error_type: str | None


@dataclass
class Call:
    """A recorded call inside its run.

    ``systems`` and ``context`` are items (``shown`` the context without the systems), ``sent``
    thoughts, all by their numbers in the run;
    ``is_whole``: whether all that the call was shown is on the recording;
    ``turn`` is its reply's (``NEW``: none that a client can repeat).
    """

    recorded: Recorded
    response: Response
    tools: Tools | None
    systems: list[int]
    context: list[Range]
    shown: list[Range]
    sent: set[int]
    edit: str | None
    is_whole: bool = True
    turn: int = NEW
    chosen: int = 0


@dataclass
class Item:
    """Something that becomes events: a system prompt, a turn of a request, or a call."""

    pos: str
    turn: Turn | None = None
    call: Call | None = None
    is_system: bool = False
    is_prefill: bool = False
    is_rewritten: bool = False
    """A turn as the client put it later on, in other words than those that were told."""


@dataclass
class Conversation:
    """The calls of one run, its turns by number, and the thinking in them by number."""

    wire: Wire
    items: list[Item] = field(default_factory=lambda: [])
    calls: list[Call] = field(default_factory=lambda: [])
    turns: list[int] = field(default_factory=lambda: [])
    keys: list[str] = field(default_factory=lambda: [])
    places: dict[str, list[int]] = field(default_factory=lambda: {})
    thoughts: dict[int, range] = field(default_factory=lambda: {})
    thought_texts: list[str] = field(default_factory=lambda: [])
    thought_signatures: list[str | None] = field(default_factory=lambda: [])
    systems: dict[str, int] = field(default_factory=lambda: {})
    rewritten: dict[tuple[int, str], int] = field(default_factory=lambda: {})
    offer: str | None = None
    compacted_before: int = 0
    _lasting: int = 0
    _latest_reply: int = NEW
    _empty: str = ""
    _witness: ThinkingWitness = field(default_factory=ThinkingWitness)
    _answered: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        """Know the reply that says nothing: clients drop it."""
        self._empty = self.wire.key(Turn({"role": "assistant", "content": None}, "", True))

    # ------------------------------------------------------------------ turns

    def is_answer(self, call: Call) -> bool:
        """Whether a call gave something back that a client can repeat."""
        return call.turn != NEW and self.keys[call.turn] != self._empty

    def compact(self) -> None:
        """From now on a summary stands for all turns so far."""
        self.compacted_before = len(self.turns)
        self._lasting = 0

    def is_reply(self, number: int) -> bool:
        """Whether a turn is the model's."""
        item = self.items[self.turns[number]]
        return item.call is not None or (item.turn is not None and item.turn.is_reply)

    def message_of(self, number: int) -> Object:
        """The message that a turn is told from."""
        item = self.items[self.turns[number]]
        if item.call is not None:
            return item.call.response.replies[item.call.chosen].message
        return item.turn.message if item.turn is not None else {}

    def choose(self, call: Call, choice: int, key: str) -> None:
        """Of several replies this is the one with which the client went on."""
        if choice != call.chosen and call.turn != NEW:
            call.chosen = choice
            self.keys[call.turn] = key
            self.places.setdefault(key, []).append(call.turn)
            self.places[key].sort()
            self._remember_thoughts(call.turn, call.response.replies[choice].message)

    def _add_turn(self, key: str, item: Item, message: Object | None) -> int:
        number = len(self.turns)
        self.turns.append(len(self.items))
        self.items.append(item)
        self.keys.append(key)
        self.places.setdefault(key, []).append(number)
        self._lasting += key != self._empty
        if message is not None:
            self._remember_thoughts(number, message)
        return number

    def _remember_thoughts(self, number: int, message: Object) -> None:
        first = len(self.thought_texts)
        for text, signature in self.wire.thoughts(message):
            self._witness.emitted(len(self.thought_texts), text, signature)
            self.thought_texts.append(squeezed(text))
            self.thought_signatures.append(signature)
        self.thoughts[number] = range(first, len(self.thought_texts))

    def _sent_in(self, number: int, message: Object) -> set[int]:
        """Which of a turn's thoughts this writing of it still has, in the API's own place for them.

        As plain text, or in tags where the API has blocks for it, a model is not given its thinking.
        """
        own = self.thoughts.get(number, range(0))
        if not own:
            return set()
        thoughts = self.wire.thoughts(message)
        shown = {squeezed(text) for text, _ in thoughts if text}
        signed = {signature for _, signature in thoughts if signature}
        found = self._witness.found_in([*map(list, thoughts)], among=own)
        return found | {
            thought
            for thought in own
            if self.thought_texts[thought] in shown or self.thought_signatures[thought] in signed
        }

    # ------------------------------------------------------------------ calls

    def add(
        self,
        recorded: Recorded,
        response: Response,
        turns: list[Turn],
        keys: list[str],
        held: Call | None = None,
    ) -> Call:
        """Take in one more call: what is new in its request, what it was shown, what it replied.

        ``held``: the call from which the request goes on without repeating what that call was shown.
        """
        known, lasting = len(self.turns), self._lasting
        systems = list(self._take_systems(recorded))
        places, edited = self._align(turns, keys, held)
        self._take_new(recorded, turns, keys, places)
        cut = self.wire.cut(turns)
        before, sent, is_cut = self._held_by(held) if held else ([], set[int](), False)
        if cut is not None:
            before, sent = [], set[int]()
        context: list[int] = []
        for index, number in enumerate(places):
            if number >= 0 and index >= (cut or 0):
                if number not in edited or self._shares_text(number, turns[index].message):
                    context.append(self.turns[number])
                else:
                    context.append(self._rewriting(recorded, number, turns[index], keys[index]))
                if turns[index].is_reply:
                    sent |= self._sent_in(number, turns[index].message)
        sent -= self._cleared_thoughts(response, sent)
        is_changed = bool(edited) or SKIPPED in places
        if held is None:
            is_changed = is_changed or self._is_missing(lasting, known, places)
        else:
            is_changed = is_changed or held.edit == "truncated" or self._latest_reply > held.turn
            is_cut = is_cut or held.edit == "compacted"
        shown = merge([*before, *ranges_of(context)])
        call = Call(
            self._without_bodies(recorded),
            response,
            self._changed_tools(recorded),
            systems,
            merge([*ranges_of(systems), *shown]),
            shown,
            sent,
            self._edit(response, is_changed, is_compacted=is_cut or cut is not None),
        )
        self._take_reply(call)
        return call

    def _without_bodies(self, recorded: Recorded) -> Recorded:
        """What is still to be told of a call: histories would fill the memory."""
        settings = {"model": recorded.request.get("model"), **self.wire.params(recorded.request)}
        return recorded._replace(request=settings, response=None)

    def _take_systems(self, recorded: Recorded) -> Iterator[int]:
        for turn in self.wire.system(recorded.request):
            key = self.wire.key(turn)
            if key not in self.systems:
                self.systems[key] = len(self.items)
                self.items.append(Item(recorded.request_pos + turn.pointer, turn, is_system=True))
            yield self.systems[key]

    def _take_new(
        self, recorded: Recorded, turns: list[Turn], keys: list[str], places: list[int]
    ) -> None:
        for index, (turn, key) in enumerate(zip(turns, keys, strict=True)):
            if places[index] == NEW:
                item = Item(recorded.request_pos + turn.pointer, turn)
                is_last = index == len(turns) - 1
                item.is_prefill = turn.is_reply and is_last and self.wire.continues_replies
                places[index] = self._add_turn(key, item, turn.message if turn.is_reply else None)
                self._answered.update(turn.answers)

    def _rewriting(self, recorded: Recorded, number: int, turn: Turn, key: str) -> int:
        """The item of a known turn in other words, which the model was shown in its place."""
        if (number, key) not in self.rewritten:
            self.rewritten[number, key] = len(self.items)
            item = Item(recorded.request_pos + turn.pointer, turn, is_rewritten=True)
            self.items.append(item)
        return self.rewritten[number, key]

    def _take_reply(self, call: Call) -> None:
        self.calls.append(call)
        response = call.response
        item = Item(call.recorded.response_pos, call=call)
        if response.replies and response.error is None:
            message = response.replies[0].message
            call.turn = self._latest_reply = len(self.turns)
            self._add_turn(self.wire.key(Turn(message, "", is_reply=True)), item, message)
        else:
            self.items.append(item)

    def _changed_tools(self, recorded: Recorded) -> Tools | None:
        tools = self.wire.tools(recorded.request)
        offer = offer_of(tools)
        if offer == self.offer:
            return None
        self.offer = offer
        return tools

    def _held_by(self, call: Call) -> tuple[list[Range], set[int], bool]:
        """What the API puts before a request that goes on from a call: its context, its thoughts.

        And whether that call's reply, a compaction, stands for all that was before it.
        """
        if call.turn == NEW:
            return call.shown, set(call.sent), False
        item, own = self.turns[call.turn], set(self.thoughts.get(call.turn, range(0)))
        if self.wire.cut([Turn(self.message_of(call.turn), "", is_reply=True)]) is not None:
            return [(item, item + 1)], own, True
        return [*call.shown, (item, item + 1)], call.sent | own, False

    # ------------------------------------------------------------------ edits of history

    def _is_missing(self, lasting: int, known: int, places: list[int]) -> bool:
        """Whether a request leaves out any of the turns that were known before it."""
        shown = {number for number in places if self.compacted_before <= number < known}
        return sum(self.keys[number] != self._empty for number in shown) < lasting

    def _edit(self, response: Response, is_changed: bool, is_compacted: bool) -> str | None:
        """The edit that took most; None leaves it to the thinking that was sent."""
        if is_compacted or self.compacted_before:
            return "compacted"
        return "truncated" if is_changed or self.wire.cleared_tools(response.body) else None

    def _cleared_thoughts(self, response: Response, sent: set[int]) -> set[int]:
        """Thoughts that the API itself took out of the request's earliest replies."""
        count = self.wire.cleared_thinking(response.body)
        if not count:
            return set()
        with_thinking = [own for own in self.thoughts.values() if sent.intersection(own)]
        return {thought for own in with_thinking[:count] for thought in own}

    def _shares_text(self, number: int, message: Object) -> bool:
        told = squeezed(visible_text(self.message_of(number)))
        return bool(told) and told == squeezed(visible_text(message))

    # ------------------------------------------------------------------ a request beside the turns

    def _align(
        self, turns: list[Turn], keys: list[str], held: Call | None
    ) -> tuple[list[int], set[int]]:
        """The number of the turn that each turn of a request repeats, and those repeated changed.

        The last reply that is known splits the request: what stands before it is history, in which
        turns may be missing; what follows is mostly new.
        """
        places = [NEW] * len(turns)
        edited: set[int] = set()
        if held is not None and held.turn != NEW:
            return places, self._align_rest(turns, keys, places, NEW, held.turn + 1)
        split = next(
            (i for i in range(len(turns) - 1, -1, -1) if self._last_reply(turns[i], keys[i])), NEW
        )
        if split != NEW:
            places[split] = self._last_reply(turns[split], keys[split]) or 0
            self._align_history(keys, places, split)
            edited |= self._align_changed(turns, places, split)
        number = places[split] + 1 if split != NEW else 0
        edited |= self._align_rest(turns, keys, places, split, number)
        return places, edited

    def _last_reply(self, turn: Turn, key: str) -> int | None:
        if not turn.is_reply:
            return None
        return next((n for n in reversed(self.places.get(key, ())) if self.is_reply(n)), None)

    def _align_history(self, keys: list[str], places: list[int], split: int) -> None:
        """Equal turns: as far as possible one by one from the start, then backwards from the end."""
        first = 0
        while first < min(split, places[split]) and keys[first] == self.keys[first]:
            places[first] = first
            first += 1
        after = places[split]
        for index in range(split - 1, first - 1, -1):
            same = self.places.get(keys[index], [])
            found = bisect_left(same, after) - 1
            if found >= 0 and same[found] >= first:
                after = places[index] = same[found]

    def _align_changed(self, turns: list[Turn], places: list[int], split: int) -> set[int]:
        """Turns that differ from those between the same neighbours: the same ones, edited."""
        edited: set[int] = set()
        start = 0
        while start < split:
            if places[start] != NEW:
                start += 1
                continue
            stop = next(i for i in range(start, split + 1) if places[i] != NEW)
            before = places[start - 1] if start else NEW
            numbers = range(before + 1, places[stop])
            if len(numbers) == stop - start and all(
                turns[i].is_reply == self.is_reply(n)
                for i, n in zip(range(start, stop), numbers, strict=True)
            ):
                places[start:stop] = numbers
                edited.update(numbers)
            else:
                for index in range(start, stop):
                    answers = turns[index].answers
                    if answers and self._answered.issuperset(answers):
                        places[index] = SKIPPED
            start = stop
        return edited

    def _align_rest(
        self, turns: list[Turn], keys: list[str], places: list[int], split: int, number: int
    ) -> set[int]:
        """What follows the last known reply: known if an earlier call that failed was shown it.

        A reply that is not known stands for the one that came next, rewritten by the client.
        """
        edited: set[int] = set()
        following: dict[str, deque[int]] = {}
        number = self._open_window(number, following)
        for index in range(split + 1, len(turns)):
            if not turns[index].is_reply:
                same = following.get(keys[index])
                if same:
                    places[index] = same.popleft()
            elif number < len(self.turns):
                places[index] = number
                edited.add(number)
                following.clear()
                number = self._open_window(number + 1, following)
        return edited

    def _open_window(self, number: int, following: dict[str, deque[int]]) -> int:
        """Collect the turns up to the next reply; returns the reply's number."""
        while number < len(self.turns) and not self.is_reply(number):
            following.setdefault(self.keys[number], deque()).append(number)
            number += 1
        return number


def offer_of(tools: Tools) -> str | None:
    """A name for an offer of tools; None for none."""
    return fingerprint(as_json(tools) or "") if tools else None


def visible_text(message: Object) -> str:
    """The text parts of a message."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    parts = map(as_object, content if is_array(content) else [])
    return "\n".join(as_text(part.get("text")) or "" for part in parts).strip()
