"""One run of a task as seen from outside of the agent: what any in-process framework needs.

A runner hands a framework the desk's tools with ``Visit.call`` behind them and a tool that hands in
the answer with ``Visit.submit``. Whether the run succeeded, and which of its responses were perturbed,
the visit knows; how much thinking each request held, the model server knows; ``truth_of`` joins both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import perturb
from perturb import ToolRaised
from world import Desk, Task, all_tasks, open_desk

if TYPE_CHECKING:
    from server import Record

__all__ = [
    "SUBMIT",
    "ToolRaised",
    "Visit",
    "tasks_by_id",
    "thinking_in",
    "truth_of",
    "truth_of_record",
    "write_part",
]

SUBMIT = {
    "type": "function",
    "function": {
        "name": "submit",
        "description": "Hand in the answer and finish.",
        "parameters": {
            "type": "object",
            "properties": {"answer": {"type": "string", "description": "The answer"}},
            "required": ["answer"],
        },
    },
}
"""The tool that hands in the answer, in the form of the Chat Completions API."""


class Visit:
    """The desk, the answer, and the perturbations met."""

    def __init__(self, task: Task, trial: int, faults: dict[int, str] | None = None) -> None:
        self.task = task
        self.trial = trial
        self.desk: Desk = open_desk(task)
        self.faults = perturb.schedule(task.id, trial) if faults is None else faults
        self.calls = 0
        """Tool calls so far, submitting apart: the number of the next one."""
        self.hits: list[dict[str, Any]] = []
        """Step, tool and kind of each perturbed response. The agent calls one tool per step."""
        self.answer: str | None = None

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Do a tool call and return its response, perturbed if it is the turn of one.

        Raises ``ToolRaised`` for a perturbation of the kind ``raised_error``.
        """
        number, kind = self.calls, self.faults.get(self.calls)
        self.calls += 1
        if kind:
            self.hits.append({"step": number, "tool": name, "kind": kind})
        return perturb.perturbed(kind, lambda: self.desk.call(name, arguments))

    def submit(self, answer: Any) -> str:
        """Hand in the answer; never perturbed."""
        self.answer = str(answer)
        return self.answer

    def definitions(self) -> list[dict[str, Any]]:
        """The desk's tools and ``submit``, in the form of the Chat Completions API."""
        return [*(tool.definition() for tool in self.desk.tools.values()), SUBMIT]

    @property
    def success(self) -> bool:
        """The world's own check of the final database and the answer."""
        return self.desk.solved(self.answer)


def tasks_by_id() -> dict[str, Task]:
    """Every task by its id."""
    return {task.id: task for task in all_tasks()}


def truth_of(
    visit: Visit,
    record: Record,
    is_limit: bool = False,
    columns: dict[str, Any] | None = None,
    log_text: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What is true of a run, whatever its log shows. ``is_limit``: it ended at the limit of calls.

    ``columns`` and ``more`` come first: the arm or the style, the log's path, the ids. With the text
    of the log it is counted how many thinking texts stand there.
    """
    outcome = "limit" if is_limit else "success" if visit.success else "failure"
    return {
        **({"task_id": visit.task.id, "trial": visit.trial} if columns is None else columns),
        **more,
        "domain": visit.task.domain,
        "difficulty": visit.task.difficulty,
        "outcome": outcome,
        "success": visit.success,
        "perturbations": visit.hits,
        **truth_of_record(record, log_text),
    }


def truth_of_record(record: Record, log: str | None = None) -> dict[str, Any]:
    """The part of a run's truth that the model server knows."""
    told = {
        "steps": len(record.thinking_sent),
        "slips": [{"step": step, "what": what} for step, what in record.slips],
        "thinking_available": record.thinking_available,
        "thinking_sent": record.thinking_sent,
    }
    if any(record.thinking_as_text):
        told["thinking_as_text"] = record.thinking_as_text
    if log is not None:
        told["thinking_in_log"] = thinking_in(log, record.thoughts)
    return told


def thinking_in(log: str, thoughts: Iterable[str]) -> int:
    """How many of these texts stand whole in a log, however often it escapes them."""
    squeezed = _squeezed(log)
    return sum(_squeezed(thought) in squeezed for thought in thoughts)


def _squeezed(text: str) -> str:
    return re.sub(r"\\+n|[\\\"'\s]", "", text)


def write_part(
    out: Path, name: str, version: str, runs: Iterable[dict[str, Any]], framework: str | None = None
) -> None:
    """Write a framework's part of the truth, which ``make.py`` puts together with the others."""
    part = {"framework": framework or name, "version": version, "runs": list(runs)}
    folder = out / "truth_parts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")
