"""Parts of Gemini's contents: text, thoughts and their signatures, function calls and responses.

Keys are in camel case on the wire and in snake case where a client library writes them down.

Gemini shows a summary of its thinking (parts with ``thought``) or nothing; the thinking itself is in
an encrypted ``thoughtSignature``, which stands on the part that comes after the thinking: a function
call, a text, or an empty part at the end of a stream. So a signature belongs to the thoughts before
it that have none, and where there are none it is all that is shown of a block of thinking: hidden.
Of parallel calls only the first is signed: the others came out of the same thinking.

What a client hands back with a signature is the thinking itself, whether or not its summary comes
along; so either of them in a request shows that the block was sent. Clients that have no signature
(the reply came from another model) put fixed words in its place; those are no thinking.

Signatures are base64 in either alphabet: replies come in one and are sent back in the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

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

_UPPER = re.compile(r"([A-Z])")
_STAND_INS: Final = frozenset(
    (
        "context_engineering_is_the_way_to_go",
        "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
        "skip_thought_signature_validator",
        "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I",
    )
)
"""Words that the API takes in place of a signature, as they are and in base64."""
_FRAMES = ("result", "output", "return_value", "error")
_CALLS = ("functionCall", "toolCall", "executableCode")
_RESULTS = ("functionResponse", "toolResponse", "codeExecutionResult")
_MEDIA = ("inlineData", "fileData")
_EMPTY = frozenset(("text", "thought", "thoughtSignature", "thought_signature"))
_DECLARED_IN = ("functionDeclarations", "function_declarations")
_CODE: Final = "code_execution"


class Thought(NamedTuple):
    """A block of thinking in a reply, and the number of the part at which it stands."""

    text: str | None
    state: str
    signature: str | None
    place: int


def get(value: Object, key: str) -> Any:
    """The value of a key in camel case, or else of the same key in snake case.

    >>> get({"function_call": 1}, "functionCall")
    1
    """
    found = value.get(key)
    return value.get(_snake(key)) if found is None else found


@cache
def _snake(key: str) -> str:
    return _UPPER.sub(r"_\1", key).lower()


def name_in(value: Object, key: str) -> str:
    """The name under which ``get`` finds a key."""
    return key if value.get(key) is not None else _snake(key)


# ---------------------------------------------------------------------- thoughts


def canonical(signature: str) -> str:
    """A signature in one of the two alphabets of base64.

    >>> canonical("ab-_=="), canonical("ab+/")
    ('ab+/', 'ab+/')
    """
    return signature.replace("-", "+").replace("_", "/").rstrip("=")


def signature_of(part: Object) -> str | None:
    """The signature on a part; None for words that only stand in for one."""
    signature = as_text(get(part, "thoughtSignature"))
    if signature is None:
        signature = as_text(get(as_object(get(part, "functionCall")), "thoughtSignature"))
    return None if not signature or is_stand_in(signature) else signature


def is_stand_in(signature: str) -> bool:
    """Whether a signature is one of the fixed words that clients send where they have none."""
    return signature.rstrip("=") in _STAND_INS


def is_thought(part: Object) -> bool:
    """Whether a part shows thinking, and nothing else."""
    return part.get("thought") is True and not any(get(part, key) for key in (*_CALLS, *_RESULTS))


def thoughts_of(parts: list[Object]) -> list[Thought]:
    """The blocks of thinking in the parts of one reply, in order."""
    thoughts: list[Thought] = []
    unsigned: list[int] = []
    for index, part in enumerate(parts):
        signature, text = signature_of(part), as_text(part.get("text")) or None
        if is_thought(part) and (text or not (signature and unsigned)):
            unsigned.append(len(thoughts))
            state = "summary" if text else "hidden"
            thoughts.append(Thought(text, state, None, index))
        elif signature and not unsigned:
            unsigned.append(len(thoughts))
            thoughts.append(Thought(None, "hidden", None, index))
        if signature:
            for number in unsigned:
                thoughts[number] = thoughts[number]._replace(signature=signature)
            unsigned = []
    return thoughts


# ---------------------------------------------------------------------- parts


def write_reply(run: Run, parts: list[Object], pos: str, **more: Any) -> None:
    """Tell the parts of a reply, which stand at ``pos``, as part of the call already begun."""
    thoughts = {thought.place: thought for thought in thoughts_of(parts)}
    for index, part in enumerate(parts):
        if (thought := thoughts.get(index)) is not None:
            run.thinking(
                thought.text,
                f"{pos}/{index}",
                state=thought.state,
                signature=thought.signature,
                **more,
            )
        if not is_thought(part):
            write_part(run, part, f"{pos}/{index}", is_reply=True, **more)


def write_searches(run: Run, grounding: Object, pos: str) -> None:
    """Tell the searches behind a reply, which the provider ran: what for, and what was found."""
    queries = as_array(get(grounding, "webSearchQueries"))
    if not queries:
        return
    seq = run.call("google_search", {"queries": queries}, pos)
    chunks = map(as_object, as_array(get(grounding, "groundingChunks")))
    found = [as_object(chunk.get("web")) for chunk in chunks]
    lines = [as_text(one.get(key)) for one in found for key in ("title", "uri")]
    if any(lines):
        run.result("\n".join(filter(None, lines)), pos, answers=seq)


def write_part(run: Run, part: Object, pos: str, *, is_reply: bool, **more: Any) -> None:
    """Tell one part that is no thought."""
    text = as_text(part.get("text"))
    media = media_of(part)
    if (call := _first(part, _CALLS)) is not None:
        kind, body = call
        run.call(_tool_of(kind, body), _arguments_of(kind, body), pos, call_id=_id(body), **more)
    elif (result := _first(part, _RESULTS)) is not None:
        kind, body = result
        flags = _flags(kind, body)
        run.result(
            _output_of(kind, body),
            pos,
            call_id=_id(body),
            tool=_tool_of(kind, body),
            by_order=True,  # calls come without ids, which clients then make up
            media=list(_media_in(body)) or None,
            **flags,
            **more,
        )
    elif media or text:
        tell = run.message if is_reply else run.user
        tell(text, pos, media=media, **more)
    else:
        rest = {key: value for key, value in part.items() if value is not None}
        if rest and not _EMPTY.intersection(rest):
            run.event("other", as_json(rest), pos, **more)


def text_of(parts: list[Object]) -> list[str]:
    """The texts of parts, thoughts left out."""
    texts = (as_text(part.get("text")) for part in parts if not is_thought(part))
    return [text for text in texts if text]


def content_of(part: Object) -> list[Any]:
    """What a part holds beside text: names and arguments of calls, outputs, media; but no ids."""
    if (call := _first(part, _CALLS)) is not None:
        return ["call", _tool_of(*call), _arguments_of(*call)]
    if (result := _first(part, _RESULTS)) is not None:
        return ["result", _tool_of(*result), _output_of(*result)]
    return [get(part, key) for key in _MEDIA if get(part, key)]


def call_ids(parts: list[Object]) -> list[str]:
    """Ids of the calls among the parts of a reply."""
    bodies = (call[1] for part in parts if (call := _first(part, _CALLS)) is not None)
    return [name for body in bodies if (name := _id(body))]


def answers_of(part: Object) -> tuple[str, ...]:
    """Ids of the calls that a part has results of."""
    result = _first(part, _RESULTS)
    return tuple(filter(None, [_id(result[1])])) if result else ()


def media_of(part: Object) -> list[str] | None:
    """Types of what a part holds that is no text."""
    found = [as_object(get(part, key)) for key in _MEDIA if get(part, key)]
    return [as_text(get(one, "mimeType")) or "unknown" for one in found] or None


def _media_in(body: Object) -> Iterator[str]:
    """Types of the files that come with a function's response."""
    for part in map(as_object, as_array(body.get("parts"))):
        yield from media_of(part) or ()


def _first(part: Object, keys: tuple[str, ...]) -> tuple[str, Object] | None:
    return next(((key, body) for key in keys if is_object(body := get(part, key))), None)


def _id(body: Object) -> str | None:
    return as_text(body.get("id")) or None


def _tool_of(kind: str, body: Object) -> str | None:
    if kind in ("executableCode", "codeExecutionResult"):
        return _CODE
    return as_text(body.get("name")) or as_text(get(body, "toolType"))


def _arguments_of(kind: str, body: Object) -> Any:
    return body if kind == "executableCode" else body.get("args")


def _output_of(kind: str, body: Object) -> str | None:
    """What a tool answered; the frame that libraries put around one value is left out."""
    if kind == "codeExecutionResult":
        return as_text(body.get("output"))
    response = body.get("response")
    if is_object(response) and len(response) == 1 and (key := next(iter(response))) in _FRAMES:
        return as_json(response[key])
    return as_json(response)


def _flags(kind: str, body: Object) -> dict[str, Any]:
    """What a result says of its success: an outcome of code, or details of an error in its place."""
    if kind == "codeExecutionResult":
        outcome = as_text(body.get("outcome"))
        return {"is_error": None if outcome is None else outcome != "OUTCOME_OK"}
    is_error = as_object(body.get("response")).keys() == {"error"}
    return {"is_error": True if is_error else None}


# ---------------------------------------------------------------------- beside the parts


def usage_columns(usage: Any) -> dict[str, int | None]:
    """Token columns of a step from ``usageMetadata``.

    Its prompt includes cached tokens but not what tools at the provider added; its candidates leave
    out thoughts.

    >>> usage_columns({"candidatesTokenCount": 3, "thoughtsTokenCount": 4})["output_tokens"]
    7
    """
    usage = as_object(usage)
    thought = as_int(get(usage, "thoughtsTokenCount"))
    return {
        "input_tokens": total(
            as_int(get(usage, "promptTokenCount")), as_int(get(usage, "toolUsePromptTokenCount"))
        ),
        "output_tokens": total(as_int(get(usage, "candidatesTokenCount")), thought),
        "reasoning_tokens": thought,
        "cached_tokens": as_int(get(usage, "cachedContentTokenCount")),
    }


def tool_definitions(tools: Any) -> list[tuple[str | None, str | None, Any]]:
    """(name, description, parameters) of tools on offer; of built-in ones their settings."""
    definitions: list[tuple[str | None, str | None, Any]] = []
    for tool in map(as_object, as_array(tools)):
        for declared in map(as_object, as_array(get(tool, "functionDeclarations"))):
            schema = get(declared, "parametersJsonSchema")
            if schema is None:
                schema = declared.get("parameters")
            name, description = as_text(declared.get("name")), as_text(declared.get("description"))
            definitions.append((name, description, schema))
        for name, settings in tool.items():
            if settings is not None and name not in _DECLARED_IN:
                definitions.append((name, None, settings))
    return definitions
