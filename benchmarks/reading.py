"""How much more than bare JSON decoding does reading cost, and does it stay linear?

Each case runs in a fresh process, round-robin with the decoder on the same file; the median of the
rounds' ratios of CPU time is printed.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from loaders.archives import ZipArchive

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
        for line in file:
            orjson.loads(line)
print(time.process_time() - start)
"""
READ = """
import sys, time
import loaders
loaders.available()
start = time.process_time()
runs = loaders.load(sys.argv[1], progress=False)
spent = time.process_time() - start
assert len(runs) > 0
print(spent)
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


def cpu(code: str, path: Path) -> float:
    """CPU seconds that a fresh process reports."""
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return float(done.stdout)


def main() -> None:
    """Print a table of ratios."""
    print("| input | MB of JSON | read / decode | times at 1, 4, 16 times the input |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for make, name, size in (
            (claude_code, "a.jsonl", 64),
            (chat, "b.jsonl", 64),
            (inspect, "c.eval", 48),
        ):
            path = Path(folder, name)
            grown = []
            for megabytes in (size / 16, size / 4, size):
                make(path, megabytes)
                grown.append(min(cpu(READ, path) for _ in range(2)))
            ratios = [cpu(READ, path) / cpu(DECODE, path) for _ in range(ROUNDS)]
            times = ", ".join(f"{t / grown[0]:.1f}" for t in grown)
            print(
                f"| {make.__name__} | {size} | {statistics.median(ratios):.2f} | {times} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
