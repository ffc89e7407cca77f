"""Load mutated logs of every format, many of them, and say which break what must hold for all.

    uv run python benchmarks/fuzz.py --inputs 100000
    uv run python benchmarks/fuzz.py --only 1234        # one of them again, with its trace

Inputs and the rules are those of ``tests/fuzzing.py``, of which CI runs a part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
_TOLD_EVERY = 5_000
_BATCH = 50


def batch(first: int) -> list[tuple[int, str, str]]:
    """The fate of some inputs: number, what was done to which sample, what became of it."""
    import fuzzing

    fates: list[tuple[int, str, str]] = []
    for number in range(first, first + _BATCH):
        sample, data, done = fuzzing.mutated(number)
        beside = f" beside {len(sample.others)} others" if sample.others else ""
        told = f"{sample.format} {Path(sample.name).name}{beside}, {', '.join(done)}"
        try:
            fates.append((number, told, fuzzing.check(sample.name, data, sample.others)))
        except fuzzing.Broken as error:
            fates.append((number, told, f"BROKEN {error}"))
    return fates


def main() -> int:
    """Run it; 1 where anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, help="one input by its number")
    given = parser.parse_args()
    if given.only is not None:
        import fuzzing

        sample, data, done = fuzzing.mutated(given.only)
        print(sample.format, sample.name, done, len(data), "bytes")
        print(fuzzing.check(sample.name, data, sample.others))
        return 0
    started, fates, broken = time.monotonic(), Counter[str](), 0
    firsts = range(given.first, given.first + given.inputs, _BATCH)
    stumbles: dict[str, tuple[int, str]] = {}
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        results: Any = pool.imap_unordered(batch, firsts)
        for fate_of_batch in results:
            for number, told, fate in fate_of_batch:
                kind = fate.split(maxsplit=1)[0].rstrip(":")
                fates[kind] += 1
                if kind == "BROKEN":
                    broken += 1
                    print(f"input {number}: {told}: {fate}", flush=True)
                elif kind == "stumbles":
                    stumbles.setdefault(fate.rpartition("(")[2], (number, fate))
            if sum(fates.values()) % _TOLD_EVERY < len(fate_of_batch):
                print(f"{sum(fates.values()):,} inputs so far: {dict(fates)}", flush=True)
    for number, fate in sorted(stumbles.values()):
        print(f"input {number}: {fate}")
    spent = time.monotonic() - started
    print(f"{sum(fates.values()):,} inputs in {spent:.0f} s: {dict(fates)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
