"""Anatomy of a recorded call of the Gemini API, at Google's own address or a cloud's.

A request stands as it was sent, or as the arguments of a client library, which put everything but the
contents into ``config``. Each part of a user's content is a turn, each content of the model's a reply.
"""

from __future__ import annotations

from typing import Any

from loaders.dialects import gemini
from loaders.dialects.gemini import get, name_in
from loaders.dialects.streams import Streamed, doubt_of, events_of
from loaders.dialects.wire import HoldsNothing, Part, Reply, Turn, key_of, rest_of
from loaders.run import Run
from loaders.values import Object, as_array, as_int, as_object, as_text, is_array, is_object

_TAKEN = (
    *("contents", "systemInstruction", "system_instruction", "tools", "config"),
    *("model", "stream"),
)
_GOOD_ENDS = ("STOP", "MAX_TOKENS")

IGNORED = {
    "/**/contents/*/role": "the model's or the user's, and whatever else is there counts as the user's",
    "/**/systemInstruction/role": "the service reads no role here",
    "/**/system_instruction/role": "the service reads no role here",
    "/**/candidates/*/content/role": "always the model's",
    "/**/candidates/*/index": "the order of the candidates tells it",
    "/**/responseId": "the provider's number of the response, which nothing refers to",
    "/**/response_id": "the provider's number of the response, which nothing refers to",
    "/**/finishMessage": "kept as the error of the call unless the reply ended well",
    "/**/finish_message": "kept as the error of the call unless the reply ended well",
    "/**/usageMetadata/totalTokenCount": "the sum of the counts that are kept",
    "/**/usage_metadata/total_token_count": "the sum of the counts that are kept",
    "/**/usageMetadata/*Details/**": "the kept counts once more, by kind of medium",
    "/**/usage_metadata/*_details/**": "the kept counts once more, by kind of medium",
    "/**/usageMetadata/trafficType": "how the call is paid for",
    "/**/usage_metadata/traffic_type": "how the call is paid for",
    "/**/safetyRatings/**": "how harmless the service finds a text; a refusal is the reason to stop",
    "/**/safety_ratings/**": "how harmless the service finds a text; a refusal is the reason to stop",
    "/**/citationMetadata/**": "where a text may have been learnt from; the text is kept",
    "/**/citation_metadata/**": "where a text may have been learnt from; the text is kept",
    "/**/searchEntryPoint/**": "a page that shows the queries, which are kept",
    "/**/groundingSupports/**": "which words of the reply go back to which source",
    "/**/avgLogprobs": "a mean probability of the tokens of the reply, whose text is kept",
    "/**/avg_logprobs": "a mean probability of the tokens of the reply, whose text is kept",
}
"""What of a call the tables leave out, and why."""


class GeminiAPI(HoldsNothing):
    """``generateContent`` and its streams."""

    name = "gemini_api"
    shows_thinking = False  # summaries come on demand, signatures from some models
    continues_replies = False

    def system(self, request: Object) -> list[Turn]:
        pointer, instruction = _setting(request, "systemInstruction")
        text = "\n".join(gemini.text_of(_parts_of(instruction)))
        return [Turn({"role": "system", "content": text}, pointer)] if text else []

    def turns(self, request: Object) -> list[Turn]:
        contents = request.get("contents")
        if not is_array(contents):
            return _turns_of(contents, "/contents") if contents else []
        return [
            turn
            for index, content in enumerate(contents)
            for turn in _turns_of(content, f"/contents/{index}")
        ]

    def tools(self, request: Object) -> list[tuple[str | None, str | None, Any]]:
        return gemini.tool_definitions(_setting(request, "tools")[1])

    def params(self, request: Object) -> Object:
        return {
            **rest_of(as_object(request.get("config")), _TAKEN),
            **rest_of(request, _TAKEN),
        }

    def streamed(self, stream: str | list[Any]) -> Streamed:
        return _response_of(stream)

    def replies(self, response: Object) -> list[Reply]:
        columns: dict[str, Any] = {
            "model": as_text(get(response, "modelVersion")),
            **gemini.usage_columns(get(response, "usageMetadata")),
        }
        replies: list[Reply] = []
        for index, candidate in enumerate(map(as_object, as_array(response.get("candidates")))):
            end, words = (as_text(get(candidate, key)) for key in ("finishReason", "finishMessage"))
            own = {"stop_reason": end, "error": None if end in _GOOD_ENDS else words}
            content = candidate.get("content")
            pointer = f"/candidates/{index}" + ("/content" if is_object(content) else "")
            message = _message("assistant", _listed_parts(content))
            message["grounding"] = get(candidate, "groundingMetadata")
            replies.append(Reply(message, pointer, [Part(0, None, {**columns, **own})]))
            columns = {"model": columns["model"]}
        refused = as_text(get(as_object(get(response, "promptFeedback")), "blockReason"))
        if refused and not replies:
            part = Part(0, None, {**columns, "stop_reason": refused})
            replies.append(Reply(_message("assistant", []), "", [part]))
        return replies

    def key(self, turn: Turn) -> str:
        parts = _parts_of(turn.message)
        content = [held for part in parts if (held := gemini.content_of(part))]
        role = as_text(turn.message.get("role")) or ""
        return key_of(self.name, role, "".join(gemini.text_of(parts)), content, None)

    def call_ids(self, message: Object) -> list[str]:
        return gemini.call_ids(_parts_of(message))

    def thoughts(self, message: Object) -> list[tuple[str | None, str | None]]:
        return [
            (thought.text, thought.signature and gemini.canonical(thought.signature))
            for thought in gemini.thoughts_of(_parts_of(message))
        ]

    def cut(self, turns: list[Turn]) -> int | None:
        return None

    def cleared_thinking(self, response: Object) -> int | None:
        return None

    def cleared_tools(self, response: Object) -> bool:
        return False

    def write_turn(self, run: Run, turn: Turn, pos: str) -> None:
        if turn.message.get("role") == "system":
            run.system(as_text(turn.message.get("content")), pos)
            return
        for part in _parts_of(turn.message):
            gemini.write_part(run, part, pos, is_reply=False)

    def write_reply(self, run: Run, reply: Reply, part: Part, pos: str) -> None:
        searches = as_object(reply.message.get("grounding"))
        gemini.write_searches(run, searches, f"{pos.removesuffix('/content')}/groundingMetadata")
        gemini.write_reply(run, _parts_of(reply.message), f"{pos}/parts")


def _setting(request: Object, key: str) -> tuple[str, Any]:
    """A setting of a request, and where in it that stands."""
    config = as_object(request.get("config"))
    if get(request, key) is None and get(config, key) is not None:
        return f"/config/{name_in(config, key)}", get(config, key)
    return f"/{name_in(request, key)}", get(request, key)


def _listed_parts(content: Any) -> list[Object]:
    """The parts of a content that is written in full."""
    return _parts_of(as_array(as_object(content).get("parts")))


def _parts_of(content: Any) -> list[Object]:
    """The parts of a content; libraries take a text, a part, or a list of them in its place."""
    if is_object(content):
        if "parts" not in content:
            return [content] if content.keys() - {"role"} else []
        content = content["parts"]
    given = content if is_array(content) else [content]
    return [{"text": part} if isinstance(part, str) else as_object(part) for part in given]


def _message(role: str, parts: list[Object]) -> Object:
    """A content as a message, whose ``content`` is what it says in words."""
    words = [{"type": "text", "text": text} for text in gemini.text_of(parts)]
    return {"role": role, "content": words, "parts": parts}


def _turns_of(content: Any, pointer: str) -> list[Turn]:
    if as_object(content).get("role") == "model":
        return [Turn(_message("assistant", _listed_parts(content)), pointer, is_reply=True)]
    parts = _parts_of(content)
    has_places = is_array(as_object(content).get("parts"))
    return [
        Turn(
            _message("user", [part]),
            f"{pointer}/parts/{index}" if has_places else pointer,
            answers=gemini.answers_of(part),
        )
        for index, part in enumerate(parts)
    ]


# ---------------------------------------------------------------------- streams


def _response_of(stream: str | list[Any]) -> Streamed:
    """A response from its chunks, each a response with the next parts of it."""
    chunks = list(events_of(stream))
    response: Object = {}
    usage: Object = {}
    candidates: dict[int, _Candidate] = {}
    for chunk in filter(None, chunks):
        usage.update(as_object(get(chunk, "usageMetadata")))
        response.update({key: value for key, value in chunk.items() if value is not None})
        for part in map(as_object, as_array(chunk.get("candidates"))):
            candidates.setdefault(as_int(part.get("index")) or 0, _Candidate()).add(part)
    if candidates:
        response["candidates"] = [candidates[index].whole() for index in sorted(candidates)]
    if usage:
        response[name_in(response, "usageMetadata")] = usage
    is_ended = any(get(one.rest, "finishReason") for one in candidates.values())
    is_ended = is_ended or get(response, "promptFeedback") is not None
    return Streamed(response, doubt_of(response, is_ended, chunks.count(None)))


class _Candidate:
    """One candidate as its parts arrive; pieces of one text are joined at the end."""

    def __init__(self) -> None:
        self.rest: Object = {}
        self._parts: list[tuple[Object, list[str]]] = []

    def add(self, candidate: Object) -> None:
        self.rest.update({key: value for key, value in candidate.items() if value is not None})
        for part in _parts_of(as_object(candidate.get("content"))):
            text = _bare_text(part)
            last = self._parts[-1][0] if self._parts else {}
            goes_on = _bare_text(last) is not None and not get(last, "thoughtSignature")
            if text is None or not goes_on or last.get("thought") != part.get("thought"):
                self._parts.append((dict(part), [text or ""]))
            else:
                self._parts[-1][0].update(part)
                self._parts[-1][1].append(text)

    def whole(self) -> Object:
        parts = [
            part if _bare_text(part) is None else {**part, "text": "".join(texts)}
            for part, texts in self._parts
        ]
        return {**self.rest, "content": {"role": "model", "parts": parts}}


def _bare_text(part: Object) -> str | None:
    """The text of a part that has nothing else, but may be a thought or signed."""
    known = {"text", "thought", "thoughtSignature", "thought_signature"}
    others = (value for key, value in part.items() if key not in known)
    return None if any(value is not None for value in others) else as_text(part.get("text"))
