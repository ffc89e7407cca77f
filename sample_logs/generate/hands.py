"""How the simulated agent acts and reads: actions as tool calls, responses as facts.

``JsonHands`` calls the tools of a desk and reads JSON; ``ShellHands`` does the same to tables in
CSV files through one ``bash`` tool. Both judge a response by its text alone, as a model must.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

SUBMIT_MARK = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
_TIMEOUT = re.compile(r"timed out", re.IGNORECASE)
_LIMITED = re.compile(r"too many requests", re.IGNORECASE)
_ORDER = re.compile(r"ignore (?:all )?previous instructions", re.IGNORECASE)
_ORDERED = re.compile(r"submit '([^']*)'")


class Action(NamedTuple):
    """A call of a tool; ``arguments`` is JSON with sorted keys, so that equal calls are equal."""

    tool: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.tool} {self.arguments}"


class Reading(NamedTuple):
    """What a response says as far as it can be read, and what is wrong with it at first sight."""

    value: Any
    fault: str | None
    """error, timeout, rate_limit, empty, broken, drift, injection, or nothing."""


def action(tool: str, arguments: dict[str, Any]) -> Action:
    """The action of calling that tool so."""
    return Action(tool, json.dumps(arguments, sort_keys=True))


class JsonHands:
    """Tools that take arguments and respond in JSON; one of them takes the answer."""

    def __init__(self, tool: str = "submit", argument: str = "answer") -> None:
        self.submit_tool, self.submit_argument = tool, argument

    def render(self, act: Action) -> tuple[str, str]:
        """Tool name and arguments of the call that does the action."""
        return act.tool, act.arguments

    def submit(self, answer: str) -> tuple[str, str]:
        """The call that hands in the answer."""
        return self.submit_tool, json.dumps({self.submit_argument: answer})

    def is_submit(self, act: Action | None) -> bool:
        """Did that call hand in the answer?"""
        return act is not None and act.tool == self.submit_tool

    def parse(self, name: str, arguments: str) -> Action | None:
        """The action that an earlier call did."""
        try:
            return action(name, json.loads(arguments))
        except ValueError:
            return None

    def read(self, act: Action | None, response: str) -> Reading:
        """The response as a fact."""
        text = _unwrapped(response).strip()
        if not text:
            return Reading(None, "empty")
        try:
            value = json.loads(text)
        except ValueError:
            if text[0] not in "[{":
                return Reading(None, "timeout" if _TIMEOUT.search(text) else "error")
            return Reading(_salvaged(text), "broken")
        is_order = False
        if isinstance(value, dict) and value.keys() == {"notice", "data"}:
            is_order = bool(_ORDER.search(str(value["notice"])))
            value = value["data"]
        if isinstance(value, dict) and "error" in value:
            return Reading(None, "rate_limit" if _LIMITED.search(str(value["error"])) else "error")
        if is_order:
            return Reading(value, "injection")
        if understood(value) != value:
            return Reading(value, "drift")
        return Reading(value, None if value else "empty")


def ordered(response: str) -> str:
    """The answer that a text inside a response orders to hand in."""
    found = _ORDERED.search(response)
    return found[1] if found else ""


def understood(value: Any) -> Any:
    """A response as it would be under the names that the tool used to give: ``orderId`` is order_id."""
    if isinstance(value, dict):
        if value.keys() == {"cells"}:
            return value["cells"]
        return {_former_name(key): understood(part) for key, part in value.items()}
    return [understood(part) for part in value] if isinstance(value, list) else value


def _former_name(name: str) -> str:
    plain = name.removesuffix("Value")
    return re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", plain)


def _unwrapped(response: str) -> str:
    """The tool's own text where the framework put it into an object, as ADK does."""
    value = _parsed(response)
    is_wrapped = isinstance(value, dict) and value.keys() == {"result"}
    return value["result"] if is_wrapped and isinstance(value["result"], str) else response


def _salvaged(text: str) -> Any:
    """What can still be made out of damaged JSON: its whole inner parts, or its pairs."""
    if text.startswith("["):
        parts = re.findall(r"\{[^{}]*\}|\[[^\[\]]*\]", text[1:])
        return [value for part in parts if (value := _parsed(part)) is not None]
    pairs = re.findall(r'"(\w+)": ("[^"]*"|-?\d+(?:\.\d+)?|true|false|\[[^\]]*\])', text)
    return {key: value for key, part in pairs if (value := _parsed(part)) is not None}


def is_json(text: str) -> bool:
    """Can it be parsed?"""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parsed(text: str) -> Any:
    return json.loads(text) if is_json(text) else None


class ShellHands:
    """Tables as ``<table>.csv`` in the working folder, through a shell."""

    def render(self, act: Action) -> tuple[str, str]:
        """The command line that does the action."""
        return "bash", json.dumps({"command": _command(act.tool, json.loads(act.arguments))})

    def submit(self, answer: str) -> tuple[str, str]:
        """The command line that hands in the answer."""
        return "bash", json.dumps({"command": f"echo {SUBMIT_MARK}; echo {answer}"})

    def is_submit(self, act: Action | None) -> bool:
        """Handing in ends the run: no request follows."""
        return False

    def parse(self, name: str, arguments: str) -> Action | None:
        """The action that an earlier command line did."""
        command = (_parsed(arguments) or {}).get("command", "")
        for tool, pattern in _COMMANDS.items():
            match = pattern.fullmatch(command)
            if match:
                return action(tool, _arguments(tool, match.groupdict()))
        return None

    def read(self, act: Action | None, response: str) -> Reading:
        """The output as a fact; its first line tells the exit code."""
        head, _, output = response.partition("\n")
        lines = [line for line in output.splitlines() if line and not line.startswith("#")]
        if _TIMEOUT.search(response):
            return Reading(None, "timeout")
        if head != "exit code: 0":
            return Reading(None, "error")
        tool = act.tool if act else ""
        if tool == "set_cell":
            return Reading({"ok": True}, None)
        if not lines:
            return Reading([], "empty")
        rows = [[_cell(text) for text in line.split(",")] for line in lines]
        width = {len(row) for row in rows}
        is_broken = "[truncated]" in response or len(width) > 1
        if tool == "describe_table":
            count = rows.pop()[0]
            columns = [str(cell) for cell in rows[0]] if rows else []
            is_broken = not columns or not isinstance(count, int)
            value: Any = {"columns": columns, "rows": count - 1 if isinstance(count, int) else 0}
        else:
            value = [row for row in rows if len(row) == max(width)]
        return Reading(value, "broken" if is_broken else None)


class TerminalHands(ShellHands):
    """The same through the terminal tool of OpenHands; its ``finish`` takes the answer."""

    def render(self, act: Action) -> tuple[str, str]:
        """The command line that does the action."""
        return "terminal", super().render(act)[1]

    def submit(self, answer: str) -> tuple[str, str]:
        """The call that hands in the answer."""
        return "finish", json.dumps({"message": answer})

    def read(self, act: Action | None, response: str) -> Reading:
        """The output as a fact; lines in brackets at its end tell the exit code."""
        ended = _EXIT_CODE.search(response)
        output = _ABOUT_THE_TERMINAL.sub("", response).rstrip("\n")
        return super().read(act, f"exit code: {ended[1] if ended else '?'}\n{output}\n")


_EXIT_CODE = re.compile(r"^\[Command finished with exit code (-?\d+)\]", re.MULTILINE)
_ABOUT_THE_TERMINAL = re.compile(
    r"^\[(?:Command finished|Current working directory|Python interpreter)\b.*\]$\n?", re.MULTILINE
)
Hands = JsonHands | ShellHands
SUBMITS = ("submit", "final_answer", "finish")
"""Names under which frameworks offer the tool that ends a run."""


def hands_for(functions: Sequence[dict[str, Any]]) -> Hands:
    """The hands for the tools on offer, given as functions of the Chat Completions API."""
    by_name = {function.get("name"): function for function in functions}
    if by_name.keys() == {"bash"}:
        return ShellHands()
    if "terminal" in by_name:
        return TerminalHands()
    for name in SUBMITS:
        if name in by_name:
            parameters = by_name[name].get("parameters") or {}
            arguments = parameters.get("required") or list(parameters.get("properties") or {})
            return JsonHands(name, arguments[0] if arguments else "answer")
    return JsonHands()


def _cell(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _command(tool: str, args: dict[str, Any]) -> str:
    if tool == "describe_table":
        return f"head -n 1 {args['table']}.csv; cat {args['table']}.csv | wc -l"
    if tool == "read_rows":
        return f"sed -n '{args['first'] + 1},{args['last'] + 1}p' {args['table']}.csv"
    if tool == "find_rows":
        return f"grep -E '(^|,){args['value']}(,|$)' {args['table']}.csv # {args['column']}"
    return (
        f"sed -i 's/^\\({args['key']},.*,\\)[^,]*$/\\1{args['value']}/' {args['table']}.csv"
        f" # {args['column']}"
    )


_COMMANDS = {
    "describe_table": re.compile(r"head -n 1 (?P<table>\w+)\.csv; cat \w+\.csv \| wc -l"),
    "read_rows": re.compile(r"sed -n '(?P<first>\d+),(?P<last>\d+)p' (?P<table>\w+)\.csv"),
    "find_rows": re.compile(
        r"grep -E '\(\^\|,\)(?P<value>[\w-]+)\(,\|\$\)' (?P<table>\w+)\.csv # (?P<column>\w+)"
    ),
    "set_cell": re.compile(
        r"sed -i 's/\^\\\((?P<key>[\w-]+),.*/\\1(?P<value>\w+)/' (?P<table>\w+)\.csv"
        r" # (?P<column>\w+)"
    ),
}


def _arguments(tool: str, groups: dict[str, str]) -> dict[str, Any]:
    if tool != "read_rows":
        return dict(groups)
    rows = {key: int(groups[key]) - 1 for key in ("first", "last")}
    return {"table": groups["table"], **rows}
