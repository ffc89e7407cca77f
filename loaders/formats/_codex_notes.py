"""What a Codex rollout notes beside the conversation; it becomes the metadata of the run."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from loaders.values import Object, as_object, as_text

_TOLD_OF_HEAD = (
    *("id", "timestamp", "cwd", "cli_version", "model_provider", "base_instructions"),
    *("instructions", "dynamic_tools", "git"),
)
_TOLD_OF_GIT = ("commit_hash", "branch")
_TOLD_OF_TURN_END = ("type", "turn_id")
_TOLD_OF_ERROR = ("type", "message")


class Notes:
    """Gathers notes line by line."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._settings: Object = {}
        self._has_head = False

    def note_head(self, head: Object) -> bool:
        """Note the head of the session; False for a later one, whose session was copied."""
        git, base = as_object(head.get("git")), as_object(head.get("base_instructions"))
        facts = _rest(head, _TOLD_OF_HEAD) | {
            "git_branch": as_text(git.get("branch")),
            "git": _rest(git, _TOLD_OF_GIT) or None,
            "base_instructions": _rest(base, ("text",)) or None,
        }
        if self._has_head:
            new = {key: value for key, value in facts.items() if self.facts.get(key) != value}
            self.add("copied_heads", new)
            return False
        self._has_head, self.facts = True, facts | self.facts
        return True

    def note_settings(self, settings: Object) -> None:
        """Note with what settings a turn begins: those that differ from the turn before."""
        old, now = self._settings, _rest(settings, ("turn_id",))
        new = {key: value for key, value in now.items() if old.get(key, _Missing) != value}
        self._settings = old | new
        if new:
            self.add("settings_of_turns", new)

    def note_turn_end(self, event: Object) -> None:
        """Note how long a turn took, and why it ended."""
        self.add("turn_ends", _rest(event, _TOLD_OF_TURN_END))

    def note_compaction(self, record: Object) -> None:
        """Note which window of the context a compaction ended, and which it began."""
        self.add("compactions", _rest(record, ("message", "replacement_history")))

    def note_error(self, event: Object) -> None:
        """Note the details of an error, beyond its message."""
        error = as_object(event.get("error"))
        details = _rest(event, (*_TOLD_OF_ERROR, "error")) | _rest(error, _TOLD_OF_ERROR)
        self.add("errors", details)

    def note_counts(self, event: Object) -> None:
        """Note the size of the context, the state of the account, and counts of no single call."""
        info = as_object(event.get("info"))
        for key, value in (
            ("model_context_window", info.get("model_context_window")),
            ("rate_limits", event.get("rate_limits")),
        ):
            if value is not None:
                self.facts[key] = value
        if info and "last_token_usage" not in info:
            self.add("token_counts", info)

    def note_message(self, message: Object, seq: int | None) -> None:
        """Note of what phase a message is, and what of its memory it cites."""
        phase, cited = as_text(message.get("phase")), message.get("memory_citation")
        if phase and seq is not None:
            self.facts.setdefault("phases", {}).setdefault(phase, []).append(seq)
        if cited and cited not in self.facts.get("memory_citations", ())[-1:]:
            self.facts.setdefault("memory_citations", []).append(cited)

    def add(self, name: str, note: Object) -> None:
        """Add to the notes of a name, if there is something to add."""
        if note:
            self.facts.setdefault(name, []).append(note)

    @property
    def metadata(self) -> Object:
        """All that is known."""
        return _rest(self.facts, ())


_Missing = object()


def _rest(record: Object, told: Container[str]) -> Object:
    """What a record says beyond what has its place."""
    return {k: value for k, value in record.items() if k not in told and value is not None}
