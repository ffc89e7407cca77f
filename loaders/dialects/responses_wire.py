"""Anatomy of a recorded call of OpenAI's Responses API.

A history is a flat list of items; those that the model emitted one after the other are one reply,
so two replies with nothing between them read as one. The API can hold history for its clients: a
request names an earlier response (or a conversation) and brings only what is new, or names single
items by id. What is named was sent back as surely as what is repeated. ``instructions`` are not held:
they are those of the request alone.
"""

from __future__ import annotations

from typing import Any

from loaders.dialects import responses
from loaders.dialects.openai_chat import text_and_media
from loaders.dialects.responses import is_output, is_response
from loaders.dialects.streams import Streamed, responses_response
from loaders.dialects.wire import Held, Part, Reply, Turn, canonical, key_of, rest_of
from loaders.run import Run
from loaders.values import Object, as_array, as_object, as_text, is_array

_TAKEN = (
    *("input", "instructions", "tools", "model", "stream", "previous_response_id"),
    *("conversation", "output", "usage", "id"),
)
_ECHOED = (
    *("instructions", "tools", "model", "previous_response_id", "conversation", "temperature"),
    *("top_p", "reasoning", "text", "tool_choice", "max_output_tokens", "truncation", "store"),
    "parallel_tool_calls",
)


class OpenAIResponses:
    """The Responses API, its compaction included."""

    name = responses.NAME
    shows_thinking = False
    continues_replies = False

    def held(self, response: Object) -> Held:
        conversation = response.get("conversation")
        names = (as_text(response.get("id")), _name_of(conversation))
        items = map(as_object, as_array(response.get("output")))
        by_id = {name: item for item in items if (name := as_text(item.get("id")))}
        return Held(tuple(filter(None, names)), by_id)

    def resumed(self, request: Object) -> str | None:
        return as_text(request.get("previous_response_id")) or _name_of(request.get("conversation"))

    def with_items(self, request: Object, items: dict[str, Object]) -> Object:
        given = request.get("input")
        if not is_array(given):
            return request
        whole = [items.get(_reference(as_object(item)) or "", item) for item in given]
        return {**request, "input": whole}

    def system(self, request: Object) -> list[Turn]:
        text = as_text(request.get("instructions"))
        return [Turn({"role": "system", "content": text}, "/instructions")] if text else []

    def turns(self, request: Object) -> list[Turn]:
        given = request.get("input")
        if isinstance(given, str):
            return [Turn({"role": "user", "content": given}, "/input")]
        turns: list[Turn] = []
        emitted: list[Object] = []
        items = [as_object(item) for item in as_array(given)]
        for index, item in enumerate(items):
            if is_output(item):
                emitted.append(item)
                continue
            if emitted:
                turns.append(_reply_turn(emitted, index - len(emitted)))
                emitted = []
            answers = tuple(filter(None, [as_text(item.get("call_id"))]))
            turns.append(Turn(item, f"/input/{index}", answers=answers))
        if emitted:
            turns.append(_reply_turn(emitted, len(items) - len(emitted)))
        return turns

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        return responses.tool_definitions(request.get("tools"))

    def params(self, request: Object) -> Object:
        return rest_of(request, _TAKEN)

    def streamed(self, stream: str | list[Any]) -> Streamed:
        return responses_response(stream)

    def replies(self, response: Object) -> list[Reply]:
        if not is_array(response.get("output")):
            return []
        details = as_object(response.get("incomplete_details"))
        columns = {
            "model": as_text(response.get("model")),
            "stop_reason": as_text(details.get("reason")) or as_text(response.get("status")),
            **responses.usage_columns(response.get("usage")),
        }
        items = [as_object(item) for item in response["output"]]
        first = next((index for index, item in enumerate(items) if is_output(item)), len(items))
        pointer = f"/output/{first}" if first < len(items) else "/output"
        return [Reply(_message_of(items[first:]), pointer, [Part(0, None, columns)])]

    def key(self, turn: Turn) -> str:
        message = turn.message
        items = as_array(message.get("items")) if turn.is_reply else [message]
        texts: list[str] = []
        calls: list[Any] = []
        shown: list[Any] = []
        for item in map(as_object, items):
            kind = as_text(item.get("type")) or "message"
            if kind == "message":
                texts.append(_text_of(item) or "")
                shown.append(text_and_media(item.get("content"))[1])
            elif kind.endswith("_output"):
                text, media = text_and_media(item.get("output"))
                texts.append(text or "")
                shown.append((kind, media and canonical(item.get("output"))))
            elif kind.endswith("_call"):
                calls.append((responses.name_of(item), canonical(responses.arguments_of(item))))
            elif kind != "reasoning":
                calls.append(kind)
        role = as_text(message.get("role")) or ""
        return key_of(self.name, role, "".join(texts), calls, [one for one in shown if one])

    def call_ids(self, message: Object) -> list[str]:
        items = map(as_object, as_array(message.get("items")))
        ids = (as_text(item.get("call_id", item.get("id"))) for item in items if not _is_said(item))
        return [name for name in ids if name]

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        thoughts: list[tuple[str | None, str | None]] = []
        for item in map(as_object, as_array(message.get("items"))):
            if item.get("type") == "reasoning":
                text, _, signature = responses.thought_of(item)
                thoughts.append((text or as_text(item.get("id")), signature))
        return thoughts

    def cut(self, turns: list[Turn]) -> int | None:
        for index in range(len(turns) - 1, -1, -1):
            items = map(as_object, as_array(turns[index].message.get("items")))
            if any((as_text(item.get("type")) or "").startswith("compaction") for item in items):
                return index
        return None

    def cleared_thinking(self, response: Object) -> int | None:
        return None

    def cleared_tools(self, response: Object) -> bool:
        return False

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        responses.write_item(run, turn.message, pos)

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        array, _, first = pos.rpartition("/")
        for index, item in enumerate(map(as_object, as_array(reply.message.get("items")))):
            responses.write_item(run, item, f"{array}/{int(first) + index}")


def echoed_request(response: Object) -> Object:
    """What a response repeats of its request, which is all but the input; empty if it is none."""
    if not is_response(response):
        return {}
    return {key: response[key] for key in _ECHOED if response.get(key) is not None}


def _name_of(conversation: Any) -> str | None:
    return as_text(conversation) or as_text(as_object(conversation).get("id"))


def _reference(item: Object) -> str | None:
    is_bare = item.get("type") in ("item_reference", None) and item.keys() <= {"type", "id"}
    return as_text(item.get("id")) if is_bare else None


def _is_said(item: Object) -> bool:
    return (as_text(item.get("type")) or "message") in ("message", "reasoning")


def _reply_turn(items: list[Object], first: int) -> Turn:
    return Turn(_message_of(items), f"/input/{first}", is_reply=True)


def _message_of(items: list[Object]) -> Object:
    """A reply as one message: what it says, and all its items."""
    texts = [_text_of(item) for item in items if item.get("role") == "assistant"]
    content = [{"type": "text", "text": text} for text in texts if text]
    return {"role": "assistant", "content": content, "items": items}


def _text_of(item: Object) -> str | None:
    """The text of a message, refusals included."""
    parts = [as_object(part) for part in as_array(item.get("content"))]
    refusals = [refusal for part in parts if (refusal := as_text(part.get("refusal")))]
    text, _ = text_and_media(item.get("content"))
    return "\n".join(filter(None, [text, *refusals])) or None
