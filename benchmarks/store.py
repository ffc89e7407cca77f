"""What does a store cost, in units of what can't be saved?

Each case runs in fresh processes, round-robin with what it is compared with; medians of ratios are
printed, and with ``--write`` put into ``benchmarks/README.md``. ``--megabytes`` sizes the input.

    uv run --extra dask python benchmarks/store.py --megabytes 64 --write
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import reading as made
from environment import as_users_have_it
from tables import put

DECODE = """
import sys, time, msgspec
class Any_(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw()
    uuid: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
decode = msgspec.json.Decoder(Any_).decode
started = time.process_time()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        rest = b""
        while chunk := file.read(4 << 20):
            *lines, rest = (rest + chunk).split(b"\\n")
            for line in lines:
                if line:
                    decode(line)
        if rest.strip():
            decode(rest)
print(time.process_time() - started)
"""
CONVERT = """
import os, sys, time
src, store, processes = sys.argv[1:4]
if processes == "1":
    os.environ["POLARS_MAX_THREADS"] = "1"
import gc
import loaders
from loaders import converting, workers
loaders.available()
if __name__ == "__main__":
    if processes == "1":
        gc.disable()
        converting._IN_THIS_PROCESS_BELOW = 1 << 60
    else:
        workers.cores = lambda: 2
        converting._IN_THIS_PROCESS_BELOW = 0
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    started, cpu = time.monotonic(), time.process_time()
    loaders.convert(src, store, progress=False)
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    with open("/proc/self/status") as file:
        peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    print(wall, cpu, peak)
"""
LOAD = """
import sys, time
src, processes = sys.argv[1:3]
import loaders
from loaders import reading, workers
loaders.available()
if __name__ == "__main__":
    reading._PARALLEL_FROM_BYTES = 0 if processes == "2" else 1 << 60
    workers.cores = lambda: 2
    started = time.monotonic()
    loaders.load(src, progress=False)
    print(time.monotonic() - started)
"""
BURN = """
import sys, time
started = time.monotonic()
count = 0
while count < int(sys.argv[1]):
    count += 1
print(time.monotonic() - started)
"""
DASK = """
import os, signal, sys, threading, time
from distributed import Client
import loaders
from loaders import converting
if __name__ == "__main__":
    converting._BYTES_PER_SHARD = 4 << 20
    os.environ["POLARS_MAX_THREADS"] = "1"
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        pids = list(client.run(os.getpid).values())
        list(client.run(loaders.available))
        if sys.argv[3] == "kill":
            threading.Timer(float(sys.argv[4]), os.kill, (pids[0], signal.SIGKILL)).start()
        started = time.monotonic()
        runs = loaders.convert(sys.argv[1], sys.argv[2], executor=client.get_executor(retries=3), progress=False)
        print(time.monotonic() - started, len(runs), runs.events.collect().height)
"""


def run(script: str, *given: object) -> list[float]:
    """The numbers that a script prints, in a process of its own."""
    environment = as_users_have_it(PYTHONPATH=str(Path(__file__).parent.parent))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.py")
        path.write_text(script)
        out = subprocess.run(
            [sys.executable, path, *map(str, given)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    return [float(word) for word in out.stdout.splitlines()[-1].split()]


def median_of(rounds: Callable[[Path], float], folder: Path, count: int) -> float:
    """The median over the rounds, each with a folder of its own for what it writes."""
    found: list[float] = []
    for number in range(count):
        place = folder / f"round{time.monotonic_ns()}{number}"
        place.mkdir()
        found.append(rounds(place))
    return statistics.median(found)


def files(path: Path) -> list[Path]:
    """All files in and below a folder."""
    return sorted(p for p in path.rglob("*") if p.is_file())


def many_sessions(folder: Path, megabytes: float, parts: int) -> Path:
    """Sessions of Claude Code of the same size, all different."""
    made.claude_code(folder.with_suffix(".jsonl"), megabytes / parts)
    lines = folder.with_suffix(".jsonl").read_bytes()
    folder.mkdir()
    for number in range(parts):
        (folder / f"{number}.jsonl").write_bytes(lines.replace(b'"s-1"', b'"s-%d"' % number))
    return folder


def small_and_big(folder: Path, megabytes: float, count: int) -> tuple[Path, Path]:
    """The same rows of chat, each in a file of its own and all in one."""
    rng = random.Random(3)
    small, big = folder / "small", folder / "big"
    small.mkdir(parents=True)
    big.mkdir()
    words = max(20, int(megabytes * 1e6 / count / 7))
    with (big / "all.jsonl").open("w") as file:
        for number in range(count):
            messages = [{"role": "user", "content": made.prose(rng, words)}]
            messages.append({"role": "assistant", "content": "done"})
            row = json.dumps({"task_id": str(number), "messages": messages})
            (small / f"{number:06}.json").write_text(row)
            file.write(row + "\n")
    return small, big


def measure(folder: Path, megabytes: float, small_files: int, rounds: int) -> list[tuple[str, str]]:
    """All cases, as rows of the table."""
    rows: list[tuple[str, str]] = []

    def row(what: str, ratio: str) -> None:
        rows.append((what, ratio))
        print(f"{what}: {ratio}", flush=True)

    peaks: dict[str, float] = {}
    for name, make in (("Claude Code", made.claude_code), ("chat rows", made.chat)):
        for times in (1, 10):
            source = folder / f"{name.split()[0]}{times}"
            source.mkdir()
            make(source / "a.jsonl", megabytes * times)

            def over_decoding(
                place: Path, source: Path = source, key: str = f"{name}{times}"
            ) -> float:
                _, cpu, peak = run(CONVERT, source, place / "store", 1)
                peaks[key] = max(peaks.get(key, 0), peak / 1024)
                return cpu / run(DECODE, *files(source))[0]

            ratio = median_of(over_decoding, folder, rounds)
            row(
                f"{name}, {megabytes * times:g} MB: CPU of bytes to store over typed decoding",
                f"{ratio:.1f}",
            )
        small, large = peaks[f"{name}1"], peaks[f"{name}10"]
        row(
            f"{name}: peak memory, MB, for {megabytes:g} MB and ten times as much",
            f"{small:.0f}, {large:.0f} ({large / small:.2f})",
        )

    source = many_sessions(folder / "sessions", megabytes * 16, 96)

    def scaling(place: Path, source: Path, into_memory: bool) -> float:
        if into_memory:
            one, two = run(LOAD, source, 1)[0], run(LOAD, source, 2)[0]
        else:
            one, two = (run(CONVERT, source, place / n, n)[0] for n in "12")
        burn = run(BURN, 30_000_000)[0]
        both = [subprocess.Popen([sys.executable, "-c", BURN, "30000000"], stdout=-1) for _ in "12"]
        burns = [float(p.communicate()[0]) for p in both]
        return (one / two) / (2 * burn / max(burns))

    one_file = folder / "long"
    one_file.mkdir()
    made.chat(one_file / "a.jsonl", megabytes * 12)
    archive = folder / "archive"
    archive.mkdir()
    made.inspect(archive / "a.eval", megabytes * 12)
    for what, logs, size in (
        ("96 sessions", source, megabytes * 16),
        ("one file of chat rows", one_file, megabytes * 12),
        ("one archive of Inspect", archive, megabytes * 12),
    ):
        for into, memory in (("into a store", False), ("into memory", True)):

            def ratio_of(place: Path, logs: Path = logs, memory: bool = memory) -> float:
                return scaling(place, logs, memory)

            row(
                f"{what}, {size:,.0f} MB {into}: 2 processes over 1, over the same of a pure burn",
                f"{median_of(ratio_of, folder, rounds):.2f}",
            )

    small = folder  # what comes after goes on with the last ones
    for times, count in ((5, small_files // 10), (5, small_files), (1, small_files)):
        small, big = small_and_big(folder / f"rows{times}-{count}", megabytes * times, count)

        def per_byte(place: Path, small: Path = small, big: Path = big) -> float:
            one = run(CONVERT, big, place / "big", 1)[1] / sum(p.stat().st_size for p in files(big))
            many = run(CONVERT, small, place / "small", 1)[1]
            return one / (many / sum(p.stat().st_size for p in files(small)))

        speed = median_of(per_byte, folder, rounds)
        kilobytes = megabytes * times * 1000 / count
        what = f"bytes per second of {count:,} files of {kilobytes:.0f} KB over one big one"
        row(what, f"{speed:.2f}")

    def again(place: Path) -> float:
        first = run(CONVERT, small, place / "store", 1)[1]
        return run(CONVERT, small, place / "store", 1)[1] / first

    row(
        f"a second call, {small_files:,} files and none new, over the first",
        f"{median_of(again, folder, rounds):.2f}",
    )

    pool = run(CONVERT, source, folder / "pool", 2)[0]
    whole = run(DASK, source, folder / "dask", "leave", 0)
    row("Dask, 2 workers, over 2 processes of our own, wall", f"{whole[0] / pool:.2f}")
    killed = run(DASK, source, folder / "dask killed", "kill", whole[0] / 2)
    same = "same runs and events" if killed[1:] == whole[1:] else f"DIFFERENT: {killed} {whole}"
    row("the same with one of them killed", f"{killed[0] / pool:.2f}, {same}")
    return rows


def main() -> None:
    """Measure, print, and put the table into the README if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--small-files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), given.megabytes, given.small_files, given.rounds)
    if given.write:
        table = "\n".join(["| what | ratio |", "|---|---:|", *(f"| {a} | {b} |" for a, b in rows)])
        put("store", table)


if __name__ == "__main__":
    main()
