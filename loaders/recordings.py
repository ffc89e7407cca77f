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
from collections.abc import Iterator
from typing import Any, Final

from loaders.apis import (
    api_of_call,
    api_of_text,
    model_of_url,
    named_model,
)
from loaders.builder import Builder
from loaders.conversations import Recorded
from loaders.dialects.bedrock import BedrockConverse
from loaders.dialects.gemini_wire import GeminiAPI
from loaders.dialects.responses_wire import OpenAIResponses, echoed_request
from loaders.dialects.wire import WIRES, Wire
from loaders.exchanges import CallReader
from loaders.heads import Head, asked_once
from loaders.proxies import body_of, half_call, told_headers, whole_call
from loaders.recordings_ignored import IGNORED
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

__all__ = [
    "IGNORED",
    "CallLog",
    "Recording",
    "api_in",
    "calls_of_cassette",
    "is_cassette",
    "read_calls",
]

_WIRES: Final[dict[str, Wire]] = {
    **WIRES,
    **{wire.name: wire for wire in (OpenAIResponses(), GeminiAPI(), BedrockConverse())},
}
_CASSETTE = re.compile(
    rb"\s*(?:---\s*\n)?(?:version: \d+\s*\n)?(?:(?:http_)?interactions:\s*\n|requests:\s*\n- )"
)
_JSON_CASSETTE = re.compile(
    rb'\s*\{\s*(?:"version"\s*:\s*\d+\s*,\s*)?(?:"(?:http_)?interactions"\s*:\s*\[\s*\{\s*"request"|'
    rb'"requests"\s*:\s*\[\s*\{\s*"(?:body|method|uri)")\s*:'
)
_BINARY = re.compile(r"body: !!binary \|\n((?:\s+[A-Za-z0-9+/=]+\n)+)")


def api_of(call: Recorded) -> str | None:
    """The API of a recorded call; None for anything that is no call of a model."""
    return api_of_call(call.url, call.request, call.response)


# ---------------------------------------------------------------------- recognise


@asked_once
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


@asked_once
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
        body, at_body = body_of(request)
    with out.record(response_pos):
        answer, at_answer = body_of(response)
    status = response.get("status")
    return Recorded(
        as_object(body),
        answer,
        request_pos + at_body,
        response_pos + at_answer,
        as_int(as_object(status).get("code") if is_object(status) else status),
        url=as_text(request.get("uri")) or as_text(request.get("url")),
        extra=told_headers(request.get("headers")),
    )


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
