"""What messages of an Inspect sample say, whatever their ids: by it they are known as the same."""

from __future__ import annotations

from msgspec import UNSET

from loaders.formats._inspect_records import Message
from loaders.formats._inspect_sample import Sample
from loaders.values import as_json, as_name, as_object, as_text, is_array

Content = tuple[str, ...]
"""Role, texts, calls, error; the texts themselves, whose hashes Python keeps with them."""


def content_of(message: Message, sample: Sample) -> Content:
    """What makes a message the same, whether or not it has its reasoning.

    Texts count the same in place and as references to attachments.
    """
    parts = [str(message.role), as_name(message.tool_call_id) or ""]
    content = None if message.content is UNSET else message.content
    if isinstance(content, str):
        if content:
            parts += ("text", sample.resolve(content).strip())
    else:
        for part in content if is_array(content) else [{"type": "text", "text": content}]:
            part = as_object(part)
            kind = as_text(part.get("type")) or ""
            if kind == "reasoning":
                continue
            value = part.get("text", part.get(kind))
            if isinstance(value, str):
                if value:
                    parts += (kind, sample.resolve(value).strip())
            elif value is not None:
                parts += (kind, as_json(value) or "")
    if message.tool_calls:
        parts += calls_of(message)
    error = message.error
    parts.append("" if error is None else as_text(as_object(error).get("message")) or "")
    return tuple(parts)


def calls_of(message: Message) -> list[str]:
    """The ids of the tool calls that a message makes."""
    ids = [as_text(call.id) for call in message.tool_calls or ()]
    return [call_id for call_id in ids if call_id]
