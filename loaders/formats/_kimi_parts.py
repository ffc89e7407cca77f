"""The parts of messages that Kimi Code and Kimi CLI share: text, thinking, media."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.run import Run
from loaders.values import Object, as_json, as_object, as_text, is_array


def text_of(content: Any) -> str | None:
    """The text of a content, which may be text alone or parts."""
    if not is_array(content):
        return content if isinstance(content, str) else as_json(content)
    texts = [as_text(as_object(part).get("text")) for part in content]
    known = [text for text in texts if text is not None]
    return "\n".join(known) if known else None


def part_types(content: Any) -> list[str] | None:
    """The types of parts that are neither text nor thinking."""
    if not is_array(content):
        return None
    types = [as_text(as_object(part).get("type")) or "unknown" for part in content]
    return [kind for kind in types if kind not in ("text", "think")] or None


def write_part(run: Run, part: Object, pos: str, at: datetime | None) -> None:
    """Tell one part of a reply."""
    kind, text = as_text(part.get("type")), as_text(part.get("text"))
    if kind == "think":
        thought, signature = as_text(part.get("think")), as_text(part.get("encrypted"))
        if thought or signature:
            state = "text" if thought else "hidden"
            run.thinking(thought or None, pos, state=state, signature=signature, at=at)
        else:
            run.event("other", None, pos, actor="empty thinking", at=at)
    elif kind == "text":
        run.message(text, f"{pos}/text" if text is not None else pos, at=at)
    else:
        run.message(text, pos, media=[kind or "unknown"], at=at)
