"""What stands in the parts of an OpenCode message: tokens, errors, signatures, files, times."""

from __future__ import annotations

from typing import Any

from loaders.values import Object, as_int, as_object, as_text, as_time, total

_SIGNATURES = ("signature", "redactedData", "reasoningEncryptedContent", "thoughtSignature")


def token_columns(tokens: Any) -> dict[str, int | None]:
    """Token columns of a step; empty where all are 0, the default before the first answer."""
    tokens = as_object(tokens)
    cache = as_object(tokens.get("cache"))
    fresh, output = as_int(tokens.get("input")), as_int(tokens.get("output"))
    reasoning, cached = as_int(tokens.get("reasoning")), as_int(cache.get("read"))
    given = total(fresh, cached, as_int(cache.get("write")))
    if not any((given, output, reasoning)):
        return {}
    if output is not None and reasoning:
        is_apart = as_int(tokens.get("total")) == (given or 0) + output + reasoning
        output += reasoning if is_apart or output < reasoning else 0
    return {
        "input_tokens": given,
        "output_tokens": output,
        "reasoning_tokens": reasoning,
        "cached_tokens": cached,
    }


def error_of(error: Any) -> tuple[str | None, str | None]:
    """The name and the message of an error."""
    error = as_object(error)
    data = as_object(error.get("data"))
    return as_text(error.get("name")), as_text(data.get("message")) or as_text(error.get("message"))


def rest_of(record: Object, told: tuple[str, ...]) -> Object:
    """What a record says beyond what has its place."""
    return {k: value for k, value in record.items() if k not in told and value is not None}


def signature_of(content: Object) -> tuple[str | None, Object]:
    """What the provider signed a part with, and all that it noted there."""
    marks = {
        key: value
        for provider in as_object(content.get("metadata")).values()
        for key, value in as_object(provider).items()
    }
    return next((as_text(marks.get(key)) for key in _SIGNATURES if marks.get(key)), None), marks


def duration_of(time: Any) -> float | None:
    time = as_object(time)
    start, end = as_time(time.get("start")), as_time(time.get("end"))
    return (end - start).total_seconds() if start and end else None


def name_of_file(content: Object) -> tuple[str | None, str]:
    """Where a file lies, or its bare name if the address holds the file itself; where that stands."""
    key = "filename" if (as_text(content.get("url")) or "data:").startswith("data:") else "url"
    text = as_text(content.get(key))
    return text, f"/{key}" if text else ""


def mime_of(content: Object) -> str:
    return as_text(content.get("mime")) or "unknown"
