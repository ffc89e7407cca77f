"""What Claude Code notes of calls, results and the session; it becomes the metadata of the run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loaders.formats._claude_code_lines import NOTHING, Entry, Line, Message, opened
from loaders.values import Object, as_int, as_object, as_text, is_array, is_object

_ENVELOPE = frozenset(
    {
        *("uuid", "parentUuid", "isSidechain", "userType", "cwd", "sessionId", "version"),
        *("gitBranch", "entrypoint", "slug", "isMeta"),
    }
)


class Notes:
    """Gathers notes: those of calls by the step's number, those of results by the call's id."""

    def __init__(self) -> None:
        self.requests: dict[str, str] = {}
        self.calls: dict[str, Object] = {}
        self.results: dict[str, Object] = {}
        self._counts: Counter[str] = Counter()
        self._words: dict[str, dict[str, None]] = {}

    def note_call(self, number: int, lines: list[Line], usage: Object) -> None:
        """Note why a call ended, what the provider found out, and how it was served."""
        notes: Object = {}
        for line in lines:
            message = line.message or Message()
            for name, raw in (
                ("errorDetails", line.error_details),
                ("stop_details", message.stop_details),
                ("diagnostics", message.diagnostics),
            ):
                if raw is not NOTHING and (value := opened(raw)) is not None:
                    notes[name] = value
        iterations = usage.get("iterations")
        if is_array(iterations) and len(iterations) > 1:
            notes["iterations"] = iterations
        if notes:
            self.calls[str(number)] = notes
        self._note_usage(usage)

    def _note_usage(self, usage: Object) -> None:
        for name in ("cache_creation", "server_tool_use"):
            if name in usage:
                for kind, count in as_object(usage[name]).items():
                    self._counts[kind] += as_int(count) or 0
        for name in ("service_tier", "speed", "inference_geo"):
            if name in usage and (word := as_text(usage[name])):
                self._words.setdefault(name, {})[word] = None

    @property
    def metadata(self) -> Object:
        """All notes that there are."""
        known: Object = {
            "request_ids": self.requests,
            "notes_of_calls": self.calls,
            "notes_of_results": self.results,
            "usage": dict(self._counts),
            **{name: list(words) for name, words in self._words.items()},
        }
        return {name: value for name, value in known.items() if value}


def record_of(entry: Entry) -> Object:
    """A line beside the conversation, without what every line repeats."""
    rest = {key: value for key, value in entry.record.items() if key not in _ENVELOPE}
    known = {key: without_bytes(value) for key, value in rest.items() if value is not None}
    return {"line": entry.number, **known}


def without_bytes(value: Any) -> Any:
    """A value of JSON without the data of pictures and files."""
    if is_array(value):
        return [without_bytes(item) for item in value]
    if not is_object(value):
        return value
    data = ("base64", "data") if "media_type" in value else ("base64",)
    return {key: without_bytes(item) for key, item in value.items() if key not in data}
