"""LangGraph: snapshots of a state, checkpoints, and what a graph streamed.

*Snapshots* (``get_state``, ``get_state_history``, a thread of LangGraph's server) and *checkpoints* hold
the state after each step of the graph, the newest first. A thread is a run, and so is each subgraph with
a state of its own. A message is told where it first stands in the state; messages that a step took out
are a compaction, and going on from an earlier checkpoint is told as such. *Streams* come on lines, bare,
with their mode, or as a server sends them: whole states (``values``), what each node gave (``updates``,
``tasks``), snapshots (``checkpoints``, ``debug``), or *events* (``on_chat_model_start`` and its like).

A state is no request: what a model was sent is known from events alone. There, as in LangSmith's runs,
thinking beside a message's content may be dropped on its way to the model, so that it is no evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.dialects import langchain as messages_of
from loaders.formats._langgraph_events import Events
from loaders.formats._langgraph_messages import Conversation, Found, messages_in
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "LangGraph states, checkpoints and streams"
GIVES = ("thinking", "sent", "tools", "tokens")

_MODES = ("values", "updates", "debug", "checkpoints", "tasks", "messages", "custom")
_STATES = ("next", "tasks", "parent_config", "checkpoint", "parent_checkpoint", "thread_id")
_OF_DEBUG = ("checkpoint", "task", "task_result")
_ERROR_OF_TASK = 3
_EVENTS = ("on_chain_", "on_chat_model_", "on_tool_", "on_llm_")


IGNORED = {
    **messages_of.IGNORED,
    "/**/parent_config/**": "Names of checkpoints, which tell the order of states and branches.",
    "/**/parent_checkpoint/**": "Names of checkpoints, which tell the order of states and branches.",
    "/**/configurable/**": "Names of checkpoints, which tell the order; a run has its thread's name.",
    "/**/checkpoint/id": "The name of a checkpoint, which tells the order of states and branches.",
    "/**/channel_versions/**": "A counter of the store for each part of the state.",
    "/**/versions_seen/**": "A counter of the store for each part of the state.",
    "/**/updated_channels/**": "Which parts of the state are new; those of them are told.",
    "/**/tasks/**": "What a step gave, which the state after it holds; errors among it are told.",
    "/**/pending_writes/**": "What a step gave, which the state after it holds; errors are told.",
    "/**/next/*": "Which nodes came next; of the last state they are kept.",
    "/*/metadata/**": "The step that led to a state; what is said of the last state is kept.",
    "/**/created_at": "When a state was kept, which the call has that first stands in it.",
    "/metadata/**": "Where in the graph an event happened; that of the first event is kept.",
    "/parent_ids/*": "What is within what, in the order in which the events stand anyway.",
    "/run_id": "Ties the end of a call to its beginning, which are told as one.",
    "/tags/*": "Where in the graph an event happened, as its metadata say as well.",
    "event=on_chat_model_end /data/input/**": "The request, which the event before it holds.",
    "event=on_chat_model_start /**/usage_metadata/**": "The count of a reply, which the reply has.",
    "event=on_chat_model_start /**/response_metadata/**": "Facts of a reply, which the reply has.",
    "event=on_chat_model_start /**/status": "Whether a tool failed, which its own event tells.",
    "event=on_chat_model_stream /**": "Pieces of a reply that comes whole behind them.",
    "event=on_tool_start /**": "A call of a tool, which stands in the reply that made it.",
    "event=on_tool_end /data/input/**": "Arguments of a call, which stand in the reply.",
    "event=on_tool_error /data/input/**": "Arguments of a call, which stand in the reply.",
    "event=on_chain_start /**": "The state before a node, whose messages the requests hold.",
    "event=on_chain_stream /**": "What a node gave, which the replies and results hold.",
    "event=on_chain_end /**": "What a node gave, which the replies and results hold.",
}


class _State(NamedTuple):
    """A state of a thread with its place, what is said of it, and when it was kept."""

    values: Any
    pos: str
    record: Object
    record_pos: str
    at: datetime | None

    def name(self, key: str, parent: str = "") -> str | None:
        """``thread_id``, ``checkpoint_ns`` or ``checkpoint_id``, of this state or of its parent."""
        config = as_object(as_object(self.record.get(f"{parent}config")).get("configurable"))
        given = as_object(self.record.get(f"{parent}checkpoint"))
        own = given.get(key, given.get("id") if key == "checkpoint_id" else None)
        return as_name(config.get(key, own)) or (None if parent else as_name(self.record.get(key)))


def sniff(head: Head) -> bool:
    """A snapshot, a checkpoint, a part of a stream, or states that repeat each other."""
    records = head.records
    if len(records) == 1 and is_array(records[0]) and not _mode_of(records[0])[0]:
        records = records[0]
    if any(_state_of(record, "") or _is_event(record) for record in records[:1]):
        return True
    return any(map(_is_part, records[:9])) or messages_of.are_states(records)


def _is_part(record: Any) -> bool:
    mode, _, data, _ = _mode_of(record)
    if mode:
        return mode != "messages"
    if "run_type" in as_object(record):
        return False  # LangSmith's: its outputs may look like what a node gave
    given = [one for v in as_object(data).values() for one in (v if is_array(v) else [v])]
    nodes = [as_object(as_object(one).get("update", one)) for one in given]
    listed = (item for update in nodes for item in as_array(update.get("messages")))
    return any(map(messages_of.is_own, listed))


def _is_event(record: Any) -> bool:
    name = as_text(as_object(record).get("event")) or ""
    return name.startswith(_EVENTS) and "run_id" in record


def _mode_of(record: Any) -> tuple[str | None, str, Any, str]:
    """Mode of a stream's part, its namespace, its data and their place; no mode where none is said."""
    if is_array(record) and 2 <= len(record) <= 3:
        *space, mode, data = record if len(record) == 3 else (None, *record)
        if mode in _MODES:
            return mode, _space_of(space[0]), data, f"/{len(record) - 1}"
        if is_array(mode) and all(isinstance(part, str) for part in mode) and is_object(data):
            return None, _space_of(mode), data, "/1"  # subgraphs=True, one mode
    item = as_object(record)
    for key, demanded in (("type", "ns"), ("event", "data")):
        mode, _, space = (as_text(item.get(key)) or "").partition("|")
        if mode in _MODES and "data" in item and demanded in item:
            return mode, space or _space_of(item.get("ns")), item["data"], "/data"
    if {"type", "step", "payload"} <= item.keys() and item["type"] in _OF_DEBUG:
        return "debug", "", item, ""
    return None, "", record, ""


def _space_of(value: Any) -> str:
    return "|".join(part for part in as_array(value) if isinstance(part, str))


def _state_of(record: Any, pos: str) -> _State | None:
    """A snapshot or a checkpoint, which name the same facts differently."""
    item = as_object(record)
    inner = as_object(item.get("checkpoint"))
    times = (item.get("created_at"), inner.get("ts"), item.get("ts"), item.get("timestamp"))
    at = next(filter(None, map(as_time, times)), None)
    for holder, place in ((inner, f"{pos}/checkpoint"), (item, pos)):
        if is_object(holder.get("channel_values")):
            return _State(holder["channel_values"], f"{place}/channel_values", item, pos, at)
    if "values" in item and any(key in item for key in _STATES):
        return _State(item["values"], f"{pos}/values", item, pos, at)
    return None


def read(source: Source, out: Builder) -> None:
    """A run per thread, per stream, or per run of a graph whose events were written down."""
    threads: dict[tuple[str | None, str | None], list[_State]] = defaultdict(list)
    streams: dict[str, list[_Part]] = defaultdict(list)
    events: dict[str, list[Found]] = defaultdict(list)
    for pos, record in source.records():
        with out.record(pos):
            if _is_event(record):
                parents = as_array(record.get("parent_ids")) or [record["run_id"]]
                events[as_name(parents[0]) or ""].append((record, pos))
            elif (state := _state_of(record, pos)) is not None:
                threads[state.name("thread_id"), state.name("checkpoint_ns")].append(state)
            else:
                _take_part(record, pos, streams, out)
    for states in threads.values():
        with out.record(states[0].record_pos):
            _tell_thread(out, _in_order(states))
    for parts in streams.values():
        with out.record(parts[0].pos):
            _tell_stream(out, parts)
    for name, found in events.items():
        with out.record(found[0][1]):
            Events(out, name, found).tell()


# ---------------------------------------------------------------------- snapshots


def _in_order(states: list[_State]) -> list[_State]:
    """The states of a thread, the oldest first."""
    dated = [(state.at, state) for state in states if state.at is not None]
    if len(dated) < len(states):
        return states[::-1]
    is_newest_first = dated[0][0] >= dated[-1][0]
    dated = dated[::-1] if is_newest_first else dated
    return [state for _, state in sorted(dated, key=lambda each: each[0])]


def _tell_thread(out: Builder, states: list[_State]) -> None:
    last = states[-1]
    names = (last.name("thread_id"), last.name("checkpoint_ns"))
    run = out.trajectory(
        native_id="|".join(filter(None, names)) or None,
        pos=states[0].record_pos,
        framework="langgraph",
        metadata=_said_of(last),
        started_at=states[0].at if len(states) > 1 else None,
        ended_at=last.at,
    )
    conversation = Conversation(run)
    before: _State | None = None
    failed: str | None = None
    for state in states:
        conversation.at = state.at if before is not None else None
        parent, former = (
            state.name("checkpoint_id", "parent_"),
            before and before.name("checkpoint_id"),
        )
        is_branch = None not in (parent, former) and parent != former
        conversation.state([*messages_in(state.values, state.pos)], state.pos, is_branch)
        failed = None
        for error, pos in _errors_of(state):
            failed = failed or error
            run.event("error", error, pos, error_type=error.split("(")[0][:80], at=state.at)
        before = state
    if failed is not None:
        run.outcome("error", end_reason=failed)


def _said_of(state: _State) -> Object | None:
    """What is said of the last state, and what it holds beside messages."""
    record, values = state.record, as_object(state.values)
    kept = {key: value for key, value in as_object(record.get("metadata")).items() if value != {}}
    for key in ("next", "interrupts", "status", "updated_at", "metadata_id", "assistant_id"):
        if record.get(key) not in (None, [], {}):
            kept[key] = record[key]
    with_messages = {
        pos[len(state.pos) :].split("/")[1] for _, pos in messages_in(values, state.pos)
    }
    other = {key: value for key, value in values.items() if key not in with_messages and value}
    return metadata_of({**kept, "state": other or None}, ()) or None


def _errors_of(state: _State) -> Iterator[tuple[str, str]]:
    """What went wrong in the step after a state: in its tasks, or among a checkpoint's writes."""
    for index, task in enumerate(as_array(state.record.get("tasks"))):
        place = f"{state.record_pos}/tasks/{index}"
        is_listed = is_array(task) and len(task) > _ERROR_OF_TASK
        error = task[_ERROR_OF_TASK] if is_listed else as_object(task).get("error")
        if error:
            text = as_text(error) or as_json(error) or ""
            yield text, f"{place}/{_ERROR_OF_TASK if is_listed else 'error'}"
    for index, write in enumerate(as_array(state.record.get("pending_writes"))):
        if is_array(write) and len(write) > 2 and write[1] == "__error__":
            text = as_text(write[2]) or as_json(write[2]) or ""
            yield text, f"{state.record_pos}/pending_writes/{index}/2"


# ---------------------------------------------------------------------- streams


class _Part(NamedTuple):
    """A part of a stream: a whole state or an update, or what a program wrote into it."""

    kind: str
    messages: list[Found]
    pos: str
    at: datetime | None = None
    text: str | None = None
    error: tuple[str, str] | None = None


def _take_part(record: Any, pos: str, streams: dict[str, list[_Part]], out: Builder) -> None:
    mode, space, data, place = _mode_of(record)
    pos = pos + place
    if mode == "debug" and "payload" in as_object(data):
        at, data, pos = as_time(data.get("timestamp")), data["payload"], f"{pos}/payload"
    else:
        at = None
    if mode == "messages":
        return  # pieces of messages that other parts of the stream hold whole
    if mode == "custom":
        streams[space].append(_Part("custom", [], pos, text=as_json(data)))
        return
    data = as_object(data)
    if (state := _state_of(data, pos)) is not None:
        found = [*messages_in(state.values, state.pos)]
        streams[space].append(_Part("state", found, pos, at or state.at))
    elif mode in ("debug", "tasks"):
        found = [*messages_in(data.get("result"), f"{pos}/result")]
        error = as_text(data.get("error"))
        failed = (error, f"{pos}/error") if error else None
        streams[space].append(_Part("update", found, pos, at, error=failed))
    elif (found := [*messages_in(data, pos)]) or mode == "values":
        streams[space].append(_Part("state", found, pos))
    elif data:
        for node, update in data.items():
            name = node.replace("~", "~0").replace("/", "~1")
            found = [*messages_in(update, f"{pos}/{name}")]
            streams[space].append(_Part("update", found, f"{pos}/{name}"))
    else:
        out.problem(pos, "neither a state nor a part of a stream")


def _tell_stream(out: Builder, parts: list[_Part]) -> None:
    if not any(part.messages or part.text for part in parts):
        out.problem(parts[0].pos, "a stream without messages", "warning")
        return
    run = out.trajectory(pos=parts[0].pos, framework="langgraph")
    conversation = Conversation(run)
    for part in parts:
        conversation.at = part.at
        if part.kind == "state":
            conversation.state(part.messages, part.pos)
        elif part.kind == "update":
            conversation.update(part.messages)
        else:
            run.event("other", part.text, part.pos, actor="custom")
        if part.error is not None:
            text, pos = part.error
            run.event("error", text, pos, error_type=text.split("(")[0][:80], at=part.at)
            run.outcome("error", end_reason=text)
