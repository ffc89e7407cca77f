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
from loaders.formats._claude_code_agents import Agent, apart
from loaders.formats._claude_code_ignored import PATHS
from loaders.formats._claude_code_lines import Line
from loaders.formats._claude_code_reading import lines
from loaders.formats._claude_code_telling import Telling
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import as_object, is_object

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
    main = Agent()
    inside: list[Line] = []
    for line in lines(source):
        if line.is_sidechain and agent_file is None:
            inside.append(line)
        else:
            main.add(line)
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
        telling = Telling(source, out, agent, awaited)
        telling.tell(agent.groups)
        telling.finish()
