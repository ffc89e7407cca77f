"""What Claude Code notes of calls, results and the session; it becomes the metadata of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from loaders.formats._claude_code_lines import Line, Message, Usage
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
        self.step_of: dict[str, int] = {}
        """The step of each request, the last where its id repeats."""
        self.calls: dict[str, Object] = {}
        self.results: dict[str, Object] = {}
        self._counts: Counter[str] = Counter()
        self._words: dict[str, dict[str, None]] = {}

    def note_request(self, number: int, request: str) -> None:
        """Note the provider's name of what a call was sent."""
        self.step_of[request] = number
        self.requests[str(number)] = request

    def note_call(self, number: int, call: Iterable[Line], usage: Usage | None) -> None:
        """Note why a call ended, what the provider found out, and how it was served."""
        notes: Object = {}
        for line in call:
            message = line.message or Message()
            if line.error_details is not None:
                notes["errorDetails"] = line.error_details
            if message.stop_details is not None:
                notes["stop_details"] = message.stop_details
            if message.diagnostics is not None:
                notes["diagnostics"] = message.diagnostics
        if notes:
            self.calls[str(number)] = notes
        if usage is not None:
            self.note_usage(number, usage)

    def note_usage(self, number: int, usage: Usage) -> None:
        """Note how a call was served, which is mostly as all others were."""
        if is_array(usage.iterations) and len(usage.iterations) > 1:
            self.calls.setdefault(str(number), {})["iterations"] = usage.iterations
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


def record_of(line: Line) -> Object:
    """A line beside the conversation, without what every line repeats."""
    known = {
        key: value
        for key, value in line.record.items()
        if value is not None and key not in _ENVELOPE
    }
    return {"line": line.number, **(without_bytes(known) if may_hold_bytes(line) else known)}


def may_hold_bytes(line: Line) -> bool:
    """Whether ``without_bytes`` might find any in the line: mostly not, and then it need not look."""
    data = line.data or b""
    return b'"base64"' in data or b'"media_type"' in data or b"\\u" in data


def without_bytes(value: Any) -> Any:
    """A value of JSON without the data of pictures and files."""
    if is_array(value):
        return [without_bytes(item) for item in value]
    if not is_object(value):
        return value
    data = ("base64", "data") if "media_type" in value else ("base64",)
    return {key: without_bytes(item) for key, item in value.items() if key not in data}
