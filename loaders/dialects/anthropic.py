"""Anthropic content blocks: thinking with signatures, redacted thinking, tool use and its results."""

from __future__ import annotations

from typing import Any

from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_json,
    as_object,
    as_text,
    is_array,
    is_object,
    total,
)

CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
"""Types of the blocks that call a tool of the client's, the provider's, or an MCP server's."""


def write_message(run: Run, message: Object, pos: str, **more: Any) -> None:
    """Tell one message of any role; an assistant's message is a model call of its own.

    What a message of a response carries beside its content (model, usage, stop reason) goes to the
    step; ``more`` goes to each event as it is.
    """
    role = as_text(message.get("role")) or "unknown"
    if role == "assistant":
        run.step(source_pos=pos, **step_columns(message))
    write_blocks(run, message, pos, role=role, **more)


def write_blocks(
    run: Run,
    message: Object,
    pos: str,
    *,
    role: str,
    start: int = 0,
    stop: int | None = None,
    **more: Any,
) -> None:
    """Tell the blocks of a message, or those from ``start`` up to ``stop``."""
    content = message.get("content")
    if not is_array(content):
        if start == 0:
            write_block(run, content, f"{pos}/content", role=role, **more)
        return
    for index, block in enumerate(content[start:stop], start):
        write_block(run, block, f"{pos}/content/{index}", role=role, **more)


def step_columns(message: Object) -> dict[str, Any]:
    """Columns of a step that a message of a response carries; empty for one of a request."""
    columns: dict[str, Any] = {
        "model": as_text(message.get("model")),
        "stop_reason": as_text(message.get("stop_reason")),
    }
    if is_object(message.get("usage")):
        columns.update(usage_columns(message["usage"]))
    return {name: value for name, value in columns.items() if value is not None}


def write_block(run: Run, block: Any, pos: str, *, role: str, **more: Any) -> None:
    """Tell one content block; ``role`` is its message's, ``more`` goes to the event as it is.

    An assistant's block belongs to the model call already begun.
    """
    if block is None:
        return
    if isinstance(block, str):
        _write_text(run, block, pos, role, **more)
        return
    block = as_object(block)
    kind = as_text(block.get("type")) or "unknown"
    if kind == "text":
        _write_text(run, as_text(block.get("text")), pos, role, **more)
    elif kind == "thinking":
        text = as_text(block.get("thinking"))
        state = "text" if text else "hidden"
        signature = as_text(block.get("signature"))
        run.thinking(text or None, pos, state=state, signature=signature, **more)
    elif kind == "redacted_thinking":
        data = as_text(block.get("data"))
        run.thinking(None, pos, state="redacted", signature=data, **more)
    elif kind in CALLS:
        call_id = as_text(block.get("id"))
        caller = as_text(as_object(block.get("caller")).get("type"))
        if caller and caller != "direct":  # code that the model wrote, and not the model itself
            more.setdefault("actor", caller)
        run.call(as_text(block.get("name")), block.get("input"), pos, call_id=call_id, **more)
    elif kind.endswith("tool_result"):
        text, media = result_text(block.get("content"))
        for name, value in _flags(block).items():
            more.setdefault(name, value)
        call_id = as_text(block.get("tool_use_id"))
        run.result(text, pos, call_id=call_id, media=media, **more)
    elif kind in ("image", "document", "file", "search_result", "container_upload"):
        media_type = as_text(as_object(block.get("source")).get("media_type")) or kind
        text = as_text(block.get("text"))
        run.event(
            "message" if role == "assistant" else "user", text, pos, media=[media_type], **more
        )
    elif kind == "compaction":
        run.event("compaction", as_text(block.get("content")), pos, **more)
    else:
        text = as_text(block.get("text")) or as_json(block)
        run.event("other", text, pos, error_type=kind, **more)


def _flags(block: Object) -> dict[str, Any]:
    """What a result's block says of its success; a tool at the provider says it inside."""
    inner = as_object(block.get("content"))
    flags: dict[str, Any] = {"is_error": as_bool(block.get("is_error"))}
    if (as_text(inner.get("type")) or "").endswith("_error"):
        flags.update(is_error=True, error_type=as_text(inner.get("error_code")))
    if as_int(inner.get("return_code")) is not None:
        flags["exit_code"] = as_int(inner["return_code"])
    return flags


def _write_text(run: Run, text: str | None, pos: str, role: str, **more: Any) -> None:
    if not text:
        return
    if role == "assistant":
        run.message(text, pos, **more)
    elif role == "system":
        run.system(text, pos, **more)
    else:
        run.user(text, pos, **more)


def result_text(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of a tool result's content, and the types of its other parts."""
    if content is None or isinstance(content, str):
        return content, None
    texts: list[str] = []
    media: list[str] = []
    for part in content if is_array(content) else [content]:
        if isinstance(part, str):
            texts.append(part)
            continue
        part = as_object(part)
        text = _part_text(part)
        if text is not None:
            texts.append(text)
        else:
            source = as_object(part.get("source"))
            media.append(
                as_text(source.get("media_type")) or as_text(part.get("type")) or "unknown"
            )
    return "\n".join(texts) if texts else None, media or None


def _part_text(part: Object) -> str | None:
    """The text of one part; of a search hit its title, address and age, of a program its output."""
    text = as_text(part.get("text"))
    if text is None and (as_text(part.get("type")) or "").endswith("_result"):
        shown = [as_text(part.get(key)) for key in ("title", "url", "page_age", "stdout", "stderr")]
        fetched = as_object(as_object(part.get("content")).get("source"))
        if fetched.get("type") == "text":
            shown.append(as_text(fetched.get("data")))
        text = "\n".join(piece for piece in shown if piece)
    return text


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step from an Anthropic ``usage`` object.

    Its input tokens leave out what came from or went to the cache; the schema's include both.

    >>> usage_columns({"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 5})
    {'input_tokens': 13, 'output_tokens': 5, 'cached_tokens': 10}
    """
    usage = as_object(usage)
    fresh, cached = as_int(usage.get("input_tokens")), as_int(usage.get("cache_read_input_tokens"))
    written = as_int(usage.get("cache_creation_input_tokens"))
    if cached is not None or written is not None:
        fresh = total(fresh, written, cached)
    return {
        "input_tokens": fresh,
        "output_tokens": as_int(usage.get("output_tokens")),
        "cached_tokens": cached,
    }


def tool_definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """(name, description, parameters) of tools on offer.

    A tool that runs at the provider has no schema: its settings stand in the place of one.
    """
    definitions: list[tuple[str | None, str | None, Any]] = []
    for tool in as_array(tools):
        tool = as_object(tool)
        schema = tool.get("input_schema")
        if schema is None:
            left_out = ("name", "description", "cache_control")
            schema = {key: value for key, value in tool.items() if key not in left_out} or None
        definitions.append((as_text(tool.get("name")), as_text(tool.get("description")), schema))
    return definitions


def system_text(system: Any) -> str | None:
    """The system prompt, given as text or as blocks."""
    if isinstance(system, str):
        return system
    texts = [as_text(as_object(block).get("text")) or "" for block in as_array(system)]
    return "\n".join(texts) if texts else None


def blocks_of(message: Object) -> list[Any]:
    """A message's content as a list of blocks."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return as_array(content)
