"""What Claude Code notes of calls, results and the session; it becomes the metadata of the run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loaders.formats._claude_code_lines import Entry, Message, Usage
from loaders.values import Object, as_int, as_object, is_array, is_object

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

    def note_call(self, number: int, group: list[Entry], usage: Usage | None) -> None:
        """Note why a call ended, what the provider found out, and how it was served."""
        notes: Object = {}
        for entry in group:
            line = entry.line
            message = line.message or Message()
            if line.error_details is not None:
                notes["errorDetails"] = line.error_details
            if message.stop_details is not None:
                notes["stop_details"] = message.stop_details
            if message.diagnostics is not None:
                notes["diagnostics"] = message.diagnostics
        if usage is not None:
            if is_array(usage.iterations) and len(usage.iterations) > 1:
                notes["iterations"] = usage.iterations
            self._note_usage(usage)
        if notes:
            self.calls[str(number)] = notes

    def _note_usage(self, usage: Usage) -> None:
        for counts in (usage.cache_creation, usage.server_tool_use):
            if counts is not None:
                for kind, count in as_object(counts).items():
                    self._counts[kind] += as_int(count) or 0
        if usage.service_tier is not None:
            self._note_word("service_tier", usage.service_tier)
        if usage.speed is not None:
            self._note_word("speed", usage.speed)
        if usage.inference_geo is not None:
            self._note_word("inference_geo", usage.inference_geo)

    def _note_word(self, name: str, word: Any) -> None:
        if word and isinstance(word, str):
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
