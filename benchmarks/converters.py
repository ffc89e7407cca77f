"""What becomes of a log's thinking when it is converted: blocks by state, here and in Inspect Scout.

    uv run python benchmarks/converters.py LOGS [--write]

``LOGS`` is a folder with a folder of real logs per format (``claude_code``, ``codex``, ...); Inspect's
own three logs of this repository are read in any case. Inspect Scout runs in an environment of its
own, which ``uv`` makes. Its messages and the replies in its model events are counted, each block
once: thinking that Scout shows anywhere counts as kept. With ``--write`` the table goes into the
README beside this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl

import loaders

HERE = Path(__file__).resolve().parent
SCOUT = ("inspect-scout==0.6.1", "inspect-ai==0.3.285")
FORMATS = ("claude_code", "codex", "opencode", "pi")
STATES = ("text", "summary", "hidden", "redacted")
IMPORTED = ("claude_code", "inspect")
"""Formats whose files Scout imports; for the others it has no importer."""
MARKS = ("<!-- converters -->", "<!-- /converters -->")

COUNT = """
import asyncio, json, sys
from pathlib import Path
from inspect_scout import TranscriptContent, transcripts_from
from inspect_scout.sources import claude_code

def state(part):
    if part.redacted:
        return "summary" if part.summary else "redacted"
    return "text" if part.reasoning else "summary" if part.summary else "hidden"

def blocks(transcript):
    messages = list(transcript.messages)
    for event in transcript.events:
        if event.event == "model" and event.output and event.output.choices:
            messages.append(event.output.choices[0].message)
    for message in messages:
        if message.role != "assistant" or isinstance(message.content, str):
            continue
        for place, part in enumerate(message.content):
            if part.type == "reasoning":
                yield (message.id, place), state(part)

failed = []

async def transcripts(kind, path):
    if kind == "claude_code":
        for file in sorted(Path(path).rglob("*.jsonl")):
            if "subagents" in file.parts:  # Scout finds these from the session's own file
                continue
            try:
                async for transcript in claude_code(file):
                    yield transcript
            except Exception as error:
                failed.append(f"{file.name}: {type(error).__name__}: {error}")
        return
    everything = TranscriptContent(messages="all", events="all")
    async with transcripts_from(path).reader() as reader:
        async for info in reader.index():
            yield await reader.read(info, everything)

async def main(kind, path):
    found = {}
    async for transcript in transcripts(kind, path):
        for name, what in blocks(transcript):
            found[(transcript.transcript_id, *name)] = what
    counts = {}
    for what in found.values():
        counts[what] = counts.get(what, 0) + 1
    print(json.dumps([counts, failed]))

asyncio.run(main(*sys.argv[1:]))
"""


def here(path: Path) -> dict[str, int]:
    """Thinking events by state as Derail loads them."""
    events = loaders.load(path).events.filter(pl.col("kind") == "thinking")
    return dict(events.group_by("thinking_state").len().collect().iter_rows())


def in_scout(kind: str, path: Path) -> tuple[dict[str, int], list[str]]:
    """Reasoning blocks by state as Inspect Scout imports them, and files that it can't import."""
    packages = [part for package in SCOUT for part in ("--with", package)]
    uv = os.environ.get("UV", "uv")
    command = [uv, "run", "--no-project", *packages, "python", "-c", COUNT, kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Inspect Scout could not read {path}:\n{done.stderr[-2000:]}")
    counts, failed = json.loads(done.stdout.splitlines()[-1])
    return counts, failed


def table(logs: Path) -> str:
    """The counts as Markdown."""
    lines = [
        f"| logs | converter | {' | '.join(STATES)} |",
        f"|---|---|{'---:|' * len(STATES)}",
    ]
    folders = {name: logs / name for name in FORMATS}
    folders["inspect"] = HERE.parent / "tests" / "inspect_logs"
    for kind, path in folders.items():
        lines.append(_row(kind, "Derail", here(path)))
        scout = f"Scout {SCOUT[0].partition('==')[2]}"
        if kind not in IMPORTED:
            lines.append(_row(kind, scout, None))
            continue
        counts, failed = in_scout(kind, path)
        for reason in failed:
            print(f"Scout can't import {reason}", file=sys.stderr)
        note = f", {len(failed)} file{'s' if len(failed) != 1 else ''} not imported"
        lines.append(_row(kind, scout + (note if failed else ""), counts))
    return "\n".join(lines)


def _row(kind: str, converter: str, counts: dict[str, Any] | None) -> str:
    cells = ["no importer"] + [""] * (len(STATES) - 1)
    if counts is not None:
        cells = [f"{counts.get(state, 0):,}" for state in STATES]
    return f"| {kind} | {converter} | {' | '.join(cells)} |"


def write(text: str) -> None:
    """Put the table between the marks of the README."""
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    counted = table(Path(arguments[0]))
    print(counted)
    if "--write" in sys.argv:
        write(counted)
