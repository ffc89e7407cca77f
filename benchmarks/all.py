"""All measurements of speed, memory and growth, one after the other, each written into its page.

    uv run --with orjson --with duckdb --extra dask python benchmarks/all.py [NAME ...]

Takes some hours, and an idle machine: two processes that wait for each other are measured as well.
NAMEs run only those. Readers of other projects are installed into environments of their own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SCRIPTS: dict[str, list[str]] = {
    "reading": ["--write"],
    "store": ["--write"],
    "peers": ["--write"],
    "growth": ["--write"],
    "analyses": ["1e7", "--write"],
    "hazard": [],
    "widgets": [],
}
"""Each with what it is given."""


def main(names: list[str]) -> None:
    """Run the named scripts, or all; one that fails is told at the end and the others run."""
    if unknown := set(names) - SCRIPTS.keys():
        raise SystemExit(f"no such measurement: {sorted(unknown)}; there are {sorted(SCRIPTS)}")
    failed: list[str] = []
    for name in names or SCRIPTS:
        print(f"\n# {name}", flush=True)
        began = time.monotonic()
        script = Path(__file__).with_name(f"{name}.py")
        done = subprocess.run([sys.executable, str(script), *SCRIPTS[name]], check=False)
        failed += [name] if done.returncode else []
        print(f"{name}: {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
