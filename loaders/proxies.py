"""One call as it is on record: its bodies, its telling headers, and the known layouts of proxies' logs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from loaders.apis import is_bedrock_response, is_gemini_request, is_gemini_response
from loaders.bodies import body_value
from loaders.conversations import Recorded
from loaders.dialects.responses import is_item, is_response
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

_REQUEST_IN = ("request", "request_params", "request_body", "kwargs")
_PARAMS_IN = ("model_parameters", "optional_params", "kwargs")
_TIMES = ("timestamp", "time", "created_at", "startTime", "start_time")
_TELLING_HEADERS = frozenset(
    (
        *("user-agent", "anthropic-beta", "anthropic-version", "openai-beta", "originator"),
        *("x-app", "x-title", "http-referer", "x-initiator"),
    )
)
# fmt: off
_REQUEST_KEYS = frozenset((
    "messages", "model", "tools", "functions", "system", "temperature", "top_p", "max_tokens",
    "max_completion_tokens", "thinking", "reasoning", "reasoning_effort", "tool_choice", "n",
    "stop", "seed", "response_format", "context_management", "anthropic_version",
))
_RESPONSES_KEYS = frozenset((
    "input", "instructions", "model", "tools", "previous_response_id", "temperature", "top_p",
    "reasoning", "text", "tool_choice", "max_output_tokens", "store", "include", "truncation",
))
_RESPONSE_KEYS = frozenset((
    "choices", "usage", "content", "stop_reason", "stop_sequence", "role", "object", "created",
    "system_fingerprint", "service_tier",
))
# fmt: on


def whole_call(record: Object, pos: str) -> Recorded | None:
    """A record that holds a whole call: its request, or the request's keys, and its response."""
    response = record.get("response")
    is_answered = is_object(response) or is_array(response) or isinstance(response, str)
    for key in _REQUEST_IN:
        if is_object(record.get(key)) and is_answered:
            if "messages" in record and key == "kwargs":
                continue
            return _call(record, record[key], f"{pos}/{key}", response, f"{pos}/response", (key,))
    if (call := _call_of_a_cloud(record, pos)) is not None:
        return call
    output = as_array(record.get("output"))
    if "input" in record and any(map(is_item, output)):
        request = {key: value for key, value in record.items() if key in _RESPONSES_KEYS}
        taken = {*_RESPONSES_KEYS, *_RESPONSE_KEYS, "output", "status"}
        return _call(record, request, pos, record, pos, taken)
    if not is_array(record.get("messages")):
        return None
    request = {key: value for key, value in record.items() if key in _REQUEST_KEYS}
    for key in _PARAMS_IN:
        request.update(as_object(record.get(key)))
    taken = {*_REQUEST_KEYS, *_PARAMS_IN}
    if is_object(response) and _is_response(response):
        return _call(record, request, pos, response, f"{pos}/response", taken)
    if _is_response(record):
        return _call(record, request, pos, record, pos, taken | _RESPONSE_KEYS)
    return None


def _call_of_a_cloud(record: Object, pos: str) -> Recorded | None:
    """A call as Bedrock logs invocations or batches, or a request that has its response inside."""
    response = record.get("response")
    if is_object(record.get("modelInput")):
        sent, given = record["modelInput"], record.get("modelOutput")
        keys = ("modelInput", "modelOutput")
        return _call(record, sent, f"{pos}/modelInput", given, f"{pos}/modelOutput", keys)
    asked, answered = as_object(record.get("input")), as_object(record.get("output"))
    if is_object(asked.get("inputBodyJson")):
        sent = {"modelId": record.get("modelId"), **asked["inputBodyJson"]}
        given = answered.get("outputBodyJson")
        at_sent, at_given = f"{pos}/input/inputBodyJson", f"{pos}/output/outputBodyJson"
        return _call(record, sent, at_sent, given, at_given, ("input", "output", "modelId"))
    is_bedrock = is_bedrock_response(response) and is_array(record.get("messages"))
    if is_bedrock or (is_gemini_response(response) and is_gemini_request(record)):
        request = {key: value for key, value in record.items() if key != "response"}
        return _call(record, request, pos, response, f"{pos}/response", record.keys())
    return None


def half_call(record: Object, pos: str) -> Recorded | None:
    """A record that holds a request or a response alone."""
    for key in _REQUEST_IN:
        if is_object(record.get(key)) and record.get("type") in (None, "request"):
            call = _call(record, record[key], f"{pos}/{key}", None, "", (key,))
            return call if _is_request(call.request) else None
    response = record.get("response")
    if is_object(response) and (record.get("type") == "response" or _is_response(response)):
        return _call(record, {}, "", response, f"{pos}/response")
    if _is_response(record) and record.get("role") is None:
        return _call(record, {}, "", record, pos, _RESPONSE_KEYS)
    return None


def _is_request(request: Object) -> bool:
    if is_gemini_request(request):
        return True
    return is_array(request.get("messages")) or ("input" in request and "model" in request)


def _is_response(value: Object) -> bool:
    if is_response(value) or is_gemini_response(value) or is_bedrock_response(value):
        return True
    first = as_object(next(iter(as_array(value.get("choices"))), None))
    is_message = value.get("type") == "message" and is_array(value.get("content"))
    return "message" in first or is_message


def _call(  # noqa: PLR0917 - the two halves of a call, in order
    record: Object,
    request: Any,
    request_pos: str,
    response: Any,
    response_pos: str,
    taken: Collection[str] = (),
) -> Recorded:
    url = as_text(request.get("url")) or as_text(request.get("uri"))
    status = as_int(as_object(response).get("status_code"))
    asked, answered = _time_in(request), _time_in(response)
    logged = _time_in(record)
    headers = told_headers(request.get("headers"))
    if request.keys() & {"body", "parsed_body"}:
        request, at = body_of(request)
        request_pos += at
    if is_object(response) and response.keys() & {"body", "parsed_body", "body_raw"}:
        response, at = body_of(response)
        response_pos += at
    taken = {*taken, *_TIMES, "type", "response", "cost", "response_cost"}
    return Recorded(
        as_object(request),
        body_value(response),
        request_pos,
        response_pos,
        status,
        asked or (logged if request else None),
        answered or (logged if response is not None else None),
        as_float(record.get("cost", record.get("response_cost"))),
        url,
        {key: value for key, value in record.items() if key not in taken} | headers,
    )


def _time_in(record: Any) -> Any:
    record = as_object(record)
    return next((time for key in _TIMES if (time := as_time(record.get(key)))), None)


def body_of(message: Object) -> tuple[Any, str]:
    """The decoded body of a recorded request or response, and where in it the body stands."""
    if message.get("parsed_body") is not None:
        return message["parsed_body"], "/parsed_body"
    body = message.get("body")
    for key in ("string", "base64_string"):
        if is_object(body) and key in body:
            return body_value(body[key]), f"/body/{key}"
    if body is None and message.get("body_raw") is not None:
        return body_value(message["body_raw"]), "/body_raw"
    return body_value(body), "/body"


def told_headers(headers: Any) -> Object:
    """Of a request's headers those that say what the client is and which features it asked for.

    All others are left alone: they are about the transfer, or secret.

    >>> told_headers([{"name": "User-Agent", "value": "agent/1"}, {"name": "Cookie", "value": "x"}])
    {'request_headers': {'user-agent': 'agent/1'}}
    """
    pairs = list(as_object(headers).items())
    pairs += [(item.get("name"), item.get("value")) for item in map(as_object, as_array(headers))]
    told: Object = {}
    for name, value in pairs:
        value = next(iter(value), None) if is_array(value) else value
        name = name.lower() if isinstance(name, str) else ""
        if name in _TELLING_HEADERS and as_text(value) and "REDACTED" not in value:
            told[name] = value
    return {"request_headers": told} if told else {}
