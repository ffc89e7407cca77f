"""AgentDojo runs: one JSON file per task and attack, under ``runs/<pipeline>/<suite>/...``.

``security`` true means that the injected attack **succeeded**; without an attack it is always true
and says nothing, and under a denial-of-service attack it equals ``not utility``. Injection tasks
run as user tasks (``user_task_id`` begins with ``injection_task``) are no part of utility. Claude 3
thinks aloud in ``<thinking>`` tags; the framework sends its replies back as they are.
"""

from __future__ import annotations

import re

from loaders.builder import Builder
from loaders.dialects.openai_chat import text_and_media, write_message, write_reply_parts
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_bool, as_float, as_object, as_text

TITLE = "AgentDojo run"
_NO_LETTER = re.compile(r"\\.|[^A-Za-z0-9]", re.DOTALL)
GIVES = ("thinking", "outcome")


def sniff(head: Head) -> bool:
    """A JSON object that names a suite, a pipeline and a user task."""
    return {"suite_name", "pipeline_name", "user_task_id"} <= head.keys


def read(source: Source, out: Builder) -> None:
    """One run per file."""
    record = as_object(source.json())
    pipeline, suite = as_text(record.get("pipeline_name")), as_text(record.get("suite_name"))
    task, injection_task = (
        as_text(record.get("user_task_id")),
        as_text(record.get("injection_task_id")),
    )
    attack = as_text(record.get("attack_type"))
    run = out.trajectory(
        native_id="/".join(
            part or "none" for part in (pipeline, suite, task, attack, injection_task)
        ),
        pos="",
        framework="agentdojo",
        benchmark="agentdojo",
        task_id=f"{suite}/{task}",
        trial=f"{attack}/{injection_task}" if attack else None,
        arm=f"{pipeline}/{attack or 'none'}",
        model=pipeline,
        metadata={
            "suite": suite,
            "attack": attack,
            "injection_task": injection_task,
            "injections": record.get("injections") or None,
            "is_injection_task": (task or "").startswith("injection_task"),
            "duration_s": as_float(record.get("duration")),
        },
    )
    run.environment(suite=suite)
    injections = [
        _letters(text)
        for text in as_object(record.get("injections")).values()
        if isinstance(text, str) and text.strip()
    ]
    for index, message in enumerate(as_array(record.get("messages"))):
        _write(run, as_object(message), f"/messages/{index}", attack, injections)
    utility, security = as_bool(record.get("utility")), as_bool(record.get("security"))
    is_targeted = attack is not None and not attack.endswith("dos")
    error = as_text(record.get("error"))
    run.outcome(
        "error" if error and utility is None else None,
        success=utility,
        score=None if utility is None else float(utility),
        end_reason=error,
        scores=[
            ("utility", None if utility is None else float(utility), str(record.get("utility"))),
            (
                "attack_succeeded",
                float(security) if is_targeted and security is not None else None,
                str(record.get("security")),
            ),
        ],
    )


def _write(run: Run, message: Object, pos: str, attack: str | None, injections: list[str]) -> None:
    role = message.get("role")
    if role == "assistant":
        run.step(source_pos=pos)
        write_reply_parts(run, message, pos)
        for index, call in enumerate(as_array(message.get("tool_calls"))):
            call = as_object(call)
            run.call(
                as_text(call.get("function")),
                call.get("args"),
                f"{pos}/tool_calls/{index}",
                call_id=as_text(call.get("id")),
            )
    elif role == "tool":
        text, media = text_and_media(message.get("content"))
        error = as_text(message.get("error"))
        call_id = as_text(message.get("tool_call_id"))
        shown = _letters(text or "") if injections else ""
        is_injected = any(injection in shown for injection in injections)
        run.result(
            text if error is None or text else error,
            f"{pos}/content" if error is None or text else f"{pos}/error",
            call_id=call_id,
            tool=as_text(as_object(message.get("tool_call")).get("function")),
            by_order=call_id is None,
            is_error=error is not None,
            error_type=_error_type(error),
            media=media,
            injected=attack if is_injected else None,
        )
    else:
        write_message(run, message, pos)


def _letters(text: str) -> str:
    """Letters and digits alone: injections pass through YAML, which reflows, quotes and escapes."""
    return _NO_LETTER.sub("", text)


def _error_type(error: str | None) -> str | None:
    """The exception's name before the colon of ``ValueError: ...``, where there is one."""
    name = (error or "").partition(":")[0]
    return name if name.isidentifier() else None
