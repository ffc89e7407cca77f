"""Hermes agent: saved sessions (``session_<id>.json``), and gateway transcripts (JSON Lines).

A session is one object with its prompt, its tools and all messages; a transcript has a line
``session_meta`` with the tools and then a message on each. Messages are in OpenAI's dialect. Where a
reply came from the Responses API its reasoning items stand beside it, and then ``reasoning`` holds
what they sum up and no words of the model's own. Neither holds tokens, and a session's messages have
no times; moments without a zone are taken as UTC, though they are local.

A tool's message says that it failed by its ``finish_reason``. A session that goes on from another one
keeps its name in ``metadata``: subagents and compression both begin one.
Requests are not stored, so whether thinking was sent back is not known.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import (
    text_and_media,
    thoughts_of,
    write_calls,
    write_message,
    write_reply_parts,
)
from loaders.dialects.responses import thought_of
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "Hermes agent session"
GIVES = ("thinking", "tools")
IGNORED = {
    "role=assistant /**/tool_calls/*/call_id": "the call's id once more",
    "role=assistant /**/tool_calls/*/type": "calls of this dialect are all of functions",
    "role=assistant /**/tool_calls/*/response_item_id": "the provider's name of a reasoning item",
    "role=assistant /**/tool_calls/*/extra/**": "what a provider adds to a call for its own use",
    "role=assistant /**/tool_calls/*/extra_content/**": "what a provider adds to a call",
    "role=assistant /**/codex_message_items/**": "the reply's text and its name once more",
    "role=assistant /**/codex_reasoning_items/**/type": "items of this list are all of reasoning",
    "role=assistant /**/codex_reasoning_items/*/id": "the provider's name of a reasoning item",
    "role=user /**/client_metadata/**": "what a chat client notes of a message for its own use",
    "role=tool /**/tool_name": "the name of the tool whose call is answered",
    "type=function /tools/*/name": "the name of the function once more",
    "/tools/*/type": "tools of this dialect are all functions",
}

_ABOUT_A_SESSION = ("platform", "base_url", "last_updated", "message_count")
_TAKEN = ("session_id", "model", "session_start", "last_updated", "system_prompt", "tools")
_META_TAKEN = ("role", "tools", "model", "timestamp", "messages")
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


def sniff(head: Head) -> bool:
    """A session with its start, or a transcript's first line."""
    if head.first.get("role") == "session_meta":
        return True
    is_session = {"session_id", "session_start"} <= head.keys
    return is_session and any(key in head.keys for key in _ABOUT_A_SESSION)


def read(source: Source, out: Builder) -> None:
    """One run: a session, or a transcript."""
    if source.is_json_lines or source.head.first.get("role") == "session_meta":
        _read_transcript(source, out)
        return
    session = source.json()
    if not is_object(session):
        raise UnreadableRecord("no session: neither an object nor lines of messages")
    run = _begin(out, session)
    messages = session.get("messages")
    if messages is not None and not is_array(messages):
        run.problem("/messages", "messages that are no list")
    for index, message in enumerate(as_array(messages)):
        pos = f"/messages/{index}"
        with out.record(pos):
            _tell(run, message, pos)


def _begin(out: Builder, session: Object) -> Run:
    config = as_object(session.get("model_config"))
    cwd = as_text(session.get("cwd")) or as_text(config.get("cwd"))
    platform = as_text(session.get("platform"))
    start, end = as_time(session.get("session_start")), as_time(session.get("last_updated"))
    run = out.trajectory(
        native_id=as_text(session.get("session_id")),
        pos="",
        framework="hermes",
        model=as_text(session.get("model")),
        started_at=start,
        ended_at=end if start is None or end is None or start <= end else None,
        metadata=metadata_of(session, (*_TAKEN, "messages", "model_config")),
        params=config or None,
    )
    run.environment(cwd=cwd, platform=platform)
    _offer(run, session.get("tools"))
    if prompt := as_text(session.get("system_prompt")):
        run.system(prompt, "/system_prompt")
    return run


def _read_transcript(source: Source, out: Builder) -> None:
    run: Run | None = None
    for pos, record in source.json_lines():
        with out.record(pos):
            if run is None:
                name = PurePosixPath(source.filename).stem
                run = out.trajectory(native_id=name, pos=pos, framework="hermes")
            _tell(run, record, pos)


def _offer(run: Run, tools: Any) -> None:
    """The tools on offer; some have their description around the function and not in it."""
    if not is_array(tools) or not tools:
        return
    found = [{**as_object(tool), **as_object(as_object(tool).get("function"))} for tool in tools]
    run.tools(
        (
            as_text(tool.get("name")),
            as_text(tool.get("description")),
            tool.get("parameters", tool.get("input_schema")),
        )
        for tool in found
    )


# ---------------------------------------------------------------------- messages


def _tell(run: Run, message: Any, pos: str) -> None:
    if not is_object(message):
        raise UnreadableRecord("no message", pos)
    role, at = as_text(message.get("role")), as_time(message.get("timestamp"))
    if role == "session_meta":
        _tell_meta(run, message, pos)
    elif role == "assistant":
        _tell_reply(run, message, pos, at)
    elif role == "tool":
        named = {**message, "name": message.get("tool_name", message.get("name"))}
        is_error = True if message.get("finish_reason") == "error" else None
        write_message(run, named, pos, at=at, is_error=is_error)
    elif role is None:
        raise UnreadableRecord("a message without a role", pos)
    else:
        write_message(run, message, pos, at=at)


def _tell_meta(run: Run, meta: Object, pos: str) -> None:
    _offer(run, meta.get("tools"))
    if model := as_text(meta.get("model")):
        run.set(model=model)
    if platform := as_text(meta.get("platform")):
        run.environment(platform=platform)
    known = metadata_of(meta, _META_TAKEN)
    text = as_json(known) if known else None
    at = as_time(meta.get("timestamp"))
    run.event("other", text, pos, actor="harness", error_type="session_meta", at=at)


def _tell_reply(run: Run, message: Object, pos: str, at: Any) -> None:
    model = as_text(message.get("model"))
    run.step(
        source_pos=pos,
        stop_reason=as_text(message.get("finish_reason")),
        **({"model": model} if model else {}),
    )
    items = [as_object(item) for item in as_array(message.get("codex_reasoning_items"))]
    told = _tell_items(run, items, pos, at)
    if items:
        for text, _, signature, place in thoughts_of(message):
            if text and _squeezed(text) not in told:
                run.thinking(text, pos + place, state="summary", signature=signature, at=at)
        message = {key: value for key, value in message.items() if key not in _REASONING}
    else:
        message = _with_known_details(message)
    write_reply_parts(run, message, pos, at=at)
    write_calls(run, message, pos, at=at)


def _tell_items(run: Run, items: list[Object], pos: str, at: Any) -> str:
    """Tell the reasoning items beside a reply; returns their text, without its spaces."""
    told = ""
    for index, item in enumerate(items):
        text, state, sealed = thought_of(item)
        if text is None and (text := as_text(item.get("text"))):
            state = "summary" if item.get("type") == "summary" else "text"
        place = f"{pos}/codex_reasoning_items/{index}"
        run.thinking(text, place, state=state, signature=sealed, at=at)
        told += _squeezed(text or "")
    return told


def _with_known_details(message: Object) -> Object:
    """The message with Anthropic's thinking blocks among its details as the dialect knows them."""
    details = message.get("reasoning_details")
    if not is_array(details):
        return message
    known: list[Any] = []
    for detail in details:
        if is_object(detail) and detail.get("type") == "thinking":
            known.append({**detail, "text": text_and_media(detail.get("thinking"))[0]})
        else:
            known.append(detail)
    return {**message, "reasoning_details": known}


def _squeezed(text: str) -> str:
    return "".join(text.split())
