"""Recorded calls of the Gemini API, at Google's own address or a cloud's: cassettes, dumped pairs.

A request stands as it was sent, so what thinking was in it is known from the wire. Gemini encrypts
its thinking into a signature on the part that follows it, and shows a summary of it or nothing. A
signature that a request repeats, in either alphabet of base64, is thinking sent back, with the
summary or without it; so is a summary repeated alone. A client that drops both drops the thinking.

Streams are server-sent events or one list of responses. A dump may have ``request`` and ``response``
on each line, in camel case or in a client library's snake case.
"""

from __future__ import annotations

from loaders import recordings
from loaders.builder import Builder
from loaders.dialects.gemini_wire import GeminiAPI
from loaders.heads import Head
from loaders.sources import Source

TITLE = "Gemini API"
GIVES = ("thinking", "sent", "tools", "tokens")
IGNORED = recordings.IGNORED


def sniff(head: Head) -> bool:
    """Calls recorded from this API."""
    return recordings.api_in(head) == GeminiAPI.name


def read(source: Source, out: Builder) -> None:
    """One run per recorded conversation."""
    recordings.read_calls(source, out)
