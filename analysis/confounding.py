"""What makes comparisons of runs wrong, measured: immortal time, difficulty of tasks, length of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from analysis.exposures import GROUPS, OF_CODES, met_first
from analysis.outcomes import judged
from analysis.uncertainty import clustered_mean, holm
from loaders import Trajectories

MIN_TASKS: Final = 10
_ALPHA: Final = 0.05


@dataclass(frozen=True)
class Finding:
    """A flaw that these runs show: what is wrong, in a sentence with numbers, and the runs behind it."""

    says: str
    ids: list[str]


def first_met(runs: Trajectories) -> pl.DataFrame:
    """The first call of a run that meets each exposure: ``run``, ``exposure``, ``group``, ``met_at``."""
    name = pl.col("exposure").cast(pl.String)
    group = name.replace_strict(GROUPS, default=OF_CODES).alias("group")
    return met_first(runs).select("run", name, group, "met_at")


def length_and_failure(runs: Trajectories) -> Finding | None:
    """Whether failed runs are longer or shorter than successful runs of the same task.

    Then what runs meet or do *in total* differs between them by length alone. Compared inside tasks
    that have both; at least 10 of them; mean difference of calls with p < .05, clustered by task.
    """
    table = judged(runs, "steps").filter(pl.col("steps") > 0)
    per_task = (
        table.group_by("task", maintain_order=True)
        .agg(
            pl.col("steps").filter(~pl.col("success")).mean().alias("failed"),
            pl.col("steps").filter("success").mean().alias("succeeded"),
            pl.col("trajectory_id"),
        )
        .drop_nulls()
    )
    if per_task.height < MIN_TASKS:
        return None
    found = clustered_mean(
        (per_task["failed"] - per_task["succeeded"]).to_list(), per_task["task"].to_list()
    )
    if found.value == 0 or found.p >= _ALPHA:  # nan where all tasks differ by the same
        return None
    longer = "longer" if found.value > 0 else "shorter"
    return Finding(
        f"Failed runs are {abs(found.value):.1f} calls {longer} than successful ones of the same task "
        f"[{found.low:+.1f}, {found.high:+.1f}], over {found.clusters} tasks: totals per run differ by length alone. "
        "Compare per call (hazard, triggers) and not per run.",
        per_task["trajectory_id"].explode().to_list(),
    )


def difficulty_and_exposure(runs: Trajectories, met: pl.DataFrame | None = None) -> list[Finding]:
    """Exposures that are met more often in tasks that are harder, or easier, *without* them.

    A task's difficulty is taken from its runs that did not meet the exposure, so that no effect of the
    exposure itself is in it: rank correlation over tasks with the share of runs that met it, p < .05
    after Holm, at least 10 tasks with both.
    """
    table = judged(runs)
    met = first_met(runs) if met is None else met
    found: list[tuple[str, float, float, int, list[str]]] = []
    for (name,), rows in met.sort("exposure", "run").group_by("exposure", maintain_order=True):
        has = table.join(rows.select("run", pl.lit(value=True).alias("met")), on="run", how="left")
        has = has.with_columns(pl.col("met").fill_null(value=False))
        tasks = (
            has.group_by("task")
            .agg(
                pl.col("met").mean().alias("share"),
                pl.col("success").filter(~pl.col("met")).mean().alias("without"),
                pl.len().alias("n"),
            )
            .filter(pl.col("n") >= 2)
            .drop_nulls()
        )
        if tasks.height < MIN_TASKS:
            continue
        r, p = _rank_correlation(tasks["share"], tasks["without"])
        if not math.isnan(p):
            ids = has.filter("met")["trajectory_id"].to_list()
            found.append((str(name), r, p, tasks.height, ids))
    adjusted = holm([p for _, _, p, _, _ in found])
    return [
        Finding(
            f"{name} is met more often in {'harder' if r < 0 else 'easier'} tasks (rank correlation {r:+.2f} with the success of "
            f"their runs that did not meet it, {tasks} tasks): compared between tasks it looks "
            f"{'harmful' if r < 0 else 'harmless'} whatever it does. Compare inside tasks (match='task', model='random_intercept').",
            ids,
        )
        for (name, r, _, tasks, ids), p in zip(found, adjusted, strict=True)
        if p < _ALPHA
    ]  # fmt: skip


def _rank_correlation(a: pl.Series, b: pl.Series) -> tuple[float, float]:
    """Spearman's correlation with its t approximation; nan where one side does not vary."""
    from scipy import special

    x, y = a.rank().to_numpy(), b.rank().to_numpy()
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    r = float(np.corrcoef(x, y)[0, 1])
    df = len(x) - 2
    t = abs(r) * math.sqrt(df / max(1 - r * r, 1e-12))
    return r, 2 * float(special.stdtr(df, -t))


def immortal_labels(runs: Trajectories, by: str, met: pl.DataFrame | None = None) -> list[Finding]:
    """Values of ``by`` that say no more than that a run met an exposure at some time.

    Where the runs with a label are just those that ever met an exposure, and they met it later than at the
    first call that could, the label was given afterwards: runs had to last to get it (immortal time). What the harness planted
    itself (``injected``) is assigned and left out.
    """
    met = first_met(runs) if met is None else met
    planted = (
        runs.events.filter(pl.col("injected").is_not_null()).select("run").unique().collect()["run"]
    )
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col(by).is_not_null())
        .select("run", "trajectory_id", pl.col(by).cast(pl.String).alias("label"), "steps")
        .collect()
    )
    found: list[Finding] = []
    if table["label"].n_unique() < 2:
        return found
    for (name,), rows in met.group_by("exposure", maintain_order=True):
        ever = set(rows["run"].to_list()) & set(table["run"].to_list())
        for (label,), group in table.group_by("label", maintain_order=True):
            if set(group["run"].to_list()) != ever or ever & set(planted.to_list()):
                continue
            at = rows.filter(pl.col("run").is_in(list(ever)))["met_at"]
            late = float((at > 1).mean() or 0)  # pyright: ignore[reportArgumentType]
            if late > 0.5:
                found.append(
                    Finding(
                        f"{by} = {label!r} is just the runs that met {name} at any time, {late:.0%} of them after their second "
                        "call: a run had to last to get the label (immortal time), which makes it look good or bad by "
                        f"itself. Ask for triggers(runs, {name!r}) or hazard(runs, {name!r}).",
                        group["trajectory_id"].to_list(),
                    )
                )
    return found  # fmt: skip
