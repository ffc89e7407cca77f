"""Lines of Claude Code's logs: declared, so that they decode fast, and what they say.

What is not declared is skipped while decoding, which is most of the bytes: tool results are logged
twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Raw, Struct, field

from loaders.jsontext import decode
from loaders.values import Object, as_int, as_name, as_object, as_text, as_time, total

_EDITS = {
    "clear_thinking": "thinking_dropped",
    "clear_tool_uses": "truncated",
    "compact": "compacted",
}
HARNESS = "claude-code"
"""The actor of what no model and no human did."""
NOTHING = Raw()
"""Stands where a line lacks a field that is left undecoded."""


if TYPE_CHECKING:
    _Text: TypeAlias = str | None
    _Bytes: TypeAlias = bytes | None
    _Lines: TypeAlias = list["Line"] | None
    _Block: TypeAlias = "Block | None"
else:
    _Text = _Bytes = _Lines = _Block = None


def _found(name: str, default: Any = None) -> Any:
    """A field that reading sets, and no log: its key begins with a blank, and as a rule must be null."""
    return field(name=f" {name}", default=default)


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
    arguments: _Text = _found("arguments")
    """A tool call's arguments: the text of ``input`` as logged."""

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
    """What the harness attached to a turn; ``Line.record`` holds the rest of it."""

    type: str = ""


class _Attached(Struct, gc=False):
    attachment: dict[str, Any] = field(default_factory=dict[str, Any])


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
    number: int = _found("number", 0)
    data: _Bytes = _found("data")
    """The line's bytes, where more of it is wanted than is declared."""
    more: _Lines = _found("more")
    """The further lines of the same model call."""
    plain: _Block = _found("plain")
    """The only block of a line that can be told in the short way, as can each of its further lines."""

    @property
    def pos(self) -> str:
        """Where it stands in the file."""
        return f"L{self.number}"

    @property
    def at(self) -> datetime | None:
        """When it was written."""
        return as_time(self.timestamp)

    @property
    def record(self) -> Object:
        """The whole line, decoded; empty where its bytes were not kept."""
        return as_object(decode(self.data)) if self.data else {}

    @property
    def attached(self) -> Object:
        """What the harness attached, decoded whole."""
        try:
            return _decode_attached(self.data or b"{}").attachment
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return as_object(self.record.get("attachment"))

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
        if not self.rendered:
            return ""
        return "\n".join(part.content for part in self.rendered if part.content)


_decode_attached = msgspec.json.Decoder(_Attached).decode


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
