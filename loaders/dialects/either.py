"""Messages in OpenAI's or in Anthropic's dialect: told apart by what only one of them has."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from loaders.dialects import anthropic, openai_chat
from loaders.run import Run
from loaders.values import Object, as_array, as_object, as_text, is_array, is_object

OPENAI: Final = "openai_chat"
ANTHROPIC: Final = "anthropic_messages"
ROLES: Final = frozenset(
    ("system", "developer", "user", "assistant", "tool", "function", "human", "ai", "model")
)

_OPENAI_KEYS = (
    "tool_calls",
    "function_call",
    "tool_call_id",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking_blocks",
)
_ANTHROPIC_BLOCKS = ("redacted_thinking", "compaction", *anthropic.CALLS)
_ANTHROPIC_KEYS = ("stop_reason", "stop_sequence")
_FOREIGN_KEYS = frozenset(
    (
        "parts",
        "message",
        "sessionID",
        "sessionId",
        "session_id",
        "parentUuid",
        "source",
        "text",
        "blocks",
    )
)
# fmt: off
_CONVERSE_BLOCKS = frozenset((
    "text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "audio",
    "cachePoint", "guardContent", "citationsContent",
))
# fmt: on


def is_message(value: Any) -> bool:
    """Whether a value is a message of either dialect, as far as a cut head of a log shows it."""
    if not is_object(value) or value.get("role") not in ROLES or _FOREIGN_KEYS & value.keys():
        return False
    return not is_converse_message(value)


def is_converse_message(value: Any) -> bool:
    """Whether a value is a message in a third dialect, Bedrock's: blocks of a key each, without type.

    >>> is_converse_message({"role": "user", "content": [{"text": "hi"}]})
    True
    """
    if not is_object(value) or value.get("role") not in ("user", "assistant"):
        return False
    first = as_object(next(iter(as_array(value.get("content"))), None))
    return bool(first) and first.keys() <= _CONVERSE_BLOCKS


def dialect_of(messages: list[Any], request: Object | None = None) -> str | None:
    """The dialect that a list of messages is in; None where nothing in it belongs to one alone.

    ``request``: the object around the messages, whose other keys tell as well.

    >>> dialect_of([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}])
    'anthropic_messages'
    """
    for message in messages:
        if found := _dialect_of_message(as_object(message)):
            return found
    request = request or {}
    if request.get("system") and not any(_is_system(message) for message in messages):
        return ANTHROPIC
    if request.get("anthropic_version") or any(
        "input_schema" in as_object(tool) for tool in as_array(request.get("tools"))
    ):
        return ANTHROPIC
    return OPENAI if any(_is_system(message) for message in messages) else None


def _dialect_of_message(message: Object) -> str | None:
    if message.get("role") in ("tool", "function"):
        return OPENAI
    for key in _OPENAI_KEYS:
        if message.get(key):
            return OPENAI
    if has_anthropic_blocks(message):
        return ANTHROPIC
    for key in _ANTHROPIC_KEYS:
        if message.get(key):
            return ANTHROPIC
    return None


def _is_system(message: Any) -> bool:
    return as_object(message).get("role") in ("system", "developer")


def has_anthropic_blocks(message: Object) -> bool:
    """Whether a message's content has blocks that OpenAI's dialect has no place for."""
    content = message.get("content")
    return is_array(content) and any(_is_anthropic_block(as_object(block)) for block in content)


def _is_anthropic_block(block: Object) -> bool:
    kind = as_text(block.get("type")) or ""
    if kind == "thinking":  # Mistral's thinking is a list of parts
        return isinstance(block.get("thinking"), str)
    return kind in _ANTHROPIC_BLOCKS or (kind.endswith("tool_result") and "tool_use_id" in block)


def write_message(
    run: Run, message: Object, pos: str, dialect: str | None, *, at: datetime | None = None
) -> None:
    """Tell one message of a list in ``dialect``; one that is clearly in the other is told as that.

    Converters mix the two, and a call or a result that is read in the wrong one would be lost.
    """
    own = _dialect_of_message(message) or dialect
    if own == ANTHROPIC:
        anthropic.write_message(run, message, pos, at=at)
    else:
        openai_chat.write_message(run, message, pos, at=at)
