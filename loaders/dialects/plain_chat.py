"""Rows of chat messages in their ordinary shape: decoded as declared, told without detours.

Ordinary are texts as content, thinking as a text beside it, and calls of functions. Whatever has
another shape is refused here and left to ``openai_chat``, which reads all of them; for ordinary rows
both ways give the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from loaders.dialects.openai_chat import has_think_tag, squeezed, write_text
from loaders.dialects.text_tools import may_call, may_declare_tools
from loaders.run import Run, response_pieces
from loaders.values import Object, as_time
from loaders.whole_runs import Rows

_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool"))
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_PATIENCE: Final = 16
"""After so many rows of another shape, one after the other, no more are tried."""


class _Function(Struct, gc=False, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class _Call(Struct, gc=False, forbid_unknown_fields=True):
    function: _Function
    id: str | UnsetType | None = UNSET
    type: str | UnsetType = UNSET
    index: int | UnsetType = UNSET


class Message(Struct, gc=False, forbid_unknown_fields=True):
    """An ordinary message; one that has any other field is none."""

    role: str
    content: str | UnsetType | None = UNSET
    tool_calls: list[_Call] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    timestamp: str | float | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    function_call: UnsetType | None = UNSET
    reasoning_details: UnsetType | None = UNSET
    thinking_blocks: UnsetType | None = UNSET

    @property
    def is_openai(self) -> bool:
        """Whether only OpenAI's dialect has such a message."""
        return bool(
            self.role == "tool"
            or self.tool_calls
            or self.tool_call_id
            or self.reasoning_content
            or self.reasoning
        )


def _are_ordinary(messages: Sequence[Message]) -> bool:
    """Whether nothing in their texts stands for calls or definitions of tools."""
    for message in messages:
        role, text = message.role, message.content
        if role == "assistant":
            if text and not message.tool_calls and may_call(text):
                return False
        elif role not in _ROLES or (role == "system" and text and may_declare_tools(text)):
            return False
    return True


# At most one kind of list can be told apart; a row with others is decoded in two goes.
_Value = list[Message] | dict[str, Any] | str | int | float | bool | None
_row = msgspec.json.Decoder(dict[str, _Value]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_messages = msgspec.json.Decoder(list[Message]).decode
_value: Any = msgspec.json.Decoder[Any]().decode


class PlainRows:
    """Decodes the ordinary rows among the lines of a file."""

    def __init__(self) -> None:
        self._patience = _PATIENCE
        self._has_lists = False

    def row(self, data: bytes) -> Object | None:
        """A row whose ``messages`` are all ordinary ``Message``; None for any other record.

        None also where a key may stand twice in one object: the general decoder will tell.
        """
        if not self._patience:
            return None
        row = self._decoded(data)
        messages: list[Message] | None = None if row is None else row.get("messages")
        if (
            row is None
            or not messages
            or not _are_ordinary(messages)
            or data.count(b'"') != _quotes_in(row, messages)
        ):
            self._patience -= 1
            return None
        self._patience = _PATIENCE
        return row

    def _decoded(self, data: bytes) -> Object | None:
        if not self._has_lists:
            try:
                row = _row(data)
                lists = [name for name, value in row.items() if value and type(value) is list]
                if lists in ([], ["messages"]):
                    return row
            except _REFUSED:
                pass
        try:
            row = {
                name: _messages(raw) if name == "messages" else _value(raw)
                for name, raw in _fields(data).items()
            }
        except _REFUSED:
            return None
        self._has_lists = True
        return row


def _quotes_in(row: Object, messages: Sequence[Message]) -> int:
    """How many quotation marks a row has as text, if no key repeats and none is written in code.

    Two around each key and each text, and those that stand inside texts.
    """
    told: list[Any] = [*chain.from_iterable(map(astuple, messages))]
    calls = [call for message in messages for call in message.tool_calls or ()]
    told += chain.from_iterable(map(astuple, calls))
    told += chain.from_iterable(map(astuple, [call.function for call in calls]))
    values = [value for value in told if value is not UNSET]
    texts = [value for value in values if type(value) is str]
    rest = {name: value for name, value in row.items() if name != "messages"}
    around = 2 * (1 + len(values) + len(texts))
    return around + "".join(texts).count('"') + msgspec.json.encode(rest).count(b'"')


def tell(run: Run, messages: Sequence[Message], pos: str) -> None:
    """Tell ordinary messages, which stand at ``pos``, to ``run``."""
    if run.seq == 0 and (rows := _rows_of(messages, pos)) is not None:
        run.tell_rows(rows)
        return
    for index, message in enumerate(messages):
        where = f"{pos}/{index}"
        at = None if message.timestamp is UNSET else as_time(message.timestamp)
        role = message.role
        if role == "assistant":
            _tell_reply(run, message, where, at)
            continue
        text, place = None, where
        if type(message.content) is str:
            text, place = message.content, f"{where}/content"
        if role == "tool":
            call_id = _set(message.tool_call_id)
            by_order = call_id is None
            tool = _set(message.name)
            run.result(text, place, call_id=call_id, tool=tool, by_order=by_order, at=at)
        elif role == "user":
            run.user(text, place, actor=_set(message.name), at=at)
        else:
            run.system(text, place, actor=_set(message.name), at=at)


def _rows_of(messages: Sequence[Message], pos: str) -> Rows | None:  # noqa: PLR0915
    """What messages tell, as rows; one loop without calls, for this is where the time goes.

    None where it takes more to tell them: times, thinking in tags or in two places, results without
    an id, ids that repeat.
    """
    rows = Rows()
    tell_event, tell_step, responses = rows.events.append, rows.steps.append, rows.responses
    calls: dict[str, tuple[int, str | None]] = {}
    seq, step, thoughts = 0, None, 0
    for index, message in enumerate(messages):
        where = f"{pos}/{index}"
        role, text = message.role, message.content
        if message.timestamp is not UNSET:
            return None
        if role == "assistant":
            step = 0 if step is None else step + 1
            thought, key = message.reasoning_content, "reasoning_content"
            if message.reasoning:
                if thought:
                    return None
                thought, key = message.reasoning, "reasoning"
            if thought:
                tell_step((step, seq, "text", len(thought), thoughts, where))
                place = f"{where}/{key}"
                tell_event((
                    seq, step, "thinking", None, thought, "text", None, None, None, None, place,
                ))  # fmt: skip
                seq, thoughts = seq + 1, thoughts + 1
            else:
                tell_step((step, seq, None, 0, thoughts, where))
            if text:
                if has_think_tag(text):
                    return None
                if not text.isspace():
                    place = f"{where}/content"
                    tell_event(
                        (seq, step, "message", None, text, None, None, None, None, None, place)
                    )
                    seq += 1
            if message.tool_calls:
                for number, call in enumerate(message.tool_calls):
                    function, call_id = call.function, call.id
                    name = function.name
                    if not name:
                        name = None if name is UNSET else name
                    if call_id in calls or not call_id:
                        return None
                    calls[call_id] = (seq, name)
                    given, place = function.arguments, f"{where}/tool_calls/{number}"
                    if given is UNSET:
                        given = None
                    tell_event((
                        seq, step, "tool_call", None, None, None, name, call_id, None, given, place,
                    ))  # fmt: skip
                    seq += 1
            continue
        name = message.name
        if not name:
            name = None if name is UNSET else name
        place = f"{where}/content"
        if type(text) is not str:
            text, place = None, where
        if role == "tool":
            call_id, call_seq = message.tool_call_id, None
            if not call_id:
                return None
            if call_id in calls:
                call_seq, called = calls[call_id]
                name = name or called
                rows.answered.add(call_seq)
            else:
                rows.orphans += 1
            responses += response_pieces(name, text, None)
            tell_event((
                seq, step, "tool_result", None, text, None, name, call_id, call_seq, None, place,
            ))  # fmt: skip
        elif role == "user":
            rows.user = rows.user or text
            tell_event((seq, step, "user", name, text, None, None, None, None, None, place))
        else:
            rows.system = rows.system or text
            tell_event((seq, step, "system", name, text, None, None, None, None, None, place))
        seq += 1
    rows.calls = len(calls)
    return rows


def _tell_reply(run: Run, message: Message, where: str, at: datetime | None) -> None:
    run.step(source_pos=where)
    seen = ""
    if text := message.reasoning_content:
        run.thinking(text, f"{where}/reasoning_content", at=at)
        seen = text
    if (text := message.reasoning) and (not seen or squeezed(text) not in squeezed(seen)):
        run.thinking(text, f"{where}/reasoning", at=at)
        seen += text
    if text := message.content:
        write_text(run, text, f"{where}/content", seen, at=at)
    for index, call in enumerate(message.tool_calls or ()):
        function = call.function
        name, arguments = _set(function.name), _set(function.arguments)
        call_id = _set(call.id)
        run.call(name, arguments, f"{where}/tool_calls/{index}", call_id=call_id, at=at)


def _set(value: str | UnsetType | None) -> str | None:
    return None if value is UNSET else value
