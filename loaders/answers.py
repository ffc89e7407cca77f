"""Which call a tool's response answers: by its id, which may repeat, or by the order of calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Container


class Calls:
    """The tool calls of a run so far.

    ``unanswered`` those without a response, by ``seq``; ``by_id`` where an id does not repeat, the
    call's ``seq``, tool and step.
    """

    def __init__(self) -> None:
        self.unanswered: dict[int, str | None] = {}
        self.by_id: dict[str, tuple[int, str | None, int] | CallsOfOneId] = {}
        self._in_order: dict[str | None, deque[int]] | None = None

    def add(self, seq: int, tool: str | None, call_id: str | None, step: int) -> None:
        """One more call, in a step."""
        self.unanswered[seq] = tool
        if self._in_order is not None:
            _wait(self._in_order, seq, tool)
        if call_id is not None:
            one = (seq, tool, step)
            known = self.by_id.setdefault(call_id, one)
            if known is not one:  # seldom: an id that repeats
                if isinstance(known, tuple):
                    known = self.by_id[call_id] = CallsOfOneId(known)
                known.add(*one)

    def latest(self, call_id: str) -> int | None:
        """The ``seq`` of the latest call of that id; None where there is none."""
        known = self.by_id.get(call_id)
        return known.latest[0] if isinstance(known, CallsOfOneId) else known and known[0]

    def answered(
        self, call_id: str | None, tool: str | None, by_order: bool
    ) -> tuple[int | None, str | None]:
        """The call that a response answers, and its tool; None where there is none."""
        known = None if call_id is None else self.by_id.get(call_id)
        if known is not None:
            known = known if isinstance(known, tuple) else known.next_to_answer(self.unanswered)
            self.unanswered.pop(known[0], None)
            return known[0], tool or known[1]
        if by_order and self._in_order is None:  # most formats never ask for it
            self._in_order = {}
            for seq, name in self.unanswered.items():
                _wait(self._in_order, seq, name)
        waiting = self._in_order.get(tool) if by_order and self._in_order else None
        while waiting:
            seq = waiting.popleft()
            if seq in self.unanswered:
                return seq, self.unanswered.pop(seq)
        return None, tool


class CallsOfOneId:
    """Calls that share one id: ids may restart with each step, or repeat within one."""

    def __init__(self, first: tuple[int, str | None, int]) -> None:
        self.latest: tuple[int, str | None] = (0, None)
        self._by_step: list[tuple[int, deque[tuple[int, str | None]]]] = []
        self.add(*first)

    def add(self, seq: int, tool: str | None, step: int) -> None:
        self.latest = (seq, tool)
        if not self._by_step or self._by_step[-1][0] != step:
            self._by_step.append((step, deque()))
        self._by_step[-1][1].append(self.latest)

    def next_to_answer(self, unanswered: Container[int]) -> tuple[int, str | None]:
        """The earliest unanswered call of the latest step that has one, else the latest call."""
        while self._by_step:
            calls = self._by_step[-1][1]
            while calls:
                call = calls.popleft()
                if call[0] in unanswered:
                    return call
            self._by_step.pop()
        return self.latest


def _wait(in_order: dict[str | None, deque[int]], seq: int, tool: str | None) -> None:
    """Put a call into the queues of those that results may answer by their order."""
    for name in {tool, None}:
        in_order.setdefault(name, deque()).append(seq)
