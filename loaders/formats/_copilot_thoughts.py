"""Thinking of Copilot's replies: inside the message, in an event of its own, or in both."""

from __future__ import annotations

from datetime import datetime

from loaders.run import Run
from loaders.values import Object, as_array, as_object, as_text

_OPENAI = ("gpt", "o1", "o3", "o4", "codex")
_SIGNATURES = ("reasoningOpaque", "encryptedContent")


class Thoughts:
    """Tells the thinking of one agent's replies, each block once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[tuple[str, str, datetime | None]] = []
        self._told: str | None = None

    def take(self, data: Object, pos: str, at: datetime | None) -> None:
        """Reasoning in an event of its own; the message before it may have told it."""
        text = as_text(data.get("content"))
        if text and text != self._told:
            self._waiting.append((text, f"{pos}/content", at))

    def flush(self, model: str | None) -> None:
        """Reasoning that no message followed belongs to the call before."""
        waiting, self._waiting = self._waiting, []
        if waiting and self._run.steps:
            model = self._run.steps[-1].model or model
        for text, place, at in waiting:
            self._run.thinking(text, place, state=_state(model), at=at)

    def tell(self, data: Object, model: str | None, pos: str, at: datetime | None) -> None:
        """The thinking of a message whose step has begun."""
        text = as_text(data.get("reasoningText"))
        signed = next((key for key in _SIGNATURES if as_text(data.get(key))), None)
        signature = as_text(data.get(signed)) if signed else None
        state = "summary" if signed == "encryptedContent" else _state(model)
        waiting, self._waiting = self._waiting, []
        for said, place, when in waiting:
            if said != text:
                self._run.thinking(said, place, state=state, signature=signature, at=when)
                signature = None
        if text:
            place = f"{pos}/reasoningText"
            self._run.thinking(text, place, state=state, signature=signature, at=at)
        elif signature:
            self._run.thinking(None, f"{pos}/{signed}", state="hidden", signature=signature, at=at)
        elif not waiting:
            self._tell_blocks(as_object(data.get("reasoningBlocks")), state, pos, at)
        self._told = text

    def _tell_blocks(self, given: Object, state: str, pos: str, at: datetime | None) -> None:
        """Thinking in the provider's own blocks, where it stands nowhere else."""
        for index, block in enumerate(map(as_object, as_array(given.get("blocks")))):
            text = as_text(block.get("thinking")) or as_text(block.get("text"))
            sign = as_text(block.get("signature")) or as_text(block.get("data"))
            shown = state if text else "redacted" if "data" in block else "hidden"
            place = f"{pos}/reasoningBlocks/blocks/{index}"
            self._run.thinking(text or None, place, state=shown, signature=sign, at=at)


def _state(model: str | None) -> str:
    return "summary" if (model or "").startswith(_OPENAI) else "text"
