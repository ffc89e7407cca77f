"""OpenAI chat messages, as dozens of frameworks and servers write them down.

Thinking stands in many places: ``reasoning_content`` (DeepSeek, Z.ai, Qwen, Kimi, vLLM),
``reasoning`` with ``reasoning_details`` (OpenRouter, MiniMax), ``reasoning`` (Cerebras, newer
vLLM), content parts of type ``thinking`` (Mistral), ``<think>`` tags inside the reply (MiniMax and
many local templates, whose opening tag may be missing), ``thinking_blocks`` (LiteLLM).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
    place_of,
)

_TAG = re.compile(r"<(/?)(think|thinking|reasoning)>")


class Thought(NamedTuple):
    """A thinking block of a message, before it becomes an event."""

    text: str | None
    state: str
    signature: str | None
    pointer: str


def write_message(
    run: Run, message: Object, pos: str, *, at: datetime | None = None, **result: Any
) -> None:
    """Tell one message of any role to ``run``; an assistant's message is a model call of its own.

    ``at`` when it was logged; ``result`` what the log says beyond the dialect of a tool's response
    (``is_error``, ...).
    """
    role = message.get("role")
    name = as_text(message.get("name"))
    if role in ("assistant", "ai", "model"):
        write_reply(run, message, pos, at=at)
    elif role in ("system", "developer"):
        text, media = text_and_media(message.get("content"))
        run.system(text, place_of(message, "content", pos), actor=name, media=media, at=at)
    elif role in ("user", "human"):
        text, media = text_and_media(message.get("content"))
        run.user(text, place_of(message, "content", pos), actor=name, media=media, at=at)
    elif role in ("tool", "function"):
        text, media = text_and_media(message.get("content"))
        call_id = as_name(message.get("tool_call_id"))
        run.result(
            text,
            place_of(message, "content", pos),
            call_id=call_id,
            tool=name,
            by_order=call_id is None,
            media=media,
            at=at,
            **result,
        )
    else:
        text, media = text_and_media(message.get("content"))
        run.event("other", text, pos, actor=as_text(role), media=media, at=at)


def write_reply(
    run: Run, message: Object, pos: str, *, at: datetime | None = None, **step: Any
) -> None:
    """Tell an assistant's message as one model call: thinking, then text, then tool calls."""
    run.step(source_pos=pos, **step)
    write_reply_parts(run, message, pos, at=at)
    write_calls(run, message, pos, at=at)


def write_reply_parts(run: Run, message: Object, pos: str, *, at: datetime | None = None) -> None:
    """Tell the thinking and text of an assistant's message, as part of the call already begun."""
    thoughts = list(thoughts_of(message))
    for text, state, signature, pointer in thoughts:
        run.thinking(text, pos + pointer, state=state, signature=signature, at=at)
    text, media = text_and_media(message.get("content"))
    if text or media:
        told = "".join(thought.text or "" for thought in thoughts)
        write_text(run, text or "", f"{pos}/content", told, media=media, at=at)
    refusal = as_text(message.get("refusal"))
    if refusal:
        run.message(refusal, f"{pos}/refusal", error_type="refusal", at=at)


def write_text(
    run: Run,
    text: str,
    pos: str,
    thoughts: str,
    *,
    media: list[str] | None = None,
    at: datetime | None = None,
) -> None:
    """Tell the content of an assistant's message, part of which may stand in think tags.

    ``thoughts``: the text of the thinking that was told before; tagged thinking may repeat it.
    """
    if not has_think_tag(text):  # nearly always
        if text and not text.isspace():
            run.message(text, pos, media=media, at=at)
            media = None
    else:
        known = squeezed(thoughts)
        for is_thinking, piece in split_think_tags(text):
            if not is_thinking:
                run.message(piece, pos, media=media, at=at)
                media = None
            elif squeezed(piece) not in known:
                run.thinking(piece, pos, state="tagged_in_text", at=at)
    if media:
        run.message(None, pos, media=media, at=at)


def all_thoughts_of(message: Object) -> list[Thought]:
    """The thinking blocks of a message in the order in which they are told, tagged ones included."""
    thoughts = list(thoughts_of(message))
    known = squeezed("".join(thought.text or "" for thought in thoughts))
    text, _ = text_and_media(message.get("content"))
    tagged = (piece for is_thinking, piece in split_think_tags(text or "") if is_thinking)
    return [
        *thoughts,
        *(
            Thought(piece, "tagged_in_text", None, "/content")
            for piece in tagged
            if squeezed(piece) not in known
        ),
    ]


def write_calls(run: Run, message: Object, pos: str, *, at: datetime | None = None) -> None:
    """Tell a message's tool calls, the deprecated single ``function_call`` included."""
    for index, call in enumerate(as_array(message.get("tool_calls"))):
        if not is_object(call):
            run.problem(f"{pos}/tool_calls/{index}", "no tool call")
            continue
        function = as_object(call.get("function")) or as_object(call.get("custom"))
        run.call(
            as_text(function.get("name")),
            function.get("arguments", function.get("input")),
            f"{pos}/tool_calls/{index}",
            call_id=as_name(call.get("id")),
            at=at,
        )
    if legacy := as_object(message.get("function_call")):
        name = as_text(legacy.get("name"))
        run.call(name, legacy.get("arguments"), f"{pos}/function_call", at=at)


def thoughts_of(message: Object) -> Iterator[Thought]:
    """The thinking blocks of a message, wherever its writer puts them, each once.

    >>> [t.text for t in thoughts_of({"reasoning": "a", "reasoning_details":
    ...     [{"type": "reasoning.text", "text": "a", "signature": "s"}]})]
    ['a']
    """
    seen = ""
    for key in ("reasoning_details", "thinking_blocks", "content"):
        if is_array(message.get(key)):
            is_details = key == "reasoning_details"
            blocks = _detail_thoughts(message) if is_details else _block_thoughts(message, key)
            for block in blocks:
                seen += block.text or ""
                yield block
    for key in ("reasoning_content", "reasoning"):
        text = as_text(message.get(key))
        if text and (not seen or squeezed(text) not in squeezed(seen)):
            yield Thought(text, "text", None, f"/{key}")
            seen += text


def squeezed(text: str) -> str:
    """A text without its blanks, which writers change when they repeat it."""
    return "".join(text.split())


def _detail_thoughts(message: Object) -> Iterator[Thought]:
    """OpenRouter's details: one block may stand in two, its words and what encrypts it."""
    shown: Thought | None = None
    shown_of: Any = None
    for index, detail in enumerate(as_array(message.get("reasoning_details"))):
        detail = as_object(detail)
        pointer = f"/reasoning_details/{index}"
        thought = _detail_thought(detail, pointer)
        if thought is None:
            continue
        block = detail.get("id"), detail.get("index")
        if (
            shown is not None
            and (thought.text, shown.signature) == (None, None)
            and block == shown_of != (None, None)
        ):
            yield shown._replace(signature=thought.signature)
            shown = None
            continue
        if shown is not None:
            yield shown
        shown, shown_of = thought, block
    if shown is not None:
        yield shown


def _detail_thought(detail: Object, pointer: str) -> Thought | None:
    signature = as_text(detail.get("signature")) or None
    if text := as_text(detail.get("text")):
        return Thought(text, "text", signature, pointer)
    if summary := as_text(detail.get("summary")):
        return Thought(summary, "summary", signature, pointer)
    if data := as_text(detail.get("data")) or signature:
        return Thought(None, "hidden", data, pointer)
    return None


def _block_thoughts(message: Object, key: str) -> Iterator[Thought]:
    for index, block in enumerate(as_array(message.get(key))):
        block = as_object(block)
        pointer = f"/{key}/{index}"
        kind = block.get("type")
        if kind == "thinking":
            thinking = block.get("thinking")
            text = thinking if isinstance(thinking, str) else text_and_media(thinking)[0]
            signature = as_text(block.get("signature"))
            if text or signature:
                yield Thought(text or None, "text" if text else "hidden", signature, pointer)
        elif kind == "redacted_thinking":
            yield Thought(None, "redacted", as_text(block.get("data")), pointer)


def has_think_tag(text: str) -> bool:
    """Whether a text may hold a think tag: a plain search, which spares most texts the pattern."""
    return "think>" in text or "thinking>" in text or "reasoning>" in text


def split_think_tags(text: str) -> Iterator[tuple[bool, str]]:
    """Pieces of a reply, each with whether it stands in think tags; blank ones are left out.

    The opening tag may be missing (templates put it into the prompt) and so may the closing one
    (a reply cut short).

    >>> list(split_think_tags("plan</think>answer"))
    [(True, 'plan'), (False, 'answer')]
    """
    if not text:
        return
    first = _TAG.search(text) if has_think_tag(text) else None
    if first is None:
        if not text.isspace():
            yield False, text
        return
    thinking = first[1] == "/"
    start = 0
    for tag in _TAG.finditer(text):
        closing = tag[1] == "/"
        if closing != thinking:
            continue  # a tag inside thinking that does not end it, or a stray closing one
        if text[start : tag.start()].strip():
            yield thinking, text[start : tag.start()]
        thinking, start = not closing, tag.end()
    if text[start:].strip():
        yield thinking, text[start:]


def text_and_media(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of a message's content, and the types of its other parts.

    ``None`` stays None: a message without content is not one with empty content.
    """
    if content is None or isinstance(content, str):
        return content, None
    texts: list[str] = []
    media: list[str] = []
    for part in content if is_array(content) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif is_object(part):
            text = part.get("text", part.get("content"))
            kind = as_text(part.get("type")) or "unknown"
            if isinstance(text, str):
                texts.append(text)
            elif kind not in ("thinking", "redacted_thinking", "text"):
                media.append(kind)
    return "\n".join(texts) if texts else None, media or None


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step from an OpenAI-style ``usage`` object.

    Prompt tokens include cached ones and completion tokens include reasoning, as in the schema.

    >>> usage_columns({"prompt_tokens": 9, "completion_tokens": 4})["input_tokens"]
    9
    """
    usage = as_object(usage)
    prompt = as_object(usage.get("prompt_tokens_details"))
    completion = as_object(usage.get("completion_tokens_details"))
    return {
        "input_tokens": as_int(usage.get("prompt_tokens")),
        "output_tokens": as_int(usage.get("completion_tokens")),
        "reasoning_tokens": as_int(
            completion.get("reasoning_tokens", usage.get("reasoning_tokens"))
        ),
        "cached_tokens": as_int(prompt.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))),
    }


def tool_definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """(name, description, parameters) of OpenAI-style tool definitions, nested or flat."""
    definitions: list[tuple[str | None, str | None, Any]] = []
    for tool in as_array(tools):
        body = as_object(as_object(tool).get("function")) or as_object(tool)
        definitions.append(
            (
                as_text(body.get("name")),
                as_text(body.get("description")),
                body.get("parameters", body.get("input_schema")),
            )
        )
    return definitions
