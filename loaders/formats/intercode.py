"""InterCode results: ``{"<index>": {query, turn_history, summary}}``, one run per index.

``turn_history`` holds parallel lists: ``actions``, ``observations``, ``rewards``, ``valid_action``,
with ``thoughts`` (ReAct) or ``steps`` (Plan & Solve, whose file is ``{meta, logs}``). Success is a
``max_reward`` of 1. ``valid_action`` false is the environment's own flag that it rejected an action
or that it failed; a ``submit`` carries the flag of the turn before. What an agent says in the place
of a command is executed, and fails, as a command.

Where ReAct ran out of turns, the harness submitted: that last turn, beyond ``turns_taken``, is no
call of the model. The model is known where a file has InterCode's own name
(``ic_bash_multiturn_gpt-4_10_turns``); names of the other strategies don't tell it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
)

TITLE = "InterCode result"
GIVES = ("thinking", "outcome")

_FILE_NAME = re.compile(r"ic_[a-z]+_multiturn_(?P<model>.+)[-_]\d+_turns.*")
_TOLD = ("task_id", "query", "environment", "turn_history", "summary")
_EVENTS = ("thoughts", "steps", "actions", "observations", "valid_action")
_PARALLEL = (*_EVENTS, "rewards")
_PLACES = ("actions", *_PARALLEL)
"""Where a turn stands: at its action, if it has one."""


def sniff(head: Head) -> bool:
    """Indexed episodes, perhaps under ``logs``, the first of which has a turn history."""
    episodes = as_object(head.first.get("logs")) or head.first
    first = as_object(next(iter(episodes.values()), None))
    return {"query", "turn_history"} <= first.keys()


def read(source: Source, out: Builder) -> None:
    """One run per episode."""
    record = as_object(source.json())
    meta, prefix = as_object(record.get("meta")), ""
    if "logs" in record:
        record, prefix = as_object(record["logs"]), "/logs"
    named = _FILE_NAME.fullmatch(source.filename)
    for index, episode in record.items():
        pos = f"{prefix}/{index.replace('~', '~0').replace('/', '~1')}"
        with out.record(pos):
            run = _read_episode(as_object(episode), index, pos, out)
            run.set(model=named["model"] if named else None, params=meta or None)


def _read_episode(episode: Object, index: str, pos: str, out: Builder) -> Run:
    history = {
        name: as_array(turns) for name, turns in as_object(episode.get("turn_history")).items()
    }
    summary = as_object(episode.get("summary"))
    dataset = PurePosixPath(as_text(episode.get("dataset")) or "").stem
    task = as_name(episode.get("task_id")) or index
    run = out.trajectory(
        native_id=index,
        pos=pos,
        framework="intercode",
        benchmark="intercode",
        task_id=f"{dataset}/{task}" if dataset else task,
        metadata={
            "strategy": _strategy(history),
            **{key: value for key, value in summary.items() if key != "max_reward"},
            **{key: value for key, value in episode.items() if key not in _TOLD},
            **{key: value for key, value in history.items() if key not in _EVENTS},
        },
    )
    run.environment(environment=as_text(episode.get("environment")), dataset=dataset or None)
    if "query" in episode:
        run.user(as_text(episode["query"]), f"{pos}/query")
    _write_turns(run, history, as_int(summary.get("turns_taken")), f"{pos}/turn_history")
    reward = as_float(summary.get("max_reward"))
    parts = as_object(as_object(episode.get("info")).get("reward"))
    run.outcome(
        success=None if reward is None else reward == 1,
        score=reward,
        scores=[(name, as_float(value), as_name(value)) for name, value in parts.items()],
    )
    return run


def _strategy(history: dict[str, list[Any]]) -> str:
    if "thoughts" in history:
        return "react"
    return "plan_solve" if "steps" in history else "try_again"


def _write_turns(
    run: Run, history: dict[str, list[Any]], turns_taken: int | None, pos: str
) -> None:
    lengths = {name: len(history[name]) for name in _PARALLEL if name in history}
    planned = lengths.pop("steps", 0)  # refining goes on without a plan
    if len(set(lengths.values())) > 1:
        run.problem(pos, f"lists of unequal length: {lengths}")
    turns = max(lengths.values(), default=0)
    for index in range(turns):
        turn = {name: _at(history.get(name, ()), index) for name in _PARALLEL}
        turn["pos"] = next(
            f"{pos}/{name}/{index}" for name in _PLACES if lengths.get(name, 0) > index
        )
        is_harness = turns_taken is not None and turns_taken <= index and "thoughts" in history
        _write_turn(run, turn, index, pos, "harness" if is_harness else None)
    for index in range(turns, planned):  # the episode ended before it came to this
        run.event("other", as_text(history["steps"][index]), f"{pos}/steps/{index}", actor="plan")


def _at(turns: Any, index: int) -> Any:
    return turns[index] if index < len(turns) else None


def _write_turn(run: Run, turn: Object, index: int, pos: str, actor: str | None) -> None:
    """One exchange; ``actor`` is given where it was not the model that acted."""
    thought, plan, action = (as_text(turn[name]) for name in ("thoughts", "steps", "actions"))
    if plan is not None:
        run.user(plan, f"{pos}/steps/{index}", actor="plan")
    if actor is None:
        run.step(source_pos=turn["pos"])
    if thought and actor is None:
        run.thinking(thought, f"{pos}/thoughts/{index}")
    elif thought:
        run.event("other", thought, f"{pos}/thoughts/{index}", actor=actor)
    call: int | None = None
    if action is not None:
        tool = "submit" if action.strip() == "submit" else "execute"
        call = run.call(tool, {"action": action}, f"{pos}/actions/{index}", actor=actor)
    if turn["observations"] is not None:
        valid = as_bool(turn["valid_action"])
        run.result(
            as_json(turn["observations"]),
            f"{pos}/observations/{index}",
            answers=call,
            is_error=None if valid is None else not valid,
        )
