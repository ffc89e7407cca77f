"""Which spans of a trace make a run: those of one agent, each model call once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from loaders.builder import Builder
from loaders.dialects.span_messages import Message, as_value
from loaders.dialects.spans import Span
from loaders.dialects.wire import squeezed
from loaders.values import fingerprint, well_formed

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
    known: dict[tuple[str | None, str], str] = {}
    for identity in list(members):
        agent = agent_of[identity]
        name = agent.name if agent else None
        marks: list[str] = []
        chain = ""
        for message in members[identity][0].request or []:
            if message.role == "assistant":
                marks.extend([f"after {chain}", *keys_of(message)])
            chain = fingerprint(chain, *keys_of(message)[:1])
        home = next((known[name, mark] for mark in marks if (name, mark) in known), identity)
        if home != identity:
            members[home].extend(members.pop(identity))
        for span in members[home]:
            chain = ""
            for message in span.request or []:
                chain = fingerprint(chain, *keys_of(message)[:1])
            known[name, f"after {chain}"] = home
            known.update({(name, key): home for message in span.reply for key in keys_of(message)})


def keys_of(message: Message) -> list[str]:
    """What makes two writings of a message the same: the ids of its calls, or what it says."""
    calls = [part for part in message.parts if part.kind in ("call", "result")]
    ids = [part.call_id for part in calls if part.call_id]
    said = squeezed("".join(part.text or "" for part in message.parts if part.kind == "text"))
    media = [part.name or "" for part in message.parts if part.kind == "media"]
    acts = [f"{part.name}{squeezed(part.text)}{canonical(part.value)}" for part in calls]
    keys = [fingerprint(message.role, "ids", *ids)] if ids and len(ids) == len(calls) else []
    if message.role == "tool" and len(calls) == 1 and calls[0].text:
        return [*keys, fingerprint("tool", canonical(calls[0].text))]
    return [*keys, fingerprint(message.role, said, *media, "\0", *acts)]


def canonical(arguments: Any) -> str:
    """The same text for the same arguments; none, an empty text and ``{}`` are the same."""
    value = as_value(arguments)
    return msgspec.json.encode(well_formed(value or {}), order="deterministic").decode()
