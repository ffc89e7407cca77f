"""Traces of agents: spans of model calls, tools and agents, told as runs.

A run is a trace, or one agent's part of it where several agents call models. Requests repeat the
history: each message is told once, and what a request repeats is the call's context. What a
request holds beyond that (a reply of an earlier turn) becomes a step without usage. A model call
that is instrumented twice, one span inside the other, is one call: messages of the outer, usage of
the inner span. Some instrumentations leave reasoning out of the inputs that they record, so
``thinking_sent`` is known only if some request of the run shows thinking.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import is_
from typing import Any

from loaders.builder import Builder
from loaders.context import Range
from loaders.dialects.openai_chat import tool_definitions
from loaders.dialects.span_groups import FIRST, Group, groups_of, once_per_call
from loaders.dialects.span_said import Message, Part, Said, as_value
from loaders.dialects.spans import Span
from loaders.rows import Gathered
from loaders.run import Run
from loaders.values import as_json, is_array

Scores = Sequence[tuple[str, float | None, str | None]]
_PIECE = re.compile(r"\.(?:start|success|finish|error)-\d+$")
_NOWHERE = -1


def tell_traces(spans: Iterable[Span], out: Builder, scores: Scores = ()) -> list[Run]:
    """Tell every trace that holds model calls or tools; ``scores`` go to each run."""
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    runs: list[Run] = []
    for trace, members in traces.items():
        with out.record(members[0].pos):
            members.sort(key=lambda span: span.started_at or FIRST)
            for span in members:
                stem = _PIECE.sub("", span.name or "") or None
                span.is_piece, span.name = stem != (span.name or None), stem
            groups = groups_of(once_per_call(members, out))
            told = {span.id for group in groups for span in group.spans}
            around = [span for span in members if span.id not in told]
            for group in groups:
                if any(span.kind != "aside" for span in group.spans):
                    agent = group.agent.id if group.agent else ""
                    name = trace if len(groups) == 1 else f"{trace}/{agent}"
                    rest = _rest([*around, *group.spans])
                    runs.append(_Teller(out, name, group, members, rest).tell(scores))
    return runs


def _rest(spans: list[Span]) -> dict[str, Any]:
    """What spans say beside what has a place of its own."""
    seen = Gathered()
    for span in spans:
        for name, value in span.rest:
            seen.note(name, value)
    return seen.metadata()


def _changing(calls: list[Span]) -> dict[str, Any]:
    """Settings that differ between the calls of a run, whose ``params`` are those of the first."""
    seen = Gathered()
    for call in calls:
        seen.note("params_of_calls", call.params)
    found = seen.metadata()
    return found if is_array(found.get("params_of_calls")) else {}


def _are_the_same(some: list[Any], others: list[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


class _Teller:
    """Tells one run out of its spans, in the order in which they began."""

    def __init__(
        self,
        out: Builder,
        native_id: str,
        group: Group,
        trace: list[Span],
        rest: dict[str, Any],
    ) -> None:
        agent, spans = group
        self._spans = spans
        self._agent = agent
        self._calls = [span for span in spans if span.kind == "model"]
        root = next((span for span in trace if span.parent is None), trace[0])
        self._end = agent or root
        providers = {span.provider for span in self._calls if span.provider}
        costs = [span.cost_usd for span in spans if span.cost_usd is not None]
        self.run = out.trajectory(
            native_id=native_id,
            pos=(agent or root).pos,
            provider=providers.pop() if len(providers) == 1 else None,
            cost_usd=sum(costs) or None,
            params=next((span.params for span in self._calls if span.params), None),
            metadata={
                **_changing(self._calls),
                **rest,
                **root.metadata,
                **(agent.metadata if agent else {}),
                **spans[0].metadata,
            },
        )
        # Whether requests show thinking by their raw bodies (True), by their messages (False), or not.
        self._shows_thinking = {
            span.is_raw
            for span in self._calls
            for message in span.request or []
            if message.said.thoughts
        }
        self._told: list[tuple[int, int]] = []
        self._by_key: dict[str, list[int]] = defaultdict(list)
        self._thoughts: dict[int, list[tuple[int, Part]]] = {}
        self._waiting: dict[int, str | None] = {}  # calls without a result yet, with their ids
        self._by_id: dict[str, deque[int]] = defaultdict(deque)
        self._by_name: dict[str | None, deque[int]] = defaultdict(deque)
        self._free: dict[str | None, deque[int]] = defaultdict(deque)  # without a tool's span yet
        self._unclaimed: dict[str | None, deque[int]] = defaultdict(deque)
        self._silent_tools: dict[int, Span] = {}
        self._lacks_reply = False
        self._offered: list[Any] = []

    def tell(self, scores: Scores) -> Run:
        for span in self._spans:
            if span.kind == "model":
                self._tell_call(span)
            elif span.kind == "aside":
                self._tell_aside(span)
            else:
                self._tell_tool(span)
        for call, span in self._silent_tools.items():
            part = Part("result", None, "", span.name, span.call_id)
            self._tell_result(part, span.pos, call, span)
        end = self._end
        reason = None if end.error is None else end.error_type or end.error
        outcome = None if end.error is None else "error"
        self.run.outcome(outcome, end_reason=reason, scores=scores)
        return self.run

    def _tell_aside(self, span: Span) -> None:
        """A search, a guardrail or the like: what it put out, or was given."""
        started, ended = span.started_at, span.ended_at
        took = (ended - started).total_seconds() if started and ended else None
        text, pos = span.output, span.output_pos or span.pos
        if span.arguments not in (None, ""):
            said = {"input": as_value(span.arguments), "output": as_value(text)}
            text, pos = as_json(said if text else said["input"]), span.pos
        more: dict[str, Any] = {"at": started, "duration_s": took}
        self.run.event("other", text, pos, actor=span.name, error_type=span.aside, **more)

    # ------------------------------------------------------------------ model calls

    def _tell_call(self, span: Span) -> None:
        request = self._whole_replies(span.request or [])
        seen, sent = self._tell_request(self._new_in(request) if span.dropped else request)
        if span.tools and not _are_the_same(span.tools, self._offered):
            self.run.tools(tool_definitions(span.tools))
            self._offered = span.tools
        finishes = [said.finish for said, _ in span.reply if said.finish]
        columns = {"stop_reason": finishes[-1] if finishes else None, **span.columns}
        self.run.step(
            source_pos=span.pos,
            agent=self._agent.name if self._agent else None,
            started_at=span.started_at,
            ended_at=span.ended_at,
            error=span.error,
            **columns,
        )
        if span.request and not span.dropped:
            is_shown = False in self._shows_thinking or (span.is_raw and self._shows_thinking)
            known = sent if is_shown or span.omits_nothing else None
            self.run.saw(seen, known, "request")
        for message in span.reply:
            self._tell_message(Message(message.said.as_reply, message.at), span.ended_at)
        self._lacks_reply = not span.reply and span.error is None
        if span.error is not None:
            at = span.ended_at
            self.run.event("error", span.error, span.pos, error_type=span.error_type, at=at)

    def _tell_request(self, request: list[Message]) -> tuple[list[Range], set[int]]:
        """Tell what is new in a request; what it holds in all, and which thinking."""
        seen: list[Range] = []
        sent: set[int] = set()
        last = -1
        for message in request:
            said = message.said
            if not said.has_words:
                continue
            place = self._find(said, last)
            if place is None:
                if said.role == "assistant" and not self._lacks_reply:
                    self.run.step(source_pos=message.place_of(said.parts[0]))
                self._lacks_reply = False
                place = self._tell_message(message, None)
            last = max(last, place)
            start, stop = self._told[place]
            if seen and seen[-1][1] == start:
                seen[-1] = (seen[-1][0], stop)
            else:
                seen.append((start, stop))
            if thoughts := self._thoughts.get(place):
                texts = {part.text for part in said.thoughts if part.text}
                signs = {part.signature for part in said.thoughts if part.signature}
                for seq, thought in thoughts:
                    if thought.text in texts or thought.signature in signs:
                        sent.add(seq)
        return seen, sent

    def _whole_replies(self, request: list[Message]) -> list[Message]:
        """The request with replies put together that it divides into what they say and their calls."""
        whole: list[Message] = []
        for message in request:
            is_more = whole and message.said.role == "assistant" == whole[-1].said.role
            if is_more and self._find(whole[-1].said, _NOWHERE) is None:
                joined = whole[-1].joined(message)
                if self._find(joined.said, _NOWHERE) is not None:
                    whole[-1] = joined
                    continue
            whole.append(message)
        return whole

    def _new_in(self, request: list[Message]) -> list[Message]:
        """What follows the last known reply: in a request with holes, nothing else is new for sure."""
        known = (
            index
            for index in range(len(request) - 1, -1, -1)
            if request[index].role == "assistant"
            and self._find(request[index].said, _NOWHERE) is not None
        )
        return request[next(known, _NOWHERE) + 1 :]

    def _find(self, said: Said, last: int) -> int | None:
        for key in said.keys:
            places = self._by_key.get(key, [])
            after = bisect_right(places, last)
            if after < len(places):
                return places[after]
            if places and said.role == "system":
                return places[-1]
        if said.role == "tool":
            for name in {part.name for part in said.parts}:
                if self._unclaimed.get(name):
                    return self._unclaimed[name].popleft()
        return None

    def _tell_message(self, message: Message, at: datetime | None) -> int:
        start = self.run.seq
        thoughts: list[tuple[int, Part]] = []
        for part in message.parts:
            pos = message.place_of(part)
            if part.kind == "thinking":
                sign = part.signature
                seq = self.run.thinking(part.text, pos, state=part.state, signature=sign, at=at)
                thoughts.append((seq, part))
            elif part.kind == "call":
                self._tell_tool_call(part, pos, at)
            elif part.kind == "result":
                call = self._call_for(part.call_id, part.name)
                silent = self._silent_tools.pop(-1 if call is None else call, None)
                self._tell_result(part, pos, call, silent)
            elif part.kind != "definition":
                self._tell_text(message.said, part, pos, at)
        place = self._keep(start, message.said.keys)
        if thoughts:
            self._thoughts[place] = thoughts
        return place

    def _tell_text(self, said: Said, part: Part, pos: str, at: datetime | None) -> None:
        media = [part.name or "unknown"] if part.kind == "media" else None
        cut = True if part.value == "cut" else None
        more: dict[str, Any] = {"media": media, "at": at, "truncated": cut}
        if said.role == "assistant":
            self.run.message(part.text, pos, **more)
        elif said.role == "system":
            self.run.system(part.text, pos, **more)
        elif said.role == "user":
            self.run.user(part.text, pos, actor=said.name, **more)
        else:
            self.run.event("other", part.text, pos, actor=said.role, **more)

    def _keep(self, start: int, keys: list[str]) -> int:
        place = len(self._told)
        self._told.append((start, self.run.seq))
        for key in keys:
            self._by_key[key].append(place)
        return place

    # ------------------------------------------------------------------ tools

    def _tell_tool(self, span: Span) -> None:
        """A tool's span: the result of a call; with no such call, call and result."""
        call = self._call_for(span.call_id, span.name)
        is_end = span.is_piece and span.output is not None
        if call in self._silent_tools and is_end:
            span.started_at = self._silent_tools.pop(call).started_at
        elif call in self._silent_tools:  # it waits for what a request will show
            free = self._free[span.name]
            while free and (free[0] not in self._waiting or free[0] in self._silent_tools):
                free.popleft()
            call = free[0] if free else None
        if call is None:
            part = Part("call", None, "", span.name, span.call_id, span.arguments)
            call = self._tell_tool_call(part, span.pos, span.started_at)
        if span.output is None and span.error is None:
            self._silent_tools[call] = span
            return
        self._silent_tools.pop(call, None)
        call_id = self._waiting[call] or span.call_id
        text = span.error if span.output is None else span.output
        part = Part("result", text, "", span.name, call_id)
        start = self.run.seq
        self._tell_result(part, span.output_pos or span.pos, call, span)
        place = self._keep(start, Said("tool", [part]).keys)
        if call_id is None:
            self._unclaimed[span.name].append(place)

    def _tell_tool_call(self, part: Part, pos: str, at: datetime | None) -> int:
        seq = self.run.call(part.name, part.value, pos, call_id=part.call_id, at=at)
        self._waiting[seq] = part.call_id
        if part.call_id is not None:
            self._by_id[part.call_id].append(seq)
        for name in {part.name, None}:
            self._by_name[name].append(seq)
            self._free[name].append(seq)
        return seq

    def _call_for(self, call_id: str | None, name: str | None) -> int | None:
        """The waiting call that a result answers: by id, else the earliest of that name."""
        by_id = self._first_waiting(self._by_id[call_id]) if call_id is not None else None
        if by_id is not None:
            return by_id
        by_name = self._first_waiting(self._by_name[name])
        if by_name is None or (call_id is not None and self._waiting[by_name] is not None):
            return None
        return by_name

    def _first_waiting(self, calls: deque[int]) -> int | None:
        while calls and calls[0] not in self._waiting:
            calls.popleft()
        return calls[0] if calls else None

    def _tell_result(self, part: Part, pos: str, call: int | None, span: Span | None) -> None:
        if call is not None:
            self._waiting.pop(call, None)
        more: dict[str, Any] = {"is_error": part.value if isinstance(part.value, bool) else None}
        if span is not None:
            start, end = span.started_at, span.ended_at
            more["at"] = end
            more["duration_s"] = (end - start).total_seconds() if start and end else None
            if span.error is not None:
                more.update(is_error=True, error_type=span.error_type)
            elif span.is_ok:
                more["is_error"] = more["is_error"] or False
        self.run.result(part.text, pos, call_id=part.call_id, tool=part.name, answers=call, **more)
