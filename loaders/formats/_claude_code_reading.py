"""Reads the lines of a Claude Code log, and says which of them are plain.

A line in which something has another type than declared is read again, as far as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from loaders.errors import UnreadableRecord
from loaders.formats._claude_code_lines import NOTHING, Block, Line, Message, Outcome
from loaders.jsontext import decode
from loaders.sources import Source
from loaders.values import Object, as_int, as_object, is_array, is_object

SYNTHETIC: Final = "<synthetic>"
"""Stands for the model where the harness wrote a line in its place."""
_DECLARED_BLOCKS: Final = frozenset({"text", "thinking", "tool_use", "tool_result"})
"""Types of the content blocks that ``Block`` holds in full."""
_NOT_KEPT: Final = frozenset(
    {
        *("progress", "file-history-snapshot", "last-prompt", "ai-title"),
        *("permission-mode", "cost-state"),
    }
)
"""Types of lines that repeat what others say, or show how something went on."""
_NOT_AS_DECLARED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_CONVERTED = (ValueError, OverflowError, RecursionError)
_Declared = TypeVar("_Declared", bound=Struct)

decode_line = msgspec.json.Decoder(Line).decode
"""Decodes a line as far as it is declared."""
_decode_block = msgspec.json.Decoder(Block).decode


def lines(source: Source) -> Iterator[Line]:
    """Every line of a log; the bytes are kept of what ``Line`` doesn't hold in full.

    That is of attachments, of messages with rare blocks, and of all lines without a message but
    those of ``_NOT_KEPT``.
    """
    for number, data in source.lines():
        try:
            line = decode_line(data)
        except _NOT_AS_DECLARED:
            line = _reread(source, number, data)
            if line is None:
                continue
        line.number = number
        message = line.message
        if message is None:
            if line.type not in _NOT_KEPT:
                line.data = data
        elif type(content := message.content) is list:
            for block in content:
                if block.type == "tool_use":
                    block.arguments = str(block.input, "utf-8", "replace") or None
                    block.input = NOTHING
                elif block.type == "tool_result":
                    if type(block.content) is list:  # of texts alone, it is as good as one
                        text, media = block.text_and_media
                        block.content = block.content if media else text
                elif block.type not in _DECLARED_BLOCKS:
                    line.data = data
            if len(content) == 1 and line.data is None and _is_plain(line, message, content[0]):
                line.plain = content[0]
        yield line


def _is_plain(line: Line, message: Message, block: Block) -> bool:
    """Whether a line with one block of a declared type says nothing of what is rare."""
    if line.type == "assistant":
        return (
            (message.context_management is None or message.history_edit is None)
            and message.stop_details is None
            and message.diagnostics is None
            and message.id is not None
            and message.model != SYNTHETIC
            and line.error is None
            and line.error_details is None
            and not line.is_aborted_mid_stream
            and line.is_api_error_message is not True
            and block.type != "tool_result"
        )
    noted = line.tool_use_result
    return (
        line.type == "user"
        and block.type == "tool_result"
        and type(block.content) is str
        and block.tool_use_id is not None
        and line.tool_denial_kind is None
        and (
            type(noted) is not Outcome
            or (noted.agent_id is None and as_int(noted.exit_code) == noted.exit_code)
        )
    )


def _reread(source: Source, number: int, data: bytes) -> Line | None:
    source.position = f"L{number}"
    try:
        record = decode(data)
    except UnreadableRecord as error:
        source.problem(source.position, error.reason)
        return None
    if not is_object(record):
        source.problem(source.position, "a line that is no JSON object")
        return None
    line = _what_fits(Line, record)
    if line.message is None and is_object(record.get("message")):
        message = as_object(record["message"])
        line.message = _what_fits(Message, message)
        if is_array(message.get("content")):
            line.message.content = [_block_of(value) for value in message["content"]]
    if line.tool_use_result is None:
        line.tool_use_result = _what_fits(Outcome, as_object(record.get("toolUseResult")))
    return line


def _what_fits(kind: type[_Declared], record: Object) -> _Declared:
    kept: dict[str, Any] = {}
    for name, key, decode_value in _fields(kind):
        if key in record:
            try:
                kept[name] = decode_value(msgspec.json.encode(record[key]))
            except _NOT_CONVERTED:
                continue
    return kind(**kept)


@cache
def _fields(kind: type[Struct]) -> list[tuple[str, str, Callable[[bytes], Any]]]:
    """Of each field of a struct its name, its key in the log, and what decodes it."""
    return [
        (declared.name, declared.encode_name, msgspec.json.Decoder(declared.type).decode)
        for declared in msgspec.structs.fields(kind)
    ]


def _block_of(value: Any) -> Block:
    """A block of an untyped message; of no plain type, where it is not as declared."""
    try:
        return _decode_block(msgspec.json.encode(value))
    except _NOT_CONVERTED:
        return Block(type="not as declared")
