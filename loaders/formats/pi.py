"""Pi coding agent and OpenClaw sessions: JSONL whose first line is a ``session`` with its ``cwd``.

Version 1 is a list of entries, versions 2 and 3 are a tree (``id``, ``parentId``): going back to an
earlier entry leaves a branch behind. Entries are told in the order of the file; from where a branch
or a compaction leaves entries out of what a call sees, calls have a ``context``. Version 1 names
the first kept entry by its line, later ones by its id. Aborted replies are calls with an error,
their tool calls stay without a result; all-zero usage and costs are defaults: unknown. Times do not
ascend. Shell commands of the user (``bashExecution``) are user turns. Neither system prompt nor
tool definitions nor requests are stored, so whether thinking was sent back is not known.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.context import Range, merge
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    total,
)

TITLE = "Pi / OpenClaw session"
GIVES = ("thinking", "tokens")
IGNORED = {
    "type=message /timestamp": "the message has a time of its own; where this ends a reply, it is kept",
    "/message/usage/cost/*": "the cost of the run, the sum of the replies' totals, is kept",
    "/message/usage/totalTokens": "the sum of the counts that are kept",
    "/message/responseId": "the provider's number of the reply, which nothing refers to",
    "/message/details/diff": "the screen's view of an edit, whose old and new text the call holds",
    "/message/details/truncation/*": "that it was cut is kept, and the text ends by saying how much",
    "/message/fullOutputPath": "a temporary file of the machine on which the command ran",
    "/message/content/*/partialJson": "the arguments while they came in, which stand there whole",
    "role=system /message/content/*/type": "a system prompt is text, which is kept",
    "role=user type=image /message/content/*/type": "the type of the picture is kept",
    "type=custom_message /display": "whether the screen shows it; the model sees it in any case",
    "type=custom_message /details/**": "what an extension notes for itself; the model sees the content",
    **{
        f"type={kind} /{key}": "the place in the tree, which shows in what later calls see"
        for kind in ("custom", "custom_message", "model_change", "thinking_level_change", "compact")
        for key in ("id", "parentId")
    },
}

_MAX_PIECES = 64
_COPIED = {"branchedFrom", "parentSession"}  # then messages are older than the session
_OUTCOMES = {"aborted": "cancelled", "error": "error", "length": "limit"}
_FIELDS_AS_SIGNATURES = ("reasoning_content", "reasoning", "reasoning_text", "reasoning_details")
_TREE = ("type", "id", "parentId", "timestamp")
_TOLD_OF_HEADER = ("type", "id", "version", "cwd", "thinkingLevel")
_TOLD_OF_COMPACTION = (*_TREE, "summary", "firstKeptEntryId", "firstKeptEntryIndex")
_SAID_IN_A_WORD = ("thinkingLevel", "modelId", "label", "name", "customType")
_SUMMARISING = ("openai-responses", "openai-codex-responses", "azure-openai-responses", "google-")


def sniff(head: Head) -> bool:
    """JSON Lines with a session's header among the first."""
    return any(_is_header(record) for record in head.records[:3])


def _is_header(record: Any) -> bool:
    record = as_object(record)
    return record.get("type") == "session" and {"id", "cwd", "timestamp"} <= record.keys()


def read(source: Source, out: Builder) -> None:
    """A run per session header; a file usually has one."""
    session: _Session | None = None
    for pos, record in source.json_lines():
        with out.record(pos):
            entry = as_object(record)
            if _is_header(entry) or session is None:
                if session is not None:
                    session.finish()
                session = _Session(out, entry if _is_header(entry) else {}, pos)
            if not _is_header(entry):
                session.tell(entry, pos)
    if session is not None:
        session.finish()


class _View(NamedTuple):
    """What a call after an entry sees: ranges of events (None: not known) and the latest summary."""

    ranges: tuple[Range, ...] | None = ()
    summary: int | None = None

    def grown(self, start: int, stop: int) -> _View:
        """The view with the events of one more entry."""
        if self.ranges is None or start == stop:
            return self
        ranges = self.ranges
        if ranges and ranges[-1][1] == start:
            return self._replace(ranges=(*ranges[:-1], (ranges[-1][0], stop)))
        if len(ranges) == _MAX_PIECES:
            return self._replace(ranges=None)
        return self._replace(ranges=(*ranges, (start, stop)))

    def compacted(self, first_kept: int | None, summary: int) -> _View:
        """The view after a compaction, which keeps what stands from one event on."""
        if self.ranges is None or first_kept is None:
            return _View(None, summary)
        kept = ((max(a, first_kept), b) for a, b in self.ranges if b > first_kept)
        return _View(tuple(kept), summary)


class _Session:
    """Tells one session entry by entry."""

    def __init__(self, out: Builder, header: Object, pos: str) -> None:
        is_copied = not _COPIED.isdisjoint(header)
        self.run: Run = out.trajectory(
            native_id=as_text(header.get("id")),
            pos=pos,
            framework="pi",
            format_version=as_name(header.get("version", 1 if header else None)),
            started_at=None if is_copied else as_time(header.get("timestamp")),
        )
        self.run.environment(cwd=as_text(header.get("cwd")))
        if not header:
            self.run.problem(pos, "entries without a session's header")
        told = _TOLD_OF_HEADER if is_copied else (*_TOLD_OF_HEADER, "timestamp")
        self._metadata = _rest(header, told)
        self._levels: list[str] = []
        self._note_level(header.get("thinkingLevel"))
        self._starts: list[int] = [0]  # where each line's events begin; the header is line 0
        self._start_of: dict[str, int] = {}
        self._views = {as_text(header.get("id")) or "": _View()}  # OpenClaw's entries hang below it
        self._view = _View()
        self._entry_of_call: dict[str, str | None] = {}  # OpenClaw's results hang below calls
        self._is_compacted = False
        self._last_id: str | None = None
        self._abandoned = 0
        self._costs: list[float] = []
        self._providers: set[str] = set()
        self._apis: set[str] = set()
        self._compactions: list[Object] = []
        self._end: str | None = None

    # ------------------------------------------------------------------ the tree

    def tell(self, entry: Object, pos: str) -> None:
        """One entry, wherever in the tree it stands."""
        identity, start = as_text(entry.get("id")), self.run.seq
        if identity is not None and "parentId" in entry:
            parent = as_text(entry.get("parentId"))
            parent = self._entry_of_call.get(parent or "", parent)
            if parent != self._last_id:
                self._abandoned += self._last_id is not None
                self._view = self._views.get(parent or "", _View(() if parent is None else None))
            self._last_id = identity
        self._starts.append(start)
        if identity is not None:
            self._start_of[identity] = start
        self._tell_entry(entry, pos)
        if entry.get("type") != "compaction":
            self._view = self._view.grown(start, self.run.seq)
        if identity is not None:
            self._views[identity] = self._view

    def _tell_entry(self, entry: Object, pos: str) -> None:
        kind, at = as_text(entry.get("type")), as_time(entry.get("timestamp"))
        if kind is None:
            raise UnreadableRecord("an entry without a type", pos)
        if kind == "message":
            self._tell_message(as_object(entry.get("message")), f"{pos}/message", at)
        elif kind == "compaction":
            seq = self.run.event(
                "compaction", as_text(entry.get("summary")), f"{pos}/summary", at=at
            )
            self._view = self._view.compacted(self._first_kept(entry), seq)
            self._is_compacted = True
            self._compactions.append(_rest(entry, _TOLD_OF_COMPACTION))
        elif kind == "branch_summary":
            self.run.event("compaction", as_text(entry.get("summary")), f"{pos}/summary", at=at)
        elif kind == "custom_message":
            self._tell_asked(entry, pos, at, as_text(entry.get("customType")) or "extension")
        else:  # changes of model and thinking level, labels, states of extensions
            if kind == "thinking_level_change":
                self._note_level(entry.get("thinkingLevel"))
            says = list(_rest(entry, _TREE).items())
            is_word = len(says) == 1 and says[0][0] in _SAID_IN_A_WORD
            text = as_text(says[0][1]) if is_word else as_json(dict(says) or None)
            self.run.event("other", text, pos, actor="harness", error_type=kind, at=at)

    def _first_kept(self, compaction: Object) -> int | None:
        if (identity := as_text(compaction.get("firstKeptEntryId"))) is not None:
            return self._start_of.get(identity)
        index = as_int(compaction.get("firstKeptEntryIndex"))
        return self._starts[index] if index is not None and 0 <= index < len(self._starts) else None

    def _note_level(self, level: Any) -> None:
        if isinstance(level, str) and level not in self._levels:
            self._levels.append(level)

    # ------------------------------------------------------------------ messages

    def _tell_message(self, message: Object, pos: str, written: datetime | None) -> None:
        at, role = as_time(message.get("timestamp")) or written, as_text(message.get("role"))
        if role == "assistant":
            self._tell_reply(message, pos, at, written)
        elif role == "user":
            self._tell_asked(message, pos, at, None)
        elif role == "system":
            text, _ = _text_and_media(message.get("content"))
            self.run.system(text, f"{pos}/content", at=at)
        elif role == "toolResult":
            self._tell_result(message, pos, at)
        elif role == "bashExecution":
            parts = as_text(message.get("command")), as_text(message.get("output"))
            text = "\n".join(part or "" for part in parts)
            more: dict[str, Any] = {
                "actor": "shell",
                "exit_code": as_int(message.get("exitCode")),
                "truncated": as_bool(message.get("truncated")),
                "error_type": "cancelled" if message.get("cancelled") is True else None,
                "at": at,
            }
            is_private = message.get("excludeFromContext") is True
            self.run.event("other", text, pos, **more) if is_private else self.run.user(
                text, pos, **more
            )
        elif role in ("branchSummary", "compactionSummary"):
            self.run.event("compaction", as_text(message.get("summary")), f"{pos}/summary", at=at)
        elif role is None:
            raise UnreadableRecord("a message without a role", pos)
        else:
            self._tell_asked(message, pos, at, as_text(message.get("customType")) or role)

    def _tell_asked(
        self, message: Object, pos: str, at: datetime | None, actor: str | None
    ) -> None:
        text, media = _text_and_media(message.get("content"))
        self.run.user(text, f"{pos}/content", actor=actor, media=media, at=at)

    def _tell_result(self, message: Object, pos: str, at: datetime | None) -> None:
        text, media = _text_and_media(message.get("content"))
        truncation = as_object(as_object(message.get("details")).get("truncation"))
        self.run.result(
            text,
            pos if message.get("content") is None else f"{pos}/content",
            call_id=as_text(message.get("toolCallId")),
            tool=as_text(message.get("toolName")),
            is_error=as_bool(message.get("isError")),
            truncated=as_bool(truncation.get("truncated")),
            media=media,
            at=at,
        )

    def _tell_reply(
        self, message: Object, pos: str, at: datetime | None, written: datetime | None
    ) -> None:
        error = as_text(message.get("errorMessage"))
        self._end = as_text(message.get("stopReason"))
        self.run.step(
            source_pos=pos,
            model=as_text(message.get("model")),
            started_at=at,
            ended_at=written if at and written and written >= at else None,
            stop_reason=self._end,
            error=error,
            **_token_columns(message.get("usage")),
        )
        self._tell_context()
        content = message.get("content")
        if isinstance(content, str):
            self.run.message(content, f"{pos}/content", at=at)
        for index, block in enumerate(as_array(content)):
            self._tell_block(as_object(block), f"{pos}/content/{index}", message, at)
        if error is not None:
            self.run.event("error", error, f"{pos}/errorMessage", error_type=self._end, at=at)
        if provider := as_text(message.get("provider")):
            self._providers.add(provider)
        if api := as_text(message.get("api")):
            self._apis.add(api)
        cost = as_object(as_object(message.get("usage")).get("cost"))
        if (spent := as_float(cost.get("total"))) is not None:
            self._costs.append(spent)

    def _tell_context(self) -> None:
        """What the call sees, from where it is not simply everything before it."""
        edit = "compacted" if self._is_compacted else None
        self._is_compacted = False
        ranges, summary = self._view
        context = None
        if ranges is not None and (summary is not None or ranges != ((0, self.run.seq),)):
            context = merge([*ranges, *([(summary, summary + 1)] if summary is not None else [])])
        if edit or context:
            self.run.saw(context, None, "unknown", history_edit=edit)

    def _tell_block(self, block: Object, pos: str, message: Object, at: datetime | None) -> None:
        kind = block.get("type")
        if kind == "text":
            self.run.message(as_text(block.get("text")), f"{pos}/text", at=at)
        elif kind == "thinking":
            self._tell_thinking(block, pos, as_text(message.get("api")) or "", at)
        elif kind == "toolCall":
            identity, name = as_text(block.get("id")), as_text(block.get("name"))
            self.run.call(name, block.get("arguments"), pos, call_id=identity, at=at)
            self._entry_of_call[identity or ""] = self._last_id
        elif kind == "image":
            self.run.message(None, pos, media=[_mime(block)], at=at)
        else:
            self.run.event("other", None, pos, error_type=as_text(kind), at=at)

    def _tell_thinking(self, block: Object, pos: str, api: str, at: datetime | None) -> None:
        text, signature = as_text(block.get("thinking")), as_text(block.get("thinkingSignature"))
        if not signature or signature in _FIELDS_AS_SIGNATURES:
            signature = None
        if block.get("redacted") is True:
            state = "redacted"
        elif text:
            state = "summary" if api.startswith(_SUMMARISING) else "text"
        elif signature:
            state = "hidden"
        else:
            self.run.event("other", None, pos, error_type="empty_thinking", at=at)
            return
        self.run.thinking(text or None, pos, state=state, signature=signature, at=at)

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """How the session ended, and what is known of it as a whole."""
        self.run.outcome(_OUTCOMES.get(self._end or ""), end_reason=self._end)
        if self._abandoned:
            self._metadata["branches_left"] = self._abandoned
        if any(self._compactions):
            self._metadata["compactions"] = self._compactions
        if self._apis:
            self._metadata["apis"] = sorted(self._apis)
        if len(self._providers) > 1:
            self._metadata["providers"] = sorted(self._providers)
        self.run.set(
            cost_usd=sum(self._costs) or None,
            provider=self._providers.pop() if len(self._providers) == 1 else None,
            params={"thinking_levels": self._levels} if self._levels else None,
            metadata=self._metadata,
        )


def _rest(record: Object, told: Container[str]) -> Object:
    """What a record says beyond what has its place."""
    return {k: value for k, value in record.items() if k not in told and value is not None}


def _token_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step; empty where all are 0, as for a reply that was aborted."""
    usage = as_object(usage)
    output, cached = as_int(usage.get("output")), as_int(usage.get("cacheRead"))
    given = total(as_int(usage.get("input")), cached, as_int(usage.get("cacheWrite")))
    if not any((given, output)):
        return {}
    return {
        "input_tokens": given,
        "output_tokens": output,
        "cached_tokens": cached,
        "reasoning_tokens": as_int(usage.get("reasoning")),
    }


def _text_and_media(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of a content, and the types of its other parts."""
    if not is_array(content):
        return content if isinstance(content, str) else as_json(content), None
    parts = [as_object(part) for part in content]
    texts = [text for part in parts if (text := as_text(part.get("text"))) is not None]
    media = [_mime(part) for part in parts if part.get("type") != "text"]
    return "\n".join(texts) if texts else None, media or None


def _mime(part: Object) -> str:
    return as_text(part.get("mimeType")) or as_text(part.get("type")) or "unknown"
