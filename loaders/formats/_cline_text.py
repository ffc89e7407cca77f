"""What Cline writes into texts: calls as XML in a reply, and a tool's response as a user's text.

A call stands in a pair of tags that is named after the tool, with a pair for each argument. The
response begins with the tool's name and what it was asked for in brackets; older versions have only
that in one block and the response itself in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# fmt: off
TOOLS = frozenset((
    "execute_command", "read_file", "write_to_file", "replace_in_file", "apply_diff", "search_files",
    "list_files", "list_code_definition_names", "browser_action", "inspect_site", "use_mcp_tool",
    "access_mcp_resource", "load_mcp_documentation", "ask_followup_question", "attempt_completion",
    "plan_mode_respond", "plan_mode_response", "act_mode_respond", "new_task", "condense",
    "summarize_task", "new_rule", "report_bug", "web_fetch", "web_search", "use_skill",
    "use_subagents", "generate_explanation", "insert_content", "search_and_replace", "switch_mode",
    "fetch_instructions", "codebase_search", "update_todo_list", "run_slash_command", "apply_patch",
))
# fmt: on
"""Names of the tools of Cline and of what was made out of it."""

_OPENING = re.compile(f"<({'|'.join(sorted(TOOLS))})>")
_ARGUMENT = re.compile(r"<(\w{1,64})>")
_OF_ANY_TEXT = ("content", "diff", "result", "arguments")
_MOST_UNCLOSED = 100
_RESULT = re.compile(r"\[([A-Za-z_]\w{0,63})[\] ]")
_RESULT_END = "] Result:"
_LONGEST_HEADER = 10_000


class TextCall(NamedTuple):
    """A call that was written into a reply."""

    tool: str
    arguments: dict[str, str]


def pieces(text: str) -> Iterator[str | TextCall]:
    r"""Prose and calls of a reply, in their order; a tag that is not closed is prose.

    >>> list(pieces("Look.\n<read_file>\n<path>a.py</path>\n</read_file>"))
    ['Look.\n', TextCall(tool='read_file', arguments={'path': 'a.py'})]
    """
    told = at = 0
    unclosed: set[str] = set()
    while (opening := _OPENING.search(text, at)) is not None:
        name, at = opening[1], opening.end()
        closing = f"</{name}>"
        end = -1 if name in unclosed else text.find(closing, at)
        if end < 0:
            unclosed.add(name)
            continue
        if text[told : opening.start()].strip():
            yield text[told : opening.start()]
        yield TextCall(name, _arguments(text[at:end]))
        told = at = end + len(closing)
    if text[told:].strip():
        yield text[told:]


def _arguments(body: str) -> dict[str, str]:
    """The arguments of a call; one that can hold any text ends where its tag is last closed."""
    found: dict[str, str] = {}
    at = unclosed = 0
    while unclosed < _MOST_UNCLOSED and (opening := _ARGUMENT.search(body, at)) is not None:
        name, at = opening[1], opening.end()
        closing = f"</{name}>"
        end = body.rfind(closing, at) if name in _OF_ANY_TEXT else body.find(closing, at)
        if end < 0:
            unclosed += 1
            continue
        found.setdefault(name, _without_frame(body[at:end]))
        at = end + len(closing)
    return found


def _without_frame(value: str) -> str:
    """A value without the line breaks that set it apart from its tags."""
    return value.removeprefix("\n").removesuffix("\n")


def tool_of_result(text: str) -> tuple[str | None, bool]:
    """The tool whose response a user's text is, and whether the response is in the next block.

    >>> tool_of_result("[read_file for 'a.py'] Result:"), tool_of_result("Result:")
    (('read_file', True), (None, False))
    """
    named = _RESULT.match(text)
    end = text.find(_RESULT_END, 0, _LONGEST_HEADER) if named is not None else -1
    if named is None or end < 0:
        return None, False
    return named[1], not text[end + len(_RESULT_END) :].strip()
