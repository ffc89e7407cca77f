"""Which lines of a Claude Code log belong together: to one agent, to one model call."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loaders.dialects.anthropic import CALLS
from loaders.formats._claude_code_lines import Line, Message
from loaders.formats._claude_code_reading import SYNTHETIC
from loaders.values import Object

if TYPE_CHECKING:
    from loaders.formats._claude_code_ahead import Ahead

INTERRUPT = "[Request interrupted by user"
"""How the text begins that is logged as a user's where the user stopped the agent."""
COMMANDS = ("<command-", "<local-command-")
"""How the texts begin that are logged as a user's where the user gave the harness a command."""
COMPACTIONS = {"compact_boundary": "compacted", "microcompact_boundary": "truncated"}
"""Kinds of system lines that mark a compaction, and what it made of the history."""
HOOK_FAILURES = frozenset(
    {
        "hook_blocking_error",
        "hook_non_blocking_error",
        "hook_error_during_execution",
        "hook_cancelled",
        "hook_stopped_continuation",
        "max_turns_reached",
    }
)
"""Attachments that say why something was stopped or went wrong."""
THINKING_CUTS = frozenset({"thinking_drop", "thinking_stripped"})
"""Attachments that say that earlier thinking was kept from the model."""
_TOLD_NOTES = frozenset(
    {
        "api_error",
        "error",
        "api_refusal",
        "model_refusal_fallback",
        "stop_hook_summary",
        "local_command",
        *COMPACTIONS,
    }
)


_Call = tuple[str, str | None]
"""The id of a message and its model."""


class Late(Exception):
    """What was told without a look ahead was told too early: it is to be told anew."""


class Agent:
    """The lines of one agent that are told, in the order of the file; those of a call together.

    ``groups`` has the first line of each call, which holds the further ones, and all other lines; in
    the order in which they are told, as far as ``let_go`` has not given them away. Where some are
    given away before the rest is read, ``add`` raises ``Late`` for a line that should have been among
    them, or should have been known; with ``ahead`` it knows.
    """

    def __init__(
        self, key: str | None = None, note: Object | None = None, ahead: Ahead | None = None
    ) -> None:
        self.key = key
        self.note = note or {}
        self.groups: deque[Line] = deque()
        self.begins_at: str | None = None
        self.not_told: Counter[str] = Counter()
        self.records: list[Line] = []
        self.edited_turns = 0
        self.first_edit: str | None = None
        self.agent_id: str | None = None
        self.session: str | None = None
        self.prompt: str | None = None
        self.title: str | None = None
        self.cost: float | None = None
        self.first: Line | None = None
        self.thinking_setting: Any = None
        self.sessions: dict[str | None, None] = {}
        self.versions: dict[str | None, None] = {}
        self.modes: dict[str | None, None] = {}
        self.efforts: dict[str | None, None] = {}
        self.folders: dict[str | None, None] = {}
        self.branches: dict[str | None, None] = {}
        self._calls: dict[_Call, Line] = {}
        self._setting: tuple[str | None, ...] = ()
        self._prompted: set[str] = set()
        self._latest: Line | None = None
        self._ids: set[str] = set()
        self.ahead = ahead
        self._held: deque[Line] = deque()
        self._waiting: deque[Line] = deque()
        self._calls_held: dict[_Call, Line] = {}
        self._calls_waiting: dict[_Call, Line] = {}
        self._calls_gone: set[_Call] = set()
        self._ids_held: set[str] = set()
        self._ids_gone: set[str] = set()
        self._orphans: set[str] = set()

    def let_go(self, read_until: float = math.inf) -> deque[Line]:
        """The groups that were there when this was last called, to be told now.

        But those that wait for a line behind the one that was read last, and all that come after them.
        """
        gone, self._held, self.groups = self._held, self.groups, deque()
        self._ids_gone, self._ids_held, self._ids = self._ids_held, self._ids, set()
        if self.ahead is None:
            self._calls_gone.update(self._calls_held)
        self._calls_held, self._calls = self._calls, {}
        if self.ahead is not None and self.ahead.last_lines:
            self._waiting += gone
            gone = deque[Line]()
            last_lines = self.ahead.last_lines
            while self._waiting and last_lines.get(self._waiting[0].number, 0) <= read_until:
                gone.append(self._waiting.popleft())
        return gone

    def comes_later(self, call_id: str) -> bool:
        """Whether a call that was not told yet will be told after its result.

        If not, it must not come at all.
        """
        if self.ahead is not None:
            return self.ahead.comes_later(call_id)
        if call_id in self._ids or call_id in self._ids_held or call_id in self._ids_gone:
            return True
        self._orphans.add(call_id)
        return False

    def add(self, line: Line) -> None:
        """Take the next line of the file."""
        message = line.message
        if message is not None and line.type in ("assistant", "user"):
            self._learn(line)
            if line.type == "assistant":
                self._add_reply(line, message)
            elif line.plain is not None and not line.is_compact_summary:
                self._begin(line)
            else:
                self._add_user(line, message)
        elif _is_told(line):
            self._begin(line)
        else:
            if line.data is not None and line.type:
                self.records.append(line)
            else:
                self.leave_out(line)
            if line.permission_mode is not None:
                self.modes[line.permission_mode] = None
            self.title = line.custom_title or line.ai_title or self.title
            self.cost = self.cost if line.total_cost is None else line.total_cost

    def leave_out(self, line: Line) -> None:
        """Count a line that is not told."""
        self.not_told[kind_of(line)] += 1

    def _begin(self, line: Line) -> None:
        if self._latest is None:
            self.begins_at = line.pos
        self._latest = line
        self.groups.append(line)

    def _add_reply(self, line: Line, message: Message) -> None:
        block = line.plain
        if block is None:
            called = called_in(line, message)
        else:
            called = [block.id] if block.id is not None and block.type == "tool_use" else ()
        for call_id in called:
            self._ids.add(call_id)
            if call_id in self._orphans:
                raise Late
        if message.id is None or (block is None and is_notice(line)):
            self._begin(line)
            return
        # With the model, because sanitised logs give every call the same id.
        call = (message.id, message.model)
        first = self._calls.get(call) or self._calls_held.get(call) or self._calls_waiting.get(call)
        if first is None and call in self._calls_gone:
            raise Late
        if first is None:
            last_lines = self.ahead.last_lines if self.ahead else ()
            calls = self._calls_waiting if line.number in last_lines else self._calls
            calls[call] = line
            self._begin(line)
            return
        _join(first, line)
        if self.ahead is not None and self.ahead.last_lines.get(first.number) == line.number:
            del self._calls_waiting[call]

    def _add_user(self, line: Line, message: Message) -> None:
        before = self._latest
        if line.is_compact_summary and before is not None and _awaits_summary(before):
            _join(before, line)
            return
        self._begin(line)
        text = None if line.is_meta or line.is_compact_summary else _prompt_of(message)
        if text is not None:
            self.prompt = self.prompt or text
            if line.parent_uuid in self._prompted:
                self.edited_turns += 1
                self.first_edit = self.first_edit or line.pos
            elif line.parent_uuid is not None:
                self._prompted.add(line.parent_uuid)

    def _learn(self, line: Line) -> None:
        if self.first is None:
            self.first = line
        if self.thinking_setting is None:
            self.thinking_setting = line.thinking_metadata
        setting = (
            line.session_id,
            line.version,
            line.permission_mode,
            line.effort,
            line.cwd,
            line.git_branch,
            line.agent_id,
        )
        if setting == self._setting:  # mostly
            return
        self._setting = setting
        self.agent_id = line.agent_id or self.agent_id
        self.session = line.session_id or self.session
        self.sessions[line.session_id] = None
        self.versions[line.version] = None
        self.modes[line.permission_mode] = None
        self.efforts[line.effort] = None
        self.folders[line.cwd] = None
        self.branches[line.git_branch] = None


def _awaits_summary(line: Line) -> bool:
    return line.type == "system" and line.subtype == "compact_boundary" and line.more is None


def _join(first: Line, line: Line) -> None:
    """One more line of a call, or of a compaction; short ways are for calls of plain lines alone."""
    if first.more is None:
        first.more = [line]
    else:
        first.more.append(line)
    if line.plain is None:
        first.plain = None


def called_in(line: Line, message: Message) -> list[str]:
    """The ids of the calls in a line of a reply."""
    if line.plain is None and is_notice(line):
        return []
    return [
        block.id
        for block in (message.content if isinstance(message.content, list) else ())
        if block.id is not None and block.type in CALLS
    ]


def kind_of(line: Line) -> str:
    """What to call a line by that is not told."""
    kind = line.subtype or (line.attachment.type if line.attachment else None)
    return "/".join(part for part in (line.type or "unknown", kind) if part)


def is_notice(line: Line) -> bool:
    """Whether the harness wrote the line in the model's place."""
    if line.message is not None and line.message.model == SYNTHETIC:
        return True
    return line.is_api_error_message is True


def _is_told(line: Line) -> bool:
    if line.type == "attachment":
        return line.attachment is not None
    return line.type == "system" and (line.subtype in _TOLD_NOTES or line.level == "error")


def _prompt_of(message: Message) -> str | None:
    """The text of a user's prompt; None for tool results, commands and interruptions."""
    text = message.content if isinstance(message.content, str) else None
    for block in message.content if isinstance(message.content, list) else ():
        if block.type == "tool_result":
            return None
        text = text or block.text
    return None if text is None or text.startswith((INTERRUPT, *COMMANDS)) else text


Awaited = dict[str, deque[str]]
"""Subagents that calls start whose prompt is the key."""


def waiting_for_calls(agents: Iterable[Agent]) -> Awaited:
    """The agents that nothing but their prompt links to the call that started them."""
    awaited: Awaited = {}
    for agent in agents:
        if agent.begins_at and agent.key and agent.agent_id is None and agent.prompt:
            awaited.setdefault(agent.prompt, deque()).append(agent.key)
    return awaited


def apart(inside: list[Line]) -> Iterable[Agent]:
    """The subagents inside a session: by the agent's id, else by the root of their tree."""
    agents: dict[str, Agent] = {}
    roots = _roots(inside)
    for line in inside:
        root = roots.get(line.uuid or "") or roots.get(line.parent_uuid or "")
        key = line.agent_id or root or "sidechain"
        agents.setdefault(key, Agent(key)).add(line)
    return agents.values()


def _roots(inside: list[Line]) -> dict[str, str]:
    """The root of the tree that each line is in, whatever order they come in."""
    parents = {line.uuid: line.parent_uuid for line in inside if line.uuid}
    roots: dict[str, str] = {}
    for start in parents:
        path: dict[str, None] = {}
        node: str | None = start
        while node in parents and node not in roots and node not in path:
            path[node] = None
            node = parents[node]
        root = roots.get(node or "") or next(reversed(path), start)
        roots.update(dict.fromkeys(path, root))
    return roots
