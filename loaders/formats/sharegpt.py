"""ShareGPT rows: ``conversations``, a list of ``{from, value}`` or of ``{role, content}`` turns.

Rows of data sets, one run each. The system prompt is a turn or the row's ``system``, tools are in
``tools``, the outcome in ``reward`` or the like. Calls are turns of their own (``function_call``),
either JSON of a name and arguments or prose with ``<function=...>`` at its end; there are no ids,
so that results answer in order. Thinking stands in think tags.

Conventions of single data sets stay text: ``Thought:``, ``Action:`` and ``Act:`` in a reply are no
calls here, and what comes back as a ``human`` turn is a user turn, unless it says that it is an
observation and a ``<function=...>`` call waits for one.
"""

from __future__ import annotations

from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import split_think_tags, text_and_media, tool_definitions
from loaders.dialects.text_tools import is_observation, split_calls
from loaders.heads import Head
from loaders.rows import identity_of, metadata_of, outcome_of, unfolded
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_object, as_text, is_array, is_object, place_of

TITLE = "ShareGPT conversations"
GIVES = ("thinking", "tools", "outcome")

_MODEL = ("gpt", "assistant", "chatgpt", "bot", "model")
_USER = ("human", "user")
_CALL = ("function_call", "function-call", "tool_call")
_RESULT = (
    "observation",
    "tool",
    "function",
    "function_response",
    "function-response",
    "tool_response",
)
_TAKEN = ("conversations", "system", "tools", "model")


def sniff(head: Head) -> bool:
    """A row with conversations of ``from`` and ``value``, or of ``role`` and ``content``."""
    turns = unfolded(head.first.get("conversations"))
    first = as_object(next(iter(as_array(turns)), None))
    return "from" in first or "role" in first


def splits(source: Source) -> bool:
    """A row on each line."""
    return source.is_json_lines


def read(source: Source, out: Builder) -> None:
    """One run per row."""
    for pos, row in source.records():
        with out.record(pos):
            _read_row(as_object(row), pos, out)


def _read_row(row: Object, pos: str, out: Builder) -> None:
    turns = unfolded(row.get("conversations"))
    if not is_array(turns):
        out.problem(pos, "a row without conversations")
        return
    run = out.trajectory(pos=pos, **identity_of(row), metadata=metadata_of(row, _TAKEN))
    definitions = tool_definitions(unfolded(row.get("tools")))
    if definitions:
        run.tools(definitions)
    elif row.get("tools"):
        run.problem(f"{pos}/tools", "tool definitions that can't be read")
    if system := as_text(row.get("system")):
        run.system(system, f"{pos}/system")
    conversation = _Conversation(run)
    for index, turn in enumerate(turns):
        conversation.tell(turn, f"{pos}/conversations/{index}")
    known = outcome_of(row)
    if any(known.values()):
        run.outcome(**known)


class _Conversation:
    """Tells the turns of a run; ``waiting`` are calls in text that no result has answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting = 0

    def tell(self, turn: Any, pos: str) -> None:
        """Tell the next turn."""
        if not is_object(turn):
            self._run.problem(pos, "no turn")
            return
        role = as_text(turn.get("from", turn.get("role")))
        key = "value" if "value" in turn else "content"
        text, media = text_and_media(turn.get(key))
        place = place_of(turn, key, pos)
        waiting, self._waiting = self._waiting, 0
        if role in _MODEL or role in _CALL:
            self._tell_reply(text or "", pos, place, is_call=role in _CALL)
        elif role in _RESULT or (waiting and role in _USER and is_observation(text)):
            self._run.result(text, place, by_order=True, media=media)
            self._waiting = max(0, waiting - 1)
        elif role in _USER:
            self._run.user(text, place, media=media)
        elif role == "system":
            self._run.system(text, place, media=media)
        else:
            self._run.event("other", text, place, actor=role, media=media)

    def _tell_reply(self, text: str, pos: str, place: str, is_call: bool) -> None:
        self._run.step(source_pos=pos)
        text, calls = split_calls(text)
        given = [(call.tool, call.arguments) for call in calls]
        if is_call and not given and (given := _json_calls(text)):
            text = ""
        if is_call and not given:
            self._run.problem(place, "a call that names no function")
        for is_thinking, piece in split_think_tags(text):
            if is_thinking:
                self._run.thinking(piece, place, state="tagged_in_text")
            else:
                self._run.message(piece, place)
        for tool, arguments in given:
            self._run.call(tool, arguments, place)
        self._waiting = len(given)


def _json_calls(text: str) -> list[tuple[str, Any]]:
    """Calls in JSON: an object of a name and arguments, or a list of such."""
    value = unfolded(text)
    calls: list[tuple[str, Any]] = []
    for call in value if is_array(value) else [value]:
        call = as_object(call)
        name = as_text(call.get("name"))
        if name is None:
            return []
        calls.append((name, call.get("arguments", call.get("parameters"))))
    return calls
