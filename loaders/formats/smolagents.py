"""smolagents: rows of its benchmark, and an agent's memory as ``get_full_steps`` gives it.

A row's ``intermediate_steps`` are messages in which calls are text, a Python list written out; what
can't be read as one is kept as a call of no known tool. The framework writes an error down as a
response that begins with ``Error:``, which is the error flag here. It can follow an observation of
the same call; where the model's reply could not be parsed, it has no call and is an orphan. One
response answers all calls of a step: it is linked to the first.

Rows hold ``answer`` and ``true_answer`` but no verdict, so success stays unknown. ``end_time`` is
local time without a zone, unlike ``start_time``: both are kept, only the second is a time. A task is
named after its question, which has no id.

Full memory steps (``step_number``, ``model_output``, ``observations``, ...) say of each call its
tokens, times and error, and in ``model_output_message.raw`` what the provider said: model, reason to
stop, cached and reasoning tokens, thinking if it is there. Calls that failed before they were run
stand in ``model_output_message`` alone. The system prompt is no step: it is taken from the first
``model_input_messages``, which are otherwise not compared with what was told before.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import (
    split_think_tags,
    text_and_media,
    thoughts_of,
    usage_columns,
)
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    fingerprint,
    is_array,
    is_object,
    place_of,
)

TITLE = "smolagents run"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = {
    "/**/content/*/type": "a part that is text; the types of all others are in media",
    "/token_counts/total_tokens": "the sum of the two counts that are kept",
    "/*/token_counts/total_tokens": "the sum of the two counts that are kept",
    "/**/token_usage/total_tokens": "the sum of the two counts that are kept",
    "/**/timing/duration": "the time between the two moments that are kept",
    "/**/tool_calls/*/type": "every call is of a function",
    "/**/model_input_messages/**": "events told before, all of them once more in each request",
    "/**/step_number": "the running number of the step, which its place tells",
    "/**/model_output_message/role": "the one role that a reply has",
    "/**/model_output_message/content/**": "the output of the step, which repeats it",
    "/**/model_output_message/tool_calls/**": "the calls of the step; where it has none, they are told",
    "/**/model_output_message/token_usage/**": "the usage of the step, which repeats it",
    "/**/raw/choices/*/message/**": "what the step itself repeats is told once",
    "/**/raw/choices/*/index": "there is one choice",
    "/**/raw/_type": "the class of the provider's client, which the framework writes down",
    "/**/raw/**/_type": "the class of the provider's client, which the framework writes down",
    "/**/raw/id": "the provider's number of the reply, which nothing refers to",
    "/**/raw/_request_id": "the provider's number of the request, which nothing refers to",
    "/**/raw/created": "the step has times of its own, to the microsecond",
    "/**/raw/object": "the name of the reply's type, always the same",
    "/**/raw/system_fingerprint": "the provider's mark of its own software",
    "/**/raw/usage/prompt_tokens": "the usage of the step, which repeats it",
    "/**/raw/usage/completion_tokens": "the usage of the step, which repeats it",
    "/**/raw/usage/total_tokens": "the sum of the two counts that are kept",
    "/**/code_action": "the arguments of the call, which has the code",
    "/**/action_output/**": "the observation shows it; where there is none, it is told",
    "/**/*_images/**": "pictures; the event says that there were some, and how many",
}

_CALLS = "Calling tools:"
_ERROR = re.compile(r"(?:Call id: [^\n]*\n)?Error:")
_OBSERVATION = re.compile(r"(?:Call id: [^\n]*\n)?Observation:")
_LIMITS = ("max_steps_error",)
_TOLD_OF_ROW = ("intermediate_steps", "model_id", "source", "start_time", "token_counts")
_TOLD_OF_RESULT = ("steps", "messages", "token_usage", "timing", "state")
_REPLY = "model_output_message"
_IN_RAW = f"/{_REPLY}/raw/choices/0/message"


def sniff(head: Head) -> bool:
    """A row of the benchmark, or memory steps, perhaps inside a run's result."""
    if {"agent_action_type", "intermediate_steps"} <= head.keys:
        return True
    return any(_is_action_step(step) for step in _steps_in(head.value))


def _steps_in(value: Any) -> list[Any]:
    if is_object(value):
        value = value.get("steps", value.get("messages"))
    return as_array(value)


def _is_action_step(step: Any) -> bool:
    return {"step_number", "model_input_messages"} <= as_object(step).keys()


def read(source: Source, out: Builder) -> None:
    """One run per row, or per file of memory steps."""
    value = None if source.is_json_lines else source.json()
    if any(_is_action_step(step) for step in _steps_in(value)):
        _read_memory(value, out)
        return
    for pos, row in source.records():
        with out.record(pos):
            _read_row(as_object(row), pos, out)


# ---------------------------------------------------------------------- rows of the benchmark


def _read_row(row: Object, pos: str, out: Builder) -> None:
    steps = row.get("intermediate_steps")
    if not is_array(steps):
        out.problem(pos, "a row without intermediate steps")
        return
    counts = as_object(row.get("token_counts"))
    benchmark = as_text(row.get("source"))
    question = as_text(row.get("original_question")) or as_text(row.get("question"))
    run = out.trajectory(
        pos=pos,
        framework="smolagents",
        model=as_text(row.get("model_id")),
        benchmark=benchmark,
        task_id=f"{benchmark}/{fingerprint(question)}" if question else None,
        started_at=as_time(row.get("start_time")),
        input_tokens=as_int(counts.get("input_tokens", counts.get("input"))),
        output_tokens=as_int(counts.get("output_tokens", counts.get("output"))),
        metadata={
            "question": question,
            **{key: value for key, value in row.items() if key not in _TOLD_OF_ROW},
        },
    )
    call: int | None = None
    for index, message in enumerate(steps):
        place = f"{pos}/intermediate_steps/{index}"
        if is_object(message):
            call = _write_message(run, message, place, call)
        else:
            run.problem(place, "no message")


def _write_message(run: Run, message: Object, pos: str, call: int | None) -> int | None:
    """Tell a message; takes and returns the call that a response would answer."""
    text, media = text_and_media(message.get("content"))
    place = place_of(message, "content", pos)
    match message.get("role"):
        case "system":
            run.system(text, place, media=media)
        case "user":
            run.user(text, place, media=media)
        case "assistant":
            run.step(source_pos=pos)
            _write_text(run, text, media, place)
        case "tool-call":
            first = _write_calls(run, text or "", place)
            return first if call is None else call
        case "tool-response":
            is_error = _ERROR.match(text or "") is not None
            is_known = is_error or _OBSERVATION.match(text or "") is not None
            run.result(
                text,
                place,
                answers=call,
                is_error=is_error if is_known else None,
                media=media,
            )
            return call
        case role:
            run.event("other", text, place, actor=as_text(role), media=media)
    return None


def _write_text(run: Run, text: str | None, media: list[str] | None, pos: str) -> None:
    """Tell what a model wrote, thinking in tags apart from the rest."""
    for is_thinking, piece in split_think_tags(text or ""):
        if is_thinking:
            run.thinking(piece, pos, state="tagged_in_text")
        else:
            run.message(piece, pos, media=media)
            media = None
    if media or not text:
        run.message(None if media else text, pos, media=media)


def _write_calls(run: Run, text: str, pos: str) -> int | None:
    """Tell the calls that are written in a text; returns the first."""
    written = text.partition(_CALLS)[2].strip()
    calls = _literal(written)
    if not is_array(calls) or not all(is_object(call) for call in calls):
        run.problem(pos, "calls that are no list of calls")
        return run.call(None, text, pos)
    return next(iter([_write_call(run, call, pos) for call in calls]), None)


def _literal(text: str) -> Any:
    """A value as Python writes it; literals alone, nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in a log's strings
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _write_call(run: Run, call: Object, pos: str) -> int:
    function = as_object(call.get("function")) or call
    try:
        arguments = as_json(function.get("arguments"))
    except (TypeError, OverflowError):  # a literal that JSON has no place for
        arguments = repr(function.get("arguments"))
    name, call_id = as_text(function.get("name")), as_name(call.get("id"))
    return run.call(name, arguments, pos, call_id=call_id)


# ---------------------------------------------------------------------- full memory steps


def _read_memory(value: Any, out: Builder) -> None:
    result = value if is_object(value) else {}
    prefix = "" if is_array(value) else "/steps" if "steps" in result else "/messages"
    usage, timing = as_object(result.get("token_usage")), as_object(result.get("timing"))
    steps = _steps_in(value)
    run = out.trajectory(
        pos="",
        framework="smolagents",
        input_tokens=as_int(usage.get("input_tokens")),
        output_tokens=as_int(usage.get("output_tokens")),
        started_at=as_time(as_float(timing.get("start_time"))),
        ended_at=as_time(as_float(timing.get("end_time"))),
        metadata={
            **{key: value for key, value in result.items() if key not in _TOLD_OF_RESULT},
            "final_answer": _final_answer(steps),
        },
    )
    _write_system_prompt(run, steps, prefix)
    for index, step in enumerate(steps):
        pos = f"{prefix}/{index}"
        with out.record(pos):
            if not is_object(step):
                raise UnreadableRecord("no memory step", pos)
            _write_step(run, step, pos)
    state = as_text(result.get("state"))
    run.outcome("limit" if state in _LIMITS else None, end_reason=state)


def _final_answer(steps: list[Any]) -> Any:
    """What the step that says it is the last one hands in."""
    for step in map(as_object, steps):
        if step.get("is_final_answer") is True:
            output = step.get("action_output")
            return step.get("observations") if output is None else output
    return None


def _write_system_prompt(run: Run, steps: list[Any], prefix: str) -> None:
    """The system prompt of the first request, unless a step of its own has it."""
    if any("system_prompt" in as_object(step) for step in steps):
        return
    for index, step in enumerate(map(as_object, steps)):
        for number, message in enumerate(
            map(as_object, as_array(step.get("model_input_messages")))
        ):
            if message.get("role") == "system":
                text, media = text_and_media(message.get("content"))
                place = f"{prefix}/{index}/model_input_messages/{number}"
                run.system(text, place_of(message, "content", place), media=media)
                return


def _write_step(run: Run, step: Object, pos: str) -> None:
    if "system_prompt" in step:
        run.system(as_text(step["system_prompt"]), place_of(step, "system_prompt", pos))
    elif "task" in step:
        media = ["image"] * len(as_array(step.get("task_images"))) or None
        run.user(as_text(step["task"]), place_of(step, "task", pos), media=media)
    elif "plan" in step:
        run.step(source_pos=pos, **_columns(step))
        _write_text(run, as_text(step["plan"]), None, place_of(step, "plan", pos))
    elif "step_number" in step:
        _write_action(run, step, pos)
    else:
        run.event("other", as_text(step.get("output")), pos, actor="harness")


def _columns(step: Object) -> Object:
    """Columns of the steps table: times, and what the provider said, else the framework's counts."""
    usage, timing = as_object(step.get("token_usage")), as_object(step.get("timing"))
    raw = _raw(step)
    counts = {name: as_int(usage.get(name)) for name in ("input_tokens", "output_tokens")}
    said = usage_columns(raw.get("usage"))
    return {
        "model": as_text(raw.get("model")),
        "stop_reason": as_text(_choice(raw).get("finish_reason")),
        **said,
        **{name: count for name, count in counts.items() if count is not None},
        "started_at": as_time(as_float(timing.get("start_time"))),
        "ended_at": as_time(as_float(timing.get("end_time"))),
    }


def _raw(step: Object) -> Object:
    """The provider's reply as it came."""
    return as_object(as_object(step.get(_REPLY)).get("raw"))


def _choice(raw: Object) -> Object:
    return as_object(next(iter(as_array(raw.get("choices"))), None))


def _write_calls_of_step(run: Run, step: Object, pos: str) -> list[int]:
    """The calls that were run, or those of the reply where none came to that."""
    owner, place = step, pos
    if not as_array(step.get("tool_calls")):
        owner, place = as_object(step.get(_REPLY)), f"{pos}/{_REPLY}"
    calls: list[int] = []
    for index, call in enumerate(as_array(owner.get("tool_calls"))):
        if is_object(call):
            calls.append(_write_call(run, call, f"{place}/tool_calls/{index}"))
        else:
            run.problem(f"{place}/tool_calls/{index}", "no call")
    return calls


def _write_action(run: Run, step: Object, pos: str) -> None:
    run.step(source_pos=pos, **_columns(step))
    text, media = text_and_media(step.get("model_output"))
    if not any(is_thinking for is_thinking, _ in split_think_tags(text or "")):
        for thought in thoughts_of(as_object(_choice(_raw(step)).get("message"))):
            place = f"{pos}{_IN_RAW}{thought.pointer}"
            run.thinking(thought.text, place, state=thought.state, signature=thought.signature)
    if text or media:
        _write_text(run, text, media, f"{pos}/model_output")
    calls = _write_calls_of_step(run, step, pos)
    first = calls[0] if calls else None
    observed = as_text(step.get("observations"))
    images = ["image"] * len(as_array(step.get("observations_images"))) or None
    shown = step.get("action_output") if observed is None else None
    if observed is not None or images or shown is not None:
        keys = ("observations", "observations_images", "action_output")
        place = next(place for key in keys if (place := place_of(step, key, pos)) != pos)
        observed = as_json(shown) if observed is None else observed
        run.result(observed, place, answers=first, is_error=False, media=images)
    error = as_object(step.get("error"))
    if error:
        run.result(
            as_text(error.get("message")),
            place_of(error, "message", f"{pos}/error"),
            answers=first,
            is_error=True,
            error_type=as_text(error.get("type")),
        )
