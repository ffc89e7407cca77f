"""Kimi Code sessions (``wire.jsonl`` of an agent), and those of the older Kimi CLI.

Kimi Code writes a journal for each agent: ``agents/<agent>/wire.jsonl``. A prompt stands in it as it was
typed (``turn.prompt``, ``turn.steer``) and again as the message that entered the history; it is told
once. A model call is a step from ``step.begin`` to ``step.end``, whose time includes its tools: the
call's own times come from ``llm.request`` and its latencies. A request that fails is sent again
(``attempt``). A compaction is a model call too. ``state.json`` names the agents; a subagent's journal is
linked by the ``agent_id`` in the result of the call that started it. What the history of a request
held is not logged; after a compaction it is only known that it was compacted.

Kimi CLI, before it, has ``wire.jsonl`` (messages with a ``payload``, subagents inside) and
``context.jsonl`` (the history) in one folder: see ``_kimi_cli``.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats import _kimi_cli
from loaders.formats._kimi_parts import part_types, text_of, write_part
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    total,
)

TITLE = "Kimi Code / Kimi CLI session"
GIVES = ("thinking", "tools", "tokens")
IGNORED = {
    "type=turn.prompt /input/**": "each input comes again as the message that enters the history",
    "type=turn.steer /input/**": "each input comes again as the message that enters the history",
    "type=turn.prompt /origin/**": "stands also on the message that enters the history",
    "type=turn.steer /origin/**": "stands also on the message that enters the history",
    "type=turn.prompt /time": "the message that enters the history has a time of its own",
    "type=turn.steer /time": "the message that enters the history has a time of its own",
    "/agentId": "the agent whose journal this is",
    "/event/uuid": "names a record for others that refer to it; events stand in their order",
    "/event/stepUuid": "the step in which the record stands",
    "/event/parentUuid": "the call, which its id names",
    "/event/turnId": "turns stand in their order",
    "/event/step": "steps stand in their order",
    "/event/description": "a line for the interface; the arguments of the call are told",
    "/event/display/**": "what the interface shows of the arguments, which are told",
    "/event/messageId": "the provider's number of the reply, which nothing refers to",
    "/event/llmRequestBuildMs": "part of the latency to the first token, which is told",
    "/event/llmServerFirstTokenMs": "part of the latency to the first token, which is told",
    "/event/llmServerDecodeMs": "part of the duration of the reply, which is told",
    "/event/llmClientConsumeMs": "part of the duration of the reply, which is told",
    "/event/providerFinishReason": "the finish reason in the provider's words",
    "/event/rawFinishReason": "the finish reason in the provider's words",
    "type=context.append_loop_event /time": (
        "of the begin and the end of a step: its call has times of its own, as have other events"
    ),
    "type=usage.record /**": "repeats the usage of a step, and is told where the step has none",
    "type=llm.request /*Hash": "names the prompt and the tools, which are told where they change",
    "type=llm.request /modelAlias": "the user's name of the model, whose own name is told",
    "type=llm.request /turnStep": "steps stand in their order",
    "type=llm.request /messageCount": "how many messages the history has by then",
    "type=llm.request /maxTokens": "what is left of the window; the first call's is kept",
    "type=llm.request /kind": "a compaction is told where its summary stands",
    "type=llm.request kind=compaction /*": "settings as those of other calls; the model is kept",
    "type=llm.tools_snapshot /hash": "names the tools, which are told",
    "type=llm.tools_snapshot /time": "the call that the tools are offered to has a time of its own",
    "type=context.append_message /message/role": "who spoke, as the origin says more closely",
    "type=context.apply_compaction /contextSummary": "the summary again, behind a fixed preface",
    "/agents/**": "where journals lie and who started them; the journals are linked",
    "/createdAt": "the header of the journal has the time",
    "/updatedAt": "when the state was written; the last record has a time of its own",
    "/lastPrompt": "repeats the latest prompt of the journal",
    "/isCustomTitle": "who gave the title, which is kept",
    "/custom/**": "settings of the interface, nothing of them is said to the model",
}

_HEADER = "protocol_version"
_CONFIG = ("config.update", "profile.bind")
_PARAMS = ("thinkingEffort", "thinkingKeep", "maxTokens", "temperature", "topP", "toolSelect")
_OUTCOMES = {
    "cancelled": "cancelled",
    "aborted": "cancelled",
    "failed": "error",
    "error": "error",
    "max_steps": "limit",
}
_CUTS = ("context.undo", "micro_compaction.apply")
_STARTED_AGENT = re.compile(r"^agent_id: *(\S+)", re.MULTILINE)
_AGENT = re.compile(r"(?:.*_)?(agent-\w+)")


def sniff(head: Head) -> bool:
    """A journal's header, one of its records, or a file of the older Kimi CLI."""
    return _is_record(head.first) or any(map(_is_record, head.records)) or _kimi_cli.sniff(head)


def _is_record(record: Any) -> bool:
    record = as_object(record)
    kind = as_text(record.get("type")) or ""
    if kind == "metadata":
        return _HEADER in record
    is_known = kind.startswith(("context.append_", "llm.", "turn.")) or kind in _CONFIG
    return is_known and "time" in record


def companion(head: Head) -> bool:
    """The state of a session, which names its agents."""
    return {"agents", "workDir"} <= head.keys and is_object(head.first["agents"])


def bundle(source: Source) -> str:
    """The folder, for the two files of a session of Kimi CLI; a journal stands alone."""
    return _kimi_cli.folder_of(source) or source.name


def read(source: Source, out: Builder) -> None:
    """One run per journal; for Kimi CLI, one per session and one for each subagent inside."""
    if _kimi_cli.is_log(source):
        _kimi_cli.read(source, out)
        return
    journal: _Journal | None = None
    for pos, record in source.records():
        with out.record(pos):
            if not is_object(record) or as_text(record.get("type")) is None:
                raise UnreadableRecord("no record of a journal", pos)
            journal = journal or _Journal(_begin(source, out, pos))
            journal.tell(record, pos)
    if journal is not None:
        journal.finish()


def _begin(source: Source, out: Builder, pos: str) -> Run:
    path = PurePosixPath(source.name)
    agent = _agent(path)
    state = _state(source, agent)
    known = as_object(as_object(state.get("agents")).get(agent))
    run = out.trajectory(
        native_id=_session(known, path) if agent == "main" else agent,
        pos=pos,
        framework="kimi-code",
        metadata={
            key: fact
            for key, fact in {
                "title": as_text(state.get("title")),
                "agent": agent,
                "parent_agent": as_text(known.get("parentAgentId")),
            }.items()
            if fact is not None
        },
    )
    run.environment(cwd=as_text(state.get("workDir")))
    return run


def _agent(path: PurePosixPath) -> str:
    """Whose journal lies at a path: the folder's name tells, or the end of the file's."""
    if path.parent.parent.name == "agents":
        return path.parent.name
    named = _AGENT.fullmatch(path.stem)
    return named[1] if named else "main"


def _state(source: Source, agent: str) -> Object:
    """The state of the session, if it lies beside the journal and knows its agent."""
    stem = PurePosixPath(source.filename).stem
    for name in ("../../state.json", f"{stem}.state.json", "state.json"):
        file = source.beside(name)
        if file is None:
            continue
        try:
            state = as_object(file.json())
        except UnreadableRecord as error:
            file.problem(error.position, error.reason)
            continue
        if agent in as_object(state.get("agents")):
            return state
        source.companions.remove(file)
    return {}


def _session(agent: Object, path: PurePosixPath) -> str | None:
    """The session's name: the folder above ``agents``."""
    parts = PurePosixPath(as_text(agent.get("homedir")) or path.parent.as_posix()).parts
    return parts[-3] if len(parts) > 2 and parts[-2] == "agents" else None


class _Journal:
    """Tells the records of one agent, as they come."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._system: str | None = None
        self._model: str | None = None
        self._toolsets: dict[str, str] = {}
        self._params: Object = {}
        self._calls: dict[str, tuple[int, str]] = {}
        self._dropped = 0
        self._requested: datetime | None = None
        self._inputs: dict[str, deque[tuple[str, datetime | None]]] = {}
        self._kept_from: int | None = 0
        self._edit: str | None = None
        self._end: str | None = None

    def tell(self, record: Object, pos: str) -> None:
        """One record of the journal."""
        kind, at = record["type"], as_time(record.get("time"))
        if kind == "metadata":
            self.run.set(
                format_version=as_text(record.get(_HEADER)),
                started_at=as_time(record.get("created_at")),
            )
        elif kind in _CONFIG:
            self._tell_config(record, kind, pos, at)
        elif kind in ("turn.prompt", "turn.steer"):
            text = text_of(record.get("input"))
            self._inputs.setdefault(text or "", deque()).append((f"{pos}/input", at))
        elif kind == "context.append_message":
            self._tell_message(as_object(record.get("message")), f"{pos}/message", at)
        elif kind == "context.append_loop_event":
            self._tell_event(as_object(record.get("event")), f"{pos}/event", at)
        elif kind == "llm.tools_snapshot":
            self._tell_tools(record, pos)
        elif kind == "llm.request":
            self._tell_request(record, pos, at)
        elif kind == "usage.record":
            if self.run.steps and self.run.steps[-1].output_tokens is None:
                columns: dict[str, Any] = {**_tokens(record.get("usage"))}
                self.run.update_step(**columns)
        elif kind == "context.apply_compaction":
            self._tell_compaction(record, pos, at)
        else:
            self._tell_other(record, kind, pos, at)

    # ------------------------------------------------------------------ settings

    def _tell_config(self, record: Object, kind: str, pos: str, at: datetime | None) -> None:
        self._model = as_text(record.get("modelAlias")) or self._model
        prompt = as_text(record.get("systemPrompt"))
        if prompt is not None and prompt != self._system:
            self._system = prompt
            self.run.system(prompt, f"{pos}/systemPrompt", at=at)
        if folder := as_text(record.get("cwd")):
            self.run.environment(cwd=folder)
        rest = {k: v for k, v in record.items() if k not in ("systemPrompt", "cwd")}
        self._tell_other(rest, kind, pos, at)

    def _tell_tools(self, record: Object, pos: str) -> None:
        tools = record.get("tools")
        if not is_array(tools):
            self.run.problem(f"{pos}/tools", "tool definitions that can't be read")
            return
        offered = [as_object(tool) for tool in tools]
        name = self.run.tools(
            (as_text(t.get("name")), as_text(t.get("description")), t.get("parameters"))
            for t in offered
        )
        self._toolsets[as_text(record.get("hash")) or ""] = name

    def _tell_request(self, record: Object, pos: str, at: datetime | None) -> None:
        for name in _PARAMS:
            if record.get(name) is not None:
                self._params.setdefault(name, record[name])
        if provider := as_text(record.get("provider")):
            self.run.set(provider=provider)
        if record.get("kind") == "compaction":
            self._begin_step(pos, at)
            self._dropped += as_int(record.get("droppedCount")) or 0
        attempt = as_text(record.get("attempt"))
        if not self.run.steps:
            self._begin_step(pos, at)
        elif attempt is not None:
            self.run.event("other", attempt, f"{pos}/attempt", actor="retry", at=at)
        self._requested = at
        columns: dict[str, Any] = {
            "model": as_text(record.get("model")),
            "started_at": at if attempt is None else None,
            "toolset": self._toolsets.get(as_text(record.get("toolsHash")) or ""),
        }
        self.run.update_step(**{k: v for k, v in columns.items() if v is not None})

    def _begin_step(self, pos: str, at: datetime | None) -> None:
        self._requested = at
        self.run.step(source_pos=pos, started_at=at, model=self._model)
        if self._edit is not None:
            start = self._kept_from
            ranges = None if start is None else [(start, self.run.seq)]
            self.run.saw(ranges, None, "unknown", history_edit=self._edit)

    # ------------------------------------------------------------------ messages and steps

    def _tell_message(self, message: Object, pos: str, at: datetime | None) -> None:
        role, origin = as_text(message.get("role")), as_object(message.get("origin"))
        text, kind = text_of(message.get("content")), as_text(origin.get("kind"))
        if role == "assistant":
            self._begin_step(pos, at)
            for index, part in enumerate(as_array(message.get("content"))):
                write_part(self.run, as_object(part), f"{pos}/content/{index}", at)
            for index, call in enumerate(map(as_object, as_array(message.get("toolCalls")))):
                name, place = as_text(call.get("name")), f"{pos}/toolCalls/{index}"
                arguments, call_id = call.get("arguments"), as_text(call.get("id"))
                self.run.call(name, arguments, place, call_id=call_id, at=at)
            return
        more: dict[str, Any] = {"media": part_types(message.get("content")), "at": at}
        if role == "tool":
            call_id, is_error = as_text(message.get("toolCallId")), as_bool(message.get("isError"))
            self.run.result(text, f"{pos}/content", call_id=call_id, is_error=is_error, **more)
        elif role == "system":
            self.run.system(text, f"{pos}/content", **more)
        elif kind in (None, "user") or (kind, origin.get("name")) == ("system_trigger", "subagent"):
            self._take_input(text or "")
            self.run.user(text, f"{pos}/content", actor=as_text(origin.get("name")), **more)
        else:
            self._take_input(text or "")
            details = [as_text(origin.get(key)) for key in ("variant", "name", "event")]
            actor = " ".join(word for word in (kind, *details) if word)
            self.run.event("user", text, f"{pos}/content", actor=actor, **more)

    def _take_input(self, text: str) -> None:
        if waiting := self._inputs.get(text):
            waiting.popleft()

    def _tell_event(self, event: Object, pos: str, at: datetime | None) -> None:
        kind = as_text(event.get("type"))
        if kind == "step.begin":
            self._begin_step(pos, at)
        elif kind == "content.part":
            write_part(self.run, as_object(event.get("part")), f"{pos}/part", at)
        elif kind == "tool.call":
            name, call_id = as_text(event.get("name")), as_text(event.get("toolCallId"))
            seq = self.run.call(name, event.get("args"), pos, call_id=call_id, at=at)
            self._calls[call_id or ""] = seq, name or ""
        elif kind == "tool.result":
            self._tell_result(event, pos, at)
        elif kind == "step.end":
            self._end_step(event)
        else:
            self.run.event("other", as_json(event), pos, actor=kind, at=at)

    def _tell_result(self, event: Object, pos: str, at: datetime | None) -> None:
        result, call_id = as_object(event.get("result")), as_text(event.get("toolCallId"))
        output, note = text_of(result.get("output")), as_text(result.get("note"))
        self.run.result(
            "\n".join(part for part in (output, note) if part is not None) or output,
            f"{pos}/result",
            call_id=call_id,
            is_error=as_bool(result.get("isError")),
            media=part_types(result.get("output")),
            at=at,
        )
        seq, tool = self._calls.get(call_id or "", (0, ""))
        for started in _STARTED_AGENT.findall(output or "") if tool.startswith("Agent") else ():
            self.run.spawned(started, seq)

    def _end_step(self, event: Object) -> None:
        if not self.run.steps:
            return
        columns: dict[str, Any] = {
            "stop_reason": as_text(event.get("finishReason")),
            **_tokens(event.get("usage")),
        }
        start = self._requested
        waited = as_float(event.get("llmFirstTokenLatencyMs"))
        streamed = as_float(event.get("llmStreamDurationMs"))
        if start is not None and waited is not None and streamed is not None:
            columns["ended_at"] = as_time(start.timestamp() + max(0, waited + streamed) / 1e3)
        self.run.update_step(**{k: v for k, v in columns.items() if v is not None})

    # ------------------------------------------------------------------ the history, and the rest

    def _tell_compaction(self, record: Object, pos: str, at: datetime | None) -> None:
        summary = as_text(record.get("summary"))
        self.run.event("compaction", summary, f"{pos}/summary", actor="harness", at=at)
        self._kept_from, self._edit = None, "compacted"
        rest = {k: v for k, v in record.items() if k not in ("summary", "contextSummary")}
        self._tell_other(rest, "context.apply_compaction", pos, at)

    def _tell_other(self, record: Object, kind: str, pos: str, at: datetime | None) -> None:
        """A record that is no turn: a setting, a permission, a plan, a goal."""
        rest = {k: v for k, v in record.items() if k not in ("type", "time", "agentId")}
        self.run.event("other", as_json(rest or None), pos, actor=kind, at=at)
        if kind == "context.clear":
            self._kept_from, self._edit = self.run.seq, "truncated"
        elif kind in _CUTS:
            self._kept_from, self._edit = None, self._edit or "truncated"
        elif kind in ("turn.ended", "turn.cancel"):
            self._end = as_text(record.get("reason")) or kind.removeprefix("turn.")

    def finish(self) -> None:
        """What was typed and never entered the history, and how the last turn ended."""
        for text, waiting in self._inputs.items():
            for pos, at in waiting:
                self.run.event("other", text, pos, actor="user", error_type="not sent", at=at)
        end = {"cancel": "cancelled"}.get(self._end or "", self._end)
        self.run.outcome(_OUTCOMES.get(end or ""), end_reason=end)
        self.run.set(params=self._params or None)
        if self._dropped:
            known = as_object(self.run.columns["metadata"])
            self.run.set(metadata={**known, "dropped_in_compaction": self._dropped})


def _tokens(usage: Any) -> dict[str, int | None]:
    usage = as_object(usage)
    cached = as_int(usage.get("inputCacheRead"))
    new = total(as_int(usage.get("inputOther")), as_int(usage.get("inputCacheCreation")))
    return {
        "input_tokens": total(new, cached),
        "output_tokens": as_int(usage.get("output")),
        "cached_tokens": cached,
    }
