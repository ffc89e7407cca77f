"""Items of OpenAI's Responses API: reasoning, messages, calls of tools of all kinds and their outputs.

Reasoning shows its summary, rarely its text, and often neither: encrypted content that the client
hands back is all there is then (hidden). Tools that run at the provider have their results inside
the call.
"""

from __future__ import annotations

from typing import Any, Final

from loaders.dialects.openai_chat import text_and_media
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_object,
    as_text,
    is_array,
    is_object,
)

NAME: Final = "openai_responses"

_ONLY_HERE = {  # kinds of items, and what else an item of that kind has
    "reasoning": ("summary", "encrypted_content"),
    "function_call": ("call_id",),
    "function_call_output": ("call_id",),
    "custom_tool_call": ("call_id",),
    "custom_tool_call_output": ("call_id",),
    "web_search_call": ("status", "action"),
    "item_reference": ("id",),
}
_PARTS_ONLY_HERE = ("input_text", "output_text", "input_image", "input_file")
_ARGUMENTS_IN = ("arguments", "input", "action", "actions", "operation", "code", "queries", "query")
_RESULTS_IN = ("output", "outputs", "results", "result", "tools")
_MADE_BY_THE_MODEL = ("reasoning", "mcp_list_tools", "mcp_approval_request", "program")


def is_item(value: Any) -> bool:
    """Whether a value is an item that no other dialect has; plain messages are in all of them."""
    if not is_object(value):
        return False
    kind = as_text(value.get("type")) or ""
    if any(key in value for key in _ONLY_HERE.get(kind, ())):
        return True
    parts = map(as_object, as_array(value.get("content")))
    is_message = kind in ("message", "") and "role" in value
    return is_message and any(part.get("type") in _PARTS_ONLY_HERE for part in parts)


def is_response(value: Any) -> bool:
    """Whether a value is what the API answers with."""
    return is_object(value) and value.get("object") in ("response", "response.compaction")


def is_output(item: Object) -> bool:
    """Whether the model, or the API in its place, emitted an item; else the client made it."""
    kind = as_text(item.get("type")) or "message"
    if kind == "message":
        return item.get("role") == "assistant"
    if kind == "item_reference":
        return not (as_text(item.get("id")) or "").startswith("fco_")
    return kind in _MADE_BY_THE_MODEL or kind.endswith("_call") or kind.startswith("compaction")


def write_item(run: Run, item: Object, pos: str, **more: Any) -> None:
    """Tell one item; one that the model emitted belongs to the call already begun."""
    kind = as_text(item.get("type")) or "message"
    if kind == "message":
        _write_message(run, item, pos, **more)
    elif kind == "reasoning":
        text, state, signature = thought_of(item)
        run.thinking(text, pos, state=state, signature=signature, **more)
    elif kind.endswith("_output"):
        text, columns = _output(item.get("output", item.get("tools")))
        columns.setdefault("is_error", _failed(item))
        run.result(text, pos, call_id=_call_id(item), **columns, **more)
    elif kind.endswith("_call"):
        _write_call(run, item, kind, pos, **more)
    elif kind.startswith("compaction"):
        run.event("compaction", None, pos, signature=as_text(item.get("encrypted_content")), **more)
    else:
        run.event("other", as_json(item), pos, error_type=kind, **more)


def thought_of(item: Object) -> tuple[str | None, str, str | None]:
    """Text, state and signature of a reasoning item: its own words, else their summary, else none."""
    for key, state in (("content", "text"), ("summary", "summary")):
        texts = [as_text(as_object(part).get("text")) for part in as_array(item.get(key))]
        if any(texts):
            text = "\n\n".join(filter(None, texts))
            return text, state, as_text(item.get("encrypted_content"))
    return None, "hidden", as_text(item.get("encrypted_content"))


def _write_message(run: Run, item: Object, pos: str, **more: Any) -> None:
    content, role = item.get("content"), item.get("role")
    parts = as_array(content)
    refusals = [as_text(as_object(part).get("refusal")) for part in parts]
    text, media = text_and_media(
        [p for p in parts if "refusal" not in as_object(p)] if parts else content
    )
    if role == "assistant":
        if text or media:
            run.message(text, pos, media=media, **more)
        for refusal in filter(None, refusals):
            run.message(refusal, pos, error_type="refusal", **more)
    elif role in ("system", "developer"):
        run.system(text, pos, media=media, **more)
    elif role == "user":
        run.user(text, pos, media=media, **more)
    else:
        run.event("other", text, pos, actor=as_text(role), media=media, **more)


def _write_call(run: Run, item: Object, kind: str, pos: str, **more: Any) -> None:
    arguments = arguments_of(item)
    seq = run.call(name_of(item), arguments, pos, call_id=_call_id(item), **more)
    result = next((item[key] for key in _RESULTS_IN if item.get(key) is not None), None)
    error = item.get("error")
    if kind == "image_generation_call" and result is not None:
        run.result(None, pos, answers=seq, media=["image"], **more)
    elif error is not None:
        text = as_text(as_object(error).get("message")) or as_json(error)
        run.result(text, pos, answers=seq, is_error=True, **more)
    elif result is not None:
        text, columns = _output(result)
        columns.setdefault("is_error", _failed(item))
        run.result(text, pos, answers=seq, **columns, **more)


def name_of(item: Object) -> str:
    """The tool that an item calls; one without a name is named after the kind of the call."""
    kind = (as_text(item.get("type")) or "").removesuffix("_call")
    return as_text(item.get("name")) or kind


def arguments_of(item: Object) -> Any:
    """What a call gives to its tool."""
    return next((item[key] for key in _ARGUMENTS_IN if item.get(key) is not None), None)


def _call_id(item: Object) -> str | None:
    return as_text(item.get("call_id")) or as_text(item.get("id"))


def _failed(item: Object) -> bool | None:
    return True if item.get("status") == "failed" else None


def _output(output: Any) -> tuple[str | None, dict[str, Any]]:
    """The text of an output, and what it says beside it."""
    if is_object(output):
        if isinstance(output.get("text"), str):
            return output["text"], {}
        kind = as_text(output.get("type"))
        return as_json(output) if kind is None else None, {"media": [kind]} if kind else {}
    parts = [as_object(part) for part in as_array(output)]
    if any("stdout" in part or "logs" in part for part in parts):
        keys = ("stdout", "stderr", "logs")
        texts = [as_text(part.get(key)) for part in parts for key in keys]
        codes = [as_int(as_object(part.get("outcome")).get("exit_code")) for part in parts]
        known = [code for code in codes if code is not None]
        return "\n".join(filter(None, texts)), {"exit_code": max(known, default=None)}
    text, media = text_and_media(output)
    return text, {"media": media}


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step; input includes cached tokens and output reasoning, as in the schema.

    >>> usage_columns({"input_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}})
    {'input_tokens': 9, 'output_tokens': None, 'reasoning_tokens': 4, 'cached_tokens': None}
    """
    usage = as_object(usage)
    shown, made = (as_object(usage.get(f"{kind}_tokens_details")) for kind in ("input", "output"))
    return {
        "input_tokens": as_int(usage.get("input_tokens")),
        "output_tokens": as_int(usage.get("output_tokens")),
        "reasoning_tokens": as_int(made.get("reasoning_tokens")),
        "cached_tokens": as_int(shown.get("cached_tokens")),
    }


def tool_definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """(name, description, parameters) of tools on offer; of built-in ones their settings."""
    definitions: list[tuple[str | None, str | None, Any]] = []
    for tool in map(as_object, as_array(tools)):
        if is_array(tool.get("tools")):  # a namespace
            definitions.extend(tool_definitions(tool["tools"]))
            continue
        parameters = tool.get("parameters")
        if parameters is None:
            left_out = ("name", "description", "type", "headers", "authorization")
            parameters = {key: value for key, value in tool.items() if key not in left_out} or None
        name = as_text(tool.get("name")) or as_text(tool.get("server_label"))
        description = as_text(tool.get("description"))
        definitions.append((name or as_text(tool.get("type")), description, parameters))
    return definitions
