"""MCPMark summaries: one JSON file per model and task, which holds the outcome of every run.

Only outcomes: no messages, so no steps. ``output_tokens`` includes reasoning, as in the schema. A run
can have both an error message and success, since the verifier judges the state that was left; it is
a success then. A message that names a limit of turns or context makes the outcome ``limit``.
"""

from __future__ import annotations

from loaders.builder import Builder
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import Object, as_bool, as_float, as_int, as_object, as_text

TITLE = "MCPMark summary"
GIVES = ("tokens", "outcome")
LOGS_THINKING = "never"
IGNORED = {"/runs/*/token_usage/total_tokens": "the sum of the two counts that are kept"}

_TOLD_OF_USAGE = ("input_tokens", "output_tokens", "reasoning_tokens", "total_tokens")
_TOLD_OF_A_RUN = ("success", "error_message", "execution_time", "token_usage")
_LIMITS = ("Max turns (", "litellm.ContextWindowExceededError")


def sniff(head: Head) -> bool:
    """A model, a service, a task and its runs."""
    return {"model", "service", "task", "runs"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per attempt."""
    for pos, record in source.records():
        record = as_object(record)
        for trial, attempt in as_object(record.get("runs")).items():
            place = f"{pos}/runs/{trial.replace('~', '~0').replace('/', '~1')}"
            with out.record(place):
                _read_attempt(as_object(attempt), trial, place, record, out)


def _read_attempt(attempt: Object, trial: str, pos: str, record: Object, out: Builder) -> None:
    model, service, task = (as_text(record.get(key)) for key in ("model", "service", "task"))
    usage = as_object(attempt.get("token_usage"))
    run = out.trajectory(
        native_id="/".join(part or "none" for part in (model, service, task, trial)),
        pos=pos,
        framework="mcpmark",
        benchmark="mcpmark",
        model=model,
        task_id=f"{service}/{task}",
        trial=trial,
        input_tokens=as_int(usage.get("input_tokens")),
        output_tokens=as_int(usage.get("output_tokens")),
        reasoning_tokens=as_int(usage.get("reasoning_tokens")),
        metadata={
            **{key: value for key, value in record.items() if key not in ("model", "task", "runs")},
            "execution_time_s": as_float(attempt.get("execution_time")),
            **{key: value for key, value in attempt.items() if key not in _TOLD_OF_A_RUN},
            **{key: value for key, value in usage.items() if key not in _TOLD_OF_USAGE},
        },
    )
    run.environment(service=service)
    success, error = as_bool(attempt.get("success")), as_text(attempt.get("error_message"))
    if error is not None:
        run.event("error", error, f"{pos}/error_message", actor="harness")
    outcome = None
    if error is not None and not success:
        outcome = "limit" if error.startswith(_LIMITS) else "error"
    score = None if success is None else float(success)
    run.outcome(outcome, success=success, score=score, end_reason=error)
