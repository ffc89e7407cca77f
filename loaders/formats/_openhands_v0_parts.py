"""Parts of OpenHands V0 events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from loaders.rows import metadata_of
from loaders.values import Object, as_array, as_int, as_name, as_object, as_text

_RECALLED_TEXTS = ("repo_instructions", "additional_agent_instructions")


def by_response(rows: Any) -> dict[str, Object]:
    found = map(as_object, as_array(rows))
    return {name: row for row in found if (name := as_text(row.get("response_id")))}


def arguments_in(response: Object, call_id: str | None) -> Any:
    for choice in map(as_object, as_array(response.get("choices"))):
        for call in map(as_object, as_array(as_object(choice.get("message")).get("tool_calls"))):
            if as_name(call.get("id")) == call_id:
                return as_object(call.get("function")).get("arguments")
    return None


def recalled(extras: Object) -> str | None:
    """What the harness adds about the workspace, and knowledge that a word in the prompt called up."""
    texts = [as_text(extras.get(key)) for key in _RECALLED_TEXTS]
    known = map(as_object, as_array(extras.get("microagent_knowledge")))
    texts += [as_text(one.get("content")) for one in known]
    return "\n\n".join(text for text in texts if text) or None


def without_texts(extras: Object) -> Object:
    """What else is known of the workspace and of the knowledge that was called up."""
    rest = metadata_of(extras, (*_RECALLED_TEXTS, "microagent_knowledge"))
    named = [
        metadata_of(as_object(one), ("content",))
        for one in as_array(extras.get("microagent_knowledge"))
    ]
    return {**rest, **({"microagent_knowledge": named} if named else {})}


def exit_code_in(extras: Object) -> int | None:
    code = as_int(as_object(extras.get("metadata")).get("exit_code", extras.get("exit_code")))
    return None if code == -1 else code


def error_type_of(kind: str, extras: Object) -> str | None:
    if kind == "user_rejected":
        return "rejected"
    return (as_text(extras.get("error_id")) or None) if kind == "error" else None


def other_than_user(source: str | None) -> str | None:
    return None if source == "user" else source


def earlier(at: datetime | None, seconds: float | None) -> datetime | None:
    try:
        return None if at is None or seconds is None else at - timedelta(seconds=seconds)
    except OverflowError:
        return None
