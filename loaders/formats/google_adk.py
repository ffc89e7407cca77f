"""Google ADK sessions: ``events``, each what a user, an agent or its tools said, with their author.

Keys are in camel case or, as older versions and Python's own export have them, in snake case. An event
of the role ``model`` is a model call; tool responses come as events of the role ``user``. Gemini shows
summaries of its thoughts (parts with ``thought``) or none, and then a signature on what follows is all
there is of them. Sessions are no requests: whether thoughts were sent back stays unknown.

A session names no tools and no outcome. Eval cases (queries with the tool use that is expected) are no
runs and are left alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects import gemini
from loaders.run import Run
from loaders.sources import Head, Source
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

TITLE = "Google ADK session"
GIVES = ("thinking", "tokens")

_MEDIA = ("inline_data", "file_data")


def sniff(head: Head) -> bool:
    """A session with such events, or an event of one."""
    first = head.first
    session = as_object(first.get("session")) or first
    events = session.get("events")
    event = as_object(next(iter(as_array(events)), None)) if is_array(events) else first
    return _is_event(event) or (not head.is_whole and _is_cut_event(event))


def _is_event(value: Object) -> bool:
    return "author" in value and bool(value.keys() & {"invocation_id", "invocationId"})


def _is_cut_event(value: Object) -> bool:
    """Whether a value is the beginning of an event: its author may stand behind a long content."""
    content = as_object(value.get("content"))
    is_first = value.keys() <= {"modelVersion", "model_version", "content"}
    return is_first and "parts" in content and content.keys() <= {"parts", "role"}


def read(source: Source, out: Builder) -> None:
    """A run per session; events that stand alone, on one line each or in a list, are one."""
    loose: _Session | None = None
    for pos, record in source.records():
        with out.record(pos):
            record = as_object(record)
            session = as_object(record.get("session")) or record
            if is_array(session.get("events")):
                place = f"{pos}/session" if "session" in record else pos
                _tell(out, session, place)
                loose = None
            elif _is_event(record):
                loose = loose or _Session(out.trajectory(pos=pos))
                loose.tell(record, pos)
            else:
                out.problem(pos, "neither a session nor an event of one")


def _tell(out: Builder, session: Object, pos: str) -> None:
    known = {key: _get(session, key) for key in ("app_name", "user_id", "state", "context")}
    run = out.trajectory(
        native_id=as_text(session.get("id")),
        pos=pos,
        metadata={key: value for key, value in known.items() if value},
    )
    told = _Session(run)
    for index, event in enumerate(session["events"]):
        told.tell(event, f"{pos}/events/{index}")


def _get(value: Object, key: str) -> Any:
    """The value of a key in snake case, or in camel case."""
    if key in value:
        return value[key]
    first, *rest = key.split("_")
    return value.get(first + "".join(word.capitalize() for word in rest))


class _Session:
    """Tells the events of one session."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: datetime | None = None
        run.set(framework="google-adk")

    def tell(self, event: Any, pos: str) -> None:
        """Tell the next event; partial ones come again whole."""
        if not is_object(event):
            self._run.problem(pos, "no event", "error")
            return
        if event.get("partial") is True:
            return
        content, at = as_object(event.get("content")), as_time(event.get("timestamp"))
        author = as_text(event.get("author"))
        parts = [as_object(part) for part in as_array(content.get("parts"))]
        is_reply = content.get("role") == "model" or bool(_get(event, "usage_metadata"))
        error = as_text(_get(event, "error_message")) or as_text(_get(event, "error_code"))
        if is_reply or (error and author != "user"):
            self._begin_call(event, author, error, pos, at)
        self._asked = at
        where = f"{pos}/content/parts"
        if is_reply:
            self._tell_reply(parts, where, author, at)
        else:
            for index, part in enumerate(parts):
                self._tell_part(part, f"{where}/{index}", author, at, is_reply=False)
        if error:
            kind = as_text(_get(event, "error_code"))
            self._run.event("error", error, pos, error_type=kind, at=at)
        compaction = as_object(as_object(event.get("actions")).get("compaction"))
        if compaction:
            text = as_json(_get(compaction, "compacted_content"))
            self._run.event("compaction", text, f"{pos}/actions/compaction", at=at)

    def _begin_call(
        self, event: Object, author: str | None, error: str | None, pos: str, at: datetime | None
    ) -> None:
        usage = as_object(_get(event, "usage_metadata"))
        made = as_int(_get(usage, "candidates_token_count"))
        thought = as_int(_get(usage, "thoughts_token_count"))
        self._run.step(
            source_pos=pos,
            agent=author,
            model=as_text(_get(event, "model_version")),
            started_at=self._asked,
            ended_at=at,
            stop_reason=as_text(_get(event, "finish_reason")),
            error=error,
            input_tokens=as_int(_get(usage, "prompt_token_count")),
            output_tokens=total(made, thought),
            reasoning_tokens=thought,
            cached_tokens=as_int(_get(usage, "cached_content_token_count")),
        )

    def _tell_reply(
        self, parts: list[Object], where: str, author: str | None, at: datetime | None
    ) -> None:
        """A signature belongs to the thoughts before it; without any it is all that is shown of one."""
        thoughts = {thought.place: thought for thought in gemini.thoughts_of(parts)}
        for index, part in enumerate(parts):
            pos = f"{where}/{index}"
            if (thought := thoughts.get(index)) is not None:
                state, signature = thought.state, thought.signature
                self._run.thinking(
                    thought.text, pos, state=state, signature=signature, actor=author, at=at
                )
            if not gemini.is_thought(part):
                self._tell_part(part, pos, author, at, is_reply=True)

    def _tell_part(
        self, part: Object, pos: str, author: str | None, at: datetime | None, *, is_reply: bool
    ) -> None:
        run = self._run
        call = as_object(_get(part, "function_call"))
        answer = as_object(_get(part, "function_response"))
        code = as_object(_get(part, "executable_code"))
        ran = as_object(_get(part, "code_execution_result"))
        media = [as_object(_get(part, key)) for key in _MEDIA if _get(part, key)]
        text = as_text(part.get("text"))
        if call:
            name, call_id = as_text(call.get("name")), as_text(call.get("id"))
            run.call(name, call.get("args"), pos, call_id=call_id, actor=author, at=at)
        elif answer:
            name, call_id = as_text(answer.get("name")), as_text(answer.get("id"))
            run.result(
                _text_of(answer.get("response")),
                pos,
                call_id=call_id,
                tool=name,
                by_order=call_id is None,
                at=at,
            )
        elif code:
            run.call("code_execution", code, pos, actor=author, at=at)
        elif ran:
            outcome = as_text(ran.get("outcome"))
            is_error = None if outcome is None else outcome != "OUTCOME_OK"
            output = as_text(ran.get("output"))
            run.result(output, pos, tool="code_execution", by_order=True, is_error=is_error, at=at)
        elif media or text:
            kinds = [as_text(_get(one, "mime_type")) or "unknown" for one in media] or None
            tell = run.message if is_reply else run.user
            actor = author if is_reply or author != "user" else None
            tell(text, pos, actor=actor, media=kinds, at=at)
        elif part and text is None and _get(part, "thought_signature") is None:
            run.event("other", as_json(sorted(part)), pos, actor=author, at=at)


def _text_of(response: Any) -> str | None:
    """What a tool responded; the frame that ADK puts around plain values is left out."""
    if is_object(response) and response.keys() == {"result"}:
        return as_json(response["result"])
    return as_json(response)
