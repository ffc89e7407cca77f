"""Berkeley Function Calling Leaderboard: ``result/<model>/.../BFCL_v4_<category>_result.json``.

One JSON line per task. The score file (``score/<model>/.../BFCL_v4_<category>_score.json``) lists
failures only, below a line of counts: a task passed if it has a result and no failure. Where the
score file is missing, incomplete, or counts other tasks, what it does not list stays unknown. The
log has no ids: results answer the calls of their step by order. Of thinking most handlers log the
token counts alone, some write ``reasoning_content``. A step that calls nothing ends its turn.

A step has no place for its latency: ``metadata`` has them all as logged, and their sum; it also
holds what the score file says of a failure. Of the recorded input (``--include-input-log``), a Python
repr, it has the first request, which shows the system prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.dialects.openai_chat import tool_definitions, write_message
from loaders.errors import UnreadableRecord
from loaders.formats._bfcl_ignored import PATHS
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
    fingerprint,
    is_array,
    is_object,
    place_of,
)

TITLE = "Berkeley Function Calling Leaderboard (BFCL) result"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = PATHS

_FILE_NAME = re.compile(r"(?:BFCL_(?P<version>v\d+)_)?(?P<category>.+)_result\..+")
_FAILED_REQUEST = "Error during inference"
_FORCED_TO_QUIT = "Model has been forced to quit"
_NOT_OF_A_FAILURE = (
    *("id", "valid", "error", "error_type", "prompt"),
    *("inference_log", "model_result", "model_result_raw", "model_result_decoded"),
)
_SAID_BY_THE_REPLY = ("Successfully decoded model response", "Empty response from the model")


def sniff(head: Head) -> bool:
    """Records with an id and a result, and BFCL's counts or its word for a failed request."""
    if {"id", "result"} <= head.keys:
        failed = str(head.first["result"]).startswith(_FAILED_REQUEST)
        counted = {"input_token_count", "output_token_count"} <= head.keys
        return failed or counted or _is_inference_log(head.first.get("inference_log"))
    return False


def companion(head: Head) -> bool:
    """A score file, which begins with the counts."""
    return {"accuracy", "correct_count", "total_count"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per line; the score file beside it is looked up once."""
    labels = _labels(source)
    score = _score_of(source)
    for pos, record in source.records():
        with out.record(pos):
            if not is_object(record):
                raise UnreadableRecord("no record of a task", pos)
            _read_task(record, pos, out, score, labels)


def _read_task(record: Object, pos: str, out: Builder, score: Score, labels: Object) -> None:
    task = as_name(record.get("id"))
    run = out.trajectory(
        native_id=task,
        pos=pos,
        framework="bfcl",
        benchmark="bfcl",
        format_version=labels["version"],
        model=labels["model"],
        task_id=task,
    )
    log = as_array(record.get("inference_log"))
    failed_request = as_text(record.get("result")) or ""
    end_reason = None
    if failed_request.startswith(_FAILED_REQUEST):
        run.event("error", failed_request, f"{pos}/result", actor="harness")
        end_reason = failed_request
    elif any(is_object(item) and _steps_of(item) for item in log):
        end_reason = _write_log(run, record, log, pos)
    else:
        _write_bare_result(run, record, pos)
    if not run.thinking_seqs:
        for number in range(len(run.steps)):
            run.update_step(number, thinking="not_logged")
    run.set(
        metadata={
            "category": labels["category"],
            "failure": score.failures.get(task or ""),
            "latency_s": _sum_of_latencies(record.get("latency")),
            "latencies": record.get("latency") if is_array(record.get("latency")) else None,
            "first_request": _first_request(log),
            "traceback": as_text(record.get("traceback")),
        }
    )
    _write_outcome(run, score, task, end_reason)


# ---------------------------------------------------------------------- what happened


def _is_inference_log(value: Any) -> bool:
    return any(is_object(item) and "begin_of_turn_query" in item for item in as_array(value))


def _steps_of(turn: Object) -> dict[str, list[Any]]:
    return {key: as_array(part) for key, part in turn.items() if key.startswith("step_")}


def _write_log(run: Run, record: Object, log: list[Any], pos: str) -> str | None:
    """Tell turns and the states between them; returns why the harness stopped it, if it did."""
    end_reason = None
    number_of_turn = 0
    for index, item in enumerate(log):
        place = f"{pos}/inference_log/{index}"
        if is_array(item):
            _write_states(run, item, place)
            continue
        for position, message in enumerate(as_array(as_object(item).get("begin_of_turn_query"))):
            _write_query(run, as_object(message), f"{place}/begin_of_turn_query/{position}")
        for key, entries in _steps_of(as_object(item)).items():
            at = (number_of_turn, int(key[5:]) if key[5:].isdecimal() else -1)
            _offer_tools(run, entries)
            run.step(source_pos=f"{place}/{key}", **_tokens(record, *at))
            end_reason = _write_step(run, entries, f"{place}/{key}") or end_reason
        number_of_turn += 1
    return end_reason


def _write_states(run: Run, states: list[Any], pos: str) -> None:
    """The simulated world before the first turn, and after each one; the model is not shown it."""
    if run.seq == 0:
        run.environment(initial_state=fingerprint(as_json(states) or ""))
    for index, state in enumerate(states):
        state = as_object(state)
        content = as_json({as_text(state.get("class_name")) or "": state.get("content")})
        run.event("other", content, f"{pos}/{index}", actor="environment")


def _write_query(run: Run, message: Object, pos: str) -> None:
    if message.get("role") in ("assistant", "tool"):  # part of the task's text, said by no model
        run.event("other", as_json(message.get("content")), pos, actor=as_text(message.get("role")))
    else:
        write_message(run, message, pos)


def _offer_tools(run: Run, entries: list[Any]) -> None:
    for entry in entries:
        tools = as_object(as_object(entry).get("content")).get("tools")
        if as_object(entry).get("role") == "inference_input" and tools:
            run.tools(tool_definitions(tools))


def _first_request(log: list[Any]) -> Object | None:
    """What the first model call was sent, apart from the tools, where that was recorded."""
    for item in log:
        for entries in _steps_of(as_object(item)).values():
            for entry in map(as_object, entries):
                if entry.get("role") == "inference_input":
                    content = as_object(entry.get("content"))
                    return {key: value for key, value in content.items() if key != "tools"}
    return None


def _write_step(run: Run, entries: list[Any], pos: str) -> str | None:
    """Tell one model call, its results by order, and what the harness said of it."""
    end_reason = None
    calls: list[int] = []
    is_text = False
    for index, entry in enumerate(entries):
        place = f"{pos}/{index}"
        if not is_object(entry):
            run.problem(place, "no entry of a step")
            continue
        role, content = entry.get("role"), entry.get("content")
        if role == "assistant":
            is_text = isinstance(content, str)
            calls += _write_reply(run, entry, place)
        elif role == "handler_log":
            if is_text and not calls:
                calls += _write_decoded_calls(run, entry, place)
            end_reason = _write_handler_log(run, entry, place, is_text) or end_reason
        elif role == "tool":
            text = content if isinstance(content, str) else as_json(content)
            answers = calls.pop(0) if calls else None
            run.result(text, place_of(entry, "content", place), answers=answers)
        elif role != "inference_input":
            run.event("other", as_json(content), place, actor=as_text(role))
    return end_reason


def _write_reply(run: Run, entry: Object, pos: str) -> list[int]:
    thinking = as_text(entry.get("reasoning_content"))
    if thinking:
        run.thinking(thinking, f"{pos}/reasoning_content")
    return _write_content(run, entry.get("content"), f"{pos}/content")


def _write_content(run: Run, content: Any, pos: str) -> list[int]:
    """A reply is a list of ``{function: arguments}`` or text; returns the calls' numbers."""
    if isinstance(content, str):
        if content.strip():
            run.message(content, pos)
        return []
    if is_object(content):
        run.message(as_json(content), pos)
    calls: list[int] = []
    for index, item in enumerate(as_array(content)):
        if is_object(item):
            calls += [run.call(name, args, f"{pos}/{index}") for name, args in item.items()]
        elif item is not None:
            run.message(as_json(item), f"{pos}/{index}")
    return calls


def _write_decoded_calls(run: Run, entry: Object, pos: str) -> list[int]:
    """Calls that a model without function calling wrote into its text, as BFCL decoded them.

    They are Python calls (``ls(a=True)``): the arguments stay as they stand in the brackets.
    """
    calls: list[int] = []
    for index, code in enumerate(as_array(entry.get("model_response_decoded"))):
        name, _, arguments = (as_text(code) or "").strip().partition("(")
        if name:
            place = f"{pos}/model_response_decoded/{index}"
            calls.append(run.call(name, arguments.removesuffix(")"), place))
    return calls


def _write_handler_log(run: Run, entry: Object, pos: str, is_text: bool) -> str | None:
    """What the harness noted: a failure to decode calls is its error, plain text ends a turn."""
    note, error = as_text(entry.get("content")), entry.get("error")
    if error is not None:
        kind = "other" if is_text else "error"
        text = error if isinstance(error, str) else as_json(error)
        run.event(kind, text, pos, actor="harness", error_type="decode_error")
    elif note is not None and not note.startswith(_SAID_BY_THE_REPLY):
        run.event("other", note, pos, actor="harness")
    return note if note and note.startswith(_FORCED_TO_QUIT) else None


def _write_bare_result(run: Run, record: Object, pos: str) -> None:
    """Single-turn categories log the replies alone, without the question."""
    result = record.get("result")
    if not is_array(record.get("output_token_count")):
        run.step(source_pos=place_of(record, "result", pos), **_tokens(record))
        _write_reply(run, {"reasoning_content": record.get("reasoning_content")}, pos)
        _write_content(run, result, f"{pos}/result")
        return
    for turn, steps in enumerate(as_array(result)):
        for step, content in enumerate(as_array(steps)):
            place = f"{pos}/result/{turn}/{step}"
            run.step(source_pos=place, **_tokens(record, turn, step))
            _write_content(run, content, place)


def _tokens(record: Object, *at: int) -> dict[str, int | None]:
    def count(value: Any) -> int | None:
        for index in at:
            value = value[index] if is_array(value) and 0 <= index < len(value) else None
        return as_int(value)

    return {
        "input_tokens": count(record.get("input_token_count")),
        "output_tokens": count(record.get("output_token_count")),
    }


def _sum_of_latencies(value: Any) -> float | None:
    known = [number for number in map(as_float, _leaves(value)) if number is not None]
    return round(sum(known), 6) if known else None


def _leaves(value: Any) -> Iterator[Any]:
    for turn in value if is_array(value) else [value]:
        yield from turn if is_array(turn) else [turn]


# ---------------------------------------------------------------------- how it ended


class Score(NamedTuple):
    """Failures by task id, and whether a task that is not among them has passed."""

    failures: dict[str, Object]
    is_complete: bool


def _write_outcome(run: Run, score: Score, task: str | None, end_reason: str | None) -> None:
    outcome = None
    if end_reason is not None:
        outcome = "error" if end_reason.startswith(_FAILED_REQUEST) else "limit"
    success = None
    if task in score.failures:
        success = False
    elif score.is_complete and outcome != "error":
        success = True
    run.outcome(
        outcome,
        success=success,
        score=None if success is None else float(success),
        end_reason=end_reason,
    )


def _score_of(source: Source) -> Score:
    file = _score_file(source)
    if file is None:
        source.problem(None, "no score file was found: outcomes are unknown", "warning")
        return Score({}, False)
    failures: dict[str, Object] = {}
    counts: Object = {}
    for _, row in file.json_lines():
        row = as_object(row)
        task = as_name(row.get("id"))
        if task is not None and row.get("valid") is not True:
            failures[task] = _failure(row)
        elif "total_count" in row:
            counts = row
    return Score(failures, _is_complete(source, failures, counts))


def _is_complete(source: Source, failures: dict[str, Object], counts: Object) -> bool:
    scored, passed = as_int(counts.get("total_count")), as_int(counts.get("correct_count"))
    tasks = sum(1 for _ in source.lines()) if source.is_json_lines else None
    if scored is None or passed is None or len(failures) != scored - passed:
        reason = "the score file does not list as many failures as it counts"
    elif tasks is not None and tasks != scored:
        reason = f"the score file counts {scored} tasks, the result file holds {tasks}"
    else:
        return True
    source.problem(None, f"{reason}: tasks that it does not list stay unknown", "warning")
    return False


def _failure(row: Object) -> Object:
    """What was wrong, what the answer should have been, and what the task was."""
    error = row.get("error")
    told = as_object(error)
    message = told.get("error_message", error if not told else None)
    found = as_object(told.get("details"))
    details = {key: value for key, value in found.items() if not key.endswith("_instance_state")}
    task = {
        key: value
        for key, value in as_object(row.get("prompt")).items()
        if key not in ("id", "initial_config")
    }
    return {
        **told,
        "details": details or None,
        "error_type": as_text(told.get("error_type")) or as_text(row.get("error_type")),
        "error_message": message if isinstance(message, str) else as_json(message),
        **{key: value for key, value in row.items() if key not in _NOT_OF_A_FAILURE},
        **({"task": task} if task else {}),
    }


def _score_file(source: Source) -> Source | None:
    """The score file under ``score/`` as the result lies under ``result/``, or right beside it."""
    stem, _, ending = source.filename.rpartition("_result.")
    if not stem:
        return None
    name = f"{stem}_score.{ending}"
    below = _folders_below_result(source)
    found = None
    if below is not None:
        found = source.beside("/".join([*[".."] * (len(below) + 1), "score", *below, name]))
    return found or source.beside(name)


def _folders_below_result(source: Source) -> tuple[str, ...] | None:
    """Folders between ``result/`` and the file, the model's first; None where it is elsewhere."""
    path = source.member if source.member is not None else source.path.absolute().as_posix()
    folders = PurePosixPath(path).parts[:-1]
    if "result" not in folders:
        return None
    last = len(folders) - 1 - folders[::-1].index("result")
    return folders[last + 1 :]


def _labels(source: Source) -> Object:
    named = _FILE_NAME.fullmatch(source.filename)
    below = _folders_below_result(source) or ()
    return {
        "model": below[0] if below else None,
        "version": named["version"] if named else None,
        "category": named["category"] if named else None,
    }
