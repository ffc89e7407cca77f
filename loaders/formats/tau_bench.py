"""tau-bench results: one JSON array of ``{task_id, trial, reward, info, traj}``.

``reward`` 1 is success; ``info.source`` is what produced the last observation, the simulated user
or a tool. ``think`` is a tool that the agent may call: its calls are tool calls, not thinking. A
tool's failure is text that begins with "Error", which is no flag: ``is_error`` stays null. Agents
of the strategies ``act`` and ``react`` write ``Action:`` and JSON into their text and read results
as user turns ("API output: ..."): these are told as calls and results. Their ``Thought:`` lines
stay part of the message, which is sent back as it is.

The log names neither model nor domain. The model is known where the file has tau-bench's own name
(``tool-calling-gpt-4o-0.0_range_...``), the domain where the policy's heading says it; a task's
number alone is not unique, so ``task_id`` is ``domain/number`` where the domain is known.
"""

from __future__ import annotations

import re
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import write_message
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.jsontext import decode
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_float, as_name, as_object, as_text

TITLE = "tau-bench result"
GIVES = ("outcome",)
IGNORED = {
    "/**/tool_calls/*/type": "every call is of a function",
    "/**/info/reward_info/reward": "the reward of the run, which the record repeats here",
}

_FILE_NAME = re.compile(
    r"(?P<strategy>tool-calling|act|react|few-shot)-(?P<model>.+)-(?P<temperature>\d+(?:\.\d+)?)"
    r"_range_-?\d+-+\d+_user-(?P<user_model>.+)-(?P<user_strategy>[a-z]+)_\d+\.json(?:\..+)?"
)
_POLICY_HEADING = re.compile(r"\s*#\s*(airline|retail) agent policy", re.IGNORECASE)
_API_OUTPUT = "API output: "
_TOLERANCE = 1e-6  # that of the benchmark itself


def sniff(head: Head) -> bool:
    """Records with a task, a reward and a trajectory."""
    return {"task_id", "reward", "traj"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per record."""
    named = _FILE_NAME.fullmatch(source.filename)
    labels: Object = named.groupdict() if named else {}
    for pos, record in source.records():
        with out.record(pos):
            _read_run(as_object(record), pos, out, labels)


def _read_run(record: Object, pos: str, out: Builder, labels: Object) -> None:
    info = as_object(record.get("info"))
    messages = [as_object(message) for message in as_array(record.get("traj"))]
    domain = _domain(messages)
    task, trial = as_name(record.get("task_id")), as_name(record.get("trial"))
    run = out.trajectory(
        native_id=f"{task}/{trial}",
        pos=pos,
        framework="tau-bench",
        benchmark="tau_bench",
        model=labels.get("model"),
        task_id=f"{domain}/{task}" if domain and task else task,
        trial=trial,
        params={"temperature": float(labels["temperature"])} if labels else None,
        metadata={
            "domain": domain,
            "strategy": labels.get("strategy"),
            "user_model": labels.get("user_model"),
            "user_strategy": labels.get("user_strategy"),
            "user_cost_usd": as_float(info.get("user_cost")),
            "task": info.get("task"),
            "reward_info": as_object(info.get("reward_info")).get("info"),
            "traceback": as_text(info.get("traceback")),
        },
    )
    run.environment(domain=domain)
    call: int | None = None
    for index, message in enumerate(messages):
        call = _write(run, message, f"{pos}/traj/{index}", call)
    _write_outcome(run, as_float(record.get("reward")), info, pos)


def _domain(messages: list[Object]) -> str | None:
    """What the policy in the system prompt says it is for."""
    for message in messages[:1]:
        heading = _POLICY_HEADING.match(as_text(message.get("content")) or "")
        if heading:
            return heading[1].lower()
    return None


def _write(run: Run, message: Object, pos: str, text_call: int | None) -> int | None:
    """Tell a message; ``text_call`` is the call in the text before it, and so is what it returns."""
    content = as_text(message.get("content")) or ""
    if text_call is not None and content.startswith(_API_OUTPUT):
        run.result(content.removeprefix(_API_OUTPUT), f"{pos}/content", answers=text_call)
        return None
    write_message(run, message, pos)
    if message.get("role") == "assistant" and not message.get("tool_calls"):
        return _write_action(run, content, f"{pos}/content")
    return None


def _write_action(run: Run, content: str, pos: str) -> int | None:
    """The call in the text of an ``act`` or ``react`` agent, which answers through ``respond``."""
    _, marker, code = content.rpartition("Action:")
    if not marker:
        return None
    try:
        action: Any = decode(code.strip().encode("utf-8", "surrogatepass"))
    except UnreadableRecord:
        return None  # the framework takes such text for the answer itself
    name = as_text(as_object(action).get("name"))
    if name is None or name == "respond":
        return None
    return run.call(name, as_object(action).get("arguments"), pos)


def _write_outcome(run: Run, reward: float | None, info: Object, pos: str) -> None:
    error = as_text(info.get("error"))
    if error is not None:
        run.event("error", error, f"{pos}/info/error", actor="harness")
    checks = as_object(as_object(info.get("reward_info")).get("info"))
    run.outcome(
        "error" if error is not None else None,
        success=None if reward is None else abs(reward - 1) <= _TOLERANCE,
        score=reward,
        end_reason=error if error is not None else as_text(info.get("source")),
        scores=[
            (name, as_float(value), as_name(value))
            for name, value in checks.items()
            if as_float(value) is not None
        ],
    )
