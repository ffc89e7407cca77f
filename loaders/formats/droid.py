"""Factory Droid: stored sessions (JSON Lines that begin with ``session_start``), and ``stream-json``.

A stored session has a message on each line, in content blocks; a reply's line is taken for one model
call. What a session used, its model and its settings stand beside it in ``<id>.settings.json``, as
sums over the session. Reasoning of OpenAI's models stands beside the content of a reply as a summary
and in encrypted form. A user's message is the harness's where only the model sees it, where it holds
nothing but a reminder, and where it tells of a hook. After a compaction the log does not say what
calls still see. A session that another one started names that session and the call.

Requests are stored nowhere, so whether thinking was sent back is not known.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects.anthropic import step_columns, write_block
from loaders.errors import UnreadableRecord
from loaders.formats._droid_stream import Stream, actor_of, is_stream_event, session_of
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    total,
)

TITLE = "Factory Droid session"
GIVES = ("thinking", "tools", "tokens", "outcome")
IGNORED = {
    "/id": "names a line, so that others can hang below it; lines are told in their order",
    "/parentId": "the line before, or the session; lines are told in their order",
    "/messageId": "the message that a call belongs to; calls are told in their order",
    "type=system /subtype": "a stream has events of this type at its start alone",
    "type=tool_call /toolId": "the tool's name once more",
    "type=tool_result /toolId": "the name of the tool whose call is answered",
    "type=session_start /sessionTitle": "the title once more",
    "type=tool_result /message/content/*/content/*/type": "a part with a text is text",
    "/message/openaiMessageId": "the provider's name of a reply",
    "/message/openaiReasoningId": "the provider's name of a reasoning item",
    "type=compaction_state /anchorMessage/**": "names a message; what calls see is not said",
    "/message/content/*/signatureProvider": "decides whether thinking is a summary, and is no more",
}

_SETTINGS = ("tokenUsage", "providerLock", "assistantActiveTimeMs", "autonomyMode", "autonomyLevel")
_STARTS = ("cwd", "title", "sessionTitle", "owner", "version", "hostId")
_TAKEN = ("type", "id", "cwd", "version", "sessionTitle", "callingSessionId", "callingToolUseId")
_USED = ("tokenUsage", "model", "modelId", "systemPrompt", "reasoningEffort")
_SUMMARISING = ("openai", "google")
_OUTCOMES = {"cancelled": "cancelled", "error": "error"}


def sniff(head: Head) -> bool:
    """The start of a session, or events of a stream."""
    return any(
        _is_start(record) or is_stream_event(record) for record in (head.value, *head.records)
    )


def _is_start(record: Any) -> bool:
    record = as_object(record)
    return record.get("type") == "session_start" and any(key in record for key in _STARTS)


def companion(head: Head) -> bool:
    """The settings of a session, and what it used."""
    return head.filename.endswith(".settings.json") and any(key in head.keys for key in _SETTINGS)


def read(source: Source, out: Builder) -> None:
    """One run per session."""
    session: _Session | None = None
    stream: Stream | None = None
    for pos, record in source.json_lines():
        with out.record(pos):
            if not is_object(record):
                raise UnreadableRecord("no record of a session", pos)
            if _is_stored(record) or (session is not None and not is_stream_event(record)):
                if session is None or record.get("type") == "session_start":
                    session = _Session(source, out, record, pos)
                session.tell(record, pos)
            else:
                stream = _stream_of(stream, record, out, pos)
                stream.tell(record, pos)


def _is_stored(record: Object) -> bool:
    return record.get("type") == "session_start" or (
        record.get("type") == "message" and is_object(record.get("message"))
    )


def _stream_of(stream: Stream | None, event: Object, out: Builder, pos: str) -> Stream:
    name = session_of(event)
    if stream is not None and (name is None or stream.name == name):
        return stream
    return Stream(out.trajectory(native_id=name, pos=pos, framework="droid"), name)


class _Session:
    """Tells one stored session line by line."""

    def __init__(self, source: Source, out: Builder, start: Object, pos: str) -> None:
        start = start if start.get("type") == "session_start" else {}
        self.name = as_text(start.get("id"))
        version = start.get("version")
        self.run: Run = out.trajectory(
            native_id=self.name,
            pos=pos,
            framework="droid",
            framework_version=as_text(version),
            format_version=None if isinstance(version, str) else as_name(version),
            started_at=as_time(start.get("timestamp")),
        )
        self._metadata: Object = metadata_of(start, _TAKEN)
        self._efforts: list[str] = []
        self._providers: list[str] = []
        self._is_compacted = False
        if not start:
            self.run.problem(pos, "messages without the start of their session")
        self.run.environment(cwd=as_text(start.get("cwd")))
        if caller := as_text(start.get("callingSessionId")):
            self.run.started_by(caller, as_text(start.get("callingToolUseId")))
        with out.record(None):
            self._tell_settings(source)
        self._set()

    def _set(self) -> None:
        self.run.set(
            provider=self._providers[0] if len(self._providers) == 1 else None,
            params={"reasoning_effort": self._efforts} if self._efforts else None,
            metadata=self._metadata,
        )

    def _tell_settings(self, source: Source) -> None:
        name = f"{source.filename.removesuffix('.jsonl')}.settings.json"
        file = source.beside(name) if source.filename.endswith(".jsonl") else None
        settings = as_object(file.json()) if file is not None else {}
        if not settings:
            return
        usage = as_object(settings.get("tokenUsage"))
        cached = as_int(usage.get("cacheReadTokens"))
        fresh, written = (as_int(usage.get(f"{k}Tokens")) for k in ("input", "cacheCreation"))
        self.run.set(
            model=as_text(settings.get("modelId")) or as_text(settings.get("model")),
            input_tokens=total(fresh, written, cached),
            output_tokens=as_int(usage.get("outputTokens")),
            reasoning_tokens=as_int(usage.get("thinkingTokens")),
            cached_tokens=cached,
        )
        self._note(self._efforts, settings.get("reasoningEffort"))
        self._metadata["settings"] = metadata_of(settings, _USED)
        if prompt := as_text(settings.get("systemPrompt")):
            self.run.system(prompt, f"{name}#/systemPrompt")

    def _note(self, notes: list[str], value: Any) -> None:
        if isinstance(value, str) and value not in notes:
            notes.append(value)

    # ------------------------------------------------------------------ lines

    def tell(self, record: Object, pos: str) -> None:
        """The next line."""
        kind, at = as_text(record.get("type")), as_time(record.get("timestamp"))
        if _is_stored(record) and kind == "message":
            self._tell_message(record["message"], f"{pos}/message", at)
        elif kind == "compaction_state":
            text = as_text(record.get("summaryText"))
            why = as_text(record.get("summaryKind"))
            self.run.event("compaction", text, f"{pos}/summaryText", error_type=why, at=at)
            left_out = ("type", "id", "timestamp", "summaryText", "summaryKind", "anchorMessage")
            self._metadata.setdefault("compactions", []).append(metadata_of(record, left_out))
            self._is_compacted = True
        elif kind == "agent_turn_outcome":
            reason = as_text(record.get("reason"))
            said = as_json({key: item for key, item in record.items() if key != "type"})
            self.run.event("other", said, pos, actor="harness", error_type=kind, at=at)
            self.run.outcome(_OUTCOMES.get(reason or ""), end_reason=reason)
        elif kind is None:
            raise UnreadableRecord("a line without a type", pos)
        elif kind != "session_start":
            said = as_json({key: item for key, item in record.items() if key not in ("type", "id")})
            self.run.event("other", said, pos, actor="harness", error_type=kind, at=at)
        self._set()

    def _tell_message(self, message: Object, pos: str, at: datetime | None) -> None:
        role = as_text(message.get("role")) or "unknown"
        if hook := as_text(message.get("hookEventName")):
            self._tell_hook(message, hook, pos, at)
        elif message.get("visibility") == "user_only":
            self.run.event("other", as_json(message.get("content")), pos, actor="harness", at=at)
        elif role == "assistant":
            self._tell_reply(message, pos, at)
        elif role in ("user", "system"):
            self._tell_asked(message, role, pos, at)
        else:
            self.run.event("other", as_json(message.get("content")), pos, actor=role, at=at)

    def _tell_hook(self, message: Object, hook: str, pos: str, at: datetime | None) -> None:
        results = as_array(message.get("hookResults"))
        codes = [as_int(as_object(result).get("exitCode")) for result in results]
        said = {k: v for k, v in message.items() if k.startswith("hook") and k != "hookEventName"}
        self.run.event(
            "other",
            as_json(said),
            pos,
            actor="hook",
            error_type=hook,
            exit_code=next((code for code in codes if code), next(iter(codes), None)),
            at=at,
        )

    def _tell_asked(self, message: Object, role: str, pos: str, at: datetime | None) -> None:
        sender = as_text(message.get("userMessageSource"))
        if message.get("visibility") == "llm_only":
            sender = "harness"
        for block, place in _blocks(message, pos):
            kind = as_object(block).get("type")
            text = block if isinstance(block, str) else as_text(as_object(block).get("text"))
            actor = (sender or actor_of(text)) if role == "user" and kind != "tool_result" else None
            write_block(self.run, block, place, role=role, at=at, actor=actor)

    # ------------------------------------------------------------------ replies

    def _tell_reply(self, message: Object, pos: str, at: datetime | None) -> None:
        columns = step_columns(message)
        if model := as_text(message.get("modelId")):
            columns["model"] = model
        self.run.step(source_pos=pos, ended_at=at, **columns)
        if self._is_compacted:
            self.run.saw(None, None, "unknown", history_edit="compacted")
        self._note(self._efforts, message.get("reasoningEffort"))
        self._note(self._providers, message.get("apiProvider"))
        if router := as_text(message.get("routerId")):
            self._metadata["router"] = router
        self._tell_openai_reasoning(message, pos, at)
        for block, place in _blocks(message, pos):
            if as_object(block).get("type") == "thinking":
                self._tell_thinking(as_object(block), place, at)
            else:
                write_block(self.run, block, place, role="assistant", at=at)

    def _tell_openai_reasoning(self, message: Object, pos: str, at: datetime | None) -> None:
        text = as_text(message.get("openaiReasoningSummary"))
        sealed = as_text(message.get("openaiEncryptedContent"))
        if text or sealed:
            key = "openaiReasoningSummary" if text else "openaiEncryptedContent"
            state = "summary" if text else "hidden"
            self.run.thinking(text or None, f"{pos}/{key}", state=state, signature=sealed, at=at)

    def _tell_thinking(self, block: Object, pos: str, at: datetime | None) -> None:
        text, took = as_text(block.get("thinking")), as_float(block.get("durationMs"))
        is_summary = block.get("signatureProvider") in _SUMMARISING
        self.run.thinking(
            text or None,
            f"{pos}/thinking" if text else pos,
            state=("summary" if is_summary else "text") if text else "hidden",
            signature=as_text(block.get("signature")),
            duration_s=took / 1000 if took is not None and took >= 0 else None,
            at=at,
        )


def _blocks(message: Object, pos: str) -> list[tuple[Any, str]]:
    content = message.get("content")
    if not is_array(content):
        return [(content, f"{pos}/content")]
    return [(block, f"{pos}/content/{index}") for index, block in enumerate(content)]
