"""Tools for models without tool calling: calls, results and definitions written into plain text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import is_array

_CALL, _CALL_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
_NAME = re.compile(r"[^<>\n]+(?=>)")
_SPACE = re.compile(r"\s*")
_OBSERVATION = re.compile(
    r"observation:|execution result of \[|"
    r"your command ran successfully and did not produce any output\.",
    re.IGNORECASE,
)
_TOOL_DECLARATION = re.compile(
    r"<\|im_system\|>tool_declare<\|im_middle\|>(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL
)


class TextCall(NamedTuple):
    """A tool call that was written into a reply."""

    tool: str
    arguments: dict[str, str]


def may_call(text: str) -> bool:
    """Whether a reply may end in calls; where it may not, it is all prose."""
    return _CALL in text


def may_declare_tools(text: str) -> bool:
    """Whether a text may be a ``tool_declare`` turn."""
    return "<|im_system|>" in text


def split_calls(text: str) -> tuple[str, list[TextCall]]:
    r"""The prose before the calls at the end of a reply, and the calls.

    Where anything about them is not exactly as it should be, all of it stays prose.

    >>> split_calls("Look.\n<function=bash>\n<parameter=command>ls</parameter>\n</function>")
    ('Look.\n', [TextCall(tool='bash', arguments={'command': 'ls'})])
    """
    start = text.find(_CALL)
    calls: list[TextCall] = []
    at = start
    while 0 <= at < len(text):
        parsed = _call_at(text, at)
        if parsed is None:
            return text, []
        call, at = parsed
        calls.append(call)
    return (text[:start], calls) if calls else (text, [])


def _call_at(text: str, at: int) -> tuple[TextCall, int] | None:
    named = _name_at(text, at, _CALL)
    if named is None:
        return None
    tool, at = named
    arguments: dict[str, str] = {}
    at = _skip_space(text, at)
    while (named := _name_at(text, at, _PARAMETER)) is not None:
        name, start = named
        end = text.find(_PARAMETER_END, start)
        if end < 0 or name in arguments:
            return None
        arguments[name] = _without_frame(text[start:end])
        at = _skip_space(text, end + len(_PARAMETER_END))
    if not text.startswith(_CALL_END, at):
        return None
    return TextCall(tool, arguments), _skip_space(text, at + len(_CALL_END))


def _name_at(text: str, at: int, opening: str) -> tuple[str, int] | None:
    if not text.startswith(opening, at):
        return None
    name = _NAME.match(text, at + len(opening))
    return (name.group(), name.end() + 1) if name else None


def _skip_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _without_frame(value: str) -> str:
    """A value without the line breaks that set it apart from its tags."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "\n" else value


def is_observation(text: str | None) -> bool:
    """Whether a user's message says in its first words that it is a tool's response."""
    return text is not None and _OBSERVATION.match(text.lstrip()) is not None


def declared_tools(text: str | None) -> list[Any] | None:
    """The tool definitions of a ``tool_declare`` turn; None where a text is no such turn.

    Raises ``UnreadableRecord`` where it is one, and its definitions are no JSON.
    """
    declaration = _TOOL_DECLARATION.search(text or "")
    if declaration is None:
        return None
    definitions = decode(declaration[1].strip().encode("utf-8", "surrogatepass"))
    if not is_array(definitions):
        raise UnreadableRecord("a tool_declare turn holds no list of definitions")
    return definitions
