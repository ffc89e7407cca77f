"""AutoGen AgentChat: saved states of teams and agents, and dumped messages.

``save_state()`` gives a team's state (a run, told from the manager's thread and the agents' model
contexts, ``_autogen_state``) or an agent's (its model context). ``TaskResult``, ``Response`` and lists
or lines of messages are dumped as they are. Neither system prompts nor tool definitions are in any of
them, and a context is no request: a client may leave out or rewrite what is in it, so whether thinking
was sent back stays unknown.

A thought beside a text is thinking. Beside tool calls every client but Anthropic's puts the reply's
plain text there and drops the thinking, for which the log then has no place; Anthropic's puts thinking
there if there is any, and then drops the text (``_autogen_chat``). A message without ``models_usage`` is
no reply of a model: the framework gives it to models as a user's. Usage of 0 and 0 tokens stands for an
unknown one; that of Anthropic's client leaves out what was cached. A tool that raises leaves the bare
text of the exception and ``is_error``. ``stop_reason`` is a sentence of the framework's; where it names
a limit or a cancellation, that is the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.formats._autogen_chat import CHAT_MESSAGES, Chat
from loaders.formats._autogen_state import Item, State, is_state, taken_apart, woven
from loaders.heads import Head
from loaders.rows import identity_of, metadata_of, outcome_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_name,
    as_object,
    as_text,
    is_array,
)

TITLE = "AutoGen AgentChat states and messages"
GIVES = ("thinking", "tokens")
IGNORED = {
    "/**/type": "the kind of a message or a state, by which its other values are told",
    "/**/message_buffer/**": "copies of messages of the thread that an agent has not taken in yet",
    "/**/id": "an identifier of a message, to which only the pieces of its own stream refer",
    "/**/full_message_id": "ties a piece of a stream to the message that comes whole behind it",
    "type=ModelClientStreamingChunkEvent /**": "pieces of a reply that comes whole behind them",
    "type=HandoffMessage /**/context/**": "copies of the calls and results that stand before a handoff",
    "type=HandoffMessage /**/target": "the handoff is a tool call, and the next message names its agent",
    "type=ToolCallSummaryMessage /**/tool_calls/**": "copies of the calls that stand before a summary",
    "type=ToolCallSummaryMessage /**/results/**": "copies of the results that stand before a summary",
    "type=UserInputRequestedEvent /**/request_id": "ties a question to the message that answers it",
    "/**/retry_attempt": "counts from 0 with each try, whose events stand in this order anyway",
    "/**/agent_states/**/version": "the version of a part; the run has that of the whole state",
    "type=TeamState /**/llm_context/**": "copies of the messages of the thread, without its tokens and times",
}

_LISTS = ("messages", "inner_messages")
_MODEL_MESSAGES = (
    "UserMessage",
    "AssistantMessage",
    "SystemMessage",
    "FunctionExecutionResultMessage",
)
_LIMITS = ("Maximum number of ", "Token usage limit reached", "Timeout of ")
_CANCELLED = "External termination requested"


def sniff(head: Head) -> bool:
    """A state, a message with its source and type, or a result with such messages."""
    first = head.first
    held = (next(iter(as_array(first.get(key))), None) for key in _LISTS)
    return is_state(first) or any(map(_is_message, (first, first.get("chat_message"), *held)))


def _is_message(value: Any) -> bool:
    value = as_object(value)
    kind = as_text(value.get("type")) or ""
    if kind in _MODEL_MESSAGES:
        return "content" in value
    is_known = kind in CHAT_MESSAGES or kind.startswith("StructuredMessage")
    return isinstance(value.get("source"), str) and (is_known or "models_usage" in value)


def read(source: Source, out: Builder) -> None:
    """A run per state, per result, or per list or file of messages."""
    loose: Chat | None = None  # the run of the messages that stand alone
    for pos, record in source.records():
        with out.record(pos):
            if _is_message(record):
                loose = loose or Chat(out.trajectory(pos=_start(pos)), source)
                loose.tell(Item(record, pos))
                continue
            items = _items_of(record, pos)
            if not items and not is_state(record):
                out.problem(pos, "neither a state nor a message of AutoGen's")
                continue
            if loose is not None and not any(map(loose.has_told, items)):
                loose.finish()
                loose = None
            if is_state(record):
                _tell_state(out, source, record, pos)
            else:
                chat, loose = loose or Chat(_begin(out, record, pos), source), None
                _tell_result(chat, as_object(record), items)
                chat.finish()
    if loose is not None:
        loose.finish()


def _start(pos: str) -> str:
    """Where a run of loose messages begins: at its first line, or it is the whole list."""
    return pos if pos.startswith("L") else ""


def _items_of(record: Any, pos: str) -> list[Item]:
    """The messages of a result, a response or a list of them."""
    row = as_object(record)
    key = next((f"/{key}" for key in _LISTS if is_array(row.get(key))), "")
    messages = record if is_array(record) else as_array(row.get(key[1:]))
    items = [Item(message, f"{pos}{key}/{index}") for index, message in enumerate(messages)]
    if _is_message(row.get("chat_message")):
        items.append(Item(row["chat_message"], f"{pos}/chat_message"))
    return items if any(_is_message(item.message) for item in items) else []


def _begin(out: Builder, record: Any, pos: str) -> Run:
    row = as_object(record)
    taken = (*_LISTS, "chat_message", "stop_reason")
    return out.trajectory(pos=pos, **identity_of(row), metadata=metadata_of(row, taken))


def _tell_result(chat: Chat, row: Object, items: list[Item]) -> None:
    """A result; of one that ends a stream of messages, only what the stream has not told."""
    for item in [item for item in items if not chat.has_told(item)]:
        chat.tell(item)
    reason = as_text(row.get("stop_reason"))
    known = outcome_of(row)
    known["end_reason"] = reason or known["end_reason"]
    if any(known.values()):
        chat.run.outcome(_outcome(reason), **known)


def _outcome(reason: str | None) -> str | None:
    if reason is None:
        return None
    if reason.startswith(_CANCELLED):
        return "cancelled"
    return "limit" if reason.startswith(_LIMITS) else None


def _tell_state(
    out: Builder, source: Source, state: Object, pos: str, name: str | None = None
) -> None:
    found = taken_apart(state, pos)
    threads = [(context.agent, context.items) for context in found.contexts if context.items]
    if found.thread:
        threads = [(None, list(woven(found.thread, found.contexts)))]
    if not threads and name is None:
        out.problem(pos, "a state without messages", "warning")
    for agent, items in threads:
        chat = Chat(out.trajectory(**_identity(state, found, pos, name or agent)), source)
        chat.replying.update(_sources_of_replies(found))
        for item in items:
            chat.tell(item)
        for inner, _, _ in found.teams:
            if inner in chat.first_seqs:
                chat.run.spawned(inner, chat.first_seqs[inner])
        chat.finish()
    for inner, team, place in found.teams:
        _tell_state(out, source, team, place, inner)


def _identity(state: Object, found: State, pos: str, name: str | None) -> Object:
    return {
        "native_id": as_name(state.get("team_id")) or name,
        "pos": pos,
        "format_version": as_name(state.get("version")),
        "metadata": metadata_of(found.rest, ()),
    }


def _sources_of_replies(found: State) -> Iterator[str]:
    """Agents whose messages come from a model: their contexts say so."""
    for context in found.contexts:
        for message, _ in context.items:
            message = as_object(message)
            if message.get("type") == "AssistantMessage" and isinstance(message.get("source"), str):
                yield message["source"]
