"""Tells the lines of an agent in Claude Code as a run, whatever they are."""

from __future__ import annotations

from collections import Counter, deque
from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects.anthropic import write_block
from loaders.formats._claude_code_agents import (
    COMMANDS,
    COMPACTIONS,
    INTERRUPT,
    Agent,
    Awaited,
    is_notice,
)
from loaders.formats._claude_code_attachments import tell_attachment
from loaders.formats._claude_code_lines import (
    HARNESS,
    Block,
    Line,
    Message,
    Outcome,
    Usage,
    described,
)
from loaders.formats._claude_code_notes import Notes, record_of
from loaders.formats._claude_code_plain import (
    NOTHING_NOTED,
    PlainLines,
    how_it_went,
)
from loaders.jsontext import decode
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
)

_SPAWNERS = frozenset({"Task", "Agent"})
"""Tools that start a subagent."""
_STEPS_AT_ONCE = 2_048
_NO_COUNTS = (None, None, None, None)


class Telling:
    """Tells one agent's lines as a run."""

    def __init__(self, source: Source, out: Builder, agent: Agent, awaited: Awaited) -> None:
        self.source, self.out, self.agent, self.awaited = source, out, agent, awaited
        first = agent.first or Line()
        self.name = as_text(agent.note.get("agentType")) or first.attribution_agent
        self.run: Run = out.trajectory(
            native_id=agent.key,
            pos=agent.begins_at,
            framework=HARNESS,
            framework_version=first.version,
        )
        self.run.environment(cwd=first.cwd, git_branch=first.git_branch)
        self.early: dict[str, list[Line]] = {}
        self.spawned: set[str] = set()
        self.history_edit: str | None = None
        self.edit_of: dict[str, str] = {}
        self.compactions: list[Object] = []
        self.records: list[Line] = []
        self.left_out: Counter[str] = Counter()
        self.notes = Notes()
        self.end: str | None = None
        self.plain = PlainLines(self)

    def tell(self, groups: deque[Line]) -> None:
        """Tell what comes next and let go of it; what can't be told is a problem, not the rest."""
        while groups:
            with self.out.record(None):
                while groups:
                    if groups[0].plain is not None:
                        self.plain.tell(groups)
                    if groups:
                        self._tell(groups.popleft())
        are_final = self.agent.ahead is not None and not self.agent.ahead.changes_steps
        if are_final and len(self.run.steps) > _STEPS_AT_ONCE:
            self.run.hand_over_steps()

    def tell_rest(self) -> None:
        """Tell the rest of the agent's lines, and what is known at the end alone."""
        self.tell(self.agent.let_go())
        self.tell(self.agent.let_go())
        with self.out.record(None):
            for call_id in list(self.early):
                self._tell_early(call_id)
            self._tell_what_is_known()

    def _tell(self, line: Line) -> None:
        self.source.position = line.pos
        if line.type == "assistant":
            if is_notice(line):
                self._tell_notice(line)
            else:
                self._tell_call([line, *(line.more or ())])
        elif line.type == "user":
            self._tell_user(line)
        elif line.type == "system":
            self._tell_system(line)
        else:
            tell_attachment(self, line)

    # ------------------------------------------------------------------ replies

    def _tell_call(self, call: list[Line]) -> None:
        usage: Usage | None = None
        edit, error = self.history_edit, None
        self.end = None
        for line in call:  # the last word on usage and end is the true one
            message = line.message or Message()
            usage = usage if message.usage is None else message.usage
            self.end = message.stop_reason or self.end
            if message.context_management is not None:
                edit = edit or message.history_edit
            if error is None and (line.error is not None or line.is_aborted_mid_stream):
                error = line.call_error
        first = call[0]
        fresh, output, reasoning, cached = _NO_COUNTS if usage is None else usage.counts
        request = first.request_id
        number = self.run.step(
            agent=self.name,
            model=first.message.model if first.message else None,
            ended_at=call[-1].at,
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
            self.notes.note_request(number, request)
        self.notes.note_call(number, call, usage)
        for line in call:
            self._tell_content(line)
        if self.early:
            messages = [line.message or Message() for line in call]
            for call_id in [block.id for m in messages for block in m.blocks if block.id]:
                self._tell_early(call_id)

    def _tell_content(self, line: Line) -> None:
        message, at = line.message, line.at
        content = None if message is None else message.content
        if content is None:
            self.run.problem(line.pos, "a message without content")
        elif isinstance(content, str):
            self._tell_text(line, content, f"{line.pos}/message/content", at)
        else:
            for index, block in enumerate(content):
                pos = f"{line.pos}/message/content/{index}"
                kind = block.type
                if kind == "tool_use":
                    self._tell_tool_use(block, pos, at)
                elif kind == "tool_result":
                    self._tell_result(line, block, pos, at, is_alone=len(content) == 1)
                elif kind == "thinking":
                    text = block.thinking or None
                    state = "text" if text else "hidden"
                    self.run.thinking(text, pos, state=state, signature=block.signature, at=at)
                elif kind == "text":
                    self._tell_text(line, block.text, pos, at)
                else:
                    whole = as_array(as_object(line.record.get("message")).get("content"))
                    write_block(self.run, whole[index], pos, role=line.type, at=at)

    def _tell_text(self, line: Line, text: str | None, pos: str, at: datetime | None) -> None:
        if not text:
            return
        if line.type == "assistant":
            self.run.message(text, pos, at=at)
        elif line.is_compact_summary:
            self.run.event("compaction", text, pos, actor=HARNESS, at=at)
            self.history_edit = "compacted"
        elif text.startswith(INTERRUPT):
            self.run.event("error", text, pos, actor="user", error_type="interrupted", at=at)
            self.end = "interrupted"
        elif line.is_meta:
            self.run.event("user", text, pos, actor=line.actor or HARNESS, at=at)
        else:
            self.run.user(text, pos, actor=line.actor, at=at)
            if not text.startswith(COMMANDS):
                self.end = None

    def _tell_tool_use(self, block: Block, pos: str, at: datetime | None) -> None:
        arguments = block.arguments
        seq = self.run.call(block.name, arguments, pos, call_id=block.id, at=at)
        if self.awaited and arguments and block.name in _SPAWNERS:
            prompt = as_text(as_object(decode(arguments.encode())).get("prompt"))
            if children := self.awaited.get(prompt or ""):
                self.run.spawned(children.popleft(), seq)

    def _tell_notice(self, line: Line) -> None:
        """What the harness wrote in the model's place is no model call."""
        message = line.message or Message()
        texts = [block.text for block in message.blocks if block.text]
        text = message.content if isinstance(message.content, str) else "\n".join(texts)
        if line.is_api_error_message:
            self.tell_error(line, text, line.call_error or "api_error")
            self.end = "api_error"
        else:
            self.run.event(
                "other", text, line.pos, actor=HARNESS, error_type="synthetic", at=line.at
            )

    def tell_error(self, line: Line, text: str | None, kind: str, **more: Any) -> None:
        """An error that the harness logged, unless ``more`` names another actor."""
        more = {"actor": HARNESS, **more}
        self.run.event("error", text, line.pos, error_type=kind, at=line.at, **more)

    # ------------------------------------------------------------------ user lines

    def _tell_user(self, line: Line) -> None:
        message = line.message
        content = None if message is None else message.content
        call_id = content[0].tool_use_id if content and isinstance(content, list) else None
        is_known = call_id is None or self.run.calls.latest(call_id) is not None
        if call_id is not None and not is_known and self.agent.comes_later(call_id):
            self.early.setdefault(call_id, []).append(line)
        else:
            self._tell_content(line)

    def _tell_early(self, call_id: str) -> None:
        """Results that the file holds before their call."""
        for line in self.early.pop(call_id, ()):
            self._tell_content(line)

    def _tell_result(
        self, line: Line, block: Block, pos: str, at: datetime | None, *, is_alone: bool
    ) -> None:
        text, media = block.content, None
        if isinstance(text, list):
            text, media = block.text_and_media
        noted = line.tool_use_result if is_alone else None
        noted = noted if isinstance(noted, Outcome) else NOTHING_NOTED
        is_error, error_type, exit_code = how_it_went(line, block, text, noted)
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
        if noted is NOTHING_NOTED:
            return
        if call_id and (notes := noted.notes):
            self.notes.results[call_id] = notes
        child = noted.agent_id
        if child is not None and child not in self.spawned:
            self.spawned.add(child)
            called = None if call_id is None else self.run.calls.latest(call_id)
            self.run.spawned(child, seq if called is None else called)

    # ------------------------------------------------------------------ system lines

    def _tell_system(self, line: Line) -> None:
        self.records.append(line)
        record = line.record
        kind, content = line.subtype or "error", as_text(record.get("content"))
        if kind in COMPACTIONS:
            told = as_object(record.get("compactMetadata") or record.get("microcompactMetadata"))
            names = ("trigger", "preTokens", "postTokens", "tokensSaved")
            known = {name: told[name] for name in names if name in told}
            self.compactions.append({"line": line.number, "kind": kind, **known})
            before = self.run.seq
            for summary in line.more or ():
                self._tell_content(summary)
            if self.run.seq == before:
                self.run.event("compaction", content, line.pos, actor=HARNESS, at=line.at)
            if self.history_edit != "compacted":  # what is compacted stays so
                self.history_edit = COMPACTIONS[kind]
        elif kind == "local_command":
            self.run.event("user", content, line.pos, actor=HARNESS, at=line.at)
        elif kind == "stop_hook_summary":
            errors = [as_text(e) or as_json(e) or "" for e in as_array(record.get("hookErrors"))]
            if record.get("preventedContinuation") is True:
                errors.append(as_text(record.get("stopReason")) or "continuation prevented")
            if errors:
                self.tell_error(line, "\n".join(errors), "hook_error")
        else:
            error = record.get("error") or record.get("cause")
            text, own_kind = described(error)
            self.tell_error(line, text or content or as_json(error), own_kind or kind)

    # ------------------------------------------------------------------ the whole run

    def _tell_what_is_known(self) -> None:
        agent, run = self.agent, self.run
        first = agent.first or Line()
        not_told = agent.not_told + self.left_out
        records = [record_of(line) for line in (*agent.records, *self.records)]
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
            "edited_turns": agent.edited_turns or None,
            "not_told": dict(not_told) or None,
            "records": records or None,
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
        if agent.edited_turns:
            run.problem(
                agent.first_edit,
                f"{agent.edited_turns} turns replace earlier ones, whose events are kept too",
            )


def _several(values: dict[str | None, None]) -> list[str] | None:
    """All values where there are several."""
    known = [value for value in values if value is not None]
    return known if len(known) > 1 else None


def _one(values: dict[str | None, None]) -> str | list[str] | None:
    """The value where there is one, all where there are several."""
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else known or None
