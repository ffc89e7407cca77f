"""Gemini CLI: recorded sessions (JSON, or JSON Lines that patch themselves), and ``stream-json``.

A session holds its messages in a list, or has its head on one line and a message on each later one.
There a message is written again under its id as its tools run: the last writing counts, in the place
of the first. ``{"$set": ...}`` patches the head, or replaces all messages; ``{"$rewindTo": id}`` takes
that message and all later ones out of the history, and from then on calls have a ``context``: what
was taken out did happen and is told. A head with another id begins another session.

Results lie inside the calls. Thoughts are summaries, and only their signatures are sent back, so
what the requests held stays unknown. ``input`` includes cached tokens, ``output`` leaves out thoughts.
A message that has no tokens of its own and follows one without calls is of the same model call.
Early versions of Qwen Code wrote such sessions too, with replies of type ``qwen``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.context import Range, merge
from loaders.errors import UnreadableRecord
from loaders.formats._gemini_cli_stream import Stream, is_stream_event
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    total,
)

TITLE = "Gemini CLI session"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = {
    **dict.fromkeys(
        ("type=gemini /**/id", "type=user /**/id", "type=info /**/id", "type=error /**/id"),
        "the message's id, by which later records replace it: that is done",
    ),
    "/**/tokens/total": "the sum of the counts that are kept",
    "/**/toolCalls/*/displayName": "the first one of each tool is kept beside the tool's name",
    "/**/toolCalls/*/description": "the first one of each tool is kept; others say its arguments",
    "/**/toolCalls/*/renderOutputAsMarkdown": "how the screen shows the result",
    "/**/toolCalls/*/resultDisplay/**": "the result in the screen's form; what the model got is kept",
    "/**/toolCalls/*/result/*/functionResponse/name": "the call, which it is in, has the name",
    "/**/toolCalls/*/result/*/functionResponse/id": "the call, which it is in, has the id",
    "/**/toolCalls/*/result/*/inlineData/data": "bytes of a picture or a file, whose type is kept",
    "status=executing /**/toolCalls/*/status": "a call that still runs shows as one without a result",
    "/$set/lastUpdated": "the last of these times is kept",
    "kind=main /lastUpdated": "a later patch says the time again, and the last is kept",
    "type=message /delta": "the pieces are joined to the message that they make",
    "type=message role=user /role": "who is not the model is the user",
}
_REPLIES = ("gemini", "model", "qwen")
_IS_ERROR = {"success": False, "error": True}
_CONTEXT_OF_SESSION = "<session_context>"  # written by the harness, as the first user message
_TOLD_OF_HEAD = ("sessionId", "projectHash", "startTime", "directories", "type")
_SESSION_KEYS = {"id", "sessionId", "$set", "$rewindTo"}
_MOST_RANGES = 100  # a history in more pieces than that is not told


def sniff(head: Head) -> bool:
    """A session's head, or the start of a stream."""
    return {"sessionId", "projectHash"} <= head.keys or any(
        is_stream_event(record) for record in head.records
    )


def read(source: Source, out: Builder) -> None:
    """One run per session."""
    sessions: list[_Session] = []
    stream: Stream | None = None
    for pos, record in source.records():
        with out.record(pos):
            if not is_object(record):
                raise UnreadableRecord("no record of a session", pos)
            if is_stream_event(record) or (stream and not record.keys() & _SESSION_KEYS):
                stream = _next_stream(stream, record, out, pos)
                stream.tell(record, pos)
            else:
                _take(sessions, record, pos)
    if stream is not None:
        stream.finish()
    for session in sessions:
        with out.record(session.pos):
            session.tell(out)


def _next_stream(stream: Stream | None, event: Object, out: Builder, pos: str) -> Stream:
    if stream is not None and not is_stream_event(event):
        return stream
    if stream is not None:
        stream.finish()
    return Stream(out.trajectory(native_id=as_text(event.get("session_id")), pos=pos))


def _take(sessions: list[_Session], record: Object, pos: str) -> None:
    """Add a record to the session that it belongs to."""
    name = as_text(record.get("sessionId"))
    if not sessions or (name and name != sessions[-1].head.get("sessionId")):
        sessions.append(_Session(pos))
    session = sessions[-1]
    if "$set" in record:
        session.patch(as_object(record["$set"]), f"{pos}/$set")
    elif "$rewindTo" in record:
        session.rewind(as_text(record["$rewindTo"]) or "", pos)
    elif "sessionId" in record:
        session.patch(record, pos)
    elif "type" in record:
        session.put(record, pos)
    else:
        raise UnreadableRecord("neither a message nor a patch", pos)


class _Entry:
    """A message; or a cut, after which the history has only ``kept``, or what stands before ``end``."""

    def __init__(
        self, record: Object, pos: str, kept: list[int] | None = None, end: int | None = None
    ) -> None:
        self.record = record
        self.pos = pos
        self.kept = kept
        self.end = end
        self.seqs: Range = (0, 0)


class _Previous(NamedTuple):
    """What the message before was, if it was the model's."""

    has_calls: bool
    has_tokens: bool


class _Session:
    """A session as its records make it; told once all are taken."""

    def __init__(self, pos: str) -> None:
        self.pos = pos
        self.head: Object = {}
        self.entries: list[_Entry] = []
        self.places: dict[str, int] = {}  # in the entries, of the messages that the history has
        self.kept: list[Range] | None = []
        self.kept_until = 0
        self.is_cut = False
        self.edit: str | None = None
        self.previous: _Previous | None = None

    # ------------------------------------------------------------------ records

    def patch(self, head: Object, pos: str) -> None:
        self.head.update((key, value) for key, value in head.items() if key != "messages")
        messages = head.get("messages")
        if not is_array(messages):
            return
        before = dict(self.places)
        for index, message in enumerate(messages):
            place = f"{pos}/messages/{index}"
            name = self.put(as_object(message), place)
            before.pop(name, None)
        for name in before:
            del self.places[name]
        if before:
            self.entries.append(_Entry({}, pos, kept=list(self.places.values())))

    def put(self, message: Object, pos: str) -> str:
        name = as_text(message.get("id")) or pos
        known = self.places.get(name)
        if known is None:
            self.places[name] = len(self.entries)
            self.entries.append(_Entry(message, pos))
        else:
            self.entries[known].record, self.entries[known].pos = message, pos
        return name

    def rewind(self, name: str | None, pos: str) -> None:
        """Take out a message and all later ones; all messages, where there is none of that id."""
        end = len(self.entries)
        last = None
        while self.places and last != name:
            last, end = self.places.popitem()
        self.entries.append(_Entry({}, pos, end=end))

    # ------------------------------------------------------------------ telling

    def tell(self, out: Builder) -> None:
        head = self.head
        run = out.trajectory(
            native_id=as_text(head.get("sessionId")),
            pos=self.pos,
            framework="qwen-code" if self._is_of_qwen_code() else "gemini-cli",
            started_at=as_time(head.get("startTime")),
            metadata=self._metadata(),
        )
        directories = head.get("directories")
        run.environment(
            project=as_text(head.get("projectHash")),
            directories=directories if is_array(directories) else None,
        )
        for entry in self.entries:
            with out.record(entry.pos):
                if entry.kept is not None or entry.end is not None:
                    self._cut(run, entry)
                    continue
                start = run.seq
                self._tell_message(run, entry.record, entry.pos)
                entry.seqs = start, run.seq

    def _metadata(self) -> Object:
        """What the head says beyond what has its place, and the tools as calls describe them."""
        rest = {key: value for key, value in self.head.items() if key not in _TOLD_OF_HEAD}
        tools: Object = {}
        for entry in self.entries:
            for call in map(as_object, as_array(entry.record.get("toolCalls"))):
                said = {key: call[key] for key in ("displayName", "description") if call.get(key)}
                if said:
                    tools.setdefault(as_text(call.get("name")) or "", said)
        known = {key: value for key, value in rest.items() if value is not None}
        return known | ({"tools": tools} if tools else {})

    def _is_of_qwen_code(self) -> bool:
        return any(entry.record.get("type") == "qwen" for entry in self.entries)

    def _cut(self, run: Run, cut: _Entry) -> None:
        ranges: list[Range] = []
        if cut.kept is not None:
            ranges = merge(self.entries[place].seqs for place in cut.kept)
        elif cut.end is not None and self.kept is not None and cut.end < len(self.entries):
            end = self.entries[cut.end].seqs[0]
            before = merge([*self.kept, (self.kept_until, run.seq)])
            ranges = [(start, min(stop, end)) for start, stop in before if start < end]
        is_told = len(ranges) <= _MOST_RANGES and (self.kept is not None or cut.kept is not None)
        self.kept = ranges if is_told else None
        self.kept_until, self.is_cut, self.edit, self.previous = run.seq, True, "truncated", None

    def _tell_message(self, run: Run, message: Object, pos: str) -> None:
        kind, at = as_text(message.get("type")) or "unknown", as_time(message.get("timestamp"))
        text, media = _text_and_media(message.get("content"))
        previous, self.previous = self.previous, None
        if kind in _REPLIES:
            self._tell_reply(run, message, pos, previous)
        elif kind == "user" and (text or "").lstrip().startswith(_CONTEXT_OF_SESSION):
            run.event("user", text, f"{pos}/content", actor="harness", media=media, at=at)
        elif kind == "user":
            run.user(text, f"{pos}/content", media=media, at=at)
        elif kind == "error":
            run.event("error", text, pos, actor="harness", at=at)
        else:
            run.event("other", text, pos, actor=kind, at=at)

    def _tell_reply(self, run: Run, message: Object, pos: str, previous: _Previous | None) -> None:
        at, calls = as_time(message.get("timestamp")), as_array(message.get("toolCalls"))
        tokens = _tokens(message.get("tokens"))
        self.previous = _Previous(bool(calls), bool(tokens))
        goes_on = previous and not previous.has_calls and not (previous.has_tokens and tokens)
        columns: dict[str, Any] = {"model": as_text(message.get("model")), **tokens}
        known = {name: value for name, value in columns.items() if value is not None}
        if goes_on:
            run.update_step(**known)
        else:
            run.step(source_pos=pos, **known)
            self._tell_context(run)
        for index, thought in enumerate(map(as_object, as_array(message.get("thoughts")))):
            lines = as_text(thought.get("subject")), as_text(thought.get("description"))
            text = "\n".join(line for line in lines if line) or None
            when = as_time(thought.get("timestamp"))
            run.thinking(text, f"{pos}/thoughts/{index}", state="summary", at=when)
        for text, place in _thoughts_in(message.get("content")):
            run.thinking(text, f"{pos}/content{place}", state="summary", at=at)
        text, media = _text_and_media(message.get("content"))
        if text or media:
            run.message(text, f"{pos}/content", media=media, at=at)
        told = [
            _tell_call(run, as_object(call), f"{pos}/toolCalls/{index}", at)
            for index, call in enumerate(calls)
        ]
        for index, (call, seq) in enumerate(zip(map(as_object, calls), told, strict=True)):
            _tell_result(run, call, seq, f"{pos}/toolCalls/{index}")

    def _tell_context(self, run: Run) -> None:
        if self.is_cut:
            ranges = None if self.kept is None else [*self.kept, (self.kept_until, run.seq)]
            run.saw(ranges, None, "unknown", history_edit=self.edit)


# ---------------------------------------------------------------------- parts of a message


def _tokens(tokens: Any) -> dict[str, int | None]:
    if not is_object(tokens):
        return {}
    thoughts = as_int(tokens.get("thoughts"))
    return {
        "input_tokens": total(as_int(tokens.get("input")), as_int(tokens.get("tool"))),
        "output_tokens": total(as_int(tokens.get("output")), thoughts),
        "reasoning_tokens": thoughts,
        "cached_tokens": as_int(tokens.get("cached")),
    }


def _tell_call(run: Run, call: Object, pos: str, at: Any) -> int:
    call_id, name = as_text(call.get("id")), as_text(call.get("name"))
    seq = run.call(name, call.get("args"), pos, call_id=call_id, at=at)
    if agent := as_text(call.get("agentId")):
        run.spawned(agent, seq)
    return seq


def _tell_result(run: Run, call: Object, seq: int, pos: str) -> None:
    """Tell the response inside a call; one that is still to run, or was never answered, has none."""
    result, status = call.get("result"), as_text(call.get("status"))
    if result is None and status not in ("success", "error", "cancelled"):
        return
    text, media = _response(result)
    place = f"{pos}/result" if result is not None else pos
    if text is None and not media and isinstance(call.get("resultDisplay"), str):
        text, place = call["resultDisplay"], f"{pos}/resultDisplay"
    run.result(
        text,
        place,
        answers=seq,
        call_id=as_text(call.get("id")),
        is_error=_IS_ERROR.get(status or ""),
        error_type="cancelled" if status == "cancelled" else None,
        media=media,
        at=as_time(call.get("timestamp")),
    )


def _response(result: Any) -> tuple[str | None, list[str] | None]:
    """What the model was given: ``output`` or ``error`` of the response, or all of it."""
    texts: list[str] = []
    media: list[str] = []
    for part in result if is_array(result) else [result]:
        response = as_object(part).get("functionResponse")
        if not is_object(response):
            text, kinds = _text_and_media([part])
        else:
            said = as_object(response.get("response"))
            shown = as_text(said.get("output"))
            shown = as_text(said.get("error")) if shown is None else shown
            text = as_json(response.get("response")) if shown is None else shown
            _, kinds = _text_and_media(response.get("parts"))
        texts.extend([text] if text is not None else [])
        media.extend(kinds or [])
    return "\n".join(texts) if texts else None, media or None


def _text_and_media(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of parts that are no thoughts, and the types of the others."""
    if content is None or isinstance(content, str):
        return content, None
    texts: list[str] = []
    media: list[str] = []
    for part in content if is_array(content) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif is_object(part) and not part.get("thought"):
            text = as_text(part.get("text"))
            data = as_object(part.get("inlineData")) or as_object(part.get("fileData"))
            if text is not None:
                texts.append(text)
            elif part:
                media.append(as_text(data.get("mimeType")) or next(iter(part)))
    return "\n".join(texts) if texts else None, media or None


def _thoughts_in(content: Any) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(as_array(content)):
        text = as_text(as_object(part).get("text"))
        if text and as_object(part).get("thought") is True:
            yield text, f"/{index}/text"
