"""Google Antigravity transcripts: ``transcript.jsonl``, and ``transcript_full.jsonl`` beside it.

They lie in ``brain/<conversation>/.system_generated/logs``, which is hidden: name the files by a glob.
Both tell the same conversation; in the first long values are cut (``truncated_fields``), so the full
one is read where both are there. Other files of a conversation are documents that the agent wrote.

A line is a step. ``PLANNER_RESPONSE`` is a model call with its thinking and the tools it calls; the
steps after it, each named after what was done, are their results, in the order of the calls and
without their ids. A result that no call of the last reply is left for is an orphan. ``DONE`` says
that a step is over, not that it went well. The model is known from what the user's turn says of the
settings; Gemini's thoughts are summaries. A checkpoint stands for the history before it. Tokens are
not logged, and requests neither, so whether thinking was sent back is not known.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
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
    is_object,
)

TITLE = "Google Antigravity transcript"
GIVES = ("thinking",)
IGNORED = {
    "status=DONE /status": "says that a step is over, which what it holds shows as well",
    "type=PLANNER_RESPONSE /source": "a reply is always the model's",
    "type=SYSTEM_MESSAGE /source": "a message of the system is always the system's",
    "/step_index": "numbers the steps, which are told in their order",
    "/telemetry/**": "measurements of the program, not of the agent",
    "/promptVariant": "which wording of a prompt the program tried out; the prompt is not logged",
}

_TRANSCRIPTS = ("transcript.jsonl", "transcript_full.jsonl")
_FROM_THE_HARNESS = ("SYSTEM_MESSAGE", "EPHEMERAL_MESSAGE")
_RESULTS_OF_THE_SYSTEM = ("TOOL_RESPONSE",)
_FAILED = {"ERROR": True, "FAILED": True}
_CANCELLED = ("CANCELED", "CANCELLED", "INTERRUPTED")
_MODEL = re.compile(r"Model Selection`?\s+from\s+[^\n]+?\s+to\s+([^\n]+)")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def sniff(head: Head) -> bool:
    """Steps with their number, their kind, and who made them."""
    return any(
        {"step_index", "type", "source"} <= as_object(record).keys()
        for record in (head.value, *head.records)
    )


def bundle(source: Source) -> str:
    """The two transcripts of a conversation are one log."""
    is_named_so = source.filename in _TRANSCRIPTS
    return str(PurePosixPath(source.name).parent) if is_named_so else source.name


def read(source: Source, out: Builder) -> None:
    """One run: the conversation."""
    chosen = next((part for part in source.parts if part.filename == _TRANSCRIPTS[1]), source)
    prefix = "" if chosen is source else f"{chosen.filename}#"
    conversation: _Conversation | None = None
    for pos, record in chosen.json_lines():
        pos = prefix + pos
        with out.record(pos):
            if not is_object(record) or "type" not in record:
                raise UnreadableRecord("no step of a conversation", pos)
            if conversation is None:
                conversation = _Conversation(
                    out.trajectory(native_id=_id_of(source), pos=pos, framework="antigravity")
                )
            conversation.tell(record, pos)


def _id_of(source: Source) -> str | None:
    """The conversation's name: the folder around the one in which the program keeps its logs."""
    folders = PurePosixPath(source.name).parts
    return folders[-4] if len(folders) > 3 and folders[-3] == ".system_generated" else None


class _Conversation:
    """Tells a transcript step by step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._model: str | None = None
        self._calls: deque[tuple[int, str | None]] = deque()
        self._is_compacted = False

    def tell(self, step: Object, pos: str) -> None:
        """The next step."""
        kind, source = as_text(step.get("type")) or "unknown", as_text(step.get("source"))
        at, text = as_time(step.get("created_at")), as_text(step.get("content"))
        more: dict[str, Any] = {"at": at}
        if "truncated_fields" in step:
            more["truncated"] = "content" in as_array(step["truncated_fields"])
        place = f"{pos}/content" if "content" in step else pos
        if kind == "PLANNER_RESPONSE":
            self._tell_reply(step, pos, at)
        elif kind == "USER_INPUT":
            self._note_model(text or "")
            actor = None if source == "USER_EXPLICIT" else source
            self.run.user(text, place, actor=actor, **more)
        elif kind == "CHECKPOINT":
            self._is_compacted = True
            self.run.event("compaction", text, place, actor=source, **more)
        elif kind in _FROM_THE_HARNESS:
            self.run.event("user", text, place, actor="harness", **more)
        elif kind == "ERROR_MESSAGE":
            self.run.event("error", text, place, actor=source, **more)
        elif source == "MODEL" or kind in _RESULTS_OF_THE_SYSTEM:
            self._tell_result(step, kind, text, place, more)
        else:
            self.run.event("other", text, place, actor=source, error_type=kind, **more)

    def _note_model(self, text: str) -> None:
        if found := _MODEL.search(text):
            self._model = found[1].strip().removesuffix(".")

    def _tell_reply(self, step: Object, pos: str, at: datetime | None) -> None:
        cut = as_array(step.get("truncated_fields"))
        status = as_text(step.get("status"))
        self.run.step(
            source_pos=pos,
            ended_at=at,
            stop_reason=None if status == "DONE" else status,
            error=status if status in _FAILED else None,
        )
        if self._model is not None:
            self.run.update_step(model=self._model)
        if self._is_compacted:
            self.run.saw(None, None, "unknown", history_edit="compacted")
        if thinking := as_text(step.get("thinking")):
            self.run.thinking(
                thinking,
                f"{pos}/thinking",
                state="summary" if (self._model or "").startswith("Gemini") else "text",
                truncated=True if "thinking" in cut else None,
                at=at,
            )
        if text := as_text(step.get("content")):
            is_cut = "content" in cut if "truncated_fields" in step else None
            self.run.message(text, f"{pos}/content", truncated=is_cut, at=at)
        self._calls.clear()
        for index, call in enumerate(map(as_object, as_array(step.get("tool_calls")))):
            name = as_text(call.get("name"))
            place = f"{pos}/tool_calls/{index}"
            is_cut = True if "tool_calls" in cut else None
            seq = self.run.call(name, call.get("args"), place, truncated=is_cut, at=at)
            self._calls.append((seq, name))

    def _tell_result(
        self, step: Object, kind: str, text: str | None, place: str, more: dict[str, Any]
    ) -> None:
        status = as_text(step.get("status"))
        seq, name = self._calls.popleft() if self._calls else (None, None)
        self.run.result(
            as_json(step.get("content")) if text is None else text,
            place,
            answers=seq,
            tool=name or kind,
            actor=kind,
            is_error=_FAILED.get(status or ""),
            error_type="cancelled" if status in _CANCELLED else None,
            exit_code=as_int(step.get("exit_code")),
            **more,
        )
        if seq is not None and "agent" in (name or ""):
            for child in dict.fromkeys(_UUID.findall(text or "")):
                self.run.spawned(child, seq)
