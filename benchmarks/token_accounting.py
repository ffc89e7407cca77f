"""How often token accounting is right, and how often it must say unknown, as Markdown.

    uv run python benchmarks/token_accounting.py [--write]

On runs with planted policies over a grid of sizes (50 runs of each policy, 10 calls each; medians of
log-normal sizes); on the sample logs, where the traffic with the model is recorded; and on public
logs where they are at hand: of the requests of most of these nothing is known, so only what is told
is shown.

``--write`` keeps it as ``token_accounting.md`` beside this script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from chats import Chat, chats  # noqa: E402 - the simulator is a tool of the tests

import loaders  # noqa: E402
from analysis import thinking  # noqa: E402

SAMPLES = HERE.parent / "sample_logs"
REAL = HERE.parent.parent / "shared" / "real_logs"
POLICIES = ("all", "none", "last", "turn_boundary")
TOLD = pl.col("policy").is_in(POLICIES)


def planted() -> Iterator[str]:
    """Shares told and wrong by the size of thinking against that of responses."""
    yield "| thinking, tokens | responses, tokens | unevenness of tokenising | runs | told | wrong |"
    yield "|---|---|---|---|---|---|"
    for size in (5, 20, 60, 200, 800):
        for response in (200, 1000, 5000):
            for uneven in (0.1, 0.3):
                chat = Chat("all", calls=10, thinking=size, response=response, unevenness=uneven)
                given = [replace(chat, policy=policy) for policy in POLICIES for _ in range(50)]
                found = thinking.token_account(chats(*given, seed=size + response)).with_columns(
                    pl.Series("truth", [one.policy for one in given])
                )
                told = found.filter(TOLD)
                wrong = told.filter(~pl.col("fits").list.contains(pl.col("truth"))).height
                share = f"{told.height / found.height:.0%}"
                yield f"| {size} | {response} | {uneven:.0%} | {found.height} | {share} | {wrong} |"


def recorded() -> Iterator[str]:
    """Sample logs by framework, held against their recorded requests."""
    yield "| logs | runs with a known request | told | right | unknown |"
    yield "|---|---|---|---|---|"
    folders = [SAMPLES / "study", *sorted((SAMPLES / "frameworks").iterdir())]
    for folder in folders:
        runs = loaders.load(folder, progress=False).filter(pl.col("format") != "har")
        for recording in sorted(folder.rglob("*.har")):
            runs = loaders.attach_wire(runs, recording)
        truth = thinking.policy(runs).select("trajectory_id", truth="fits", due="calls_due")
        found = (
            thinking.token_account(runs).join(truth, on="trajectory_id").filter(pl.col("due") > 0)
        )
        told = found.filter(TOLD)
        fits = pl.col("truth").list.set_intersection("fits").list.len() > 0
        right = told.filter(fits).height
        yield f"| {folder.name} | {found.height} | {told.height} | {right} | {found.height - told.height} |"


def public() -> Iterator[str]:
    """What is told of public logs that have usage and no recorded requests."""
    yield "| logs | runs with usage | all | none | turn_boundary | last | unknown | phi of the told, median |"
    yield "|---|---|---|---|---|---|---|---|"
    folders = {path.name: str(path) for path in sorted(REAL.iterdir()) if path.is_dir()}
    folders["bfcl"] = str(REAL / "bfcl" / "results" / "{arm}" / "result")
    for name, folder in folders.items():
        try:
            runs = loaders.load(folder, progress=False)
        except loaders.LoadError:
            continue
        arms = runs.trajectories.select("trajectory_id", "arm").collect()
        found = thinking.token_account(runs).join(arms, on="trajectory_id")
        for (arm,), rows in found.filter(pl.col("reasoning_tokens") > 0).group_by(
            "arm", maintain_order=True
        ):
            counts = [
                (rows["policy"] == policy).sum()
                for policy in ("all", "none", "turn_boundary", "last", "unknown")
            ]
            phi = rows.filter(TOLD)["phi"].median()
            shown = "–" if phi is None else f"{phi:.2f}"
            label = name if arm is None else f"{name}, {arm}"
            yield f"| {label} | {rows.height} | {' | '.join(map(str, counts))} | {shown} |"


def main() -> None:
    """Print the three tables, or keep them."""
    parts = {"Planted policies": planted(), "Recorded requests": recorded()}
    if REAL.is_dir():
        parts["Public logs"] = public()
    lines = [
        "# Token accounting: right, or unknown",
        "",
        (__doc__ or "").split("\n\n")[2].strip(),
        "",
    ]
    for title, rows in parts.items():
        lines += [f"## {title}", "", *rows, ""]
    text = "\n".join(lines)
    if "--write" in sys.argv:
        (HERE / "token_accounting.md").write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
