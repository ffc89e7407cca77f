"""All measurements of speed, memory and growth, one after the other, each written into its page.

    uv run --with orjson --with duckdb --extra dask python benchmarks/all.py [NAME ...] [--logs=FOLDER]

Takes some hours, and an idle machine: two processes that wait for each other are measured as well.
NAMEs run only those. Readers of other projects are installed into environments of their own.
Growth is written only with a folder of logs of the formats that the repository has no samples of, for a
table without these would replace the one that has them.
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
    "growth": [],
    "analyses": ["1e7", "--write"],
    "hazard": [],
    "widgets": [],
}
"""Each with what it is given."""
SAMPLES = [
    str(Path(__file__).parent.parent / name) for name in ("sample_logs", "tests/inspect_logs")
]


def main(arguments: list[str]) -> None:
    """Run the named scripts, or all; one that fails is told at the end and the others run."""
    names = [word for word in arguments if not word.startswith("--")]
    for logs in (a.partition("=")[2] for a in arguments if a.startswith("--logs=")):
        SCRIPTS["growth"] = [*SAMPLES, logs, "--write"]
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
