"""What ATIF has no field for, where a writer keeps it in ``extra`` under the names of the schema.

``loaders.export`` writes it so. Of a step, ``thinking`` is a list of all its blocks in order (state,
signature, and either the text, or for a block of ``reasoning_content`` its length in ``chars``),
``messages`` one of its texts (``chars``), ``order`` the kinds of all that it emitted, in order. Other
keys are named like the columns. A key whose value can't be one of its column is no such key: it stays
with the rest, which nothing here knows, and is kept in the metadata of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any, NamedTuple

from loaders.dialects.openai_chat import text_and_media
from loaders.run import Run
from loaders.schema import EVIDENCE, HISTORY_EDITS, OUTCOMES, THINKING_EVENT_STATES
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

BETWEEN = "\n\n"
"""What stands between two blocks that share a field."""

_SHOWN = ("text", "tagged_in_text")
_SILENT = ("hidden", "redacted")
_EMITTED = ("thinking", "message", "tool_call")

Readers = dict[str, Callable[[Any], Any]]


def _seconds(value: Any) -> float | None:
    seconds = as_float(value)
    return seconds if seconds is not None and seconds >= 0 else None


def _names(value: Any) -> list[str] | None:
    names = [as_text(name) for name in as_array(value)]
    return [name for name in names if name is not None] if names and None not in names else None


def _count(value: Any) -> int | None:
    count = as_int(value)
    return count if count is not None and count >= 0 else None


_OF_EVENT: Readers = {
    "actor": as_text,
    "error_type": as_text,
    "exit_code": as_int,
    "truncated": as_bool,
    "duration_s": _seconds,
    "injected": as_text,
    "media": _names,
    "started_at": as_time,
}
_OF_STEP: Readers = {
    "agent": as_text,
    "started_at": as_time,
    "ended_at": as_time,
    "stop_reason": as_text,
    "error": as_text,
}
_OF_RUN: Readers = {
    "provider": as_text,
    "benchmark": as_text,
    "task_id": as_name,
    "trial": as_name,
    "arm": as_text,
    "started_at": as_time,
    "ended_at": as_time,
}


class Block(NamedTuple):
    """A part of a reply: its text, its place, and the columns of its event."""

    text: str | None
    pos: str
    columns: Object


def without(owner: object, told: Container[str]) -> Object:
    """The other keys of what should be an object."""
    return {key: value for key, value in as_object(owner).items() if key not in told}


class Rest:
    """What no column takes, by its place in the log; ``found`` is for the metadata of the run."""

    def __init__(self) -> None:
        self.found: Object = {}

    def add(self, pos: str, value: Object) -> None:
        """Keep what is known of these."""
        known = {key: item for key, item in value.items() if item not in (None, "", [], {})}
        if known:
            self.found.setdefault(pos, {}).update(known)


def told(extra: Object, readers: Readers) -> tuple[Object, Object]:
    """The columns that it has a value for, and what is left of it."""
    columns = {
        name: value
        for name, read in readers.items()
        if (value := read(extra.get(name))) is not None
    }
    return columns, {key: value for key, value in extra.items() if key not in columns}


def of_event(extra: Object, at: datetime | None, media: list[str] | None) -> tuple[Object, Object]:
    """Columns of an event; its time is the step's unless it has its own, which may be null."""
    columns, rest = told(extra, _OF_EVENT)
    if extra.get("started_at", "") is None:
        at = None
    columns["at"] = columns.pop("started_at", at)
    columns["media"] = media or columns.get("media")
    return columns, rest


# ---------------------------------------------------------------------- a model call


def begin_step(run: Run, extra: Object, pos: str, **columns: Any) -> Object:
    """Tell a model call with all that is known of it; returns what is left of ``extra``."""
    more, rest = told(extra, _OF_STEP)
    run.step(source_pos=pos, **columns, **more)
    if rest.get("thinking_state") in ("absent", "not_logged"):
        run.update_step(thinking=rest.pop("thinking_state"))
    _tell_what_was_sent(run, rest, pos)
    return rest


def _tell_what_was_sent(run: Run, rest: Object, pos: str) -> None:
    """How much earlier thinking was in the request, as far as the writer says how it knew."""
    if rest.get("history_edit") in HISTORY_EDITS:
        run.update_step(history_edit=rest.pop("history_edit"))
    if rest.get("evidence") not in EVIDENCE:
        return
    evidence = rest.pop("evidence")
    run.update_step(evidence=evidence)
    sent = _count(rest.get("thinking_sent"))
    if sent is None or evidence == "unknown":
        return
    if sent > len(run.thinking_seqs):
        run.problem(pos, "more thinking was sent than there was before: the number is left out")
        return
    run.update_step(thinking_sent=sent)
    del rest["thinking_sent"]


def thoughts(run: Run, step: Object, left: Object, pos: str, at: datetime | None) -> list[Block]:
    """The blocks of thinking, in order; takes from ``left`` what they say."""
    content = as_text(step.get("reasoning_content")) or ""
    blocks = _blocks(left.get("thinking"))
    whole = [Block(content, f"{pos}/reasoning_content", {"state": "text", "at": at})]
    if not blocks or not all(b.get("state") in THINKING_EVENT_STATES for b in blocks):
        return whole if content else []
    parts = _parted(content, [b if b["state"] in _SHOWN else {} for b in blocks])
    if parts is None:
        run.problem(f"{pos}/extra/thinking", "its blocks don't make up reasoning_content")
        hidden = [(i, b) for i, b in enumerate(blocks) if b["state"] not in _SHOWN]
        return whole[: bool(content)] + [_thought(b, None, pos, i, at) for i, b in hidden]
    del left["thinking"]
    rests = {
        f"thinking/{index}": rest
        for index, block in enumerate(blocks)
        if (rest := _rest_of_thought(block))
    }
    left.update(rests)
    return [
        _thought(b, part, pos, index, at)
        for index, (b, part) in enumerate(zip(blocks, parts, strict=True))
    ]


def _thought(block: Object, part: str | None, pos: str, index: int, at: datetime | None) -> Block:
    columns, _ = of_event(block, at, None)
    columns |= {"state": block["state"], "signature": as_text(block.get("signature"))}
    place = f"{pos}/extra/thinking/{index}"
    if block["state"] in _SILENT:
        return Block(None, place, columns)
    if part:
        return Block(part, f"{pos}/reasoning_content", columns)
    return Block(as_text(block.get("text", part)), place, columns)


def _rest_of_thought(block: Object) -> Object:
    known = {"state", "chars"}
    known |= {key for key in ("text", "signature") if as_text(block.get(key)) is not None}
    if block["state"] in _SILENT and block.get("text"):
        known.remove("text")
    _, rest = told(block, _OF_EVENT)
    return {k: v for k, v in rest.items() if k not in known and v is not None}


def texts(run: Run, step: Object, left: Object, pos: str, at: datetime | None) -> list[Block]:
    """The messages of a step; takes from ``left`` where one ends and the next begins."""
    text, media = text_and_media(step.get("message"))
    blocks = _blocks(left.get("messages"))
    if not blocks or not all(_count(b.get("chars", 0)) is not None for b in blocks):
        whole = Block(text, f"{pos}/message", {"at": at, "media": media})
        return [whole] if text or media else []
    parts = _parted(text or "", blocks)
    if parts is None:
        run.problem(f"{pos}/extra/messages", "its texts don't make up the message")
        return [Block(text, f"{pos}/message", {"at": at, "media": media})]
    del left["messages"]
    found: list[Block] = []
    for index, (block, part) in enumerate(zip(blocks, parts, strict=True)):
        columns, rest = of_event(block, at, media)
        rest.pop("chars", None)
        left.update({f"messages/{index}": rest} if rest else {})
        place = f"{pos}/message" if part else f"{pos}/extra/messages/{index}"
        found.append(Block(part, place, columns))
    return found


def _blocks(value: Any) -> list[Object]:
    """The list, if it is one of objects."""
    blocks = [block for block in as_array(value) if is_object(block)]
    return blocks if len(blocks) == len(as_array(value)) else []


def _parted(joined: str, blocks: list[Object]) -> list[str | None] | None:
    """The part of each block, as long as it says; None where they are not the whole text."""
    parts: list[str | None] = []
    start = 0
    for block in blocks:
        chars = as_int(block.get("chars"))
        if not chars:
            parts.append(None if chars is None else "")
            continue
        if chars < 0 or (start and not joined.startswith(BETWEEN, start)):
            return None
        start += len(BETWEEN) if start else 0
        parts.append(joined[start : start + chars])
        start += chars
    return parts if start == len(joined) else None


def order(left: Object, counts: Counter[str]) -> list[str]:
    """The kinds of what a step emitted; takes from ``left`` an order that fits what there is."""
    said = [as_text(kind) or "" for kind in as_array(left.get("order"))]
    if said and Counter(said) == +counts:
        del left["order"]
        return said
    return [kind for kind in _EMITTED for _ in range(counts[kind])]


# ---------------------------------------------------------------------- the run


def tell_run(run: Run, extra: Object) -> Object:
    """Columns of the run, params included; returns what is left."""
    columns, rest = told(extra, _OF_RUN)
    run.set(**columns)
    params = rest.get("params")
    if is_object(params):
        run.set(params={**as_object(run.columns["params"]), **rest.pop("params")})
    parent = as_text(rest.get("parent_id"))
    if parent:
        run.started_by(parent)
    return _tell_outcome(run, rest)


def _tell_outcome(run: Run, rest: Object) -> Object:
    readers: Readers = {
        "outcome": lambda value: value if value in OUTCOMES else None,
        "success": as_bool,
        "score": as_float,
        "end_reason": as_text,
        "scores": _scores,
    }
    columns, rest = told(rest, readers)
    outcome, success = columns.get("outcome"), columns.get("success")
    if outcome is not None and success is not None and (outcome == "success") != success:
        run.problem("/extra/outcome", "the outcome and the success that it tells disagree")
        rest["outcome"] = columns.pop("outcome")
    if columns:
        run.outcome(columns.pop("outcome", None), **columns)
    return rest


def _scores(value: Any) -> list[tuple[str, float | None, str | None]] | None:
    scores = _blocks(value)
    if not scores or not all(as_text(score.get("name")) for score in scores):
        return None
    return [(s["name"], as_float(s.get("value")), as_json(s.get("raw"))) for s in scores]


def with_metadata(facts: Object, rest: Object) -> Object:
    """The run's metadata: what the document says, and what its ``extra`` says was said before."""
    rest, kept = dict(rest), rest.get("metadata")
    facts = {key: value for key, value in facts.items() if value not in (None, {}, [])}
    lifted: Object = {}
    if is_object(kept):
        lifted = {key: value for key, value in kept.items() if key not in facts and key != "extra"}
        known = {**facts, **lifted}
        rest["metadata"] = {k: v for k, v in kept.items() if known.get(k) != v}
    rest = {key: value for key, value in rest.items() if value not in (None, {})}
    return {**facts, **lifted, **({"extra": rest} if rest else {})}


def rest_of_parts(content: Any, pos: str, rest: Rest) -> None:
    """What a part of a message has besides its type and its text, such as the file of an image."""
    for index, part in enumerate(content if is_array(content) else []):
        known = ("type", "text") if is_object(part) else ()
        rest.add(f"{pos}/{index}", {k: v for k, v in as_object(part).items() if k not in known})
