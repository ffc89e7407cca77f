"""LlamaIndex agents: the saved context of a workflow, dumped chat messages, dumped agent events.

``Context.to_dict()`` holds the memory as JSON inside a text: the conversation, without system prompt,
usage or error flags. In versions before 0.13 it also holds every event that was passed on, which tells
more and is read in its place. While a run goes on, or after one that broke off, its messages stand in
the scratchpad. ``JsonSerializer`` and ``model_dump`` write events: ``AgentInput`` repeats the whole
conversation before each call, ``ToolCallResult`` says whether a tool failed. In chat messages a tool's
exception is bare text.

``AgentInput`` is what the model's adapter was given, and no request: adapters drop thinking blocks that
stand in it (all of those for OpenAI's chat completions do). What it lacks was not sent; whether what it
holds was sent stays unknown. A reply that only carries the id of a tool call is no call of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats._llama_index_events import Events, event_of, flags_of
from loaders.formats._llama_index_messages import (
    is_chat_message,
    is_message_list,
    tell_message,
    text_of,
)
from loaders.heads import Head
from loaders.jsontext import NotJSON, decode, decode_cut
from loaders.rows import identity_of, metadata_of, outcome_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

TITLE = "LlamaIndex context, messages or events"
GIVES = ("thinking", "tokens")
IGNORED = {
    "/**/__is_component": "the serializer's mark of what kind of object stands here",
    "/**/__is_pydantic": "the serializer's mark of what kind of object stands here",
    "/**/qualified_name": "the Python class of a message or an event, told by its kind",
    "/**/class_name": "the Python class of a store or a memory, which its content shows",
    "/**/chat_store_key": "under which key of its store a memory has its messages",
    "/**/additional_kwargs/tool_calls/**": "the calls in their provider's form, which blocks hold too",
    "/**/additional_information/type": "the kind of a block, told by the kind of its event",
    "/**/additional_information/status": "whether a block is whole, which it is once it is logged",
    "/**/block_type": "the kind of a block, told by the kind of its event",
    "/**/tool_output/tool_name": "the name of the tool, which stands beside its output",
    "/**/tool_output/raw_input/**": "the arguments of the call, which the call shows",
    "/**/tool_output/raw_output": "the tool's value, whose text is the response",
    "/**/tool_output/raw_output/**": "the tool's value, whose text is the response",
    "/**/current_tool_calls/**": "the results of the latest run, which its messages show",
    "/**/return_direct": "whether a tool ends the run, which the run shows",
    "/**/tool_kwargs/**": "the arguments of a call that stands in the reply before it",
    "/**/tool_calls/**": "the calls of a reply, which its message shows",
    "/**/current_agent_name": "who was given an input; the call that follows names its agent",
    "/**/user_msg_str": "the user's message, which is the first one of the memory",
    "/**/raw/**": "the provider's response, of which usage, model and thinking are told",
    "/**/result/**": "the last reply once more, as the result of the run",
    "/**/response/role": "the role of a reply, which is the model's",
    "/globals/memory/value/chat_store/store/*/*/role": "told by the kind of the event in the log",
    "/globals/memory/value/chat_store/store/*/*/blocks/*/text": "what the broker log's events tell",
    "/**/step_name": "the step of the workflow engine in which a run failed, not of the agent",
    "/**/attempts": "how often the workflow engine tried the step that failed",
    "/**/elapsed_seconds": "how long the engine's step took that failed",
    "/workers/**": "queues of the workflow engine, by which an unfinished run is resumed",
    "/queues/**": "queues of the workflow engine; the same events stand in the broker log",
    "/in_progress/**": "steps of the workflow engine that were at work, not what was said",
    "/deliveries/**": "events that the workflow engine was still to pass on when it was saved",
    "/streams/**": "open collections of the workflow engine, not what was said",
    "/collection_release_states/**": "open collections of the workflow engine, not what was said",
    "/streaming_queue": "events not yet streamed; the same ones stand in the broker log",
    "/accepted_events/**": "which step of the engine took which event, not what was said",
    "/events_buffer/**": "events that a step of the engine still waits for",
    "/waiter_id": "a random name in the workflow engine; nothing refers to it",
    "/stepwise": "whether the engine stops after each of its own steps",
    "/stream_seq": "a counter of the workflow engine, of its own steps and not of calls",
    "/work_item_seq": "a counter of the workflow engine, of its own steps and not of calls",
    "/invocation_seq": "a counter of the workflow engine, of its own steps and not of calls",
    "/journal_seq": "a counter of the workflow engine, of its own steps and not of calls",
    "/state/store_type": "where the running program kept its state",
    "/state/state_type": "the Python class of the state, the same in every agent",
    "/state/state_module": "the Python module of the state, the same in every agent",
}

_MESSAGES_IN = ("messages", "chat_history")
_ENGINE = ("version", "is_running", "elapsed_alive", "last_alive_stamp")
_KNOWN_STATE = ("memory", "scratchpad", "user_msg_str", "current_tool_calls", "current_reasoning")
_CUT_MEMORY = re.compile(rb'"(?:memory|scratchpad)"\s*:\s*"((?:[^"\\]|\\.)*+)\\?\Z', re.DOTALL)


# ---------------------------------------------------------------------- recognise


def sniff(head: Head) -> bool:
    """A saved context, a store of chat messages, a chat message, or an event of an agent."""
    record = next(iter(head.records), None)
    if is_array(record):
        return is_message_list(record) or event_of(next(iter(record), None)) is not None
    record = as_object(record)
    return (
        _is_context(record)
        or is_chat_message(record)
        or event_of(record) is not None
        or any(is_message_list(record.get(key)) for key in _MESSAGES_IN)
        or any(is_message_list(found) for found, _ in _lists_in_store(record, ""))
        or (record.keys() == {"globals"} and b'\\"__is_component\\"' in head.data)
    )


def _is_context(record: Object) -> bool:
    state = as_object(record.get("state"))
    if {"state_type", "state_module"} <= state.keys() and "version" in record:
        return True
    return is_object(record.get("globals")) and bool({"broker_log", "queues"} & record.keys())


def _lists_in_store(record: Object, pos: str) -> Iterator[tuple[list[Any], str]]:
    """Lists of messages in a chat store, or in a memory that holds one."""
    for key in ("value", "chat_store"):
        if is_object(record.get(key)):
            record, pos = record[key], f"{pos}/{key}"
    for key, messages in as_object(record.get("store")).items():
        if is_array(messages):
            yield messages, f"{pos}/store/{_escaped(key)}"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# ---------------------------------------------------------------------- read


def read(source: Source, out: Builder) -> None:
    """A run per context or list of messages; events, and messages on lines, are one."""
    events: Events | None = None
    lines: Run | None = None
    for pos, record in _records(source):
        with out.record(pos):
            found = event_of(record, pos)
            if found is None or (events is not None and not events.goes_on(found)):
                _close(events)
                events = None
            if is_object(record) and _is_context(record):
                _tell_context(record, pos, out, source)
            elif is_chat_message(record):
                lines = _begin(out, pos) if lines is None or lines.closed else lines
                tell_message(lines, record, pos)
            elif found is not None:
                events = events or Events(_begin(out, pos))
                events.tell(*found)
            elif not _tell_lists(record, pos, out):
                out.problem(pos, "neither a message nor an event of an agent")
    _close(events)


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json_lines:
        yield from source.json_lines()
        return
    value = source.json()
    if is_array(value) and not is_message_list(value):
        yield from ((f"/{index}", item) for index, item in enumerate(value))
    else:
        yield "", value


def _begin(out: Builder, pos: str, **columns: Any) -> Run:
    return out.trajectory(pos=pos, **{"framework": "llama_index", **columns})


def _close(events: Events | None) -> None:
    if events is not None:
        events.close()


def _tell_lists(record: Any, pos: str, out: Builder) -> bool:
    """Tell a list of messages, a row with one, or each list of a store; False if there is none."""
    if is_array(record):
        lists = [(record, pos)] if is_message_list(record) else []
    else:
        row = as_object(record)
        rows = ((row.get(key), f"{pos}/{key}") for key in _MESSAGES_IN)
        lists = [(as_array(found), place) for found, place in rows if is_message_list(found)]
        lists += list(_lists_in_store(row, pos))
    row = as_object(record)
    for messages, place in lists:
        named = identity_of(row) if len(lists) == 1 else {}
        metadata = metadata_of(row, (*_MESSAGES_IN, "store", "chat_store", "class_name"))
        run = _begin(out, place, **named, metadata=metadata or None)
        if "/store/" in place and run.columns["native_id"] is None:
            run.set(native_id=place.rpartition("/store/")[2])
        _tell_messages(run, messages, place, {})
        if any(outcome_of(row).values()):
            run.outcome(**outcome_of(row))
    return bool(lists)


def _tell_messages(run: Run, messages: list[Any], pos: str, flags: dict[str, Any]) -> None:
    for index, value in enumerate(messages):
        message, place = as_object(value), f"{pos}/{index}"
        if "__is_pydantic" in message:
            message, place = as_object(message.get("value")), f"{place}/value"
        if not isinstance(message.get("role"), str):
            run.problem(place, "no message: it has no role")
            continue
        name = as_name(as_object(message.get("additional_kwargs")).get("tool_call_id"))
        tell_message(run, message, place, **flags.get(name or "", {}))


# ---------------------------------------------------------------------- saved contexts


def _tell_context(record: Object, pos: str, out: Builder, source: Source) -> None:
    data = as_object(as_object(record.get("state")).get("state_data"))
    state, place = as_object(data.get("_data")), f"{pos}/state/state_data/_data"
    if not state and is_object(record.get("globals")):
        state, place = record["globals"], f"{pos}/globals"
    inner = {key: _inner(value, f"{place}/{key}", out) for key, value in state.items()}
    named = {key: value for key, value in inner.items() if value not in (None, [], {}, "")}
    engine = {key: record[key] for key in _ENGINE if key in record}
    limit = as_object(as_object(inner.get("memory")).get("value")).get("token_limit")
    if limit is not None:
        engine["memory_token_limit"] = limit
    version = as_name(engine.pop("version", None))
    run = _begin(
        out,
        pos,
        format_version=version,
        metadata={**metadata_of(named, _KNOWN_STATE), **engine} or None,
    )
    if _tell_broker_log(run, record, pos, out):
        return
    if not source.head.is_whole or "memory" not in inner:
        inner |= _cut_off(source) if "memory" not in inner else {}
    lists = list(_lists_in_store(as_object(inner.get("memory")), f"{place}/memory"))
    lists.append((as_array(inner.get("scratchpad")), f"{place}/scratchpad"))
    asked = as_text(inner.get("user_msg_str"))
    messages = [_unwrapped(message) for found, _ in lists for message in found]
    if asked and asked not in (text_of(m) for m in messages if m.get("role") == "user"):
        run.user(asked, f"{place}/user_msg_str")
    flags = _flags_by_id(inner.get("current_tool_calls"))
    for found, where in lists:
        _tell_messages(run, found, where, flags)
    if inner.get("current_reasoning"):
        text = as_json(inner["current_reasoning"])
        run.event("other", text, f"{place}/current_reasoning", error_type="reasoning")


def _unwrapped(message: Any) -> Object:
    message = as_object(message)
    return as_object(message.get("value")) if "__is_pydantic" in message else message


def _inner(value: Any, pos: str, out: Builder) -> Any:
    """The value that a serializer wrote as text; a pickle is left alone."""
    text = as_text(value)
    if text is None:
        return value
    data = text.encode("utf-8", "surrogatepass")
    try:
        return decode(data)
    except NotJSON as error:
        try:
            found = decode_cut(data[: error.byte])
        except UnreadableRecord:
            out.problem(pos, f"no JSON but another serializer's text, not read: {error.reason}")
            return None
        out.problem(pos, f"{error.reason}; what stands before it is read")
        return found


def _cut_off(source: Source) -> Object:
    """The memory of a file that is cut short inside of it, as far as it stands there."""
    found = _CUT_MEMORY.search(source.read_bytes())
    if found is None or len(found[1]) < 2:
        return {}
    try:
        text = decode(b'"' + re.sub(rb"\\u[0-9a-fA-F]{0,3}\Z", b"", found[1]) + b'"')
        return {"memory": decode_cut(str(text).encode("utf-8", "surrogatepass"))}
    except UnreadableRecord:
        return {}


def _flags_by_id(results: Any) -> dict[str, dict[str, Any]]:
    """What the results of the latest run say of their success, by the id of the call."""
    found = [_unwrapped(result) for result in as_array(results)]
    return {
        as_name(r.get("tool_id")) or "": flags_of(as_object(r.get("tool_output"))) for r in found
    }


def _tell_broker_log(run: Run, record: Object, pos: str, out: Builder) -> bool:
    """Tell the events that older contexts keep; False if no call of the model is among them."""
    log = [
        (_inner(value, f"{pos}/broker_log/{index}", out), f"{pos}/broker_log/{index}")
        for index, value in enumerate(as_array(record.get("broker_log")))
    ]
    found = [event for value, place in log if (event := event_of(value, place)) is not None]
    if not any(name == "AgentOutput" for name, _, _ in found):
        return False
    events = Events(run)
    for event in found:
        events.tell(*event)
    events.close()
    return True
