"""Amazon Bedrock's Converse API: content blocks, and the anatomy of a recorded call.

The API speaks one dialect for models of many makers. A block is an object with one key, which says
what it is. Thinking stands in ``reasoningContent``: its text, signed where the maker's API demands it,
or ``redactedContent``. Clients whose model refuses such blocks hand thinking back in think tags inside
a text, and some models write it there themselves.

Tokens read from a cache or written to it are counted apart from ``inputTokens``; tokens of thinking
are not told apart from other output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loaders.dialects.openai_chat import split_think_tags
from loaders.dialects.streams import Streamed, doubt_of, events_of
from loaders.dialects.wire import (
    HoldsNothing,
    Part,
    Reply,
    Turn,
    canonical,
    key_of,
    rest_of,
)
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_object,
    as_text,
    is_object,
    total,
)

_TAKEN = ("messages", "system", "model", "modelId", "toolConfig", "stream")
_FAILED = {"error": True, "success": False}

IGNORED = {
    "role=assistant /**/messages/*/content/*/text": "a reply that is repeated is told from its response",
    "/**/usage/totalTokens": "the sum of the tokens of input and output, which are kept",
    "/**/usage/cache*InputTokenCount": "an older name of a number that stands beside it",
    "/**/metrics/latencyMs": "how long the provider took, in logs that have no time of a beginning",
    "/**/trace/guardrail/**": "what a guardrail looked at; that it stepped in is the reason to stop",
    "/**/citationsContent/citations/**": "places in documents that a text refers to",
    "/**/ResponseMetadata/**": "headers of HTTP as the client library gives them",
}
"""What of a call the tables leave out, and why."""


# ---------------------------------------------------------------------- blocks


def write_block(run: Run, block: Any, pos: str, *, role: str, **more: Any) -> None:
    """Tell one content block of a message of ``role``; a reply's belongs to the call already begun."""
    block = as_object(block)
    if (text := _text_in(block)) is not None:
        _write_text(run, text, pos, role, **more)
    elif is_object(block.get("reasoningContent")):
        text, state, signature = _thought_in(block["reasoningContent"])
        run.thinking(text, pos, state=state, signature=signature, **more)
    elif is_object(use := block.get("toolUse")):
        call_id = as_text(use.get("toolUseId"))
        run.call(as_text(use.get("name")), use.get("input"), pos, call_id=call_id, **more)
    elif is_object(result := block.get("toolResult")):
        text, media = _result_text(result.get("content"))
        is_error = _FAILED.get(as_text(result.get("status")) or "")
        call_id = as_text(result.get("toolUseId"))
        run.result(text, pos, call_id=call_id, is_error=is_error, media=media, **more)
    elif (media := _media_in(block)) is not None:
        tell = run.message if role == "assistant" else run.user
        tell(_words_of(block), pos, media=[media], **more)
    elif block and "cachePoint" not in block:
        run.event("other", as_json(block), pos, **more)


def _write_text(run: Run, text: str, pos: str, role: str, **more: Any) -> None:
    if not text:
        return
    if role != "assistant":
        run.user(text, pos, **more)
        return
    for is_thinking, piece in split_think_tags(text):
        if is_thinking:
            run.thinking(piece, pos, state="tagged_in_text", **more)
        else:
            run.message(piece, pos, **more)


def _text_in(block: Object) -> str | None:
    """The text of a block of text, of one given to a guardrail, or of one with citations."""
    guarded = as_object(as_object(block.get("guardContent")).get("text"))
    cited = as_array(as_object(block.get("citationsContent")).get("content"))
    texts = [as_text(as_object(part).get("text")) for part in (block, guarded, *cited)]
    known = [text for text in texts if text is not None]
    return "".join(known) if known else None


def _thought_in(reasoning: Object) -> tuple[str | None, str, str | None]:
    """Text, state and signature of a block of thinking."""
    redacted = as_text(reasoning.get("redactedContent"))
    if redacted is not None:
        return None, "redacted", redacted
    shown = as_object(reasoning.get("reasoningText"))
    text = as_text(shown.get("text")) or None
    return text, "text" if text else "hidden", as_text(shown.get("signature")) or None


def _media_in(block: Object) -> str | None:
    """The kind and format of an image, document, video or sound."""
    guarded = as_object(block.get("guardContent"))
    for kind, body in (*guarded.items(), *block.items()):
        if is_object(body) and "format" in body:
            return f"{kind}/{as_text(body['format']) or 'unknown'}"
    return None


def _words_of(block: Object) -> str | None:
    """The text of a document that is given as text."""
    source = as_object(as_object(block.get("document")).get("source"))
    texts = [as_text(as_object(part).get("text")) for part in as_array(source.get("content"))]
    return as_text(source.get("text")) or "\n".join(filter(None, texts)) or None


def _result_text(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of a tool's result, values as JSON, and the types of its other parts."""
    texts: list[str] = []
    media: list[str] = []
    for part in map(as_object, as_array(content)):
        text = as_text(part.get("text"))
        found = as_object(part.get("searchResult"))
        if text is None and part.get("json") is not None:
            text = as_json(part["json"])
        if text is None and found:
            inner, _ = _result_text(found.get("content"))
            text = "\n".join(filter(None, map(as_text, (found.get("title"), found.get("source")))))
            text = "\n".join(filter(None, (text, inner)))
        words = _words_of(part) if text is None else text
        texts.extend([words] if words is not None else [])
        media.extend([kind] if (kind := _media_in(part)) else [])
    return "\n".join(texts) if texts else None, media or None


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step from a ``usage`` object.

    >>> usage_columns({"inputTokens": 3, "cacheReadInputTokens": 9, "outputTokens": 2})
    {'input_tokens': 12, 'output_tokens': 2, 'cached_tokens': 9}
    """
    usage = as_object(usage)
    cached, written = (
        as_int(usage.get(f"cache{way}InputTokens", usage.get(f"cache{way}InputTokenCount")))
        for way in ("Read", "Write")
    )
    return {
        "input_tokens": total(as_int(usage.get("inputTokens")), cached, written),
        "output_tokens": as_int(usage.get("outputTokens")),
        "cached_tokens": cached,
    }


def tool_definitions(config: Any) -> list[tuple[str | None, str | None, Any]]:
    """(name, description, parameters) of the tools in a ``toolConfig``."""
    definitions: list[tuple[str | None, str | None, Any]] = []
    for tool in map(as_object, as_array(as_object(config).get("tools"))):
        spec = as_object(tool.get("toolSpec")) or as_object(tool.get("systemTool"))
        if spec:
            schema = as_object(spec.get("inputSchema")).get("json")
            description = as_text(spec.get("description"))
            definitions.append((as_text(spec.get("name")), description, schema))
    return definitions


# ---------------------------------------------------------------------- calls


class BedrockConverse(HoldsNothing):
    """``Converse`` and ``ConverseStream``."""

    name = "bedrock_converse"
    shows_thinking = False  # it is up to each maker's model
    continues_replies = True

    def system(self, request: Object) -> list[Turn]:
        texts = [_text_in(as_object(block)) for block in as_array(request.get("system"))]
        text = "\n".join(filter(None, texts))
        return [Turn({"role": "system", "content": [{"text": text}]}, "/system")] if text else []

    def turns(self, request: Object) -> list[Turn]:
        turns: list[Turn] = []
        for index, message in enumerate(map(as_object, as_array(request.get("messages")))):
            pointer = f"/messages/{index}"
            if message.get("role") == "assistant":
                turns.append(Turn(message, pointer, is_reply=True))
                continue
            for number, block in enumerate(map(as_object, as_array(message.get("content")))):
                if "cachePoint" in block:
                    continue
                answered = as_text(as_object(block.get("toolResult")).get("toolUseId"))
                part = {**message, "content": [block]}
                answers = (answered,) if answered else ()
                turns.append(Turn(part, f"{pointer}/content/{number}", answers=answers))
        return turns

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        return tool_definitions(request.get("toolConfig"))

    def params(self, request: Object) -> Object:
        choice = rest_of(as_object(request.get("toolConfig")), ("tools",))
        return {**rest_of(request, _TAKEN), **choice}

    def streamed(self, stream: str | list[Any]) -> Streamed:
        return _response_of(stream)

    def replies(self, response: Object) -> list[Reply]:
        message = as_object(response.get("output")).get("message")
        if not is_object(message):
            return []
        columns = {
            "stop_reason": as_text(response.get("stopReason")),
            **usage_columns(response.get("usage")),
        }
        return [Reply(message, "/output/message", [Part(0, None, columns)])]

    def key(self, turn: Turn) -> str:
        texts: list[str] = []
        calls: list[Any] = []
        shown: list[Any] = []
        for block in _blocks_of(turn.message):
            if (text := _text_in(block)) is not None:
                pieces = split_think_tags(text) if turn.is_reply else [(False, text)]
                texts.extend(piece for is_thinking, piece in pieces if not is_thinking)
            elif is_object(use := block.get("toolUse")):
                calls.append((as_text(use.get("name")), canonical(use.get("input"))))
            elif is_object(result := block.get("toolResult")):
                text, media = _result_text(result.get("content"))
                texts.append(text or "")
                calls.append("result")
                shown.append(result.get("content") if media else None)
            elif "reasoningContent" not in block and "cachePoint" not in block:
                shown.append(block)
        role = as_text(turn.message.get("role")) or ""
        return key_of(self.name, role, "".join(texts), calls, shown)

    def call_ids(self, message: Object) -> list[str]:
        uses = (as_object(block.get("toolUse")) for block in _blocks_of(message))
        return [name for use in uses if (name := as_text(use.get("toolUseId")))]

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        thoughts: list[tuple[str | None, str | None]] = []
        for block in _blocks_of(message):
            if (text := _text_in(block)) is not None:
                pieces = split_think_tags(text)
                thoughts.extend((piece, None) for is_thinking, piece in pieces if is_thinking)
            elif is_object(block.get("reasoningContent")):
                text, _, signature = _thought_in(block["reasoningContent"])
                thoughts.append((text, signature))
        return thoughts

    def cut(self, turns: list[Turn]) -> int | None:
        return None

    def cleared_thinking(self, response: Object) -> int | None:
        return None

    def cleared_tools(self, response: Object) -> bool:
        return False

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        for block in _blocks_of(turn.message):
            if turn.message.get("role") == "system":
                run.system(as_text(block.get("text")), pos)
            else:
                write_block(run, block, pos, role="user")

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        for index, block in enumerate(_blocks_of(reply.message)):
            write_block(run, block, f"{pos}/content/{index}", role="assistant")


def _blocks_of(message: Object) -> list[Object]:
    return [as_object(block) for block in as_array(message.get("content"))]


# ---------------------------------------------------------------------- streams


def _response_of(stream: str | list[Any]) -> Streamed:
    """A response from its events, each an object whose only key says what it is."""
    events = list(events_of(stream))
    response: Object = {}
    role = "assistant"
    blocks: dict[int, _Block] = {}
    for kind, event in _named(events):
        index = as_int(event.get("contentBlockIndex")) or 0
        if kind == "messageStart":
            role = as_text(event.get("role")) or role
        elif kind == "contentBlockStart":
            blocks.setdefault(index, _Block()).begin(as_object(event.get("start")))
        elif kind == "contentBlockDelta":
            blocks.setdefault(index, _Block()).add(as_object(event.get("delta")))
        elif kind in ("messageStop", "metadata"):
            response.update(event)
        elif kind.endswith("Exception") or kind == "error":
            response["error"] = {"type": kind, "message": event.get("message")}
    if blocks or response:
        content = [blocks[index].whole() for index in sorted(blocks)]
        response["output"] = {"message": {"role": role, "content": content}}
    doubt = doubt_of(response, "stopReason" in response, events.count(None))
    return Streamed(response, doubt)


def _named(events: list[Object | None]) -> Iterator[tuple[str, Object]]:
    for event in filter(None, events):
        for kind, body in event.items():
            if is_object(body):
                yield kind, body


class _Block:
    """One content block as its deltas arrive; pieces are joined once, at the end."""

    def __init__(self) -> None:
        self._use: Object | None = None
        self._rest: Object = {}
        self._found: list[Any] = []
        self._texts: dict[str, list[str]] = {}

    def begin(self, start: Object) -> None:
        if is_object(start.get("toolUse")):
            self._use = start["toolUse"]
        else:
            self._rest.update(start)

    def add(self, delta: Object) -> None:
        thought = as_object(delta.get("reasoningContent"))
        use = as_object(delta.get("toolUse"))
        pieces = {
            "text": delta.get("text"),
            "input": use.get("input"),
            "thinking": thought.get("text"),
            "signature": thought.get("signature"),
            "redacted": thought.get("redactedContent"),
        }
        for name, piece in pieces.items():
            if isinstance(piece, str):
                self._texts.setdefault(name, []).append(piece)
        self._found.extend(as_array(delta.get("toolResult")))

    def whole(self) -> Object:
        joined = {name: "".join(pieces) for name, pieces in self._texts.items()}
        if "redacted" in joined:
            return {"reasoningContent": {"redactedContent": joined["redacted"]}}
        if "thinking" in joined or "signature" in joined:
            shown = {"text": joined.get("thinking"), "signature": joined.get("signature")}
            return {"reasoningContent": {"reasoningText": shown}}
        if self._use is not None or "input" in joined:
            return {"toolUse": {**(self._use or {}), "input": _arguments(joined.get("input"))}}
        if self._found:
            result = as_object(self._rest.get("toolResult"))
            return {"toolResult": {**result, "content": self._found}}
        return {"text": joined["text"]} if "text" in joined else self._rest


def _arguments(joined: str | None) -> Any:
    """Arguments from their pieces; no piece at all stands for none."""
    try:
        return decode((joined or "{}").encode("utf-8", "surrogatepass"))
    except UnreadableRecord:
        return joined
