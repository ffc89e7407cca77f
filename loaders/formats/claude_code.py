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

from loaders.builder import Builder
from loaders.formats._claude_code_agents import Agent, Late, apart
from loaders.formats._claude_code_ignored import PATHS
from loaders.formats._claude_code_lines import Line
from loaders.formats._claude_code_reading import lines
from loaders.formats._claude_code_telling import Telling
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import Object, as_object, is_object

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
_LONG = 1 << 20
"""Bytes from which a file is told while it is read."""
_GROUPS_AT_ONCE = 256
"""So many calls and other lines are read at once; what belongs together stands no farther apart."""
_AGENT_FILE = re.compile(r"agent-(.+?)\.jsonl")


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
    name_of_agent = agent_file[1] if agent_file else None
    note: Object = {}
    if name_of_agent is not None:
        with out.record(None):
            beside = source.beside(f"agent-{name_of_agent}.meta.json")
            note = as_object(beside.json()) if beside else {}
    if source.size >= _LONG:
        problems = source.problems.copy()
        try:
            with out.revocable(by=Late):
                Session(source, out, name_of_agent, note).tell_while_reading()
            return
        except Late:
            source.take_problems()
            source.problems = problems
    Session(source, out, name_of_agent, note).tell_when_read()


class Session:
    """Reads one file: a session with its subagents, or the log of one subagent.

    ``name_of_agent`` that of the subagent whose file it is, ``note`` what its session notes of it.
    """

    def __init__(
        self, source: Source, out: Builder, name_of_agent: str | None, note: Object
    ) -> None:
        self._source, self._out, self._name_of_agent = source, out, name_of_agent
        self._main = Agent()
        self._main.note = note
        self._inside: list[Line] = []
        """The lines of subagents."""

    def tell_when_read(self) -> None:
        """Tell all runs after the last line, whatever belongs together."""
        for line in lines(self._source):
            if line.is_sidechain and self._name_of_agent is None:
                self._inside.append(line)
            else:
                self._main.add(line)
        self._main.key = self._key
        others = [agent for agent in apart(self._inside) if agent.begins_at]
        awaited: dict[str, deque[str]] = {}
        for agent in others:
            if agent.key and agent.agent_id is None and agent.prompt:
                awaited.setdefault(agent.prompt, deque()).append(agent.key)
        for agent in (self._main, *others):
            if agent.begins_at:
                self._telling_of(agent, awaited).tell_rest()

    def tell_while_reading(self) -> None:
        """The same, line after line: a decoded line that is told at once costs half of one that is kept.

        Raises ``Late`` where the lines that belong together stand too far apart.
        """
        main, telling = self._main, None
        for line in lines(self._source):
            if line.is_sidechain and self._name_of_agent is None:
                if line.agent_id is None:  # only its whole tree tells which agent's it is
                    raise Late
                self._inside.append(line)
                continue
            main.add(line)
            if len(main.groups) >= _GROUPS_AT_ONCE and main.first is not None:
                if telling is None:
                    main.key = self._key
                    telling = self._telling_of(main, {})
                telling.tell(main.let_go())
        if telling is None:
            main.key = self._key
            telling = self._telling_of(main, {}) if main.begins_at else None
        if main.key != self._key:
            raise Late
        if telling is not None:
            telling.tell_rest()
        for agent in apart(self._inside):
            if agent.begins_at:
                self._telling_of(agent, {}).tell_rest()

    @property
    def _key(self) -> str | None:
        """The log's own name of the run, as far as it is read."""
        main = self._main
        if self._name_of_agent is None:
            return main.session
        return main.agent_id or self._name_of_agent

    def _telling_of(self, agent: Agent, awaited: dict[str, deque[str]]) -> Telling:
        return Telling(self._source, self._out, agent, awaited)
