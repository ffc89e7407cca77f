"""Anthropic's Messages API: thinking in blocks of its own, each with a signature.

The signature carries the thinking, sealed. A block without one, with one that is not the server's,
or with other text than was given is refused, as the real API refuses it. Style ``hidden`` (or
``display: omitted`` in the request) leaves a block's text empty; the signature alone carries it.
Prompts are cached without being asked for. Thinking is given whether or not the request enables it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from api import Asked, Call, Refusal, opened, pieces, sealed, server_sent, text_of, whole_replies

PATH = "messages"
STYLES = ("thinking", "hidden")


def asked(body: dict[str, Any]) -> Asked:
    """The request in the agent's terms."""
    system = text_of(body.get("system"))
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for index, message in enumerate(body["messages"]):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            messages.append(_reply(blocks, f"messages.{index}.content"))
        else:
            messages += [_heard(message["role"], block) for block in blocks]
    return Asked(whole_replies(messages), [_tool(tool) for tool in body.get("tools") or []])


def _reply(blocks: list[dict[str, Any]], at: str) -> dict[str, Any]:
    thinking = [
        _thought(block, f"{at}.{number}")
        for number, block in enumerate(blocks)
        if block["type"] in ("thinking", "redacted_thinking")
    ]
    message: dict[str, Any] = {"role": "assistant", "content": text_of(blocks)}
    if thinking:
        message["reasoning_content"] = "\n".join(thinking)
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    return {**message, "tool_calls": calls} if calls else message


def _thought(block: dict[str, Any], at: str) -> str:
    """What a block that came back holds: what was sealed in its signature."""
    seal = block.get("data") if block["type"] == "redacted_thinking" else block.get("signature")
    if seal is None:
        raise Refusal(f"{at}.{block['type']}.signature: Field required")
    thinking = opened(seal)
    if thinking is None:
        raise Refusal(f"{at}: Invalid `signature` in `thinking` block")
    if block.get("thinking") not in (None, "", thinking):
        raise Refusal(f"{at}: `thinking` blocks in an earlier reply cannot be modified")
    return thinking


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _heard(role: str, block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "tool_result":
        text = text_of(block.get("content"))
        return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
    return {"role": role, "content": text_of([block])}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    names = {"name": tool["name"], "description": tool.get("description", "")}
    return {"type": "function", "function": {**names, "parameters": tool.get("input_schema")}}


def answer(call: Call) -> dict[str, Any]:
    """The response's body."""
    return {
        "id": f"msg_{call.mark[12:24]}",
        "type": "message",
        "role": "assistant",
        "model": call.body["model"],
        "content": _blocks(call),
        "stop_reason": "tool_use" if call.reply.tool else "end_turn",
        "stop_sequence": None,
        "usage": _usage(call),
    }


def _blocks(call: Call) -> list[dict[str, Any]]:
    reply = call.reply
    if (call.style or STYLES[0]) not in STYLES:
        raise Refusal(f"no style {call.style}", 404, "not_found_error")
    is_hidden = call.style == "hidden"
    is_hidden = is_hidden or (call.body.get("thinking") or {}).get("display") == "omitted"
    shown = "" if is_hidden else reply.thinking
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": shown, "signature": sealed(reply.thinking)},
        {"type": "text", "text": reply.text},
    ]
    if reply.tool:
        given = json.loads(reply.arguments)
        name = f"toolu_{call.mark[:12]}"
        blocks.append({"type": "tool_use", "id": name, "name": reply.tool, "input": given})
    return blocks


def _usage(call: Call) -> dict[str, Any]:
    used = call.usage
    return {
        "input_tokens": used.prompt - used.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached,
        "output_tokens": used.completion,
        "service_tier": "standard",
    }


def stream(call: Call) -> Iterator[str]:
    """The same as a stream of events."""
    whole = answer(call)
    begun = {**whole, "content": [], "stop_reason": None}
    begun["usage"] = {**whole["usage"], "output_tokens": 1}
    yield _event("message_start", message=begun)
    yield _event("ping")
    for index, block in enumerate(whole["content"]):
        empty, deltas = _unfolded(block)
        yield _event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=ended, usage=whole["usage"])
    yield _event("message_stop")


def _unfolded(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An empty block, and the deltas that fill it."""
    kind = block["type"]
    if kind == "text":
        texts = pieces(block["text"])
        return {**block, "text": ""}, [{"type": "text_delta", "text": text} for text in texts]
    if kind == "tool_use":
        texts = pieces(json.dumps(block["input"]))
        deltas = [{"type": "input_json_delta", "partial_json": text} for text in texts]
        return {**block, "input": {}}, deltas
    texts = pieces(block["thinking"])
    deltas = [{"type": "thinking_delta", "thinking": text} for text in texts]
    deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return {**block, "thinking": "", "signature": ""}, deltas


def _event(kind: str, **parts: Any) -> str:
    return server_sent({"type": kind, **parts}, kind)


def error(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal."""
    return {"type": "error", "error": {"type": refusal.kind, "message": refusal.text}}
