"""Transcripts of messages in OpenAI's or Anthropic's dialect, however they are laid out.

One list of messages is one run; so is a file with one message on each line. A row is a run with
what is known of it beside its messages: tools, identity, outcome. Rows that hold a model's raw
response, and halves of recorded calls, are put together as recorded calls are.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from loaders.builder import Builder
from loaders.dialects import anthropic, openai_chat
from loaders.dialects.either import (
    ANTHROPIC,
    OPENAI,
    dialect_of,
    has_anthropic_blocks,
    is_message,
    write_message,
)
from loaders.dialects.plain_chat import Message, PlainRows, tell
from loaders.dialects.responses import NAME, is_item
from loaders.dialects.text_tools import declared_tools, is_observation, split_calls
from loaders.errors import UnreadableRecord
from loaders.heads import Head, asked_once
from loaders.proxies import half_call, whole_call
from loaders.recordings import CallLog, Recording, api_in, calls_of_cassette, is_cassette
from loaders.rows import identity_of, metadata_of, outcome_of, unfolded
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_object, as_time, is_array, is_object

IGNORED: Final = {
    "type=text /**/content/*/type": "a part with a text is told as text",
    "role=user /*/role": "whoever is neither model nor system counts as the user",
    "/object": "the name of the response's type, always the same",
    "/**/available_tools/*/type": "every tool is a function, or names itself otherwise",
}
"""What of a transcript the tables leave out, beside what they leave out of recorded calls."""

_LOOKED_AT = 20
_MESSAGES_IN = ("messages", "trajectory", "prompt")
_TOOLS_IN = ("tools", "available_tools", "functions", "tool_definitions")
_TAKEN = ("messages", "trajectory", "prompt", "completion", "system", "model", *_TOOLS_IN)
# fmt: off
_FOREIGN_KEYS = frozenset((
    "info", "suite_name", "session_start", "sessionId", "projectHash", "simulations", "history",
    "schema_version", "mini_version", "trajectory_format", "latency_sec", "context_window",
    "span_kind", "resourceSpans", "conversations", "mistake_step", "class_",
    "pydantic", "source_fingerprint",
))
# fmt: on
_FOREIGN_ENDS = (b'"trajectory_format"', b'"mini_version"', b'"latency_sec"')
_FOREIGN_NAMES = (".traj", ".traj.json", "api_conversation_history.json")
_NAME_OF_A_CALL = re.compile(r".+-\d{10}(?:\.\d{1,9})?\.json")


# ---------------------------------------------------------------------- recognise


@asked_once
def dialect_in(head: Head) -> str | None:
    """The dialect of a file of transcripts or recorded calls; None for anything else.

    A list of plain texts, which either dialect could be, counts as OpenAI's.
    """
    if head.filename.endswith(_FOREIGN_NAMES) or is_completion_log(head):
        return None
    if is_cassette(head):
        return api_in(head)
    records = head.records
    if len(records) == 1 and is_array(records[0]) and not is_message(next(iter(records[0]), None)):
        records = records[0]
    records = records[:_LOOKED_AT]
    if any(_is_foreign(record) for record in records):
        return None
    dialect = api_in(head) or _dialect_of_transcripts(records)
    return None if dialect is None or _ends_foreign(head) else dialect


@asked_once
def is_completion_log(head: Head) -> bool:
    """Whether this is a completion log of OpenHands: messages first, and last when it was made."""
    if next(iter(head.first), None) != "messages" or head.is_json_lines:
        return False
    if b'"latency_sec"' in head.tail:
        return b'"timestamp"' in head.tail
    is_named_so = _NAME_OF_A_CALL.fullmatch(head.filename) is not None
    return is_named_so and any(key in head.tail for key in (b'"timestamp"', b'"fncall_response"'))


def _dialect_of_transcripts(records: list[Any]) -> str | None:
    found = [_Found.in_record(record) for record in records]
    if not found or found[0] is None:
        return None
    if any(is_item(message) for one in found if one is not None for message in one.messages):
        return NAME
    named = (dialect_of(one.messages, one.row) for one in found if one is not None)
    return next(filter(None, named), OPENAI)


def _is_foreign(record: Any) -> bool:
    record = as_object(record)
    if "nnetnav" in str(record.get("dataset", "")).lower():  # single steps of a BrowserGym agent
        return True
    return bool(_FOREIGN_KEYS & record.keys())


def _ends_foreign(head: Head) -> bool:
    """Whether a single object names another format at its end."""
    if head.is_whole or head.is_json_lines or not is_object(head.value):
        return False
    return any(end in head.tail for end in _FOREIGN_ENDS)


class _Found(NamedTuple):
    """Messages in a record, where they stand in it, and the rest of it."""

    messages: list[Any]
    places: list[str]
    row: Object

    @staticmethod
    def in_record(record: Any) -> _Found | None:
        """The messages of a row, a bare list or a single message; None where there are none."""
        if is_message(record) and not is_array(record.get("messages")):
            return _Found([record], [""], {})
        if is_array(record):
            is_list = bool(record) and is_message(record[0])
            return _Found(record, _numbered("", record), {}) if is_list else None
        record = as_object(record)
        for key in _MESSAGES_IN:
            messages = unfolded(record.get(key))
            if not is_array(messages) or not is_message(next(iter(messages), None)):
                continue
            if key == "trajectory" and not any("content" in as_object(m) for m in messages):
                continue
            places = _numbered(f"/{key}", messages)
            answer = unfolded(record.get("completion")) if key == "prompt" else None
            if is_array(answer):
                messages, places = messages + answer, places + _numbered("/completion", answer)
            return _Found(messages, places, record)
        return None


def _numbered(pointer: str, items: list[Any]) -> list[str]:
    return [f"{pointer}/{index}" for index in range(len(items))]


def are_rows(source: Source) -> bool:
    """Whether lines are rows, each with the messages of a run; told by the first one."""
    head = source.head
    first = _Found.in_record(head.value)
    is_row = first is not None and first.places != [""]
    return is_row and api_in(head) is None and source.is_json_lines


# ---------------------------------------------------------------------- read


def read(source: Source, out: Builder) -> None:
    """All runs of a source: a cassette, recorded calls, rows, lists, or a message on each line."""
    if (row := _one_plain_row(source)) is not None:  # as thousands of small files are
        with out.record(""):
            _tell_plain(out, row, "")
        return
    recording = Recording(out)
    if is_cassette(source.head):
        for call in calls_of_cassette(source, out):
            recording.add(call)
        recording.close()
        return
    log = CallLog(recording)
    lines = _MessageLines(out)
    for pos, record in _records(source):
        with out.record(pos):
            if isinstance(record, _PlainRow):
                lines.close()
                _tell_plain(out, record, pos)
                continue
            if log.add(as_object(record), pos):
                source.ties_lines()
                continue
            found = _Found.in_record(record)
            if found is None:
                lines.add_rest(record, pos)
            elif found.places == [""]:
                lines.add(record, pos)
                source.ties_lines()
            else:
                lines.close()
                _tell(out, found, pos)
    lines.close()
    log.close()
    recording.close()


def _records(source: Source) -> Any:
    """Records; a bare list of messages is one."""
    if source.is_json_lines:
        rows = PlainRows()
        return source.json_lines(lambda line: _plain_row(rows, line))
    value = source.json()
    if is_array(value) and not is_message(next(iter(value), None)):
        return ((f"/{index}", item) for index, item in enumerate(value))
    return [("", value)]


def _one_plain_row(source: Source) -> _PlainRow | None:
    """The whole of a small file, where that is one ordinary row and neither lines nor a list."""
    plain = source.plain
    is_object = plain is not None and plain[:1] == b"{" and plain.rstrip()[-1:] == b"}"
    return _plain_row(PlainRows(), plain) if plain is not None and is_object else None


class _PlainRow(NamedTuple):
    """A row of ordinary messages, decoded as such."""

    messages: list[Message]
    row: Object


def _plain_row(rows: PlainRows, line: bytes) -> _PlainRow | None:
    """The row on a line, where it is an ordinary one of OpenAI's dialect and no recorded call."""
    row = rows.row(line)
    if row is None or (_may_be_a_call(row) and (whole_call(row, "") or half_call(row, ""))):
        return None
    messages: list[Message] = row["messages"]
    is_openai = any(message.is_openai for message in messages)
    if not is_openai and dialect_of([], row) == ANTHROPIC:
        return None
    return _PlainRow(messages, row)


def _may_be_a_call(row: Object) -> bool:
    """Whether a row has an object or a list beside its messages, as a call on record has, or names itself."""
    return "object" in row or any(
        type(value) in (dict, list) for name, value in row.items() if name != "messages"
    )


def _tell_plain(out: Builder, plain: _PlainRow, pos: str) -> None:
    run = _begin(out, plain.row, pos)
    tell(run, plain.messages, f"{pos}/messages")
    _conclude(run, plain.row)


def _tell(out: Builder, found: _Found, pos: str) -> None:
    row = found.row
    dialect = dialect_of(found.messages, row)
    run = _begin(out, row, pos)
    teller = _Messages(run, dialect, has_tools=run.columns["toolset"] is not None)
    for message, place in zip(found.messages, found.places, strict=True):
        teller.tell(message, pos + place)
    _conclude(run, row)


def _begin(out: Builder, row: Object, pos: str) -> Run:
    """A run with what its row says beside the messages."""
    run = out.trajectory(
        pos=pos, **identity_of(row), metadata=metadata_of(row, _TAKEN) if row else None
    )
    _tell_tools(run, row, pos)
    system = anthropic.system_text(row.get("system"))
    if system:
        run.system(system, f"{pos}/system")
    return run


def _tell_tools(run: Run, row: Object, pos: str) -> None:
    for key in _TOOLS_IN:
        tools = unfolded(row.get(key))
        if is_array(tools) and any(is_object(tool) for tool in tools):
            has_schemas = any("input_schema" in as_object(tool) for tool in tools)
            dialect = anthropic if has_schemas else openai_chat
            run.tools(dialect.tool_definitions(tools))
            return
        if row.get(key):
            run.problem(f"{pos}/{key}", "tool definitions that can't be read")


def _conclude(run: Run, row: Object) -> None:
    """Outcome and token sums of the whole run, where its row has them."""
    known = outcome_of(row)
    if any(known.values()):
        run.outcome(**known)
    usage = row.get("usage")
    if is_object(usage):
        dialect = anthropic if "input_tokens" in usage else openai_chat
        run.set(**{k: v for k, v in dialect.usage_columns(usage).items() if v is not None})


class _Messages:
    """Tells the messages of one run, and sees to calls and definitions that are plain text."""

    def __init__(self, run: Run, dialect: str | None, has_tools: bool = False) -> None:
        self._run = run
        self._dialect = dialect
        self._has_tools = has_tools
        self._open_text_calls = 0

    def tell(self, message: Any, pos: str) -> None:
        """Tell the next message."""
        if not is_object(message):
            self._run.problem(pos, "no message")
            return
        at = as_time(message.get("timestamp", message.get("created_at")))
        role, text = message.get("role"), message.get("content")
        if not isinstance(text, str):
            text = openai_chat.text_and_media(text)[0]
        waiting, self._open_text_calls = self._open_text_calls, 0
        if role == "assistant" and self._tell_text_calls(message, text, pos, at):
            return
        if role == "user" and waiting and is_observation(text):
            self._run.result(text, f"{pos}/content", by_order=True, at=at)
            self._open_text_calls = waiting - 1
            return
        if role == "system":
            self._declare_tools(text, pos)
        write_message(self._run, message, pos, self._dialect, at=at)

    def _tell_text_calls(self, message: Object, text: str | None, pos: str, at: Any) -> bool:
        if text is None or has_anthropic_blocks(message) or as_array(message.get("tool_calls")):
            return False
        prose, calls = split_calls(text)
        if not calls:
            return False
        openai_chat.write_reply(self._run, {**message, "content": prose}, pos, at=at)
        for tool, arguments in calls:
            self._run.call(tool, arguments, f"{pos}/content", at=at)
        self._open_text_calls = len(calls)
        return True

    def _declare_tools(self, text: str | None, pos: str) -> None:
        if self._has_tools:
            return
        try:
            tools = declared_tools(text)
        except UnreadableRecord as error:
            self._run.problem(f"{pos}/content", f"declared tools: {error.reason}")
            return
        if tools:
            self._run.tools(openai_chat.tool_definitions(tools))
            self._has_tools = True


class _MessageLines:
    """A file with one message on each line: one run, and what other lines say of it."""

    def __init__(self, out: Builder) -> None:
        self._out = out
        self._run: Run | None = None
        self._messages: _Messages | None = None
        self._rest: Object = {}

    def add(self, message: Object, pos: str) -> None:
        """One more message; the first one begins the run."""
        if self._messages is None:
            self._run = self._out.trajectory(pos=pos)
            self._messages = _Messages(self._run, dialect_of([message]))
        self._messages.tell(message, pos)

    def add_rest(self, record: Any, pos: str) -> None:
        """A line that is no message; it may say how the run ended."""
        record = as_object(record)
        if self._run is not None and any(outcome_of(record).values()):
            self._rest.update(record)
        else:
            self._out.problem(pos, "neither a message nor a row with messages")

    def close(self) -> None:
        """No more messages of this run will come."""
        if self._run is not None:
            self._run.set(**identity_of(self._rest), metadata=metadata_of(self._rest, ("model",)))
            _conclude(self._run, self._rest)
        self._run = self._messages = None
        self._rest = {}


def is_anthropic(head: Head) -> bool:
    """Whether a file is a log in Anthropic's dialect."""
    return dialect_in(head) == ANTHROPIC


def is_openai(head: Head) -> bool:
    """Whether a file is a log in the dialect of OpenAI's chat completions."""
    return dialect_in(head) == OPENAI
