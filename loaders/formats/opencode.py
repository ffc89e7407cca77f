"""OpenCode sessions: a file of ``opencode export``, or the storage tree of files per part.

The tree is known by its paths (``session/<project>/``, ``message/<session>/``, ``part/<message>/``)
and holds a run per session. A tool part is call and result at once; one still ``running`` has no
answer. ``synthetic`` text is the harness's. An empty reasoning part is hidden thinking if the
provider named or signed it, else nothing is known of it. Token counts leave out what came from the
cache, and in newer versions also reasoning; all zeros, and costs of 0, are defaults: unknown.
Neither system prompt nor tool definitions are stored, nor what a request held; ``finish`` is no
verdict. A ``task`` tool starts a subagent's session.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats._opencode_ignored import PATHS
from loaders.formats._opencode_parts import (
    duration_of,
    error_of,
    mime_of,
    name_of_file,
    rest_of,
    signature_of,
    token_columns,
)
from loaders.heads import Head
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
)

TITLE = "OpenCode session"
GIVES = ("thinking", "tokens")
IGNORED = PATHS

_PARTS = (
    *("text", "reasoning", "tool", "file", "patch", "snapshot", "agent", "subtask", "retry"),
    *("compaction", "step-start", "step-finish"),
)
_SESSION_KEYS = {"id", "projectID", "directory", "time"}
_MESSAGE_KEYS = {"id", "sessionID", "role"}
_NOT_ENDED = ("pending", "running")
_SUMMARISING = ("openai", "azure", "google", "vertex")
_OUTCOMES = {"MessageAbortedError": "cancelled", "MessageOutputLengthError": "limit"}
_TOLD_OF_SESSION = ("id", "version", "directory", "time")


def sniff(head: Head) -> bool:
    """An export of a session, or a file of the storage tree: a session, a message or a part."""
    info = as_object(head.first.get("info"))
    if (as_text(info.get("id")) or "").startswith("ses_"):
        return "messages" in head.keys or not head.is_whole
    return _is_session(head) or _is_message(head) or _is_part(head)


def _is_session(head: Head) -> bool:
    return "session" in _folders(head.name) and head.keys >= _SESSION_KEYS


def _is_message(head: Head) -> bool:
    return "message" in _folders(head.name) and head.keys >= _MESSAGE_KEYS


def _is_part(head: Head) -> bool:
    return (
        "part" in _folders(head.name)
        and head.first.get("type") in _PARTS
        and {"id", "messageID"} & head.keys != set()
    )


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[-5:-1]


def bundle(source: Source) -> str:
    """The storage tree that a file belongs to; an export stands alone."""
    return source.name if "info" in source.head.keys else _root(source.name)


def _root(name: str) -> str:
    """The folder above ``session``, ``message`` or ``part``; older versions nest them."""
    parts = PurePosixPath(name).parts
    place = len(parts) - 2
    while place and parts[place] not in ("session", "message", "part"):
        place -= 1
    if place and parts[place] != "session" and parts[place - 1] == "session":
        place -= 1
    return PurePosixPath(*parts[:place]).as_posix()


class _Part(NamedTuple):
    content: Object
    pos: str


def read(source: Source, out: Builder) -> None:
    """The session of an export, or all sessions of a tree."""
    if "info" not in source.head.keys:
        _Tree(source, out).tell()
        return
    record = as_object(source.json())
    session = _Session(out, as_object(record.get("info")), "", None)
    for index, message in enumerate(as_array(record.get("messages"))):
        pos = f"/messages/{index}"
        with out.record(pos):
            parts = as_array(as_object(message).get("parts"))
            session.tell(
                as_object(as_object(message).get("info")),
                f"{pos}/info",
                [_Part(as_object(part), f"{pos}/parts/{i}") for i, part in enumerate(parts)],
            )
    session.finish()


# ---------------------------------------------------------------------- the storage tree


class _Tree:
    """The files of a tree: sessions, their messages, and the parts of these."""

    def __init__(self, source: Source, out: Builder) -> None:
        self._source = source
        self._out = out
        self._sessions: dict[str, _Part] = {}
        self._messages: dict[str, list[_Part]] = defaultdict(list)
        self._parts: dict[str, list[_Part]] = defaultdict(list)
        for file in sorted(source.parts, key=lambda file: file.name):
            with out.record(self._place(file)):
                self._sort_in(file)

    def _place(self, file: Source) -> str:
        if file is self._source:
            return ""
        return f"{posixpath.relpath(file.name, posixpath.dirname(self._source.name))}#"

    def _sort_in(self, file: Source) -> None:
        head, folder = file.head, PurePosixPath(file.name).parent.name
        content = as_object(file.json())
        record = _Part(content, self._place(file))
        if _is_part(head):
            self._parts[as_text(content.get("messageID")) or folder].append(record)
        elif _is_message(head):
            self._messages[as_text(content.get("sessionID")) or folder].append(record)
        else:
            self._sessions[as_text(content.get("id")) or file.filename] = record
        file.release()

    def tell(self) -> None:
        for name in sorted(self._sessions.keys() | self._messages.keys()):
            messages = sorted(self._messages[name], key=lambda message: _created(message.content))
            info, pos = self._sessions.get(
                name, _Part({"id": name}, messages[0].pos if messages else "")
            )
            if not messages:
                self._out.problem(pos, "a session without messages", "warning")
                continue
            session = _Session(self._out, info, pos, messages[0].content)
            for message in messages:
                with self._out.record(message.pos):
                    parts = self._parts.pop(as_text(message.content.get("id")) or "", [])
                    session.tell(message.content, message.pos, parts)
            session.finish()
        for name, parts in self._parts.items():
            reason = f"{len(parts)} parts of a message that is not there: {name}"
            self._out.problem(parts[0].pos, reason)


def _created(record: Object) -> float:
    return as_float(as_object(record.get("time")).get("created")) or 0.0


# ---------------------------------------------------------------------- a session


class _Session:
    """Tells one session, message by message."""

    def __init__(self, out: Builder, info: Object, pos: str, first: Object | None) -> None:
        self._time = as_object(info.get("time"))
        self.run = out.trajectory(
            native_id=as_text(info.get("id")),
            pos=f"{pos}/info" if first is None else pos,
            framework="opencode",
            framework_version=as_text(info.get("version")),
            started_at=as_time(self._time.get("created")),
        )
        self.run.environment(cwd=as_text(info.get("directory")))
        times = {key: value for key, value in self._time.items() if key != "created"}
        self._metadata = rest_of(info, _TOLD_OF_SESSION) | ({"time": times} if times else {})
        self._turns: list[Object] = []
        self._compactions: list[Object] = []
        self._costs: list[float] = []
        self._providers: set[str] = set()
        self._variants: set[str] = set()
        self._system: str | None = None
        self._pruned = 0
        self._is_compacted = False
        self._last: Object = {}

    def tell(self, info: Object, pos: str, parts: list[_Part]) -> None:
        """One message with its parts."""
        if info.get("role") not in ("user", "assistant"):
            raise UnreadableRecord("a message of neither the user nor the assistant", pos)
        text = as_text(info.get("system"))
        if text and text != self._system:  # each user message repeats it
            self._system = text
            self.run.system(text, f"{pos}/system")
        if variant := as_text(info.get("variant")):
            self._variants.add(variant)
        if info["role"] == "user":
            at = as_time(as_object(info.get("time")).get("created"))
            self._note_turn(as_object(info.get("summary")))
            for part in parts:
                self._tell_asked(part, at)
            if not parts:
                self.run.user(None, pos, at=at)
        else:
            self._last = info
            self._tell_reply(info, pos, parts)

    def _note_turn(self, summary: Object) -> None:
        """What OpenCode wrote down of a turn: its title, and the files that it changed."""
        diffs = as_array(summary.get("diffs"))
        changed = [rest_of(as_object(diff), ("before", "after")) for diff in diffs]
        turn = rest_of(summary, ("diffs",)) | ({"diffs": changed} if changed else {})
        if turn:
            self._turns.append(turn)

    # ------------------------------------------------------------------ what the user says

    def _tell_asked(self, part: _Part, at: datetime | None) -> None:
        content, pos = part
        kind = content.get("type")
        actor = "harness" if content.get("synthetic") is True else None
        if kind == "text" and content.get("ignored") is not True:
            self.run.user(as_text(content.get("text")), f"{pos}/text", actor=actor, at=at)
        elif kind == "file":
            text, place = name_of_file(content)
            media = [mime_of(content)]
            self.run.event("user", text, f"{pos}{place}", actor=actor, media=media, at=at)
        else:
            self._tell_note(part, at)

    def _tell_note(self, part: _Part, at: datetime | None) -> None:
        """What the harness writes down beside the conversation."""
        content, pos = part
        kind = as_text(content.get("type")) or "unknown"
        if kind == "compaction":
            self.run.event("compaction", None, pos, actor="harness", at=at)
            self._compactions.append(rest_of(content, ("id", "messageID", "sessionID", "type")))
        elif kind == "retry":
            name, text = error_of(content.get("error"))
            self.run.event("error", text, f"{pos}/error", error_type=name, at=at)
        elif kind == "patch":
            files = "\n".join(filter(None, map(as_text, as_array(content.get("files")))))
            self.run.event("other", files, pos, actor="harness", error_type=kind, at=at)
        elif kind != "snapshot":
            keys = ("text", "prompt", "name")
            text = next((found for key in keys if (found := as_text(content.get(key)))), None)
            self.run.event("other", text, pos, actor="harness", error_type=kind, at=at)

    # ------------------------------------------------------------------ model calls

    def _tell_reply(self, info: Object, pos: str, parts: list[_Part]) -> None:
        calls = list(_model_calls(parts))
        for call in calls:
            self._tell_model_call(info, pos, call, is_only=len(calls) == 1)
        time, model = as_object(info.get("time")), as_object(info.get("model"))
        name, text = error_of(info.get("error"))
        if info.get("error"):
            self.run.update_step(error=f"{name}: {text}" if text else name)
            at = as_time(time.get("completed"))
            self.run.event("error", text, f"{pos}/error", error_type=name, at=at)
        elif info.get("summary") is True:
            self._is_compacted = True
        if (cost := as_float(info.get("cost"))) is not None:
            self._costs.append(cost)
        if provider := as_text(info.get("providerID")) or as_text(model.get("providerID")):
            self._providers.add(provider)

    def _tell_model_call(self, info: Object, pos: str, call: list[_Part], is_only: bool) -> None:
        ends = [part.content for part in call if part.content.get("type") == "step-finish"]
        finish: Object = ends[0] if ends else {}
        time = as_object(info.get("time"))
        usage = token_columns(finish.get("tokens"))
        if is_only:
            usage = usage or token_columns(info.get("tokens"))
        self.run.step(
            source_pos=pos,
            agent=as_text(info.get("agent")) or as_text(info.get("mode")),
            model=as_text(info.get("modelID"))
            or as_text(as_object(info.get("model")).get("modelID")),
            started_at=as_time(time.get("created")) if is_only else None,
            ended_at=as_time(time.get("completed")) if is_only else None,
            stop_reason=as_text(finish.get("reason"))
            or (as_text(info.get("finish")) if is_only else None),
            **usage,
        )
        if self._is_compacted and info.get("summary") is not True:
            self.run.saw(None, None, "unknown", history_edit="compacted")
            self._is_compacted = False
        tools = [(self._tell_part(part), part) for part in call]
        for seq, part in tools:
            if seq is not None:
                self._tell_result(seq, part)

    def _tell_part(self, part: _Part) -> int | None:
        """Tell a part of a reply; of a tool part the call, whose ``seq`` is returned."""
        content, pos = part
        kind = content.get("type")
        at = as_time(as_object(content.get("time")).get("start"))
        more: dict[str, Any] = {"at": at, "duration_s": duration_of(content.get("time"))}
        if kind == "tool":
            return self._tell_call(content, pos)
        if kind == "text":
            actor = "harness" if content.get("synthetic") is True else None
            sign, _ = signature_of(content)
            text = as_text(content.get("text"))
            place = f"{pos}/text" if "text" in content else pos
            self.run.message(text, place, actor=actor, signature=sign, **more)
        elif kind == "reasoning":
            self._tell_thinking(content, pos, more)
        elif kind == "file":
            text, place = name_of_file(content)
            self.run.message(text, f"{pos}{place}", media=[mime_of(content)], at=at)
        elif kind not in ("step-start", "step-finish"):
            self._tell_note(part, at)
        return None

    def _tell_thinking(self, content: Object, pos: str, more: dict[str, Any]) -> None:
        text = as_text(content.get("text"))
        signature, marks = signature_of(content)
        if marks.get("redactedData"):
            state = "redacted"
        elif text:
            providers = " ".join(as_object(content.get("metadata")))
            state = "summary" if any(name in providers for name in _SUMMARISING) else "text"
        elif marks:
            state = "hidden"
        else:
            self.run.event("other", None, pos, error_type="empty_reasoning", **more)
            return
        self.run.thinking(text or None, pos, state=state, signature=signature, **more)

    def _tell_call(self, content: Object, pos: str) -> int:
        state = as_object(content.get("state"))
        seq = self.run.call(
            as_text(content.get("tool")),
            state.get("input", state.get("raw")),
            pos,
            call_id=as_text(content.get("callID")),
            signature=signature_of(content)[0],
            at=as_time(as_object(state.get("time")).get("start")),
        )
        metadata = as_object(state.get("metadata"))
        child = as_text(metadata.get("sessionId")) or as_text(metadata.get("sessionID"))
        if child:
            self.run.spawned(child, seq)
        return seq

    def _tell_result(self, seq: int, part: _Part) -> None:
        """Tell the result of a tool part, unless the tool still runs."""
        content, pos = part
        state = as_object(content.get("state"))
        status = state.get("status")
        if status != "completed":
            self._tell_output_so_far(state, content, pos)
        if status in _NOT_ENDED:
            return
        key = "error" if status == "error" else "output"
        if status != "error" and key not in state:
            return
        time, metadata = as_object(state.get("time")), as_object(state.get("metadata"))
        self._pruned += time.get("compacted") is not None
        output = state.get(key)
        self.run.result(
            output if isinstance(output, str) else as_json(output),
            f"{pos}/state/{key}",
            call_id=as_text(content.get("callID")),
            answers=seq,
            is_error={"error": True, "completed": False, "success": False}.get(
                as_text(status) or ""
            ),
            exit_code=as_int(metadata.get("exit")),
            truncated=as_bool(metadata.get("truncated")),
            media=[mime_of(as_object(file)) for file in as_array(state.get("attachments"))] or None,
            at=as_time(time.get("end")),
            duration_s=duration_of(time),
        )

    def _tell_output_so_far(self, state: Object, content: Object, pos: str) -> None:
        """What a tool put out that did not come to its end: the model was not given it."""
        metadata = as_object(state.get("metadata"))
        for said, place in ((metadata, "/state/metadata"), (state, "/state")):
            text = as_text(said.get("output"))
            if text and (place != "/state" or state.get("status") in ("error", *_NOT_ENDED)):
                self.run.event(
                    "other",
                    text,
                    f"{pos}{place}/output",
                    actor="harness",
                    call_id=as_text(content.get("callID")),
                    error_type="output_so_far",
                )
                return

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """How the session ended, and what is known of it as a whole."""
        name, _ = error_of(self._last.get("error"))
        outcome = _OUTCOMES.get(name or "", "error") if self._last.get("error") else None
        self.run.outcome(outcome, end_reason=name or as_text(self._last.get("finish")))
        if self._pruned:
            self._metadata["results_later_cleared_from_context"] = self._pruned
        for key, notes in (("turns", self._turns), ("compactions", self._compactions)):
            if any(notes):
                self._metadata[key] = notes
        if len(self._providers) > 1:
            self._metadata["providers"] = sorted(self._providers)
        self.run.set(
            cost_usd=sum(self._costs) or None,
            provider=self._providers.pop() if len(self._providers) == 1 else None,
            params={"variant": sorted(self._variants)} if self._variants else None,
            metadata=self._metadata,
        )


def _model_calls(parts: list[_Part]) -> Iterator[list[_Part]]:
    """The parts of each model call: older versions kept several calls in one message."""
    call: list[_Part] = []
    has_start = False
    for part in parts:
        if part.content.get("type") == "step-start":
            if has_start:
                yield call
                call = []
            has_start = True
        call.append(part)
    yield call
