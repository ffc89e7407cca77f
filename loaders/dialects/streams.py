"""Put a streamed reply together again: server-sent events into the response that they spell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import Object, as_array, as_int, as_object, as_text, is_array, is_object

_JOINED = (
    *("content", "reasoning_content", "reasoning", "refusal", "arguments"),
    *("text", "thinking", "summary", "data"),
)
_IN_CHOICE = ("index", "delta", "message", "logprobs")


class Streamed(NamedTuple):
    """The response that a stream spells, and what is wrong with it (None: nothing)."""

    response: Object
    doubt: str | None


def events_of(stream: str | list[Any]) -> Iterator[Object | None]:
    r"""The JSON objects that a stream's events carry; None for one that can't be read.

    Some servers, and some logs, write a stream as one list of them.

    >>> list(events_of('event: ping\ndata: {"type": "ping"}\n\ndata: [DONE]'))
    [{'type': 'ping'}]
    """
    if isinstance(stream, str):
        yield from _events_in(stream)
    else:
        yield from (event if is_object(event) else None for event in stream)


def _events_in(text: str) -> Iterator[Object | None]:
    pending: list[str] = []
    for line in (*text.split("\n"), ""):
        if line.startswith("data:"):
            pending.append(line[5:].strip())
        elif not line.strip() and pending:
            data, pending = "\n".join(pending), []
            if data != "[DONE]":
                yield _event(data)


def _event(data: str) -> Object | None:
    try:
        value = decode(data.encode("utf-8", "surrogatepass"))
    except UnreadableRecord:
        return None
    return value if is_object(value) else None


def doubt_of(response: Object, is_ended: bool, broken: int) -> str | None:
    """What is wrong with a stream: it does not end, or events in it are broken."""
    doubts: list[str] = []
    if not is_ended and "error" not in response:
        doubts.append("the stream ends before the reply does")
    if broken:
        doubts.append(f"events of the stream that can't be read: {broken}")
    return "; ".join(doubts) or None


# ---------------------------------------------------------------------- OpenAI


def openai_response(stream: str | list[Any]) -> Streamed:
    """A chat completion from its chunks."""
    chunks = list(events_of(stream))
    response: Object = {}
    choices: dict[int, _Choice] = {}
    for chunk in filter(None, chunks):
        for key, value in chunk.items():
            if key != "choices" and value is not None:
                response[key] = value
        for part in map(as_object, as_array(chunk.get("choices"))):
            index = as_int(part.get("index")) or 0
            choices.setdefault(index, _Choice()).add(part)
    response["choices"] = [choices[index].whole() for index in sorted(choices)]
    is_ended = any(choice.finish_reason for choice in choices.values())
    return Streamed(response, doubt_of(response, is_ended, chunks.count(None)))


class _Choice:
    """One choice of a chat completion as its deltas arrive; pieces are joined once, at the end."""

    def __init__(self) -> None:
        self.finish_reason: Any = None
        self._message = _Pieces()
        self._rest: Object = {}

    def add(self, part: Object) -> None:
        self.finish_reason = part.get("finish_reason") or self.finish_reason
        self._message.add(as_object(part.get("delta") or part.get("message")))
        self._rest.update({k: v for k, v in part.items() if k not in _IN_CHOICE and v is not None})

    def whole(self) -> Object:
        message = self._message.whole()
        message.setdefault("role", "assistant")
        return {**self._rest, "message": message, "finish_reason": self.finish_reason}


class _Pieces:
    """An object that arrives in pieces: its texts are joined, its lists grow, the rest is replaced."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, dict[Any, _Pieces]] = {}
        self._objects: dict[str, _Pieces] = {}
        self._rest: Object = {}

    def add(self, delta: Object) -> None:
        for key, value in delta.items():
            if value is None or value == "":
                continue
            if isinstance(value, str) and key in self._lists:  # a list that goes on as plain text
                self._grow(key, [{"type": "text", "text": value}])
            elif isinstance(value, str) and key in _JOINED:
                self._texts.setdefault(key, []).append(value)
            elif is_array(value):
                if key in self._texts:
                    self._grow(key, [{"type": "text", "text": "".join(self._texts.pop(key))}])
                self._grow(key, value)
            elif is_object(value):
                self._objects.setdefault(key, _Pieces()).add(value)
            else:
                self._rest[key] = value

    def _grow(self, key: str, items: list[Any]) -> None:
        """Parts are told apart by their number; those without one go on while the kind is the same."""
        grown = self._lists.setdefault(key, {})
        for item in items:
            item = as_object(item)
            place, kind = as_int(item.get("index")), as_text(item.get("type"))
            if place is not None:
                name = (place, None if key == "tool_calls" else kind)
            else:
                last = next(reversed(grown), None)
                goes_on = last is not None and not item.get("id") and kind in (None, last[1])
                name = last if goes_on else (len(grown), kind)
            grown.setdefault(name, _Pieces()).add(item)

    def whole(self) -> Object:
        value = dict(self._rest)
        value.update({key: "".join(pieces) for key, pieces in self._texts.items()})
        value.update({key: pieces.whole() for key, pieces in self._objects.items()})
        value.update(
            {key: [part.whole() for part in parts.values()] for key, parts in self._lists.items()}
        )
        return value


# ---------------------------------------------------------------------- Anthropic


def anthropic_response(stream: str | list[Any]) -> Streamed:
    """A message from its events."""
    events = list(events_of(stream))
    response: Object = {}
    blocks: dict[int, _Block] = {}
    is_ended = False
    for event in filter(None, events):
        kind = event.get("type")
        index = as_int(event.get("index")) or 0
        if kind == "message_start":
            response.update(as_object(event.get("message")))
        elif kind == "content_block_start":
            blocks[index] = _Block(as_object(event.get("content_block")))
        elif kind == "content_block_delta":
            blocks.setdefault(index, _Block({})).add(as_object(event.get("delta")))
        elif kind == "message_delta":
            _update_message(response, event)
        elif kind == "message_stop":
            is_ended = True
        elif kind == "error":
            response["error"] = event.get("error")
    response["content"] = [blocks[index].whole() for index in sorted(blocks)]
    return Streamed(response, doubt_of(response, is_ended, events.count(None)))


def _update_message(response: Object, event: Object) -> None:
    """The last event repeats the usage, this time final, and says why the reply ended."""
    response.update(as_object(event.get("delta")))
    final = {k: v for k, v in as_object(event.get("usage")).items() if v is not None}
    response["usage"] = {**as_object(response.get("usage")), **final}
    if is_object(event.get("context_management")):
        response["context_management"] = event["context_management"]


class _Block:
    """One content block as its deltas arrive."""

    def __init__(self, block: Object) -> None:
        self._block = block
        self._texts: dict[str, list[str]] = {}
        self._citations = as_array(block.get("citations"))

    def add(self, delta: Object) -> None:
        kind = as_text(delta.get("type")) or ""
        if kind == "citations_delta":
            self._citations.append(delta.get("citation"))
        field = {"input_json_delta": "partial_json", "compaction_delta": "content"}.get(
            kind, kind.removesuffix("_delta")
        )
        piece = delta.get(field)
        if isinstance(piece, str):
            self._texts.setdefault(field, []).append(piece)

    def whole(self) -> Object:
        block = dict(self._block)
        if self._citations:
            block["citations"] = self._citations
        for field, pieces in self._texts.items():
            joined = "".join(pieces)
            if field == "partial_json":
                block["input"] = _arguments(joined) if joined else block.get("input")
            else:
                block[field] = (as_text(block.get(field)) or "") + joined
        return block


def _arguments(joined: str) -> Any:
    try:
        return decode(joined.encode("utf-8", "surrogatepass"))
    except UnreadableRecord:
        return joined


# ---------------------------------------------------------------------- OpenAI Responses


def responses_response(stream: str | list[Any]) -> Streamed:
    """A response from its events.

    Finished items count as they came one by one: the last event repeats them with reasoning that is
    encrypted anew, or leaves them out.
    """
    events = list(events_of(stream))
    response: Object = {}
    items: dict[int, _Item] = {}
    is_ended = False
    for event in filter(None, events):
        kind = as_text(event.get("type")) or ""
        index = as_int(event.get("output_index"))
        if is_object(event.get("response")):
            response.update(event["response"])
            is_ended = kind in ("response.completed", "response.incomplete", "response.failed")
        elif kind == "error":
            details = ("code", "message", "param")
            response["error"] = event.get("error") or {key: event.get(key) for key in details}
        elif index is not None:
            items.setdefault(index, _Item()).add(kind, event)
    if items:
        response["output"] = [items[index].whole() for index in sorted(items)]
    return Streamed(response, doubt_of(response, is_ended, events.count(None)))


class _Item:
    """One item of a response as its events arrive; of one cut short, what its deltas spell."""

    _FIELDS: Final = {
        "response.output_text.delta": ("content", "content_index", "output_text"),
        "response.reasoning_text.delta": ("content", "content_index", "reasoning_text"),
        "response.reasoning_summary_text.delta": ("summary", "summary_index", "summary_text"),
        "response.function_call_arguments.delta": ("arguments", "", ""),
        "response.custom_tool_call_input.delta": ("input", "", ""),
    }

    def __init__(self) -> None:
        self._item: Object = {}
        self._is_done = False
        self._texts: dict[tuple[str, int, str], list[str]] = {}

    def add(self, kind: str, event: Object) -> None:
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._item, self._is_done = as_object(event.get("item")), kind.endswith("done")
        elif kind in self._FIELDS and isinstance(event.get("delta"), str):
            field, number, part = self._FIELDS[kind]
            place = (field, as_int(event.get(number)) or 0, part)
            self._texts.setdefault(place, []).append(event["delta"])

    def whole(self) -> Object:
        if self._is_done:
            return self._item
        item = dict(self._item)
        parts: dict[str, list[Object]] = {}
        for (field, _, part), pieces in sorted(self._texts.items()):
            if part:
                parts.setdefault(field, []).append({"type": part, "text": "".join(pieces)})
            else:
                item[field] = "".join(pieces)
        return {**item, **parts}
