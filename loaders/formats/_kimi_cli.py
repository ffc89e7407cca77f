"""Kimi CLI, the older one: ``wire.jsonl`` (what the interface was told) and ``context.jsonl``.

Both stand in a session's folder and tell the same: where both are given, the wire is told, and the
system prompt, which only the context holds. A wire message has ``timestamp`` and ``message`` with
``type`` and ``payload``; a subagent's are wrapped in ``SubagentEvent``, inside one another if it has
subagents itself. A call's arguments may come in pieces. A result's ``message`` is shown to the model
behind its output. The context has role objects, marks (``_checkpoint``) and token counts (``_usage``)
of the whole history: not those of a call. Going back to a mark begins a new file, so nothing of it
shows here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats._kimi_parts import part_types, text_of, write_part
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_object,
    total,
)

_MARKS = ("_system_prompt", "_checkpoint", "_usage")
_WIRE, _CONTEXT = "wire.jsonl", "context.jsonl"
_MESSAGES = frozenset(
    (
        *("TurnBegin", "TurnEnd", "SteerInput", "StepBegin", "StepInterrupted", "ContentPart"),
        *("ToolCall", "ToolCallPart", "ToolResult", "StatusUpdate", "SubagentEvent"),
        *("CompactionBegin", "CompactionEnd", "ApprovalRequest", "ApprovalResponse"),
    )
)
_LONG_MESSAGE = re.compile(rb'"message": *\{"type": *"\w+", *"payload":')
_MOST_NESTED = 20


def sniff(head: Head) -> bool:
    """Messages of the wire, or a context whose first line is a mark or the system prompt."""
    if as_text(head.first.get("role")) in _MARKS:
        return True
    if "protocol_version" in head.keys and _LONG_MESSAGE.search(head.data):
        return True
    return any(_is_message(record) for record in (head.first, *head.records))


def _is_message(record: Any) -> bool:
    record = as_object(record)
    message = as_object(record.get("message"))
    return "timestamp" in record and "payload" in message and message.get("type") in _MESSAGES


def is_log(source: Source) -> bool:
    """Whether a file is one of Kimi CLI's."""
    return any(sniff(part.head) for part in source.parts)


def folder_of(source: Source) -> str | None:
    """The folder of a session, for its two files; None for a file of another name."""
    is_part = source.filename in (_WIRE, _CONTEXT) and sniff(source.head)
    return PurePosixPath(source.name).parent.as_posix() if is_part else None


def read(source: Source, out: Builder) -> None:
    """One run per session; the wire where there is one, else the context."""
    wires = [part for part in source.parts if as_text(part.head.first.get("role")) is None]
    contexts = [part for part in source.parts if part not in wires]
    told = wires or contexts
    prompts = contexts if wires else []
    for part in told:
        prefix = "" if part is source else f"{part.filename}#"
        session = _Session(out, source, prefix)
        for pos, text in _prompts(prompts, source):
            session.run.system(text, pos)
        for pos, record in part.records():
            with out.record(prefix + pos):
                session.tell(record, prefix + pos)
        session.finish(out)


def _prompts(contexts: list[Source], source: Source) -> Iterator[tuple[str, str]]:
    """The system prompts of a history that the wire tells."""
    for part in contexts:
        prefix = "" if part is source else f"{part.filename}#"
        for pos, record in part.json_lines():
            text = as_text(as_object(record).get("content"))
            if as_object(record).get("role") == "_system_prompt" and text is not None:
                yield f"{prefix}{pos}/content", text


class _Session:
    """Tells one agent's messages; its subagents' are kept, and told when it is done."""

    def __init__(self, out: Builder, source: Source, prefix: str) -> None:
        folder = PurePosixPath(source.name).parent.name
        is_named = source.filename in (_WIRE, _CONTEXT)
        self.run = out.trajectory(
            native_id=folder if is_named else None, pos=f"{prefix}L1", framework="kimi-cli"
        )
        self.run.set(format_version=None)
        self._agent = _Agent(self.run)
        self._started = False

    def tell(self, record: Any, pos: str) -> None:
        """One line of the wire or of the context."""
        if not is_object(record):
            raise UnreadableRecord("no record of a session", pos)
        if not self._started:
            self.run.set(source_pos=pos)
            self._started = True
        if record.get("type") == "metadata":
            self.run.set(format_version=as_text(record.get("protocol_version")))
        elif "role" in record:
            self._agent.tell_context(record, pos)
        elif is_object(record.get("message")):
            at = as_time(record.get("timestamp"))
            self._agent.tell(record["message"], f"{pos}/message", at)
        else:
            raise UnreadableRecord("neither a message of the wire nor of a history", pos)

    def finish(self, out: Builder) -> None:
        """Close the session, and tell its subagents' runs."""
        waiting = [self._agent]
        while waiting:
            parent = waiting.pop()
            parent.finish()
            for (name, call), messages in parent.agents.items():
                first = messages[0]
                run = out.trajectory(
                    native_id=name,
                    pos=first[1],
                    framework="kimi-cli",
                    parent_id=parent.run.columns["trajectory_id"],
                    parent_seq=parent.calls.get(call or ""),
                    metadata=first[3],
                )
                agent = _Agent(run)
                for message, pos, at, _ in messages:
                    with out.record(pos):
                        agent.tell(message, pos, at)
                waiting.append(agent)


class _Agent:
    """Tells the messages of one agent."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.calls: dict[str, int] = {}
        self.agents: dict[tuple[str | None, str | None], list[tuple[Object, str, Any, Object]]] = {}
        self._call: tuple[Object, list[str], str, datetime | None] | None = None
        self._end: str | None = None
        self._compacted = False
        self._context_tokens: int | None = None

    def tell(self, message: Object, pos: str, at: datetime | None) -> None:
        """One message of the wire."""
        kind, payload = as_text(message.get("type")), as_object(message.get("payload"))
        place = f"{pos}/payload"
        if kind == "ToolCallPart" and self._call is not None:
            self._call[1].append(as_text(payload.get("arguments_part")) or "")
            return
        self._tell_call()
        if kind in ("TurnBegin", "SteerInput"):
            content = payload.get("user_input")
            media = part_types(content)
            self.run.user(text_of(content), f"{place}/user_input", media=media, at=at)
        elif kind == "StepBegin":
            self._begin_step(pos, at)
        elif kind == "ContentPart":
            write_part(self.run, payload, place, at)
        elif kind == "ToolCall":
            self._call = (payload, [], place, at)
        elif kind == "ToolResult":
            self._tell_result(payload, place, at)
        elif kind == "StatusUpdate":
            self._note_status(payload, place, at)
        elif kind == "SubagentEvent":
            self._keep(payload, place, at)
        elif kind == "CompactionEnd":
            self.run.event("compaction", None, pos, actor="harness", at=at)
            self._compacted = True
        else:
            text = as_json(payload or None)
            self.run.event("other", text, place if payload else pos, actor=kind, at=at)
            self._end = "interrupted" if kind == "StepInterrupted" else self._end

    def _begin_step(self, pos: str, at: datetime | None) -> None:
        self._end = None
        self.run.step(source_pos=pos, started_at=at)
        if self._compacted:
            self.run.saw(None, None, "unknown", history_edit="compacted")

    def _tell_call(self) -> None:
        if self._call is None:
            return
        (call, pieces, pos, at), self._call = self._call, None
        function, name = as_object(call.get("function")), as_text(call.get("id"))
        arguments = function.get("arguments")
        if pieces:
            arguments = "".join((as_text(arguments) or "", *pieces))
        seq = self.run.call(as_text(function.get("name")), arguments, pos, call_id=name, at=at)
        self.calls[name or ""] = seq

    def _tell_result(self, payload: Object, pos: str, at: datetime | None) -> None:
        returned = as_object(payload.get("return_value"))
        output, said = text_of(returned.get("output")), as_text(returned.get("message"))
        self.run.result(
            "\n".join(text for text in (output, said) if text) or output,
            f"{pos}/return_value",
            call_id=as_text(payload.get("tool_call_id")),
            is_error=as_bool(returned.get("is_error")),
            media=part_types(returned.get("output")),
            at=at,
        )

    def _note_status(self, payload: Object, pos: str, at: datetime | None) -> None:
        usage = as_object(payload.get("token_usage"))
        if usage and self.run.steps:
            cached = as_int(usage.get("input_cache_read"))
            new = as_int(usage.get("input_other")), as_int(usage.get("input_cache_creation"))
            self.run.update_step(
                ended_at=at,
                input_tokens=total(*new, cached),
                output_tokens=as_int(usage.get("output")),
                cached_tokens=cached,
            )
        rest = {k: v for k, v in payload.items() if k != "token_usage" and v is not None}
        if rest:
            self.run.event("other", as_json(rest), pos, actor="StatusUpdate", at=at)

    def _keep(self, payload: Object, pos: str, at: datetime | None) -> None:
        """Keep a subagent's message for its own run."""
        call = payload.get("parent_tool_call_id", payload.get("task_tool_call_id"))
        call, name = as_text(call), as_text(payload.get("agent_id"))
        if pos.count("/event") > _MOST_NESTED:
            raise UnreadableRecord("subagents nested too deeply", pos)
        facts = {
            key: payload[key]
            for key in ("subagent_type", "agent_id")
            if as_text(payload.get(key)) is not None
        }
        event = as_object(payload.get("event"))
        self.agents.setdefault((name or call, call), []).append((event, f"{pos}/event", at, facts))

    def tell_context(self, record: Object, pos: str) -> None:
        """One line of a history."""
        role, content = as_text(record.get("role")), record.get("content")
        text, place = text_of(content), f"{pos}/content"
        if role in ("_system_prompt", "system"):
            self.run.system(text, place)
        elif role == "_usage":
            self._context_tokens = as_int(record.get("token_count"))
        elif role == "assistant":
            self._begin_step(pos, None)
            if isinstance(content, str):
                self.run.message(content, place)
            for index, part in enumerate(as_array(content)):
                write_part(self.run, as_object(part), f"{place}/{index}", None)
            for index, call in enumerate(map(as_object, as_array(record.get("tool_calls")))):
                self._call = (call, [], f"{pos}/tool_calls/{index}", None)
                self._tell_call()
        elif role == "tool":
            call_id = as_text(record.get("tool_call_id"))
            self.run.result(text, place, call_id=call_id, media=part_types(content))
        elif role == "user" and (text or "").lstrip().startswith("<system>"):
            self.run.event("user", text, place, actor="harness")
        elif role == "user":
            self.run.user(text, place, media=part_types(content))
        elif role != "_checkpoint":
            raise UnreadableRecord(f"a line of the role {role!r}", pos)

    def finish(self) -> None:
        """What is left to tell, and how the last turn ended."""
        self._tell_call()
        outcome = "cancelled" if self._end else None
        if self._end:
            self.run.outcome(outcome, end_reason=self._end)
        if self._context_tokens is not None:
            self.run.set(metadata={"context_tokens": self._context_tokens})
