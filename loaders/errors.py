"""What can go wrong while logs are read, in words that say what to do next."""

from __future__ import annotations


class DerailError(Exception):
    """Base of every error that Derail raises on purpose; its message says what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message says it all, and the way to it is the library's own."""
        return [f"{type(self).__name__}: {self}"]


class LoadError(DerailError):
    """Nothing could be read. The message names the file, the known formats and the remedy."""


class UnreadableRecord(DerailError):
    """One record of a log can't be read; it becomes a row of ``problems`` and the rest loads.

    A format raises it where it meets something that it can't make sense of.
    """

    def __init__(self, reason: str, position: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position
