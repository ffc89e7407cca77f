"""What the three APIs share: how each is asked in the agent's terms, and how it refuses.

Every API's request is brought into one shape, chat messages with the agent's earlier thinking in
``reasoning_content`` wherever that API has it; so the agent does not know which API it speaks.
Thinking counts as sent back only if it comes back as thinking. Sent as plain text it is text like
any other: the agent takes its notes from its thinking alone, so they are lost to it.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent import Reply
from counting import Usage

_SEAL = b"planner-sealed-1:"
_PIECE = 48


class Refusal(Exception):
    """The API refuses a request; status, type and text as the client is told."""

    def __init__(self, text: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(text)
        self.text, self.status, self.kind = text, status, kind


@dataclass
class Asked:
    """A request as the agent is asked."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    """In the form of the Chat Completions API."""


@dataclass
class Call:
    """All that an API's answer is written from."""

    body: dict[str, Any]
    """The request."""
    reply: Reply
    usage: Usage
    mark: str
    """Hexadecimal digits of which the answer's ids are made: different for each call."""
    created: int
    """Seconds since 1970."""
    style: str | None
    """How thinking is given, as the address of the run says; None: as usual for the API."""


def sealed(text: str) -> str:
    """Thinking that only the server can read: not secret, but no client knows the form."""
    return base64.b64encode(_SEAL + zlib.compress(text.encode())).decode()


def opened(seal: Any) -> str | None:
    """What was sealed; None if that is no seal of ours."""
    try:
        data = base64.b64decode(seal, validate=True)
        if not data.startswith(_SEAL):
            return None
        return zlib.decompress(data[len(_SEAL) :]).decode()
    except (binascii.Error, zlib.error, ValueError, TypeError):
        return None


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its parts are called."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part if isinstance(part, str) else part.get("text") for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str))


def whole_replies(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with the parts of one reply put together, where a client sent them one by one."""
    whole: list[dict[str, Any]] = []
    for message in messages:
        last = whole[-1] if whole else {}
        if message["role"] == last.get("role") == "assistant" and not _begins(message, last):
            whole[-1] = _joined(last, message)
        else:
            whole.append(message)
    return whole


def _begins(message: dict[str, Any], last: dict[str, Any]) -> bool:
    """Thinking begins a reply, and what follows a call is the next one, other calls apart."""
    if message.get("reasoning_content"):
        return bool(last.get("reasoning_content") or last.get("content") or last.get("tool_calls"))
    return bool(last.get("tool_calls")) and not message.get("tool_calls")


def _joined(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    texts = [text for text in (one.get("content"), two.get("content")) if text]
    joined = {**two, **one, "content": "\n".join(texts)}
    calls = [*(one.get("tool_calls") or []), *(two.get("tool_calls") or [])]
    return {**joined, "tool_calls": calls} if calls else joined


def pieces(text: str) -> Iterator[str]:
    """The text in the pieces in which it is streamed."""
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


def server_sent(data: Any, event: str | None = None) -> str:
    """One event of a stream."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
