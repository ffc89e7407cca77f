"""Recorded requests: which of the messages told so far a model call was shown."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from loaders.context import Range
from loaders.dialects.openai_chat import Thought
from loaders.run import Run
from loaders.values import Object, as_object


class _Told(NamedTuple):
    key: Hashable
    start: int
    stop: int
    thinking: dict[int, Thought | None]
    is_kept: bool


class ToldMessages:
    """Messages of a run as they were told, to be found again in the requests that repeat them.

    ``key``: what makes two writings of a message the same, its text at least; an elided message
    has another key and counts as not shown. ``thinking``: the thoughts that a request's message
    carries to the model.
    """

    def __init__(
        self,
        run: Run,
        key: Callable[[Object], Hashable],
        thinking: Callable[[Object], Iterable[Thought]],
    ) -> None:
        self._run = run
        self._key = key
        self._thinking = thinking
        self._told: list[_Told] = []
        self._by_key: dict[Hashable, list[int]] = defaultdict(list)
        self._kept: dict[str | None, list[int]] = defaultdict(list)

    def remember(
        self,
        message: Object,
        start: int,
        thinking: dict[int, Thought | None] | None = None,
        *,
        agent: str | None = None,
        is_kept: bool = True,
    ) -> None:
        """A message was told, in the events from ``start`` until now.

        ``thinking``: its thinking events by ``seq``, None for one that stands in the text itself.
        ``is_kept``: whether later requests of this agent repeat it, unless history is edited.
        """
        key = self._key(message)
        self._by_key[key].append(len(self._told))
        if is_kept:
            self._kept[agent].append(len(self._told))
        self._told.append(_Told(key, start, self._run.seq, thinking or {}, is_kept))

    def saw(self, request: list[Any], agent: str | None = None) -> None:
        """The latest model call was given this request."""
        context: list[Range] = []
        sent: set[int] = set()
        kept = 0
        for message, told in self._matches(request, self._kept[agent]):
            context.append((told.start, told.stop))
            kept += told.is_kept
            shown = {(t.text, t.signature) for t in self._thinking(message)}
            for seq, thought in told.thinking.items():
                if thought is None or (thought.text, thought.signature) in shown:
                    sent.add(seq)
        edit = "truncated" if kept < len(self._kept[agent]) else None
        if len(sent) < len(self._run.thinking_seqs):
            edit = "thinking_dropped"
        self._run.saw(context, sent, "request", edit)

    def _matches(self, request: list[Any], kept: list[int]) -> Iterator[tuple[Object, _Told]]:
        """The request's messages with what they repeat: place by place if none was taken out."""
        is_whole = len(request) >= len(kept)
        last = -1
        for index, message in enumerate(map(as_object, request)):
            key = self._key(message)
            places = self._by_key.get(key, [])
            after = bisect_right(places, last)
            if is_whole and index < len(kept):
                place = kept[index] if self._told[kept[index]].key == key else None
            else:
                place = places[after] if after < len(places) else None
            if place is not None:
                last = place
                yield message, self._told[place]


class _Repeated(NamedTuple):
    start: int
    stop: int
    thinking: dict[int, Thought]
    is_system: bool


class _Asked(Struct, gc=False):
    """A message of a request, and what was found out about it."""

    message: Object
    key: Hashable
    thoughts: set[tuple[str | None, str | None]] | None = None


class RepeatedMessages:
    """Messages that are known from requests alone: each is told where it first stands.

    ``key`` and ``thinking`` as for ``ToldMessages``; equal messages of one request are told apart by
    their number. ``tell`` writes the events of a message that stands at a place.

    Most of a request repeats the one before it: a message that is equal to the one in its place there
    is not looked at again, only compared.
    """

    def __init__(
        self,
        run: Run,
        key: Callable[[Object], Hashable],
        thinking: Callable[[Object], Iterable[Thought]],
        tell: Callable[[Object, str], None],
    ) -> None:
        self._run = run
        self._key = key
        self._thinking = thinking
        self._tell = tell
        self._told: list[_Repeated] = []
        self._numbers: dict[Hashable, list[int]] = defaultdict(list)
        self._shown: dict[str | None, set[int]] = {}
        self._latest: list[_Asked] = []

    def take(self, request: list[tuple[Object, str]]) -> list[int]:
        """Tell what is new of a request, whose messages come with their places; all by number."""
        seen: dict[Hashable, int] = defaultdict(int)
        numbers: list[int] = []
        before_this, self._latest = iter(self._latest), []
        for message, pos in request:
            asked = next(before_this, None)
            if asked is None or asked.message != message:
                asked = _Asked(message, self._key(message))
            asked.message = message  # which is then the very same that ``saw`` is asked of
            self._latest.append(asked)
            key = asked.key
            if seen[key] == len(self._numbers[key]):
                start, before = self._run.seq, len(self._run.thinking_seqs)
                self._tell(message, pos)
                self._remember(message, key, start, before)
            numbers.append(self._numbers[key][seen[key]])
            seen[key] += 1
        return numbers

    def reply(self, message: Object, agent: str | None, write: Callable[[], None]) -> None:
        """A call of this agent answered with a message, whose events ``write`` tells."""
        start, before = self._run.seq, len(self._run.thinking_seqs)
        write()
        self._shown.setdefault(agent, set()).add(
            self._remember(message, self._key(message), start, before)
        )

    def saw(
        self, shown: list[int], request: list[Object], agent: str | None, is_sure: bool = True
    ) -> None:
        """The latest call was given these messages.

        Not ``is_sure``: what stands between the log and the wire may have dropped thinking.
        """
        sent: set[int] = set()
        for place, (number, message) in enumerate(zip(shown, request, strict=True)):
            known = self._told[number].thinking
            if known:
                here = self._thoughts_in(message, place)
                sent.update(seq for seq, t in known.items() if (t.text, t.signature) in here)
        kept = {number for number in shown if not self._told[number].is_system}
        edit = "truncated" if self._shown.get(agent, set()) - kept else None
        self._shown[agent] = kept
        if len(sent) < len(self._run.thinking_seqs):
            edit = "thinking_dropped"
        ranges = [(self._told[number].start, self._told[number].stop) for number in shown]
        self._run.saw(ranges, sent if is_sure or not sent else None, "request", edit)

    def _thoughts_in(self, message: Object, place: int) -> set[tuple[str | None, str | None]]:
        """The thinking that a message of the request taken last carries to the model."""
        asked = self._latest[place] if place < len(self._latest) else None
        if asked is None or asked.message != message:
            asked = _Asked(message, None)
        if asked.thoughts is None:
            asked.thoughts = {(t.text, t.signature) for t in self._thinking(message)}
        return asked.thoughts

    def _remember(self, message: Object, key: Hashable, start: int, before: int) -> int:
        seqs = self._run.thinking_seqs[before:]
        thinking = dict(zip(seqs, self._thinking(message), strict=False))
        is_system = message.get("role", message.get("type")) in ("system", "developer")
        self._numbers[key].append(len(self._told))
        self._told.append(_Repeated(start, self._run.seq, thinking, is_system))
        return len(self._told) - 1
