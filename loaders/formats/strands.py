"""Strands Agents: session folders, snapshots, and dumped ``agent.messages``.

A session of the file session manager is one log in many files: ``session.json``, and for each agent
``agent.json`` and ``messages/message_N.json``. Each agent is a run. What the conversation manager takes
out of an agent's history stays in the folder; how much it took out is in the run's metadata, and from
which call on is not recorded. A snapshot is an agent at one moment: of the snapshots of an agent, which
lie in one folder, each message is told once.

Messages are Bedrock's, whatever the provider. A model class may leave thinking out of its requests, so
whether it was sent back stays unknown. A tool that raises gives a result of the status ``error`` with
the type's name in its text. A session has neither system prompt nor tool definitions nor an outcome.
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.dialects import bedrock
from loaders.dialects.either import is_converse_message
from loaders.heads import Head
from loaders.rows import identity_of, metadata_of, outcome_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    total,
)

TITLE = "Strands Agents sessions and messages"
GIVES = ("thinking", "tokens")
IGNORED = {
    "/**/tracking_id": "an identifier that stays with a message when it is copied; nothing refers to it",
    "/updated_at": "when the file was last written; the time of a message is that of its events",
    "/message_id": "the number of a message, by which its events are ordered",
    "/**/cachePoint/**": "marks up to where a provider may cache the prompt; the tokens tell what came of it",
    "/**/metrics/timeToFirstByteMs": "how the duration of a call, which its step has, divides",
    "/**/metrics/latencyMs": "how long a call took, where no time is logged at which it ended",
    "/**/usage/totalTokens": "the sum of the others; it tells whether cached ones are among the input",
    "/**/bytes/**": "the content of a picture or file, of which the type is kept",
}

_MESSAGE_FILE = re.compile(r"message_(\d{1,18})\.json")
_SNAPSHOT_FILE = re.compile(r"snapshot_[\w-]+\.json")
_LATEST = "snapshot_latest.json"
_RAISED = re.compile(r"Error: ([A-Za-z_]\w*) - ")
_TOLD_OF_DATA = ("messages", "system_prompt")
_OF_A_REQUEST = ("modelId", "toolConfig", "inferenceConfig")


def sniff(head: Head) -> bool:
    """A file of a session, a snapshot, or messages of this dialect that are no recorded request."""
    return _shape(head.first, head.filename) is not None


def _shape(record: Any, filename: str = "") -> str | None:
    """What a record of a file is; None if it is nothing of Strands'."""
    record = as_object(record)
    if is_converse_message(record.get("message")) and "created_at" in record:
        return "message"
    if is_converse_message(record.get("message")) and _MESSAGE_FILE.fullmatch(filename):
        return "message"
    if "session_id" in record and record.get("session_type") == "AGENT":
        return "session"
    if "agent_id" in record and (
        "conversation_manager_state" in record or filename == "agent.json"
    ):
        return "agent"
    if record.get("scope") in ("agent", "multiAgent") and "schema_version" in record:
        return "snapshot"
    if record.get("type") in ("graph", "swarm") and filename == "multi_agent.json":
        return "agents"
    if is_converse_message(record):
        return "loose"
    is_request = any(key in record for key in _OF_A_REQUEST)
    messages = as_array(record.get("messages"))
    return "row" if messages and is_converse_message(messages[0]) and not is_request else None


def bundle(source: Source) -> str:
    """The session's folder; for snapshots the folder of all snapshots of the agent; else the file."""
    path = PurePosixPath(source.name)
    folder = path.parent
    if _MESSAGE_FILE.fullmatch(path.name) or path.name in ("agent.json", "multi_agent.json"):
        agent = folder.parent if folder.name == "messages" else folder
        is_inside = agent.parent.name in ("agents", "multi_agents")
        return (agent.parent.parent if is_inside else agent).as_posix()
    if path.name == "session.json":
        return folder.as_posix()
    if _SNAPSHOT_FILE.fullmatch(path.name):
        return (folder.parent if folder.name == "immutable_history" else folder).as_posix()
    return source.name


class _Record(NamedTuple):
    """A record of a file, and its place in the log."""

    value: Object
    pos: str
    path: PurePosixPath


def read(source: Source, out: Builder) -> None:
    """A run per agent of a session, per agent's snapshots, per row, or per file of messages."""
    found: dict[str, list[_Record]] = {}
    loose: _Agent | None = None
    for part in source.parts:
        prefix = "" if part is source else f"{_relative(part, source)}#"
        with out.record(prefix or None):
            for pos, value in part.records():
                record = _Record(as_object(value), prefix + pos, PurePosixPath(part.name))
                shape = _shape(value, part.filename)
                if shape == "loose" or (loose is not None and "role" in record.value):
                    start = prefix + pos if pos.startswith("L") else prefix
                    loose = loose or _Agent(out.trajectory(pos=start))
                    loose.tell(record.value, record.pos)
                elif shape == "row":
                    loose = None
                    _tell_row(out, record)
                elif shape is not None:
                    found.setdefault(shape, []).append(record)
                else:
                    out.problem(record.pos, "neither a message nor a part of a session")
    _tell_session(source, out, found)
    _tell_snapshots(source, out, found.get("snapshot", []))


def _relative(part: Source, source: Source) -> str:
    return posixpath.relpath(part.name, posixpath.dirname(source.name))


# ---------------------------------------------------------------------- sessions


def _tell_session(source: Source, out: Builder, found: dict[str, list[_Record]]) -> None:
    """The agents of a session, each with its messages in order."""
    by_agent: dict[PurePosixPath, list[_Record]] = {}
    for record in found.get("message", []):
        folder = record.path.parent
        agent = folder.parent if folder.name == "messages" else folder
        by_agent.setdefault(agent, []).append(record)
    agents = {record.path.parent: record.value for record in found.get("agent", [])}
    session = next((record.value for record in found.get("session", [])), None)
    several = {r.path.parent.name: r.value for r in found.get("agents", [])}
    for folder, records in sorted(by_agent.items()):
        agent = agents.get(folder) or _beside(source, out, f"{folder}/agent.json", "agent")
        top = folder.parent.parent
        known = session or _beside(source, out, f"{top}/session.json", "session")
        metadata = {"agent": agent, "session": known, "multi_agents": several}
        ids = (known.get("session_id"), agent.get("agent_id", folder.name.removeprefix("agent_")))
        run = out.trajectory(
            native_id="/".join(text for text in map(as_text, ids) if text) or None,
            pos=min(records, key=_number).pos,
            framework="strands",
            metadata=metadata_of({key: value for key, value in metadata.items() if value}, ()),
        )
        _count_missing(run, records)
        told = _Agent(run)
        for record in sorted(records, key=_number):
            with out.record(record.pos):
                told.tell_stored(record.value, record.pos)


def _number(record: _Record) -> int:
    """Which message of its agent a record is."""
    number = as_int(record.value.get("message_id"))
    named = _MESSAGE_FILE.fullmatch(record.path.name)
    return int(named[1]) if named else -1 if number is None else number


def _count_missing(run: Run, records: list[_Record]) -> None:
    numbers = {_number(record) for record in records} - {-1}
    missing = max(numbers, default=-1) + 1 - len(numbers)
    if missing:
        run.problem(None, f"{missing} of {max(numbers) + 1} numbered messages are missing")


def _beside(source: Source, out: Builder, name: str, shape: str) -> Object:
    """A file of the session that was not loaded but lies in its place."""
    other = source.beside(posixpath.relpath(name, posixpath.dirname(source.name)))
    if other is not None:
        with out.record(name):
            value = as_object(other.json())
            return value if _shape(value, other.filename) == shape else {}
    return {}


# ---------------------------------------------------------------------- snapshots, rows


def _tell_snapshots(source: Source, out: Builder, records: list[_Record]) -> None:
    """One agent's snapshots, the latest last: each message once, by the id that stays with it."""
    agents: list[_Record] = []
    for record in records:
        if is_array(as_object(record.value.get("data")).get("messages")):
            agents.append(record)
        else:
            out.problem(record.pos, "a snapshot without messages", "warning")
    if not agents:
        return
    agents.sort(key=lambda record: (record.path.name == _LATEST, record.path.name))
    latest = agents[-1].value
    data = as_object(latest["data"])
    more = {**latest, "data": {k: v for k, v in data.items() if v and k not in _TOLD_OF_DATA}}
    run = out.trajectory(
        native_id=_agent_of(agents[-1].path),
        pos=agents[0].pos,
        framework="strands",
        format_version=as_text(latest.get("schema_version")),
        metadata=metadata_of(more, ("scope", "schema_version")),
    )
    told = _Agent(run)
    told.tell_system(data.get("system_prompt"), f"{agents[-1].pos}/data/system_prompt")
    seen: set[str] = set()
    for number, record in enumerate(agents):
        for index, message in enumerate(record.value["data"]["messages"]):
            identity = as_text(as_object(message).get("tracking_id"))
            if identity in seen or (identity is None and number < len(agents) - 1):
                continue
            seen.update({identity} if identity else ())
            told.tell(message, f"{record.pos}/data/messages/{index}")


def _agent_of(path: PurePosixPath) -> str | None:
    """The ids of session and agent that the folders of a snapshot name."""
    names = path.parts
    at = next(
        (i for i in range(2, len(names) - 2) if names[i - 1 : i + 1] == ("scopes", "agent")), None
    )
    return None if at is None else f"{names[at - 2]}/{names[at + 1]}"


def _tell_row(out: Builder, record: _Record) -> None:
    """Messages with what is known of their run beside them."""
    row, pos = record.value, record.pos
    metadata = metadata_of(row, ("messages", "system", "system_prompt", "model"))
    told = _Agent(out.trajectory(pos=pos, **identity_of(row), metadata=metadata))
    for key in ("system", "system_prompt"):
        told.tell_system(row.get(key), f"{pos}/{key}")
    for index, message in enumerate(row["messages"]):
        told.tell(message, f"{pos}/messages/{index}")
    if any(outcome_of(row).values()):
        told.run.outcome(**outcome_of(row))


# ---------------------------------------------------------------------- messages


class _Agent:
    """Tells the messages of one agent."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._before: datetime | None = None
        self._metadata: Object = {}

    def tell_system(self, prompt: Any, pos: str) -> None:
        """Tell a system prompt, given as text or in blocks."""
        texts = [as_text(as_object(block).get("text")) or "" for block in as_array(prompt)]
        text = as_text(prompt) or "\n".join(texts)
        if text:
            self.run.system(text, pos)

    def tell_stored(self, stored: Object, pos: str) -> None:
        """Tell a message as the session manager stores it, and what a guardrail put in its place."""
        at = as_time(stored.get("created_at"))
        self.tell(stored.get("message"), f"{pos}/message", at)
        for index, block in enumerate(
            as_array(as_object(stored.get("redact_message")).get("content"))
        ):
            text = as_text(as_object(block).get("text"))
            place = f"{pos}/redact_message/content/{index}"
            self.run.event("other", text, place, actor="guardrail", at=at)

    def tell(self, message: Any, pos: str, at: datetime | None = None) -> None:
        """Tell the next message."""
        if not is_object(message) or message.get("role") not in ("user", "assistant"):
            self.run.problem(pos, "no message of a user or an assistant", "error")
            return
        metadata = as_object(message.get("metadata"))
        if "tracking_id" in message or metadata:
            self.run.set(framework="strands")
        role, metrics = message["role"], as_object(metadata.get("metrics"))
        if role == "assistant":
            started = self._start(at, as_float(metrics.get("latencyMs")))
            usage = _usage_columns(metadata.get("usage"))
            self.run.step(source_pos=pos, started_at=started, ended_at=at, **usage)
        content = as_array(message.get("content"))
        has_thinking = any("reasoningContent" in as_object(block) for block in content)
        for index, block in enumerate(content):
            place = f"{pos}/content/{index}"
            self._tell_block(as_object(block), place, role, at, has_thinking=has_thinking)
        self._before = at or self._before
        kept = {key: value for key, value in metadata.items() if key not in ("usage", "metrics")}
        if kept:
            self._metadata[pos] = kept
            self.run.set(
                metadata={**as_object(self.run.columns["metadata"]), "of_messages": self._metadata}
            )

    def _tell_block(
        self, block: Object, pos: str, role: str, at: datetime | None, *, has_thinking: bool
    ) -> None:
        """A block, and what only Strands puts into one: sealed bytes, and signatures on calls."""
        signature = as_text(as_object(block.get("toolUse")).get("reasoningSignature"))
        if signature and not has_thinking:
            self.run.thinking(None, pos, state="hidden", signature=signature, at=at)
        sealed = as_object(block.get("reasoningContent")).get("redactedContent")
        if is_object(sealed):
            block = {"reasoningContent": {"redactedContent": sealed.get("data")}}
        more = {"error_type": kind} if (kind := _type_of_error(block)) else {}
        bedrock.write_block(self.run, block, pos, role=role, at=at, **more)

    def _start(self, at: datetime | None, milliseconds: float | None) -> datetime | None:
        """When a call began: so long before its reply was stored, or with what came before it."""
        if at is not None and milliseconds is not None and 0 < milliseconds < 1e9:
            return at - timedelta(milliseconds=milliseconds)
        return self._before if at is None or self._before is None else min(self._before, at)


def _type_of_error(block: Object) -> str | None:
    """The type of what a tool raised, which the framework puts before its message."""
    result = as_object(block.get("toolResult"))
    if result.get("status") != "error":
        return None
    first = as_object(next(iter(as_array(result.get("content"))), None))
    raised = _RAISED.match(as_text(first.get("text")) or "")
    return raised[1] if raised else None


def _usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step; usage of all zeros stands for an unknown one.

    Whether the input holds what came from a cache depends on the provider: the sum of all tells.
    """
    usage = as_object(usage)
    asked, made, whole = (as_int(usage.get(f"{key}Tokens")) for key in ("input", "output", "total"))
    if not (asked or made):
        return {}
    columns = bedrock.usage_columns(usage)
    if whole is not None and whole == total(asked, made):
        columns["input_tokens"] = asked
    return columns
