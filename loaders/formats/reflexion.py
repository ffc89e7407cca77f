"""Reflexion results: ``env_results_trial_<n>.json``, a list of ``{name, memory, is_success}``.

One file per trial, each with all environments. ``is_success`` is cumulative: true from the trial on
that solved the environment, which is not attempted again. So a file's successes are the tasks
solved so far, and the files of several trials are no independent attempts. The steps are not
logged; ``memory`` holds the reflections on the failed trials so far, of which the log does not say
when they were written.
"""

from __future__ import annotations

import re

from loaders.builder import Builder
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import as_array, as_bool, as_name, as_object, as_text

TITLE = "Reflexion result"
GIVES = ("outcome",)
LOGS_THINKING = "never"

_TOLD = ("name", "memory", "is_success")
_TRIAL = re.compile(r"env_results_trial_(\d+)\.json(?:\..+)?")


def sniff(head: Head) -> bool:
    """Environments with their memory and success."""
    return {"name", "memory", "is_success"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per environment."""
    trial = _TRIAL.fullmatch(source.filename)
    for pos, record in source.records():
        with out.record(pos):
            record = as_object(record)
            name = as_name(record.get("name"))
            run = out.trajectory(
                native_id=name,
                pos=pos,
                framework="reflexion",
                task_id=name,
                trial=trial[1] if trial else None,
                metadata={key: value for key, value in record.items() if key not in _TOLD},
            )
            for index, reflection in enumerate(as_array(record.get("memory"))):
                run.event("other", as_text(reflection), f"{pos}/memory/{index}", actor="reflection")
            success = as_bool(record.get("is_success"))
            run.outcome(success=success, score=None if success is None else float(success))
