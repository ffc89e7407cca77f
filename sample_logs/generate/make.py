"""Make all sample logs and their truth: ``python sample_logs/generate/make.py``.

Each runner (``run_*.py``) is a script of its own with pinned dependencies, which ``uv`` installs
apart from the project's. With ``--limit`` a few tasks go through every framework, as a check; with
``--only`` some runners alone run, and the truth of all others stays as it is written. With ``--truth``
nothing runs: the planted effects are worked out anew, and the truth is written.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import truth

HERE = Path(__file__).resolve().parent
MARK = (
    "Every log in this folder and below it is simulated: real frameworks wrote it, a simulated agent stood "
    "in\nfor the model. Loaders look for a file of this name and mark the runs, see loaders/marks.py.\n"
)
STUDY = ("run_inspect.py", "run_study_agents.py")
REPLAYS = 40


def runners() -> list[str]:
    """Every runner, the study's first."""
    names = {path.name for path in HERE.glob("run_*.py")}
    return [*STUDY, *sorted(names.difference(STUDY))]


def main() -> None:
    """Run the runners, then write the truth beside the logs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where the logs go")
    parser.add_argument("--limit", type=int, help="the first N tasks only")
    parser.add_argument(
        "--replays", type=int, default=REPLAYS, help="of the study, for the planted effects"
    )
    parser.add_argument("--only", nargs="+", metavar="RUNNER", help="such as run_mini_swe.py")
    parser.add_argument("--truth", action="store_true", help="work out the planted effects alone")
    parser.add_argument("--uv", default="uv", help="the command that runs the runners")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    parts = out / "truth_parts"
    only = [] if options.truth else options.only or runners()
    is_partial = options.truth or bool(options.only)
    if not is_partial:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    for runner in only:
        command = [options.uv, "run", "--script", str(HERE / runner), str(out)]
        command += ["--limit", str(options.limit)] if options.limit else []
        print("running", runner, flush=True)
        subprocess.run(command, check=True)
    with (parts / "lock").open("w") as lock:  # several may be making some of the logs at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_known = bool(options.only) and (out / "truth.json").exists()
        write(out, parts, 0 if is_known else options.replays, keep=is_partial)
    print("wrote", out)


def write(out: Path, parts: Path, replays: int, keep: bool) -> None:
    """Write the truth from the new parts, and from what is written already where that is kept."""
    path = out / "truth.json"
    written = json.loads(path.read_text(encoding="utf-8")) if keep and path.exists() else None
    new = {part.stem: json.loads(part.read_text(encoding="utf-8")) for part in parts.glob("*.json")}
    everything = truth.gather(dict(new), replays, written)
    path.write_text(truth.as_json(everything), encoding="utf-8")
    (out / "SIMULATED").write_text(MARK, encoding="utf-8")
    (out / "TRUTH.md").write_text(pages.as_markdown(everything), encoding="utf-8")
    for name in new:
        (parts / f"{name}.json").unlink()
    if not list(parts.glob("*.json")):
        shutil.rmtree(parts)


if __name__ == "__main__":
    sys.exit(main())
