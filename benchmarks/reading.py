"""How much more than bare JSON decoding does reading cost?

Every case runs in a fresh process with one Polars thread, round-robin with the reference on the same
file; the median of the rounds' ratios of CPU time is printed. The reference is orjson over lines split
out of 4 MB chunks, or over the inflated members of an archive, each value dropped at once. Reading is
``loaders.load``: hashing, redaction, links, problems and all tables included. To Parquet is reading
and then writing every table with zstd at level 1. Memory is VmHWM after ``clear_refs``, without what
the process had before.

    uv run --with orjson python benchmarks/reading.py [FILE ...] [--rounds=5] [--write]

Without files it makes its own input (``MADE``); name logs of your own to see those. ``--write`` puts the
table into ``benchmarks/README.md``.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from loaders.archives import ZipArchive

sys.path.insert(0, str(Path(__file__).parent))
from environment import as_users_have_it
from tables import put

ROUNDS = 5
WORDS = [
    "order",
    "table",
    "invoice",
    "because",
    "check",
    "value",
    "return",
    "next",
    "step",
    "found",
]

DECODE = """
import sys, time, zipfile, orjson
path = sys.argv[1]
start = time.process_time()
if path.endswith(".eval"):
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            orjson.loads(archive.read(name))
else:
    with open(path, "rb") as file:
        rest = b""
        while chunk := file.read(4 << 20):
            lines = (rest + chunk).split(b"\\n")
            rest = lines.pop()
            for line in lines:
                orjson.loads(line)
        if rest.strip():
            orjson.loads(rest)
print(time.process_time() - start, 0)
"""
READ = """
import sys, time
import loaders
loaders.available()
def field(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = field("VmRSS")
start = time.process_time()
runs = loaders.load(sys.argv[1], progress=False)
if sys.argv[2] == "parquet":
    for name in ("trajectories", "steps", "events", "tools", "problems"):
        table = getattr(runs, name).collect()
        table.write_parquet(f"{sys.argv[3]}/{name}.parquet", compression="zstd", compression_level=1)
spent = time.process_time() - start
assert len(runs) > 0
print(spent, field("VmHWM") - before)
"""


def prose(rng: random.Random, words: int) -> str:
    """Text of that many words, with the line ends and quotes that code and logs are full of."""
    return " ".join(rng.choices(WORDS, k=words))


def claude_code(path: Path, megabytes: float) -> None:
    """A session that thinks, calls a tool and reads its result, again and again."""
    rng, number, parent = random.Random(1), 0, None
    with path.open("w") as file:
        while file.tell() < megabytes * 1e6:
            shared = {
                "sessionId": "s-1",
                "isSidechain": False,
                "userType": "external",
                "version": "2.1.0",
                "timestamp": "2026-01-01T00:00:00.000Z",
            }
            blocks = [
                {"type": "thinking", "thinking": prose(rng, 120), "signature": "c2ln" * 40},
                {
                    "type": "tool_use",
                    "id": f"toolu_{number}",
                    "name": "Read",
                    "input": {"path": prose(rng, 4)},
                },
            ]
            for block in blocks:
                message = {
                    "id": f"msg_{number}",
                    "role": "assistant",
                    "model": "made-up",
                    "content": [block],
                    "usage": {"input_tokens": 9, "output_tokens": 90},
                }
                uuid = f"u{number}-{block['type']}"
                line = {
                    **shared,
                    "type": "assistant",
                    "uuid": uuid,
                    "parentUuid": parent,
                    "message": message,
                }
                file.write(json.dumps(line) + "\n")
                parent = uuid
            result = {
                "type": "tool_result",
                "tool_use_id": f"toolu_{number}",
                "content": prose(rng, 400),
            }
            line = {**shared, "type": "user", "uuid": f"r{number}", "parentUuid": parent}
            file.write(
                json.dumps({**line, "message": {"role": "user", "content": [result]}}) + "\n"
            )
            parent, number = f"r{number}", number + 1


def chat(path: Path, megabytes: float) -> None:
    """Rows of chat messages, 20 turns each."""
    rng, number = random.Random(2), 0
    with path.open("w") as file:
        while file.tell() < megabytes * 1e6:
            messages: list[dict[str, object]] = [{"role": "user", "content": prose(rng, 60)}]
            for turn in range(20):
                call = {"name": "look", "arguments": json.dumps({"q": prose(rng, 5)})}
                messages.append(
                    {
                        "role": "assistant",
                        "content": None,
                        "reasoning_content": prose(rng, 80),
                        "tool_calls": [{"id": f"c{turn}", "type": "function", "function": call}],
                    }
                )
                messages.append(
                    {"role": "tool", "tool_call_id": f"c{turn}", "content": prose(rng, 200)}
                )
            file.write(
                json.dumps({"task_id": str(number), "messages": messages, "reward": number % 2})
                + "\n"
            )
            number += 1


def inspect(path: Path, megabytes: float) -> None:
    """The sample study's archive with its samples repeated under new names."""
    study = Path(__file__).parent.parent / "sample_logs" / "study"
    source = ZipArchive(study / "all" / "planner-1" / "inspect" / "none.eval")
    samples = {name: source.read(name) for name in source.names if name.startswith("samples/")}
    written, copy = 0, 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("header.json", source.read("header.json"))
        while written < megabytes * 1e6:
            for name, data in samples.items():
                target.writestr(name.replace("_epoch", f"-{copy}_epoch"), data)
                written += len(data)
            copy += 1


MADE = (
    (claude_code, "claude_code.jsonl", 64),
    (chat, "chat.jsonl", 64),
    (inspect, "inspect.eval", 64),
)


def cpu(code: str, path: Path, *arguments: str) -> tuple[float, float]:
    """CPU seconds and MB of memory that a fresh process reports."""
    environment = as_users_have_it(POLARS_MAX_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def main(arguments: list[str]) -> None:
    """Print a table of ratios."""
    rounds = next(
        (int(a.partition("=")[2]) for a in arguments if a.startswith("--rounds=")), ROUNDS
    )
    lines = [
        "| input | MB | to frames / decode | to Parquet / decode | peak MB |",
        "|---|---:|---:|---:|---:|",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(a) for a in arguments if not a.startswith("--")]
        for make, name, size in () if paths else MADE:
            make(Path(folder, name), size)
            paths.append(Path(folder, name))
        for path in paths:
            frames, parquet, peaks = [], [], []
            for _ in range(rounds):
                decode, _ = cpu(DECODE, path)
                spent, peak = cpu(READ, path, "frames")
                frames.append(spent / decode)
                peaks.append(peak)
                parquet.append(cpu(READ, path, "parquet", folder)[0] / decode)
            lines.append(
                f"| {path.stem} | {path.stat().st_size / 1e6:.0f} | {statistics.median(frames):.1f} "
                f"| {statistics.median(parquet):.1f} | {statistics.median(peaks):.0f} |"
            )
            print(lines[-1], flush=True)
    if "--write" in arguments:
        put("reading", "\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
