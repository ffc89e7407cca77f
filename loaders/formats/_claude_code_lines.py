"""Lines of Claude Code's logs: declared, so that they decode fast, and what they say.

What is not declared is skipped while decoding, which is most of the bytes: tool results are logged
twice. A line in which something has another type than declared is read again, as far as it goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.sources import Source
from loaders.values import (
    Object,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    total,
)

PLAIN_BLOCKS = frozenset({"text", "thinking", "tool_use", "tool_result"})
"""Types of the content blocks that ``Block`` holds in full."""

_EDITS = {
    "clear_thinking": "thinking_dropped",
    "clear_tool_uses": "truncated",
    "compact": "compacted",
}
_NOT_KEPT = frozenset(
    {
        *("progress", "file-history-snapshot", "last-prompt", "ai-title"),
        *("permission-mode", "cost-state"),
    }
)
"""Types of lines that repeat what others say, or show how something went on."""
NOTHING = Raw()
"""Stands where a line lacks a field that is left undecoded."""
_NOT_AS_DECLARED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_CONVERTED = (ValueError, OverflowError, RecursionError)
_Declared = TypeVar("_Declared", bound=Struct)


class Media(Struct, gc=False):
    """Where a part that is no text comes from; its data is skipped."""

    media_type: str | None = None


class Part(Struct, gc=False):
    """A part of a tool result."""

    type: str | None = None
    text: str | None = None
    tool_name: str | None = None
    source: Media | None = None


class Block(Struct, gc=False):
    """A content block of a message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: str | list[Part] | None = None
    is_error: bool | None = None
    arguments: str | None = field(name=" arguments", default=None)
    """A tool call's arguments, the text of ``input`` as logged; no log has a key of this name."""

    @property
    def text_and_media(self) -> tuple[str | None, list[str] | None]:
        """A tool result's text, and the types of what else it holds."""
        if self.content is None or isinstance(self.content, str):
            return self.content, None
        texts: list[str] = []
        media: list[str] = []
        for part in self.content:
            text = part.tool_name if part.type == "tool_reference" else part.text
            if text is not None:
                texts.append(text)
            else:
                media.append((part.source and part.source.media_type) or part.type or "unknown")
        return "\n".join(texts) if texts else None, media or None


class Usage(Struct, gc=False):
    """Counts of tokens, and how the call was served; whatever the types may be."""

    input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation: Any = None
    output_tokens: Any = None
    output_tokens_details: Any = None
    server_tool_use: Any = None
    service_tier: Any = None
    inference_geo: Any = None
    iterations: Any = None
    speed: Any = None

    @property
    def counts(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Tokens of the input, the output, the reasoning in it, and the input's from the cache.

        The log's own input tokens leave out what came from or went to the cache.
        """
        fresh, cached = as_int(self.input_tokens), as_int(self.cache_read_input_tokens)
        written = as_int(self.cache_creation_input_tokens)
        if cached is not None or written is not None:
            fresh = total(fresh, written, cached)
        reasoning = None
        if self.output_tokens_details is not None:
            reasoning = as_int(as_object(self.output_tokens_details).get("thinking_tokens"))
        return fresh, as_int(self.output_tokens), reasoning, cached


class _Edit(Struct, gc=False):
    type: str = ""


class _ContextManagement(Struct, gc=False):
    applied_edits: list[_Edit] | None = None


class Message(Struct, gc=False):
    """A message of the provider's API, or the piece of one that a line holds."""

    id: str | None = None
    model: str | None = None
    content: str | list[Block] | None = None
    stop_reason: str | None = None
    usage: Usage | None = None
    stop_details: Any = None
    diagnostics: Any = None
    context_management: _ContextManagement | None = None

    @property
    def blocks(self) -> list[Block]:
        """The content blocks; none where the content is plain text."""
        return self.content if isinstance(self.content, list) else []

    @property
    def history_edit(self) -> str | None:
        """How the provider says that it edited the request's history."""
        edits = self.context_management.applied_edits if self.context_management else None
        names = [
            n for e in edits or () for prefix, n in _EDITS.items() if e.type.startswith(prefix)
        ]
        return names[0] if names else None


class Outcome(Struct, rename="camel", gc=False):
    """What the harness notes of a tool's run, beside the result that the model was given."""

    agent_id: str | None = None
    duration_ms: float | None = None
    total_duration_ms: float | None = None
    duration_seconds: float | None = None
    exit_code: int | None = None
    interrupted: bool | None = None
    was_interrupted: bool | None = None
    truncated: bool | None = None
    persisted_output_path: str | None = None
    user_modified: bool | None = None
    background_task_id: str | None = None
    return_code_interpretation: str | None = None
    total_tokens: int | None = None
    total_tool_use_count: int | None = None
    usage: Any = None
    tool_stats: Any = None
    is_error: bool | None = field(name="is_error", default=None)

    @property
    def notes(self) -> Object:
        """What is worth keeping of it that no column holds."""
        known: Object = {}
        if self.persisted_output_path is not None:
            known["persistedOutputPath"] = self.persisted_output_path
        if self.user_modified:
            known["userModified"] = True
        if self.background_task_id is not None:
            known["backgroundTaskId"] = self.background_task_id
        if self.return_code_interpretation is not None:
            known["returnCodeInterpretation"] = self.return_code_interpretation
        if self.total_tokens is not None:
            known["totalTokens"] = self.total_tokens
        if self.total_tool_use_count is not None:
            known["totalToolUseCount"] = self.total_tool_use_count
        if self.usage is not None:
            known["usage"] = self.usage
        if self.tool_stats is not None:
            known["toolStats"] = self.tool_stats
        return known

    @property
    def seconds(self) -> float | None:
        """How long the tool, or the subagent, took."""
        milliseconds = self.duration_ms
        if milliseconds is None:
            milliseconds = self.total_duration_ms
        return self.duration_seconds if milliseconds is None else milliseconds / 1000

    @property
    def is_truncated(self) -> bool | None:
        """Whether the model was given less than the tool returned."""
        return True if self.persisted_output_path else self.truncated


class _Skipped(Struct, gc=False):
    """An item of no use here."""


class Attachment(Struct, gc=False):
    """What the harness attached to a turn; ``Entry.record`` holds the rest of it."""

    type: str = ""


class _Rendered(Struct, gc=False):
    content: str | None = None


class _Origin(Struct, gc=False):
    kind: str | None = None


class Line(Struct, rename="camel", gc=False):
    """A line of a log; the fields stand about where the writer puts them, which decodes faster."""

    parent_uuid: str | None = None
    is_sidechain: bool | None = None
    cwd: str | None = None
    session_id: str | None = None
    version: str | None = None
    git_branch: str | None = None
    agent_id: str | None = None
    type: str = ""
    message: Message | None = None
    tool_use_result: Outcome | str | list[_Skipped] | None = None
    request_id: str | None = None
    uuid: str | None = None
    timestamp: str | None = None
    subtype: str | None = None
    level: str | None = None
    attachment: Attachment | None = None
    rendered: list[_Rendered] | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_api_error_message: bool | None = None
    is_aborted_mid_stream: bool | None = None
    error: Any = None
    error_details: Any = None
    tool_denial_kind: str | None = None
    origin: _Origin | None = None
    permission_mode: str | None = None
    effort: str | None = None
    thinking_metadata: Any = None
    entrypoint: str | None = None
    attribution_agent: str | None = None
    custom_title: str | None = None
    ai_title: str | None = None
    total_cost: float | None = field(name="totalCostUSD", default=None)

    @property
    def actor(self) -> str | None:
        """Who wrote a user line, where the log says that it was no human."""
        return self.origin.kind if self.origin and self.origin.kind != "human" else None

    @property
    def call_error(self) -> str | None:
        """What went wrong with a model call, in a word."""
        if isinstance(self.error, str):
            return self.error
        return "aborted_mid_stream" if self.is_aborted_mid_stream else None

    @property
    def rendered_text(self) -> str:
        """What an attachment put before the model."""
        return "\n".join(part.content for part in self.rendered or () if part.content)


class Entry(Struct, gc=False):
    """A line, its number and place, when it was written, and its bytes where more of it is wanted."""

    number: int
    line: Line
    pos: str
    at: datetime | None
    data: bytes | None

    @property
    def record(self) -> Object:
        """The whole line, decoded; empty where its bytes were not kept."""
        return as_object(decode(self.data)) if self.data else {}


decode_line = msgspec.json.Decoder(Line).decode
"""Decodes a line as far as it is declared."""


def entries(source: Source) -> Iterator[Entry]:
    """Every line of a log; the bytes are kept of what ``Line`` doesn't hold in full.

    That is of attachments, of messages with rare blocks, and of all lines without a message but
    those of ``_NOT_KEPT``.
    """
    for number, data in source.lines():
        try:
            line = decode_line(data)
        except _NOT_AS_DECLARED:
            line = _reread(source, number, data)
            if line is None:
                continue
        message = line.message
        if message is None:
            is_wanted = line.type not in _NOT_KEPT
        else:
            is_wanted = False
            if type(message.content) is list:
                for block in message.content:
                    if block.type == "tool_use":
                        block.arguments = str(block.input, "utf-8", "replace") or None
                        block.input = NOTHING
                    elif block.type not in PLAIN_BLOCKS:
                        is_wanted = True
        at = as_time(line.timestamp)
        yield Entry(number, line, f"L{number}", at, data if is_wanted else None)


def _reread(source: Source, number: int, data: bytes) -> Line | None:
    source.position = f"L{number}"
    try:
        record = decode(data)
    except UnreadableRecord as error:
        source.problem(source.position, error.reason)
        return None
    if not is_object(record):
        source.problem(source.position, "a line that is no JSON object")
        return None
    line = _what_fits(Line, record)
    if line.message is None and is_object(record.get("message")):
        message = as_object(record["message"])
        line.message = _what_fits(Message, message)
        if is_array(message.get("content")):
            line.message.content = [_block_of(value) for value in message["content"]]
    if line.tool_use_result is None:
        line.tool_use_result = _what_fits(Outcome, as_object(record.get("toolUseResult")))
    return line


def _what_fits(kind: type[_Declared], record: Object) -> _Declared:
    kept: dict[str, Any] = {}
    for declared in msgspec.structs.fields(kind):
        if declared.encode_name in record:
            try:
                value = msgspec.json.encode(record[declared.encode_name])
                kept[declared.name] = msgspec.json.decode(value, type=declared.type)
            except _NOT_CONVERTED:
                continue
    return kind(**kept)


def _block_of(value: Any) -> Block:
    """A block of an untyped message; of no plain type, where it is not as declared."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=Block)
    except _NOT_CONVERTED:
        return Block(type="not as declared")


def described(error: Any) -> tuple[str | None, str | None]:
    """The message and the type of an error, however deep the provider's own stands inside it.

    >>> described({"status": 529, "error": {"error": {"type": "overloaded_error", "message": "busy"}}})
    ('busy', 'overloaded_error')
    """
    text = as_text(error)
    kind: str | None = None
    for _ in range(4):
        error = as_object(error)
        own = as_text(error.get("type"))
        kind = own if own and own != "error" else kind or as_name(error.get("status") or None)
        text = as_text(error.get("message")) or text or as_text(error.get("formatted"))
        error = error.get("error")
    return text, kind
