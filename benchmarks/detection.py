"""Precision and recall of the rules for broken tool responses on all real logs that know the truth.

``uv run python benchmarks/detection.py LOGS [--write]``: LOGS is a folder of folders of logs; without it
only the sample study is measured, whose truth says which responses its world perturbed. Flags, exit
codes and exit statuses in words are hidden from the rules; see ``analysis.perturbations.quality`` for the
protocol. ``--write`` puts the tables into ``detection.md``.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Literal

import polars as pl
from tables import put

import loaders
from analysis import perturbations
from analysis.signals import responses
from loaders import LoadError, Trajectories

PAGE = Path(__file__).parent / "detection.md"
LOOKED_AT = [
    "agentdojo",
    "bedrock_converse",
    "codex",
    "copilot",
    "droid",
    "hermes",
    "intercode",
    "mini_swe_agent",
    "openhands_v0",
    "openinference",
    "qwen_code",
    "tau2",
]
"""Every other format in alphabetical order: the rules were written on these, then measured on the rest."""

_CUT = ("...", "[trimmed for fixture]")
"""What stands in published samples in the place of a response's text."""

ARM = ["policy", "model", "scaffold"]


def truth_of(runs: Trajectories) -> pl.DataFrame:
    """Flags and exit codes, less those of InterCode that are of another turn.

    Its ``valid_action`` is that of the last command that was executed; ``submit`` executes none, and neither
    does an action that the harness could not parse.
    """
    told = responses(runs).select("run", "seq", "tool", "text")
    executed = (pl.col("tool") != "submit") & ~pl.col("text").str.starts_with(
        "Error executing query: Your last `execute` action did not contain bash code"
    )
    of_intercode = runs.trajectories.filter(pl.col("format") == "intercode").select("run").collect()
    others = told.join(of_intercode, on="run", how="anti")
    kept = pl.concat([others, told.join(of_intercode, on="run", how="semi").filter(executed)])
    is_cut = pl.col("truth") & pl.col("text").str.strip_chars().is_in(_CUT)
    return (
        perturbations.known_truth(runs)
        .join(kept.select("run", "seq", "text"), on=["run", "seq"])
        .with_columns(pl.when(is_cut).then(pl.lit("silent")).otherwise("why").alias("why"))
        .drop("text")
    )


def as_logged(runs: Trajectories) -> pl.DataFrame:
    """Flags and exit codes as the logs have them, without regard to what they can decide."""
    flag, code = pl.col("is_error"), pl.col("exit_code")
    return (
        responses(runs)
        .filter(flag.is_not_null() | code.is_not_null())
        .select(
            "run", "seq", (flag.fill_null(value=False) | (code != 0).fill_null(value=False)).alias("truth")
        )
    )  # fmt: skip


def scores(runs: Trajectories, by: Literal["family", "code"] = "family") -> pl.DataFrame:
    """The rows of ``quality``."""
    return perturbations.quality(runs, truth_of(runs), by=by).frame


def table(frame: pl.DataFrame, name: str) -> str:
    """As Markdown; percentages with their intervals."""

    def share(row: dict[str, float | None], what: str) -> str:
        if row[what] is None:
            return "–"
        return f"{row[what]:.3f} [{row[f'{what}_low']:.2f}, {row[f'{what}_high']:.2f}]"

    lines = [
        f"| {name} | responses | broken | flagged | both | precision | recall | silent | undecided |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in frame.iter_rows(named=True):
        counts = [f"{row[n]:,}" for n in ("responses", "broken", "flagged", "hits")]
        shares = [share(row, "precision"), share(row, "recall")]
        rest = [str(row["silent"]), str(row["undecided"])]
        lines.append("| " + " | ".join([row[name], *counts, *shares, *rest]) + " |")
    return "\n".join(lines)


def study_truth(runs: Trajectories, truth: Path) -> pl.DataFrame:
    """Which responses of the sample study its world perturbed: ``code`` is the kind of perturbation."""
    arms = json.loads(truth.read_text(encoding="utf-8"))["study"]["arms"]
    told = pl.DataFrame(
        [
            {**{name: arm[name] for name in ARM}, "task_id": task, "trial": trial, "step": struck}
            for arm in arms
            for (task, trial), struck in zip(
                product(arm["tasks"], map(str, range(1, 5))), arm["struck"], strict=True
            )
        ],
        schema_overrides={"step": pl.List(pl.Int64)},
    ).explode("step")
    labels = runs.trajectories.select("run", *ARM, "task_id", "trial", "perturbation").collect()
    struck = told.drop_nulls("step").join(labels, on=[*ARM, "task_id", "trial"])
    answers = runs.events.filter(pl.col("kind") == "tool_result").select("run", "seq", "step")
    kind = pl.col("perturbation").alias("code")
    return (
        answers.collect()
        .join(struck.select("run", "step", kind), on=["run", "step"], how="left")
        .select("run", "seq", pl.col("code").is_not_null().alias("truth"), "code")
    )


def of_study(samples: Path) -> pl.DataFrame:
    """Recall by kind of perturbation, and precision over all, on the sample study (the timeout rule knows its wording)."""
    runs = loaders.load(f"{samples}/study/{{policy}}/{{model}}/{{scaffold}}/{{perturbation}}.*")
    truth = study_truth(runs, samples / "truth.json")
    found = perturbations.quality(runs, truth, by="code", codes=perturbations.CODES).frame
    return found.filter((pl.col("broken") > 0) | (pl.col("code") == "all"))


def loaded(logs: Path) -> list[Trajectories]:
    """Each folder that can be read."""
    found = []
    for folder in sorted(path for path in logs.iterdir() if path.is_dir()):
        try:
            found.append(loaders.load(folder))
        except LoadError as error:
            print(f"{folder.name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return found


def main() -> None:
    """Measure, print and, if asked, write the tables."""
    folders = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    marked = {"study": table(of_study(PAGE.parent.parent / "sample_logs"), "code")}
    if folders:
        marked["detection"] = of_real_logs(folders[0])
    for mark, text in marked.items():
        print(text)
        if "--write" in sys.argv:
            put(mark, text, PAGE)


def of_real_logs(logs: Path) -> str:
    """All tables but that of the study."""
    parts = loaded(logs)
    everything = parts[0]
    for part in parts[1:]:
        everything = everything + part
    formats = everything.trajectories.select("run", "format").collect()
    rows = []
    for name in formats["format"].unique().sort():
        try:
            frame = scores(everything.filter(pl.col("format") == name))
        except loaders.DerailError:
            continue  # nothing is known to be broken
        rows.append(frame.tail(1).with_columns(pl.lit(name).alias("family")))
    by_format = pl.concat(rows).rename({"family": "format"}).sort("broken", descending=True)
    halves = [
        scores(everything.filter(pl.col("format").is_in(LOOKED_AT) == first))
        .tail(1)
        .with_columns(pl.lit(name).alias("family"))
        for name, first in (("written on", True), ("the others", False))
    ]
    literal = perturbations.quality(everything, as_logged(everything)).frame.tail(1)
    halves.append(literal.with_columns(pl.lit("all, nothing left out").alias("family")))
    tables = [
        table(scores(everything), "family"),
        table(pl.concat(halves).rename({"family": "formats"}), "formats"),
        table(by_format, "format"),
        table(scores(everything, "code"), "code"),
    ]
    return "\n\n".join(tables)


if __name__ == "__main__":
    main()
