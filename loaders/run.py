"""One run while a format tells it, event by event: numbering, links, thinking, token sums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from loaders.answers import Calls
from loaders.context import Range, merge, thinking_ranges
from loaders.redact import redact_text
from loaders.schema import TRAJECTORIES
from loaders.steps import (
    TOKENS,
    HandedOver,
    Step,
    are_plausible,
    finish,
    negative_counts,
    parts_above_the_whole,
    times_of,
    token_counts,
    with_states,
)
from loaders.values import as_json, fingerprint
from loaders.whole_runs import Rows, WholeRun

if TYPE_CHECKING:
    from loaders.builder import Builder

# Where one call has several blocks, the step is named after the one that tells most.
_TELLS = {"redacted": 0, "hidden": 1, "summary": 2, "tagged_in_text": 3, "text": 4}
_OUTCOME_OF_SUCCESS = {True: "success", False: "failure", None: "unknown"}
# A row begins as a copy of this, which is the fastest way to a dict of many keys.
_EMPTY_RUN: Final = dict[str, Any](dict.fromkeys(TRAJECTORIES))
_AS_OFFERED: Final = ""
"""Stands for the toolset that was told last."""

PIECES_AT_ONCE: Final = 20
"""Few: joined they still fit the cache, and the small ones are spared most of the overhead."""
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
        self._add_row: Callable[[tuple[Any, ...]], None] = self._rows.append
        self._rows_per_chunk = builder.rows_per_chunk
        self.index = index
        self.columns = _EMPTY_RUN.copy()
        self.seq = 0
        """The number that the next event gets."""
        self.steps: list[Step] = []
        """The model calls; but for those ``handed_over``, whose numbers come before."""
        self.handed_over = HandedOver()
        self.closed = False
        self.thinking_seqs: list[int] = []
        self.calls = Calls()
        self.offered: str | None = None
        """The toolset that was told last."""
        self.responses: list[str] = []
        """What is still to be taken into the hash of the tools' responses."""
        self._step: int | None = None
        self._steps_in_rows = self._unanswered_in_rows = 0
        self._orphans = 0
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._hash_of_responses = hashlib.sha256()
        self._has_responses = False
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
        toolset = self._builder.toolset(definitions)
        self.offers(toolset)
        return toolset

    def offers(self, toolset: str) -> None:
        """The same as ``tools``, which gave this fingerprint for these definitions before."""
        self.offered = toolset
        self.columns["toolset"] = self.columns["toolset"] or toolset

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

    def step(
        self,
        *,
        agent: Any = None,
        model: Any = None,
        started_at: Any = None,
        ended_at: Any = None,
        input_tokens: Any = None,
        output_tokens: Any = None,
        reasoning_tokens: Any = None,
        cached_tokens: Any = None,
        stop_reason: Any = None,
        error: Any = None,
        thinking: Any = None,
        history_edit: Any = None,
        toolset: Any = _AS_OFFERED,
        source_pos: Any = None,
    ) -> int:
        """A model call begins; what it emits comes next. Takes columns of the steps table."""
        if self.closed:
            raise RuntimeError(_IS_CLOSED)
        number = self._step = self.handed_over.count + len(self.steps)
        offered = self.offered if toolset == _AS_OFFERED else toolset
        self.steps.append(Step(
            self.index, number, self.seq, agent, model, started_at, ended_at, input_tokens,
            output_tokens, reasoning_tokens, cached_tokens, stop_reason, error, thinking, 0,
            len(self.thinking_seqs), None, None, history_edit, None, None, offered, source_pos,
        ))  # fmt: skip
        if len(self._rows) >= self._rows_per_chunk:
            self._builder.flush_events()
        return number

    def hand_over_steps(self) -> None:
        """Let go of all steps but the latest: nothing of them changes any more."""
        done = self.steps[:-1]
        self._finish_steps(done)
        self.handed_over.add(done)
        self._builder.add_steps(done)
        del self.steps[:-1]

    def update_step(self, number: int = -1, **columns: Any) -> None:
        """Set columns of a step, by default the latest."""
        step = self.steps[number if number < 0 else number - self.handed_over.count]
        for name, value in columns.items():
            setattr(step, name, value)

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
        earlier = self.thinking_seqs[: row.thinking_available]
        row.evidence = evidence
        if context is not None:
            before = [(max(0, a), min(b, row.seq)) for a, b in context]
            row.context = [{"start": a, "stop": b} for a, b in merge(before)]
        if thinking is not None:
            sent = thinking.intersection(earlier)
            row.thinking_sent = len(sent)
            row.thinking_context = [
                {"start": a, "stop": b} for a, b in thinking_ranges(earlier, sent)
            ]
            if history_edit is None:
                history_edit = "thinking_dropped" if len(sent) < len(earlier) else "none"
        row.history_edit = history_edit

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
        return self._tell(
            kind, actor, text, state, signature, tool, call_id, call_seq, arguments, is_error,
            error_type, exit_code, truncated, at, duration_s, media, injected, pos,
        )  # fmt: skip

    def _tell(  # noqa: PLR0917
        self,
        kind: str,
        actor: str | None,
        text: str | None,
        state: str | None,
        signature: str | None,
        tool: str | None,
        call_id: str | None,
        call_seq: int | None,
        arguments: str | None,
        is_error: bool | None,
        error_type: str | None,
        exit_code: int | None,
        truncated: bool | None,
        at: datetime | None,
        duration_s: float | None,
        media: Sequence[str] | None,
        injected: str | None,
        pos: str | None,
    ) -> int:
        """A row of the events; by position, for keywords would take as long as all the rest."""
        if at is not None:
            if self._last_at is None or self._first_at is None:
                self._first_at = self._last_at = at
            elif at > self._last_at:
                self._last_at = at
            elif at < self._first_at:
                self._first_at = at
        seq = self.seq
        self._add_row((
            self.index, seq, self._step, kind, actor, text, state, signature, tool, call_id,
            call_seq, arguments, is_error, error_type, exit_code, truncated, at, duration_s,
            media, injected, pos,
        ))  # fmt: skip
        self.seq = seq + 1
        return seq

    def _tell_text(  # noqa: PLR0917
        self,
        kind: str,
        text: str | None,
        pos: str | None,
        actor: str | None,
        media: Sequence[str] | None,
        at: datetime | None,
        more: dict[str, Any],
    ) -> int:
        if more:  # seldom
            return self.event(kind, text, pos, actor=actor, media=media, at=at, **more)
        return self._tell(
            kind, actor, text, None, None, None, None, None, None, None, None, None, None, at, None,
            media, None, pos,
        )  # fmt: skip

    def tell_rows(self, rows: Rows) -> None:
        """All events and model calls of a run of which nothing has been told before."""
        self.seq, self._steps_in_rows = len(rows.events), len(rows.steps)
        self._unanswered_in_rows = rows.calls - len(rows.answered)
        self._orphans, self.responses = rows.orphans, rows.responses
        self._system, self._user = rows.system, rows.user
        steps = with_states(rows.steps, self._builder.logs_thinking)
        self._builder.add_rows(self.index, rows.events, steps, self.offered)

    def tell_whole(self, told: WholeRun) -> None:
        """All of a run of which nothing has been told before; its times are known."""
        self.seq, self.steps, self.thinking_seqs = told.count, told.steps, told.thinking
        self._unanswered_in_rows = told.unanswered
        self._system, self._user = told.system, told.user
        for start in range(0, len(told.responses), PIECES_AT_ONCE):
            self.responses = told.responses[start : start + PIECES_AT_ONCE]
            self.take_in_responses()
        self._rows += told.events

    def system(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        actor: str | None = None,
        media: Sequence[str] | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> int:
        """A system or developer prompt."""
        if self._system is None and text:
            self._system = text
        return self._tell_text("system", text, pos, actor, media, at, more)

    def user(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        actor: str | None = None,
        media: Sequence[str] | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> int:
        """A user turn."""
        if self._user is None and text:
            self._user = text
        return self._tell_text("user", text, pos, actor, media, at, more)

    def thinking(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        state: str = "text",
        signature: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> int:
        """A thinking block of the latest call.

        ``state``: ``text``; ``summary`` written by the provider instead of it; ``hidden`` emitted
        but not shown (empty with a signature, encrypted); ``redacted`` by the provider;
        ``tagged_in_text`` in think tags inside the reply.
        """
        if self.steps:
            step = self.steps[-1]
            if state != step.thinking and _TELLS[state] > _TELLS.get(step.thinking or "", -1):
                step.thinking = state
            step.thinking_chars = (step.thinking_chars or 0) + len(text or "")
        self.thinking_seqs.append(self.seq)
        if more:  # seldom
            words = {"state": state, "signature": signature, "actor": actor, "at": at}
            return self.event("thinking", text, pos, **words, **more)
        return self._tell(
            "thinking", actor, text, state, signature, None, None, None, None, None, None, None,
            None, at, None, None, None, pos,
        )  # fmt: skip

    def message(
        self,
        text: str | None,
        pos: str | None = None,
        *,
        actor: str | None = None,
        media: Sequence[str] | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> int:
        """Visible text of the model."""
        return self._tell_text("message", text, pos, actor, media, at, more)

    def call(
        self,
        tool: str | None,
        arguments: Any,
        pos: str | None = None,
        *,
        call_id: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> int:
        """A tool call; ``arguments`` as JSON text or any decoded value."""
        if arguments is not None and not isinstance(arguments, str):
            arguments = as_json(arguments)
        if more:  # seldom
            words = {"tool": tool, "call_id": call_id, "arguments": arguments}
            seq = self.event("tool_call", None, pos, actor=actor, at=at, **words, **more)
        else:
            seq = self._tell(
                "tool_call", actor, None, None, None, tool, call_id, None, arguments, None, None,
                None, None, at, None, None, None, pos,
            )  # fmt: skip
        self.calls.add(seq, tool, call_id, self.handed_over.count + len(self.steps))
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
        actor: str | None = None,
        is_error: bool | None = None,
        error_type: str | None = None,
        exit_code: int | None = None,
        truncated: bool | None = None,
        at: datetime | None = None,
        duration_s: float | None = None,
        media: Sequence[str] | None = None,
        injected: str | None = None,
    ) -> int:
        """A tool's response.

        Linked to its call by ``answers``, the call's ``seq``, where the format knows it; else by
        ``call_id`` (where an id repeats: the earliest unanswered call of the latest step that has
        one, for ids that restart; else the latest), or with ``by_order`` to the earliest unanswered
        call (of that ``tool``, if given). Without any of these it is an orphan and counted as one.
        """
        if answers is not None:
            call_seq, tool = answers, tool or self.calls.unanswered.get(answers)
            self.calls.unanswered.pop(answers, None)
        else:
            call_seq, tool = self.calls.answered(call_id, tool, by_order)
        if call_seq is None:
            self._orphans += 1
        self.identify(tool, text, is_error)
        return self._tell(
            "tool_result", actor, text, None, None, tool, call_id, call_seq, None, is_error,
            error_type, exit_code, truncated, at, duration_s, media, injected, pos,
        )  # fmt: skip

    def told_elsewhere(self) -> None:
        """The format has added steps, or moved ``seq`` on by rows of events, itself."""
        self._step = self.handed_over.count + len(self.steps) - 1 if self.steps else None

    def lasted(self, times: Iterable[datetime | None]) -> None:
        """When events happened that the format gathered itself."""
        known = [at for at in (self._first_at, self._last_at, *times) if at is not None]
        if known:
            self._first_at, self._last_at = min(known), max(known)

    def identify(self, tool: str | None, text: str | None, is_error: bool | None) -> None:
        """Let a response count in what tells apart what the tools answered."""
        self.responses += response_pieces(tool, text, is_error)
        if len(self.responses) > PIECES_AT_ONCE:
            self.take_in_responses()

    def take_in_responses(self) -> None:
        """Many small pieces at once: one by one each would cost as much as a long one."""
        pieces = "".join(self.responses).encode("utf-8", "surrogatepass")
        self._hash_of_responses.update(pieces)
        self.responses.clear()
        self._has_responses = True

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
        self.closed, self._add_row = True, _refuse
        try:
            self._derive_columns()
        finally:
            self._builder.finish(self)

    def _derive_columns(self) -> None:
        columns, before = self.columns, self.handed_over
        for name in TOKENS:
            number = columns[name]
            if number and number < 0:
                self.problem(columns["source_pos"], f"{name}: {number} is no count")
                columns[name] = None
        self._finish_steps(self.steps)
        for pos, reason in (*before.no_counts, *before.too_large):
            self.problem(pos, reason)
        columns["outcome"] = columns["outcome"] or "unknown"
        columns["steps"] = before.count + len(self.steps) + self._steps_in_rows
        columns["events"] = self.seq
        columns["unanswered_calls"] = len(self.calls.unanswered) + self._unanswered_in_rows
        columns["orphan_results"] = self._orphans
        for name, numbers in token_counts(self.steps).items():
            known = [*numbers, before.tokens[name]] if name in before.tokens else numbers
            columns[name] = sum(known) if known else columns[name]
        columns["system_prompt"] = fingerprint(self._system) if self._system else None
        columns["user_prompt"] = fingerprint(self._user) if self._user else None
        if self._environment:
            columns["environment"] = fingerprint(as_json(sorted(self._environment.items())) or "")
        if self.responses:
            self.take_in_responses()
        if self._has_responses:
            columns["tool_responses"] = self._hash_of_responses.hexdigest()[:16]
        for name in ("params", "metadata"):
            value, columns[name] = columns[name], None
            columns[name] = self._builder.redacted_json(value, columns["source_pos"])
        if columns["model"] is None:
            models = before.models.union(step.model for step in self.steps if step.model)
            columns["model"] = models.pop() if len(models) == 1 else None
        if columns["started_at"] is None or columns["ended_at"] is None:
            times = [t for t in (self._first_at, self._last_at) if t]
            times += [*before.times, *times_of(self.steps)]
            columns["started_at"] = columns["started_at"] or min(times, default=None)
            columns["ended_at"] = columns["ended_at"] or max(times, default=None)

    def _finish_steps(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        doubts = self.handed_over.no_counts, self.handed_over.too_large
        look = () if are_plausible(steps) else (negative_counts, parts_above_the_whole)
        for impossible, told in zip(look, doubts, strict=False):
            for step, name, reason in impossible(steps):
                told.append((step.source_pos, reason))
                setattr(step, name, None)
        finish(steps, self._builder.logs_thinking, bool(self.thinking_seqs))


def response_pieces(
    tool: str | None, text: str | None, is_error: bool | None
) -> tuple[str, str, str, str, str]:
    """What identifies a tool's response."""
    return (str(tool), "\0", str(text), "\0", str(is_error))


def _refuse(_: object) -> None:
    raise RuntimeError(_IS_CLOSED)
