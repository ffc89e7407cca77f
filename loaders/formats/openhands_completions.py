"""Completion logs of OpenHands: one file for each model call, ``<model>-<seconds>.json``.

``messages`` and ``kwargs`` are the request as it was sent, so that these logs say what each call was
shown: evidence of the best grade. All files of a folder are read together, in the order of their
times, and the calls of one conversation become one run.

For models without tool calling OpenHands writes calls as ``<function=...>`` into the text, cut off
before its last tag by a stop word, and sends results as user messages. The log then holds the
converted response too; what stands here is what was sent and received, with the calls in it told as
calls and the results as results.
"""

from __future__ import annotations

import posixpath
import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.conversations import Recorded
from loaders.dialects.openai_chat import text_and_media, write_reply_parts
from loaders.dialects.text_tools import split_calls
from loaders.dialects.wire import WIRES, OpenAIChat, Part, Reply, Turn
from loaders.errors import UnreadableRecord
from loaders.exchanges import CallReader
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.transcripts import is_completion_log
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    place_of,
)

TITLE = "OpenHands completion logs"
GIVES = ("thinking", "sent", "tools", "tokens")
IGNORED = {
    "/raw_messages/**": "the history before calls were put into the text that was sent, which is kept",
    "/fncall_messages/**": "the history before calls were put into the text that was sent, which is kept",
    "/fncall_response/**": "the reply after calls were found in its text, which is kept",
    "/messages/*/content/*/type": "the types of parts other than text are kept as media",
    "/**/tool_calls/*/type": "every call is of a function",
    "/**/tool_calls/*/index": "the order of the calls tells it",
    "/**/tools/*/type": "every tool on offer is a function",
    "/tools/*/function/**": "the tools stand again in kwargs, as they were sent",
    "/response/choices/*/message/tool_calls/*/id": "made up where the reply has its calls in the text",
    "/response/choices/*/finish_reason": "the step has it; where there is a raw response, that one's",
    "/**/choices/*/message/role": "a reply is always the assistant's",
    "/**/choices/*/index": "the client goes on with one choice, and calls stand in order",
    "/*/created": "the record has a time of its own, to the microsecond",
    "/*/id": "the provider's number of the reply, which nothing refers to",
    "/*/object": "the name of the reply's type, always the same",
    "/*/system_fingerprint": "the provider's mark of its own software",
    "/raw_response/_response_ms": "the record has a latency of its own, which is kept",
    "/*/usage/total_tokens": "the sum of the two counts that are kept",
    "/*/usage/cache_creation_input_tokens": "input that the provider began to cache, part of the input",
    "/*/usage/cache_read_input_tokens": "cached tokens are kept under their other name",
    "/*/usage/prompt_cache_*_tokens": "cached tokens are kept under their other name",
}

_NAME = re.compile(r".+-(\d{10}(?:\.\d{1,9})?)\.json")
_RESULT = re.compile(r"EXECUTION RESULT of \[([^\]\n]{1,200})\]:\n?")
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_TOLD = (
    *("messages", "tools", "kwargs", "response", "raw_messages", "raw_response"),
    *("fncall_messages", "fncall_response", "cost", "timestamp", "latency_sec"),
)
_CONVERTED = ("fncall_messages", "fncall_response", "raw_response")


def sniff(head: Head) -> bool:
    """Messages first, and at the end when the call was made and how long it took."""
    return is_completion_log(head)


def bundle(source: Source) -> str:
    """The folder."""
    return PurePosixPath(source.name).parent.as_posix()


def read(source: Source, out: Builder) -> None:
    """One run per conversation."""
    times = {part.name: _time_of(part, out) for part in source.parts}
    readers: dict[bool, CallReader] = {}
    for part in sorted(source.parts, key=lambda part: (times[part.name], part.name)):
        prefix = "" if part is source else f"{_relative(part, source)}#"
        with out.record(prefix):
            record = as_object(part.json())
            if not is_array(record.get("messages")):
                raise UnreadableRecord("no request: it has no messages", prefix or None)
            in_text = _has_calls_in_text(record)
            if in_text not in readers:
                wire = _CallsInText() if in_text else WIRES["openai_chat"]
                readers[in_text] = CallReader(wire, out)
            readers[in_text].add(_call(record, prefix, in_text))
    for reader in readers.values():
        reader.tell()


def _time_of(part: Source, out: Builder) -> float:
    """When the call was answered: its file is named after that."""
    if named := _NAME.fullmatch(part.filename):
        return float(named[1])
    with out.record(part.filename):
        return as_float(as_object(part.json()).get("timestamp")) or 0.0
    return 0.0


def _relative(part: Source, source: Source) -> str:
    return posixpath.relpath(part.name, posixpath.dirname(source.name))


def _has_calls_in_text(record: Object) -> bool:
    stop = as_object(record.get("kwargs")).get("stop")
    stops = stop if is_array(stop) else [stop]
    return any(key in record for key in _CONVERTED) or "</function" in stops


def _call(record: Object, prefix: str, in_text: bool) -> Recorded:
    kwargs = as_object(record.get("kwargs"))
    request: Object = {
        "tools": record.get("tools"),
        **kwargs,
        "messages": as_array(record.get("messages")),
    }
    if in_text:
        request["messages"] = [_with_calls(as_object(m)) for m in request["messages"]]
        request["tools"] = kwargs.get("tools") or record.get("tools")
    key = "raw_response" if is_object(record.get("raw_response")) else "response"
    response = record.get(key)
    if in_text and is_object(response):
        choices = [_with_calls_in_choice(as_object(c)) for c in as_array(response.get("choices"))]
        converted = as_object(record.get("response"))
        response = {**response, "usage": converted.get("usage"), "choices": choices}
    ended_at, latency = as_time(record.get("timestamp")), as_float(record.get("latency_sec"))
    started_at = None
    if ended_at is not None and latency is not None and 0 <= latency < 1e6:
        started_at = ended_at - timedelta(seconds=latency)
    return Recorded(
        request,
        response,
        request_pos=prefix,
        response_pos=place_of(record, key, prefix),
        started_at=started_at,
        ended_at=ended_at,
        cost_usd=as_float(record.get("cost")) or None,
        extra={
            **{name: value for name, value in record.items() if name not in _TOLD},
            "strict_tools": _strict_tools(request),
        },
    )


def _strict_tools(request: Object) -> list[str | None] | None:
    """Tools whose arguments the provider was asked to hold to their definitions."""
    functions = [as_object(as_object(tool).get("function")) for tool in as_array(request["tools"])]
    names = [as_text(one.get("name")) for one in functions if one.get("strict")]
    return names or None


# ---------------------------------------------------------------------- calls in text


def _with_calls_in_choice(choice: Object) -> Object:
    return {**choice, "message": _with_calls(as_object(choice.get("message")))}


def _with_calls(message: Object) -> Object:
    """A message as one with tool calls would be, where its text says the same."""
    text, media = text_and_media(message.get("content"))
    if text is None or media:
        return message
    if message.get("role") == "assistant":
        last = text.rfind(_FUNCTION)
        if last >= 0 and _FUNCTION_END not in text[last:]:  # taken off by the stop word
            text = text.rstrip().removesuffix("</function").removesuffix("</") + _FUNCTION_END
        prose, calls = split_calls(text)
        told = [{"function": {"name": c.tool, "arguments": c.arguments}} for c in calls]
        return (
            {**message, "content": prose.strip() or None, "tool_calls": told} if told else message
        )
    result = _RESULT.match(text) if message.get("role") == "user" else None
    if result is None:
        return message
    return {**message, "role": "tool", "name": result[1], "content": text[result.end() :]}


class _CallsInText(OpenAIChat):
    """The chat API for models whose calls and results are text: without ids, linked by order."""

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        if turn.message.get("role") != "tool":
            super().write_turn(run, turn, pos)
            return
        text, tool = as_text(turn.message.get("content")), as_text(turn.message.get("name"))
        run.result(text, f"{pos}/content", tool=tool, by_order=True)

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        write_reply_parts(run, reply.message, pos)
        for call in map(as_object, as_array(reply.message.get("tool_calls"))):
            function = as_object(call.get("function"))
            arguments: Any = function.get("arguments")
            run.call(as_text(function.get("name")), arguments, f"{pos}/content")
