"""What a response says beside the reply and its tokens: who served it, on what terms, what it cites.

Whatever key of a response is not told elsewhere is taken as it is, so that keys that services add
are kept without being known here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from loaders.values import Object, as_array, as_float, as_json, as_object, is_array, is_object

_ECHOED: Final = (
    *("instructions", "tools", "input", "previous_response_id", "conversation", "prompt"),
    "metadata",
)
_TOLD: Final = {
    "openai_chat": ("id", "request_id", "object", "created", "model", "choices", "usage"),
    "anthropic_messages": ("id", "request_id", "type", "role", "model", "content", "usage"),
    "openai_responses": (
        *("id", "object", "created_at", "completed_at", "model", "status", "output", "usage"),
        *("incomplete_details", *_ECHOED),
    ),
}
"""Keys of a response that are told as events or columns, or repeat the request, by dialect."""

_TOLD_ELSEWHERE: Final = ("error", "stop_reason", "time_info", "timings", "tool_usage")
_TOLD_OF_CHOICE: Final = ("index", "message", "delta", "finish_reason", "text", "logprobs")
_TOLD_OF_MESSAGE: Final = (
    *("role", "content", "tool_calls", "function_call", "reasoning", "reasoning_content"),
    *("reasoning_details", "thinking_blocks", "refusal", "name", "annotations", "items"),
)
_TOLD_OF_USAGE: Final = frozenset(
    (
        *("prompt_tokens", "completion_tokens", "total_tokens", "cost", "reasoning_tokens"),
        *("prompt_tokens_details/cached_tokens", "completion_tokens_details/reasoning_tokens"),
        *("prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "time_info/created"),
        *("input_tokens", "output_tokens", "cache_read_input_tokens"),
        *("input_tokens_details/cached_tokens", "output_tokens_details/reasoning_tokens"),
    )
)
_SUMMED: Final = ("usage", "tool_usage", "time_info", "timings")


def rest_of_response(dialect: str, body: Object, message: Object, choice: Object) -> Object:
    """What a response says beside what is told of it: of some dialects only of an error.

    ``message`` is the reply that is told, ``choice`` what stands around it where there may be
    several.
    """
    error = as_object(body.get("error"))
    details = {"error": _without(error, ("message", "type", "status"))} if error else {}
    if dialect not in _TOLD:
        return {key: value for key, value in details.items() if value}
    rest = details | _without(body, (*_TOLD[dialect], *_TOLD_ELSEWHERE))
    rest |= _without(choice, _TOLD_OF_CHOICE)
    if dialect == "openai_chat":
        rest |= _without(message, _TOLD_OF_MESSAGE)
    rest["citations"] = list(_citations_of(message))
    rest["phase"] = [item["phase"] for item in _parts_of(message, "items") if item.get("phase")]
    return {key: value for key, value in rest.items() if value not in (None, [], {})}


def _without(value: Object, told: Iterable[str]) -> Object:
    told = frozenset(told)
    return {key: item for key, item in value.items() if key not in told and item is not None}


def _parts_of(message: Object, key: str) -> Iterator[Object]:
    return map(as_object, as_array(message.get(key)))


def _citations_of(message: Object) -> Iterator[Any]:
    """What a reply's text refers to, without what only the service can read."""
    holders = [message, *_parts_of(message, "content")]
    for item in _parts_of(message, "items"):
        holders += _parts_of(item, "content")
    for holder in holders:
        for key in ("citations", "annotations"):
            for citation in _parts_of(holder, key):
                yield _without(citation, ("encrypted_index",))


def rest_of_usage(dialect: str, bodies: Iterable[Object]) -> Object:
    """What the responses of a run say of their use beside the counts that steps have.

    Counts and times are sums; words stand once each. What is zero throughout is left out.
    """
    if dialect not in _TOLD:
        return {}
    sums: dict[str, dict[str, float]] = defaultdict(dict)
    words: dict[str, dict[str, list[Any]]] = defaultdict(dict)
    for body in bodies:
        for name in _SUMMED:
            for key, value in _leaves(as_object(body.get(name))):
                if key in _TOLD_OF_USAGE:
                    continue
                number = as_float(value)
                if number is None:
                    words[name].setdefault(key, []).append(value)
                else:
                    sums[name][key] = sums[name].get(key, 0) + number
    found = {
        name: {
            **{key: round(number, 9) for key, number in sums[name].items() if number},
            **{key: agreed(values) for key, values in words[name].items()},
        }
        for name in _SUMMED
    }
    return {name: numbers for name, numbers in found.items() if numbers}


def _leaves(value: Object, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if is_object(item):
            yield from _leaves(item, f"{before}{key}/")
        elif item is not None and not is_array(item):
            yield f"{before}{key}", item


def agreed(values: Iterable[Any]) -> Any:
    """The one value where all are the same, else the list of those that differ, in their order.

    >>> agreed(["a", "a"]), agreed([1, 2, 1])
    ('a', [1, 2])
    """
    distinct = {as_json([value]): value for value in values}
    return list(distinct.values()) if len(distinct) > 1 else next(iter(distinct.values()), None)


def agreed_by_key(objects: Iterable[Object]) -> Object:
    """What some objects say under each key, as ``agreed``."""
    found: dict[str, list[Any]] = {}
    for one in objects:
        for key, value in one.items():
            found.setdefault(key, []).append(value)
    return {key: agreed(values) for key, values in found.items()}
