"""Recorded calls of Amazon Bedrock's Converse API: cassettes, invocation logs, dumped pairs.

A request stands as it was sent, so what thinking was in it is known from the wire: blocks of
``reasoningContent``, or their text in think tags, as clients write it for models that refuse such
blocks. Streams may be binary; they are put together again like those of other APIs. The model stands
in the address, or in ``modelId``.

Lines of Bedrock's own invocation log hold a call each (``inputBodyJson``, ``outputBodyJson``), those of
its batch jobs too (``modelInput``, ``modelOutput``); a dump may have ``request`` and ``response``.
"""

from __future__ import annotations

from loaders import recordings
from loaders.builder import Builder
from loaders.dialects.bedrock import BedrockConverse
from loaders.heads import Head
from loaders.sources import Source

TITLE = "Amazon Bedrock Converse"
GIVES = ("thinking", "sent", "tools", "tokens")
IGNORED = recordings.IGNORED


def sniff(head: Head) -> bool:
    """Calls recorded from this API."""
    return recordings.api_in(head) == BedrockConverse.name


def read(source: Source, out: Builder) -> None:
    """One run per recorded conversation."""
    recordings.read_calls(source, out)
