"""Recorded traffic with model APIs: VCR cassettes, and the lines of proxies' logs.

A cassette may hold calls of several APIs. It counts as a log in the dialect of the last API that
its head shows, so that exactly one format claims it; calls of the others are read all the same where
their API is known here, and counted as problems where it is not.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Final

from loaders.apis import (
    api_of_call,
    api_of_text,
    is_bedrock_response,
    is_gemini_request,
    is_gemini_response,
    model_of_url,
    named_model,
)
from loaders.bodies import body_value
from loaders.builder import Builder
from loaders.conversations import Recorded
from loaders.dialects import bedrock, gemini_wire, responses_wire
from loaders.dialects.bedrock import BedrockConverse
from loaders.dialects.gemini_wire import GeminiAPI
from loaders.dialects.responses import is_item, is_response
from loaders.dialects.responses_wire import OpenAIResponses, echoed_request
from loaders.dialects.wire import WIRES, Wire
from loaders.exchanges import CallReader
from loaders.sources import Head, Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

_WIRES: Final[dict[str, Wire]] = {
    **WIRES,
    **{wire.name: wire for wire in (OpenAIResponses(), GeminiAPI(), BedrockConverse())},
}
_CASSETTE = re.compile(
    rb"\s*(?:---\s*\n)?(?:version: \d+\s*\n)?(?:(?:http_)?interactions:\s*\n|requests:\s*\n- )"
)
IGNORED: Final = {
    "/version": "the version of the recorder's layout",
    "/recorded_with": "the recorder's name and version",
    "/*/*/request/method": "calls of a model are all of one method",
    "/*/*/request/headers/**": "headers of HTTP: kinds and lengths of bodies, names for support",
    "/*/*/response/headers/**": "headers of HTTP: kinds and lengths of bodies, names for support",
    "/*/*/response/status/**": "a call that failed tells its error; the others are all alike",
    **bedrock.IGNORED,
    **gemini_wire.IGNORED,
    **responses_wire.IGNORED,
}
"""What of a cassette the tables leave out, and why; it may hold calls of several APIs."""

_JSON_CASSETTE = re.compile(
    rb'\s*\{\s*(?:"version"\s*:\s*\d+\s*,\s*)?"(?:http_)?interactions"\s*:\s*\[\s*\{\s*"request"\s*:'
)
_BINARY = re.compile(r"body: !!binary \|\n((?:\s+[A-Za-z0-9+/=]+\n)+)")
_REQUEST_IN = ("request", "request_params", "request_body", "kwargs")
_PARAMS_IN = ("model_parameters", "optional_params", "kwargs")
_TIMES = ("timestamp", "time", "created_at", "startTime", "start_time")
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


def api_of(call: Recorded) -> str | None:
    """The API of a recorded call; None for anything that is no call of a model."""
    return api_of_call(call.url, call.request, call.response)


# ---------------------------------------------------------------------- recognise


def api_in(head: Head) -> str | None:
    """The API whose dialect a recording counts as; None for what is no recording."""
    if is_cassette(head):
        return _api_of_cassette(head.data.decode("utf-8", "replace"))
    records = head.records
    if len(records) == 1 and is_array(records[0]):
        records = records[0]
    for record in map(as_object, records[:5]):
        call = whole_call(record, "") or half_call(record, "")
        if call is not None:
            return api_of(call)
    return None


def is_cassette(head: Head) -> bool:
    """Whether a source is a cassette, of YAML or JSON, in the layout of vcrpy or VCR."""
    if _CASSETTE.match(head.data) or _JSON_CASSETTE.match(head.data):
        return True
    interactions = as_array(head.first.get("interactions") or head.first.get("http_interactions"))
    return "uri" in as_object(as_object(next(iter(interactions), None)).get("request"))


def _api_of_cassette(text: str) -> str | None:
    packed = "".join(_decoded(block) for block in _BINARY.findall(text))
    return api_of_text(text, packed or text)


def _decoded(block: str) -> str:
    packed = "".join(block.split())
    try:
        return base64.b64decode(packed[: len(packed) // 4 * 4]).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


# ---------------------------------------------------------------------- read


class Recording:
    """Takes recorded calls of any API, and at the end tells the runs that they belong to."""

    def __init__(self, out: Builder) -> None:
        self._out = out
        self._readers: dict[str, CallReader] = {}
        self._others: Counter[str | None] = Counter()

    def add(self, call: Recorded) -> None:
        """The next call; what is none of a known API is counted."""
        api = api_of(call)
        if not call.request and (request := echoed_request(as_object(call.response))):
            call = call._replace(request=request, request_pos=call.response_pos)
        model = named_model(call.request) or model_of_url(call.url)
        if model and call.request:
            call = call._replace(request={**call.request, "model": model})
        if api not in _WIRES:
            self._others[api] += 1
        elif call.request or call.response is not None:
            self._readers.setdefault(api, CallReader(_WIRES[api], self._out)).add(call)
        else:
            self._out.problem(call.request_pos, "neither the request nor the response can be read")

    def close(self) -> None:
        """No more calls will come."""
        for reader in self._readers.values():
            reader.tell()
        for api, count in self._others.items():
            what = f"calls of {api}" if api else "requests that are no calls of a model"
            self._out.problem(None, f"{count} {what} are not read here", "skipped")


def calls_of_cassette(source: Source, out: Builder) -> Iterator[Recorded]:
    """The calls on a cassette, in the order in which they were recorded."""
    cassette = as_object(source.json())
    requests, responses = as_array(cassette.get("requests")), as_array(cassette.get("responses"))
    if len(requests) != len(responses):
        out.problem(None, f"{len(requests)} requests, but {len(responses)} responses")
    for index, request in enumerate(requests):
        response = responses[index] if index < len(responses) else None
        yield _interaction(request, response, f"/requests/{index}", f"/responses/{index}", out)
    key = "interactions" if "interactions" in cassette else "http_interactions"
    for index, interaction in enumerate(map(as_object, as_array(cassette.get(key)))):
        request, response = interaction.get("request"), interaction.get("response")
        pos = f"/{key}/{index}"
        call = _interaction(request, response, f"{pos}/request", f"{pos}/response", out)
        yield call._replace(ended_at=as_time(interaction.get("recorded_at")))
    if key in cassette and not cassette.keys() & {"version", "recorded_with"}:
        out.problem(None, "a cassette's last line is missing: it may be cut short", "warning")


def _interaction(
    request: Any, response: Any, request_pos: str, response_pos: str, out: Builder
) -> Recorded:
    request, response = as_object(request), as_object(response)
    body, answer, at_body, at_answer = None, None, "", ""
    with out.record(request_pos):
        body, at_body = _body(request)
    with out.record(response_pos):
        answer, at_answer = _body(response)
    status = response.get("status")
    return Recorded(
        as_object(body),
        answer,
        request_pos + at_body,
        response_pos + at_answer,
        as_int(as_object(status).get("code") if is_object(status) else status),
        url=as_text(request.get("uri")) or as_text(request.get("url")),
    )


def _body(message: Object) -> tuple[Any, str]:
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


def read_calls(source: Source, out: Builder) -> None:
    """All recorded calls of a source that holds nothing else: a cassette, pairs, or halves of them."""
    recording = Recording(out)
    if is_cassette(source.head):
        for call in calls_of_cassette(source, out):
            recording.add(call)
    else:
        log = CallLog(recording)
        for pos, record in source.records():
            with out.record(pos):
                if not log.add(as_object(record), pos):
                    out.problem(pos, "neither a recorded call nor half of one")
        log.close()
    recording.close()


# ---------------------------------------------------------------------- logs of proxies


class CallLog:
    """Calls of a log whose records are pairs, or requests and responses by turns.

    A response answers the open request of its number; without one the earliest open one.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._waiting: dict[str, Recorded] = {}
        self._count = 0

    def add(self, record: Object, pos: str) -> bool:
        """Take in a record; False if it holds no call and no half of one."""
        call = whole_call(record, pos) or half_call(record, pos)
        if call is None:
            return False
        call = call._replace(order=self._count)
        self._count += 1
        number = as_name(record.get("request_id", record.get("id")))
        if call.request and call.response is None:
            self._waiting[number or f"#{call.order}"] = call
        elif call.request:
            self._recording.add(call)
        else:
            if number not in self._waiting:
                number = next(iter(self._waiting), None)
            asked = self._waiting.pop(number) if number is not None else None
            self._recording.add(_joined(asked, call) if asked else call)
        return True

    def close(self) -> None:
        """Requests that are still open were never answered, as far as the log shows."""
        for call in self._waiting.values():
            self._recording.add(call)


def _joined(asked: Recorded, answered: Recorded) -> Recorded:
    return answered._replace(
        request=asked.request,
        request_pos=asked.request_pos,
        started_at=asked.started_at,
        url=asked.url or answered.url,
        extra={**asked.extra, **answered.extra},
        order=asked.order,
    )


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
    if request.keys() & {"body", "parsed_body"}:
        request, at = _body(request)
        request_pos += at
    if is_object(response) and response.keys() & {"body", "parsed_body", "body_raw"}:
        response, at = _body(response)
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
        {key: value for key, value in record.items() if key not in taken},
    )


def _time_in(record: Any) -> Any:
    record = as_object(record)
    return next((time for key in _TIMES if (time := as_time(record.get(key)))), None)
