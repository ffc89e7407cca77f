"""Parts of a message in a Cline history: its blocks, its thinking, and what it cost."""

from __future__ import annotations

from typing import Any

from loaders.dialects.responses import thought_of
from loaders.values import Object, as_array, as_int, as_object, as_text, is_array, total


def blocks_of(message: Object, pos: str) -> list[tuple[Any, str]]:
    """The blocks of a message and the place of each; a text alone is one block."""
    content = message.get("content")
    if not is_array(content):
        return [(content, f"{pos}/content")]
    return [(block, f"{pos}/content/{index}") for index, block in enumerate(content)]


def thinking_of(block: Object) -> tuple[str | None, str, str | None]:
    """Text, state and signature of a thinking block; OpenAI's holds the parts of its summary."""
    if block.get("type") != "thinking":
        return None, "hidden", None
    text, signature = as_text(block.get("thinking")), as_text(block.get("signature"))
    parts = [as_object(part) for part in as_array(block.get("summary"))]
    is_summary = any("summary" in (as_text(part.get("type")) or "") for part in parts)
    if not text:
        text = thought_of({"summary": parts})[0]
    return text or None, ("summary" if is_summary else "text") if text else "hidden", signature


def metrics_of(metrics: Any) -> dict[str, int | None]:
    """Token columns out of what a message itself says; a task's leave the cache out, a session's not."""
    metrics = as_object(metrics)
    tokens = as_object(metrics.get("tokens"))
    if tokens:
        given = total(as_int(tokens.get("prompt")), as_int(tokens.get("cached")))
        columns = {"input_tokens": given, "output_tokens": as_int(tokens.get("completion"))}
    else:
        columns = {
            "input_tokens": as_int(metrics.get("inputTokens")),
            "output_tokens": as_int(metrics.get("outputTokens")),
            "cached_tokens": as_int(metrics.get("cacheReadTokens")),
        }
    return columns if any(columns.values()) else {}


def squeezed(text: str | None) -> str:
    """A text without its spaces: what is told twice differs in them."""
    return "".join((text or "").split())
