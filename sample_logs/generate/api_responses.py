"""OpenAI's Responses API: thinking in reasoning items, which the server keeps or seals.

A reasoning item shows a summary at most, and only if asked for: the first line. The thinking itself
is in ``encrypted_content`` if the request includes it, and is kept on the server with the whole
response unless ``store`` is false. It is back if its item comes back (sealed, or by an id that is
kept), or with ``previous_response_id``. An item that is neither kept nor sealed is refused. Style
``content`` gives the thinking as the item's text, as servers of open models do. ``conversation`` is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api import Asked, Call, Refusal, opened, pieces, sealed, server_sent, text_of, whole_replies

PATH = "responses"
STYLES = ("summary", "content")
_SEALED = "reasoning.encrypted_content"
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": "medium", "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}

Item = dict[str, Any]


class Store:
    """Responses that the server keeps for its clients."""

    def __init__(self) -> None:
        self.histories: dict[str, list[Item]] = {}
        """Response to all items up to its last one."""
        self.items: dict[str, Item] = {}
        self.thoughts: dict[str, str] = {}
        """Id of a reasoning item to the thinking."""

    def keep(self, call: Call, response: dict[str, Any]) -> None:
        """Keep a response, if it is to be kept."""
        if call.body.get("store") is False:
            return
        self.histories[response["id"]] = [*self.history(call.body), *response["output"]]
        for item in response["output"]:
            self.items[item["id"]] = item
            if item["type"] == "reasoning":
                self.thoughts[item["id"]] = call.reply.thinking

    def history(self, body: dict[str, Any]) -> list[Item]:
        """All items that the model is to see: those kept before the request, and its own."""
        if body.get("conversation"):
            raise Refusal("this server keeps responses, but no conversations")
        kept: list[Item] = []
        before = body.get("previous_response_id")
        if before:
            if before not in self.histories:
                raise Refusal(f"Previous response with id '{before}' not found.")
            kept = self.histories[before]
        given = body["input"]
        if isinstance(given, str):
            given = [{"type": "message", "role": "user", "content": given}]
        return [*kept, *(self._whole(item) for item in given)]

    def _whole(self, item: Item) -> Item:
        if item.get("type") != "item_reference":
            return item
        if item["id"] not in self.items:
            raise Refusal(f"Item with id '{item['id']}' not found.", 404)
        return self.items[item["id"]]

    def thought(self, item: Item) -> str:
        """The thinking behind a reasoning item that came back."""
        if item.get("encrypted_content") is not None:
            thinking = opened(item["encrypted_content"])
            if thinking is None:
                raise Refusal(f"The encrypted content of item '{item.get('id')}' is not valid.")
            return thinking
        if item.get("content"):
            return text_of(item["content"])
        if item.get("id") not in self.thoughts:
            raise Refusal(f"Item with id '{item.get('id')}' not found.", 404)
        return self.thoughts[item["id"]]


def asked(body: dict[str, Any], store: Store) -> Asked:
    """The request in the agent's terms."""
    system = body.get("instructions")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages += [_heard(item, store) for item in store.history(body)]
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function"]
    return Asked(whole_replies(messages), [_tool(tool) for tool in tools])


def _heard(item: Item, store: Store) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "reasoning":
        return {"role": "assistant", "content": "", "reasoning_content": store.thought(item)}
    if kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        text = text_of(item["output"])
        return {"role": "tool", "tool_call_id": item["call_id"], "content": text}
    if kind == "message":
        role = "system" if item["role"] == "developer" else item["role"]
        return {"role": role, "content": text_of(item["content"])}
    raise Refusal(f"this server knows no items of type {kind}")


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters")
    return {"type": "function", "function": {name: tool.get(name) for name in names}}


def answer(call: Call) -> dict[str, Any]:
    """The response's body."""
    echoed = {key: call.body.get(key, value) for key, value in _ECHOED.items()}
    return {
        "id": f"resp_{call.mark[:24]}",
        "object": "response",
        "created_at": call.created,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": call.body["model"],
        "output": _output(call),
        **echoed,
        "usage": _usage(call),
    }


def _output(call: Call) -> list[Item]:
    reply, mark = call.reply, call.mark
    text = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
    items: list[Item] = [
        _reasoning(call),
        {
            "id": f"msg_{mark[:24]}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text],
        },
    ]
    if reply.tool:
        made = {"call_id": f"call_{mark[:12]}", "name": reply.tool, "arguments": reply.arguments}
        head = {"id": f"fc_{mark[:24]}", "type": "function_call", "status": "completed"}
        items.append({**head, **made})
    return items


def _reasoning(call: Call) -> Item:
    thinking = call.reply.thinking
    item: Item = {"id": f"rs_{call.mark[:24]}", "type": "reasoning", "summary": []}
    if (call.style or STYLES[0]) not in STYLES:
        raise Refusal(f"no style {call.style}", 404, "not_found_error")
    if call.style == "content":
        item["content"] = [{"type": "reasoning_text", "text": thinking}]
    wanted = call.body.get("reasoning") or {}
    if wanted.get("summary") or wanted.get("generate_summary"):
        item["summary"] = [{"type": "summary_text", "text": thinking.partition("\n")[0]}]
    if _SEALED in (call.body.get("include") or []):
        item["encrypted_content"] = sealed(thinking)
    return item


def _usage(call: Call) -> dict[str, Any]:
    used = call.usage
    return {
        "input_tokens": used.prompt,
        "input_tokens_details": {"cached_tokens": used.cached},
        "output_tokens": used.completion,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.total,
    }


def stream(call: Call) -> Iterator[str]:
    """The same as a stream of numbered events."""
    for number, event in enumerate(_events(answer(call))):
        yield server_sent({**event, "sequence_number": number}, event["type"])


def _events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(whole["output"]):
        at = {"item_id": item["id"], "output_index": index}
        empty = {**item, **_EMPTY[item["type"]]}
        yield {"type": "response.output_item.added", "output_index": index, "item": empty}
        if item["type"] == "function_call":
            said = item["arguments"]
            yield from _deltas("function_call_arguments", said, {"arguments": said}, at)
        for number, part in enumerate(item.get("summary", [])):
            place = {**at, "summary_index": number}
            yield from _part("reasoning_summary_part", "reasoning_summary_text", part, place)
        for number, part in enumerate(item.get("content", [])):
            name = "output_text" if part["type"] == "output_text" else "reasoning_text"
            yield from _part("content_part", name, part, {**at, "content_index": number})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": whole}


_EMPTY: dict[str, Item] = {
    "reasoning": {"summary": []},
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
}


def _part(
    outer: str, inner: str, part: dict[str, Any], at: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    yield {"type": f"response.{outer}.added", **at, "part": {**part, "text": ""}}
    yield from _deltas(inner, part["text"], {"text": part["text"]}, at)
    yield {"type": f"response.{outer}.done", **at, "part": part}


def _deltas(
    name: str, text: str, done: dict[str, Any], at: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    rest = {"logprobs": []} if name == "output_text" else {}
    for piece in pieces(text):
        yield {"type": f"response.{name}.delta", **at, "delta": piece, **rest}
    yield {"type": f"response.{name}.done", **at, **done, **rest}


def error(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal."""
    told = {"message": refusal.text, "type": refusal.kind, "param": None, "code": None}
    return {"error": told}
