"""Make all sample logs and their truth: ``python sample_logs/generate/make.py``.

Each runner (``run_*.py``) is a script of its own with pinned dependencies, which ``uv`` installs
apart from the project's. With ``--limit`` a few tasks go through every framework, as a check; with
``--only`` some runners alone run, and the truth of all others stays as it is written.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import truth

HERE = Path(__file__).resolve().parent
STUDY = "run_inspect.py"
PLAYS = 40


def runners() -> list[str]:
    """Every runner, the study's first."""
    names = {path.name for path in HERE.glob("run_*.py")}
    return [STUDY, *sorted(names - {STUDY})]


def main() -> None:
    """Run the runners, then write the truth beside the logs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where the logs go")
    parser.add_argument("--limit", type=int, help="the first N tasks only")
    parser.add_argument("--plays", type=int, default=PLAYS, help="plays per task for the truth")
    parser.add_argument("--only", nargs="+", metavar="RUNNER", help="such as run_mini_swe.py")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    parts = out / "truth_parts"
    if not options.only:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    for runner in options.only or runners():
        command = ["uv", "run", "--script", str(HERE / runner), str(out)]
        command += ["--limit", str(options.limit)] if options.limit else []
        print("running", runner, flush=True)
        subprocess.run(command, check=True)
    with (parts / "lock").open("w") as lock:  # several may be making some of the logs at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        write(out, parts, options.plays, keep=bool(options.only))
    print("wrote", out)


def write(out: Path, parts: Path, plays: int, keep: bool) -> None:
    """Write the truth from the new parts, and from what is written already where that is kept."""
    path = out / "truth.json"
    written = json.loads(path.read_text(encoding="utf-8")) if keep and path.exists() else None
    new = {part.stem: json.loads(part.read_text(encoding="utf-8")) for part in parts.glob("*.json")}
    everything = truth.gather(new, plays, written)
    path.write_text(truth.as_json(everything), encoding="utf-8")
    (out / "TRUTH.md").write_text(truth.as_markdown(everything), encoding="utf-8")
    for name in new:
        (parts / f"{name}.json").unlink()
    if not list(parts.glob("*.json")):
        shutil.rmtree(parts)


if __name__ == "__main__":
    sys.exit(main())
