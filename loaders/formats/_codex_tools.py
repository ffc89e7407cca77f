"""Tools in Codex rollouts: calls of all kinds, what they put out, and how events say they ended."""

from __future__ import annotations

import re
from typing import Any

from loaders.dialects.openai_chat import text_and_media
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import (
    Object,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    is_object,
)

CALLS = frozenset(
    f"{name}_call"
    for name in (
        *("function", "custom_tool", "local_shell", "tool_search", "web_search"),
        "image_generation",
    )
)
OUTPUTS = frozenset(("function_call_output", "custom_tool_call_output", "tool_search_output"))
ENDINGS = frozenset((
    *("exec_command_end", "patch_apply_end", "mcp_tool_call_end", "web_search_end"),
    *("CommandExecution", "FileChange", "McpToolCall", "WebSearch"),
))  # fmt: skip
"""Events, and items shown by events, that repeat a call and say how it ended."""

_HEADER_LINES = 8
_EXIT = re.compile(r"(?:Exit code: |Process exited with code )(-?\d{1,9})")
_TIME = re.compile(r"Wall time: ([\d.]{1,20}) seconds")
_FAILED = {"failed": True, "declined": True, "completed": False}


def call_of(item: Object) -> tuple[str | None, Any]:
    """Name and arguments of a call."""
    kind = as_text(item.get("type")) or ""
    name = as_text(item.get("name")) or kind.removesuffix("_call")
    namespace = as_text(item.get("namespace"))
    keys = ("arguments", "input", "action", "revised_prompt")
    arguments = next((item[key] for key in keys if item.get(key) is not None), None)
    return f"{namespace}.{name}" if namespace else name, arguments


def output_of(item: Object) -> tuple[str | None, dict[str, Any]]:
    """Text of a tool's output, and the columns that it tells itself."""
    if "tools" in item:
        return as_json(item["tools"]), {}
    output = item.get("output")
    columns: dict[str, Any] = {}
    if isinstance(output, str) and output.startswith("{"):
        output = _unpacked(output)
    if is_object(output) and "content" in output:  # how the first versions wrote it
        succeeded = as_bool(output.get("success"))
        columns["is_error"] = None if succeeded is None else not succeeded
    elif is_object(output) and is_object(output.get("metadata")):
        columns["exit_code"] = as_int(output["metadata"].get("exit_code"))
        columns["duration_s"] = as_float(output["metadata"].get("duration_seconds"))
        output = output.get("output")
    text, media = text_and_media(output)
    columns.update(_header(text or ""), media=media)
    return text, {name: value for name, value in columns.items() if value is not None}


def _unpacked(output: str) -> Any:
    """The object that a text spells, where it is the frame around a command's output."""
    try:
        value = decode(output.encode("utf-8", "surrogatepass"))
    except UnreadableRecord:
        return output
    is_frame = is_object(value) and "output" in value and is_object(value.get("metadata"))
    return value if is_frame else output


def _header(text: str) -> dict[str, Any]:
    """What the lines above a command's output say."""
    columns: dict[str, Any] = {}
    lines = text[:1000].split("\n")[:_HEADER_LINES]
    if "Output:" not in lines:
        return columns
    for line in lines[: lines.index("Output:")]:
        if found := _EXIT.fullmatch(line):
            columns["exit_code"] = int(found[1])
        elif found := _TIME.fullmatch(line):
            columns["duration_s"] = as_float(_number(found[1]))
        elif line.startswith("Total output lines: "):  # written only where lines were left out
            columns["truncated"] = True
    return columns


def _number(digits: str) -> float | None:
    try:
        return float(digits)
    except ValueError:
        return None


def ending_of(event: Object) -> dict[str, Any]:
    """Columns of a result from the event that says how its tool ended."""
    is_error = _FAILED.get(as_text(event.get("status")) or "")
    if as_bool(event.get("success")) is not None:
        is_error = not event["success"]
    result = as_object(event.get("result"))
    if "Err" in result:
        is_error = True
    elif as_bool(as_object(result.get("Ok")).get("isError")) is not None:
        is_error = result["Ok"]["isError"]
    columns = {
        "is_error": is_error,
        "exit_code": as_int(event.get("exit_code")),
        "duration_s": _seconds(event.get("duration")),
    }
    return {name: value for name, value in columns.items() if value is not None}


def _seconds(duration: Any) -> float | None:
    duration = as_object(duration)
    seconds, nanos = as_float(duration.get("secs")), as_float(duration.get("nanos"))
    return None if seconds is None else seconds + (nanos or 0) / 1e9
