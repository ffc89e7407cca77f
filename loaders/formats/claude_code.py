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
from collections.abc import Iterable

from loaders.builder import Builder
from loaders.formats._claude_code_agents import Agent, Awaited, Late, apart, waiting_for_calls
from loaders.formats._claude_code_ahead import Ahead
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
_VERY_LONG = 16 << 20
"""Bytes from which it is read twice, where what is told does not stay in memory either."""
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
    session = Session(source, out, name_of_agent, note)
    size, problems = source.size, source.problems.copy()
    if size >= _LONG and not (out.hands_over and size >= _VERY_LONG):
        try:
            with out.revocable(by=Late):
                session.tell_while_reading()
            return
        except Late:
            size = max(size, source.bytes_told)  # packed it was smaller
            source.take_problems()
            source.problems, source.bytes_told = problems, 0
    if out.hands_over and size >= _VERY_LONG:
        session.tell_after_a_look_ahead()
    else:
        session.tell_when_read()


class Session:
    """Reads one file: a session with its subagents, or the log of one subagent.

    ``name_of_agent`` that of the subagent whose file it is, ``note`` what its session notes of it.
    """

    def __init__(
        self, source: Source, out: Builder, name_of_agent: str | None, note: Object
    ) -> None:
        self._source, self._out, self._name_of_agent, self._note = source, out, name_of_agent, note

    def tell_when_read(self) -> None:
        """Tell all runs after the last line, whatever belongs together."""
        main, inside = Agent(note=self._note), list[Line]()
        has_subagents = self._name_of_agent is None
        for line in lines(self._source):
            if line.is_sidechain and has_subagents:
                inside.append(line)
            else:
                main.add(line)
        others = list(apart(inside))
        awaited = waiting_for_calls(others)
        if main.begins_at:
            self._telling_of(main, awaited).tell_rest()
        self._tell_others(others, awaited)

    def tell_while_reading(self, ahead: Ahead | None = None) -> None:
        """The same, line after line: a decoded line that is told at once costs half of one that is kept.

        Without ``ahead``, raises ``Late`` where lines that belong together stand too far apart, and where
        there are so many that what they tell must be handed over.
        """
        main, inside, telling = Agent(note=self._note, ahead=ahead), list[Line](), None
        has_subagents = self._name_of_agent is None
        awaited = waiting_for_calls(ahead.others if ahead else ())
        for line in lines(self._source):
            if line.is_sidechain and has_subagents:
                if ahead is None and line.agent_id is None:
                    raise Late  # only its whole tree tells which agent's it is
                if ahead is None:
                    inside.append(line)
                continue
            main.add(line)
            if len(main.groups) >= _GROUPS_AT_ONCE and main.first is not None:
                is_too_much = self._out.hands_over and self._source.bytes_told >= _VERY_LONG
                if is_too_much and ahead is None:
                    raise Late
                telling = telling or self._telling_of(main, awaited, ahead)
                telling.tell(main.let_go(line.number))
        if telling is None and main.begins_at:
            telling = self._telling_of(main, awaited, ahead)
        if telling is not None:
            if main.key != self._name_of(ahead or main):
                raise Late
            telling.tell_rest()
        self._tell_others(ahead.others if ahead else apart(inside), awaited)

    def tell_after_a_look_ahead(self) -> None:
        """The same for a file so long that not all of it should stay in memory until it is told."""
        ahead = Ahead(self._source, self._name_of_agent is None, _GROUPS_AT_ONCE)
        self._source.bytes_to_tell = ahead.bytes_read
        self.tell_while_reading(ahead)

    def _tell_others(self, agents: Iterable[Agent], awaited: Awaited) -> None:
        for agent in agents:
            if agent.begins_at:
                self._telling_of(agent, awaited).tell_rest()

    def _telling_of(self, agent: Agent, awaited: Awaited, ahead: Ahead | None = None) -> Telling:
        if agent.key is None:
            agent.key = self._name_of(ahead or agent)
        return Telling(self._source, self._out, agent, awaited)

    def _name_of(self, main: Agent | Ahead) -> str | None:
        """What the log itself calls the run, as far as that is known."""
        if self._name_of_agent is None:
            return main.session
        return main.agent_id or self._name_of_agent
