"""Cline: the folder of a task, or a session of its command line; Roo Code's tasks look the same.

``api_conversation_history.json`` is the log: the messages as they are sent, in Anthropic's blocks.
``ui_messages.json`` beside it says what each request cost, when it was made and which messages were
left out of it: those calls have a ``context``. ``task_metadata.json`` has versions and models, and
``context_history.json`` which messages later requests held in a shorter form. A session is one
object, ``<id>.messages.json``, with its manifest ``<id>.json``.

Older tasks have no tool calls of the API's: calls are XML in the reply's text, responses are texts
of the user, linked by the tool's name or else by order. Responses to real calls may be texts, too.
Tokens count as Cline counts them, with those from and to the cache beside the others; a session
counts the cache in. Subagents have no log of their own. Requests are not stored, so whether thinking
was sent back is not known.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.context import Range
from loaders.dialects.anthropic import CALLS, write_block
from loaders.dialects.openai_chat import split_think_tags, thoughts_of
from loaders.errors import UnreadableRecord
from loaders.formats._cline_parts import blocks_of, metrics_of, squeezed, thinking_of
from loaders.formats._cline_text import TOOLS, TextCall, pieces, tool_of_result
from loaders.formats._cline_ui import IGNORED_IN_THE_WINDOW, NAMES, Note, Request, Screen, screen_of
from loaders.heads import Head
from loaders.rows import metadata_of
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

TITLE = "Cline task"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = {
    **IGNORED_IN_THE_WINDOW,
    "context_history.json#/**": "shorter forms of messages; which ones is kept in metadata",
    "/*/metrics/**": "the numbers of the request in ui_messages.json, less finely divided",
    "/*/content/*/call_id": "the provider's name of a reply",
    "type=tool_use /*/content/*/signature": "what a provider wants back with a call",
    "type=text /*/content/*/signature": "what a provider wants back with a text",
    "/**/content/*/summary/*/type": "a part of a summary is one, whatever it is called",
    "/*/id": "the provider's name of a reply",
    "/messages/*/id": "the program's name of a message",
    "/session_id": "the session's name once more, in its manifest",
    "type=tool_result /**/name": "the name of the tool whose call is answered",
}

_LOG, _SESSION = "api_conversation_history.json", ".messages.json"
_TASK_METADATA, _CONTEXT = "task_metadata.json", "context_history.json"
_OF_THE_HARNESS = ("<environment_details>", "[ERROR]", "# task_progress", "# TODO LIST")
_CWD = re.compile(r"# Current Working Directory \(([^\n]+?)\)")
_TASK_ID = re.compile(r"\d{10,16}|[0-9A-HJKMNP-TV-Z]{26}")
_MANIFEST_TAKEN = ("session_id", "started_at", "ended_at", "model", "provider")


def sniff(head: Head) -> bool:
    """The history of a task by its name, or a session's messages by their name and keys."""
    if head.filename.endswith(_LOG):
        return is_array(head.value)
    return head.filename.endswith(_SESSION) and {"sessionId", "messages"} <= head.keys


def companion(head: Head) -> bool:
    """What stands beside a history or a session."""
    first = head.first
    if head.filename in NAMES:
        return "ts" in first and bool({"ask", "say"} & first.keys())
    if head.filename == _TASK_METADATA:
        return bool({"files_in_context", "model_usage"} & first.keys())
    if head.filename == _CONTEXT:
        return is_array(head.value)
    return {"session_id", "workspace_root"} <= first.keys() or (
        {"session_id", "messages_path"} <= first.keys()
    )


def read(source: Source, out: Builder) -> None:
    """One run: a task, or a session."""
    value = source.json()
    if source.filename.endswith(_SESSION) and is_object(value):
        _read_session(source, out, value)
        return
    if not is_array(value):
        raise UnreadableRecord("no list of messages")
    if not value:
        return
    folder = PurePosixPath(source.name).parent.name
    run = out.trajectory(
        native_id=folder if _TASK_ID.fullmatch(folder) else None, pos="", framework="cline"
    )
    screen = Screen()
    metadata: Object = {}
    with out.record(None):
        screen = screen_of(source)
    with out.record(None):
        _tell_task(run, source, metadata)
    teller = _Teller(run, screen, metadata)
    teller.tell_all(out, value, "")


def _tell_task(run: Run, source: Source, metadata: Object) -> None:
    """What stands beside the history about the task as a whole."""
    file = source.beside(_TASK_METADATA)
    task = as_object(file.json()) if file is not None else {}
    metadata |= metadata_of(task, ())
    history = [as_object(entry) for entry in as_array(task.get("environment_history"))]
    if history:
        known = history[-1]
        run.set(framework_version=as_text(known.get("cline_version")))
        names = ("os_name", "os_version", "os_arch", "host_name", "host_version")
        run.environment(**{name: as_text(known.get(name)) for name in names})
    usage = [as_object(entry) for entry in as_array(task.get("model_usage"))]
    models = {as_text(entry.get("model_id")) for entry in usage}
    providers = {as_text(entry.get("model_provider_id")) for entry in usage}
    run.set(
        model=models.pop() if len(models) == 1 else None,
        provider=providers.pop() if len(providers) == 1 else None,
    )
    file = source.beside(_CONTEXT)
    edits = as_array(file.json()) if file is not None else []
    edited = [next(iter(as_array(edit)), None) for edit in edits]
    if indices := [index for index in map(as_int, edited) if index is not None]:
        metadata["messages_edited_in_later_requests"] = indices


def _read_session(source: Source, out: Builder, session: Object) -> None:
    manifest: Object = {}
    with out.record(None):
        file = source.beside(f"{source.filename.removesuffix(_SESSION)}.json")
        manifest = as_object(file.json()) if file is not None else {}
    version = as_int(session.get("version"))
    run = out.trajectory(
        native_id=as_text(session.get("sessionId")) or as_text(manifest.get("session_id")),
        pos="",
        framework="cline",
        format_version=None if version is None else str(version),
        model=as_text(manifest.get("model")),
        provider=as_text(manifest.get("provider")),
        started_at=as_time(manifest.get("started_at")),
        ended_at=as_time(manifest.get("ended_at")),
    )
    cwd = as_text(manifest.get("cwd"))
    run.environment(cwd=cwd, workspace=as_text(manifest.get("workspace_root")))
    metadata = metadata_of(manifest, _MANIFEST_TAKEN)
    metadata |= metadata_of(session, ("sessionId", "messages", "version"))
    messages = session.get("messages")
    if not is_array(messages):
        run.problem("/messages", "messages that are no list")
    _Teller(run, Screen(), metadata).tell_all(out, as_array(messages), "/messages")


class _Teller:
    """Tells the messages of a history, each with what the chat window showed of it."""

    def __init__(self, run: Run, screen: Screen, metadata: Object) -> None:
        self.run = run
        self._screen = screen
        self._metadata = metadata
        self._in_order: Iterator[Request] | None = None
        self._seqs: list[Range] = []
        self._waiting: deque[int] = deque()
        self._waiting_of: dict[str, deque[int]] = {}
        self._answered: set[int] = set()
        self._costs: list[float] = []
        self._modes: list[str] = []
        self._providers: list[str] = []
        self._has_cwd = False

    def tell_all(self, out: Builder, messages: list[Any], pointer: str) -> None:
        """All messages, and what is known at their end."""
        replies = sum(as_object(message).get("role") == "assistant" for message in messages)
        self._in_order = self._screen.columns_in_order(replies)
        for note in self._screen.errors.get(-1, ()):
            self._tell_error(note)
        for index, message in enumerate(messages):
            pos, start = f"{pointer}/{index}", self.run.seq
            with out.record(pos):
                self._tell(index, message, pos)
            self._seqs.append((start, self.run.seq))
            for note in self._screen.errors.get(index, ()):
                self._tell_error(note)
        self._finish(len(messages))

    def _tell(self, index: int, message: Any, pos: str) -> None:
        if not is_object(message):
            raise UnreadableRecord("no message", pos)
        role, at = as_text(message.get("role")), as_time(message.get("ts"))
        if role == "assistant":
            self._tell_reply(index, message, pos, at)
        elif role == "user":
            self._tell_asked(message, pos, at)
        else:
            raise UnreadableRecord(f"a message of the role {role!r}", pos)

    # ------------------------------------------------------------------ requests

    def _begin_call(self, index: int, message: Object, pos: str, at: datetime | None) -> None:
        """Begin the model call of a reply, after those that failed before it."""
        made = self._screen.requests.pop(index, [])
        for failed in made[:-1]:
            self._tell_failed(failed)
        request = made[-1] if made else next(self._in_order or iter(()), None)
        model = as_object(message.get("modelInfo"))
        columns: dict[str, Any] = {
            **metrics_of(message.get("metrics")),
            **(request.columns if request else {}),
        }
        named = as_text(model.get("modelId")) or as_text(model.get("id"))
        if named:
            columns["model"] = named
        self.run.step(source_pos=pos, ended_at=at, **columns)
        self._note(self._providers, model.get("providerId", model.get("provider")))
        self._note(self._modes, model.get("mode"))
        cost = as_float(as_object(message.get("metrics")).get("cost"))
        if cost is not None:
            self._costs.append(cost)
        if request is not None:
            self._tell_context(request)

    def _tell_context(self, request: Request) -> None:
        if request.deleted is None:
            return
        first, last = request.deleted
        if last < len(self._seqs):
            kept = [(0, self._seqs[first][0]), (self._seqs[last][1], self.run.seq)]
            self.run.saw(kept, None, "unknown", history_edit="truncated")

    def _tell_failed(self, request: Request) -> None:
        self.run.step(source_pos=request.pos, **request.columns)
        self._tell_context(request)
        if request.error:
            self.run.event("error", request.error, request.pos, error_type="api_req_failed")

    def _tell_error(self, note: Note) -> None:
        self.run.event("error", note.text, note.pos, error_type=note.kind, at=note.at)

    def _note(self, notes: list[str], value: Any) -> None:
        if isinstance(value, str) and value not in notes:
            notes.append(value)

    # ------------------------------------------------------------------ replies

    def _tell_reply(self, index: int, message: Object, pos: str, at: datetime | None) -> None:
        self._begin_call(index, message, pos, at)
        self._waiting.clear()
        self._waiting_of.clear()
        blocks = blocks_of(message, pos)
        has_calls = any(as_object(block).get("type") in CALLS for block, _ in blocks)
        known = "".join(squeezed(thinking_of(as_object(block))[0]) for block, _ in blocks)
        if not known:
            for note in self._screen.reasoning.get(index, ()):
                self.run.thinking(note.text, note.pos, at=note.at)
                known += squeezed(note.text)
        for block, place in blocks:
            kind = as_object(block).get("type")
            if kind == "thinking":
                text, state, signature = thinking_of(as_object(block))
                self.run.thinking(text, place, state=state, signature=signature, at=at)
            elif kind in CALLS:
                self._expect(self.run.seq, as_text(as_object(block).get("name")))
                write_block(self.run, block, place, role="assistant", at=at)
            elif isinstance(block, str) or kind == "text":
                known = self._tell_details(as_object(block), place, known, at)
                text = block if isinstance(block, str) else as_text(block.get("text"))
                self._tell_text(text or "", place, has_calls, at)
            else:
                write_block(self.run, block, place, role="assistant", at=at)

    def _tell_details(self, block: Object, pos: str, known: str, at: datetime | None) -> str:
        """Tell thinking that stands only in the details of a text."""
        details = {"reasoning_details": block.get("reasoning_details")}
        for text, state, signature, pointer in thoughts_of(details):
            if text is None or squeezed(text) not in known:
                self.run.thinking(text, pos + pointer, state=state, signature=signature, at=at)
                known += squeezed(text)
        return known

    def _tell_text(self, text: str, pos: str, has_calls: bool, at: datetime | None) -> None:
        for piece in [text] if has_calls else pieces(text):
            if isinstance(piece, TextCall):
                self._expect(self.run.seq, piece.tool)
                self.run.call(piece.tool, piece.arguments, pos, at=at)
                continue
            for is_thinking, prose in split_think_tags(piece):
                if is_thinking:
                    self.run.thinking(prose, pos, state="tagged_in_text", at=at)
                else:
                    self.run.message(prose, pos, at=at)

    def _expect(self, seq: int, tool: str | None) -> None:
        self._waiting.append(seq)
        self._waiting_of.setdefault(tool or "", deque()).append(seq)

    # ------------------------------------------------------------------ the user's turns

    def _tell_asked(self, message: Object, pos: str, at: datetime | None) -> None:
        awaited: str | None = None
        for block, place in blocks_of(message, pos):
            kind = as_object(block).get("type")
            text = block if isinstance(block, str) else as_text(as_object(block).get("text"))
            if kind == "tool_result" or not (isinstance(block, str) or kind == "text"):
                write_block(self.run, block, place, role="user", at=at)
                continue
            text = text or ""
            self._note_cwd(text)
            tool, is_in_next = tool_of_result(text)
            if tool is not None and tool not in TOOLS and tool not in self._waiting_of:
                tool = None
            is_harness = text.lstrip().startswith(_OF_THE_HARNESS)
            if awaited is not None and (tool is not None or is_harness):
                self._tell_result(awaited, None, place, at)
                awaited = None
            if is_harness:
                self.run.user(text, place, actor="harness", at=at)
            elif tool is not None and is_in_next:
                awaited = tool
            elif tool is not None or awaited is not None:
                self._tell_result(tool or awaited or "", text, place, at)
                awaited = None
            elif text:
                self.run.user(text, place, at=at)
        if awaited is not None:
            self._tell_result(awaited, None, f"{pos}/content", at)

    def _tell_result(self, tool: str, text: str | None, pos: str, at: datetime | None) -> None:
        self.run.result(text, pos, answers=self._answered_by(tool), tool=tool, at=at)

    def _answered_by(self, tool: str) -> int | None:
        """The earliest call of the last reply that waits for this tool, else the earliest of all."""
        for waiting in (self._waiting_of.get(tool, deque[int]()), self._waiting):
            while waiting:
                seq = waiting.popleft()
                if seq not in self._answered:
                    self._answered.add(seq)
                    return seq
        return None

    def _note_cwd(self, text: str) -> None:
        if not self._has_cwd and (found := _CWD.search(text)):
            self._has_cwd = True
            self.run.environment(cwd=found[1])
            self._metadata["cwd"] = found[1]

    # ------------------------------------------------------------------ the end

    def _finish(self, count: int) -> None:
        screen = self._screen
        for reply in sorted(screen.requests):
            for request in screen.requests[reply]:
                self._tell_failed(request)
        for place, notes in sorted(screen.errors.items()):
            for note in notes if place >= count else ():
                self._tell_error(note)
        self._count_unplaced()
        costs = screen.costs or self._costs
        if screen.spent_elsewhere:
            self._metadata |= screen.spent_elsewhere
        if screen.subagents:
            self._metadata["subagents"] = screen.subagents
        if screen.end_reason is not None:
            self.run.outcome(screen.outcome, end_reason=screen.end_reason)
        if len(self._providers) == 1:
            self.run.set(provider=self._providers[0])
        self.run.set(
            cost_usd=sum(costs) if costs else None,
            params={"modes": self._modes} if self._modes else None,
            metadata=self._metadata,
        )

    def _count_unplaced(self) -> None:
        """Tokens of requests that can't be told apart are known for the run as a whole."""
        left = self._screen.unplaced
        if left:
            names = ("input_tokens", "output_tokens", "cached_tokens")
            sums = {name: total(*(each.columns.get(name) for each in left)) for name in names}
            self.run.set(**sums)
