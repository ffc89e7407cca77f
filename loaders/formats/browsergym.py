"""BrowserGym agents: NNetNav and WebArena rows, and AgentLab's summary of an experiment.

NNetNav rows hold one model call each, request and reply; rows in a row of the same task, whose list
of previous actions grows, are one run. Every request repeats the system prompt and shows the
present page alone, so that no call saw an earlier page or reply: that is recorded, and told as
evidence. A page after an action is what came of it. The action stands in the last fenced block of
the reply; ``n_tokens`` counts request and reply together and is kept as metadata.

WebArena rows alternate states and actions; ``cot`` is told as thinking. Their ``source`` names the
model. Neither kind of row says how the run ended.

``summary_info.json`` of AgentLab holds an outcome alone; task, agent and seed are in its folder's
name. The pickles of the steps beside it are not opened, as that could run code.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import text_and_media
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_name,
    as_object,
    as_text,
    is_object,
    place_of,
)

TITLE = "BrowserGym agent"
GIVES = ("thinking", "sent", "tokens", "outcome")
IGNORED = {
    "/*/prompt": "the messages of the row once more, in the marks of a chat template",
    "/prompt": "the messages of the row once more, in the marks of a chat template",
    "/*/output": "the last message of the row once more, in the marks of a chat template",
    "/output": "the last message of the row once more, in the marks of a chat template",
    "/*/trajectory/*/action/action_type": "the number of the action's name, which is kept",
    "/trajectory/*/action/action_type": "the number of the action's name, which is kept",
}

_SUMMARY_KEYS = {"n_steps", "cum_reward", "terminated", "truncated"}
_EXPERIMENT = re.compile(
    r"[\d-]{10}_[\d-]{8}_(?P<agent>.+?)_on_(?P<task>.+)_(?P<seed>\d+)(?:_[0-9a-f]{6,})?"
)
_TOLD_OF_CALL = ("dataset", "messages", "task_name", "n_tokens", "prompt", "output")
_TOLD_OF_STATES = ("task_id", "intent", "source", "trajectory")
_TOLD_OF_SUMMARY = ("cum_reward", "err_msg")
_PREVIOUS_ACTIONS = "PREVIOUS ACTIONS:"
_NUMBERED = re.compile(r"^\d+: ", re.MULTILINE)


def sniff(head: Head) -> bool:
    """One of the two kinds of row, or a summary."""
    first = head.first
    if head.keys >= _SUMMARY_KEYS or _is_call(first):
        return True
    states = as_array(first.get("trajectory"))
    return "intent" in head.keys and "axtree" in as_object(next(iter(states), None))


def _is_call(row: Object) -> bool:
    return "nnetnav" in str(row.get("dataset")).lower() and "messages" in row


def read(source: Source, out: Builder) -> None:
    """One run per group of calls, per row of states and actions, or per summary."""
    calls = _Calls(out)
    for pos, row in source.records():
        with out.record(pos):
            row = as_object(row)
            if _is_call(row):
                calls.tell(row, pos)
            elif row.keys() >= _SUMMARY_KEYS:
                _read_summary(row, pos, source, out)
            elif "trajectory" in row:
                _read_states(row, pos, out)
            else:
                out.problem(pos, "neither a model call, nor states and actions, nor a summary")


# ---------------------------------------------------------------------- NNetNav: a row per call


class _Calls:
    """Puts the calls of a run together."""

    def __init__(self, out: Builder) -> None:
        self._out = out
        self._run: Run | None = None
        self._task: tuple[Any, ...] = ()
        self._done = 0
        self._system: tuple[str | None, int] = (None, 0)
        self._call: int | None = None
        self._tokens: list[int | None] = []
        self._untold: Object = {}

    def tell(self, row: Object, pos: str) -> None:
        """Tell one more call, of the present run or of a new one."""
        messages = [as_object(message) for message in as_array(row.get("messages"))]
        places = {
            role: index for index, m in enumerate(messages) if (role := as_text(m.get("role")))
        }
        texts = {role: text_and_media(messages[i].get("content"))[0] for role, i in places.items()}
        task = as_text(row.get("dataset")), as_name(row.get("task_name", row.get("id")))
        done = _count_actions(texts.get("user") or "")
        run = self._run
        if run is None or task != self._task or done <= self._done:
            run = self._begin(task, pos)
        self._task, self._done = task, done
        self._tokens.append(as_int(row.get("n_tokens")))
        rest = _without(row, _TOLD_OF_CALL)
        if rest and rest != {"id": task[1]}:
            self._untold[str(len(self._tokens) - 1)] = rest
        at = {role: f"{pos}/messages/{index}/content" for role, index in places.items()}
        context = self._tell_request(run, texts, at)
        run.step(source_pos=pos)
        is_first = len(self._tokens) == 1
        run.saw(context, None, "request", "none" if is_first else "truncated")
        self._tell_reply(run, texts.get("assistant"), at.get("assistant", pos))

    def _begin(self, task: tuple[Any, ...], pos: str) -> Run:
        self._tokens, self._untold = [], {}
        self._system, self._call = (None, 0), None
        self._run = self._out.trajectory(
            native_id=task[1],
            pos=pos,
            benchmark=task[0],
            task_id=task[1],
            metadata={"n_tokens": self._tokens, "rows": self._untold},
        )
        return self._run

    def _tell_request(
        self, run: Run, texts: dict[str, str | None], at: dict[str, str]
    ) -> list[tuple[int, int]]:
        """Tell what is new in a request; returns the events that it shows."""
        context: list[tuple[int, int]] = []
        if "system" in at:
            if texts["system"] != self._system[0]:
                self._system = texts["system"], run.system(texts["system"], at["system"])
            context.append((self._system[1], self._system[1] + 1))
        if "user" in at:
            if self._call is None:
                seq = run.user(texts["user"], at["user"])
            else:
                seq = run.result(texts["user"], at["user"], answers=self._call)
            context.append((seq, seq + 1))
        return context

    def _tell_reply(self, run: Run, text: str | None, pos: str) -> None:
        if text is not None:
            run.message(text, pos)
        _, fence, action = (text or "").rpartition("```")[0].rpartition("```")
        self._call = None
        if fence and action.strip():
            tool = action.split(maxsplit=1)[0]
            self._call = run.call(tool, {"action": action.strip()}, pos)


def _count_actions(page: str) -> int:
    """Lines of the list of previous actions, which is at least one: "None" for a first call."""
    return len(_NUMBERED.findall(page.rpartition(_PREVIOUS_ACTIONS)[2]))


# ---------------------------------------------------------------------- WebArena: states, actions


def _read_states(row: Object, pos: str, out: Builder) -> None:
    task = as_name(row.get("task_id"))
    items = as_array(row.get("trajectory"))
    run = out.trajectory(
        pos=pos,
        task_id=task,
        model=as_text(row.get("source")),
        metadata={**_without(row, _TOLD_OF_STATES), "items": _untold_of_items(items)},
    )
    run.user(as_text(row.get("intent")), place_of(row, "intent", pos))
    call: int | None = None
    for index, item in enumerate(items):
        place = f"{pos}/trajectory/{index}"
        if not is_object(item):
            run.problem(place, "neither a state nor an action")
            continue
        if "action" in item:
            call = _write_action(run, item, place)
            continue
        text = as_text(item.get("axtree"))
        media = ["image"] if item.get("screenshot_path") else None
        if call is None:
            run.event(
                "other", text, place_of(item, "axtree", place), actor="environment", media=media
            )
        else:
            run.result(text, place_of(item, "axtree", place), answers=call, media=media)
            call = None


def _untold_of_items(items: list[Any]) -> Object:
    """Of each state and action what no event has: the address, the picture's file, notes."""
    untold: Object = {}
    for index, item in enumerate(map(as_object, items)):
        notes = _without(as_object(item.get("metadata")), ("cot",))
        rest = _without(item, ("axtree", "action", "metadata"))
        if notes or rest:
            untold[str(index)] = {**rest, **({"metadata": notes} if notes else {})}
    return untold


def _without(owner: Object, told: tuple[str, ...]) -> Object:
    return {key: value for key, value in owner.items() if key not in told}


def _write_action(run: Run, item: Object, pos: str) -> int:
    action = as_object(item["action"])
    run.step(source_pos=pos)
    thought = as_text(as_object(item.get("metadata")).get("cot"))
    if thought:
        run.thinking(thought, f"{pos}/metadata/cot")
    arguments = {
        key: value
        for key, value in action.items()
        if value not in ("", [], None) and key not in ("action_name", "action_type")
    }
    return run.call(as_text(action.get("action_name")), arguments, f"{pos}/action")


# ---------------------------------------------------------------------- AgentLab: a summary


def _read_summary(row: Object, pos: str, source: Source, out: Builder) -> None:
    named = _EXPERIMENT.fullmatch(PurePosixPath(source.name).parent.name)
    labels: Object = named.groupdict() if named else {}
    run = out.trajectory(
        pos=pos,
        framework="browsergym",
        task_id=labels.get("task"),
        trial=labels.get("seed"),
        input_tokens=_stat(row, "input_tokens", "openai_prompt_tokens"),
        output_tokens=_stat(row, "output_tokens", "openai_completion_tokens"),
        cost_usd=_cost(row),
        metadata={"agent": labels.get("agent"), **_without(row, _TOLD_OF_SUMMARY)},
    )
    error = as_text(row.get("err_msg"))
    if error:
        run.event("error", error, f"{pos}/err_msg", actor="harness")
    reward = as_float(row.get("cum_reward"))
    success = reward == 1 if reward in (0, 1) else None
    outcome = "error" if error else "limit" if row.get("truncated") is True else None
    run.outcome(
        None if success else outcome,
        success=success,
        score=reward,
        end_reason=error or ("truncated" if outcome == "limit" else None),
    )


def _stat(row: Object, *names: str) -> int | None:
    """A sum over all steps; what providers call it has changed."""
    known = (as_int(row.get(f"stats.cum_{name}")) for name in names)
    return next((number for number in known if number is not None), None)


def _cost(row: Object) -> float | None:
    cost = as_float(row.get("stats.cum_cost"))
    return as_float(row.get("stats.cum_openai_total_cost")) if cost is None else cost
