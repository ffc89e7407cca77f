"""What a Codex rollout says twice, as an item of the history and as an event, told once."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from datetime import datetime
from typing import NamedTuple


class Heard(NamedTuple):
    """What an event says."""

    text: str
    pos: str
    at: datetime | None


class Twins:
    """Items and events of one kind, in whatever order they come."""

    def __init__(self) -> None:
        self._heard: defaultdict[str, deque[Heard]] = defaultdict(deque)
        self._said: Counter[str] = Counter()
        self._known: set[int] = set()

    def hear(self, text: str | None, pos: str, at: datetime | None) -> None:
        """An event says this."""
        key = squeezed(text)
        self._known.add(hash(key))
        if self._said[key]:
            self._said[key] -= 1
        elif text:
            self._heard[key].append(Heard(text, pos, at))

    def say(self, text: str | None) -> None:
        """An item of the history says this, and is told."""
        key = squeezed(text)
        self._known.add(hash(key))
        if self._heard.get(key):
            self._heard[key].popleft()
        else:
            self._said[key] += 1

    def is_known(self, text: str | None) -> bool:
        """Whether an item or an event has said this so far."""
        return hash(squeezed(text)) in self._known

    def only_heard(self) -> list[Heard]:
        """What no item says; forgets all. Where the two differ in wording, their numbers agree."""
        heard = [one for same in self._heard.values() for one in same][self._said.total() :]
        self._heard.clear()
        self._said.clear()
        return heard


def squeezed(text: str | None) -> str:
    """A text without its white space."""
    return "".join((text or "").split())
