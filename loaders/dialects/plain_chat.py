"""Rows of chat messages in their ordinary shape: decoded as declared, told without detours.

Ordinary are texts as content, thinking as a text beside it, and calls of functions. Whatever has
another shape is refused here and left to ``openai_chat``, which reads all of them; for ordinary rows
both ways give the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from loaders.dialects.openai_chat import squeezed, write_text
from loaders.dialects.text_tools import may_call, may_declare_tools
from loaders.run import Run
from loaders.values import Object, as_time

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
    def is_ordinary(self) -> bool:
        """Whether nothing in its texts stands for calls or definitions of tools."""
        role, text = self.role, self.content
        if not text:
            return role in _ROLES
        if role == "assistant":
            return bool(self.tool_calls) or not may_call(text)
        return role in _ROLES and (role != "system" or not may_declare_tools(text))

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
            or not all(message.is_ordinary for message in messages)
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
    """How many quotation marks a row has as text, if no key repeats and none is written in code."""
    rest = {name: value for name, value in row.items() if name != "messages"}
    count = 2 + msgspec.json.encode(rest).count(b'"')
    for message in messages:
        count += 4 + message.role.count('"')
        for text in (
            message.content,
            message.tool_call_id,
            message.reasoning_content,
            message.reasoning,
            message.name,
            message.timestamp,
        ):
            if text is not UNSET:
                count += 4 + text.count('"') if type(text) is str else 2
        if message.tool_calls is not UNSET:
            count += 2
            for call in message.tool_calls or ():
                count += 2
                for text in (call.id, call.type, call.function.name, call.function.arguments):
                    if text is not UNSET:
                        count += 2 if text is None else 4 + text.count('"')
                if call.index is not UNSET:
                    count += 2
        for nothing in (
            message.refusal,
            message.function_call,
            message.reasoning_details,
            message.thinking_blocks,
        ):
            if nothing is None:
                count += 2
    return count


def tell(run: Run, messages: Sequence[Message], pos: str) -> None:
    """Tell ordinary messages, which stand at ``pos``, to ``run``."""
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
