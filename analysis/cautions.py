"""All that speaks against a quick comparison of these runs, measured on them, before anything is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.confounding import (
    Finding,
    difficulty_and_exposure,
    first_met,
    immortal_labels,
    length_and_failure,
)
from analysis.manipulation import Expected, manipulation, stragglers
from analysis.outcomes import columns, judged
from analysis.pairing import pair_up
from analysis.results import Result, empty_members
from loaders import Trajectories

CAUTIONS: Final = (
    "immortal time",
    "task confounding",
    "small cells",
    "unpaired arms",
    "non-compliance",
    "length",
)
_MIN_CELL: Final = 10


def cautions(
    runs: Trajectories,
    by: str | None = None,
    *,
    pair: Sequence[str] = ("task_id", "trial"),
    expected: Expected | None = None,
) -> Result:
    """What would make a comparison of these runs wrong, each measured on them.

    ``frame``, a row per finding, or one per caution that finds nothing: ``caution`` (one of ``CAUTIONS``),
    ``applies``, ``why`` (what was found, with numbers, and what to do), ``runs`` behind it.

    * ``immortal time``: a label of ``by`` is just "met this exposure at any time".
    * ``task confounding``: an exposure is met more often in harder tasks; or tasks have one run each, so that difficulty
      can't be told from bad luck.
    * ``small cells``: exposures whose runs, split by outcome, leave a cell under 10.
    * ``unpaired arms``: runs of two arms that have no partner.
    * ``non-compliance``: runs of an arm that were not sent the thinking that the others of it were, or that
      ``expected`` says (``thinking.manipulation``).
    * ``length``: failed runs are longer or shorter than successful ones of the same task.

    ``runs(caution=...)`` opens the runs. The same warnings stand on the analyses that they concern.

    >>> import loaders
    >>> found = cautions(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> set(found.frame["caution"]) == set(CAUTIONS)
    True
    """
    columns(by, runs)
    met = first_met(runs)
    findings: dict[str, list[Finding]] = {
        "immortal time": immortal_labels(runs, by, met) if by else [],
        "task confounding": [*difficulty_and_exposure(runs, met), *_single_runs(runs)],
        "small cells": _small_cells(runs, met),
        "unpaired arms": _unpaired(runs, by, pair) if by else [],
        "non-compliance": _deviating(runs, by, expected) if by else [],
        "length": [found] if (found := length_and_failure(runs)) else [],
    }
    rows = [
        (name, True, found.says, len(found.ids)) for name in CAUTIONS for found in findings[name]
    ]
    rows += [
        (name, False, _NOTHING if by or name not in _NEEDS_ARMS else "not asked: name arms in by=", 0)
        for name in CAUTIONS
        if not findings[name]
    ]  # fmt: skip
    schema = {"caution": pl.String, "applies": pl.Boolean, "why": pl.String, "runs": pl.Int64}
    members = [
        pl.DataFrame({"caution": name, "trajectory_id": found.ids, "role": "concerned"})
        for name in CAUTIONS
        for found in findings[name]
        if found.ids
    ]
    applying = [name for name in CAUTIONS if findings[name]]
    return Result(
        kind="cautions",
        title="What to mind in comparing these runs",
        frame=pl.DataFrame(rows, schema=schema, orient="row"),
        method="Each measured on the runs themselves; what is not found may still be there.",
        keys=("caution",),
        members=pl.concat([empty_members("caution"), *members]).unique(maintain_order=True),
        source=runs,
        warnings=tuple(found.says for name in CAUTIONS for found in findings[name]),
        headline=f"Mind: {', '.join(applying)}." if applying else "Nothing was found.",
    )


_NOTHING: Final = "nothing found"
_NEEDS_ARMS: Final = ("immortal time", "unpaired arms", "non-compliance")


def _single_runs(runs: Trajectories) -> list[Finding]:
    table = judged(runs)
    if table.is_empty() or table.height > table["task"].n_unique():
        return []
    return [
        Finding(
            f"Each of {table.height} tasks has one run: what is met in hard tasks can't be told from what makes runs fail. "
            "Several runs per task could.",
            table["trajectory_id"].to_list(),
        )
    ]  # fmt: skip


def _small_cells(runs: Trajectories, met: pl.DataFrame) -> list[Finding]:
    table = judged(runs)
    found: list[Finding] = []
    for (name,), rows in met.group_by("exposure", maintain_order=True):
        exposed = table.join(rows.select("run"), on="run", how="semi")
        others = table.join(rows.select("run"), on="run", how="anti")
        cells = {
            f"{'did' if side is exposed else 'did not'} meet {name} and {outcome}": side.filter(
                pl.col("success") == (outcome == "succeeded")
            ).height
            for side in (exposed, others)
            for outcome in ("failed", "succeeded")
        }
        least = min(cells, key=lambda cell: cells[cell])
        if cells[least] < _MIN_CELL:
            says = (
                f"{cells[least]} runs {least}: no estimate is given for {name} under {_MIN_CELL}."
            )
            found.append(Finding(says, exposed["trajectory_id"].to_list()))
    return found


def _unpaired(runs: Trajectories, by: str, pair: Sequence[str]) -> list[Finding]:
    keys = columns(pair, runs)
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col(by).is_not_null())
        .select("trajectory_id", *dict.fromkeys((by, *keys)))
        .collect()
        .with_columns(pl.col(by).cast(pl.String))
    )
    arms = table[by].unique().sort().to_list()
    found: list[Finding] = []
    for arm in arms[1:]:
        pairs = pair_up(table, by, arms[0], arm, keys).pairs
        both = [*pairs["trajectory_id_a"].to_list(), *pairs["trajectory_id_b"].to_list()]
        alone = table.filter(pl.col(by).is_in([arms[0], arm]), ~pl.col("trajectory_id").is_in(both))
        if not alone.is_empty():
            found.append(
                Finding(
                    f"{alone.height} runs of {arms[0]!r} and {arm!r} have no partner with the same {', '.join(keys)}: a paired "
                    "comparison leaves them out, and an unpaired one compares other tasks.",
                    alone["trajectory_id"].to_list(),
                )
            )
    return found


def _deviating(runs: Trajectories, by: str, expected: Expected | None) -> list[Finding]:
    check = manipulation(runs, by, expected) if expected else stragglers(runs, by, tokens=True)
    if check is None:
        return []
    return [
        Finding(text, check.runs("deviated").ids)
        for text in check.warnings
        if text.startswith("Non-compliance")
    ]
