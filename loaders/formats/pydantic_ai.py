"""pydantic-ai message histories: requests and responses by turns, each with its parts.

``all_messages_json()`` gives the list; rows keep it under ``messages`` or a like key. Instructions come
again with each request and are told where they change. What a tool sends back for another try is a
``retry-prompt`` (later a ``tool-return`` whose outcome is ``retried``); without a tool it is the
framework's feedback on the reply. A history is no request: a model class may leave out thinking, so
whether it was sent back stays unknown. Neither tool definitions nor settings are logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects import gemini
from loaders.heads import Head
from loaders.rows import Gathered, identity_of, metadata_of, outcome_of, unfolded
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "pydantic-ai messages"
GIVES = ("thinking", "tokens")

IGNORED = {
    "kind=request /**/kind": "a message that is no response is a request, as its parts show too",
    "kind=request /**/state": "a request is complete, or it would not have been sent",
    "kind=request /**/timestamp": "parts have times of their own, and the call after it begins then",
    "kind=response /**/parts/*/provider_name": "the provider of the reply, which the message names",
    "kind=response /**/parts/*/id": "the provider's name of a part; calls have ids to be answered by",
    "kind=response /**/provider_response_id": "the provider's name of its reply; no message refers to it",
    "kind=response /**/vendor_id": "the provider's name of its reply; no message refers to it",
    "kind=response /**/*_details/finish_reason": "the provider's word for the reason that is kept",
    "kind=response /**/*_details/timestamp": "when the reply was made, to the second; its time is kept",
    "kind=response /**/canonical_system": "the family of the provider, whose name is kept",
    "kind=response /**/history_digest": "a digest of the messages before it, which are all there",
    "kind=response /**/usage/output_reasoning_tokens": "the count in the details, once more or as 0",
    "kind=response /**/usage/details/*put_tokens": "the count of the usage itself, once more",
    "kind=response /**/usage/details/cache_read_input_tokens": "the cached tokens, once more",
    "kind=response /**/usage/total_tokens": "the sum of two counts that are kept",
    "/**/content/*/data": "the bytes of a file, whose type is kept",
    "/**/parts/*/content/kind": "says that a file is one, as its type does",
    "/**/parts/*/content/data": "the bytes of a file, whose type is kept",
}

_MESSAGES_IN = ("messages", "all_messages", "message_history", "new_messages")
_CALLS = ("tool-call", "builtin-tool-call")
_RETURNS = ("tool-return", "builtin-tool-return")
_REDACTED = ("redacted_thinking", "redacted_content")
_TOLD_OF_MESSAGE = (
    *("parts", "kind", "timestamp", "instructions", "run_id", "conversation_id", "state"),
    *("usage", "model_name", "finish_reason", "provider_name", "provider_response_id"),
    *("provider_details", "vendor_details", "vendor_id", "canonical_system", "history_digest"),
)
_TOLD_OF_DETAILS = ("finish_reason", "timestamp")
_TOLD_OF_PART = (
    *("part_kind", "content", "timestamp", "tool_call_id", "tool_name", "args", "signature"),
    *("id", "provider_name", "outcome"),
)
_TOLD_OF_USAGE = (
    *("input_tokens", "request_tokens", "output_tokens", "response_tokens", "total_tokens"),
    *("output_reasoning_tokens", "cache_read_tokens", "details.cached_tokens", "cost"),
    *("details.reasoning_tokens", "details.input_tokens", "details.output_tokens"),
    *("details.cache_read_input_tokens",),
)
_TOLD_OF_FILE = ("data", "kind", "media_type")
_FIELD = re.compile("[a-z_]+")
_FAILED = {"success": False, "failed": True, "retried": True}


def sniff(head: Head) -> bool:
    """A message of parts of a kind; a long first part hides its kind, which the end shows."""
    record = next(iter(head.records), None)
    messages = _messages_in(record) or [record]
    first = as_object(next(iter(as_array(messages)), None))
    if not is_array(first.get("parts")):
        return False
    if _is_message(first):
        return True
    is_cut = not head.is_whole and first.keys() == {"parts"}
    return is_cut and "role" not in first and b'"part_kind"' in head.tail


def _is_message(value: Any) -> bool:
    value = as_object(value)
    parts = [as_object(part) for part in as_array(value.get("parts"))]
    return any("part_kind" in part for part in parts) or (
        is_array(value.get("parts")) and value.get("kind") in ("request", "response")
    )


def _messages_in(record: Any) -> list[Any] | None:
    """The messages of a list or a row; None where it is neither."""
    if is_array(record):
        return record if is_object(next(iter(record), None)) and "parts" in record[0] else None
    lists = (unfolded(as_object(record).get(key)) for key in _MESSAGES_IN)
    return next((found for found in lists if is_array(found) and _messages_in(found)), None)


def read(source: Source, out: Builder) -> None:
    """A run per history; lines that are messages themselves are one run."""
    lines: _History | None = None
    for pos, record in _records(source):
        with out.record(pos):
            if is_object(record) and _is_message(record):
                lines = lines or _History(out.trajectory(pos=pos))
                lines.tell(record, pos)
                continue
            if lines is not None:
                lines.close()
                lines = None
            messages = _messages_in(record)
            if messages is None:
                out.problem(pos, "neither a message nor a history of them")
            else:
                _tell(out, as_object(record), messages, pos)
    if lines is not None:
        lines.close()


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json_lines:
        yield from source.json_lines()
        return
    value = source.json()
    if is_array(value) and _messages_in(value) is None:
        yield from ((f"/{index}", item) for index, item in enumerate(value))
    else:
        yield "", value


def _tell(out: Builder, row: Object, messages: list[Any], pos: str) -> None:
    key = next((f"/{key}" for key in _MESSAGES_IN if is_array(unfolded(row.get(key)))), "")
    metadata = metadata_of(row, _MESSAGES_IN) if row else None
    history = _History(out.trajectory(pos=pos, **identity_of(row)), metadata)
    for index, message in enumerate(messages):
        history.tell(message, f"{pos}{key}/{index}")
    history.close()
    if any(outcome_of(row).values()):
        history.run.outcome(**outcome_of(row))


class _History:
    """Tells the messages of one run."""

    def __init__(self, run: Run, metadata: Object | None = None) -> None:
        self.run = run
        self._metadata = metadata or {}
        self._names: dict[str, list[str]] = {"conversation_id": [], "run_id": []}
        self._instructions: str | None = None
        self._gathered = Gathered()
        self._asked: datetime | None = None
        self._is_gemini = False
        run.set(framework="pydantic-ai")

    def tell(self, message: Any, pos: str) -> None:
        """Tell the next message."""
        message = as_object(message)
        if not is_array(message.get("parts")):
            self.run.problem(pos, "no message: it has no parts", "error")
            return
        for key, known in self._names.items():
            name = as_text(message.get(key))
            if name and name not in known:
                known.append(name)
        self._gathered.note_all(message, _TOLD_OF_MESSAGE)
        is_response = message.get("kind") == "response"
        at = as_time(message.get("timestamp"))
        if is_response:
            self._begin_call(message, pos, at)
        else:
            self._tell_instructions(message, pos, at)
            self._asked = at
        parts = [as_object(part) for part in message["parts"]]
        self._is_gemini = (as_text(message.get("provider_name")) or "").startswith("google")
        signatures = _signatures_in(parts) if is_response else {}
        for index, part in enumerate(parts):
            place = f"{pos}/parts/{index}"
            signature = signatures.get(index)
            if signature and part.get("part_kind") != "thinking":
                self.run.thinking(None, place, state="hidden", signature=signature, at=at)
            self._tell_part(part, place, at, signature)
            self._tell_rest(part, place, at)

    def close(self) -> None:
        """No more messages will come."""
        found = (*self._names["conversation_id"], *self._names["run_id"])
        if self.run.columns["native_id"] is None:
            self.run.set(native_id=next(iter(found), None))
        runs = self._names["run_id"] if len(self._names["run_id"]) > 1 else None
        named = {"run_ids": runs} if runs else {}
        known = {**self._metadata, **named, **self._gathered.metadata()}
        self.run.set(metadata=known or None)

    def _begin_call(self, message: Object, pos: str, at: datetime | None) -> None:
        details = as_object(message.get("provider_details", message.get("vendor_details")))
        reason = as_text(message.get("finish_reason")) or as_text(details.get("finish_reason"))
        state = as_text(message.get("state"))
        self.run.step(
            source_pos=pos,
            model=as_text(message.get("model_name")),
            started_at=self._asked,
            ended_at=at,
            stop_reason=reason if state in (None, "complete") else state,
            **_usage(message.get("usage")),
        )
        rest = {key: value for key, value in details.items() if key not in _TOLD_OF_DETAILS}
        if any(value is not None for value in rest.values()):
            self._gathered.note("provider_details", rest)
        self._gathered.count(message.get("usage"), _TOLD_OF_USAGE)
        provider = as_text(message.get("provider_name"))
        cost = as_float(as_object(message.get("usage")).get("cost"))
        if provider and self.run.columns["provider"] is None:
            self.run.set(provider=provider)
        if cost is not None:
            self.run.set(cost_usd=(self.run.columns["cost_usd"] or 0.0) + cost)

    def _tell_instructions(self, message: Object, pos: str, at: datetime | None) -> None:
        text = as_text(message.get("instructions"))
        if text and text != self._instructions:
            self._instructions = text
            self.run.system(text, f"{pos}/instructions", at=at)

    def _tell_part(
        self, part: Object, pos: str, at: datetime | None, signature: str | None = None
    ) -> None:
        run, kind = self.run, as_text(part.get("part_kind")) or "unknown"
        at = as_time(part.get("timestamp")) or at
        content, call_id = part.get("content"), as_text(part.get("tool_call_id"))
        tool = as_text(part.get("tool_name"))
        if kind == "thinking":
            self._tell_thinking(part, pos, at, signature)
        elif kind == "text":
            if as_text(content):
                run.message(as_text(content), pos, at=at)
        elif kind in _CALLS:
            run.call(tool, part.get("args"), pos, call_id=call_id, at=at)
        elif kind in _RETURNS or (kind == "retry-prompt" and tool):
            text, media = _text_and_media(content)
            flags = _flags(part, kind)
            run.result(text, pos, call_id=call_id, tool=tool, media=media, at=at, **flags)
        elif kind in ("retry-prompt", "retry-feedback"):
            text, _ = _text_and_media(content)
            cause = as_text(as_object(part.get("retry")).get("cause"))
            run.event("user", text, pos, actor="harness", error_type=cause or kind, at=at)
        elif kind in ("system-prompt", "instruction"):
            run.system(as_text(content), pos, at=at)
        elif kind == "user-prompt":
            text, media = _text_and_media(content)
            run.user(text, pos, media=media, at=at)
        elif kind == "compaction":
            run.event("compaction", as_text(content), pos, at=at)
        elif kind == "file":
            media = [as_text(as_object(content).get("media_type")) or "file"]
            run.message(None, pos, media=media, at=at)
        else:
            run.event("other", as_json(content) or as_text(part.get("part_kind")), pos, at=at)

    def _tell_rest(self, part: Object, pos: str, at: datetime | None) -> None:
        """What else a part says: which try it was, what a tool keeps from the model, where a file is."""
        rest = {key: value for key, value in part.items() if key not in _TOLD_OF_PART}
        rest["provider_details"] = _said(
            as_object(rest.get("provider_details")), ("thought_signature",)
        )
        rest["retry"] = _said(as_object(rest.get("retry")), ("cause",))
        content = part.get("content")
        items = content if is_array(content) else [content]
        rest["files"] = [
            said
            for item in items
            if _media_of(item) and (said := _said(as_object(item), _TOLD_OF_FILE))
        ]
        if said := _said(rest):
            self.run.event("other", as_json(said), pos, error_type="details", at=at)

    def _tell_thinking(
        self, part: Object, pos: str, at: datetime | None, signature: str | None
    ) -> None:
        """A block with its text; an OpenAI summary has a provider's id, and without text is hidden.

        Gemini shows summaries; ``signature``: the one that stands on a later part of its reply.
        """
        text, signature = as_text(part.get("content")), as_text(part.get("signature")) or signature
        name = as_text(part.get("id")) or ""
        is_redacted = name in _REDACTED and not text
        if _FIELD.fullmatch(name) and name not in _REDACTED:
            self._gathered.note("thinking_in", name)
        is_summary = self._is_gemini or name.startswith("rs_")
        state = "summary" if is_summary else "text"
        if not text:
            state = "redacted" if is_redacted else "hidden"
        self.run.thinking(text or None, pos, state=state, signature=signature, at=at)


def _said(values: Object, told: tuple[str, ...] = ()) -> Object:
    """What of an object says something that is not told: neither nulls nor what is empty."""
    said = {key: value for key, value in values.items() if key not in told}
    return {key: value for key, value in said.items() if value or isinstance(value, bool | int)}


def _signatures_in(parts: list[Object]) -> dict[int, str]:
    """Signatures that Gemini puts on the part after its thinking, by the part where they are told."""
    likened: list[Object] = [
        {
            "thought": part.get("part_kind") == "thinking",
            "text": part.get("content"),
            "thoughtSignature": as_object(part.get("provider_details")).get("thought_signature"),
        }
        for part in parts
    ]
    thoughts = gemini.thoughts_of(likened)
    return {thought.place: thought.signature for thought in thoughts if thought.signature}


def _flags(part: Object, kind: str) -> dict[str, Any]:
    """What a result says of its success. Denied or interrupted calls are no errors of the tool."""
    if kind == "retry-prompt":
        return {"is_error": True, "error_type": kind}
    outcome = as_text(part.get("outcome"))
    cause = as_text(as_object(part.get("retry")).get("cause"))
    return {
        "is_error": _FAILED.get(outcome or ""),
        "error_type": cause or (outcome if outcome != "success" else None),
    }


def _text_and_media(content: Any) -> tuple[str | None, list[str] | None]:
    """Texts of a prompt or a tool's return value, and types of the files in it."""
    if content is None or isinstance(content, str):
        return content, None
    items = content if is_array(content) else [content]
    files = [item for item in items if _media_of(item)]
    if not files:
        is_prompt = all(isinstance(item, str) for item in items) and is_array(content)
        return "\n".join(items) if is_prompt and len(items) == 1 else as_json(content), None
    texts = [
        item if isinstance(item, str) else as_json(item) for item in items if item not in files
    ]
    return "\n".join(filter(None, texts)) or None, [_media_of(item) or "" for item in files]


def _media_of(item: Any) -> str | None:
    item = as_object(item)
    kind = as_text(item.get("kind")) or ""
    if kind == "binary" or kind.endswith("-url"):
        return as_text(item.get("media_type")) or kind
    return None


def _usage(usage: Any) -> dict[str, int | None]:
    """Token columns; older versions call input and output by other names. Input includes the cache.

    Numbers that the provider did not give stand as 0: without any token of input nothing is known,
    and no reasoning is known where neither its name nor a number stands.
    """
    usage = as_object(usage)
    details = as_object(usage.get("details"))
    if not (asked := as_int(usage.get("input_tokens", usage.get("request_tokens")))):
        return {}
    known = as_int(usage.get("output_reasoning_tokens")) or None
    return {
        "input_tokens": asked,
        "output_tokens": as_int(usage.get("output_tokens", usage.get("response_tokens"))),
        "reasoning_tokens": as_int(details.get("reasoning_tokens", known)),
        "cached_tokens": as_int(usage.get("cache_read_tokens", details.get("cached_tokens"))),
    }
