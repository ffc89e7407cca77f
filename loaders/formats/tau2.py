"""tau2-bench results: ``{info, tasks, simulations}``, or ``results.json`` beside ``simulations/``.

A file lists the tasks that were asked for and may hold fewer simulations: told as a warning. The
system event is the domain's policy (``info.environment_info.policy``), which the agent is given;
the fixed instructions that tau2's own agents put around it are not in the log. The greeting that
opens a conversation, and any prefilled turn, has neither usage nor raw data: it is a message of the
harness and no model call. The simulated user may call tools too (``requestor``): these calls and
results have the actor ``user``. Thinking stands in ``raw_data``, where the provider's client
leaves it; ``thinking_blocks`` is often present but null, which says nothing.

A reply that the harness refused shows in the ``errors`` of the one that took its place. What a task
asks for and how it is judged is in the metadata of each run, as is what the simulated user was told.

Times are local times without a zone; a message's is when it was complete. A logged cost of 0 is
what tau2 writes where it knows no price: unknown. Voice simulations (``ticks``) are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects import anthropic, openai_chat
from loaders.errors import UnreadableRecord
from loaders.formats._tau2_ignored import PATHS
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    place_of,
    total,
)

TITLE = "tau2-bench result"
GIVES = ("thinking", "tools", "tokens", "outcome")
IGNORED = PATHS

_POLICY = "/info/environment_info/policy"
_TOLERANCE = 1e-6  # that of the benchmark itself
_OF_THE_PAGE = ("methodology", "contact_info", "is_new")
_TOLD_OF_INFO = (
    *("git_commit", "user_info", "agent_info", "environment_info", "max_steps", "max_errors"),
)
_TOLD_OF_ACTOR = ("llm", "llm_args", "implementation")
_TOLD_OF_ENVIRONMENT = ("domain_name", "policy", "tool_defs")
_TOLD_OF_TASK = ("id", "user_scenario")
_TOLD_OF_SIMULATION = (
    *("id", "task_id", "timestamp", "start_time", "end_time", "duration", "termination_reason"),
    *("agent_cost", "user_cost", "messages", "trial", "seed", "policy", "ticks"),
)
_TOLD_OF_MESSAGE = (
    *("role", "content", "tool_calls", "tool_messages", "timestamp", "usage", "cost", "errors"),
    *("raw_data", "turn_idx", "generation_time_seconds", "id", "error", "requestor"),
    *("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"),
)
_LIMITS = ("max_steps", "timeout", "too_many_errors", "context_window_exceeded")


def sniff(head: Head) -> bool:
    """An object whose ``info`` describes an agent and a simulated user."""
    return {"user_info", "agent_info"} <= as_object(head.first.get("info")).keys()


def companion(head: Head) -> bool:
    """A leaderboard submission, or one simulation of a folder."""
    submission = {"model_name", "results"} <= head.keys and bool(
        {"methodology", "submission_date"} & head.keys
    )
    return submission or {"id", "task_id", "start_time", "termination_reason"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per simulation."""
    results = as_object(source.json())
    common = _what_all_share(as_object(results.get("info")), _submission(source))
    tasks = {as_name(task.get("id")): task for task in map(as_object, _list(results, "tasks"))}
    told: list[str | None] = []
    for pos, simulation in _simulations(source, results):
        with out.record(pos):
            if not is_object(simulation):
                raise UnreadableRecord("no simulation", pos)
            told.append(as_name(simulation.get("task_id")))
            _read_simulation(simulation, pos, out, common, as_object(tasks.get(told[-1])))
    _count(source, results, set(tasks), told)


def _list(owner: Object, key: str) -> list[Any]:
    return as_array(owner.get(key))


def _simulations(source: Source, results: Object) -> Iterator[tuple[str, Any]]:
    """Each simulation with its place: in the file itself, or in files of the folder beside it."""
    for index, simulation in enumerate(_list(results, "simulations")):
        yield f"/simulations/{index}", simulation
    for entry in _list(results, "simulation_index"):
        identity = PurePosixPath(as_text(as_object(entry).get("id")) or "").name
        name = f"simulations/{identity}.json"
        file = source.beside(name)
        if file is None:
            source.problem(name, "a simulation of the index is missing")
        else:
            yield f"{name}#", file.json()


def _count(source: Source, results: Object, tasks: set[str | None], told: list[str | None]) -> None:
    trials = as_int(as_object(results.get("info")).get("num_trials")) or 1
    without = sorted(str(task) for task in tasks - set(told))
    if len(told) < len(tasks) * trials:
        reason = f"{len(told)} simulations of {len(tasks)} tasks in {trials} trials"
        named = f"; none of {', '.join(without)}" if without else ""
        source.problem("/simulations", reason + named, "warning")


def _submission(source: Source) -> Object:
    file = source.beside("../submission.json")
    return as_object(file.json()) if file is not None else {}


# ---------------------------------------------------------------------- what a run is


def _without(owner: Object, told: tuple[str, ...]) -> Object | None:
    return {key: value for key, value in owner.items() if key not in told} or None


def _what_all_share(info: Object, submission: Object) -> Object:
    agent, user = as_object(info.get("agent_info")), as_object(info.get("user_info"))
    environment = as_object(info.get("environment_info"))
    return {
        "model": as_text(agent.get("llm")),
        "params": agent.get("llm_args"),
        "version": as_text(info.get("git_commit")),
        "domain": as_text(environment.get("domain_name")),
        "user_model": as_text(user.get("llm")),
        "policy": as_text(environment.get("policy")),
        "tools": _tool_definitions(environment.get("tool_defs")),
        "metadata": {
            "agent": as_text(agent.get("implementation")),
            "user": as_text(user.get("implementation")),
            "user_params": user.get("llm_args"),
            "max_steps": as_int(info.get("max_steps")),
            "max_errors": as_int(info.get("max_errors")),
            "info": _without(info, _TOLD_OF_INFO),
            "agent_info": _without(agent, _TOLD_OF_ACTOR),
            "user_info": _without(user, _TOLD_OF_ACTOR),
            "environment_info": _without(environment, _TOLD_OF_ENVIRONMENT),
            "submission": submission.get("methodology"),
            "leaderboard": _without(submission, _OF_THE_PAGE),
        },
    }


def _tool_definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """Signatures by name (``name, doc, params``), or OpenAI-style definitions."""
    if is_array(tools):
        return openai_chat.tool_definitions(tools)
    return [
        (as_text(tool.get("name")) or name, as_text(tool.get("doc")), tool.get("params"))
        for name, tool in ((name, as_object(tool)) for name, tool in as_object(tools).items())
    ]


def _read_simulation(
    simulation: Object, pos: str, out: Builder, common: Object, task: Object
) -> None:
    identity, domain = as_name(simulation.get("task_id")), common["domain"]
    run = out.trajectory(
        native_id=as_name(simulation.get("id")),
        pos=pos,
        framework="tau2-bench",
        framework_version=common["version"],
        benchmark="tau2",
        model=common["model"],
        task_id=f"{domain}/{identity}" if domain and identity else identity,
        trial=as_name(simulation.get("trial")),
        started_at=as_time(simulation.get("start_time")),
        ended_at=as_time(simulation.get("end_time")),
        params=common["params"],
        metadata={
            **common["metadata"],
            "domain": domain,
            "user_model": common["user_model"],
            "user_cost_usd": as_float(simulation.get("user_cost")),
            "duration_s": as_float(simulation.get("duration")),
            "seed": as_int(simulation.get("seed")),
            "user_scenario": task.get("user_scenario"),
            "task": _without(task, _TOLD_OF_TASK),
            **(_without(simulation, _TOLD_OF_SIMULATION) or {}),
            "user_tokens": _tokens_of_the_user(simulation),
            "messages": _untold_of_messages(simulation),
        },
    )
    run.environment(domain=domain, user_model=common["user_model"])
    if common["tools"]:
        run.tools(common["tools"])
    policy = as_text(simulation.get("policy"))
    if policy or common["policy"]:
        run.system(policy or common["policy"], f"{pos}/policy" if policy else _POLICY)
    messages = _list(simulation, "messages")
    if not messages and simulation.get("ticks"):
        run.problem(f"{pos}/ticks", "a voice simulation; its ticks are not read")
    for index, is_model_call, message in _turns([as_object(message) for message in messages]):
        place = f"{pos}/messages/{index}"
        if is_object(messages[index]):
            _write(run, message, place, is_model_call)
        else:
            run.problem(place, "no message")
    _write_outcome(run, simulation)


def _untold_of_messages(simulation: Object) -> Object | None:
    """What no column has of each message, such as what was cut off its request, by its place."""
    untold: Object = {}
    for index, message in enumerate(map(as_object, _list(simulation, "messages"))):
        known = {key: value for key, value in message.items() if value is not None}
        if rest := _without(known, _TOLD_OF_MESSAGE):
            untold[str(index)] = rest
    return untold or None


def _tokens_of_the_user(simulation: Object) -> Object | None:
    """What the simulated user took, which is no usage of the agent's."""
    messages = map(as_object, _list(simulation, "messages"))
    usages = [as_object(m.get("usage")) for m in messages if m.get("role") == "user"]
    names = ("prompt_tokens", "completion_tokens")
    sums = {name: total(*(as_int(usage.get(name)) for usage in usages)) for name in names}
    return None if set(sums.values()) == {None} else sums


def _turns(messages: list[Object]) -> Iterator[tuple[int, bool, Object]]:
    """Each message, and whether an assistant's is a model call: it has usage or raw data.

    Where an agent records neither for any message, all are calls but the opening greeting.
    """
    replies = [message for message in messages if message.get("role") == "assistant"]
    is_recorded = any(message.get("usage") or message.get("raw_data") for message in replies)
    for index, message in enumerate(messages):
        if is_recorded:
            is_call = bool(message.get("usage") or message.get("raw_data"))
        else:
            is_call = index > 0 or bool(message.get("tool_calls"))
        yield index, is_call, message


# ---------------------------------------------------------------------- messages


def _write(run: Run, message: Object, pos: str, is_model_call: bool) -> None:
    at = as_time(message.get("timestamp"))
    text, media = openai_chat.text_and_media(message.get("content"))
    role = message.get("role")
    if role == "assistant":
        if is_model_call:
            _begin_step(run, message, pos, at)
        for index, refused in enumerate(_list(message, "errors")):
            run.event("error", as_text(refused), f"{pos}/errors/{index}", actor="harness", at=at)
        if text:
            actor = None if is_model_call else "harness"
            run.message(text, f"{pos}/content", at=at, actor=actor, media=media)
        _write_calls(run, message, pos, at)
    elif role == "user":
        if text:
            run.user(text, f"{pos}/content", at=at, media=media)
        _write_calls(run, message, pos, at)
    elif role == "tool":
        _write_results(run, message, pos)
    elif role == "system":
        run.system(text, place_of(message, "content", pos), at=at, media=media)
    else:
        run.event("other", text, pos, actor=as_text(role), at=at, media=media)


def _begin_step(run: Run, message: Object, pos: str, at: datetime | None) -> None:
    raw = as_object(message.get("raw_data"))
    seconds = as_float(message.get("generation_time_seconds"))
    usage = raw.get("usage")
    is_anthropic = "input_tokens" in as_object(usage)
    run.step(
        source_pos=pos,
        model=as_text(raw.get("model")),
        started_at=_earlier(at, seconds),
        ended_at=at,
        stop_reason=as_text(raw.get("finish_reason")) or as_text(raw.get("stop_reason")),
        history_edit="truncated" if message.get("context_truncation") else None,
        **(
            anthropic.usage_columns(usage)
            if is_anthropic
            else openai_chat.usage_columns(message.get("usage"))
        ),
    )
    places = (("/raw_data/message", as_object(raw.get("message"))), ("/raw_data", raw))
    found = [
        (place, thoughts)
        for place, holder in (*places, ("", message))
        if (thoughts := list(openai_chat.thoughts_of(holder)))
    ]
    # The places repeat each other, and not all have the signatures.
    signed = [here for here in found if any(thought.signature for thought in here[1])]
    for place, thoughts in (signed or found)[:1]:
        for text, state, signature, pointer in thoughts:
            run.thinking(text, pos + place + pointer, state=state, signature=signature, at=at)


def _earlier(at: datetime | None, seconds: float | None) -> datetime | None:
    try:
        return None if at is None or seconds is None else at - timedelta(seconds=seconds)
    except OverflowError:
        return None


def _write_calls(run: Run, message: Object, pos: str, at: datetime | None) -> None:
    for index, call in enumerate(_list(message, "tool_calls")):
        if not is_object(call):
            run.problem(f"{pos}/tool_calls/{index}", "no tool call")
            continue
        run.call(
            as_text(call.get("name")),
            call.get("arguments"),
            f"{pos}/tool_calls/{index}",
            call_id=as_text(call.get("id")) or None,
            actor=_actor(call),
            at=at,
        )


def _write_results(run: Run, message: Object, pos: str) -> None:
    several = message.get("tool_messages")
    if is_array(several):
        for index, part in enumerate(several):
            place = f"{pos}/tool_messages/{index}"
            if is_object(part):
                _write_result(run, part, place)
            else:
                run.problem(place, "no message")
    else:
        _write_result(run, message, pos)


def _write_result(run: Run, message: Object, pos: str) -> None:
    text, media = openai_chat.text_and_media(message.get("content"))
    call_id = as_text(message.get("id")) or None
    run.result(
        text,
        place_of(message, "content", pos),
        call_id=call_id,
        by_order=call_id is None,
        is_error=as_bool(message.get("error")),
        actor=_actor(message),
        at=as_time(message.get("timestamp")),
        media=media,
    )


def _actor(call: Object) -> str | None:
    return "user" if call.get("requestor") == "user" else None


# ---------------------------------------------------------------------- the end


def _write_outcome(run: Run, simulation: Object) -> None:
    info = as_object(simulation.get("reward_info"))
    reward = as_float(info.get("reward"))
    reason = as_text(simulation.get("termination_reason"))
    success = None if reward is None else abs(reward - 1) <= _TOLERANCE
    outcome = None
    if success:
        outcome = "success"  # judged so, however it ended
    elif reason in _LIMITS:
        outcome = "limit"
    elif (reason or "").endswith("_error"):
        outcome = "error"
    run.outcome(
        outcome,
        success=success,
        score=reward,
        end_reason=reason,
        scores=[
            (name, as_float(value), as_name(value))
            for name, value in as_object(info.get("reward_breakdown")).items()
        ],
    )
    run.set(cost_usd=as_float(simulation.get("agent_cost")) or None)
