"""The one trajectory schema: four tables, and a fifth for what could not be read.

Null always means *not known*. Nothing here is ever filled in by a guess.

How the tables hang together:

* ``run`` is an ascending integer, the same in every table, by which rows are clustered; it makes
  each per-run analysis stream. It belongs to one loaded set and is not stable between sets.
* ``trajectory_id`` names the same run on every reload of the same file, wherever it lies.
* ``seq`` numbers the events of a run without gaps from 0, in the order in which they happened.
* ``step`` numbers the model calls of a run from 0. An event carries the step of the latest model
  call begun at or before it (null before the first), so it never decreases along ``seq``.
"""

from __future__ import annotations

from typing import Final

import polars as pl

SCHEMA_VERSION: Final = 2
"""Of stores. 2: responses are told apart by another hash, which would make runs of old and new shards differ."""

KINDS: Final = (
    "system",
    "user",
    "thinking",
    "message",
    "tool_call",
    "tool_result",
    "compaction",
    "error",
    "other",
)
THINKING_EVENT_STATES: Final = ("text", "summary", "hidden", "redacted", "tagged_in_text")
THINKING_STEP_STATES: Final = (*THINKING_EVENT_STATES, "absent", "not_logged")
EVIDENCE: Final = ("wire", "request", "tokens", "unknown")
HISTORY_EDITS: Final = ("none", "thinking_dropped", "truncated", "compacted")
OUTCOMES: Final = ("success", "failure", "error", "limit", "cancelled", "unknown")
SEVERITIES: Final = ("error", "warning", "skipped")

Kind = pl.Enum(KINDS)
ThinkingEventState = pl.Enum(THINKING_EVENT_STATES)
ThinkingStepState = pl.Enum(THINKING_STEP_STATES)
Evidence = pl.Enum(EVIDENCE)
HistoryEdit = pl.Enum(HISTORY_EDITS)
Outcome = pl.Enum(OUTCOMES)
Severity = pl.Enum(SEVERITIES)

Time = pl.Datetime("us", "UTC")
Ranges = pl.List(pl.Struct({"start": pl.Int64, "stop": pl.Int64}))
Scores = pl.List(pl.Struct({"name": pl.String, "value": pl.Float64, "raw": pl.String}))

TRAJECTORIES: Final = pl.Schema(
    {
        "run": pl.Int64,
        "trajectory_id": pl.String,
        "native_id": pl.String,
        "parent_id": pl.String,
        "parent_seq": pl.Int64,
        "source": pl.String,
        "source_hash": pl.String,
        "source_pos": pl.String,
        "format": pl.String,
        "format_version": pl.String,
        "framework": pl.String,
        "framework_version": pl.String,
        "model": pl.String,
        "provider": pl.String,
        "benchmark": pl.String,
        "task_id": pl.String,
        "trial": pl.String,
        "arm": pl.String,
        "started_at": Time,
        "ended_at": Time,
        "outcome": Outcome,
        "success": pl.Boolean,
        "score": pl.Float64,
        "scores": Scores,
        "end_reason": pl.String,
        "steps": pl.Int64,
        "events": pl.Int64,
        "unanswered_calls": pl.Int64,
        "orphan_results": pl.Int64,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "reasoning_tokens": pl.Int64,
        "cached_tokens": pl.Int64,
        "cost_usd": pl.Float64,
        "toolset": pl.String,
        "system_prompt": pl.String,
        "user_prompt": pl.String,
        "environment": pl.String,
        "tool_responses": pl.String,
        "params": pl.String,
        "metadata": pl.String,
    }
)
"""A row per run; a subagent's run is a row of its own.

``native_id`` the log's own name of the run; ``parent_id``, ``parent_seq`` the run and the event
that started a subagent; ``source`` the file as it was found, ``source_hash`` SHA-256 of its bytes,
unpacked if they are packed, ``source_pos`` the run's place in it; ``outcome`` with the log's own
``end_reason``; ``score`` the main score and ``scores`` all of them (``raw`` as logged, ``value``
where it is a number);
``unanswered_calls`` tool calls without a result, ``orphan_results`` results without a call; token
sums over the steps that report them (``input_tokens`` includes cached ones, ``output_tokens``
includes reasoning); one fingerprint for each of the five axes on which two runs may differ
(``toolset system_prompt user_prompt environment tool_responses``); ``params`` of sampling and
``metadata`` as JSON with credentials redacted.
"""

STEPS: Final = pl.Schema(
    {
        "run": pl.Int64,
        "trajectory_id": pl.String,
        "step": pl.Int64,
        "seq": pl.Int64,
        "agent": pl.String,
        "model": pl.String,
        "started_at": Time,
        "ended_at": Time,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "reasoning_tokens": pl.Int64,
        "cached_tokens": pl.Int64,
        "stop_reason": pl.String,
        "error": pl.String,
        "thinking": ThinkingStepState,
        "thinking_chars": pl.Int64,
        "thinking_available": pl.Int64,
        "thinking_sent": pl.Int64,
        "evidence": Evidence,
        "history_edit": HistoryEdit,
        "context": Ranges,
        "thinking_context": Ranges,
        "toolset": pl.String,
        "source_pos": pl.String,
    }
)
"""A row per model call; also the person-period table of a discrete-time hazard.

``seq`` the number that the call's first event has (or would have, if it emitted none); ``thinking``
the state of this call's own thinking: ``absent`` means that the log would show it and there is
none, ``not_logged`` that there was or may have been some and the log has no place for it, null
that the log can't tell; ``thinking_available`` blocks emitted by earlier calls of this run,
``thinking_sent`` how many of them were in this call's request (null when unknown), on what
``evidence``; ``history_edit`` what this request's history lacks and by whose doing, for every call
that lacks it and not only the first; ``context`` half-open ranges of ``seq`` that the call saw, thinking apart;
``thinking_context`` ranges of ``seq`` inside which it also saw the thinking events. Keeping the
two apart makes both short under every policy of dropping.
"""

EVENTS: Final = pl.Schema(
    {
        "run": pl.Int64,
        "trajectory_id": pl.String,
        "seq": pl.Int64,
        "step": pl.Int64,
        "kind": Kind,
        "actor": pl.String,
        "text": pl.String,
        "thinking_state": ThinkingEventState,
        "signature": pl.String,
        "tool": pl.String,
        "call_id": pl.String,
        "call_seq": pl.Int64,
        "arguments": pl.String,
        "is_error": pl.Boolean,
        "error_type": pl.String,
        "exit_code": pl.Int64,
        "truncated": pl.Boolean,
        "started_at": Time,
        "duration_s": pl.Float64,
        "media": pl.List(pl.String),
        "injected": pl.String,
        "source_pos": pl.String,
    }
)
"""A row per ordered part of a run.

``signature`` what proves or encrypts a thinking block, as logged; ``call_seq`` on a result: the
``seq`` of the call that it answers (null: an orphan), linked by id, or by order where the format
has no ids; ``arguments`` JSON text; ``is_error`` only where the log itself flags it, never
inferred from words; ``truncated`` where the log says that the text was cut; ``media`` types of
non-text parts; ``injected`` a fault that the harness says it planted; ``source_pos`` leads back
to the raw record: ``member#L12/message/content/0`` is line 12, then a JSON pointer.
"""

TOOLS: Final = pl.Schema(
    {
        "toolset": pl.String,
        "name": pl.String,
        "description": pl.String,
        "parameters": pl.String,
        "hash": pl.String,
    }
)
"""A row per tool definition offered to a model; ``toolset`` is the fingerprint of the whole offer."""

PROBLEMS: Final = pl.Schema(
    {
        "source": pl.String,
        "position": pl.String,
        "severity": Severity,
        "reason": pl.String,
        "format": pl.String,
        "trajectory_id": pl.String,
    }
)
"""What was not read (``error``), read with doubt (``warning``), or is no log (``skipped``)."""

SPAWNS: Final = pl.Schema(
    {"run": pl.Int64, "seq": pl.Int64, "child_native_id": pl.String, "format": pl.String}
)
"""Internal: which event of which run started the subagent of that native id."""

CALLERS: Final = pl.Schema(
    {"run": pl.Int64, "parent_native_id": pl.String, "call_id": pl.String, "format": pl.String}
)
"""Internal: which runs name the run, and maybe the call, that started them."""

TABLES: Final = {
    "trajectories": TRAJECTORIES,
    "steps": STEPS,
    "events": EVENTS,
    "tools": TOOLS,
    "problems": PROBLEMS,
}
