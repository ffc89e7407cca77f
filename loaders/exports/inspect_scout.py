"""Inspect Scout's transcripts: a folder of Parquet files with a row for each run.

``messages`` holds Inspect's chat messages as JSON, ``events`` is empty: Scout's model events repeat
each request, which the tables do not. A model call is one assistant message whose thinking and text
stand in their order; its tokens and the rest of its step are in the message's ``metadata``, as are
the columns of a tool's response. Each thinking block says its state in ``internal``: only what the
log shows in full is ``reasoning``, a summary is ``summary``, what proves or encrypts it is
``signature``, and what was redacted is marked so and has its data in place of ``reasoning``.

``success``, ``score``, ``task_id`` and their like are Scout's own columns; the others are columns of
its metadata. Errors, compactions and other events are no messages: ``other_events`` holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from loaders.exports._report import LEFT_OUT, Losses
from loaders.exports._runs import OneRun
from loaders.exports._turns import (
    Messages,
    Reply,
    arguments_of,
    kept_labels,
    tool_of,
)
from loaders.values import Object, as_json, total

TITLE = "Inspect Scout transcripts"
VERSIONS = ()

_BYTES_PER_FILE = 64 << 20
_IN_COLUMN = "no field: kept in a column of the metadata"
_IN_MESSAGE = "no field: kept in the message's metadata"
_IN_INTERNAL = "no field: kept as internal of the content"

_COLUMNS: Final = pl.Schema(
    {
        "transcript_id": pl.String,
        "source_type": pl.String,
        "source_id": pl.String,
        "source_uri": pl.String,
        "date": pl.String,
        "task_set": pl.String,
        "task_id": pl.String,
        "task_repeat": pl.Int64,
        "agent": pl.String,
        "agent_args": pl.String,
        "model": pl.String,
        "model_options": pl.String,
        "score": pl.String,
        "score_explanation": pl.String,
        "success": pl.Boolean,
        "message_count": pl.Int64,
        "total_time": pl.Float64,
        "total_tokens": pl.Int64,
        "error": pl.String,
        "limit": pl.String,
        "trust_content": pl.Boolean,
        "messages": pl.String,
        "events": pl.String,
        "timelines": pl.String,
        "events_data": pl.String,
    }
)
# fmt: off
_KEPT_OF_RUN = (
    "native_id", "parent_id", "parent_seq", "format_version", "framework_version",
    "provider", "trial", "arm", "ended_at", "outcome", "end_reason", "input_tokens",
    "output_tokens", "reasoning_tokens", "cached_tokens", "cost_usd",
)
_KEPT_OF_STEP = (
    "agent", "started_at", "ended_at", "input_tokens", "output_tokens", "reasoning_tokens",
    "cached_tokens", "stop_reason", "error", "thinking_sent", "evidence", "history_edit",
)
_KEPT_OF_EVENT = (
    "actor", "error_type", "exit_code", "truncated", "started_at", "duration_s", "injected", "media",
)
_ERRORS = (
    "parsing", "timeout", "unicode_decode", "permission", "file_not_found", "is_a_directory",
    "limit", "approval", "cancelled", "sandbox_unavailable",
)
# fmt: on


def write(runs: Any, path: Path, version: str | None, losses: Losses) -> list[Path]:
    """As many files as the size of the runs asks for."""
    path.mkdir(exist_ok=True)
    paths: list[Path] = []
    for number, rows in enumerate(_portions(runs, losses)):
        file = path / f"transcripts_{number:05}.parquet"
        frame = pl.DataFrame(rows, schema=_schema(), orient="row")
        frame.write_parquet(file, compression="zstd", row_group_size=25)
        paths.append(file)
    return paths


def _schema() -> pl.Schema:
    """Scout's own columns, then those of its metadata."""
    counts = ("parent_seq", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    kept = {name: pl.Int64 if name in counts else pl.String for name in _KEPT_OF_RUN}
    beside = dict.fromkeys(("scores", "log_metadata", "labels", "tools", "other_events"), pl.String)
    return pl.Schema({**_COLUMNS, **kept, "cost_usd": pl.Float64(), **beside})


def _portions(runs: Iterator[OneRun], losses: Losses) -> Iterator[list[Object]]:
    rows: list[Object] = []
    size = 0
    for run in runs:
        losses.begin(run.id)
        row = _Transcript(run, losses).written()
        rows.append(row)
        losses.runs += 1
        size += len(row["messages"]) + len(row["other_events"] or "")
        if size >= _BYTES_PER_FILE:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


class _Transcript(Messages):
    """One run as a transcript."""

    columns_set_aside = ("text", "tool", "arguments", *_KEPT_OF_EVENT)

    def written(self) -> Object:
        """The whole row; columns that it lacks are not known."""
        row = self._run.row
        self.put_together()
        first, last = row["started_at"], row["ended_at"]
        tokens = row["input_tokens"], row["output_tokens"]
        return {
            **dict.fromkeys(_schema()),
            **self._kept_of_run(),
            "transcript_id": self._run.id,
            "source_type": row["format"],
            "source_id": row["source_hash"],
            "source_uri": row["source"],
            "date": _text(first),
            "task_set": row["benchmark"],
            "task_id": row["task_id"],
            "task_repeat": _repeat(row["trial"]),
            "agent": row["framework"],
            "model": row["model"],
            "model_options": row["params"],
            "score": _text(row["score"]),
            "success": row["success"],
            "message_count": len(self._messages),
            "total_time": None if None in (first, last) else (last - first).total_seconds(),
            "total_tokens": total(*tokens),
            "error": row["end_reason"] if row["outcome"] == "error" else None,
            "limit": row["end_reason"] if row["outcome"] == "limit" else None,
            "messages": as_json(self._messages),
            "events": "[]",
            "scores": as_json(row["scores"]),
            "log_metadata": row["metadata"],
            "labels": as_json(kept_labels(self._run, self._losses, _IN_COLUMN).get("labels")),
            "tools": as_json(self._run.tools or None),
            "other_events": as_json(self._other or None),
        }

    def _kept_of_run(self) -> Object:
        row = self._run.row
        for name in ("scores", "metadata", "toolset"):
            if row[name] is not None:
                self._losses.add(f"trajectories.{name}", _IN_COLUMN)
        return self._losses.keep("trajectories", row, _KEPT_OF_RUN, _IN_COLUMN)

    # ------------------------------------------------------------------ messages

    def _add(self, role: str, event: Object, content: Any = None, **fields: Any) -> None:
        metadata = {
            **fields.pop("metadata", {}),
            **self._losses.keep("events", event, _KEPT_OF_EVENT, _IN_MESSAGE),
        }
        self._seqs.append(event["seq"])
        self._put(role, event["text"] or "" if content is None else content, metadata, fields)

    def _put(self, role: str, content: Any, metadata: Object, fields: Object) -> None:
        message = {
            "id": f"{self._run.id}-{len(self._messages)}",
            "content": content,
            "metadata": metadata or None,
            "role": role,
            **fields,
        }
        self._messages.append({k: v for k, v in message.items() if v is not None})

    def add_prompt(self, event: Object) -> None:
        """A turn of the user, or the system prompt."""
        self._add(event["kind"], event)

    def add_result(self, event: Object) -> None:
        """A tool's message, with Inspect's own error where the log flags one."""
        error, metadata = None, {}
        if event["is_error"]:
            kind = event["error_type"] if event["error_type"] in _ERRORS else "unknown"
            error = {"type": kind, "message": event["text"] or ""}
        elif event["is_error"] is not None:
            metadata = self._losses.keep("events", event, ("is_error",), _IN_MESSAGE)
        self._add(
            "tool",
            event,
            tool_call_id=self._ids.of_result(event),
            function=event["tool"],
            error=error,
            metadata=metadata,
        )

    def add_reply(self, reply: Reply) -> None:
        """One message for all that a model call emitted."""
        calls = reply.of("tool_call")
        told = [event for event in reply.events if event["kind"] != "tool_call"]
        metadata: Object = {}
        for event in reply.events:
            for name, value in self._losses.keep(
                "events", event, _KEPT_OF_EVENT, _IN_MESSAGE
            ).items():
                metadata.setdefault("events", {}).setdefault(str(event["seq"]), {})[name] = value
        if reply.step is not None:
            metadata |= self._losses.keep("steps", reply.step, _KEPT_OF_STEP, _IN_MESSAGE)
            for name in ("context", "thinking_context"):
                if reply.step[name] is not None:
                    self._losses.add(f"steps.{name}", LEFT_OUT, reply.step)
        fields = {
            "source": None if reply.step is None else "generate",
            "model": None if reply.step is None else reply.step["model"],
            "tool_calls": [self._call(call) for call in calls] or None,
        }
        self._seqs += [event["seq"] for event in (*told, *calls)]
        self._put("assistant", self._content(told), metadata, fields)

    def _content(self, told: list[Object]) -> Any:
        if all(event["kind"] == "message" for event in told) and len(told) < 2:
            return "".join(event["text"] or "" for event in told)
        return [self._part(event) for event in told]

    def _part(self, event: Object) -> Object:
        if event["kind"] == "message":
            return {"type": "text", "text": event["text"] or ""}
        state, text, signature = (event[n] for n in ("thinking_state", "text", "signature"))
        if state != "text":
            self._losses.add(f"thinking {state}", _IN_INTERNAL, event)
        part: Object = {"type": "reasoning", "reasoning": "", "internal": {"thinking_state": state}}
        if state in ("text", "tagged_in_text"):
            part |= {"reasoning": text or "", "signature": signature}
        elif state == "redacted":
            part |= {"reasoning": signature or "", "redacted": True, "summary": text}
        else:
            part |= {"summary": text, "signature": signature}
        return {name: value for name, value in part.items() if value is not None}

    def _call(self, call: Object) -> Object:
        return {
            "id": self._ids.of_call(call),
            "function": tool_of(call, self._losses),
            "arguments": arguments_of(call, self._losses),
            "type": "function",
        }


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _repeat(trial: str | None) -> int | None:
    """A trial's number, where it is one."""
    is_number = trial is not None and trial.isascii() and trial.isdigit() and len(trial) < 18
    return int(trial) if trial is not None and is_number else None
