"""What becomes of a log's thinking when it is converted: blocks by state, here and by other tools.

    uv run python benchmarks/converters.py LOGS [--write]

``LOGS`` is a folder with a folder of real logs per format (``claude_code``, ``codex``, ...); Inspect's
own three logs of this repository are read in any case, and a Claude Code session that is written here,
with hidden and redacted blocks. ``_converters_raw.py`` counts what the files hold, by itself.

Inspect Scout and Harbor run in environments of their own, which ``uv`` makes. Harbor needs Python 3.12:
``HARBOR_PYTHON`` names one where ``uv`` doesn't find it. Scout's messages and the replies in its model
events are counted, each block once: thinking that Scout shows anywhere counts as kept. Of Harbor's
trajectories a block counts as kept if its text stands in a step's ``reasoning_content``; a hidden or a
redacted one if its signature or its data stands anywhere in the trajectory. With ``--write`` the table
goes into the README beside this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from _converters_raw import Block, blocks_of, write_claude_session
from tables import put

import loaders

HERE = Path(__file__).resolve().parent
SCOUT = ("inspect-scout==0.6.1", "inspect-ai==0.3.285")
HARBOR = "harbor==0.24.0"
HARBOR_PYTHON = os.environ.get("HARBOR_PYTHON", ">=3.12")
FORMATS = ("claude_code", "codex", "gemini_cli", "opencode", "pi")
WRITTEN = "claude_code, written here"
STATES = ("text", "summary", "hidden", "redacted")
IMPORTED = ("claude_code", "inspect")
"""Formats whose files Scout imports; for the others it has no importer."""
CONVERTED = ("claude_code", "codex", "gemini_cli", "pi")
"""Formats whose session files Harbor converts; of OpenCode it reads the stream of events alone."""

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


HARBOR_CONVERTS = """
import json, logging, shutil, sys, tempfile
from pathlib import Path
from harbor.agents.installed.claude_code import ClaudeCode
from harbor.agents.installed.codex import Codex
from harbor.agents.installed.gemini_cli import GeminiCli
from harbor.agents.installed.pi import Pi

logging.disable(logging.CRITICAL)

def lines(file):
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield number, event

def alone(file, folder):
    shutil.copy(file, folder)
    if file.with_suffix("").is_dir():
        shutil.copytree(file.with_suffix(""), folder / file.stem)
    return folder

def claude_code(file, folder):
    return ClaudeCode(logs_dir=folder)._convert_events_to_trajectory(alone(file, folder))

def codex(file, folder):
    return Codex(logs_dir=folder)._convert_events_to_trajectory(alone(file, folder))

def gemini_cli(file, folder):
    agent = GeminiCli(logs_dir=folder)
    session = agent._load_gemini_session(file)
    return session and agent._convert_gemini_to_atif(session)

def pi(file, folder):
    agent = Pi(logs_dir=folder)
    return agent._convert_session_events_to_trajectory(agent._active_session_events(list(lines(file))))

convert, path = globals()[sys.argv[1]], Path(sys.argv[2])
files = [f for f in sorted(path.rglob("*.json*")) if "subagents" not in f.parts]
trajectories, failed = [], []
for file in files:
    with tempfile.TemporaryDirectory() as folder:
        try:
            trajectory = convert(file, Path(folder))
        except Exception as error:
            failed.append(f"{file.name}: {type(error).__name__}: {str(error)[:200]}")
            continue
    if trajectory is None or not trajectory.steps:
        failed.append(f"{file.name}: no trajectory")
    else:
        trajectories.append(trajectory.to_json_dict())
print(json.dumps([trajectories, failed]))
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


def has_harbor() -> bool:
    """Whether there is a Python that Harbor runs on."""
    uv = os.environ.get("UV", "uv")
    command = [uv, "run", "--no-project", "--python", HARBOR_PYTHON, "python", "-c", ""]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def in_harbor(kind: str, path: Path, blocks: list[Block]) -> tuple[dict[str, int], list[str]]:
    """Blocks by state that are left in Harbor's trajectories, and files that it makes none of."""
    uv = os.environ.get("UV", "uv")
    environment = ["--no-project", "--python", HARBOR_PYTHON, "--with", HARBOR]
    command = [uv, "run", *environment, "python", "-c", HARBOR_CONVERTS, kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Harbor could not read {path}:\n{done.stderr[-2000:]}")
    trajectories, failed = json.loads(done.stdout.splitlines()[-1])
    steps = [step for trajectory in trajectories for step in trajectory["steps"]]
    shown = "\n".join(step.get("reasoning_content") or "" for step in steps)
    return dict(_found(blocks, shown, json.dumps(trajectories, ensure_ascii=False))), failed


def _found(blocks: list[Block], shown: str, everything: str) -> Counter[str]:
    """How many blocks stand in what is shown, each place of a text serving but one."""
    kept: Counter[str] = Counter()
    for (state, words, mark), count in Counter(blocks).items():
        if words:
            kept[state] += min(count, shown.count(words))
        elif mark:
            kept[state] += min(count, everything.count(mark))
    return kept


def table(logs: Path) -> str:
    """The counts as Markdown."""
    lines = [
        f"| logs | converter | {' | '.join(STATES)} |",
        f"|---|---|{'---:|' * len(STATES)}",
    ]
    folders = {name: logs / name for name in FORMATS}
    folders["inspect"] = HERE.parent / "tests" / "inspect_logs"
    knows_harbor = has_harbor()
    with tempfile.TemporaryDirectory() as folder:
        write_claude_session(Path(folder))
        for name, path in {**folders, WRITTEN: Path(folder)}.items():
            lines += _rows(name, path, knows_harbor)
    return "\n".join(lines)


def _rows(name: str, path: Path, knows_harbor: bool) -> list[str]:
    kind = name.partition(",")[0]
    blocks = list(blocks_of(kind, path))
    rows = [
        _row(name, "in the files", Counter(block.state for block in blocks)),
        _row(name, "Derail", here(path)),
    ]
    scout, harbor = f"Scout {SCOUT[0].partition('==')[2]}", f"Harbor {HARBOR.partition('==')[2]}"
    if kind in IMPORTED:
        counts, failed = in_scout(kind, path)
        rows.append(_row(name, scout + _note(failed), counts))
    else:
        rows.append(_row(name, scout, None))
    if kind in CONVERTED and not knows_harbor:
        rows.append(_row(name, harbor, None, "no Python 3.12 to run it"))
    elif kind in CONVERTED:
        counts, failed = in_harbor(kind, path, blocks)
        rows.append(_row(name, harbor + _note(failed), counts))
    else:
        rows.append(_row(name, harbor, None, "no converter"))
    return rows


def _note(failed: list[str]) -> str:
    for reason in failed:
        print(f"not converted: {reason}", file=sys.stderr)
    files = f"{len(failed)} file{'s' if len(failed) != 1 else ''}"
    return f", {files} not converted" if failed else ""


def _row(
    name: str, converter: str, counts: dict[str, Any] | None, instead: str = "no importer"
) -> str:
    cells = [instead] + [""] * (len(STATES) - 1)
    if counts is not None:
        cells = [f"{counts.get(state, 0):,}" for state in STATES]
    return f"| {name} | {converter} | {' | '.join(cells)} |"


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    counted = table(Path(arguments[0]))
    print(counted)
    if "--write" in sys.argv:
        put("converters", counted)
