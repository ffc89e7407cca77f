"""AutoGen's saved states: a team's thread, and what each agent's model was given of it.

The state of a team holds the same conversation several times: the manager's thread with tokens and
times, and for each agent the messages that went into its model context. ``woven`` puts them together:
the thread, and where it lacks something that a context has (memory, messages given at the start; with
older versions all calls), that too, behind the last message that both have.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

from loaders.values import Object, as_array, as_json, as_object, as_text, is_array, is_object

_OF_A_TEAM = ("agent_states", "type", "version", "team_id")
_OF_AN_AGENT = ("agent_state", "message_buffer", "type", "version")
_OF_A_STATE = ("llm_context", "inner_team_state", "type", "version")


class Item(NamedTuple):
    """A message and its place in the log."""

    message: Any
    pos: str


class Context(NamedTuple):
    """The messages of one agent's model context."""

    agent: str | None
    items: list[Item]


class State(NamedTuple):
    """A state of a team or of one agent, taken apart; ``teams`` inner teams by their agent's name."""

    thread: list[Item]
    contexts: list[Context]
    teams: list[tuple[str, Object, str]]
    rest: Object


def is_state(value: Any) -> bool:
    """Whether a value is a state that ``save_state`` gives, as far as a cut head shows it."""
    value = as_object(value)
    if any(is_object(value.get(key)) for key in ("agent_states", "llm_context")):
        return True
    is_named = (as_text(value.get("type")) or "").endswith("State") and "version" in value
    return is_named and (is_array(value.get("message_thread")) or value.keys() <= set(_OF_A_STATE))


def taken_apart(state: Object, pos: str) -> State:
    """The thread and the contexts of a state, and what else it holds."""
    found = State([], [], [], {})
    if not is_object(state.get("agent_states")):
        found.rest.update(_add_agent(found, None, state, pos))
        return found
    agents: Object = {}
    for key, holder in state["agent_states"].items():
        place = f"{pos}/agent_states/{_escaped(key)}"
        holder, name = as_object(holder), key.partition("/")[0]
        if is_array(holder.get("message_thread")):
            found.thread.extend(_items(holder["message_thread"], f"{place}/message_thread"))
            found.rest["manager"] = _without(holder, ("message_thread", "version"))
            continue
        kept = _without(holder, _OF_AN_AGENT)
        kept |= _add_agent(
            found, name, as_object(holder.get("agent_state")), f"{place}/agent_state"
        )
        if kept:
            agents[name] = kept
    found.rest.update({"agents": agents} if agents else {})
    found.rest.update(_without(state, _OF_A_TEAM))
    return found


def _add_agent(found: State, name: str | None, state: Object, pos: str) -> Object:
    """Add the state of one agent; returns what of it is neither messages nor a team."""
    found.thread.extend(_items(state.get("message_thread"), f"{pos}/message_thread"))
    context = as_object(state.get("llm_context"))
    messages = context.get("messages")
    if is_array(messages):
        found.contexts.append(Context(name, _items(messages, f"{pos}/llm_context/messages")))
        context = _without(context, ("messages",))
    inner = state.get("inner_team_state")
    if is_object(inner) and inner:
        found.teams.append((name or "inner team", inner, f"{pos}/inner_team_state"))
    rest = _without(state, (*_OF_A_STATE, "message_thread"))
    return {**rest, "llm_context": context} if context else rest


def _items(messages: Any, pos: str) -> list[Item]:
    return [Item(message, f"{pos}/{index}") for index, message in enumerate(as_array(messages))]


def _without(value: Object, keys: tuple[str, ...]) -> Object:
    return {key: item for key, item in value.items() if key not in keys and item not in (None, {})}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# ---------------------------------------------------------------------- thread and contexts


def woven(thread: list[Item], contexts: list[Context]) -> Iterator[Item]:
    """The thread, and in between what only the contexts have."""
    places: dict[tuple[Any, ...], list[int]] = {}
    for index, item in enumerate(thread):
        for key in _keys(as_object(item.message)):
            places.setdefault(key, []).append(index)
    before: dict[int, list[Item]] = {}
    behind: dict[int, list[Item]] = {}
    for context in contexts:
        at = -1
        for item in context.items:
            message = as_object(item.message)
            found = [places.get(key) for key in _keys(message)]
            if not found or None in found:
                behind.setdefault(at, []).append(item)
                continue
            at = max(at, _next(found[-1] or [], at))
            thought = as_text(message.get("thought"))
            if thought and _text_key(message.get("source"), thought) not in places:
                before.setdefault(at, []).append(_thought(message, item.pos))
    yield from behind.get(-1, [])
    for index, item in enumerate(thread):
        yield from before.get(index, [])
        yield item
        yield from behind.get(index, [])


def _next(places: list[int], at: int) -> int:
    """The first of the ascending places that is not before ``at``; else the last one."""
    return places[min(bisect_left(places, at), len(places) - 1)] if places else at


def _thought(message: Object, pos: str) -> Item:
    """The thought of an assistant's message as the event that a thread has for it."""
    source, text = message.get("source"), message["thought"]
    return Item({"type": "ThoughtEvent", "source": source, "content": text}, pos)


def _keys(message: Object) -> list[tuple[Any, ...]]:
    """What a message of a thread and its copies in contexts have in common."""
    content, source = message.get("content"), message.get("source")
    if message.get("type") == "SystemMessage":
        return [("system", as_json(content))]
    parts = [as_object(part) for part in as_array(content)]
    calls = [
        ("call", *map(as_json, map(part.get, ("id", "name", "arguments"))))
        for part in parts
        if "arguments" in part
    ]
    results = [
        ("result", as_json(part.get("call_id")), as_json(part.get("content")))
        for part in parts
        if "call_id" in part
    ]
    return [*calls, *results] or [_text_key(source, content)]


def _text_key(source: Any, content: Any) -> tuple[Any, ...]:
    return ("text", as_json(source), as_json(content))
