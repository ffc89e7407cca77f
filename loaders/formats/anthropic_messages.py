"""Anthropic Messages: requests with their responses, and transcripts made of content blocks.

Recorded calls (VCR cassettes, the lines of a proxy's log) show what each call was sent: signed and
redacted thinking, and what the API itself takes out or sums up. A reply that begins with its
compaction comes from two calls, each with its own usage, and all later requests count from the
compaction on, however much of the history before it they still carry.

Transcripts (``system``, ``messages``, ``tools``, as one object, rows or JSON Lines) show no request,
so what thinking was sent back stays unknown.
"""

from __future__ import annotations

from loaders import transcripts
from loaders.builder import Builder
from loaders.heads import Head
from loaders.recordings_ignored import IGNORED as IGNORED_OF_CALLS
from loaders.sources import Source

TITLE = "Anthropic Messages"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")
IGNORED = {
    **IGNORED_OF_CALLS,
    **transcripts.IGNORED,
}


def sniff(head: Head) -> bool:
    """Messages with content blocks, or recorded calls of the Messages API."""
    return transcripts.is_anthropic(head)


def splits(source: Source) -> bool:
    """Rows with the messages of a run on each line."""
    return transcripts.are_rows(source)


def read(source: Source, out: Builder) -> None:
    """One run per list, row or recorded conversation."""
    transcripts.read(source, out)
