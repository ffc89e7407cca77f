# pyright: basic, reportMissingImports=false
"""Print what Inspect Scout reads of a folder of transcripts, as JSON by ``transcript_id``.

Runs in an environment of its own; the argument is the folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from inspect_scout import TranscriptContent, transcripts_from

WANTED = TranscriptContent(messages="all", events="all")


async def read(folder: str) -> dict[str, Any]:
    counted = {}
    async with transcripts_from(folder).reader() as reader:
        async for info in reader.index():
            transcript = await reader.read(info, WANTED)
            messages = transcript.messages
            parts = [part for message in messages for part in message.content_list]
            blocks = [part for part in parts if part.type == "reasoning"]
            counted[transcript.transcript_id] = {
                "roles": Counter(message.role for message in messages),
                "message_count": transcript.message_count,
                "tool_calls": sum(len(getattr(m, "tool_calls", None) or ()) for m in messages),
                "errors": sum(getattr(message, "error", None) is not None for message in messages),
                "states": Counter(block.internal["thinking_state"] for block in blocks),
                "reasoning": sum(bool(b.reasoning) and not b.redacted for b in blocks),
                "chars": sum(len(message.text) for message in messages),
                "events": len(transcript.events),
                "task": [transcript.task_set, transcript.task_id, transcript.success],
                "format": transcript.source_type,
                "outcome": transcript.metadata.get("outcome", "unknown"),
            }
    return counted


print(json.dumps(asyncio.run(read(sys.argv[1]))))
