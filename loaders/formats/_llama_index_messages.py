"""LlamaIndex's ChatMessage: a role, blocks, and what an adapter put under ``additional_kwargs``.

A tool call stands in a block, in ``additional_kwargs.tool_calls`` in its provider's own form, or in both;
it is told once. Older versions have ``content`` in place of the blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from loaders.dialects.openai_chat import Thought, split_think_tags
from loaders.dialects.openai_chat import thoughts_of as thoughts_of_chat
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
    total,
)

REPLIES = ("assistant", "model", "chatbot")
_MEDIA = ("image", "audio", "video", "document")
_OBSERVATION = "Observation: "


class Call(NamedTuple):
    """A tool call and where it stands in its message."""

    tool: str | None
    arguments: Any
    call_id: str | None
    pointer: str


def is_chat_message(value: Any) -> bool:
    """Whether a value is such a message, as far as the head of a log shows it."""
    value = as_object(value)
    if not isinstance(value.get("role"), str) or not is_array(value.get("blocks")):
        return False
    blocks = [as_object(block) for block in value["blocks"]]
    return all("block_type" in block for block in blocks) and (
        bool(blocks) or "additional_kwargs" in value
    )


def text_of(message: Object) -> str | None:
    """The text blocks of a message, one below the other; None if there is none."""
    texts = (as_text(block.get("text")) for block, _ in _parts(message) if _kind(block) == "text")
    shown = [text for text in texts if text is not None]
    return "\n".join(shown) if shown else None


def key_of(message: Object) -> Hashable:
    """What makes two writings of a message the same.

    A ReAct agent repeats its own calls with other quotes, and a response as what a user observed.
    """
    role, text = as_text(message.get("role")), text_of(message) or ""
    if role == "user" and text.startswith(_OBSERVATION):
        role, text = "tool", text.removeprefix(_OBSERVATION)
    if role in REPLIES:
        text = text.partition("\nAction Input:")[0]
    calls = tuple((call.tool, call.call_id) for call in calls_of(message))
    return role, "".join(text.split()), calls


def thoughts_of(message: Object) -> Iterator[Thought]:
    """The thinking of a message in the order in which it is told, tagged pieces of the text included."""
    for thought in thoughts_of_chat(as_object(message.get("additional_kwargs"))):
        yield thought._replace(pointer=f"/additional_kwargs{thought.pointer}")
    for block, pointer in _parts(message):
        if _kind(block) == "thinking":
            yield _thought(block, pointer)
        elif _kind(block) == "text" and message.get("role") in REPLIES:
            for is_thinking, piece in split_think_tags(as_text(block.get("text")) or ""):
                if is_thinking:
                    yield Thought(piece, "tagged_in_text", None, pointer)


def _thought(block: Object, pointer: str) -> Thought:
    """A block; what came from the Responses API is a summary, and has an id of that API."""
    known = as_object(block.get("additional_information"))
    text = as_text(block.get("content")) or None
    signature = as_text(known.get("signature")) or as_text(known.get("encrypted_content")) or None
    is_summary = (as_text(known.get("id")) or "").startswith("rs_")
    state = "hidden" if text is None else "summary" if is_summary else "text"
    return Thought(text, state, signature, pointer)


def calls_of(message: Object) -> list[Call]:
    """The tool calls of a message, each once."""
    calls = [
        Call(
            as_text(block.get("tool_name")),
            block.get("tool_kwargs"),
            as_name(block.get("tool_call_id")),
            pointer,
        )
        for block, pointer in _parts(message)
        if _kind(block) == "tool_call"
    ]
    known = {call.call_id for call in calls}
    more = as_object(message.get("additional_kwargs"))
    for index, value in enumerate(as_array(more.get("tool_calls"))):
        call = _provider_call(as_object(value), f"/additional_kwargs/tool_calls/{index}")
        if call.call_id not in known or (call.call_id is None and not calls):
            calls.append(call)
    return calls


def _provider_call(value: Object, pointer: str) -> Call:
    """A call as OpenAI's chat completions, its Responses API, or Anthropic write it."""
    body = as_object(value.get("function")) or value
    arguments = next((body[key] for key in ("arguments", "input") if key in body), None)
    call_id = as_name(value.get("call_id")) or as_name(value.get("id"))
    return Call(as_text(body.get("name")), arguments, call_id, pointer)


def tell_message(run: Run, message: Object, pos: str, **result: Any) -> None:
    """Tell one message; a model's is a call of its own. ``result``: what is known of a response."""
    role = as_text(message.get("role"))
    more = as_object(message.get("additional_kwargs"))
    key = next((key for key in ("blocks", "content") if key in message), None)
    place = f"{pos}/{key}" if key else pos
    text, media = text_of(message), _media_of(message)
    call_id = as_name(more.get("tool_call_id"))
    if role in REPLIES and call_id is not None:
        # The agent repeats the response of a tool that ends its run, in the model's name.
        run.event("other", text, place, actor=role, media=media)
    elif role in REPLIES:
        run.step(source_pos=pos)
        tell_reply(run, message, pos)
    elif role in ("system", "developer"):
        run.system(text, place, media=media)
    elif role == "user":
        run.user(text, place, media=media)
    elif role in ("tool", "function"):
        by_order = call_id is None
        tool = as_text(more.get("name"))
        run.result(
            text, place, call_id=call_id, tool=tool, by_order=by_order, media=media, **result
        )
    else:
        run.event("other", text, place, actor=role, media=media)


def tell_reply(run: Run, message: Object, pos: str) -> None:
    """Tell the parts of a model's message, as part of the call already begun."""
    waiting = deque(thoughts_of(message))
    while waiting and waiting[0].pointer.startswith("/additional_kwargs"):
        _tell_thought(run, waiting.popleft(), pos)
    for block, pointer in _parts(message):
        kind = _kind(block)
        if kind == "thinking":
            _tell_thought(run, waiting.popleft(), pos)
        elif kind == "text":
            for is_thinking, piece in split_think_tags(as_text(block.get("text")) or ""):
                if is_thinking:
                    _tell_thought(run, waiting.popleft(), pos)
                else:
                    run.message(piece, pos + pointer)
        elif kind in _MEDIA:
            run.message(None, pos + pointer, media=[_media_type(block)])
        elif kind not in ("tool_call", "cache"):
            run.event("other", as_json(block), pos + pointer, error_type=kind)
    thought_tokens = total(*(as_int(block.get("num_tokens")) for block, _ in _parts(message)))
    if thought_tokens is not None and run.steps[-1].reasoning_tokens is None:
        run.update_step(reasoning_tokens=thought_tokens)
    for call in calls_of(message):
        run.call(call.tool, call.arguments, pos + call.pointer, call_id=call.call_id)


def _tell_thought(run: Run, thought: Thought, pos: str) -> None:
    text, state, signature, pointer = thought
    run.thinking(text, pos + pointer, state=state, signature=signature)


def _parts(message: Object) -> list[tuple[Object, str]]:
    """The blocks of a message with their places; the plain content of older versions is one."""
    if not is_array(message.get("blocks")):
        text = as_text(message.get("content"))
        return [] if text is None else [({"block_type": "text", "text": text}, "/content")]
    return [(as_object(block), f"/blocks/{n}") for n, block in enumerate(message["blocks"])]


def _kind(block: Object) -> str | None:
    return as_text(block.get("block_type"))


def _media_of(message: Object) -> list[str] | None:
    found = [_media_type(block) for block, _ in _parts(message) if _kind(block) in _MEDIA]
    return found or None


def _media_type(block: Object) -> str:
    kind = _kind(block) or "unknown"
    return as_text(block.get(f"{kind}_mimetype")) or kind


def is_message_list(value: Any) -> bool:
    """Whether a value is a list that begins with such a message."""
    return is_array(value) and is_object(next(iter(value), None)) and is_chat_message(value[0])
