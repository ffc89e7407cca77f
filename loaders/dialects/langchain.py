"""LangChain messages: three ways to write one down, and where each provider's class puts thinking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.dialects import anthropic, openai_chat
from loaders.dialects.openai_chat import Thought, split_think_tags, text_and_media
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
)

_ROLES = {
    **{"human": "user", "user": "user", "HumanMessage": "user"},
    **{"ai": "assistant", "assistant": "assistant", "AIMessage": "assistant"},
    **{"AIMessageChunk": "assistant", "HumanMessageChunk": "user", "ToolMessageChunk": "tool"},
    **{"system": "system", "developer": "system", "SystemMessage": "system"},
    **{"tool": "tool", "ToolMessage": "tool", "function": "tool", "FunctionMessage": "tool"},
    **{"ChatMessage": "chat", "chat": "chat", "remove": "remove"},
}
IGNORED = {
    "/**/lc": "The version of the notation, the same in every message that is written in it.",
    "/**/type": "What kind of message, call or block it is, by which the rest of it is told.",
    "type=constructor /**/id/*": "The name of a class in parts, the last of which is the message's kind.",
    "/**/kwargs/id": "An id by which a message replaces another one in a state, and nothing else.",
    "/**/messages/*/id": "An id by which a message replaces another one in a state, and nothing else.",
    "/**/content/*/id": "The name of an item at the provider; a call among them has an id of its own.",
    "/**/content/*/name": "The name of a tool, which the call beside the content has as well.",
    "/**/content/*/status": "Says that an item is complete, as all items of a whole reply are.",
    "/**/total_tokens": "The sum of the other counts of tokens, which have columns of their own.",
    "/**/token_usage/**": "The provider's count, which stands in usage_metadata in other words.",
    "/**/response_metadata/usage/**": "The provider's count, in usage_metadata in other words.",
    "/**/input_token_details/cache_creation": "A part of the input that may be cheaper next time.",
    "/**/response_metadata/id": "The name of a reply at the provider, to which nothing refers.",
    "/**/response_metadata/object": "Says that a reply of the Responses API is one.",
    "/**/response_metadata/status": "Says that a reply is complete, as all that were kept are.",
    "/**/refusal": "Empty unless the model refused, and then the same text as the content.",
}
"""What of messages is left out of the tables, and why; for the formats that hold them."""

_CALL_BLOCKS = ("tool_use", "tool_call", "function_call", "input_json_delta")


def unpacked(value: Any) -> tuple[Object, str] | None:
    """A message's fields with its role, and where in the value they stand; None if it is none."""
    value = as_object(value)
    if value.get("lc") is not None and is_object(value.get("kwargs")):
        names = as_array(value.get("id"))
        role = _ROLES.get(as_text(names[-1]) or "") if names else None
        return ({**value["kwargs"], "role": role}, "/kwargs") if role else None
    kind = as_text(value.get("type")) or as_text(value.get("role")) or ""
    if kind in _ROLES and is_object(value.get("data")):
        return {**value["data"], "role": _ROLES[kind]}, "/data"
    if kind in _ROLES and "content" in value:
        return {**value, "role": _ROLES[kind]}, ""
    return None


def is_own(value: Any) -> bool:
    """Whether a value is a message as LangChain writes it, and not plain chat completions."""
    found = unpacked(value)
    if found is None:
        return False
    fields, place = found
    return bool(place) or bool(fields.keys() & {"additional_kwargs", "response_metadata"})


def are_states(records: list[Any]) -> bool:
    """Whether records are states of a conversation, each of which repeats the one before it."""
    former: Any = None
    for record in records[:3]:
        listed = as_array(as_object(record).get("messages"))
        first = unpacked(listed[0]) if listed else None
        name = first[0].get("id") if first is not None else None
        if name is not None and name == former:
            return True
        former = name
    return False


def step_columns(message: Object) -> dict[str, Any]:
    """Columns of a step that a model's message carries."""
    details = as_object(message.get("response_metadata"))
    columns = {
        "model": as_text(details.get("model_name")) or as_text(details.get("model")),
        "stop_reason": as_text(details.get("finish_reason")) or as_text(details.get("stop_reason")),
        **usage_columns(message.get("usage_metadata")),
    }
    if columns.get("input_tokens") is None:
        columns.update(openai_chat.usage_columns(details.get("token_usage")))
    return columns


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns from ``usage_metadata``, whose input includes what was cached."""
    usage = as_object(usage)
    asked, made = (as_object(usage.get(f"{way}_token_details")) for way in ("input", "output"))
    return {
        "input_tokens": as_int(usage.get("input_tokens")),
        "output_tokens": as_int(usage.get("output_tokens")),
        "reasoning_tokens": as_int(made.get("reasoning")),
        "cached_tokens": as_int(asked.get("cache_read")),
    }


def thoughts_of(message: Object) -> Iterator[Thought]:
    """The thinking of a model's message: in its blocks, or beside its content."""
    blocks = [as_object(block) for block in as_array(message.get("content"))]
    found = [*filter(None, (_block_thought(block, index) for index, block in enumerate(blocks)))]
    yield from found
    extra = as_object(message.get("additional_kwargs"))
    for fields, place in ((message, ""), (extra, "/additional_kwargs")):
        for key in ("reasoning_content", "reasoning"):
            text = as_text(fields.get(key))
            parts = [
                as_object(part) for part in as_array(as_object(fields.get(key)).get("summary"))
            ]
            summary = "\n\n".join(filter(None, (as_text(part.get("text")) for part in parts)))
            if (text or summary) and not found:
                yield Thought(
                    text or summary, "text" if text else "summary", None, f"{place}/{key}"
                )
                return
    if is_array(message.get("content")):
        return
    for is_thinking, piece in split_think_tags(as_text(message.get("content")) or ""):
        if is_thinking:
            yield Thought(piece, "tagged_in_text", None, "/content")


def _block_thought(block: Object, index: int) -> Thought | None:
    kind, pointer = block.get("type"), f"/content/{index}"
    extras = as_object(block.get("extras"))
    signature = as_text(block.get("signature")) or as_text(extras.get("signature"))
    if kind == "redacted_thinking":
        return Thought(None, "redacted", as_text(block.get("data")), pointer)
    if kind in ("thinking", "reasoning", "reasoning_content"):
        inner = as_object(block.get("reasoning_content"))
        text = as_text(block.get("thinking")) or as_text(block.get("reasoning"))
        text = text or as_text(inner.get("text"))
        parts = [as_object(part) for part in as_array(block.get("summary"))]
        summary = "\n\n".join(filter(None, (as_text(part.get("text")) for part in parts)))
        signature = signature or as_text(inner.get("signature"))
        signature = signature or as_text(block.get("encrypted_content"))
        state = "text" if text else "summary" if summary else "hidden"
        return Thought(text or summary or None, state, signature, pointer)
    return None


def shows_thinking_for_certain(message: Object) -> bool:
    """Whether thinking in a message goes to the model: what stands beside the content may not."""
    pointers = (thought.pointer for thought in thoughts_of(message))
    return not any(pointer.startswith("/additional_kwargs") for pointer in pointers)


def write_message(run: Run, message: Object, pos: str, **result: Any) -> None:
    """Tell a message that is no model's; ``result`` what is known of a tool's beside it."""
    role, content = message.get("role"), message.get("content")
    text, media = text_and_media(content)
    name = as_text(message.get("name"))
    at = pos if content is None else f"{pos}/content"
    if role == "system":
        run.system(text, at, actor=name, media=media)
    elif role == "user":
        run.user(text, at, actor=name, media=media)
    elif role == "tool":
        status = as_text(message.get("status"))
        flags: dict[str, Any] = {"is_error": {"success": False, "error": True}.get(status or "")}
        flags.update({key: value for key, value in result.items() if value is not None})
        call_id = as_name(message.get("tool_call_id"))
        by_order = call_id is None
        run.result(text, at, call_id=call_id, tool=name, by_order=by_order, media=media, **flags)
    else:
        run.event("other", text, at, actor=as_text(message.get("role")), media=media)


def write_reply(run: Run, message: Object, pos: str) -> None:
    """Tell a model's message as part of the step already begun."""
    for thought in thoughts_of(message):
        state, signature = thought.state, thought.signature
        run.thinking(thought.text, pos + thought.pointer, state=state, signature=signature)
    content = message.get("content")
    if isinstance(content, str):
        pieces = [piece for is_thinking, piece in split_think_tags(content) if not is_thinking]
        if pieces:
            run.message("".join(pieces), f"{pos}/content")
    calls = [*_calls(message)]
    for index, block in enumerate(as_array(content)):
        block = {"type": "text", "text": block} if isinstance(block, str) else as_object(block)
        kind = as_text(block.get("type")) or ""
        if _block_thought(block, index) or (calls and kind in _CALL_BLOCKS):
            continue
        anthropic.write_block(run, block, f"{pos}/content/{index}", role="assistant")
    for name, arguments, call_id, pointer, error in calls:
        kind = None if error is None else "invalid_tool_call"
        run.call(name, arguments, pos + pointer, call_id=call_id, error_type=kind)
        if error:
            run.event("error", error, f"{pos}{pointer}/error", error_type=kind)


def _calls(message: Object) -> Iterator[tuple[str | None, Any, str | None, str, str | None]]:
    """Calls of tools, those whose arguments can't be parsed, and what older versions have."""
    has_any = False
    for key in ("tool_calls", "invalid_tool_calls"):
        for index, call in enumerate(map(as_object, as_array(message.get(key)))):
            has_any = True
            function = as_object(call.get("function"))
            name = as_text(call.get("name")) or as_text(function.get("name"))
            arguments = call.get("args", function.get("arguments"))
            error = None
            if key.startswith("invalid"):
                error = as_text(call.get("error")) or ""
            yield name, arguments, as_name(call.get("id")), f"/{key}/{index}", error
    extra = as_object(message.get("additional_kwargs"))
    if has_any:
        return
    for index, call in enumerate(map(as_object, as_array(extra.get("tool_calls")))):
        function = as_object(call.get("function"))
        place = f"/additional_kwargs/tool_calls/{index}"
        name = as_text(function.get("name"))
        yield name, function.get("arguments"), as_name(call.get("id")), place, None
    legacy = as_object(extra.get("function_call")) or as_object(message.get("function_call"))
    if legacy:
        is_extra = "function_call" in extra
        place = "/additional_kwargs/function_call" if is_extra else "/function_call"
        yield as_text(legacy.get("name")), legacy.get("arguments"), None, place, None


def key_of(message: Object) -> Any:
    """What makes two writings of a message the same: neither ids of its own nor thinking."""
    content = message.get("content")
    text, _ = text_and_media(content)
    if isinstance(content, str):
        text = "".join(piece for thinks, piece in split_think_tags(content) if not thinks)
    elif is_array(content):
        blocks = map(as_object, content)
        texts = (as_text(b.get("text")) or "" for b in blocks if b.get("type") in ("text", None))
        text = "".join(texts) if message.get("role") == "assistant" else text
    calls = [(name, as_json(arguments)) for name, arguments, *_ in _calls(message)]
    link = as_name(message.get("tool_call_id"))
    return as_text(message.get("role")), link, "".join((text or "").split()), tuple(calls)
