"""OpenAI's Responses API: recorded calls, responses alone, and lists of its items.

Recorded calls (cassettes, the lines of a proxy, rows with ``input`` and ``output``) show each request,
and so what was sent back; a request that names an earlier response goes on from it. A response alone
repeats all of its request but the input: what the call was shown is unknown then.

A list of items, on one line each or in a row, is one run. It marks no calls: what the model emitted
without anything of the client's in between counts as one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.dialects import responses
from loaders.dialects.responses import is_item, is_output, is_response
from loaders.heads import Head
from loaders.recordings import CallLog, Recording, api_in, calls_of_cassette, is_cassette
from loaders.recordings_ignored import IGNORED
from loaders.rows import identity_of, metadata_of, outcome_of, unfolded
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_object, as_text, as_time, is_array, is_object

TITLE = "OpenAI Responses"
GIVES = ("thinking", "sent", "tools", "tokens")
__all__ = ["GIVES", "IGNORED", "TITLE", "read", "sniff"]

_LOOKED_AT = 20
_ITEMS_IN = ("items", "input", "output", "messages", "new_items")
_TAKEN = (*_ITEMS_IN, "instructions", "tools", "model", "usage")
# fmt: off
_FOREIGN_KEYS = frozenset((
    "payload", "trace", "trace_id", "run_type", "dotted_order", "span_data", "projectId",
    "resourceSpans", "parent_id", "kind", "info", "history",
))
# fmt: on


def sniff(head: Head) -> bool:
    """Calls recorded from this API, or items that only it has."""
    if is_cassette(head):
        return api_in(head) == responses.NAME
    records = head.records
    if not records or any(as_object(record).keys() & _FOREIGN_KEYS for record in records[:1]):
        return False
    if len(records) == 1 and is_array(records[0]) and any(map(_has_items, records[0][:1])):
        records = records[0]
    return _has_items(records[0]) or api_in(head) == responses.NAME or _are_items(records)


def _has_items(record: Any) -> bool:
    """Whether a record is a list of items, a row with one, or a response."""
    if is_array(record):
        return _are_items(record)
    record = as_object(record)
    return is_response(record) or any(_are_items(unfolded(record.get(key))) for key in _ITEMS_IN)


def _are_items(values: Any) -> bool:
    """Whether a list begins with plain messages at most, before an item of this dialect."""
    for value in as_array(values)[:_LOOKED_AT]:
        if is_item(value):
            return True
        if not is_object(value) or "role" not in value:
            return False
    return False


def read(source: Source, out: Builder) -> None:
    """A run per recorded conversation, list, or file with an item on each line."""
    recording = Recording(out)
    if is_cassette(source.head):
        for call in calls_of_cassette(source, out):
            recording.add(call)
        recording.close()
        return
    log = CallLog(recording)
    lines: _Items | None = None
    for pos, record in _records(source):
        with out.record(pos):
            if is_array(record) or (is_object(record) and _is_row(record)):
                lines = None
                _tell(out, record, pos)
            elif log.add(as_object(record), pos):
                lines = None
            elif is_object(record) and ("role" in record or "type" in record):
                lines = lines or _Items(out.trajectory(pos=pos))
                lines.tell(record, pos)
            else:
                out.problem(pos, "neither an item nor a recorded call")
    log.close()
    recording.close()


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    """Records; one array of items is one."""
    if source.is_json_lines:
        yield from source.json_lines()
        return
    value = source.json()
    if is_array(value) and not _are_items(value):
        yield from ((f"/{index}", item) for index, item in enumerate(value))
    else:
        yield "", value


def _is_row(record: Object) -> bool:
    """Whether a record has items, but not as the two halves of a call."""
    if is_item(record) or is_response(record) or {"input", "output"} <= record.keys():
        return False
    return any(is_array(unfolded(record.get(key))) for key in _ITEMS_IN)


def _tell(out: Builder, record: Any, pos: str) -> None:
    """Tell a list of items, or a row with one, as a run."""
    row = as_object(record)
    run = out.trajectory(
        pos=pos, **identity_of(row), metadata=metadata_of(row, _TAKEN) if row else None
    )
    if as_array(row.get("tools")):
        run.tools(responses.tool_definitions(row["tools"]))
    if as_text(row.get("instructions")):
        run.system(row["instructions"], f"{pos}/instructions")
    items = _Items(run)
    for key in ("",) if is_array(record) else _ITEMS_IN:
        listed = unfolded(row.get(key)) if key else record
        for index, item in enumerate(as_array(listed)):
            items.tell(item, f"{pos}/{key}/{index}" if key else f"{pos}/{index}")
    if any(outcome_of(row).values()):
        run.outcome(**outcome_of(row))
    known = responses.usage_columns(row.get("usage")).items()
    run.set(**{name: value for name, value in known if value is not None})


class _Items:
    """Tells the items of one run, and where a call of the model begins."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_open = False

    def tell(self, item: Any, pos: str) -> None:
        if not is_object(item):
            self._run.problem(pos, "no item")
            return
        is_emitted = is_output(item)
        if is_emitted and not self._is_open:
            self._run.step(source_pos=pos)
        self._is_open = is_emitted
        responses.write_item(self._run, item, pos, at=as_time(item.get("timestamp")))
