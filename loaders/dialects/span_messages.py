"""Messages as traces write them: a dozen shapes, read into one.

OpenTelemetry's ``parts``, OpenAI chat and Responses, Anthropic blocks, Gemini ``contents``, LangChain
messages, OpenInference's nested ``message`` and ``message_content``; inside requests, responses and
JSON in texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.dialects import gemini
from loaders.dialects.openai_chat import split_think_tags, thoughts_of
from loaders.dialects.span_said import Known, Message, Part, Said, as_value, key_of_object
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
}
_LISTS = ("messages", "contents", "input", "output_messages", "prompt")
_REPLIES = ("choices", "candidates", "generations", "output")
_TEXTS = ("text", "input_text", "output_text", "summary_text")
_CALLS = ("tool_call", "tool_use", "function_call", "server_tool_use", "toolCall")
_RESULTS = ("tool_call_response", "tool_result", "function_call_output")
_ITEMS = ("function_call", "reasoning", "message")
_GEMINI_CALLS = ("function_call", "functionCall")
_GEMINI_RESULTS = ("function_response", "functionResponse")
_DEPTH = 12


def messages_of(
    value: Any, pos: str, role: str = "user", known: Known | None = None, depth: int = 0
) -> list[Message]:
    """All messages of a value; text alone is one of the given role.

    >>> [m.role for m in messages_of({"messages": [{"role": "human", "content": "hi"}]}, "")]
    ['user']
    """
    if isinstance(value, str):
        value = as_value(value)
        if isinstance(value, str):
            return [Message(Said(role, [Part("text", value, "")]), pos)] if value else []
    if depth > _DEPTH:
        return []
    if is_array(value):
        found: list[list[Message]] = []
        for index, item in enumerate(value):
            for message in _of_item(item, f"{pos}/{index}", role, known, depth + 1):
                if found and _goes_on(message, item, found[-1][0]):
                    found[-1].append(message)
                else:
                    found.append([message])
        return [_as_one(pieces, pos, known) for pieces in found]
    return _of_object(value, pos, role, known, depth) if is_object(value) and value else []


def _of_item(item: Any, pos: str, role: str, known: Known | None, depth: int) -> list[Message]:
    """Messages of an item of an array, which a later request will repeat."""
    key = key_of_object(item) if known is not None and is_object(item) else None
    if known is None or key is None:
        return messages_of(item, pos, role, known, depth)
    found: list[Message] | None = known.get((role, depth, key))
    if found is None:
        found = messages_of(item, "", role, known, depth)
        known.keep((role, depth, key), len(key), found)
    return [Message(said, f"{pos}{at}") for said, at in found]


def _goes_on(message: Message, item: Any, before: Message) -> bool:
    """Whether an item of the Responses API belongs to the reply of which the one before it is."""
    is_reply = message.said.role == "assistant" == before.said.role
    return is_reply and as_object(item).get("type") in _ITEMS


def _as_one(pieces: list[Message], pos: str, known: Known | None) -> Message:
    """One message of several that stand below ``pos``."""
    if len(pieces) == 1:
        return pieces[0]
    first, *others = pieces
    start = len(pos)
    key = tuple((said, str(at)[start:]) for said, at in pieces)
    found: Said | None = None if known is None else known.get(key)
    if found is None:
        found = first.joined(*others, pos=pos).said
        if known is not None:
            known.keep(key, 0, found)
    return Message(found, pos)


def _of_object(
    value: Object, pos: str, role: str, known: Known | None, depth: int
) -> list[Message]:
    for key in ("message", "kwargs", "data"):
        if is_object(value.get(key)):
            inner = {"finish_reason": value.get("finish_reason"), **value[key]}
            if inner.get("role") is None and isinstance(value.get("type"), str):
                inner.setdefault("type", value["type"])
            return messages_of(inner, f"{pos}/{key}", role, known, depth + 1)
    if "role" in value or _is_item(value):
        return [Message(said, pos) for said in _split(_said(value, role))]
    for key in _REPLIES:
        if is_array(value.get(key)):
            return messages_of(value[key], f"{pos}/{key}", "assistant", known, depth + 1)
    if is_object(value.get("content")):
        content = {"finish_reason": value.get("finish_reason"), **value["content"]}
        return messages_of(content, f"{pos}/content", "assistant", known, depth + 1)
    for key in _LISTS:
        if value.get(key):
            history = messages_of(value[key], f"{pos}/{key}", role, known, depth + 1)
            return [*_system(value, pos), *history]
    if "args" in value:
        return messages_of(value["args"], f"{pos}/args", role, known, depth + 1)
    for key in ("content", "text"):
        if isinstance(value.get(key), str):
            return [Message(_said(value, role), pos)]
    return []


def _is_item(value: Object) -> bool:
    kind = value.get("type")
    if kind in ("function_call", "function_call_output", "reasoning"):
        return True
    return kind in ("human", "ai", "tool", "system", "AIMessageChunk") and "content" in value


def _system(request: Object, pos: str) -> Iterator[Message]:
    """The system prompt that stands beside the messages."""
    config = as_object(request.get("config"))
    for key, place in (("system", ""), ("instructions", ""), ("system_instruction", "/config")):
        holder = config if place else request
        if holder.get(key):
            yield from messages_of(holder[key], f"{pos}{place}/{key}", "system")


def _said(item: Object, role: str) -> Said:
    kind = as_text(item.get("type"))
    given = as_text(item.get("role")) or (kind if kind in ("tool", "system", *_ROLES) else None)
    if kind in ("function_call", "reasoning") and given is None:
        given = "assistant"
    given = _ROLES.get(given or role, given or role)
    several = len(as_array(item.get("parts"))) > 1
    if (given == "tool" and not several) or kind == "function_call_output":
        parts = [_result(item, "")]
    else:
        parts = [*_parts(item, "", given)]
    finish = as_text(item.get("finish_reason")) or as_text(item.get("stop_reason"))
    return Said(given, parts, as_text(item.get("name")), finish)


def _split(said: Said) -> Iterator[Said]:
    """Results that share a message are messages of their own."""
    results = [part for part in said.parts if part.kind in ("result", "definition")]
    if not results:
        yield said
        return
    for part in results:
        yield Said("tool", [part], said.name, said.finish)
    rest = [part for part in said.parts if part.kind not in ("result", "definition")]
    if rest:
        yield Said(said.role, rest, said.name, said.finish)


def _parts(item: Object, pos: str, role: str) -> Iterator[Part]:
    if item.get("type") in (*_CALLS, *_RESULTS, "reasoning"):
        yield from _block(item, pos, role)
        return
    seen = ""
    for thought in thoughts_of(item):
        seen += thought.text or ""
        place = f"{pos}{thought.pointer}"
        yield Part(
            "thinking", thought.text, place, state=thought.state, signature=thought.signature
        )
    for key in ("content", "contents", "parts"):
        content = item.get(key)
        if isinstance(content, str):
            yield from _text(content, f"{pos}/{key}", role)
        elif is_object(content):
            yield from _block(content, f"{pos}/{key}", role)
        signatures = _gemini_signatures(as_array(content)) if role == "assistant" else {}
        for index, block in enumerate(as_array(content)):
            place = f"{pos}/{key}/{index}"
            signature = signatures.get(index)
            is_thought = as_object(block).get("thought") is True
            if signature and not is_thought:
                yield Part("thinking", None, place, state="hidden", signature=signature)
            is_told = key == "content" and as_object(block).get("type") in (
                "thinking",
                "redacted_thinking",
            )
            if not is_told:
                for part in _block(block, place, role):
                    yield part._replace(signature=signature) if is_thought else part
    if "content" not in item and "parts" not in item and isinstance(item.get("text"), str):
        yield from _text(item["text"], f"{pos}/text", role)
    for holder, place in (
        (item, ""),
        (as_object(item.get("additional_kwargs")), "/additional_kwargs"),
    ):
        calls = as_array(holder.get("tool_calls"))
        for index, call in enumerate(calls):
            yield _call(as_object(call), f"{pos}{place}/tool_calls/{index}")
        if calls:
            break
    if is_object(item.get("function_call")) and item.get("tool_calls") is None:
        yield _call(item["function_call"], f"{pos}/function_call")


def _gemini_signatures(blocks: list[Any]) -> dict[int, str]:
    """Signatures that Gemini puts on the part after its thinking, by the part where they are told."""
    parts = [block if block.get("type") is None else {} for block in map(as_object, blocks)]
    thoughts = gemini.thoughts_of(parts)
    return {thought.place: thought.signature for thought in thoughts if thought.signature}


def _text(text: str, pos: str, role: str) -> Iterator[Part]:
    if role != "assistant":
        if text:
            yield Part("text", text, pos)
        return
    for is_thinking, piece in split_think_tags(text):
        yield Part("thinking" if is_thinking else "text", piece, pos, state="tagged_in_text")


def _block(block: Any, pos: str, role: str) -> Iterator[Part]:
    """One part of a content, in any dialect."""
    if isinstance(block, str):
        yield from _text(block, pos, role)
        return
    block = as_object(block)
    if is_object(block.get("message_content")):
        yield from _block(block["message_content"], f"{pos}/message_content", role)
        return
    kind = as_text(block.get("type")) or ""
    text = as_text(block.get("content")) if kind != "tool_result" else None
    text = as_text(block.get("text")) if text is None else text
    if kind in ("reasoning", "thinking", "redacted_thinking") or block.get("thought") is True:
        yield _thinking(block, text, kind, pos)
    elif kind in _CALLS:
        call = _call(block, pos)
        if (call.name, call.call_id, call.value) != (None, None, None):
            yield call  # else it stands beside the blocks and only its kind stands among them
    elif kind in _RESULTS:
        yield _result(block, pos)
    elif key := next((key for key in _GEMINI_CALLS if is_object(block.get(key))), None):
        yield _call(block[key], f"{pos}/{key}")
    elif key := next((key for key in _GEMINI_RESULTS if is_object(block.get(key))), None):
        yield _result(block[key], f"{pos}/{key}")
    elif text is not None and kind in ("", *_TEXTS):
        yield from _text(text, pos, role)
    elif block:
        source = as_object(block.get("inline_data")) or as_object(block.get("source"))
        keys = ("mime_type", "mimeType", "media_type")
        named = (as_text(holder.get(key)) for holder in (block, source) for key in keys)
        mime = next((name for name in named if name), None)
        yield Part("media", text, pos, name=mime or kind or "unknown")


def _thinking(block: Object, text: str | None, kind: str, pos: str) -> Part:
    if kind == "redacted_thinking":
        return Part("thinking", None, pos, state="redacted", signature=as_text(block.get("data")))
    keys = ("signature", "encrypted_content", "thought_signature")
    signature = next((found for key in keys if (found := as_text(block.get(key)))), None)
    summary = [as_text(as_object(part).get("text")) for part in as_array(block.get("summary"))]
    own = text or as_text(block.get("thinking")) or as_text(block.get("reasoning"))
    if is_array(parts := as_value(own)) and all(map(is_object, parts)):
        own, summary = None, [as_text(part.get("text")) for part in parts]  # a summary as JSON text
    text = own or "\n".join(filter(None, summary)) or None
    is_summary = own is None or block.get("thought") is True
    state = "hidden" if text is None else "summary" if is_summary else "text"
    return Part("thinking", text, pos, state=state, signature=signature)


def _call(call: Object, pos: str) -> Part:
    if is_object(call.get("tool_call")):
        call = call["tool_call"]
    function = as_object(call.get("function")) or call
    keys = ("arguments", "args", "input")
    value = next((function[key] for key in keys if function.get(key) is not None), None)
    return Part("call", None, pos, as_text(function.get("name")), call_id_of(call), value)


def call_id_of(call: Object) -> str | None:
    """The id that links call and result; some instrumentations write a list of ids."""
    for key in ("call_id", "tool_call_id", "tool_use_id", "id"):
        if (name := id_of(call.get(key))) is not None:
            return name
    return None


def id_of(value: Any) -> str | None:
    """An id as text, also where it is a number or a list of texts."""
    return as_json(value) if is_array(value) and value else as_name(value)


def _result(item: Object, pos: str) -> Part:
    """A tool's result; or a definition, which LangGraph's callbacks write as a tool's message."""
    inner = [as_object(part) for part in as_array(item.get("parts"))]
    if len(inner) == 1 and inner[0].get("type") != "text" and inner[0]:
        key = next((key for key in _GEMINI_RESULTS if is_object(inner[0].get(key))), None)
        return _result(
            inner[0][key] if key else inner[0], f"{pos}/parts/0{f'/{key}' if key else ''}"
        )
    name, call_id = as_text(item.get("name")), call_id_of(item)
    content = item.get("content")
    if call_id is None and is_object(content) and is_object(content.get("function")):
        return Part("definition", None, f"{pos}/content", value=content)
    keys = ("content", "response", "result", "output", "parts", "contents")
    key = next((key for key in keys if item.get(key) is not None), None)
    text = text_of(item[key]) if key else None
    is_error = True if item.get("is_error") is True or item.get("status") == "error" else None
    return Part("result", text, f"{pos}/{key}" if key else pos, name, call_id, is_error)


def text_of(content: Any) -> str | None:
    """A content's text: of text parts their texts, of anything else its JSON."""
    if is_array(content) and content:
        texts = [
            as_text(as_object(part).get("text", as_object(part).get("content"))) for part in content
        ]
        known = [text for text in texts if text is not None]
        if len(known) == len(texts):
            return "\n".join(known)
    return as_json(content)
