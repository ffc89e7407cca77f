"""OpenAI's Chat Completions API, and the ways in which others give thinking through it.

Styles: ``reasoning_content`` (DeepSeek and others; the default), ``reasoning`` with
``reasoning_details`` (OpenRouter), ``think_tags`` (inline, as local models write it). Thinking is
taken back in any of these forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from api import Asked, Call, Refusal, pieces, server_sent, text_of, whole_replies
from counting import message_of
from text_calls import with_calls

PATH = "chat/completions"
STYLES = ("reasoning_content", "reasoning", "think_tags")
_TAGGED = re.compile(r"<think>(.*?)</think>\s*", re.DOTALL)


def asked(body: dict[str, Any]) -> Asked:
    """The request in the agent's terms."""
    messages = with_calls(_heard(message) for message in body["messages"])
    return Asked(whole_replies(messages), body.get("tools") or [])


def _heard(message: dict[str, Any]) -> dict[str, Any]:
    role = message["role"]
    if role != "assistant":
        role = "system" if role == "developer" else role
        return {**message, "role": role, "content": text_of(message.get("content"))}
    text = text_of(message.get("content"))
    thinking = _thinking_in(message) or "".join(_TAGGED.findall(text))
    heard: dict[str, Any] = {"role": role, "content": _TAGGED.sub("", text)}
    if thinking:
        heard["reasoning_content"] = thinking
    if message.get("tool_calls"):
        heard["tool_calls"] = message["tool_calls"]
    return heard


def _thinking_in(message: dict[str, Any]) -> str | None:
    for key in ("reasoning_content", "reasoning"):
        if isinstance(message.get(key), str) and message[key].strip():
            return message[key]
    details = [part.get("text") or "" for part in message.get("reasoning_details") or []]
    content = message.get("content")
    details += [
        text_of(part.get("thinking") or part.get("reasoning"))
        for part in (content if isinstance(content, list) else [])
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")
    ]
    return "".join(details).strip() or None


def answer(call: Call) -> dict[str, Any]:
    """The response's body."""
    message = _said(call)
    choice = {"index": 0, "message": message, "finish_reason": _finish(call), "logprobs": None}
    return {
        "id": f"chatcmpl-{call.mark[12:24]}",
        "object": "chat.completion",
        "created": call.created,
        "model": call.body["model"],
        "choices": [choice],
        "usage": _usage(call),
    }


def _said(call: Call) -> dict[str, Any]:
    message = message_of(call.reply, f"call_{call.mark[:12]}")
    thinking = message.pop("reasoning_content")
    style = call.style or STYLES[0]
    if style == "think_tags":
        return {**message, "content": f"<think>\n{thinking}\n</think>\n\n{message['content']}"}
    if style == "reasoning":
        details = {"type": "reasoning.text", "text": thinking, "format": "unknown", "index": 0}
        return {**message, "reasoning": thinking, "reasoning_details": [details]}
    if style == "reasoning_content":
        return {**message, "reasoning_content": thinking}
    raise Refusal(f"no style {style}", 404, "not_found_error")


def _finish(call: Call) -> str:
    return "tool_calls" if call.reply.tool else "stop"


def _usage(call: Call) -> dict[str, Any]:
    used = call.usage
    return {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.total,
        "prompt_tokens_details": {"cached_tokens": used.cached},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def stream(call: Call) -> Iterator[str]:
    """The same as a stream: thinking, text, the call, the finish, and the usage if asked for."""
    whole = answer(call)
    head = {key: whole[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    counts = (call.body.get("stream_options") or {}).get("include_usage")
    rest = {"usage": None} if counts else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return server_sent({**head, "choices": [choice], **rest})

    message = whole["choices"][0]["message"]
    yield chunk({"role": "assistant", "content": ""})
    if "reasoning_content" in message:
        yield from (chunk({"reasoning_content": p}) for p in pieces(message["reasoning_content"]))
    for detail in message.get("reasoning_details", []):
        for piece in pieces(detail["text"]):
            yield chunk({"reasoning": piece, "reasoning_details": [{**detail, "text": piece}]})
    yield from (chunk({"content": piece}) for piece in pieces(message["content"]))
    for index, made in enumerate(message.get("tool_calls", [])):
        function = {"name": made["function"]["name"], "arguments": ""}
        yield chunk({"tool_calls": [{**made, "index": index, "function": function}]})
        for piece in pieces(made["function"]["arguments"]):
            more = {"index": index, "function": {"arguments": piece}}
            yield chunk({"tool_calls": [more]})
    yield chunk({}, _finish(call))
    if counts:
        yield server_sent({**head, "choices": [], "usage": whole["usage"]})
    yield server_sent("[DONE]")


def error(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal."""
    told = {"message": refusal.text, "type": refusal.kind, "param": None, "code": None}
    return {"error": told}
