"""One sample of an Inspect log with all its parts, wherever they lie: in place, pooled, in chunks.

Inspect stores what repeats once and refers to it: long strings are ``attachment://<hash>`` (before
November 2024 ``tc://<hash>``), messages of model inputs and of raw requests are ranges into pools.
A chunked sample lies in many archive members, each a piece of one sequence. Every item here comes
with the position under which it can be found again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from loaders.archives import ZipArchive
from loaders.formats._inspect_events import events_of, is_request, opened
from loaders.jsontext import decode
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_object,
    as_text,
    fingerprint,
    is_array,
    is_object,
)

Placed = tuple[str, Any]
"""An item and its position in the source."""

_REFERENCES = ("attachment://", "tc://")
_MARKS = (b'"attachment:', b'"tc:', b"\\u00")
_REQUEST_KEYS = ("messages", "contents", "input", "inputs", "prompt")
_CHUNK = re.compile(r"^(?P<start>\d+)\.json$")


class Sample:
    """One sample: its record, its events and messages in order, and what they refer to.

    ``pool`` holds the messages of model inputs and ``requests`` those of raw requests; what stands
    in place is added at their ends, so that both are always named by a number. ``missing`` holds
    the references that lead nowhere. ``may_refer``: whether there can be references at all.
    """

    def __init__(self, record: Object, pos: str, *, may_refer: bool = True) -> None:
        self.record = record
        self.pos = pos
        self._may_refer = may_refer
        pooled = as_object(record.get("events_data"))
        transcript = as_object(record.get("transcript"))  # before November 2024
        events, where = record.get("events"), "events"
        if not events and transcript:
            events, where = transcript.get("events"), "transcript/events"
        self.events = _placed(events, f"{pos}/{where}")
        self.messages = _placed(record.get("messages"), f"{pos}/messages")
        self.pool = _placed(pooled.get("messages"), f"{pos}/events_data/messages") or _placed(
            record.get("message_pool"), f"{pos}/message_pool"
        )
        self.requests = as_array(pooled.get("calls")) or as_array(record.get("call_pool"))
        self.attachments = as_object(record.get("attachments")) or as_object(
            transcript.get("content")
        )
        self.missing: set[str] = set()
        self._request_numbers: dict[str, int] = {}

    @classmethod
    def in_chunks(cls, archive: ZipArchive, folder: str) -> Sample:
        """The sample whose sequences lie in pieces in members below ``folder``."""
        record = as_object(decode(archive.read(f"{folder}/sample.json")))
        if f"{folder}/metadata.json" in archive:
            record["metadata"] = decode(archive.read(f"{folder}/metadata.json"))
        sample = cls(record, f"{folder}/sample.json#")
        sample.events = _chunks(archive, f"{folder}/events/", events_of)
        sample.pool = _chunks(archive, f"{folder}/messages/")
        sample.requests = [item for _, item in _chunks(archive, f"{folder}/calls/")]
        attachments = _chunks(archive, f"{folder}/attachments/")
        sample.attachments = {str(index): text for index, (_, text) in enumerate(attachments)}
        numbers = _expanded(record.get("message_refs"), len(sample.pool))
        sample.messages = [sample.pool[number] for number in numbers]
        return sample

    def resolve(self, value: Any) -> Any:
        """The value with every reference to an attachment replaced by what it refers to."""
        if not self._may_refer:
            return value
        if isinstance(value, str):
            if not value.startswith(_REFERENCES):
                return value
            reference = self.reference(value) or ""
            found = as_text(self.attachments.get(reference))
            if found is None:
                self.missing.add(value)
            return value if found is None else found
        if is_array(value):
            return [self.resolve(item) for item in value]
        if is_object(value):
            return {key: self.resolve(item) for key, item in value.items()}
        return value

    def reference(self, text: str) -> str | None:
        """The key of the attachment to which this string refers, if it is a reference."""
        if not text.startswith(_REFERENCES):
            return None
        return text.partition("://")[2]

    def input_of(self, event: Object, pos: str) -> list[int]:
        """Numbers in ``pool`` of the messages that a model event was given."""
        in_place = as_array(event.get("input"))
        if not in_place:
            return _expanded(event.get("input_refs"), len(self.pool))
        first = len(self.pool)
        self.pool.extend(_placed(in_place, f"{pos}/input"))
        return list(range(first, len(self.pool)))

    def request_of(self, event: Object) -> list[int] | None:
        """Numbers in ``requests`` of the messages that went over the wire; None if not logged."""
        call = as_object(event.get("call"))
        request = call.get("request")
        if not is_request(request):
            return None
        if is_array(call.get("call_refs")):
            return _expanded(call["call_refs"], len(self.requests))
        request = as_object(opened(request))
        for key in _REQUEST_KEYS:
            if key in request:
                items = request[key]
                return [self._number(item) for item in (items if is_array(items) else [items])]
        return None

    def _number(self, item: Any) -> int:
        """A request's message in place gets one number for all requests that repeat it."""
        content = fingerprint(as_json(item) or "")
        if content not in self._request_numbers:
            self._request_numbers[content] = len(self.requests)
            self.requests.append(item)
        return self._request_numbers[content]


def may_refer(data: bytes) -> bool:
    """Whether a sample may hold references; where it holds none, its values are as they stand.

    A letter of theirs could also be written in code, which then counts as a reference.
    """
    return any(mark in data for mark in _MARKS)


def _placed(items: Any, pos: str) -> list[Placed]:
    return [(f"{pos}/{index}", item) for index, item in enumerate(as_array(items))]


def _chunks(
    archive: ZipArchive, folder: str, items_of: Callable[[bytes], Any] = decode
) -> list[Placed]:
    starts = [
        (int(match["start"]), name)
        for name in archive.names
        if name.startswith(folder) and (match := _CHUNK.match(name.removeprefix(folder)))
    ]
    return [
        item
        for _, name in sorted(starts)
        for item in _placed(items_of(archive.read(name)), f"{name}#")
    ]


def _expanded(references: Any, size: int) -> list[int]:
    """The numbers in half-open ranges, cut to the size of the pool that they point into.

    Where thinking is stripped there are as many ranges as messages, in every event: kept plain.
    """
    numbers: list[int] = []
    for reference in as_array(references):
        if is_array(reference) and len(reference) == 2:
            start, stop = reference
            if type(start) is int and type(stop) is int:
                numbers.extend(range(max(0, start), min(stop, size)))
    return numbers
