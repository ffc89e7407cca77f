"""Tool responses of two arms: to the same calls, and how many came back broken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from analysis import perturbations
from analysis.agreement import SAME_CALLS, Arms, agreement, same_calls
from analysis.results import empty_members
from analysis.uncertainty import holm, t_estimate
from loaders import Trajectories

DIFF_SCHEMA: Final = {
    **dict.fromkeys(("a", "b", "axis", "item", "verdict", "detail"), pl.String),
    **dict.fromkeys(("value_a", "value_b"), pl.String),
    **dict.fromkeys(("between", "within_a", "within_b"), pl.Float64),
    **dict.fromkeys(("units", "units_differ", "units_unknown"), pl.Int64),
}
_MIN_RESPONSES: Final = 10


@dataclass(frozen=True)
class DiffPart:
    """Rows of a comparison of arms, and the runs behind them."""

    frame: pl.DataFrame
    members: pl.DataFrame


def answers_to_same_calls(runs: Trajectories, arms: Arms) -> DiffPart:
    """Whether calls that both arms made alike, after the same calls and responses, were answered alike."""
    columns_of_runs = arms.table.select("run", "side", "cluster", pl.col("unit").alias("pair"))
    answers = same_calls(runs).join(columns_of_runs, on="run")
    if not arms.is_paired or answers.is_empty():
        return DiffPart(pl.DataFrame(schema=DIFF_SCHEMA), empty_members("axis", "item"))
    facts = answers.select(
        pl.lit("tool_responses").alias("axis"),
        pl.lit(SAME_CALLS).alias("item"),
        pl.struct("pair", "asked").alias("unit"),
        "cluster",
        "side",
        pl.col("answer").cast(pl.String).alias("value"),
        pl.lit(1, pl.Int64).alias("n"),
    )
    asked_by_both = facts.filter(pl.col("side").n_unique().over("unit") == 2)
    table, per_unit = agreement(asked_by_both, ["axis", "item"], arms.a, arms.b)
    if table.is_empty():
        return DiffPart(pl.DataFrame(schema=DIFF_SCHEMA), empty_members("axis", "item"))
    detail = pl.format(
        "{} calls that both arms made alike; answered otherwise at {}", "units", "units_differ"
    )
    frame = table.with_columns(
        detail.alias("detail"), a=pl.lit(arms.a), b=pl.lit(arms.b), value_a=None, value_b=None
    ).select(pl.col(name).cast(kind) for name, kind in DIFF_SCHEMA.items())
    differs = frame["units_differ"].item() > 0
    behind = per_unit.filter(pl.col("between") > 0) if differs else per_unit
    tasks = behind.select(pl.col("unit").struct.field("pair").alias("unit")).unique()
    members = arms.table.join(tasks, on="unit", how="semi", maintain_order="left").select(
        pl.lit("tool_responses").alias("axis"),
        pl.lit(SAME_CALLS).alias("item"),
        "trajectory_id",
        pl.col("side").alias("role"),
    )
    return DiffPart(frame, members)


def rates_of_broken(runs: Trajectories, arms: Arms) -> pl.DataFrame:
    """Shares of broken responses by code, and of faults that a harness says it planted."""
    events = (
        runs.events.filter(pl.col("kind") == "tool_result")
        .select("run", pl.col("injected").is_not_null().alias("planted"))
        .collect()
    )
    labels = arms.table.select("run", "cluster", "side")
    answered = events.join(labels, on="run")
    if answered.is_empty():
        return pl.DataFrame(schema=DIFF_SCHEMA)
    per_cluster = answered.group_by("cluster", "side").agg(pl.len().alias("of"))
    sizes = {side: answered.filter(pl.col("side") == side).height for side in (arms.a, arms.b)}
    found = perturbations.detect(runs).select(
        "run", pl.format("perturbed: {}", "code").alias("item")
    )
    planted = answered.filter("planted").select("run", pl.lit("planted faults").alias("item"))
    hits = (
        pl.concat([found, planted])
        .join(labels, on="run")
        .group_by("item", "cluster", "side")
        .agg(pl.len().alias("hits"))
    )
    rows = [
        _rate_row(
            str(item), per_cluster.join(group, on=["cluster", "side"], how="left"), arms, sizes
        )
        for (item,), group in hits.sort("item").group_by("item", maintain_order=True)
    ]
    adjusted = holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        enough = min(sizes.values()) >= _MIN_RESPONSES and not math.isnan(p)
        row["verdict"] = "unknown" if not enough else "differ" if p < 0.05 else "vary"
    rows.sort(key=lambda row: row["order"])
    return pl.DataFrame(
        [{name: row.get(name) for name in DIFF_SCHEMA} for row in rows], schema=DIFF_SCHEMA
    )


def _rate_row(item: str, table: pl.DataFrame, arms: Arms, sizes: dict[str, int]) -> dict[str, Any]:
    """The difference of two shares of responses, with a CR1 standard error over tasks."""
    table = table.with_columns(pl.col("hits").fill_null(0))
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    residuals: list[pl.DataFrame] = []
    for side, sign in ((arms.a, -1), (arms.b, 1)):
        rows = table.filter(pl.col("side") == side)
        counts[side] = int(rows["hits"].sum())
        rates[side] = counts[side] / max(1, sizes[side])
        error = sign * (pl.col("hits") - rates[side] * pl.col("of")) / max(1, sizes[side])
        residuals.append(rows.select("cluster", error.alias("error")))
    sums = pl.concat(residuals).group_by("cluster").agg(pl.col("error").sum())["error"]
    clusters = sums.len()
    se = (
        math.sqrt(clusters / (clusters - 1) * float((sums * sums).sum()))
        if clusters > 1
        else math.nan
    )
    difference = rates[arms.b] - rates[arms.a]
    estimate = t_estimate(difference, se, clusters, sum(sizes.values()))
    shares = {
        label: f"{100 * rates[side]:.1f} % ({counts[side]} of {sizes[side]})"
        for label, side in (("value_a", arms.a), ("value_b", arms.b))
    }
    interval = (
        f" [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}] clustered by task"
        if clusters > 1
        else ""
    )
    return {
        "a": arms.a,
        "b": arms.b,
        "axis": "tool_responses",
        "item": item,
        **shares,
        "detail": f"{100 * difference:+.1f} points{interval}",
        "units": clusters,
        "p": estimate.p,
        "order": -sum(counts.values()),
    }


def members_of_broken(arms: Arms, frame: pl.DataFrame) -> pl.DataFrame:
    """The runs behind the rows of ``rates_of_broken``: all, for each is a share of all responses."""
    items = frame.filter(
        pl.col("axis") == "tool_responses",
        pl.col("between").is_null(),
        pl.col("value_a").is_not_null(),
    )
    return items.select("axis", "item").join(
        arms.table.select("trajectory_id", pl.col("side").alias("role")), how="cross"
    )
