"""Which frameworks send a model's earlier thinking back to it, as Markdown.

    uv run python benchmarks/sent_back.py [--write]

Counted in the sample logs: real frameworks ran against a simulated model, and what some of them
sent was recorded on the wire. With ``--write`` the table goes into the README of the project. No
true value is read from ``truth.json`` but the versions, which few logs name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl

import loaders
from analysis import thinking
from analysis.results import Result

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_logs"
README = HERE.parent / "README.md"
HEADER = ("framework", "style", "runs", "calls", "blocks sent back", "policy", "in its log", "from")
STUDY = "study"
"""Inspect's part: of the study the runs of one model that nothing was done to, for each of its options."""
_STUDY_LOGS = "*/planner-1/inspect/none.eval"
_ITEMS = ".items.json"


def parts() -> dict[str, tuple[str, str]]:
    """Framework and version behind each part of the sample logs."""
    told = json.loads((SAMPLES / "truth.json").read_text())
    inspect = {STUDY: ("inspect_ai", told["study"]["versions"]["inspect"])}
    others = {name: (part["framework"], part["version"]) for name, part in told["parts"].items()}
    return inspect | others


def logs_in(folder: Path) -> list[Path]:
    """The framework's own logs. Where items of a run lie beside its trace, the trace is left out.

    Such a trace names the responses that it is about and holds nothing of them.
    """
    if folder.name == STUDY:
        return sorted(folder.glob(_STUDY_LOGS))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "wire.har"]
    items = (path for path in files if path.name.endswith(_ITEMS))
    traces = {path.with_name(path.name.replace(_ITEMS, ".trace.jsonl")) for path in items}
    return sorted(path for path in files if path not in traces)


def seen(part: str) -> loaders.Trajectories:
    """The runs of one part with its recordings, labelled with the style in which it thinks."""
    folder = SAMPLES / "study" if part == STUDY else SAMPLES / "frameworks" / part
    runs = loaders.load(logs_in(folder))
    if wires := sorted(folder.rglob("wire.har")):
        runs = loaders.attach_wire(runs, wires)
    framework, version = parts()[part]
    sources = runs.trajectories.select("source").unique().collect()["source"].to_list()
    styles = [Path(source).relative_to(folder).parts[0] for source in sources]
    names = {"framework": framework, "framework_version": version}
    columns = {name: pl.lit(value) for name, value in names.items()}
    labels = pl.DataFrame({"source": sources, "style": styles}).with_columns(**columns)
    return runs.label(labels, on="source")


def results() -> list[Result]:
    """``analysis.thinking.sent_back`` for each part."""
    return [thinking.sent_back(seen(part), by="style") for part in parts()]


def table(found: list[Result]) -> str:
    """The rows for which some request is known, and the names of the others."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    unknown: list[str] = []
    for result in found:
        for row in result.frame.iter_rows(named=True):
            if row["calls_due"]:
                lines.append(f"| {' | '.join(_cells(row))} |")
            else:
                unknown.append(f"{row['framework']} {row['style']}")
    return "\n".join(lines) + f"\n\nUnknown, for want of a recorded request: {', '.join(unknown)}."


def _cells(row: dict[str, Any]) -> list[str]:
    known = row["runs"] - row["unknown"]
    logged, thought = row["calls_logged"], row["calls_thinking"]
    part = f" ({logged} of {thought} calls)" if 0 < logged < thought else ""
    return [
        f"{row['framework']} {row['framework_version']}",
        row["style"],
        f"{known} of {row['runs']}" if row["unknown"] else str(known),
        f"{row['calls_due']:,}",
        f"{row['blocks_sent']:,} of {row['blocks_due']:,}",
        row["policy"],
        ", ".join(row["in_log"]) + part,
        ", ".join(row["evidence"]),
    ]


if __name__ == "__main__":
    counted = table(results())
    print(counted)
    if "--write" in sys.argv:
        from tables import put

        put("sent back", f"\n{counted}\n", README)
