"""How often intervals hold the planted truth, and how often a true null is rejected.

``uv run python benchmarks/calibration.py [DRAWS] [--keep FOLDER] [--write]``: a thousand data sets of
each setting by default (a quarter of them where power is measured, three times as many where a draw is
quick), in two processes, with fixed seeds; about half an hour on two free cores. Batches are kept in
FOLDER, so that a run which was stopped goes on where it was; 0 draws gives the table of what is there.
``--write`` puts the table into ``calibration.md``. ``--only "outcomes, null" --from 100000`` draws one
setting again with other seeds. What is drawn stands in ``tests/calibrate.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for threads in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # each process has one core

import polars as pl  # noqa: E402 - reads the number of threads as it is imported

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
POWER = {"330 failures", "1,650 failures"}
QUICK = {"outcomes", "outcomes, null"}
PROCESSES = 2
BATCH = 10


def truths(setting: str) -> list[dict[str, Any]]:
    """The truths of a setting as rows."""
    from calibrate import truths_of

    return [{"analysis": a, "quantity": q, "truth": v} for (a, q), v in truths_of(setting).items()]


def drawn(setting: str, seeds: range, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of these seeds."""
    from calibrate import draw

    of_setting = {(row["analysis"], row["quantity"]): row["truth"] for row in known}
    return [row for seed in seeds for row in draw(setting, seed, of_setting)]


def everything(draws: int, keep: Path, first: int = 0, only: str | None = None) -> pl.DataFrame:
    """A row per setting, analysis, quantity and draw; batches that ``keep`` holds are not made again."""
    from calibrate import SETTINGS

    keep.mkdir(parents=True, exist_ok=True)
    wanted = [
        (setting, start)
        for start in range(first, first + 3 * draws, BATCH)
        for setting in ([only] if only else SETTINGS)
        if setting in QUICK or start < first + draws
        if setting not in POWER or start % (4 * BATCH) == 0
    ]

    def file(setting: str, what: object) -> Path:
        return keep / f"{setting.replace(', ', '_').replace(' ', '_')}-{what}.json"

    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        used = dict.fromkeys(setting for setting, _ in wanted)
        unknown = [setting for setting in used if not file(setting, "truth").exists()]
        for setting, found in zip(unknown, pool.map(truths, unknown), strict=True):
            file(setting, "truth").write_text(json.dumps(found))
        known = {setting: json.loads(file(setting, "truth").read_text()) for setting in used}
        missing = [(s, start) for s, start in wanted if not file(s, start).exists()]
        jobs = {
            pool.submit(drawn, s, range(start, start + BATCH), known[s]): (s, start)
            for s, start in missing
        }
        for number, job in enumerate(as_completed(jobs)):
            file(*jobs[job]).write_text(json.dumps(job.result()))
            print(f"\r{number + 1} of {len(missing)} batches", end="", file=sys.stderr)
    return gathered(keep)


def gathered(keep: Path) -> pl.DataFrame:
    """All batches that are there, settings in their order."""
    from calibrate import SETTINGS

    batches = [json.loads(f.read_text()) for f in keep.glob("*.json") if "truth" not in f.name]
    rows = pl.DataFrame([row for batch in batches for row in batch], infer_schema_length=None)
    return rows.sort(pl.col("setting").cast(pl.Enum(SETTINGS)), maintain_order=True)


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Coverage and rejections by setting, analysis and quantity."""
    keys = ("setting", "analysis", "quantity")
    return rows.group_by(*keys, maintain_order=True).agg(
        pl.len().alias("draws"),
        pl.col("truth").mean(),
        pl.col("estimate").median().alias("median"),
        pl.col("covered").mean(),
        pl.col("rejected").mean(),
        pl.col("is_null").first(),
    )


def verdict(share: float, draws: int, low: float, high: float) -> str:
    """Whether a share lies in a band, as far as so many draws tell (exact 95 % interval)."""
    from scipy import stats

    found = stats.binomtest(round(share * draws), draws).proportion_ci()
    if low <= found.low and found.high <= high:
        return "met"
    return "not met" if found.high < low or found.low > high else "undecided"


def judged(found: pl.DataFrame) -> pl.DataFrame:
    """The same with what the criteria say: of coverage (``held``), and of a null rejected (``kept``).

    ``held_low``, ``held_high`` and ``kept_high`` are the bounds; null where there is no criterion.
    """
    loose = pl.col("setting") == "confounded"
    trap = loose & (pl.col("analysis") == "hazard, one level")  # shown as it is, not hoped for
    tests = pl.col("rejected").is_not_null() & pl.col("is_null")
    bounds = found.with_columns(
        pl.when(~trap).then(0.93).alias("held_low"),
        pl.when(~trap).then(pl.when(loose).then(0.98).otherwise(0.97)).alias("held_high"),
        pl.when(~trap & tests).then(pl.when(loose).then(0.08).otherwise(0.06)).alias("kept_high"),
    )
    rows = list(bounds.iter_rows(named=True))
    held = [
        None
        if row["held_low"] is None
        else verdict(row["covered"], row["draws"], row["held_low"], row["held_high"])
        for row in rows
    ]
    kept = [
        None
        if row["kept_high"] is None
        else verdict(row["rejected"], row["draws"], 0, row["kept_high"])
        for row in rows
    ]
    return bounds.with_columns(
        pl.Series("held", held, pl.String), pl.Series("kept", kept, pl.String)
    )


def in_short(found: pl.DataFrame) -> str:
    """How many rows meet each criterion, by the share itself and beyond its Monte Carlo error."""
    inside = {
        "held": pl.col("covered").round(4).is_between("held_low", "held_high"),
        "kept": pl.col("rejected").round(4) <= pl.col("kept_high"),
    }
    said = {"held": "Coverage in its band", "kept": "Null rejected seldom enough"}
    lines: list[str] = []
    for column, what in said.items():
        asked = found.drop_nulls(column)
        counts = dict(asked[column].value_counts().iter_rows())
        told = ", ".join(
            f"{counts.get(name, 0)} {name}" for name in ("met", "undecided", "not met")
        )
        lines.append(f"- {what}: {asked.filter(inside[column]).height} of {asked.height}; {told}.")
        for verdict, rows in (
            ("outside, undecided", asked.filter(~inside[column], pl.col(column) != "not met")),
            ("not met", asked.filter(pl.col(column) == "not met")),
        ):
            share = "covered" if column == "held" else "rejected"
            lines += [
                f"  - {verdict}: {row['setting']} / {row['analysis']} / {row['quantity']} ({row[share]:.3f})"
                for row in rows.iter_rows(named=True)
            ]
    return "\n".join(lines)


def table(found: pl.DataFrame) -> str:
    """The table as Markdown."""
    lines = [
        "| setting | analysis | quantity | draws | truth | median estimate | coverage | +- | | rejected | |",
        "|---|---|---|---:|---:|---:|---:|---:|---|---:|---|",
    ]
    for row in found.iter_rows(named=True):
        rejected = "" if row["rejected"] is None else f"{100 * row['rejected']:.1f} %"
        if row["is_null"] and rejected:
            rejected = f"null: {rejected}"
        error = (row["covered"] * (1 - row["covered"]) / row["draws"]) ** 0.5
        lines.append(
            f"| {row['setting']} | {row['analysis']} | {row['quantity']} | {row['draws']:,} | "
            f"{row['truth']:.3f} | {row['median']:.3f} | {row['covered']:.3f} | {error:.3f} | "
            f"{row['held'] or ''} | {rejected} | {row['kept'] or ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Draw, print and, if asked, write the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("draws", type=int, nargs="?", default=1_000)
    asked.add_argument("--keep", type=Path, help="folder of the batches")
    asked.add_argument("--write", action="store_true", help="put the table into calibration.md")
    asked.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    asked.add_argument("--only", help="one setting")
    given = asked.parse_args()
    keep = given.keep or Path(tempfile.mkdtemp(prefix="calibration-"))
    rows = everything(given.draws, keep, given.first, given.only) if given.draws else gathered(keep)
    found = judged(summary(rows))
    text = f"{in_short(found)}\n\n{table(found)}"
    print(text)
    if given.write:
        from tables import put

        put("calibration", text, HERE / "calibration.md")


if __name__ == "__main__":
    main()
