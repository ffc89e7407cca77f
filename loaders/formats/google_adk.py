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
from loaders.heads import Head
from loaders.rows import Gathered, metadata_of
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
)

TITLE = "Google ADK session"
GIVES = ("thinking", "tokens")

IGNORED = {
    "/**/events/*/id": "the name of an event, to which its position in the log leads as well",
    "/**/inlineData/data": "the bytes of a file, whose type is kept",
    "/**/inline_data/data": "the bytes of a file, whose type is kept",
    "/**/options/function_call_event_id": "which call a result answers, as order and names tell",
    "role=user /**/content/role": "what is no reply is a user's or a tool's, as its parts show",
    "role=model /**/content/role": "whose a content is; a reply has its usage or its author as well",
    "/**/*okensDetails/**": "which of the tokens are text, pictures or sound; their sums are kept",
    "/**/*okens_details/**": "which of the tokens are text, pictures or sound; their sums are kept",
    "/**/usageMetadata/totalTokenCount": "the sum of counts; shows whether thoughts are among them",
    "/**/usage_metadata/total_token_count": "the sum of counts; shows whether thoughts are among them",
}

_MEDIA = ("inline_data", "file_data")


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _both(*keys: str) -> frozenset[str]:
    """Keys in both of the ways in which they are written."""
    return frozenset((*keys, *map(_camel, keys)))


_TOLD_OF_SESSION = _both("id", "events", "app_name", "user_id", "state", "context")
_TOLD_OF_EVENT = _both(
    *("id", "author", "content", "timestamp", "partial", "actions", "error_code", "error_message"),
    *("usage_metadata", "model_version", "finish_reason", "invocation_id", "branch", "node_info"),
)
_TOLD_OF_USAGE = _both(
    *("prompt_token_count", "candidates_token_count", "thoughts_token_count", "total_token_count"),
    *("cached_content_token_count", "tool_use_prompt_token_count"),
)
_LINKS = ("function_call_event_id", "functionCallEventId")


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
                if loose is not None:
                    loose.close()
                loose = None
                _tell(out, session, place)
            elif _is_event(record):
                loose = loose or _Session(out.trajectory(pos=pos))
                loose.tell(record, pos)
            else:
                out.problem(pos, "neither a session nor an event of one")
    if loose is not None:
        loose.close()


def _tell(out: Builder, session: Object, pos: str) -> None:
    known = {key: _get(session, key) for key in ("app_name", "user_id", "state", "context")}
    rest = _rest({key: value for key, value in session.items() if key not in _TOLD_OF_SESSION})
    run = out.trajectory(native_id=as_text(session.get("id")), pos=pos)
    told = _Session(run, {**_rest(known), **rest})
    for index, event in enumerate(session["events"]):
        told.tell(event, f"{pos}/events/{index}")
    told.close()


def _rest(values: Object) -> Object:
    """What of an object says something: neither nulls nor empty lists and the like."""
    return {key: value for key, value in values.items() if value}


def _get(value: Object, key: str) -> Any:
    """The value of a key in snake case, or in camel case."""
    return value[key] if key in value else value.get(_camel(key))


def _is_of_a_model(part: object) -> bool:
    """Whether a part can only be a model's: a thought, a call, or what begins like one."""
    keys = as_object(part).keys()
    return bool(keys & {"thought", "functionCall", "function_call", "thoughtSignature"})


class _Session:
    """Tells the events of one session."""

    def __init__(self, run: Run, metadata: Object | None = None) -> None:
        self._run = run
        self._asked: datetime | None = None
        self._metadata = metadata or {}
        self._gathered = Gathered()
        run.set(framework="google-adk")

    def close(self) -> None:
        """No more events will come."""
        self._run.set(metadata=metadata_of({**self._metadata, **self._gathered.metadata()}, ()))

    def tell(self, event: Any, pos: str) -> None:
        """Tell the next event; partial ones come again whole."""
        if not is_object(event):
            self._run.problem(pos, "no event", "error")
            return
        if event.get("partial") is True:
            return
        self._gathered.note("invocation_ids", _get(event, "invocation_id"))
        self._gathered.note("branches", event.get("branch"))
        self._gathered.note("node_paths", as_object(_get(event, "node_info")).get("path"))
        content, at = as_object(event.get("content")), as_time(event.get("timestamp"))
        author = as_text(event.get("author"))
        parts = [as_object(part) for part in as_array(content.get("parts"))]
        is_reply = content.get("role") == "model" or bool(_get(event, "usage_metadata"))
        if author is None and content.get("role") is None:  # cut off before it says whose it is
            is_reply = is_reply or any(
                _is_of_a_model(part) for part in as_array(content.get("parts"))
            )
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
        self._tell_rest(event, pos, author, at)

    def _tell_rest(self, event: Object, pos: str, author: str | None, at: datetime | None) -> None:
        """What else an event says: changes of the state, transfers, sources of an answer."""
        actions = as_object(event.get("actions"))
        rest = {
            **{key: value for key, value in event.items() if key not in _TOLD_OF_EVENT},
            "actions": _rest({k: v for k, v in actions.items() if k != "compaction"}),
        }
        options = as_object(event.get("options"))
        if options:  # as actions were called once
            rest["options"] = _rest({k: v for k, v in options.items() if k not in _LINKS})
        if shown := _rest(rest):
            text = as_json(shown)
            self._run.event("other", text, pos, actor=author, error_type="details", at=at)

    def _begin_call(
        self, event: Object, author: str | None, error: str | None, pos: str, at: datetime | None
    ) -> None:
        usage = as_object(_get(event, "usage_metadata"))
        self._gathered.count(usage, _TOLD_OF_USAGE)
        self._run.step(
            source_pos=pos,
            agent=author,
            model=as_text(_get(event, "model_version")),
            started_at=self._asked,
            ended_at=at,
            stop_reason=as_text(_get(event, "finish_reason")),
            error=error,
            **_usage_columns(usage),
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
            flags: dict[str, Any] = {
                "is_error": is_error,
                "error_type": outcome if is_error else None,
            }
            run.result(output, pos, tool="code_execution", by_order=True, at=at, **flags)
        elif media or text:
            kinds = [as_text(_get(one, "mime_type")) or "unknown" for one in media] or None
            tell = run.message if is_reply else run.user
            actor = author if is_reply or author != "user" else None
            tell(text, pos, actor=actor, media=kinds, at=at)
        elif part and text is None and _get(part, "thought_signature") is None:
            run.event("other", as_json(sorted(part)), pos, actor=author, at=at)


def _usage_columns(usage: Object) -> dict[str, int | None]:
    """Token columns; through LiteLLM the candidates include the thoughts, as the total shows."""
    columns = gemini.usage_columns(usage)
    made, whole = _get(usage, "candidates_token_count"), _get(usage, "total_token_count")
    if as_int(made) is not None and whole == (columns["input_tokens"] or 0) + made:
        columns["output_tokens"] = made
    return columns


def _text_of(response: Any) -> str | None:
    """What a tool responded; the frame that ADK puts around plain values is left out."""
    if is_object(response) and response.keys() == {"result"}:
        return as_json(response["result"])
    return as_json(response)
