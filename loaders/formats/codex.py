"""Codex rollouts: ``rollout-<time>-<id>.jsonl``, each line a ``{timestamp, type, payload}``.

``response_item`` lines are the history; ``event_msg`` lines mostly show it once more (reasoning,
messages, ends of commands). What only an event has, as in aborted turns, is told too; the rest of
it is told once. Reasoning is encrypted, with a summary or without one (hidden).

Model calls are not marked. A count of tokens stands before the output of its call in some versions
and behind it in others, never in the middle, so counts part the calls; in a log without them a tool's
output does. Counts come again with rate limits, and the running total restarts when a session is
resumed: a call's tokens are ``last_token_usage``, each once. A compaction replaces the history by
what it lists: from then on calls have a ``context``. Requests are not recorded, so whether
reasoning was sent back stays unknown; built-in tools are not logged, only dynamic ones.

A forked session begins with a copy of another one, head included: the first head counts. The first
versions wrote the items bare, without type and payload around them.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.context import Range, ranges_of
from loaders.dialects.openai_chat import text_and_media
from loaders.errors import UnreadableRecord
from loaders.formats._codex_ignored import PATHS
from loaders.formats._codex_notes import Notes
from loaders.formats._codex_tools import CALLS, ENDINGS, OUTPUTS, call_of, ending_of, output_of
from loaders.formats._codex_twins import Twins, squeezed
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "Codex rollout"
GIVES = ("thinking", "tokens")
LOGS_THINKING = "always"
IGNORED = PATHS

_LINES = {
    *("session_meta", "response_item", "event_msg", "turn_context", "compacted"),
    *("world_state", "inter_agent_communication_metadata"),
}
_BARE = {"message", "reasoning", *CALLS, *OUTPUTS}
_INJECTED = re.compile(
    r"\s*(?:<(?:environment_context|user_instructions|turn_aborted|permissions instructions|skill"
    r"|subagent_notification|user_shell_command|collaboration_mode|personality_spec)\b"
    r"|# AGENTS\.md instructions for )"
)
_SILENT = re.compile(  # progress on the screen: nothing that is not told elsewhere
    r"(?:task|turn)_started|context_compacted|raw_response_item|agent_reasoning_section_break"
    r"|codex/event/raw_item|turn_diff|.*_(?:begin|delta)"
)
_SPOKEN = {  # events that show what an item of the history says
    "agent_reasoning": ("thinking", "text"),
    "agent_reasoning_raw_content": ("thinking", "text"),
    "agent_message": ("message", "message"),
    "user_message": ("user", "message"),
}
_SHOWN_ITEMS = {"UserMessage": "user", "AgentMessage": "message"}
_MOST_RANGES = 100  # a history in more pieces than that is not told


def sniff(head: Head) -> bool:
    """Lines of a known type with a payload, or the head of a session before bare items."""
    if {"id", "timestamp", "instructions"} <= head.keys and "type" not in head.keys:
        return any(as_text(as_object(record).get("type")) in _BARE for record in head.records[1:])
    return any(_is_line(record) for record in (head.first, *head.records))


def _is_line(record: Any) -> bool:
    record = as_object(record)
    return (
        "timestamp" in record
        and is_object(record.get("payload"))
        and as_text(record.get("type")) in _LINES
    )


def read(source: Source, out: Builder) -> None:
    """One run per file."""
    rollout: _Rollout | None = None
    for pos, record in source.json_lines():
        if rollout is None:
            run = out.trajectory(pos="", framework="codex")
            rollout = _Rollout(run)
        with out.record(pos):
            rollout.tell(record, pos)
    if rollout is not None:
        rollout.finish()


class _Rollout:
    """Tells a session line by line and keeps what later lines refer to."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.id: str | None = None
        self.model: str | None = None
        self.notes = Notes()
        self.copied: list[str] = []
        self.efforts: list[str] = []
        self.end: tuple[str | None, str | None] = (None, None)
        self.is_open = self.is_uncounted = self.has_counts = False
        self.counted: tuple[dict[str, Any], str] | None = None  # whose call has told nothing yet
        self.total: Object = {}
        self.calls: dict[str, int] = {}
        self.endings: dict[str, dict[str, Any]] = {}
        self.unsaid: dict[str, tuple[Object, str, datetime | None]] = {}  # ends without an output
        self.answered: set[str] = set()
        self.twins = {role: Twins() for role in ("thinking", "message", "user")}
        self.places: dict[str, int] = {}  # of messages, by what they say
        self.kept: list[Range] | None = None
        self.kept_until = 0
        self.edit: str | None = None

    def tell(self, record: Any, pos: str) -> None:
        record = as_object(record)
        kind, payload = as_text(record.get("type")), record.get("payload")
        at = as_time(record.get("timestamp"))
        if is_object(payload):
            pos = f"{pos}/payload"
        elif kind in _BARE:
            kind, payload = "response_item", record
        elif "type" not in record and "id" in record:
            kind, payload = "session_meta", record
        elif "record_type" in record:
            return
        else:
            raise UnreadableRecord("no line of a rollout: it has no payload", pos)
        if kind == "session_meta":
            self._tell_head(payload, pos, at)
        elif kind == "turn_context":
            self._tell_settings(payload)
        elif kind == "response_item":
            self._tell_item(payload, pos, at)
        elif kind == "event_msg":
            self._tell_event(payload, pos, at)
        elif kind == "compacted":
            self._tell_compaction(payload, pos, at)
        else:
            self.run.event("other", as_json(payload), pos, actor=kind, at=at)

    # ------------------------------------------------------------------ the session

    def _tell_head(self, head: Object, pos: str, at: datetime | None) -> None:
        run, name = self.run, as_text(head.get("id"))
        if not self.notes.note_head(head):
            if name and name != self.id:
                self.copied.append(name)
            return
        self.id = name
        git = as_object(head.get("git"))
        run.set(
            native_id=name,
            framework_version=as_text(head.get("cli_version")),
            provider=as_text(head.get("model_provider")),
            started_at=as_time(head.get("timestamp")),
        )
        run.environment(cwd=as_text(head.get("cwd")), commit=as_text(git.get("commit_hash")))
        base = as_object(head.get("base_instructions"))
        for text, key in (
            (as_text(base.get("text")), "base_instructions/text"),
            (as_text(head.get("instructions")), "instructions"),
        ):
            if text:
                run.system(text, f"{pos}/{key}", at=at)
        if head.get("dynamic_tools"):
            run.tools(_definitions(head["dynamic_tools"]))

    def _tell_settings(self, context: Object) -> None:
        self._close_call()
        self.model = as_text(context.get("model")) or self.model
        effort = as_text(context.get("effort"))
        if effort and effort not in self.efforts:
            self.efforts.append(effort)
        sandbox = as_object(context.get("sandbox_policy"))
        self.notes.note_settings(context)
        facts = self.notes.facts
        if "approval_policy" not in facts:
            facts["approval_policy"] = as_text(context.get("approval_policy"))
            self.run.environment(
                sandbox=as_text(sandbox.get("mode")) or as_text(sandbox.get("type")),
                network_access=sandbox.get("network_access"),
            )

    # ------------------------------------------------------------------ model calls

    def _begin_call(self, pos: str) -> None:
        """A model call begins, unless what comes is part of the present one."""
        if self.is_open:
            return
        self._tell_unshown("user")
        columns, _ = self.counted or ({}, "")
        self.is_open, self.is_uncounted, self.counted = True, self.counted is None, None
        self.run.step(source_pos=pos, model=self.model, **columns)
        if self.kept is not None or self.edit is not None:
            ranges = None if self.kept is None else [*self.kept, (self.kept_until, self.run.seq)]
            self.run.saw(ranges, None, "unknown", history_edit=self.edit)

    def _close_call(self) -> None:
        """The present call ends here for certain; what was only heard of it is told."""
        self._tell_unshown("thinking", "message")
        self._tell_silent_call()
        self.is_open = self.is_uncounted = False

    def _tell_silent_call(self, **columns: Any) -> None:
        """A call that was counted and whose output is not logged."""
        if self.counted is not None:
            self.is_open = False
            self._begin_call(self.counted[1])
            self.run.update_step(**columns)

    def _count(self, info: Object, pos: str, at: datetime | None) -> None:
        total, last = as_object(info.get("total_token_usage")), info.get("last_token_usage")
        if info and not is_object(last):
            self.run.problem(pos, "a count of tokens that names no call's")
        usage = _usage(as_object(last))
        if total == self.total or not (usage["input_tokens"] or usage["output_tokens"]):
            return  # repeated with rate limits, or an estimate of the context's size
        self.total, self.has_counts = total, True
        columns: dict[str, Any] = {**usage, "ended_at": at}
        if self.is_uncounted:
            self.run.update_step(**columns)
        else:
            self._tell_silent_call()
            self.counted = columns, pos
        self.is_open = self.is_uncounted = False

    # ------------------------------------------------------------------ items of the history

    def _tell_item(self, item: Object, pos: str, at: datetime | None) -> None:
        run, kind = self.run, as_text(item.get("type")) or "unknown"
        call_id = as_text(item.get("call_id")) or as_text(item.get("id"))
        if kind == "reasoning":
            self._begin_call(pos)
            self._tell_reasoning(item, pos, at)
        elif kind == "message":
            self._tell_message(item, pos, at)
        elif kind in CALLS:
            self._begin_call(pos)
            seq = run.call(*call_of(item), pos, call_id=call_id, at=at)
            if call_id:
                self.calls[call_id] = seq
            if kind == "image_generation_call" and item.get("result"):
                run.result(None, f"{pos}/result", answers=seq, media=["image"], at=at)
        elif kind in OUTPUTS:
            known = self.endings.pop(call_id or "", {})
            self.unsaid.pop(call_id or "", None)
            self.answered.add(call_id or "")
            text, columns = output_of(item)
            key = "tools" if kind == "tool_search_output" else "output"
            run.result(text, f"{pos}/{key}", call_id=call_id, at=at, **{**known, **columns})
            self.is_open = self.is_open and self.has_counts
        elif kind == "agent_message":  # from another agent to this one
            self._close_call()
            text, media = text_and_media(item.get("content"))
            run.event("user", text, pos, actor=as_text(item.get("author")), media=media, at=at)
        elif "compact" in kind:
            signature = as_text(item.get("encrypted_content"))
            run.event("compaction", None, pos, signature=signature, at=at)
        elif kind != "ghost_snapshot":
            run.event("other", as_json(item), pos, actor=kind, at=at)

    def _tell_reasoning(self, item: Object, pos: str, at: datetime | None) -> None:
        """Open text, a summary, or encrypted alone."""
        signature = as_text(item.get("encrypted_content"))
        text, state, place = None, "hidden", pos
        for key, its_state in (("summary", "summary"), ("content", "text")):
            parts = [as_text(as_object(part).get("text")) for part in as_array(item.get(key))]
            shown = [part for part in parts if part]
            for part in shown:
                self.twins["thinking"].say(part)
            if shown:
                text, state, place = "\n\n".join(shown), its_state, f"{pos}/{key}"
        self.run.thinking(text, place, state=state, signature=signature, at=at)

    def _tell_message(self, item: Object, pos: str, at: datetime | None) -> None:
        run, role = self.run, as_text(item.get("role"))
        text, media = text_and_media(item.get("content"))
        pos, key = f"{pos}/content", squeezed(text)
        if role == "assistant":
            self._begin_call(pos.removesuffix("/content"))
            self.twins["message"].say(text)
            seq = run.message(text, pos, media=media, at=at)
            self.notes.note_message(item, seq)
        else:
            self._close_call()
            if role in ("system", "developer"):
                seq = run.event("system", text, pos, actor=role, media=media, at=at)
            elif _INJECTED.match(text or ""):
                seq = run.event("user", text, pos, actor="harness", media=media, at=at)
            else:
                self.twins["user"].say(text)
                self.end = (None, None)
                seq = run.user(
                    text, pos, actor=None if role == "user" else role, media=media, at=at
                )
        self.places[key] = seq

    def _tell_compaction(self, record: Object, pos: str, at: datetime | None) -> None:
        self._tell_silent_call(agent="compaction")
        self._close_call()
        self.notes.note_compaction(record)
        history, unknown, known = record.get("replacement_history"), list[str](), list[int]()
        for item in as_array(history):
            text, _ = text_and_media(as_object(item).get("content"))
            place = self.places.get(squeezed(text))
            if place is not None:
                known.append(place)
            elif text:
                unknown.append(text)
        text = as_text(record.get("message")) or "\n\n".join(unknown) or None
        seq = self.run.event("compaction", text, pos, at=at)
        ranges = ranges_of(known)
        is_told = is_array(history) and len(ranges) < _MOST_RANGES
        self.kept = ranges if is_told else None
        self.kept_until, self.edit = seq, "compacted"

    # ------------------------------------------------------------------ events

    def _tell_event(self, event: Object, pos: str, at: datetime | None) -> None:
        run, kind = self.run, as_text(event.get("type")) or "unknown"
        error = as_object(event.get("error"))
        if kind == "token_count":
            self.notes.note_counts(event)
            self._count(as_object(event.get("info")), pos, at)
        elif kind == "account/rateLimits/updated":
            self.notes.note_counts(event)
        elif kind in _SPOKEN:
            role, key = _SPOKEN[kind]
            self.notes.note_message(event, None)
            self.twins[role].hear(as_text(event.get(key)), f"{pos}/{key}", at)
        elif kind == "item_completed":
            self._tell_shown_item(as_object(event.get("item")), f"{pos}/item", at)
        elif kind in ("task_complete", "turn_complete", "turn_aborted"):
            self._close_call()
            self.notes.note_turn_end(self._without_known_message(event))
            reason = as_text(event.get("reason")) or as_text(error.get("message"))
            outcome = "error" if error else "cancelled" if kind == "turn_aborted" else None
            self.end = (outcome, reason or kind)
        elif kind in ("error", "stream_error"):
            text = as_text(event.get("message")) or as_text(error.get("message"))
            run.event("error", text, pos, actor="harness", error_type=_error_type(event), at=at)
            self.notes.note_error(event)
            self.end = ("error", text) if kind == "error" else self.end
        elif kind == "turn.completed":
            self.notes.add("turn_usage", as_object(event.get("usage")))
            self.notes.note_turn_end({**event, "usage": None})
        elif not _SILENT.fullmatch(kind):
            self._tell_ending(kind, event, pos, at)
        if kind == "thread_rolled_back":
            self.kept, self.edit = None, "truncated"

    def _without_known_message(self, event: Object) -> Object:
        """The end of a turn, and its last message only where the history lacks it."""
        last = as_text(event.get("last_agent_message"))
        is_known = self.twins["message"].is_known(last)
        return {**event, "last_agent_message": None} if is_known else event

    def _tell_shown_item(self, item: Object, pos: str, at: datetime | None) -> None:
        kind = as_text(item.get("type")) or "unknown"
        if kind in _SHOWN_ITEMS:
            text, _ = text_and_media(item.get("content"))
            self.notes.note_message({**item, "phase": None}, None)
            self.twins[_SHOWN_ITEMS[kind]].hear(text, f"{pos}/content", at)
        elif kind == "Reasoning":
            for index, text in enumerate(as_array(item.get("summary_text"))):
                self.twins["thinking"].hear(as_text(text), f"{pos}/summary_text/{index}", at)
        else:
            self._tell_ending(kind, item, pos, at)

    def _tell_ending(self, kind: str, event: Object, pos: str, at: datetime | None) -> None:
        """How a tool ended goes to its output, which comes later; what ended no call is told."""
        call_id = as_text(event.get("call_id")) or as_text(event.get("id")) or ""
        seq = self.calls.get(call_id)
        if seq is not None and event.get("results"):  # of a search, which puts out nothing else
            text, place = as_json(event["results"]), f"{pos}/results"
            self.run.result(text, place, answers=seq, call_id=call_id, at=at, **ending_of(event))
        elif seq is not None and kind in ENDINGS and call_id not in self.answered:
            self.endings[call_id] = self.endings.get(call_id, {}) | ending_of(event)
            self.unsaid.setdefault(call_id, (event, pos, at))
        else:
            text = as_json(event)
            seq = self.run.event("other", text, pos, actor=kind, call_id=call_id or None, at=at)
        child = as_text(event.get("new_thread_id"))
        if event.get("kind") == "started":
            child = child or as_text(event.get("agent_thread_id"))
        if child:
            self.run.spawned(child, self.calls.get(call_id, seq))

    def _tell_unshown(self, *roles: str) -> None:
        """Tell what only events say."""
        for role in roles:
            for text, pos, at in self.twins[role].only_heard():
                if role == "user":
                    self.run.user(text, pos, at=at)
                    continue
                self._begin_call(pos)
                if role == "thinking":
                    self.run.thinking(text, pos, state="summary", at=at)
                else:
                    self.run.message(text, pos, at=at)

    def finish(self) -> None:
        """Set what is known of the whole session."""
        self._close_call()
        self._tell_unshown("user")
        for call_id, (event, pos, at) in self.unsaid.items():
            kind = as_text(event.get("type"))
            self.run.event("other", as_json(event), pos, actor=kind, call_id=call_id, at=at)
        efforts = self.efforts if len(self.efforts) > 1 else "".join(self.efforts) or None
        copied = {"copied_from": self.copied} if self.copied else {}
        self.run.set(
            params={"reasoning_effort": efforts} if efforts else None,
            metadata=self.notes.metadata | copied,
        )
        self.run.outcome(self.end[0], end_reason=self.end[1])


def _usage(usage: Object) -> dict[str, int | None]:
    return {
        "input_tokens": as_int(usage.get("input_tokens")),
        "output_tokens": as_int(usage.get("output_tokens")),
        "reasoning_tokens": as_int(usage.get("reasoning_output_tokens")),
        "cached_tokens": as_int(usage.get("cached_input_tokens")),
    }


def _definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """Dynamic tools, alone or in named groups."""
    found: list[tuple[str | None, str | None, Any]] = []
    for tool in map(as_object, as_array(tools) or [tools]):
        if is_array(tool.get("tools")):
            found.extend(_definitions(tool["tools"]) if tool["tools"] else [])
        else:
            name, description = as_text(tool.get("name")), as_text(tool.get("description"))
            found.append((name, description, tool.get("inputSchema")))
    return found


def _error_type(event: Object) -> str | None:
    info = event.get("codex_error_info") or as_object(event.get("error")).get("kind")
    return next(iter(info), None) if is_object(info) else as_text(info)
