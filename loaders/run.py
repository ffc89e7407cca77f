"""One run while a format tells it, event by event: numbering, links, thinking, token sums."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import deque
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from loaders.context import Range, merge, thinking_ranges
from loaders.redact import redact_text
from loaders.schema import STEPS, TRAJECTORIES
from loaders.values import as_json, fingerprint

if TYPE_CHECKING:
    from loaders.builder import Builder

# Where one call has several blocks, the step is named after the one that tells most.
_TELLS = {"redacted": 0, "hidden": 1, "summary": 2, "tagged_in_text": 3, "text": 4}
_TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
_PARTS_OF_TOKENS: Final = (
    ("cached_tokens", "input_tokens"),
    ("reasoning_tokens", "output_tokens"),
)
_OUTCOME_OF_SUCCESS = {True: "success", False: "failure", None: "unknown"}
# Rows begin as a copy of these, which is the fastest way to a dict of many keys.
_EMPTY_RUN: Final = dict[str, Any](dict.fromkeys(TRAJECTORIES))
_EMPTY_STEP: Final = dict[str, Any](dict.fromkeys(STEPS), thinking_chars=0)

_IS_CLOSED: Final = "this run is closed: another one began, and runs do not interleave"


class Run:
    """The run that a format is telling. Made by ``Builder.trajectory``, ended by ``close``.

    Call its methods in the order in which things happened. ``pos`` is the raw record's place, as
    described at ``loaders.schema.EVENTS``. Each event method returns the event's ``seq``. A run is
    closed when the next one begins: tell a subagent's run before or after its parent's, not within.
    """

    def __init__(self, builder: Builder, index: int, columns: dict[str, Any]) -> None:
        self._builder = builder
        self._rows = builder.event_rows
        self._rows_per_chunk = builder.rows_per_chunk
        self.index = index
        self.columns = _EMPTY_RUN.copy()
        self.seq = 0
        """The number that the next event gets."""
        self.steps: list[dict[str, Any]] = []
        self.closed = False
        self.thinking_seqs: list[int] = []
        self._thinking_before_step: list[int] = []
        self._calls: dict[str, tuple[int, str | None, int] | _CallsOfOneId] = {}
        self._unanswered: dict[int, str | None] = {}
        self._in_order: dict[str | None, deque[int]] | None = None
        self._orphans = 0
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._toolset: str | None = None
        self._responses: Any = None
        self._system: str | None = None
        self._user: str | None = None
        self._environment: dict[str, Any] = {}
        self.set(**columns)

    # ------------------------------------------------------------------ what is known of the run

    def set(self, **columns: Any) -> None:
        """Set columns of the trajectories table; ``params`` and ``metadata`` take any JSON value."""
        self.columns.update(columns)
        if len(self.columns) > len(_EMPTY_RUN):
            unknown = sorted(columns.keys() - _EMPTY_RUN.keys())
            for name in unknown:
                del self.columns[name]
            raise TypeError(f"no such trajectory columns: {unknown}")

    def environment(self, **facts: Any) -> None:
        """Facts of the environment axis: working folder, sandbox, image, platform; None is skipped."""
        self._environment.update({key: fact for key, fact in facts.items() if fact is not None})

    def tools(self, definitions: Iterable[tuple[str | None, str | None, Any]]) -> str:
        """Definitions on offer from the next model call on: (name, description, parameters).

        Returns the fingerprint of the whole offer, which does not depend on its order.
        """
        self._toolset = self._builder.toolset(definitions)
        self.columns["toolset"] = self.columns["toolset"] or self._toolset
        return self._toolset

    def spawned(self, child_native_id: str, seq: int) -> None:
        """Event ``seq`` of this run started the subagent whose ``native_id`` is given."""
        self._builder.spawn_rows.append((self.index, seq, child_native_id, self._builder.format))

    def started_by(self, parent_native_id: str, call_id: str | None = None) -> None:
        """Name the run that started this one, a subagent's, and the id of the call that did."""
        row = (self.index, parent_native_id, call_id, self._builder.format)
        self._builder.caller_rows.append(row)

    def problem(self, pos: str | None, reason: str, severity: str = "warning") -> None:
        """Something of this run was read with doubt, or not at all."""
        self._builder.problem(pos, reason, severity, self.columns["trajectory_id"])

    # ------------------------------------------------------------------ model calls

    def step(self, **columns: Any) -> int:
        """A model call begins; what it emits comes next. Takes columns of the steps table."""
        if self.closed:
            raise RuntimeError(_IS_CLOSED)
        number = len(self.steps)
        row = _EMPTY_STEP.copy()
        row["step"], row["seq"], row["toolset"] = number, self.seq, self._toolset
        self.steps.append(row)
        self._thinking_before_step.append(len(self.thinking_seqs))
        if columns:
            row.update(columns)
            if len(row) > len(_EMPTY_STEP):
                _refuse_unknown(row)
        if len(self._rows) >= self._rows_per_chunk:
            self._builder.flush_events()
        return number

    def update_step(self, number: int = -1, **columns: Any) -> None:
        """Set columns of a step, by default the latest."""
        row = self.steps[number]
        row.update(columns)
        if len(row) > len(_EMPTY_STEP):
            _refuse_unknown(row)

    def saw(
        self,
        context: Iterable[Range] | None,
        thinking: set[int] | None,
        evidence: str,
        history_edit: str | None = None,
        step: int = -1,
    ) -> None:
        """What a model call had before it, by default the latest.

        ``context`` half-open ranges of ``seq`` (None: unknown); ``thinking`` the ``seq`` of the
        earlier thinking events found in its request (None: unknown); ``evidence`` wire, request or
        tokens. ``history_edit`` is derived where not given: thinking_dropped if any is missing.
        """
        row = self.steps[step]
        earlier = self.thinking_seqs[: self._thinking_before_step[step]]
        row["evidence"] = evidence
        if context is not None:
            before = ((max(0, a), min(b, row["seq"])) for a, b in context)
            row["context"] = [{"start": a, "stop": b} for a, b in merge(before)]
        if thinking is not None:
            sent = {seq for seq in thinking if earlier and seq <= earlier[-1]}
            sent = {seq for seq in sent if earlier[bisect_left(earlier, seq)] == seq}
            row["thinking_sent"] = len(sent)
            row["thinking_context"] = [
                {"start": a, "stop": b} for a, b in thinking_ranges(earlier, sent)
            ]
            if history_edit is None:
                history_edit = "thinking_dropped" if len(sent) < len(earlier) else "none"
        row["history_edit"] = history_edit

    # ------------------------------------------------------------------ events

    def event(
        self,
        kind: str,
        text: str | None = None,
        pos: str | None = None,
        *,
        actor: str | None = None,
        state: str | None = None,
        signature: str | None = None,
        tool: str | None = None,
        call_id: str | None = None,
        call_seq: int | None = None,
        arguments: str | None = None,
        is_error: bool | None = None,
        error_type: str | None = None,
        exit_code: int | None = None,
        truncated: bool | None = None,
        at: datetime | None = None,
        duration_s: float | None = None,
        media: Sequence[str] | None = None,
        injected: str | None = None,
    ) -> int:
        """Any event; the methods below do more for their kinds and are what formats mostly call."""
        if self.closed:
            raise RuntimeError(_IS_CLOSED)
        if at is not None:
            if self._last_at is None or self._first_at is None:
                self._first_at = self._last_at = at
            elif at > self._last_at:
                self._last_at = at
            elif at < self._first_at:
                self._first_at = at
        seq = self.seq
        self._rows.append(
            (
                self.index,
                seq,
                len(self.steps) - 1 if self.steps else None,
                kind,
                actor,
                text,
                state,
                signature,
                tool,
                call_id,
                call_seq,
                arguments,
                is_error,
                error_type,
                exit_code,
                truncated,
                at,
                duration_s,
                media,
                injected,
                pos,
            )
        )
        self.seq = seq + 1
        return seq

    def system(self, text: str | None, pos: str | None = None, **more: Any) -> int:
        """A system or developer prompt."""
        if self._system is None and text:
            self._system = text
        return self.event("system", text, pos, **more)

    def user(self, text: str | None, pos: str | None = None, **more: Any) -> int:
        """A user turn."""
        if self._user is None and text:
            self._user = text
        return self.event("user", text, pos, **more)

    def thinking(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        state: str = "text",
        signature: str | None = None,
        **more: Any,
    ) -> int:
        """A thinking block of the latest call.

        ``state``: ``text``; ``summary`` written by the provider instead of it; ``hidden`` emitted
        but not shown (empty with a signature, encrypted); ``redacted`` by the provider;
        ``tagged_in_text`` in think tags inside the reply.
        """
        if self.steps:
            row = self.steps[-1]
            known = row["thinking"]
            if _TELLS[state] > _TELLS.get(known, -1):
                row["thinking"] = state
            row["thinking_chars"] += len(text or "")
        self.thinking_seqs.append(self.seq)
        return self.event("thinking", text, pos, state=state, signature=signature, **more)

    def message(self, text: str | None, pos: str | None = None, **more: Any) -> int:
        """Visible text of the model."""
        return self.event("message", text, pos, **more)

    def call(
        self,
        tool: str | None,
        arguments: Any,
        pos: str | None = None,
        *,
        call_id: str | None = None,
        **more: Any,
    ) -> int:
        """A tool call; ``arguments`` as JSON text or any decoded value."""
        if arguments is not None and not isinstance(arguments, str):
            arguments = as_json(arguments)
        seq = self.event(
            "tool_call", None, pos, tool=tool, call_id=call_id, arguments=arguments, **more
        )
        self._unanswered[seq] = tool
        if self._in_order is not None:
            _wait(self._in_order, seq, tool)
        if call_id is not None:
            one = (seq, tool, len(self.steps))
            known = self._calls.setdefault(call_id, one)
            if known is not one:  # seldom: an id that repeats
                if isinstance(known, tuple):
                    known = self._calls[call_id] = _CallsOfOneId(known)
                known.add(*one)
        return seq

    def result(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        call_id: str | None = None,
        tool: str | None = None,
        by_order: bool = False,
        answers: int | None = None,
        is_error: bool | None = None,
        **more: Any,
    ) -> int:
        """A tool's response.

        Linked to its call by ``answers``, the call's ``seq``, where the format knows it; else by
        ``call_id`` (where an id repeats: the earliest unanswered call of the latest step that has
        one, for ids that restart; else the latest), or with ``by_order`` to the earliest unanswered
        call (of that ``tool``, if given). Without any of these it is an orphan and counted as one.
        """
        if answers is not None:
            call_seq, tool = answers, tool or self._unanswered.get(answers)
            self._unanswered.pop(answers, None)
        else:
            call_seq, tool = self._answered(call_id, tool, by_order)
        if call_seq is None:
            self._orphans += 1
        if self._responses is None:
            self._responses = hashlib.blake2b(digest_size=8)
        self._responses.update(f"{tool}\0".encode("utf-8", "surrogatepass"))
        self._responses.update(str(text).encode("utf-8", "surrogatepass"))
        self._responses.update(f"\0{is_error}".encode())
        return self.event(
            "tool_result",
            text,
            pos,
            tool=tool,
            call_id=call_id,
            call_seq=call_seq,
            is_error=is_error,
            **more,
        )

    def _answered(
        self, call_id: str | None, tool: str | None, by_order: bool
    ) -> tuple[int | None, str | None]:
        known = None if call_id is None else self._calls.get(call_id)
        if known is not None:
            if isinstance(known, tuple):
                seq, name = known[0], known[1]
            else:
                seq, name = known.next_to_answer(self._unanswered)
            self._unanswered.pop(seq, None)
            return seq, tool or name
        if by_order and self._in_order is None:  # most formats never ask for it
            self._in_order = {}
            for seq, name in self._unanswered.items():
                _wait(self._in_order, seq, name)
        waiting = self._in_order.get(tool) if by_order and self._in_order else None
        while waiting:
            seq = waiting.popleft()
            if seq in self._unanswered:
                return seq, self._unanswered.pop(seq)
        return None, tool

    # ------------------------------------------------------------------ the end

    def outcome(
        self,
        outcome: str | None = None,
        *,
        success: bool | None = None,
        score: float | None = None,
        end_reason: str | None = None,
        scores: Iterable[tuple[str, float | None, str | None]] = (),
    ) -> None:
        """How the run ended. ``outcome`` is derived from ``success`` where not given.

        ``scores``: (name, value where it is a number, text as logged).
        """
        self.set(
            outcome=outcome or _OUTCOME_OF_SUCCESS[success],
            success=success,
            score=score,
            end_reason=end_reason,
            scores=[
                {"name": n, "value": v, "raw": r if r is None else redact_text(str(r))[0]}
                for n, v, r in scores
            ]
            or None,
        )

    def close(self) -> None:
        """Finish the run's rows; what the format did not set is derived from the events, or null."""
        if self.closed:
            return
        self.closed = True
        try:
            self._derive_columns()
        finally:
            self._builder.finish(self)

    def _derive_columns(self) -> None:
        self._drop_impossible_counts()
        self._finish_steps()
        columns = self.columns
        columns["outcome"] = columns["outcome"] or "unknown"
        columns["steps"], columns["events"] = len(self.steps), self.seq
        columns["unanswered_calls"] = len(self._unanswered)
        columns["orphan_results"] = self._orphans
        for name in _TOKENS:
            known = [number for row in self.steps if (number := row[name]) is not None]
            columns[name] = sum(known) if known else columns[name]
        columns["system_prompt"] = fingerprint(self._system) if self._system else None
        columns["user_prompt"] = fingerprint(self._user) if self._user else None
        if self._environment:
            columns["environment"] = fingerprint(as_json(sorted(self._environment.items())) or "")
        columns["tool_responses"] = self._responses.hexdigest() if self._responses else None
        for name in ("params", "metadata"):
            value, columns[name] = columns[name], None
            columns[name] = self._builder.redacted_json(value, columns["source_pos"])
        models = {row["model"] for row in self.steps if row["model"]}
        if columns["model"] is None and len(models) == 1:
            columns["model"] = models.pop()
        times = [t for t in (self._first_at, self._last_at) if t]
        times += [t for row in self.steps if (t := row["started_at"])]
        times += [t for row in self.steps if (t := row["ended_at"])]
        columns["started_at"] = columns["started_at"] or min(times, default=None)
        columns["ended_at"] = columns["ended_at"] or max(times, default=None)

    def _drop_impossible_counts(self) -> None:
        """A count below zero is none, and a part of a call's tokens is not more than the whole."""
        for row in (self.columns, *self.steps):
            for name in _TOKENS:
                number = row[name]
                if number and number < 0:
                    self.problem(row["source_pos"], f"{name}: {number} is no count")
                    row[name] = None
        for row in self.steps:
            for part, whole in _PARTS_OF_TOKENS:
                if row[part] and row[whole] is not None and row[part] > row[whole]:
                    reason = f"{part}: {row[part]} is more than {whole}: {row[whole]}"
                    self.problem(row["source_pos"], reason)
                    row[part] = None

    def _finish_steps(self) -> None:
        logs_thinking = self._builder.logs_thinking
        shows_some = bool(self.thinking_seqs)
        counts = shows_some or logs_thinking == "always"
        for row, available in zip(self.steps, self._thinking_before_step, strict=True):
            state = row["thinking"]
            if state is None:
                tokens = row["reasoning_tokens"]
                state = row["thinking"] = _state_of_no_thinking(logs_thinking, shows_some, tokens)
            if counts:
                row["thinking_available"] = available
            if state is None or state == "not_logged":
                row["thinking_chars"] = None
            if row["evidence"] is None:
                row["evidence"] = "unknown"


class _CallsOfOneId:
    """Calls that share one id: ids may restart with each step, or repeat within one."""

    def __init__(self, first: tuple[int, str | None, int]) -> None:
        self._latest: tuple[int, str | None] = (0, None)
        self._by_step: list[tuple[int, deque[tuple[int, str | None]]]] = []
        self.add(*first)

    def add(self, seq: int, tool: str | None, step: int) -> None:
        self._latest = (seq, tool)
        if not self._by_step or self._by_step[-1][0] != step:
            self._by_step.append((step, deque()))
        self._by_step[-1][1].append(self._latest)

    def next_to_answer(self, unanswered: Container[int]) -> tuple[int, str | None]:
        """The earliest unanswered call of the latest step that has one, else the latest call."""
        while self._by_step:
            calls = self._by_step[-1][1]
            while calls:
                call = calls.popleft()
                if call[0] in unanswered:
                    return call
            self._by_step.pop()
        return self._latest


def _wait(in_order: dict[str | None, deque[int]], seq: int, tool: str | None) -> None:
    """Put a call into the queues of those that results may answer by their order."""
    for name in {tool, None}:
        in_order.setdefault(name, deque()).append(seq)


def _refuse_unknown(row: dict[str, Any]) -> None:
    unknown = sorted(row.keys() - _EMPTY_STEP.keys())
    for name in unknown:
        del row[name]
    raise TypeError(f"no such step columns: {unknown}")


def _state_of_no_thinking(
    logs_thinking: str, shows_some: bool, reasoning_tokens: int | None
) -> str | None:
    if reasoning_tokens:
        return "not_logged"
    if logs_thinking == "never":
        return "not_logged"
    if logs_thinking == "always" or shows_some or reasoning_tokens == 0:
        return "absent"
    return None
