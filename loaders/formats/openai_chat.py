"""OpenAI chat completions: transcripts, rows of data sets, and recorded calls of any such server.

Transcripts are lists of role objects, one per file or several; rows with ``messages`` and perhaps
``tools``, ``resolved``, ``reward``; JSON Lines of either, or with one message on each line. They
show no request, so what thinking was sent back stays unknown. Recorded calls (VCR cassettes, the
request and response lines of a proxy) do show it: the same history comes again with each request,
is told once, and says which thinking was still in it.

Dozens of servers speak this dialect, and each has a place of its own for thinking; models without
tool calling write ``<function=...>`` into their text, which becomes a call only where it is exact.
"""

from __future__ import annotations

from loaders import transcripts
from loaders.builder import Builder
from loaders.heads import Head
from loaders.recordings_ignored import IGNORED as IGNORED_OF_CALLS
from loaders.sources import Source

TITLE = "OpenAI chat completions"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")
IGNORED = {
    **IGNORED_OF_CALLS,
    **transcripts.IGNORED,
}


def sniff(head: Head) -> bool:
    """Messages or recorded calls that are not clearly in Anthropic's dialect or another format."""
    return transcripts.is_openai(head)


def splits(source: Source) -> bool:
    """Rows with the messages of a run on each line."""
    return transcripts.are_rows(source)


def read(source: Source, out: Builder) -> None:
    """One run per list, row or recorded conversation."""
    transcripts.read(source, out)
