"""``ui_messages.json`` of a Cline task: what the chat window showed, with the cost of each request.

Most of it is the conversation once more. What only stands here: when each request was made and what
it cost, which messages were left out of it, reasoning that the history does not keep, and errors.
An entry says how far the history had grown (``conversationHistoryIndex``): a request's question is
the message after that, and its reply the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_object,
    as_text,
    as_time,
    is_array,
    total,
)

NAMES = ("ui_messages.json", "claude_messages.json")
"""The file's name, and its name in old versions."""

_IGNORED = {
    "text/**": "the conversation in other words; what a request cost is told with its reply",
    "reasoning": "the thinking of a reply; where the history has it, it is told from there",
    "type": "whether an entry asks or says something, which its kind says as well",
    "ask": "the kind of a question to the user; errors and the last one are told",
    "ts": "when an entry was shown; the times of requests are told",
    "conversationHistoryIndex": "places an entry beside the history, which is done",
    "modelInfo/**": "the model once more, as each message of the history names it",
    "images/**": "images that the messages of the history hold",
    "files/**": "files that the messages of the history name",
    "partial": "whether an entry was still being written when it was stored",
    "lastCheckpointHash": "names a copy of the workspace that the log does not hold",
    "isCheckpointCheckedOut": "whether that copy was restored later",
    "commandCompleted": "whether a command shown was over; its result is in the history",
    "isOperationOutsideWorkspace": "a warning beside a tool's call in the chat window",
}
IGNORED_IN_THE_WINDOW = {
    f"{name}#/*/{key}": reason for name in NAMES for key, reason in _IGNORED.items()
}
"""What of the window is left out of the tables, and why."""

_ERRORS = frozenset(
    ("error", "error_retry", "diff_error", "clineignore_error", "command_permission_denied")
) | {"api_req_failed", "mistake_limit_reached"}
_AT_THE_END = 1 << 62  # where no message is named
_RESUMED = ("resume_task", "resume_completed_task")
_OUTCOMES = {
    "api_req_failed": "error",
    "mistake_limit_reached": "limit",
    "user_cancelled": "cancelled",
    "streaming_failed": "error",
    "retries_exhausted": "error",
}


class Request(NamedTuple):
    """A model call: the place of its reply in the history, columns of its step, what failed.

    ``deleted``: the first and the last message of those that were left out of it.
    """

    reply: int | None
    columns: dict[str, Any]
    cost: float | None
    error: str | None
    pos: str
    deleted: tuple[int, int] | None


class Note(NamedTuple):
    """Something that stands only here: an error, or reasoning."""

    kind: str
    text: str | None
    pos: str
    at: datetime | None


class Screen:
    """What the chat window showed, sorted by the message of the history that it belongs to."""

    def __init__(self) -> None:
        self.requests: dict[int, list[Request]] = {}
        self.unplaced: list[Request] = []
        self.errors: dict[int, list[Note]] = {}
        self.reasoning: dict[int, list[Note]] = {}
        self.costs: list[float] = []
        self.spent_elsewhere: Object = {}
        self.subagents: list[Any] = []
        self.outcome: str | None = None
        self.end_reason: str | None = None

    def columns_in_order(self, replies: int) -> Iterator[Request] | None:
        """Requests in order, where entries name no message and there is one for each reply."""
        if self.requests or len(self.unplaced) != replies:
            return None
        placed, self.unplaced = self.unplaced, []
        return iter(placed)


def screen_of(source: Source) -> Screen:
    """What stands beside a history; empty where there is nothing."""
    screen = Screen()
    file = next((found for name in NAMES if (found := source.beside(name)) is not None), None)
    if file is None:
        return screen
    entries = file.json()
    if not is_array(entries):
        raise UnreadableRecord(f"{file.filename} holds no list of messages")
    known = [as_object(entry) for entry in entries]
    deleted = _deleted_at(known)
    for number, entry in enumerate(known):
        _take(screen, entry, f"{file.filename}#/{number}", deleted[number])
    return screen


def _deleted_at(entries: list[Object]) -> list[tuple[int, int] | None]:
    """For each request what was left out of it: that is decided after its own entry is written."""
    found: list[tuple[int, int] | None] = [None] * len(entries)
    latest: tuple[int, int] | None = None
    for number in range(len(entries) - 1, -1, -1):
        own = _range(entries[number].get("conversationHistoryDeletedRange"))
        if entries[number].get("say") == "api_req_started":
            found[number], latest = latest or own, None
        elif entries[number]:
            latest = own
    return found


def _range(value: Any) -> tuple[int, int] | None:
    ends = [as_int(end) for end in as_array(value)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or not 0 <= ends[0] <= ends[1]:
        return None
    return ends[0], ends[1]


def _take(screen: Screen, entry: Object, pos: str, deleted: tuple[int, int] | None) -> None:
    kind = as_text(entry.get("ask")) or as_text(entry.get("say"))
    index, at = as_int(entry.get("conversationHistoryIndex")), as_time(entry.get("ts"))
    if kind is None or kind in _RESUMED:
        return
    screen.outcome, screen.end_reason = _OUTCOMES.get(kind), kind
    if kind == "api_req_started":
        _take_request(screen, entry, pos, index, deleted)
    elif kind in ("deleted_api_reqs", "subagent_usage"):
        _take_cost(screen, kind, _inside(entry))
    elif kind == "subagent":
        status = _inside(entry)
        if status.get("status") != "running":
            screen.subagents.extend(as_array(status.get("items")))
    elif kind in _ERRORS:
        note = Note(kind, as_text(entry.get("text")), f"{pos}/text", at)
        place = _AT_THE_END if index is None else max(index, -1)
        screen.errors.setdefault(place, []).append(note)
    elif kind == "reasoning" and index is not None:
        text = as_text(entry.get("text")) or as_text(entry.get("reasoning"))
        place = f"{pos}/text" if entry.get("text") else f"{pos}/reasoning"
        screen.reasoning.setdefault(index + 1, []).append(Note(kind, text, place, at))


def _take_request(
    screen: Screen, entry: Object, pos: str, index: int | None, deleted: tuple[int, int] | None
) -> None:
    info, model = _inside(entry), as_object(entry.get("modelInfo"))
    reason = as_text(info.get("cancelReason"))
    error = as_text(info.get("streamingFailedMessage")) or reason
    columns: dict[str, Any] = {
        "started_at": as_time(entry.get("ts")),
        "model": as_text(model.get("modelId")),
        "stop_reason": reason,
        "error": error,
        **_tokens(info),
    }
    known = {name: value for name, value in columns.items() if value is not None}
    cost = as_float(info.get("cost"))
    if cost is not None:
        screen.costs.append(cost)
    if reason:
        screen.outcome, screen.end_reason = _OUTCOMES.get(reason), reason
    reply = None if index is None else index + 2
    request = Request(reply, known, cost, error, pos, deleted)
    if reply is None:
        screen.unplaced.append(request)
    else:
        screen.requests.setdefault(reply, []).append(request)


def _take_cost(screen: Screen, kind: str, info: Object) -> None:
    if (cost := as_float(info.get("cost"))) is not None:
        screen.costs.append(cost)
    screen.spent_elsewhere.setdefault(kind, []).append(info)


def _tokens(info: Object) -> dict[str, int | None]:
    """Token columns; empty where all are 0, as before the first answer."""
    cached, output = as_int(info.get("cacheReads")), as_int(info.get("tokensOut"))
    given = total(as_int(info.get("tokensIn")), as_int(info.get("cacheWrites")), cached)
    if not given and not output:
        return {}
    return {"input_tokens": given, "output_tokens": output, "cached_tokens": cached}


def _inside(entry: Object) -> Object:
    """The object that an entry's text holds."""
    text = as_text(entry.get("text")) or ""
    try:
        return as_object(decode(text.encode("utf-8", "surrogatepass")))
    except UnreadableRecord:
        return {}
