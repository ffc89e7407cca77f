"""Tokens: a plain count, and what a request and its reply use of them.

All APIs count the same chat messages, so that usage adds up whatever API a run speaks: what a reply
counts as completion it counts again as prompt of the next request, if it is sent back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from agent import Reply, thinking_of

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")
_TOKENS_AROUND_A_MESSAGE = 3


@dataclass(frozen=True)
class Usage:
    """Of one call. ``cached`` is a part of ``prompt``, ``reasoning`` a part of ``completion``."""

    prompt: int
    cached: int
    completion: int
    reasoning: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


Sized = tuple[str, int]
"""A part of a request and its tokens."""


def parts_of(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> list[Sized]:
    """The request in the order in which a cache of prefixes sees it: tools, then messages."""
    offer = json.dumps(list(tools))
    parts = [(offer, count(offer))] if tools else []
    return parts + [(json.dumps(message), tokens_of(message)) for message in messages]


def usage_of(parts: Sequence[Sized], previous: Sequence[Sized], reply: Reply) -> Usage:
    """What the call uses. Cached is what the run's previous request began with as well."""
    both = takewhile(lambda pair: pair[0] == pair[1], zip(parts, previous, strict=False))
    return Usage(
        prompt=sum(tokens for _, tokens in parts),
        cached=sum(part[1] for part, _ in both),
        completion=tokens_of(message_of(reply, "")),
        reasoning=count(reply.thinking),
    )


def message_of(reply: Reply, call_id: str) -> dict[str, Any]:
    """The reply as a chat message."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    message["reasoning_content"] = reply.thinking
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.arguments}
        message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
    return message


def tokens_of(message: dict[str, Any]) -> int:
    """A message's tokens, its thinking included."""
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content or "")
    functions = [call["function"] for call in message.get("tool_calls") or []]
    return (
        _TOKENS_AROUND_A_MESSAGE
        + count(text)
        + count(thinking_of(message) or "")
        + sum(count(f["name"]) + count(f["arguments"]) for f in functions)
    )


def count(text: str) -> int:
    """A plain tokenizer's count: up to six letters or digits, or one sign, a token."""
    return len(_TOKEN.findall(text))
