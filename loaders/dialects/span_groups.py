"""Which spans of a trace make a run: those of one agent, each model call once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from loaders.builder import Builder
from loaders.dialects.span_said import Message
from loaders.dialects.spans import Span

FIRST = datetime.min.replace(tzinfo=UTC)
"""When a span without a time is taken to have begun."""
_DEPTH = 200
_TOLD = ("model", "tool", "aside")


class Group(NamedTuple):
    agent: Span | None
    spans: list[Span]


def _ancestors(span: Span, by_id: dict[str, Span]) -> Iterable[Span]:
    seen = {span.id}
    while span.parent in by_id and span.parent not in seen and len(seen) < _DEPTH:
        span = by_id[span.parent]
        seen.add(span.id)
        yield span


def once_per_call(members: list[Span], out: Builder) -> list[Span]:
    """The spans of a trace, each model call once; calls that say nothing are left out."""
    by_id = {span.id: span for span in members}
    inner: dict[str, list[Span]] = defaultdict(list)
    for span in members:
        if span.kind == "model":
            outer = next((up for up in _ancestors(span, by_id) if up.kind == "model"), None)
            if outer is not None:
                inner[outer.id].append(span)
    dropped: set[str] = set()
    for identity, found in inner.items():
        outer = by_id[identity]
        if len(found) > 1:
            dropped.add(identity)
        else:
            outer.columns.update({k: v for k, v in found[0].columns.items() if v is not None})
            outer.reply = outer.reply or found[0].reply
            outer.request = outer.request or found[0].request
            outer.tools = outer.tools or found[0].tools
            dropped.add(found[0].id)
    kept: list[Span] = []
    open_call: Span | None = None
    for span in members:
        if span.id in dropped:
            continue
        if span.kind == "tool" and not _tells_of_tool(span):
            out.problem(span.pos, "a tool's span that says nothing", "warning")
            continue
        if span.kind == "model" and not _says_something(span):
            if span.reply and open_call is not None:
                open_call.reply, open_call = span.reply, None
            elif not span.reply:
                out.problem(span.pos, "a model call without input, output or usage", "warning")
            continue
        if span.kind == "model":
            open_call = None if span.reply else span
        kept.append(span)
    return kept


def _says_something(span: Span) -> bool:
    usage = [span.columns.get(key) for key in ("input_tokens", "output_tokens")]
    return span.request is not None or any(usage) or span.error is not None


def _tells_of_tool(span: Span) -> bool:
    known = (span.arguments, span.output, span.call_id, span.error)
    return any(fact is not None for fact in known) or not span.is_piece


def groups_of(spans: list[Span]) -> list[Group]:
    """Calls and tools by agent; an agent called again goes on if its request repeats a reply."""
    by_id = {span.id: span for span in spans}
    agent_of: dict[str, Span | None] = {}
    members: dict[str, list[Span]] = {}
    for span in spans:
        if span.kind == "model":
            agent = next((up for up in _ancestors(span, by_id) if up.kind == "agent"), None)
            identity = agent.id if agent else ""
            agent_of[identity] = agent
            members.setdefault(identity, []).append(span)
    _join_again(members, agent_of)
    if len(members) <= 1:
        agent = next(iter(agent_of.values()), None)
        return [Group(agent, [span for span in spans if span.kind in _TOLD])]
    home = {span.id: identity for identity, told in members.items() for span in told}
    for span in spans:
        if span.kind in ("tool", "aside"):
            ups = [up.id for up in _ancestors(span, by_id)]
            known = (home.get(up, up if up in members else None) for up in ups)
            place = next((name for name in known if name is not None), next(iter(members)))
            members[place].append(span)
    for told in members.values():
        told.sort(key=lambda span: span.started_at or FIRST)
    return [Group(agent_of[identity], told) for identity, told in members.items()]


def _join_again(members: dict[str, list[Span]], agent_of: dict[str, Span | None]) -> None:
    """Put together what an agent's spans divide: by a reply repeated, or a whole request."""
    if len(members) < 2:
        return
    known: dict[tuple[str | None, Hashable], str] = {}
    chains = _Chains()
    for identity in list(members):
        agent = agent_of[identity]
        name = agent.name if agent else None
        marks: list[Hashable] = []
        chain = 0
        for message in members[identity][0].request or []:
            if message.role == "assistant":
                marks.extend([chain, *message.said.keys])
            chain = chains.after(chain, message)
        home = next((known[name, mark] for mark in marks if (name, mark) in known), identity)
        if home != identity:
            members[home].extend(members.pop(identity))
        for span in members[home]:
            chain = 0
            for message in span.request or []:
                chain = chains.after(chain, message)
            known[name, chain] = home
            known.update({(name, key): home for said in span.reply for key in said.said.keys})


class _Chains:
    """Numbers for messages in their order: the same messages have the same number, no others."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str], int] = {}

    def after(self, chain: int, message: Message) -> int:
        """The number of a chain with one more message; that without any is 0."""
        return self._numbers.setdefault((chain, message.said.keys[0]), len(self._numbers) + 1)
