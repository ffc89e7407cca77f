"""Do time and memory grow in step with the input, in every format?

Takes logs of every format out of folders (those of this repository, or ones that you name), makes
each of them longer by repeating the records of its longest list or its lines, with new ids in each
copy, and reads the results in fresh processes. Where a log can't be made longer in place (a database,
a folder of small files), it is copied instead. Printed per format: CPU time and peak memory at the
largest size, and the exponents k in ``time ~ size^k`` from a quarter of that size on, without what the
smallest input costs. An exponent near 1 is linear. What is above ``--most`` is measured again without
Python's garbage collector, which in ``convert``'s processes is off: that exponent stands in brackets.

    python benchmarks/growth.py [FOLDER ...] [--formats=a,b] [--times=64] [--most=1.05] [--write]
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

import loaders
from loaders.archives import ZipArchive, is_packed
from loaders.builder import Builder
from loaders.logs import read_source
from loaders.reading import grouped
from loaders.registry import Format
from loaders.sources import Source

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from environment import as_users_have_it
from fuzzing import WRITTEN_HERE
from tables import put

ROOT = Path(__file__).parent.parent
BASE_BYTES = 128 << 10
"""What a log is brought to before it is made 4 to 64 times longer."""
LARGEST_SAMPLE = 256 << 10
ROUNDS = 4
_HERE = "the list stands here"
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_ID = re.compile(r"(?:^|_)(?:uu)?id$|[a-z](?:I|Uu)d$|ID$|^parent_?[uU]uid$", re.ASCII)

READ = """
import gc, os, sys, time
import loaders
from loaders import reading
loaders.available()
reading._PARALLEL_FROM_BYTES = 1 << 62  # time and memory of other processes would not be seen
if sys.argv[2] == "off":
    gc.disable()
def field(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = field("VmRSS")
start = time.process_time()
runs = loaders.load(sys.argv[1], progress=False)
spent = time.process_time() - start
peak = field("VmHWM") - before
print(spent, peak / 1024, runs.events.collect().height)
"""

Writer = Callable[[Path, int], None]
"""Writes a log that is so many times as long into a folder."""


# ---------------------------------------------------------------------- make logs longer


def ids_in(items: list[Any]) -> set[str]:
    """Values of the ids in some records, without those that most of them share."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update({value for key, value in _named_strings(item) if _ID.search(key)})
    shared = max(2, len(items) // 2)
    return {value for value, count in counts.items() if count <= shared}


def _named_strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _named_strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _named_strings(item, key)


class Copies:
    """JSON texts to be written again and again, each copy with ids of its own."""

    def __init__(self, texts: list[str], ids: set[str], between: str) -> None:
        whole = between.join(texts)
        known = {json.dumps(one) for one in ids} | {
            json.dumps(one, ensure_ascii=False) for one in ids
        }
        self._pieces: list[str] = []
        self._between = between
        start = 0
        for match in _STRING.finditer(whole):
            if match.group() in known:
                self._pieces.append(whole[start : match.end() - 1])
                start = match.end() - 1
        self._last = whole[start:]

    def text(self, times: int) -> str:
        """So many copies, the first one as it was."""
        return self._between.join(
            "".join(piece + (f"-{copy}" if copy else "") for piece in self._pieces) + self._last
            for copy in range(times)
        )


def repeated(items: list[Any]) -> Copies:
    """The items of a list, to be repeated."""
    return Copies([json.dumps(item) for item in items], ids_in(items), ", ")


def lists_in(value: Any) -> list[tuple[Any, Any]]:
    """Lists of objects in a value, each as what holds it and its key there; longest text first."""
    found: list[tuple[int, Any, Any]] = []

    def walk(holder: Any, depth: int) -> None:
        keys = holder.keys() if isinstance(holder, dict) else range(min(len(holder), 3))
        for key in keys:
            inner = holder[key]
            if isinstance(inner, list) and sum(isinstance(item, dict) for item in inner) > 1:
                found.append((len(json.dumps(inner)), holder, key))
            if isinstance(inner, dict | list) and depth < 4:
                walk(inner, depth + 1)

    walk(value if isinstance(value, dict | list) else [], 0)
    return [(holder, key) for _, holder, key in sorted(found, key=lambda one: -one[0])][:6]


def longer_lines(path: Path) -> Writer:
    """Repeats the lines of a JSON Lines file."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    copies_of = Copies(lines, ids_in([json.loads(line) for line in lines]), "\n")

    def write(folder: Path, times: int) -> None:
        (folder / path.name).write_text(copies_of.text(times) + "\n")

    return write


def longer_list(path: Path, number: int) -> Writer:
    """Repeats the items of one list of a JSON file."""
    box = [json.loads(path.read_bytes())]
    holder, key = lists_in(box[0])[number] if number >= 0 else (box, 0)
    copies_of = repeated(holder[key])
    holder[key] = _HERE
    before, after = json.dumps(box[0]).split(json.dumps(_HERE))

    def write(folder: Path, times: int) -> None:
        (folder / path.name).write_text(f"{before}[{copies_of.text(times)}]{after}")

    return write


def longer_archive(path: Path) -> Writer:
    """Repeats the events of each sample of an Inspect archive."""
    archive = ZipArchive(path)
    members = {name: archive.read(name) for name in archive.names}
    events = {name: json.loads(data) for name, data in members.items() if "samples/" in name}
    copies_of = {name: repeated(sample.pop("events")) for name, sample in events.items()}

    def write(folder: Path, times: int) -> None:
        with zipfile.ZipFile(folder / path.name, "w", zipfile.ZIP_DEFLATED) as target:
            for name, data in members.items():
                if name in copies_of:
                    rest = json.dumps(events[name])[:-1]
                    data = f'{rest}, "events": [{copies_of[name].text(times)}]}}'.encode()
                target.writestr(name, data)

    return write


def copies(paths: list[Path]) -> Writer:
    """Copies all files of a log, so many times."""
    above = Path(os.path.commonpath([path.parent for path in paths]))
    above = above.parents[min(2, len(above.parents) - 1)]  # some formats look at folders' names

    def write(folder: Path, times: int) -> None:
        for copy in range(times):
            for path in paths:
                target = folder / f"copy{copy}" / path.relative_to(above)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    return write


def writers(sources: list[Source]) -> Iterator[tuple[str, Writer]]:
    """The ways to make a log longer, best first."""
    path = sources[0].path
    if len(sources) == 1 and sources[0].member is None:
        if is_packed(path.read_bytes()):
            pass
        elif sources[0].is_json_lines:
            yield "lines", longer_lines(path)
        elif path.suffix == ".eval":
            yield "events", longer_archive(path)
        else:
            try:
                value = json.loads(path.read_bytes())
            except ValueError:
                value = None
            if isinstance(value, list):
                yield "list", longer_list(path, -1)
            for number, (_, key) in enumerate(lists_in(value)):
                yield f"list {key}", longer_list(path, number)
    yield "copies", copies([source.path for source in sources])


# ---------------------------------------------------------------------- measure


def read(folder: Path, collector: str = "on") -> tuple[float, float, int]:
    """CPU seconds, peak memory in MB and the number of events, of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), collector],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=as_users_have_it(POLARS_MAX_THREADS="1"),
    )
    seconds, peak, events = done.stdout.split()
    return float(seconds), float(peak), int(events)


def events_of(write: Writer, name: str, times: int) -> int:
    """How many events a log of that length has; 0 where it can't be read."""
    with tempfile.TemporaryDirectory() as place:
        try:
            write(Path(place), times)
            runs = loaders.load(place, progress=False)
        except (loaders.LoadError, KeyError, ValueError, TypeError, IndexError):
            return 0
        if runs.trajectories.filter(pl.col("format") != name).collect().height:
            return 0
        return runs.events.collect().height


def best_way(sources: list[Source], name: str) -> tuple[str, Writer]:
    """The first way in which a log gets longer in events, too."""
    *ways, last = writers(sources)
    for way, write in ways:
        events = events_of(write, name, 2)
        if events_of(write, name, 6) - events > 0.9 * 2 * events > 0:
            return way, write
    return last


def measure(sources: list[Source], name: str, most_times: int, most: float) -> dict[str, Any]:
    """Exponents and the numbers at the largest size; what looks steep is measured again."""
    way, write = best_way(sources, name)
    size = sum(source.size for source in sources)
    base = max(1, math.ceil(BASE_BYTES / max(1, size)))
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, str(n)) for n in (1, 4, 16, 64, 256) if n <= most_times]
        for folder in folders:
            folder.mkdir()
            write(folder, int(folder.name) * base)
        sizes = [sum(f.stat().st_size for f in one.rglob("*") if f.is_file()) for one in folders]
        growth = math.log((sizes[-1] - sizes[0]) / (sizes[-2] - sizes[0]))
        found = [read(folder) for folder in folders]
        for _ in range(ROUNDS - 1):
            if _exponent([seconds for seconds, _, _ in found]) / growth <= most:
                break
            found = [min(one, read(folder)) for one, folder in zip(found, folders, strict=True)]
        uncollected = None
        if _exponent([seconds for seconds, _, _ in found]) / growth > most:
            runs = [[read(folder, "off")[0] for folder in folders] for _ in range(ROUNDS)]
            uncollected = _exponent([min(column) for column in zip(*runs, strict=True)]) / growth
    seconds, peaks, _ = (list(column) for column in zip(*found, strict=True))
    return {
        "way": way,
        "megabytes": sizes[-1] / 1e6,
        "seconds": seconds,
        "peak": peaks[-1],
        "time_exponent": _exponent(seconds) / growth,
        "uncollected": uncollected,
        "memory_exponent": _exponent(peaks) / growth,
    }


def _exponent(values: list[float]) -> float:
    """The logarithm of the growth in the last step, without what the smallest input costs."""
    first, *_, before, last = values
    return math.log(max(last - first, 1e-3) / max(before - first, 1e-3))


def samples(folders: list[Path], wanted: set[str]) -> dict[str, list[Source]]:
    """For each format the largest log with events up to ``LARGEST_SAMPLE``, else the smallest."""
    found: dict[str, list[tuple[bool, int, Format, list[Source]]]] = {}
    for folder in folders:
        for chosen, sources, _ in grouped(folder):
            if not wanted or chosen.name in wanted:
                size = sum(source.size for source in sources)
                is_large = size > LARGEST_SAMPLE
                rank = size if is_large else -size
                found.setdefault(chosen.name, []).append((is_large, rank, chosen, sources))
    best: dict[str, list[Source]] = {}
    for name, ranked in sorted(found.items()):
        ranked.sort(key=lambda one: one[:2])
        with_events = (sources for _, _, chosen, sources in ranked if has_events(chosen, sources))
        best[name] = next(with_events, ranked[0][3])
    return best


def has_events(chosen: Format, sources: list[Source]) -> bool:
    """Whether there is anything in a log; some samples are of sessions in which nothing happened."""
    builder = Builder()
    read_source(chosen, sources, builder)
    return builder.frames()["events"].height > 0


def main(arguments: list[str]) -> int:
    """Print the table; 1 where an exponent of time is above ``--most``."""
    options = dict(a.lstrip("-").split("=") for a in arguments if "=" in a)
    folders = [Path(a) for a in arguments if not a.startswith("--")]
    folders = folders or [ROOT / "sample_logs", ROOT / "tests" / "inspect_logs"]
    with tempfile.TemporaryDirectory() as place:
        write_here(Path(place))
        return tell([*folders, Path(place)], options, is_kept="--write" in arguments)


def write_here(folder: Path) -> None:
    """Logs of formats of which none is public."""
    for sample in WRITTEN_HERE:
        path = folder / sample.name
        path.parent.mkdir(parents=True)
        path.write_bytes(sample.data)


def tell(folders: list[Path], options: dict[str, str], is_kept: bool) -> int:
    """Print a row for each format, and keep the table if that is wanted; 1 if one is above the most."""
    wanted = set(options.get("formats", "").split(",")) - {""}
    times, most = int(options.get("times", 64)), float(options.get("most", 1.05))
    lines = [
        "| format | made longer by | MB | seconds at 1, 4, 16, 64 times | peak MB | time ~ size^k | memory ~ size^k |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    print(*lines, sep="\n")
    worst: list[str] = []
    for name, sources in samples(folders, wanted).items():
        try:
            found = measure(sources, name, times, most)
        except subprocess.CalledProcessError as error:
            print(f"| `{name}` | not measured: {error.stderr.strip().splitlines()[-1]} | | | | | |")
            continue
        without = found["uncollected"]
        collected = "" if without is None else f" ({without:.2f})"
        if min(found["time_exponent"], without or most) > most:
            worst.append(name)
        lines.append(
            f"| `{name}` | {found['way']} | {found['megabytes']:.1f} "
            f"| {', '.join(f'{s:.2f}' for s in found['seconds'])} | {found['peak']:.0f} "
            f"| {found['time_exponent']:.2f}{collected} | {found['memory_exponent']:.2f} |"
        )
        print(lines[-1], flush=True)
    if is_kept:
        put("growth", "\n".join(lines))
    if worst:
        print(f"\nabove {most}: {', '.join(worst)}")
    return bool(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
