"""Calls and responses that a framework writes out as text, brought back into the messages' own places.

smolagents sends a call as text of the assistant's, a Python list after ``Calling tools:``, and its
response as a user's ``Observation:`` or, if the tool raised, ``Call id: ...`` and the error.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

_CALLS = re.compile(r"(.*?)\s*Calling tools:\n(\[.*\])\s*", re.DOTALL)
_RESPONSE = re.compile(r"(?:Observation:\n|Call id: \S+\n)", re.DOTALL)


def with_calls(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with calls that stand in text as calls, and with their responses."""
    told: list[dict[str, Any]] = []
    waiting: str | None = None
    for message in messages:
        calls = _CALLS.fullmatch(message["content"]) if message["role"] == "assistant" else None
        response = _RESPONSE.match(message["content"]) if message["role"] == "user" else None
        if calls is not None:
            made = [_call(call) for call in ast.literal_eval(calls[2])]
            waiting = made[0]["id"]
            told.append({**message, "content": calls[1], "tool_calls": made})
        elif response is not None and waiting is not None:
            text = message["content"][response.end() :]
            told.append({"role": "tool", "tool_call_id": waiting, "content": text})
            waiting = None
        else:
            told.append(message)
    return told


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    given = function["arguments"]
    arguments = given if isinstance(given, str) else json.dumps(given)
    return {**call, "function": {"name": function["name"], "arguments": arguments}}
