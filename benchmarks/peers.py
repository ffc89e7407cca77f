"""How long do other readers of the same logs take, and how much memory?

    uv run python benchmarks/peers.py [--eval-megabytes 64] [--session-megabytes 19] [--write]

Makes an Inspect archive (the samples of the sample study under new names) and two sessions of Claude
Code, puts each peer of ``PEERS`` into an environment of its own with ``uv`` (kept in ``--environments``
for the next time), and lets all of them read the same files, each in a fresh process, by turns with
Derail. Imports are not counted, and what was counted in the log must be what the script wrote. Printed
is the median of a peer's time over Derail's of the same round. ``HARBOR_PYTHON`` names a Python 3.12
where ``uv`` finds none. What can't be installed, can't read a file or takes longer than ``--limit``
seconds stands in the table with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import reading as made
from environment import as_users_have_it
from tables import put

from loaders.archives import ZipArchive

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STUDY = ROOT / "sample_logs" / "study" / "all" / "planner-1" / "inspect" / "none.eval"
_RANDOM_ID = re.compile(r'"([A-Za-z0-9]{22})"')

MEASURE = """
import json, os, resource, sys, time
{imports}
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
path = sys.argv[1]
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
wall, spent = time.monotonic(), cpu()
{read}
wall, spent = time.monotonic() - wall, cpu() - spent
print()
print(json.dumps([wall, spent, peak(), {count}]))
"""


class Reader(NamedTuple):
    """How a peer reads a kind of log: what it imports, does, and the counts that prove it."""

    name: str
    peer: str
    imports: str
    read: str
    counts: str


DERAIL_EVAL = Reader(
    "Derail, all tables",
    "derail",
    "import loaders; loaders.available()",
    "runs = loaders.load(path, progress=False)",
    "{'samples': len(runs), 'calls of the model': runs.steps.collect().height}",
)
DERAIL_SESSION = Reader(
    "Derail, all tables",
    "derail",
    "import loaders; loaders.available(); import polars as pl",
    "runs = loaders.load(path, progress=False)",
    "{'calls of tools': runs.events.filter(pl.col('kind') == 'tool_call').collect().height}",
)
_FRAMES = "from inspect_ai.analysis import events_df, messages_df, samples_df"
_MODEL_EVENTS = "int((events['event'] == 'model').sum())"
_SCOUT = """
import asyncio
from inspect_scout import TranscriptContent, transcripts_from
from inspect_scout.sources import claude_code
async def of_eval(path):
    everything = TranscriptContent(messages="all", events="all")
    async with transcripts_from(path).reader() as reader:
        return [await reader.read(info, everything) async for info in reader.index()]
async def of_session(path):
    return [transcript async for transcript in claude_code(path)]
"""
_SESSION_CALLS = (
    "{'calls of tools': sum(len(m.tool_calls or ()) for t in found for m in t.messages "
    "if m.role == 'assistant')}"
)
OF_EVAL = (
    Reader(
        "Inspect, `messages_df`",
        "inspect-ai",
        _FRAMES,
        "messages = messages_df(path, quiet=True)",
        "{'samples': messages['sample_id'].nunique()}",
    ),
    Reader(
        "Inspect, `events_df`",
        "inspect-ai",
        _FRAMES,
        "events = events_df(path, quiet=True)",
        f"{{'samples': events['sample_id'].nunique(), 'calls of the model': {_MODEL_EVENTS}}}",
    ),
    Reader(
        "Inspect, `samples_df`, `messages_df`, `events_df`",
        "inspect-ai",
        _FRAMES,
        "samples, messages, events = (f(path, quiet=True) for f in (samples_df, messages_df, events_df))",
        f"{{'samples': len(samples), 'calls of the model': {_MODEL_EVENTS}}}",
    ),
    Reader(
        "Inspect Scout, messages and events",
        "inspect-scout",
        _SCOUT,
        "found = asyncio.run(of_eval(path))",
        "{'samples': len(found), 'calls of the model': "
        "sum(e.event == 'model' for t in found for e in t.events)}",
    ),
    Reader(
        "Docent, `load_inspect_log`",
        "docent",
        "from inspect_ai.log import read_eval_log; from docent.loaders.load_inspect import load_inspect_log",
        "found = load_inspect_log(read_eval_log(path))",
        "{'samples': len(found)}",
    ),
)
OF_SESSION = (
    Reader(
        "Docent, `load_claude_code_session`",
        "docent",
        "from docent.loaders.load_claude_code import load_claude_code_session",
        "with open(path) as file:\n"
        "    found = load_claude_code_session([json.loads(line) for line in file])",
        "{'calls of tools': sum(len(m.tool_calls or ()) for t in found.transcripts "
        "for m in t.messages if m.role == 'assistant')}",
    ),
    Reader(
        "agent-trajviz, `load`",
        "agent-trajviz",
        "import agent_trajviz",
        "found = agent_trajviz.load(path)",
        "{'calls of tools': sum(p['type'] == 'tool_call' for step in found.steps for p in step['parts'])}",
    ),
    Reader(
        "Harbor, `ClaudeCode`",
        "harbor",
        "import logging, shutil, tempfile\n"
        "from pathlib import Path\n"
        "from harbor.agents.installed.claude_code import ClaudeCode\n"
        "logging.disable(logging.CRITICAL)",
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    shutil.copy(path, folder)\n"
        "    found = ClaudeCode(logs_dir=Path(folder))._convert_events_to_trajectory(Path(folder))",
        "{'calls of tools': sum(len(step.tool_calls or ()) for step in found.steps)}",
    ),
    Reader(
        "Inspect Scout, `claude_code`",
        "inspect-scout",
        _SCOUT,
        "found = asyncio.run(of_session(path))",
        _SESSION_CALLS,
    ),
)
PEERS = {
    "inspect-ai": (["inspect-ai==0.3.285", "pandas", "pyarrow"], sys.executable),
    "inspect-scout": (["inspect-scout==0.6.1", "inspect-ai==0.3.285"], sys.executable),
    "docent": (["docent==0.1.88", "inspect-ai==0.3.285"], sys.executable),
    "agent-trajviz": (["agent-trajviz==0.3.0"], sys.executable),
    "harbor": (["harbor==0.26.0"], os.environ.get("HARBOR_PYTHON", "3.12")),
}


_SHORT = 3.0
"""Seconds; what both sides take less for is measured ``_OFTEN`` times as often: it varies by half."""
_OFTEN = 5


class Failed(Exception):
    """Why there is no number."""


# ---------------------------------------------------------------------- the logs


def inspect_archive(path: Path, megabytes: float) -> dict[str, int]:
    """The study's samples again and again under new names, with their summaries; what is in it."""
    source = ZipArchive(STUDY)
    samples = [source.read(name).decode() for name in source.names if name.startswith("samples/")]
    summaries = {
        (one["id"], one["epoch"]): one for one in json.loads(source.read("summaries.json"))
    }
    written, count, calls, told = 0, 0, 0, []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.names:
            if not name.startswith(("samples/", "summaries", "_journal/summaries", "header")):
                target.writestr(name, source.read(name))
        while written < megabytes * 1e6:
            for text in samples:  # Inspect's frames drop messages and events whose ids repeat
                sample = json.loads(_RANDOM_ID.sub(rf'"\g<1>{count:05}"', text))
                summary = summaries[sample["id"], sample["epoch"]]
                new = {"id": f"{sample['id']}-{count}", "uuid": sample["uuid"]}
                data = json.dumps({**sample, **new})
                target.writestr(f"samples/{new['id']}_epoch_{sample['epoch']}.json", data)
                told.append({**summary, **new})
                calls += sum(event["event"] == "model" for event in sample["events"])
                count, written = count + 1, written + len(data)
        target.writestr("summaries.json", json.dumps(told))
        header = json.loads(source.read("header.json"))
        header["eval"]["dataset"] |= {"samples": count, "sample_ids": [one["id"] for one in told]}
        header["results"] |= {"total_samples": count, "completed_samples": count}
        target.writestr("header.json", json.dumps(header))
    return {"samples": count, "calls of the model": calls}


def session(path: Path, megabytes: float) -> dict[str, int]:
    """A session of Claude Code, and what is in it."""
    made.claude_code(path, megabytes)
    return {"calls of tools": path.read_bytes().count(b'"type": "tool_use"')}


# ---------------------------------------------------------------------- measure


def python_of(peer: str, environments: Path) -> str:
    """The Python of a peer's own environment, which is made where there is none.

    Raises ``Failed`` where it can't be installed.
    """
    if peer == "derail":
        return sys.executable
    packages, version = PEERS[peer]
    folder = environments / peer
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = os.environ.get("UV", "uv")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", version, str(folder)],
            [
                uv,
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
                str(python),
                *packages,
            ],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                words = " ".join(done.stderr.split())
                raise Failed(f"not installed with Python {Path(version).name}: {words[:160]}")
        (folder / "complete").touch()
    return str(python)


def measured(
    reader: Reader, path: Path, contents: dict[str, int], environments: Path, limit: float
) -> tuple[float, float, float]:
    """Wall and CPU seconds and MB at the peak of one reading.

    Raises ``Failed`` where there is none, or where it did not read what is there.
    """
    code = MEASURE.format(imports=reader.imports, read=reader.read, count=reader.counts)
    environment = as_users_have_it(PYTHONPATH=str(ROOT) if reader.peer == "derail" else "")
    try:
        done = subprocess.run(
            [python_of(reader.peer, environments), "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"stopped after {limit:.0f} s") from None
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1][:160])
    wall, cpu, peak, counts = json.loads(done.stdout.splitlines()[-1])
    wrong = [f"{n} {what} of {contents[what]}" for what, n in counts.items() if n != contents[what]]
    if wrong:
        raise Failed(f"read {', '.join(wrong)}")
    return wall, cpu, peak


class Row(NamedTuple):
    """A line of the table."""

    log: str
    reader: str
    wall: str
    cpu: str
    peak: str


def compared(
    what: str,
    path: Path,
    contents: dict[str, int],
    ours: Reader,
    theirs: tuple[Reader, ...],
    given: argparse.Namespace,
) -> list[Row]:
    """All readers of one log, each as often as there are rounds, by turns with Derail."""
    rows: list[Row] = []
    environments = Path(given.environments)
    own: list[tuple[float, float, float]] = []
    for reader in (one for one in theirs if given.only in one.name):
        walls, cpus, peaks = [], [], []
        try:
            rounds = given.rounds
            while len(walls) < rounds:
                mine = measured(ours, path, contents, environments, given.limit)
                own.append(mine)
                wall, cpu, peak = measured(reader, path, contents, environments, given.limit)
                walls.append(wall / mine[0])
                cpus.append(cpu / mine[1])
                peaks.append(peak)
                if wall > given.limit / given.rounds:
                    break
                if mine[0] + wall < _SHORT:
                    rounds = _OFTEN * given.rounds
            wall, cpu = statistics.median(walls), statistics.median(cpus)
            row = Row(what, reader.name, f"{wall:.1f}", f"{cpu:.1f}", f"{max(peaks):.0f}")
        except Failed as error:
            row = Row(what, reader.name, str(error), "", "")
        rows.append(row)
        print(*row, sep=" | ", flush=True)
    peak = f"{max(one[2] for one in own):.0f}" if own else ""
    return [Row(what, ours.name, "1", "1", peak), *rows]


def main() -> None:
    """Measure, print, and put the table into the README if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eval-megabytes", type=float, default=64)
    parser.add_argument("--session-megabytes", type=float, default=19)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="readers whose names hold this")
    parser.add_argument("--limit", type=float, default=900)
    default = Path.home() / ".cache" / "derail-peers"
    parser.add_argument("--environments", default=str(default))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.eval")
        contents = inspect_archive(path, given.eval_megabytes)
        what = f"`.eval`, {given.eval_megabytes:g} MB of JSON, {contents['samples']} samples"
        rows += compared(what, path, contents, DERAIL_EVAL, OF_EVAL, given)
        for megabytes in (2, given.session_megabytes):
            path = Path(folder, f"session{megabytes:g}.jsonl")
            contents = session(path, megabytes)
            what = f"Claude Code, one session of {megabytes:g} MB"
            rows += compared(what, path, contents, DERAIL_SESSION, OF_SESSION, given)
    lines = ["| log | reader | time / Derail's | CPU / Derail's | peak MB |"]
    lines += ["|---|---|---:|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]
    print("\n".join(lines))
    if given.write:
        put("peers", "\n".join(lines))


if __name__ == "__main__":
    main()
