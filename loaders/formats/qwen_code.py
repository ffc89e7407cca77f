"""Qwen Code sessions: JSON Lines in a tree of records, with the parts of Gemini's API.

A record has ``uuid``, ``parentUuid`` and ``sessionId``. Going back to an earlier record leaves a branch
behind: records are told in the order of the file, and from where a branch leaves some out of what a
call sees, calls have a ``context``. Records that share a ``uuid`` are one reply written in pieces. Two
writers can lose the newline between two records: such a line is read as several (``L1/0``, ``L1/1``).

What hooks add to a user's turn is told apart from it, notifications and the like are turns of the
harness. A compression says what the history holds after it; what was kept of the history before is
not marked, so the ``context`` of later calls is unknown. Telemetry repeats what the records say and is
counted, but for failed calls of the API, which stand nowhere else. Thoughts of Gemini models are
summaries, those of others the text; whether they were sent back is not logged. Counts of reasoning
tokens may or may not be part of ``candidatesTokenCount``: the total tells.

Records of a subagent (``isSidechain``) are a run of their own. Early versions wrote the sessions of
Gemini CLI, which that format reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.context import Range
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.jsontext import NotJSON, decode_glued, decode_with_doubt
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
    is_object,
    total,
)

TITLE = "Qwen Code session"
GIVES = ("thinking", "tokens")
IGNORED = {
    "/uuid": "names a record for the tree, whose branches show in the contexts of calls",
    "/parentUuid": "names a record for the tree, whose branches show in the contexts of calls",
    "/message/role": "follows from the type of the record",
    "/promptId": "names a user's turn for the interface; turns stand in their order",
    "/daemonPromptId": "names a user's turn for the interface; turns stand in their order",
    "type=system /type": "what such a record is, its subtype says",
    "type=system subtype=ui_telemetry /timestamp": "when a measure was taken; errors have their time",
    "/usageMetadata/totalTokenCount": "the sum of the counts that are kept",
    "/usageMetadata/*Details/**": "which kind of content the tokens were, of counts that are kept",
    "/systemPayload/hookContext": "repeats a part of the same turn, which is told",
    "type=user /systemPayload/**": "how the interface showed the turn, whose parts are told",
    "type=system subtype=ui_telemetry /systemPayload/**": (
        "measures of calls that the records of replies and results tell; errors of the API are told"
    ),
    "/systemPayload/compressedHistory/**": (
        "the history after a compression: its summary is told, the rest repeats earlier turns"
    ),
    "/toolCallResult/resultDisplay/**": "what the interface showed of the response, which is told",
    "/toolCallResult/callId": "repeats the id inside the response",
    "/toolCallResult/contentLength": "the length of the response, which is told",
    "/forkedFrom/messageUuid": "the record's own name, as the session it was copied from has it",
    "/agentColor": "how the interface paints the lines of a subagent",
}

_IS_ERROR = {"success": False, "error": True}
_OF_HOOKS = "<qwen:user-prompt-submit-context>"
_TYPED = (None, "mid_turn_user_message")  # subtypes of what the user said
_MAX_PIECES = 64
_FACTS = {
    "agentName": "agent_name",
    "contextWindowSize": "context_window",
    "gitBranch": "git_branch",
}


def sniff(head: Head) -> bool:
    """A record of the tree whose message has parts, or that carries a payload of the system."""
    return any(_is_record(record) for record in (head.first, *head.records))


def _is_record(record: Any) -> bool:
    if not is_object(record) or not {"uuid", "parentUuid", "sessionId"} <= record.keys():
        return False
    return "systemPayload" in record or "parts" in as_object(record.get("message"))


def read(source: Source, out: Builder) -> None:
    """A run per session, then one for each subagent whose records stand among its own."""
    sessions: dict[tuple[str | None, str | None], list[tuple[str, Object]]] = {}
    for pos, record in _records(source):
        if not is_object(record) or "type" not in record:
            source.problem(pos, "no record of a session")
            continue
        agent = as_text(record.get("agentId")) if record.get("isSidechain") is True else None
        sessions.setdefault((as_text(record.get("sessionId")), agent), []).append((pos, record))
    told: dict[str | None, _Session] = {}
    for (name, agent), records in sorted(sessions.items(), key=lambda item: item[0][1] is not None):
        run = out.trajectory(native_id=agent or name, pos=records[0][0], framework="qwen-code")
        parent = told.get(name) if agent else None
        if parent is not None and agent is not None:
            run.set(
                parent_id=parent.run.columns["trajectory_id"], parent_seq=parent.started.get(agent)
            )
        session = _Session(run)
        told.setdefault(name, session)
        for pos, record in records:
            with out.record(pos):
                session.tell(record, pos)
        session.finish(name if agent else None)


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    """Records with their lines; those that share a line are numbered."""
    if not source.is_json_lines and b"\n" in source.head.data.strip():
        yield from source.records()
        return
    for number, line in source.lines():
        pos = f"L{number}"
        try:
            record, doubt = decode_with_doubt(line)
            if doubt:
                source.doubt(pos, doubt)
            yield pos, record
        except NotJSON as error:
            records, reason = decode_glued(line)
            yield from ((f"{pos}/{index}", record) for index, record in enumerate(records))
            if reason:
                source.problem(pos, error.reason)
            else:
                source.doubt(pos, "several records on one line, read as such")
        except UnreadableRecord as error:
            source.problem(pos, error.reason)


class _View(NamedTuple):
    """What a call after a record sees: ranges of events, None where that is not known."""

    ranges: tuple[Range, ...] | None = ()
    edit: str | None = None

    def grown(self, start: int, stop: int) -> _View:
        """The view with the events of one more record."""
        if self.ranges is None or start == stop:
            return self
        if self.ranges and self.ranges[-1][1] == start:
            return _View((*self.ranges[:-1], (self.ranges[-1][0], stop)), self.edit)
        ranges = (*self.ranges, (start, stop)) if len(self.ranges) < _MAX_PIECES else None
        return _View(ranges, self.edit)


class _Session:
    """Tells the records of one session, or of one subagent, in the order of the file."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._view, self._views = _View(), {"": _View()}
        self._latest: str | None = None
        self._reply: str | None = None
        self._calls: dict[str, int] = {}
        self.started: dict[str, int] = {}
        self._facts: dict[str, Any] = {}
        self._versions: dict[str, None] = {}
        self._folders: dict[str, None] = {}
        self._telemetry: Counter[str] = Counter()

    # ------------------------------------------------------------------ the tree

    def tell(self, record: Object, pos: str) -> None:
        """One record, wherever in the tree it stands."""
        self._note(record)
        name, parent = as_text(record.get("uuid")) or pos, as_text(record.get("parentUuid"))
        if self._latest not in (name, parent):
            known = self._views.get(parent or "")
            is_cut = known is not None and known.ranges != self._view.ranges
            known = known or _View(None)
            self._view = _View(known.ranges, known.edit or ("truncated" if is_cut else None))
        start, self._latest = self.run.seq, name
        at = as_time(record.get("timestamp"))
        self._tell(record, name, pos, at)
        self._view = self._views[name] = self._view.grown(start, self.run.seq)

    def _note(self, record: Object) -> None:
        """Facts of the session that each of its records repeats: the last one counts."""
        if version := as_text(record.get("version")):
            self._versions[version] = None
        if folder := as_text(record.get("cwd")):
            self._folders[folder] = None
        for key, fact in _FACTS.items():
            if record.get(key) is not None:
                self._facts[fact] = record[key]
        if origin := as_text(as_object(record.get("forkedFrom")).get("sessionId")):
            self._facts["forked_from"] = origin

    def _tell(self, record: Object, name: str, pos: str, at: datetime | None) -> None:
        kind, subtype = as_text(record.get("type")), as_text(record.get("subtype"))
        parts = as_array(as_object(record.get("message")).get("parts"))
        place = f"{pos}/message/parts"
        if kind != "assistant":
            self._reply = None
        if kind == "user":
            self._tell_turn(parts, place, subtype, at)
            self._link(as_object(record.get("systemPayload")))
        elif kind == "assistant":
            self._tell_reply(record, name, pos, at)
        elif kind == "tool_result":
            self._tell_results(record, parts, place, at)
        else:
            self._tell_system(record, subtype or kind, pos, at)
            for index, part in self._parts(parts, place):
                self.run.system(as_text(part.get("text")), f"{place}/{index}", at=at)

    # ------------------------------------------------------------------ turns and replies

    def _tell_turn(
        self, parts: list[Any], pos: str, subtype: str | None, at: datetime | None
    ) -> None:
        for index, part in self._parts(parts, pos):
            text = as_text(part.get("text"))
            place = f"{pos}/{index}/text" if text is not None else f"{pos}/{index}"
            media = None if text is not None else [_media(part)]
            if text is not None and text.lstrip().startswith(_OF_HOOKS):
                self.run.event("user", text, place, actor="hook", at=at)
            elif subtype in _TYPED:
                self.run.user(text, place, media=media, at=at)
            else:
                self.run.event("user", text, place, actor=subtype, media=media, at=at)

    def _tell_reply(self, record: Object, name: str, pos: str, at: datetime | None) -> None:
        model = as_text(record.get("model"))
        columns: dict[str, Any] = {"model": model, "ended_at": at}
        columns.update(_tokens(as_object(record.get("usageMetadata"))))
        known = {key: value for key, value in columns.items() if value is not None}
        if name == self._reply:
            self.run.update_step(**known)
        else:
            self.run.step(source_pos=pos, **known)
            if self._view.edit:
                self.run.saw(self._view.ranges, None, "unknown", history_edit=self._view.edit)
        self._reply = name
        state = "summary" if (model or "").startswith("gemini") else "text"
        parts, place = (
            as_array(as_object(record.get("message")).get("parts")),
            f"{pos}/message/parts",
        )
        for index, part in self._parts(parts, place):
            self._tell_part(part, f"{place}/{index}", state, at)

    def _parts(self, parts: list[Any], pos: str) -> Iterator[tuple[int, Object]]:
        for index, part in enumerate(parts):
            if is_object(part) and part:
                yield index, part
            else:
                self.run.problem(f"{pos}/{index}", "an empty part")

    def _tell_part(self, part: Object, pos: str, state: str, at: datetime | None) -> None:
        text, signature = as_text(part.get("text")), as_text(part.get("thoughtSignature"))
        call = part.get("functionCall")
        if part.get("thought") is True:
            state = state if text else "hidden"
            self.run.thinking(text or None, pos, state=state, signature=signature, at=at)
            return
        if signature:  # of a thought that is not shown
            self.run.thinking(None, pos, state="hidden", signature=signature, at=at)
        if is_object(call):
            name = as_text(call.get("id"))
            place = f"{pos}/functionCall"
            seq = self.run.call(
                as_text(call.get("name")), call.get("args"), place, call_id=name, at=at
            )
            self._calls[name or ""] = seq
        elif text is not None:
            self.run.message(text, f"{pos}/text", at=at)
        else:
            self.run.message(None, pos, media=[_media(part)], at=at)

    def _tell_results(
        self, record: Object, parts: list[Any], pos: str, at: datetime | None
    ) -> None:
        noted = as_object(record.get("toolCallResult"))
        status = as_text(noted.get("status"))
        error_type = as_text(noted.get("errorType"))
        for index, part in self._parts(parts, pos):
            response = as_object(part.get("functionResponse"))
            if not response:
                text = as_text(part.get("text"))
                media = None if text is not None else [_media(part)]
                self.run.event("user", text, f"{pos}/{index}", actor="tool", media=media, at=at)
                continue
            self.run.result(
                _response(response.get("response")),
                f"{pos}/{index}/functionResponse",
                call_id=as_text(response.get("id")),
                tool=as_text(response.get("name")),
                is_error=_IS_ERROR.get(status or ""),
                error_type=error_type or ("cancelled" if status == "cancelled" else None),
                media=[_media(as_object(p)) for p in as_array(response.get("parts"))] or None,
                at=at,
            )
        if isinstance(noted.get("error"), str):
            self.run.event("error", noted["error"], _beside(pos, "toolCallResult/error"), at=at)

    def _link(self, payload: Object) -> None:
        """A notification names the call that started a subagent in the background."""
        task = as_object(payload.get("backgroundTask"))
        name, call = as_text(task.get("taskId")), as_text(task.get("toolUseId"))
        if task.get("kind") == "agent" and name and call in self._calls:
            self.started[name] = self._calls[call]
            self.run.spawned(name, self._calls[call])

    # ------------------------------------------------------------------ records of the system

    def _tell_system(
        self, record: Object, subtype: str | None, pos: str, at: datetime | None
    ) -> None:
        payload = as_object(record.get("systemPayload"))
        place = f"{pos}/systemPayload" if payload else pos
        if subtype == "ui_telemetry":
            self._tell_telemetry(as_object(payload.get("uiEvent")), f"{place}/uiEvent")
        elif subtype == "chat_compression":
            self._tell_compression(payload, place, at)
        else:
            self._facts["title"] = as_text(payload.get("customTitle")) or self._facts.get("title")
            self.run.event("other", as_json(payload or None), place, actor=subtype, at=at)

    def _tell_telemetry(self, event: Object, pos: str) -> None:
        error = as_text(event.get("error_message"))
        if error is None:
            self._telemetry["tool calls" if "function_name" in event else "replies"] += 1
            return
        kind, code = as_text(event.get("error_type")), as_int(event.get("status_code"))
        words = [kind, str(code) if code else None]
        self.run.event(
            "error",
            error,
            f"{pos}/error_message",
            actor=as_text(event.get("model")),
            error_type=" ".join(word for word in words if word) or None,
            at=as_time(event.get("event.timestamp")),
        )

    def _tell_compression(self, payload: Object, pos: str, at: datetime | None) -> None:
        history = as_array(payload.get("compressedHistory"))
        first = as_array(as_object(history[0] if history else None).get("parts"))
        text = as_text(as_object(first[0] if first else None).get("text"))
        place = f"{pos}/compressedHistory/0/parts/0/text" if text is not None else pos
        self.run.event("compaction", text, place, actor="harness", at=at)
        self._facts.setdefault("compressions", []).append(payload.get("info"))
        self._view = _View(None, "compacted")

    def finish(self, session: str | None) -> None:
        """What is known of the session as a whole; ``session``: whose subagent this is."""
        folders, versions = list(self._folders), list(self._versions)
        self.run.environment(cwd=next(iter(folders), None))
        self.run.set(framework_version=next(iter(versions), None))
        metadata = {key: fact for key, fact in self._facts.items() if fact is not None}
        if session is not None:
            metadata["session"] = session
        several = {"folders": folders, "versions": versions}
        metadata.update((name, values) for name, values in several.items() if len(values) > 1)
        if self._telemetry:
            metadata["telemetry"] = dict(self._telemetry)
        self.run.set(metadata=metadata)


# ---------------------------------------------------------------------- parts of a record


def _tokens(usage: Object) -> dict[str, int | None]:
    given, tools = (
        as_int(usage.get("promptTokenCount")),
        as_int(usage.get("toolUsePromptTokenCount")),
    )
    emitted, thought = (
        as_int(usage.get("candidatesTokenCount")),
        as_int(usage.get("thoughtsTokenCount")),
    )
    whole = as_int(usage.get("totalTokenCount"))
    if emitted is None or thought is None or whole != total(given, tools, emitted):
        emitted = total(emitted, thought)
    return {
        "input_tokens": total(given, tools),
        "output_tokens": emitted,
        "reasoning_tokens": thought,
        "cached_tokens": as_int(usage.get("cachedContentTokenCount")),
    }


def _response(response: Any) -> str | None:
    """What the model was given: ``output`` or ``error`` of the response, where these are texts."""
    said = as_object(response)
    shown = next((text for key in ("output", "error") if (text := as_text(said.get(key)))), None)
    return shown if shown is not None and len(said) == 1 else as_json(response or None)


def _media(part: Object) -> str:
    data = as_object(part.get("inlineData")) or as_object(part.get("fileData"))
    return as_text(data.get("mimeType")) or next(iter(part), "unknown")


def _beside(pos: str, pointer: str) -> str:
    return f"{pos.removesuffix('/message/parts')}/{pointer}"
