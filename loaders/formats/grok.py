"""Grok CLI sessions: ``chat_history.jsonl``, with ``summary.json`` beside it.

The history is what the model is shown next, a record on each line: a compaction or a rewind writes
it anew, so of what was before only the summary is left. Reasoning stands on lines of its own before
the reply that it belongs to: its summary, and the encrypted item that the client hands back. Tools
that run at the provider have their call there too, and no result. Lines have no times, and tokens
stand in neither file.

A user's line is the harness's where ``synthetic_reason`` says so; the reason is told as its actor. A
subagent's session names its parent, or lies in its parent's folder, or the parent keeps a note of it
(``subagents/<id>/meta.json``). Requests are not stored, so whether thinking was sent back is not
known.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import text_and_media
from loaders.dialects.responses import arguments_of, thought_of
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_object,
)

TITLE = "Grok CLI session"
GIVES = ("thinking",)
IGNORED = {
    "type=user /prompt_index": "numbers the user's turns, which are told in their order",
    "type=user /content/*/type": "a part with a text is text, whatever it is called",
    "type=image /content/*/url": "images are told by their kind; their data is no text",
    "type=tool_result /images/**": "images are told by their kind; their data is no text",
    "type=reasoning /summary/*/type": "a part with a text is text, whatever it is called",
    "summary.json#/**": "of the summary above a subagent's folder nothing but the id is told",
    "type=reasoning /id": "the provider's name of a reasoning item",
    "type=reasoning /status": "whether the item is complete; one that is not has less text",
    "type=backend_tool_call /kind/status": "that the provider is done; the result is not logged",
}

_LOG, _SUMMARY = "chat_history.jsonl", "summary.json"
_KEYS_OF_SUMMARY = ("chat_format_version", "num_chat_messages", "current_model_id")
_TAKEN = ("info", "created_at", "updated_at", "current_model_id", "chat_format_version")
_ENVIRONMENT = ("git_root_dir", "git_remotes", "head_commit", "head_branch", "sandbox_profile")
_SPAWNERS = ("task", "agent")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_MOST_CHILDREN = 1_000


def sniff(head: Head) -> bool:
    """Records that only such a history has, or its name and a first record of its shape."""
    if any(_is_only_here(as_object(record)) for record in (head.first, *head.records)):
        return True
    is_first = head.keys <= {"type", "content"} and head.first.get("type") in ("system", "user")
    return head.filename == _LOG and is_first  # a long prompt hides all else, and its own end


def _is_only_here(record: Object) -> bool:
    kind = record.get("type")
    if kind == "assistant":
        return isinstance(record.get("content"), str) and "model_id" in record
    if kind == "user":
        return "content" in record and bool({"prompt_index", "synthetic_reason"} & record.keys())
    return kind == "backend_tool_call" and "tool_type" in as_object(record.get("kind"))


def companion(head: Head) -> bool:
    """The summary of a session, or the note that a session keeps of a subagent."""
    if head.filename == "meta.json":
        return {"parent_session_id", "subagent_type"} <= head.keys
    return (
        head.filename == _SUMMARY
        and "info" in head.keys
        and any(key in head.keys for key in _KEYS_OF_SUMMARY)
    )


def read(source: Source, out: Builder) -> None:
    """One run: the session whose history this is."""
    session: _Session | None = None
    for pos, record in source.json_lines():
        with out.record(pos):
            if not is_object(record):
                raise UnreadableRecord("no record of a conversation", pos)
            session = session or _Session(source, out, pos)
            session.tell(record, pos)
    if session is not None:
        session.finish()


class _Session:
    """Tells a history line by line."""

    def __init__(self, source: Source, out: Builder, pos: str) -> None:
        self._source = source
        summary: Object = {}
        with out.record(None):
            file = source.beside(_SUMMARY)
            summary = as_object(file.json()) if file is not None else {}
        info = as_object(summary.get("info"))
        folder = PurePosixPath(source.name).parent.name
        self.run: Run = out.trajectory(
            native_id=as_text(info.get("id")) or (folder if _UUID.fullmatch(folder) else None),
            pos=pos,
            framework="grok",
            format_version=as_name(summary.get("chat_format_version")),
            started_at=as_time(summary.get("created_at")),
        )
        ended = as_time(summary.get("updated_at")) or as_time(summary.get("last_active_at"))
        if ended and (self.run.columns["started_at"] or ended) <= ended:
            self.run.set(ended_at=ended)
        self._model = as_text(summary.get("current_model_id"))
        self._efforts: list[str] = []
        self._metadata = metadata_of(summary, (*_TAKEN, *_ENVIRONMENT, "reasoning_effort"))
        self._note(self._efforts, summary.get("reasoning_effort"))
        self._tell_environment(summary, info)
        with out.record(None):
            self._name_parent(summary)
        self._fingerprints: list[str] = []
        self._is_open = self._is_compacted = False
        self._spawners: dict[str, int] = {}
        self._children = 0

    def _tell_environment(self, summary: Object, info: Object) -> None:
        facts: Object = {key: summary.get(key) for key in _ENVIRONMENT}
        self.run.environment(cwd=as_text(info.get("cwd")), **facts)
        self._metadata |= {key: fact for key, fact in facts.items() if fact is not None}
        more = {key: value for key, value in info.items() if key not in ("id", "cwd")}
        if more:
            self._metadata["info"] = more
        if cwd := as_text(info.get("cwd")):
            self._metadata["cwd"] = cwd

    def _name_parent(self, summary: Object) -> None:
        parent = as_text(summary.get("parent_session_id"))
        if parent is None and summary.get("session_kind") == "subagent":
            above = self._source.beside(f"../{_SUMMARY}")
            if above is not None:
                parent = as_text(as_object(as_object(above.json()).get("info")).get("id"))
        if parent:
            self.run.started_by(parent)

    def _note(self, notes: list[str], value: Any) -> None:
        if isinstance(value, str) and value not in notes:
            notes.append(value)

    # ------------------------------------------------------------------ lines

    def tell(self, record: Object, pos: str) -> None:
        """The next line."""
        kind = as_text(record.get("type"))
        if kind in ("reasoning", "assistant", "backend_tool_call"):
            self._begin_call(pos)
            if kind == "reasoning":
                text, state, sealed = thought_of(record)
                self.run.thinking(text, pos, state=state, signature=sealed)
            elif kind == "assistant":
                self._tell_reply(record, pos)
            else:
                self._tell_provider_call(as_object(record.get("kind")), f"{pos}/kind")
            return
        self._is_open = False
        if kind == "system":
            text, media = text_and_media(record.get("content"))
            self.run.system(text, f"{pos}/content", media=media)
        elif kind == "user":
            self._tell_asked(record, pos)
        elif kind == "tool_result":
            self._tell_result(record, pos)
        elif kind is None:
            raise UnreadableRecord("a line without a type", pos)
        else:
            said = as_json({key: value for key, value in record.items() if key != "type"})
            self.run.event("other", said, pos, actor="harness", error_type=kind)

    def _begin_call(self, pos: str) -> None:
        if self._is_open:
            return
        self._is_open = True
        self.run.step(source_pos=pos)
        if self._is_compacted:
            self.run.saw(None, None, "unknown", history_edit="compacted")

    def _tell_asked(self, record: Object, pos: str) -> None:
        text, media = text_and_media(record.get("content"))
        reason = as_text(record.get("synthetic_reason"))
        if interrupt := as_text(record.get("prior_turn_interrupt")):
            place = f"{pos}/prior_turn_interrupt"
            self.run.event("other", interrupt, place, actor="user", error_type="interrupt")
        if reason == "compaction_meta":
            self._is_compacted = True
            self.run.event("compaction", text, f"{pos}/content", actor=reason, media=media)
        else:
            self.run.user(text, f"{pos}/content", actor=reason, media=media)

    def _tell_reply(self, record: Object, pos: str) -> None:
        self._is_open = False
        if model := as_text(record.get("model_id")):
            self.run.update_step(model=model)
        self._note(self._efforts, record.get("reasoning_effort"))
        fingerprint = record.get("model_fingerprint", record.get("system_fingerprint"))
        self._note(self._fingerprints, fingerprint)
        text, media = text_and_media(record.get("content"))
        if text or media:
            self.run.message(text, f"{pos}/content", media=media)
        for index, call in enumerate(map(as_object, as_array(record.get("tool_calls")))):
            name, identity = as_text(call.get("name")), as_name(call.get("id"))
            place = f"{pos}/tool_calls/{index}"
            seq = self.run.call(name, call.get("arguments"), place, call_id=identity)
            if identity and any(word in (name or "").lower() for word in _SPAWNERS):
                self._spawners[identity] = seq

    def _tell_provider_call(self, kind: Object, pos: str) -> None:
        name = as_text(kind.get("name")) or as_text(kind.get("tool_type"))
        identity = as_name(kind.get("id")) or as_name(kind.get("call_id"))
        seq = self.run.call(name, arguments_of(kind), pos, call_id=identity)
        outputs = kind.get("outputs")
        if outputs:
            self.run.result(as_json(outputs), f"{pos}/outputs", answers=seq, call_id=identity)

    def _tell_result(self, record: Object, pos: str) -> None:
        text, media = text_and_media(record.get("content"))
        images = [as_text(as_object(i).get("type")) for i in as_array(record.get("images"))]
        media = [*(media or []), *(kind or "image" for kind in images)] or None
        identity = as_name(record.get("tool_call_id"))
        self.run.result(text, f"{pos}/content", call_id=identity, media=media)
        if identity in self._spawners:
            self._name_children(text or "", self._spawners[identity])

    def _name_children(self, text: str, seq: int) -> None:
        """Subagents that a call started: their ids stand in its result, and a note of each beside."""
        for child in dict.fromkeys(_UUID.findall(text)):
            self._children += 1
            if self._children > _MOST_CHILDREN:
                return
            note = self._source.beside(f"subagents/{child}/meta.json")
            if note is None:
                continue
            self.run.spawned(child, seq)
            self._metadata.setdefault("subagents", {})[child] = note.json()

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """What is known of the session as a whole."""
        if all(step.model is None for step in self.run.steps):
            self.run.set(model=self._model)
        params = {"reasoning_effort": self._efforts, "model_fingerprint": self._fingerprints}
        known = {name: values for name, values in params.items() if values}
        if self._model is not None:
            self._metadata["current_model_id"] = self._model
        self.run.set(params=known or None, metadata=self._metadata)
