"""Anatomy of a recorded model call: where each provider's API puts history, reply, tools and usage.

A history is cut into turns, the smallest parts that clients keep, drop or move as a whole: a
message of OpenAI's, an assistant's message or a user's content block of Anthropic's. Two writings
of one turn have the same ``key``: it leaves out thinking, ids, cache marks and white space, all of
which clients change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from loaders.dialects import anthropic, openai_chat
from loaders.dialects.streams import Streamed, anthropic_response, openai_response
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_name,
    as_object,
    as_text,
    fingerprint,
    is_array,
    is_object,
    total,
)


class Turn(NamedTuple):
    """A part of a history.

    ``pointer`` leads to it inside the request, ``answers`` names the calls that it has results of.
    """

    message: Object
    pointer: str
    is_reply: bool = False
    answers: tuple[str, ...] = ()


class Part(NamedTuple):
    """One model call of those behind a reply: the blocks it emitted (None: all), and its usage."""

    start: int
    stop: int | None
    columns: dict[str, Any]
    is_compacted: bool = False


class Reply(NamedTuple):
    """What a response answers with: a message, its place in the response, the calls behind it."""

    message: Object
    pointer: str
    parts: list[Part]


class Held(NamedTuple):
    """What an API holds of a call: names of the history up to its reply, and output items by id."""

    names: tuple[str, ...] = ()
    items: dict[str, Object] = {}  # noqa: RUF012 - read only


class Wire(Protocol):
    """How one API writes a request and its response. ``name`` is that of the dialect."""

    name: str
    shows_thinking: bool
    """Whether a response with no thinking in it proves that there was none."""

    continues_replies: bool
    """Whether a reply at the end of a request is one that the model is to go on with."""

    def held(self, response: Object) -> Held:
        """What the API holds of this call, for requests that name it instead of repeating it."""
        ...

    def resumed(self, request: Object) -> str | None:
        """The name of the held history that a request goes on from; None where it repeats all."""
        ...

    def with_items(self, request: Object, items: dict[str, Object]) -> Object:
        """The request with the held items themselves where it only names them."""
        ...

    def system(self, request: Object) -> list[Turn]:
        """The system prompt, which stands before the history."""
        ...

    def turns(self, request: Object) -> list[Turn]:
        """The history, oldest first."""
        ...

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        """Definitions of the tools on offer."""
        ...

    def params(self, request: Object) -> Object:
        """Everything else that the request asks for."""
        ...

    def streamed(self, stream: str | list[Any]) -> Streamed:
        """The response that a stream of events spells, or a list of them."""
        ...

    def replies(self, response: Object) -> list[Reply]:
        """What the response answers with, more than once where the request asks for several."""
        ...

    def key(self, turn: Turn) -> str:
        """A name for what the turn says."""
        ...

    def call_ids(self, message: Object) -> list[str]:
        """Ids of the tool calls in a reply."""
        ...

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        """Text and signature of each thinking block of a reply, in the order of ``write_reply``."""
        ...

    def cut(self, turns: list[Turn]) -> int | None:
        """The turn with which the API itself replaced all earlier ones; None where there is none."""
        ...

    def cleared_thinking(self, response: Object) -> int | None:
        """From how many of the earliest replies the API itself took the thinking; None: from none."""
        ...

    def cleared_tools(self, response: Object) -> bool:
        """Whether the API itself left out earlier tool results."""
        ...

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        """Tell a turn that is no reply."""
        ...

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        """Tell what one call emitted, as part of the step already begun."""
        ...


class HoldsNothing:
    """An API that forgets each call: every request repeats its whole history."""

    def held(self, response: Object) -> Held:
        return Held()

    def resumed(self, request: Object) -> str | None:
        return None

    def with_items(self, request: Object, items: dict[str, Object]) -> Object:
        return request


class OpenAIChat(HoldsNothing):
    """OpenAI's chat completions, as all the servers that imitate them speak it."""

    name = "openai_chat"
    shows_thinking = False
    continues_replies = True

    def system(self, request: Object) -> list[Turn]:
        turns: list[Turn] = []
        for index, message in enumerate(map(as_object, as_array(request.get("messages")))):
            if message.get("role") not in ("system", "developer"):
                break
            turns.append(Turn(message, f"/messages/{index}"))
        return turns

    def turns(self, request: Object) -> list[Turn]:
        return [
            Turn(
                message,
                f"/messages/{index}",
                message.get("role") == "assistant",
                tuple(filter(None, [as_name(message.get("tool_call_id"))])),
            )
            for index, message in enumerate(map(as_object, as_array(request.get("messages"))))
        ][len(self.system(request)) :]

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        return openai_chat.tool_definitions(request.get("tools") or request.get("functions"))

    def params(self, request: Object) -> Object:
        return rest_of(request, ("messages", "tools", "functions", "model", "stream"))

    def streamed(self, stream: str | list[Any]) -> Streamed:
        return openai_response(stream)

    def replies(self, response: Object) -> list[Reply]:
        replies: list[Reply] = []
        usage = openai_chat.usage_columns(response.get("usage"))
        for index, choice in enumerate(map(as_object, as_array(response.get("choices")))):
            columns = {
                "model": as_text(response.get("model")),
                "stop_reason": as_text(choice.get("finish_reason")),
                **(usage if index == 0 else {}),
            }
            message = choice.get("message")
            if is_object(message):
                pointer = f"/choices/{index}/message"
                replies.append(Reply(message, pointer, [Part(0, None, columns)]))
        return replies

    def key(self, turn: Turn) -> str:
        message = turn.message
        text, media = openai_chat.text_and_media(message.get("content"))
        if turn.is_reply:
            pieces = openai_chat.split_think_tags(text or "")
            text = "".join(piece for is_thinking, piece in pieces if not is_thinking)
        calls = [
            (as_text(function.get("name")), canonical(function.get("arguments")))
            for function in self._functions(message)
        ]
        role = as_text(message.get("role")) or ""
        shown = media_of(message.get("content")) if media else None
        return key_of(self.name, role, text, calls, shown)

    def _functions(self, message: Object) -> Iterator[Object]:
        for call in map(as_object, as_array(message.get("tool_calls"))):
            yield as_object(call.get("function")) or as_object(call.get("custom"))
        if is_object(message.get("function_call")):
            yield message["function_call"]

    def call_ids(self, message: Object) -> list[str]:
        calls = map(as_object, as_array(message.get("tool_calls")))
        return [name for call in calls if (name := as_name(call.get("id")))]

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        thoughts = openai_chat.all_thoughts_of(message)
        return [(thought.text, thought.signature) for thought in thoughts]

    def cut(self, turns: list[Turn]) -> int | None:
        return None

    def cleared_thinking(self, response: Object) -> int | None:
        return None

    def cleared_tools(self, response: Object) -> bool:
        return False

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        openai_chat.write_message(run, turn.message, pos)

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        openai_chat.write_reply_parts(run, reply.message, pos)
        openai_chat.write_calls(run, reply.message, pos)


class AnthropicMessages(HoldsNothing):
    """Anthropic's Messages API, at its own address or a cloud's."""

    name = "anthropic_messages"
    shows_thinking = True
    continues_replies = True

    def system(self, request: Object) -> list[Turn]:
        text = anthropic.system_text(request.get("system"))
        return [Turn({"role": "system", "content": text}, "/system")] if text else []

    def turns(self, request: Object) -> list[Turn]:
        turns: list[Turn] = []
        for index, message in enumerate(map(as_object, as_array(request.get("messages")))):
            pointer = f"/messages/{index}"
            if message.get("role") == "assistant":
                turns.append(Turn(message, pointer, is_reply=True))
                continue
            content = message.get("content")
            if not is_array(content):
                turns.append(Turn(message, pointer))
                continue
            for number, block in enumerate(content):
                answers = tuple(filter(None, [as_text(as_object(block).get("tool_use_id"))]))
                part = {**message, "content": [block]}
                turns.append(Turn(part, f"{pointer}/content/{number}", answers=answers))
        return turns

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        return anthropic.tool_definitions(request.get("tools"))

    def params(self, request: Object) -> Object:
        return rest_of(request, ("messages", "tools", "system", "model", "stream"))

    def streamed(self, stream: str | list[Any]) -> Streamed:
        return anthropic_response(stream)

    def replies(self, response: Object) -> list[Reply]:
        if not is_array(response.get("content")):
            return []
        return [Reply(response, "", self._parts(response))]

    def _parts(self, response: Object) -> list[Part]:
        """A reply that starts with its compaction comes from two calls, each with its own usage."""
        columns = anthropic.step_columns(response)
        blocks = [as_object(block) for block in as_array(response.get("content"))]
        iterations = as_array(as_object(response.get("usage")).get("iterations"))
        kinds = [as_object(iteration).get("type") for iteration in iterations]
        is_split = kinds == ["compaction", "message"] and len(blocks) > 1
        if is_split and blocks[0].get("type") == "compaction":
            first, second = (anthropic.usage_columns(iteration) for iteration in iterations)
            return [
                Part(0, 1, {**columns, **first, "stop_reason": None}),
                Part(1, None, {**columns, **second}, is_compacted=True),
            ]
        if "compaction" in kinds:  # the total leaves out what compaction took
            each = [anthropic.usage_columns(iteration) for iteration in iterations]
            columns.update({name: total(*(usage[name] for usage in each)) for name in each[0]})
        return [Part(0, None, columns)]

    def key(self, turn: Turn) -> str:
        message = turn.message
        texts: list[str] = []
        calls: list[Any] = []
        shown: list[Any] = []
        for block in anthropic.blocks_of(message):
            block = {"type": "text", "text": block} if isinstance(block, str) else as_object(block)
            kind = as_text(block.get("type")) or ""
            if kind in ("text", "compaction"):
                texts.append(as_text(block.get("text")) or as_text(block.get("content")) or "")
            elif kind in anthropic.CALLS:
                calls.append((as_text(block.get("name")), canonical(block.get("input"))))
            elif kind.endswith("tool_result"):
                text, media = anthropic.result_text(block.get("content"))
                texts.append(text or "")
                calls.append(kind)
                shown.append(media_of(block.get("content")) if media else None)
            elif kind not in ("thinking", "redacted_thinking"):
                shown.append(media_of([block]))
        role = as_text(message.get("role")) or ""
        return key_of(self.name, role, "".join(texts), calls, shown)

    def call_ids(self, message: Object) -> list[str]:
        blocks = map(as_object, anthropic.blocks_of(message))
        ids = (as_text(block.get("id")) for block in blocks if block.get("type") in anthropic.CALLS)
        return [name for name in ids if name]

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        thoughts: list[tuple[str | None, str | None]] = []
        for block in map(as_object, anthropic.blocks_of(message)):
            if block.get("type") == "thinking":
                text = as_text(block.get("thinking")) or None
                thoughts.append((text, as_text(block.get("signature"))))
            elif block.get("type") == "redacted_thinking":
                thoughts.append((None, as_text(block.get("data"))))
        return thoughts

    def cut(self, turns: list[Turn]) -> int | None:
        for index in range(len(turns) - 1, -1, -1):
            if turns[index].is_reply and any(
                as_object(block).get("type") == "compaction"
                for block in anthropic.blocks_of(turns[index].message)
            ):
                return index
        return None

    def cleared_thinking(self, response: Object) -> int | None:
        counts = [
            as_int(edit.get("cleared_thinking_turns"))
            for edit in _applied_edits(response)
            if (as_text(edit.get("type")) or "").startswith("clear_thinking")
        ]
        return total(*counts)

    def cleared_tools(self, response: Object) -> bool:
        return any(as_int(edit.get("cleared_tool_uses")) for edit in _applied_edits(response))

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        message, role = turn.message, as_text(turn.message.get("role")) or "unknown"
        content = message.get("content")
        if turn.pointer == "/system":
            run.system(content, pos)
        elif is_array(content) and "/content/" in turn.pointer:
            anthropic.write_block(run, content[0], pos, role=role)
        else:
            anthropic.write_blocks(run, message, pos, role=role)

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        anthropic.write_blocks(
            run, reply.message, pos, role="assistant", start=part.start, stop=part.stop
        )


WIRES: dict[str, Wire] = {"openai_chat": OpenAIChat(), "anthropic_messages": AnthropicMessages()}
"""The APIs whose recorded calls can be read, by the name of their dialect."""


def cost_of(response: Object) -> float | None:
    """What the response says that it cost, in dollars; OpenRouter does."""
    return as_float(as_object(response.get("usage")).get("cost"))


def _applied_edits(response: Object) -> list[Object]:
    management = as_object(response.get("context_management"))
    return [as_object(edit) for edit in as_array(management.get("applied_edits"))]


def rest_of(request: Object, taken: tuple[str, ...]) -> Object:
    """What a request has beside the keys that are ``taken``."""
    return {key: value for key, value in request.items() if key not in taken and value is not None}


def canonical(arguments: Any) -> Any:
    """Arguments as a value, whether written as JSON text or not."""
    if isinstance(arguments, str):
        try:
            return decode(arguments.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return squeezed(arguments)
    return arguments


def media_of(content: Any) -> list[Any]:
    """Parts that are no text, without the marks that clients move about."""
    parts = [as_object(part) for part in as_array(content)]
    return [
        {key: value for key, value in part.items() if key != "cache_control"}
        for part in parts
        if part.get("type") not in ("text", "thinking", "redacted_thinking")
    ]


def squeezed(text: str | None) -> str:
    """A text without its white space."""
    return "".join((text or "").split())


def key_of(name: str, role: str, text: str | None, calls: list[Any], shown: Any) -> str:
    """A name for what a turn says: its text without white space, its calls, its other parts."""
    rest = msgspec.json.encode([calls, shown], order="deterministic") if calls or shown else b""
    return fingerprint(name, role, squeezed(text), rest)
