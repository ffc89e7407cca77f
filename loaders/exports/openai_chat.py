"""OpenAI chat messages: a JSON Lines file with a row of ``messages`` and ``tools`` for each run.

A model call is one assistant message: its text as ``content``, in parts where it has several, its
calls, and the thinking that the log shows in full as ``reasoning_content``. Where there is more to
say of the thinking, its blocks stand beside it in the places that servers have for them:
``reasoning_details`` for texts with signatures, for summaries and for what is encrypted,
``thinking_blocks`` for what was redacted. Thinking in tags is put back into its tags.

``is_error`` stands beside the content of a tool's message. Errors, compactions and other events are
no messages of the dialect: they are in the row's ``other_events``, each with the number of messages
before it. Identity, outcome and sums of tokens are keys of the row, the rest is its ``metadata``.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from loaders.exports._report import LEFT_OUT, Losses
from loaders.exports._runs import decoded
from loaders.exports._turns import (
    Messages,
    Reply,
    arguments_of,
    definitions,
    kept_labels,
    tool_of,
)
from loaders.values import Object, as_json, total

TITLE = "OpenAI chat messages"
VERSIONS = ()

_TAG = re.compile(r"</?(?:think|thinking|reasoning)>")
_IN_METADATA = "no field: kept in metadata"
_NAMES = {"end_reason": "exit_status"}
# fmt: off
_KEPT_OF_RUN = (
    "native_id", "parent_id", "parent_seq", "source", "source_hash", "format", "format_version",
    "framework_version", "provider", "arm", "started_at", "ended_at", "outcome", "scores",
    "cost_usd",
)
_TOLD_OF_RUN = (
    "task_id", "trial", "model", "benchmark", "framework", "success", "score", "end_reason",
)
_LEFT_OUT_OF_STEPS = (
    "agent", "model", "started_at", "ended_at", "input_tokens", "output_tokens",
    "reasoning_tokens", "cached_tokens", "stop_reason", "error", "thinking_sent", "evidence",
    "history_edit", "context", "thinking_context",
)
_LEFT_OUT_OF_EVENTS = (
    "error_type", "exit_code", "truncated", "started_at", "duration_s", "injected", "media",
)
# fmt: on


def write(runs: Any, path: Path, version: str | None, losses: Losses) -> list[Path]:
    """One row per run that has a message."""
    with path.open("wb") as file:
        for run in runs:
            losses.begin(run.id)
            row = _Row(run, losses).written()
            if not row["messages"]:
                losses.refuse("it has no message")
                continue
            file.write(msgspec.json.encode(row) + b"\n")
            losses.runs += 1
    return [path]


class _Row(Messages):
    """One run as a row of its messages."""

    columns_set_aside = ("text", "actor", "tool", "arguments", *_LEFT_OUT_OF_EVENTS)

    def written(self) -> Object:
        """The whole row."""
        row = self._run.row
        self.put_together()
        told = {_NAMES.get(name, name): row[name] for name in _TOLD_OF_RUN}
        return _known(
            {
                "trajectory_id": self._run.id,
                "messages": self._messages,
                "tools": definitions(self._run, self._losses),
                **told,
                "usage": self._usage() or None,
                "other_events": self._other or None,
                "metadata": self._metadata(),
            }
        )

    # ------------------------------------------------------------------ the run

    def _usage(self) -> Object:
        row = self._run.row
        cached, reasoning = row["cached_tokens"], row["reasoning_tokens"]
        counts = row["input_tokens"], row["output_tokens"]
        return _known(
            {
                "prompt_tokens": counts[0],
                "completion_tokens": counts[1],
                "total_tokens": None if None in counts else total(*counts),
                "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
                "completion_tokens_details": (
                    None if reasoning is None else {"reasoning_tokens": reasoning}
                ),
            }
        )

    def _metadata(self) -> Object:
        row = self._run.row
        kept = self._losses.keep("trajectories", row, _KEPT_OF_RUN, _IN_METADATA)
        for name in ("params", "metadata"):
            if row[name] is not None:
                kept["log" if name == "metadata" else name] = decoded(row[name])
                self._losses.add(f"trajectories.{name}", _IN_METADATA)
        return kept | kept_labels(self._run, self._losses, _IN_METADATA)

    # ------------------------------------------------------------------ messages

    def _add(self, event: Object, message: Object) -> None:
        self._messages.append(_known({**message, "content": event["text"] or ""}))
        self._seqs.append(event["seq"])
        self._losses.keep("events", event, _LEFT_OUT_OF_EVENTS, LEFT_OUT)

    def add_prompt(self, event: Object) -> None:
        """A turn of the user, or the system prompt."""
        self._add(event, {"role": event["kind"], "name": event["actor"]})

    def add_result(self, event: Object) -> None:
        """A tool's message, with its error flag beside the content."""
        call_id = self._ids.of_result(event)
        is_error = event["is_error"]
        if is_error is not None:
            self._losses.add("events.is_error", "no field: kept beside the content", event)
        self._losses.keep("events", event, ("actor",), LEFT_OUT)
        message = {"role": "tool", "tool_call_id": call_id, "name": event["tool"]}
        self._add(event, {**message, "is_error": is_error})

    def add_reply(self, reply: Reply) -> None:
        """One message for all that a model call emitted."""
        for event in reply.events:
            self._losses.keep("events", event, ("actor", *_LEFT_OUT_OF_EVENTS), LEFT_OUT)
        if reply.step is None:
            self._losses.add("steps", "told as the reply of a model call, which it is not")
        else:
            self._losses.keep("steps", reply.step, _LEFT_OUT_OF_STEPS, LEFT_OUT)
        thoughts = [e for e in reply.of("thinking") if e["thinking_state"] != "tagged_in_text"]
        calls = reply.of("tool_call")
        spoken = [event for event in reply.events if self._is_spoken(event)]
        content = self._content(spoken)
        message = {
            "role": "assistant",
            "content": content if content or not calls else None,
            **self._thinking(thoughts),
        }
        if calls:
            message["tool_calls"] = [self._call(call) for call in calls]
        self._messages.append(message)
        self._seqs += [event["seq"] for event in (*spoken, *calls)]

    def _is_spoken(self, event: Object) -> bool:
        """Whether an event belongs into the content of its message."""
        if event["kind"] != "message" and not _is_tagged(event):
            return False
        kind = "thinking" if _is_tagged(event) else "message"
        says_something = bool((event["text"] or "").strip())
        if not says_something:
            self._losses.add(f"{kind} without text", "left out: it says nothing", event)
        elif _TAG.search(event["text"]):
            reason = "its text holds think tags: a reader may take a part of it for thinking"
            self._losses.add(f"{kind} with tags", reason, event)
        return says_something

    def _content(self, told: list[Object]) -> str | list[Object]:
        """Text as it is; in parts where it has several; in one where some of it is in tags."""
        joined = [b for a, b in pairwise(told) if not _is_tagged(a) and not _is_tagged(b)]
        if joined:
            reason = "parts of one message: what reads it may put them together"
            self._losses.add("message boundaries", reason, joined[0], count=len(joined))
        if any(_is_tagged(event) for event in told):
            return "".join(
                f"<think>{e['text']}</think>" if _is_tagged(e) else e["text"] for e in told
            )
        if len(told) > 1:
            return [{"type": "text", "text": event["text"]} for event in told]
        return "".join(event["text"] for event in told)

    def _call(self, call: Object) -> Object:
        call_id, name = self._ids.of_call(call), tool_of(call, self._losses)
        arguments = as_json(arguments_of(call, self._losses))
        function = {"name": name, "arguments": arguments}
        return {"id": call_id, "type": "function", "function": function}

    # ------------------------------------------------------------------ thinking

    def _thinking(self, thoughts: list[Object]) -> Object:
        """Texts first, then what is encrypted or a summary, then what was redacted."""
        texts = [event for event in thoughts if event["thinking_state"] == "text"]
        redacted = [event for event in thoughts if event["thinking_state"] == "redacted"]
        others = [event for event in thoughts if event not in texts and event not in redacted]
        self._seqs += [event["seq"] for event in (*texts, *others, *redacted)]
        for event in (*texts, *others):
            if not event["text"] and not event["signature"]:
                what = "without text" if event["thinking_state"] == "text" else "without signature"
                reason = "an empty entry: most readers skip it"
                self._losses.add(f"thinking {what}", reason, event)
        for event in thoughts:
            if event["text"] and event["thinking_state"] in ("hidden", "redacted"):
                self._losses.add(
                    "thinking text", "left out: its state is that it is not shown", event
                )
        is_plain = len(thoughts) == len(texts) < 2 and not any(e["signature"] for e in texts)
        details = [] if is_plain else [_detail(e, n) for n, e in enumerate((*texts, *others))]
        blocks = [
            {"type": "redacted_thinking", "data": event["signature"] or ""} for event in redacted
        ]
        shown = "\n".join(event["text"] for event in texts if event["text"])
        return {
            **({"reasoning_content": shown} if shown else {}),
            **({"reasoning_details": details} if details else {}),
            **({"thinking_blocks": blocks} if blocks else {}),
        }


def _detail(event: Object, index: int) -> Object:
    signature = {} if event["signature"] is None else {"signature": event["signature"]}
    match event["thinking_state"]:
        case "text":
            detail: Object = {"type": "reasoning.text", "text": event["text"] or "", **signature}
        case "summary":
            detail = {"type": "reasoning.summary", "summary": event["text"] or "", **signature}
        case _:
            detail = {"type": "reasoning.encrypted", "data": event["signature"] or ""}
    return {**detail, "index": index}


def _is_tagged(event: Object) -> bool:
    return event["thinking_state"] == "tagged_in_text"


def _known(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value is not None}
