"""One sample of an Inspect log with all its parts, wherever they lie: in place, pooled, in chunks.

Inspect stores what repeats once and refers to it: long strings are ``attachment://<hash>`` (before
November 2024 ``tc://<hash>``), messages of model inputs and of raw requests are ranges into pools.
A chunked sample lies in many archive members, each a piece of one sequence. Every item here comes
with the position under which it can be found again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Raw

from loaders.archives import ZipArchive
from loaders.dialects.openai_chat import text_and_media
from loaders.formats._inspect_records import (
    Event,
    Message,
    ModelEvent,
    as_logged,
    event_of,
    events_of,
    is_request,
    message_of,
    messages_of,
    messages_of_request,
    opened,
)
from loaders.jsontext import decode
from loaders.values import Object, as_array, as_object, as_text, is_array

_REFERENCES = ("attachment://", "tc://")
_MARKS = (b'"attachment:', b'"tc:', b"\\u00")
_CHUNK = re.compile(r"^(?P<start>\d+)\.json$")


_Item = TypeVar("_Item")


class Placed(Generic[_Item]):
    """Items in order, and where each stands: right below ``pos``, or at a place of its own."""

    def __init__(self, items: list[_Item], pos: str, places: Sequence[str] = ()) -> None:
        self.items, self._pos = items, pos
        self._below = 0 if places else len(items)
        self._places = [*places]

    def place(self, index: int) -> str:
        """The position of an item in the source."""
        return f"{self._pos}/{index}" if index < self._below else self._places[index - self._below]

    def add(self, item: _Item, place: str) -> None:
        """One more item at the end."""
        self.items.append(item)
        self._places.append(place)


class Sample:
    """One sample: its record, its events and messages in order, and what they refer to.

    ``pool`` holds the messages of model inputs; what stands in place is added at its end, so that
    all are named by a number, and so are the messages of raw ``requests``. ``missing`` holds the
    references that lead nowhere. ``may_refer``: whether there can be references at all.
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
        self.events = placed_events(events, f"{pos}/{where}")
        self.messages = placed_messages(record.get("messages"), f"{pos}/messages")
        pool, where = pooled.get("messages"), "events_data/messages"
        if not (pool and is_array(pool)):
            pool, where = record.get("message_pool"), "message_pool"
        self.pool = placed_messages(pool, f"{pos}/{where}")
        self.requests = as_array(pooled.get("calls")) or as_array(record.get("call_pool"))
        self.attachments = as_object(record.get("attachments")) or as_object(
            transcript.get("content")
        )
        self.missing: set[str] = set()
        self._in_place: dict[tuple[bytes | str, int], int] = {}
        self._request_numbers: dict[bytes | str, int] = {}

    @classmethod
    def in_chunks(cls, archive: ZipArchive, folder: str) -> Sample:
        """The sample whose sequences lie in pieces in members below ``folder``."""
        record = as_object(decode(archive.read(f"{folder}/sample.json")))
        if f"{folder}/metadata.json" in archive:
            record["metadata"] = decode(archive.read(f"{folder}/metadata.json"))
        sample = cls(record, f"{folder}/sample.json#")
        sample.events = _chunks(archive, f"{folder}/events/", events_of, event_of)
        pool = sample.pool = _chunks(archive, f"{folder}/messages/", messages_of, message_of)
        sample.requests = _chunks(archive, f"{folder}/calls/").items
        attachments = _chunks(archive, f"{folder}/attachments/").items
        sample.attachments = {str(index): text for index, text in enumerate(attachments)}
        numbers = _expanded(record.get("message_refs"), len(pool.items))
        places = [pool.place(number) for number in numbers]
        sample.messages = Placed([pool.items[number] for number in numbers], "", places)
        return sample

    # ------------------------------------------------------------------ references

    def resolve(self, value: Any) -> Any:
        """The value with every reference to an attachment replaced by what it refers to."""
        if isinstance(value, str):
            refers = value.startswith(_REFERENCES) and self._may_refer
            return self._found(value) if refers else value
        return self._resolved(value) if self._may_refer else value

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._found(value) if value.startswith(_REFERENCES) else value
        if isinstance(value, dict):  # not by way of is_object, which would double the time
            return {key: self._resolved(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, list):
            return [self._resolved(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return value

    def _found(self, reference: str) -> str:
        found = as_text(self.attachments.get(reference.partition("://")[2]))
        if found is None:
            self.missing.add(reference)
        return reference if found is None else found

    def text_of(self, content: Any) -> tuple[str | None, list[str] | None]:
        """The text of a message's content, and the types of its other parts."""
        content = self.resolve(content)
        return (content, None) if isinstance(content, str) else text_and_media(content)

    # ------------------------------------------------------------------ what calls were given

    def input_of(self, event: ModelEvent, pos: str) -> Sequence[int]:
        """Numbers in ``pool`` of the messages that a model event was given."""
        if not event.input:
            return _expanded(event.input_refs, len(self.pool.items))
        numbers: list[int] = []
        alike: dict[bytes | str, int] = {}
        for index, item in enumerate(event.input):
            number = len(self.pool.items)
            content = as_logged(item)
            if content is not None:  # a message gets one number for all inputs that repeat it
                times = alike[content] = alike.get(content, 0) + 1
                number = self._in_place.setdefault((content, times), number)
            if number == len(self.pool.items):
                self.pool.add(message_of(item), f"{pos}/input/{index}")
            numbers.append(number)
        return numbers

    def request_of(self, event: ModelEvent) -> Sequence[int] | None:
        """Numbers of the messages that went over the wire; None if not logged."""
        call = event.call
        if call is None or not is_request(call.request):
            return None
        if is_array(call.call_refs):
            return _expanded(call.call_refs, len(self.requests))
        items = messages_of_request(call.request)
        return None if items is None else [self._number(item) for item in items]

    def request(self, number: int) -> Any:
        """A message of a raw request, as it was sent."""
        item = self.requests[number]
        if isinstance(item, Raw):
            item = self.requests[number] = opened(item)
        return item

    def _number(self, item: Any) -> int:
        """A request's message in place gets one number for all requests that repeat it."""
        content = as_logged(item)
        number = len(self.requests)
        if content is not None:
            number = self._request_numbers.setdefault(content, number)
        if number == len(self.requests):
            self.requests.append(item)
        return number


def may_refer(data: bytes) -> bool:
    """Whether a sample may hold references; where it holds none, its values are as they stand.

    A letter of theirs could also be written in code, which then counts as a reference.
    """
    return _MARKS[0] in data or _MARKS[1] in data or _MARKS[2] in data


def placed_events(items: Any, pos: str) -> Placed[Event]:
    """The events of a list, each with its position; decoded as declared they all are, or none is."""
    if is_array(items) and items and isinstance(items[0], Event):
        return Placed(items, pos)
    return Placed([e if isinstance(e, Event) else event_of(e) for e in as_array(items)], pos)


def placed_messages(items: Any, pos: str) -> Placed[Message]:
    """The messages of a list, each with its position; the same holds of them."""
    if is_array(items) and items and isinstance(items[0], Message):
        return Placed(items, pos)
    return Placed([m if isinstance(m, Message) else message_of(m) for m in as_array(items)], pos)


def _chunks(
    archive: ZipArchive,
    folder: str,
    items_of: Callable[[bytes], Any] = decode,
    record_of: Callable[[Any], Any] | None = None,
) -> Placed[Any]:
    starts = [
        (int(match["start"]), name)
        for name in archive.names
        if name.startswith(folder) and (match := _CHUNK.match(name.removeprefix(folder)))
    ]
    chunks: Placed[Any] = Placed([], folder)
    for _, name in sorted(starts):
        for index, item in enumerate(as_array(items_of(archive.read(name)))):
            chunks.add(record_of(item) if record_of else item, f"{name}#/{index}")
    return chunks


def _expanded(references: Any, size: int) -> Sequence[int]:
    """The numbers in half-open ranges, cut to the size of the pool that they point into.

    Where thinking is stripped there are as many ranges as messages, in every event: kept plain.
    """
    references = as_array(references)
    numbers: list[int] = []
    for reference in references:
        if is_array(reference) and len(reference) == 2:
            start, stop = reference
            if type(start) is int and type(stop) is int:
                found = range(max(0, start), min(stop, size))
                if len(references) == 1:
                    return found
                numbers.extend(found)
    return numbers
