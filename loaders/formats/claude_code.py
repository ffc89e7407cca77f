"""Claude Code sessions: ``<session>.jsonl`` and the logs of their subagents.

A line holds one content block of a reply. The lines of one model call share ``message.id``, repeat
its usage (the last is the true one) and may be split by results and other lines: here they stand
together where the call began, as the model emitted them. A step's ``ended_at`` is the time of its
last line; when the request was sent is not logged.

A subagent's lines stand in the session (``isSidechain``) or in ``agent-<id>.jsonl`` beside it; each
is a run, linked by the agent's id in the parent's ``toolUseResult``, or, where old versions write
none, by the prompt that the call passed on. Branches that the user left by editing an earlier turn
are kept, in the order of the file. What the harness attached to a turn is told as it logs it, which
may be more or less than the model was given. Notes on the session, calls and results are in
``metadata``; snapshots and progress are only counted there. What a call was sent is not logged, but
for what the log itself says of edits to its history.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects.anthropic import system_text, write_block
from loaders.formats._claude_code_agents import (
    COMMANDS,
    COMPACTIONS,
    HOOK_FAILURES,
    INTERRUPT,
    THINKING_CUTS,
    Agent,
    apart,
    is_notice,
)
from loaders.formats._claude_code_ignored import PATHS
from loaders.formats._claude_code_lines import (
    Block,
    Entry,
    Line,
    Message,
    Outcome,
    Usage,
    described,
    entries,
)
from loaders.formats._claude_code_notes import Notes, record_of, without_bytes
from loaders.heads import Head
from loaders.jsontext import decode
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

TITLE = "Claude Code session"
GIVES = ("thinking", "tools", "tokens")
LOGS_THINKING = "always"
IGNORED = PATHS

_SESSION_RECORDS = frozenset(
    {
        "permission-mode",
        "queue-operation",
        "mode",
        "last-prompt",
        "custom-title",
        "ai-title",
        "agent-name",
        "agent-setting",
        "cost-state",
        "worktree-state",
        "relocated",
    }
)
_HARNESS = "claude-code"
_SPAWNERS = frozenset({"Task", "Agent"})
_EXIT_CODE = re.compile(r"Exit code (\d{1,9})\b")
_AGENT_FILE = re.compile(r"agent-(.+?)\.jsonl")
_NOTHING_NOTED = Outcome()
_NO_COUNTS = (None, None, None, None)


def sniff(head: Head) -> bool:
    """Lines in a tree of turns, or a first line of a kind that only such a session begins with."""
    first = as_object(head.value)
    kind = first.get("type")
    return (
        any(
            r.keys() >= {"parentUuid", "isSidechain"}
            and "systemPayload" not in r  # Qwen Code has these payloads, and parts
            and "parts" not in as_object(r.get("message"))
            for r in (first, *head.records)
            if is_object(r)
        )
        or (kind == "summary" and "leafUuid" in first)
        or (kind == "file-history-snapshot" and "messageId" in first)
        or (kind in _SESSION_RECORDS and "sessionId" in first)
    )


def companion(head: Head) -> bool:
    """What a session notes of a subagent, beside its log."""
    is_note = head.filename.startswith("agent-") and head.filename.endswith(".meta.json")
    return is_note and "agentType" in head.keys


def read(source: Source, out: Builder) -> None:
    """The session's run, then one for each subagent whose lines stand in the same file."""
    agent_file = _AGENT_FILE.match(source.filename)
    main = Agent()
    inside: list[Entry] = []
    for entry in entries(source):
        if entry.line.is_sidechain and agent_file is None:
            inside.append(entry)
        else:
            main.add(entry)
    main.key = (main.agent_id or agent_file[1]) if agent_file else main.session
    if agent_file:
        with out.record(None):
            note = source.beside(f"agent-{agent_file[1]}.meta.json")
            main.note = as_object(note.json()) if note else {}
    awaited: dict[str, deque[str]] = {}
    agents = [agent for agent in (main, *apart(inside)) if agent.groups]
    for agent in agents:
        if agent is not main and agent.key and agent.agent_id is None and agent.prompt:
            awaited.setdefault(agent.prompt, deque()).append(agent.key)
    for agent in agents:
        _Telling(source, out, agent, awaited).tell_all()


# ---------------------------------------------------------------------- tell


class _Telling:
    """Tells one agent's lines as a run."""

    def __init__(
        self, source: Source, out: Builder, agent: Agent, awaited: dict[str, deque[str]]
    ) -> None:
        self.source, self.out, self.agent, self.awaited = source, out, agent, awaited
        first = agent.first or Line()
        self.name = as_text(agent.note.get("agentType")) or first.attribution_agent
        self.run: Run = out.trajectory(
            native_id=agent.key,
            pos=agent.groups[0][0].pos,
            framework=_HARNESS,
            framework_version=first.version,
        )
        self.run.environment(cwd=first.cwd, git_branch=first.git_branch)
        self.told: dict[str, int] = {}
        self.early: dict[str, list[Entry]] = {}
        self.spawned: set[str] = set()
        self.history_edit: str | None = None
        self.edit_of: dict[str, str] = {}
        self.step_of: dict[str, int] = {}
        self.compactions: list[Object] = []
        self.notes = Notes()
        self.end: str | None = None

    def tell_all(self) -> None:
        """The whole run; lines that can't be told are a problem, and the next ones are told."""
        rest = iter(self.agent.groups)
        while (group := next(rest, None)) is not None:
            with self.out.record(None):
                self._tell(group)
                for group in rest:
                    self._tell(group)
                    group.clear()  # what is told need not be held twice
        with self.out.record(None):
            for call_id in list(self.early):
                self._tell_early(call_id)
            self._tell_what_is_known()

    def _tell(self, group: list[Entry]) -> None:
        entry = group[0]
        line = entry.line
        self.source.position = entry.pos
        if line.type == "assistant":
            if is_notice(line):
                self._tell_notice(entry)
            else:
                self._tell_call(group)
        elif line.type == "user":
            self._tell_user(entry)
        elif line.type == "system":
            self._tell_system(group)
        else:
            self._tell_attachment(entry)

    # ------------------------------------------------------------------ replies

    def _tell_call(self, group: list[Entry]) -> None:
        usage: Usage | None = None
        edit, error = self.history_edit, None
        self.end = None
        for entry in group:  # the last word on usage and end is the true one
            line = entry.line
            message = line.message or Message()
            usage = usage if message.usage is None else message.usage
            self.end = message.stop_reason or self.end
            if message.context_management is not None:
                edit = edit or message.history_edit
            if error is None and (line.error is not None or line.is_aborted_mid_stream):
                error = line.call_error
        first = group[0]
        fresh, output, reasoning, cached = _NO_COUNTS if usage is None else usage.counts
        request = first.line.request_id
        number = self.run.step(
            agent=self.name,
            model=first.line.message.model if first.line.message else None,
            ended_at=group[-1].at,
            stop_reason=self.end,
            error=error,
            history_edit=edit or (self.edit_of.get(request or "") if self.edit_of else None),
            source_pos=first.pos,
            input_tokens=fresh,
            output_tokens=output,
            reasoning_tokens=reasoning,
            cached_tokens=cached,
        )
        if request is not None:
            self.step_of[request] = number
            self.notes.requests[str(number)] = request
        self.notes.note_call(number, group, usage)
        for entry in group:
            self._tell_content(entry)
        if self.early:
            messages = [entry.line.message or Message() for entry in group]
            for call_id in [block.id for m in messages for block in m.blocks if block.id]:
                self._tell_early(call_id)

    def _tell_content(self, entry: Entry) -> None:
        message, at = entry.line.message, entry.at
        content = None if message is None else message.content
        if content is None:
            self.run.problem(entry.pos, "a message without content")
        elif isinstance(content, str):
            self._tell_text(entry, content, f"{entry.pos}/message/content", at)
        else:
            for index, block in enumerate(content):
                pos = f"{entry.pos}/message/content/{index}"
                kind = block.type
                if kind == "tool_use":
                    self._tell_tool_use(block, pos, at)
                elif kind == "tool_result":
                    self._tell_result(entry.line, block, pos, at, is_alone=len(content) == 1)
                elif kind == "thinking":
                    text = block.thinking or None
                    state = "text" if text else "hidden"
                    self.run.thinking(text, pos, state=state, signature=block.signature, at=at)
                elif kind == "text":
                    self._tell_text(entry, block.text, pos, at)
                else:
                    whole = as_array(as_object(entry.record.get("message")).get("content"))
                    write_block(self.run, whole[index], pos, role=entry.line.type, at=at)

    def _tell_text(self, entry: Entry, text: str | None, pos: str, at: datetime | None) -> None:
        line = entry.line
        if not text:
            return
        if line.type == "assistant":
            self.run.message(text, pos, at=at)
        elif line.is_compact_summary:
            self.run.event("compaction", text, pos, actor=_HARNESS, at=at)
            self.history_edit = "compacted"
        elif text.startswith(INTERRUPT):
            self.run.event("error", text, pos, actor="user", error_type="interrupted", at=at)
            self.end = "interrupted"
        elif line.is_meta:
            self.run.event("user", text, pos, actor=line.actor or _HARNESS, at=at)
        else:
            self.run.user(text, pos, actor=line.actor, at=at)
            if not text.startswith(COMMANDS):
                self.end = None

    def _tell_tool_use(self, block: Block, pos: str, at: datetime | None) -> None:
        arguments = block.arguments
        seq = self.run.call(block.name, arguments, pos, call_id=block.id, at=at)
        if block.id is not None:
            self.told[block.id] = seq
        if self.awaited and arguments and block.name in _SPAWNERS:
            prompt = as_text(as_object(decode(arguments.encode())).get("prompt"))
            if children := self.awaited.get(prompt or ""):
                self.run.spawned(children.popleft(), seq)

    def _tell_notice(self, entry: Entry) -> None:
        """What the harness wrote in the model's place is no model call."""
        message = entry.line.message or Message()
        texts = [block.text for block in message.blocks if block.text]
        text = message.content if isinstance(message.content, str) else "\n".join(texts)
        if entry.line.is_api_error_message:
            self._tell_error(entry, text, entry.line.call_error or "api_error")
            self.end = "api_error"
        else:
            self.run.event(
                "other", text, entry.pos, actor=_HARNESS, error_type="synthetic", at=entry.at
            )

    def _tell_error(self, entry: Entry, text: str | None, kind: str, **more: Any) -> None:
        more = {"actor": _HARNESS, **more}
        self.run.event("error", text, entry.pos, error_type=kind, at=entry.at, **more)

    # ------------------------------------------------------------------ user lines

    def _tell_user(self, entry: Entry) -> None:
        message = entry.line.message
        content = None if message is None else message.content
        call_id = content[0].tool_use_id if content and isinstance(content, list) else None
        if call_id is not None and call_id not in self.told and call_id in self.agent.call_ids:
            self.early.setdefault(call_id, []).append(entry)
        else:
            self._tell_content(entry)

    def _tell_early(self, call_id: str) -> None:
        """Results that the file holds before their call."""
        for entry in self.early.pop(call_id, ()):
            self._tell_content(entry)

    def _tell_result(
        self, line: Line, block: Block, pos: str, at: datetime | None, *, is_alone: bool
    ) -> None:
        text, media = block.content, None
        if isinstance(text, list):
            text, media = block.text_and_media
        noted = line.tool_use_result
        if not isinstance(noted, Outcome) or not is_alone:
            noted = _NOTHING_NOTED
        is_error = noted.is_error if block.is_error is None else block.is_error
        exit_code, error_type = noted.exit_code, line.tool_denial_kind
        if is_error and text:
            if exit_code is None and (found := _EXIT_CODE.match(text)):
                exit_code = int(found[1])
            if error_type is None and text.startswith("<tool_use_error>"):
                error_type = "tool_use_error"
        if noted.interrupted or noted.was_interrupted:
            error_type = error_type or "interrupted"
        call_id = block.tool_use_id
        seq = self.run.result(
            text,
            pos,
            call_id=call_id,
            by_order=call_id is None,
            is_error=is_error,
            error_type=error_type,
            exit_code=exit_code,
            truncated=noted.is_truncated,
            duration_s=noted.seconds,
            at=at,
            media=media,
        )
        if noted is _NOTHING_NOTED:
            return
        if call_id and (notes := noted.notes):
            self.notes.results[call_id] = notes
        child = noted.agent_id
        if child is not None and child not in self.spawned:
            self.spawned.add(child)
            self.run.spawned(child, self.told.get(block.tool_use_id or "", seq))

    # ------------------------------------------------------------------ system lines, attachments

    def _tell_system(self, group: list[Entry]) -> None:
        self.agent.records.append(group[0])
        entry, record = group[0], group[0].record
        kind, content = entry.line.subtype or "error", as_text(record.get("content"))
        if kind in COMPACTIONS:
            told = as_object(record.get("compactMetadata") or record.get("microcompactMetadata"))
            names = ("trigger", "preTokens", "postTokens", "tokensSaved")
            known = {name: told[name] for name in names if name in told}
            self.compactions.append({"line": entry.number, "kind": kind, **known})
            before = self.run.seq
            if len(group) > 1:
                self._tell_content(group[1])
            if self.run.seq == before:
                self.run.event("compaction", content, entry.pos, actor=_HARNESS, at=entry.at)
            if self.history_edit != "compacted":  # what is compacted stays so
                self.history_edit = COMPACTIONS[kind]
        elif kind == "local_command":
            self.run.event("user", content, entry.pos, actor=_HARNESS, at=entry.at)
        elif kind == "stop_hook_summary":
            errors = [as_text(e) or as_json(e) or "" for e in as_array(record.get("hookErrors"))]
            if record.get("preventedContinuation") is True:
                errors.append(as_text(record.get("stopReason")) or "continuation prevented")
            if errors:
                self._tell_error(entry, "\n".join(errors), "hook_error")
        else:
            error = record.get("error") or record.get("cause")
            text, own_kind = described(error)
            self._tell_error(entry, text or content or as_json(error), own_kind or kind)

    def _tell_attachment(self, entry: Entry) -> None:
        attachment = as_object(entry.record.get("attachment"))
        kind = entry.line.attachment.type if entry.line.attachment else ""
        if kind == "queued_command":
            self._tell_queued(entry, attachment)
        elif kind == "prompt_snapshot":
            self._tell_prompt(entry, attachment)
        elif kind == "environment":
            snapshot = as_object(attachment.get("snapshot"))
            names = ("platform", "shell", "osVersion", "isWorktree", "isGitRepo")
            self.run.environment(**{name: snapshot.get(name) for name in names})
            if entry.line.rendered:
                self._tell_other(entry, attachment, kind)
        elif kind in HOOK_FAILURES:
            blocking = as_object(attachment.get("blockingError")).get("blockingError")
            words = (blocking, attachment.get("stderr"), attachment.get("content"))
            milliseconds = as_float(attachment.get("durationMs"))
            self._tell_error(
                entry,
                next((text for word in words if (text := as_text(word))), None),
                kind,
                actor=as_text(attachment.get("hookName")) or _HARNESS,
                exit_code=as_int(attachment.get("exitCode")),
                duration_s=None if milliseconds is None else milliseconds / 1000,
            )
        else:
            self._tell_other(entry, attachment, kind)

    def _tell_queued(self, entry: Entry, attachment: Object) -> None:
        """What reached the model in the middle of a turn."""
        prompt, pos = attachment.get("prompt"), f"{entry.pos}/attachment/prompt"
        kind = as_text(as_object(attachment.get("origin")).get("kind"))
        actor = None if kind == "human" else kind
        if is_array(prompt):
            for index, block in enumerate(prompt):
                more = {"actor": actor, "at": entry.at}
                write_block(self.run, block, f"{pos}/{index}", role="user", **more)
        else:
            self.run.event("user", as_text(prompt), pos, actor=actor, at=entry.at)

    def _tell_prompt(self, entry: Entry, attachment: Object) -> None:
        """System prompt and tool definitions, which late versions write down."""
        if is_array(attachment.get("tools")):
            tools = [as_object(tool) for tool in attachment["tools"]]
            self.run.tools(
                (as_text(t.get("name")), as_text(t.get("description")), t.get("schema"))
                for t in tools
            )
        prompt = attachment.get("systemPrompt")
        if prompt is not None:
            blocks = [{"text": part} for part in prompt] if is_array(prompt) else prompt
            self.run.system(
                system_text(blocks), f"{entry.pos}/attachment/systemPrompt", at=entry.at
            )

    def _tell_other(self, entry: Entry, attachment: Object, kind: str) -> None:
        """What the harness put before the model, or says that it kept from it."""
        cuts_thinking, rendered = kind in THINKING_CUTS, entry.line.rendered_text
        if not rendered and not any(value for key, value in attachment.items() if key != "type"):
            self.agent.leave_out(entry)
            return
        is_rendered = bool(rendered) and not cuts_thinking
        self.run.event(
            "other",
            rendered if is_rendered else as_json(without_bytes(attachment)),
            f"{entry.pos}/rendered" if is_rendered else f"{entry.pos}/attachment",
            actor=_HARNESS,
            error_type=kind,
            at=entry.at,
        )
        request = as_text(attachment.get("requestId")) if cuts_thinking else None
        if request is not None:
            self.edit_of[request] = "thinking_dropped"
            if request in self.step_of:
                self.run.update_step(self.step_of[request], history_edit="thinking_dropped")

    # ------------------------------------------------------------------ the whole run

    def _tell_what_is_known(self) -> None:
        agent, run = self.agent, self.run
        first = agent.first or Line()
        metadata = {
            "session_id": _one(agent.sessions),
            "versions": _one(agent.versions),
            "entrypoint": first.entrypoint,
            "permission_mode": _one(agent.modes),
            "agent_type": self.name,
            "tool_use_id": as_name(agent.note.get("toolUseId")),
            "title": agent.title,
            "session_cost_usd": agent.cost,
            "folders": _several(agent.folders),
            "git_branches": _several(agent.branches),
            "compactions": self.compactions or None,
            "edited_turns": len(agent.edited_at) or None,
            "not_told": dict(agent.not_told) or None,
            "records": [record_of(entry) for entry in agent.records] or None,
            **self.notes.metadata,
        }
        params = {
            "effort": _one(agent.efforts),
            "thinking": agent.thinking_setting,
        }
        run.set(
            params={key: value for key, value in params.items() if value is not None},
            metadata={key: value for key, value in metadata.items() if value is not None},
        )
        outcome = {"interrupted": "cancelled", "api_error": "error"}.get(self.end or "")
        run.outcome(outcome, end_reason=self.end)
        if agent.edited_at:
            run.problem(
                agent.edited_at[0].pos,
                f"{len(agent.edited_at)} turns replace earlier ones, whose events are kept too",
            )


def _several(values: dict[str | None, None]) -> list[str] | None:
    """All values where there are several."""
    known = [value for value in values if value is not None]
    return known if len(known) > 1 else None


def _one(values: dict[str | None, None]) -> str | list[str] | None:
    """The value where there is one, all where there are several."""
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else known or None
