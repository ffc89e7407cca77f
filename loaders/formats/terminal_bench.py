"""Terminal-Bench results: ``results.json`` of a run (all its trials) or of one trial directory.

A trial's results stand in its own directory and again in the run's file; loaded together, each is
told once, as the run's file has it, and a difference between the two is a problem. ``native_id`` is the trial's own UUID: where it repeats, a run directory was copied. A
copy of the same bytes is warned of, as with every format.

``is_resolved`` is null where the tests gave no verdict (``parse_error``, ``test_timeout``): then
``success`` is unknown, but ``score`` is 0, as the benchmark counts it in ``accuracy``. A trial that
ran into ``agent_timeout`` can still be resolved. Token counts of 0 are those of agents that report
none. The steps are in the recordings beside (``sessions/``, ``panes/``), in no form that tells the
model from the terminal: only the instruction and the outcome are read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_object,
    as_text,
    as_time,
)

TITLE = "Terminal-Bench result"
GIVES = ("tokens", "outcome")
IGNORED = {
    "/resolved_ids/*": "each trial says itself whether it was resolved",
    "/unresolved_ids/*": "each trial says itself whether it was resolved",
    "/n_resolved": "a count of the trials, each of which says whether it was resolved",
    "/n_unresolved": "a count of the trials, each of which says whether it was resolved",
}

_RUN_FILE = "../../results.json"
_NO_FAILURE = ("unset", "none")
_LIMITS = ("agent_timeout", "context_length_exceeded", "output_length_exceeded")
_TOLD_OF_A_RUN = ("results", "resolved_ids", "unresolved_ids", "n_resolved", "n_unresolved")
_TOLD_OF_A_TRIAL = (
    "id",
    "task_id",
    "trial_name",
    "instruction",
    "is_resolved",
    "failure_mode",
    "parser_results",
    "trial_started_at",
    "trial_ended_at",
    "total_input_tokens",
    "total_output_tokens",
)


def sniff(head: Head) -> bool:
    """A trial, or an object that begins with a list of trials."""
    return _is_trial(head.first) or _is_trial(next(iter(as_array(head.first.get("results"))), None))


def _is_trial(value: Any) -> bool:
    return {"task_id", "is_resolved", "failure_mode"} <= as_object(value).keys()


def bundle(source: Source) -> str:
    """A trial's file belongs to that of its run, two folders above it, if there is one."""
    run_file = source.beside(_RUN_FILE) if _is_trial(source.head.first) else None
    return source.name if run_file is None else run_file.name


def read(source: Source, out: Builder) -> None:
    """One run per trial; from the file of the run where both were given."""
    told: dict[str, Object] = {}
    for part in sorted(source.parts, key=lambda part: _is_trial(part.head.first)):
        folder = posixpath.dirname(source.name)
        prefix = "" if part is source else f"{posixpath.relpath(part.name, folder)}#"
        with out.record(prefix):
            record = as_object(part.json())
            for pos, trial in _trials(record):
                with out.record(prefix + pos):
                    native_id = as_text(trial.get("id"))
                    if native_id is None or native_id not in told:
                        _read_trial(trial, record, prefix + pos, out)
                    elif other := _differing(told[native_id], trial):
                        reason = f"the run's file tells this trial otherwise: {', '.join(other)}"
                        out.problem(prefix + pos, reason)
                    if native_id is not None:
                        told.setdefault(native_id, trial)


def _trials(record: Object) -> Iterator[tuple[str, Object]]:
    if "results" not in record:
        yield "", record
        return
    for index, trial in enumerate(as_array(record["results"])):
        yield f"/results/{index}", as_object(trial)


def _differing(one: Object, other: Object) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _read_trial(trial: Object, record: Object, pos: str, out: Builder) -> None:
    whole = {} if trial is record else record
    of_run = {key: value for key, value in whole.items() if key not in _TOLD_OF_A_RUN}
    task, name = as_text(trial.get("task_id")), as_text(trial.get("trial_name"))
    run = out.trajectory(
        native_id=as_text(trial.get("id")),
        pos=pos,
        benchmark="terminal_bench",
        task_id=task,
        trial=name,
        started_at=as_time(trial.get("trial_started_at")),
        ended_at=as_time(trial.get("trial_ended_at")),
        input_tokens=as_int(trial.get("total_input_tokens")) or None,
        output_tokens=as_int(trial.get("total_output_tokens")) or None,
        metadata={
            **{f"run_{key}": value for key, value in of_run.items()},
            **{key: value for key, value in trial.items() if key not in _TOLD_OF_A_TRIAL},
        },
    )
    run.environment(task=task)
    if "instruction" in trial:
        run.user(as_text(trial["instruction"]), f"{pos}/instruction")
    resolved = as_bool(trial.get("is_resolved"))
    is_unjudged = "is_resolved" in trial and trial["is_resolved"] is None
    failure = as_text(trial.get("failure_mode"))
    end_reason = None if failure in _NO_FAILURE else failure
    tests = as_object(trial.get("parser_results"))
    run.outcome(
        _outcome(resolved, end_reason),
        success=resolved,
        score=float(resolved or False) if resolved is not None or is_unjudged else None,
        end_reason=end_reason,
        scores=[(test, _verdict(result), as_text(result)) for test, result in tests.items()],
    )


def _outcome(resolved: bool | None, end_reason: str | None) -> str | None:
    if resolved or end_reason is None:
        return None
    return "limit" if end_reason in _LIMITS else "error"


def _verdict(result: Any) -> float | None:
    return {"passed": 1.0, "failed": 0.0}.get(result) if isinstance(result, str) else None
