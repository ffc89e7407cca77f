"""Which tool call follows which, in runs that succeed and in runs that fail."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import polars as pl

from analysis.outcomes import judged
from analysis.results import Result
from analysis.uncertainty import benjamini_hochberg, t_estimate
from loaders import Trajectories
from loaders.errors import DerailError

START: Final = "▶ start"
END: Final = "■ end"

MIN_RUNS: Final = 10
"""Fewest successful and failed runs from which a difference is estimated."""

_TOP: Final = 14


def directly_follows(runs: Trajectories, most: int = _TOP) -> Result:
    """The directly-follows graph of tool calls, success minus failure.

    An edge ``source -> target`` is a call of ``target`` right after one of ``source`` in the same run;
    every run begins at ``▶ start`` and ends at ``■ end``. A run's share of an edge is how many of its
    transitions that edge is, so long runs don't count more. The difference is the mean share over
    successful runs less that over failed ones, its standard error clustered by task (the residuals of
    both means are summed within a task), p adjusted by Benjamini-Hochberg over all edges.

    ``frame`` columns: ``source``, ``target``, ``success`` and ``failure`` (mean share of transitions),
    ``difference`` with ``low``, ``high``, ``p``, ``p_adjusted``; ``count_success``, ``count_failure``
    (transitions), ``runs`` (with the edge), ``position`` (mean place of the source in its run, 0 to 1).
    Largest difference first. ``runs(source=..., target=..., role="failure")`` opens the runs.

    ``most``: tools told apart, the most frequent; the others are ``other tools``. A difference is no
    cause: what a failing run does more of may be its answer to trouble.

    Raises ``DerailError`` where fewer than 10 runs succeed or fail, or no tool is called.

    >>> import loaders
    >>> edges = directly_follows(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")).frame
    >>> round(edges["success"].sum(), 9), round(edges["failure"].sum(), 9)
    (1.0, 1.0)
    """
    outcome = judged(runs).select("run", "trajectory_id", "task", "success")
    edges = _transitions(runs, outcome, most)
    outcome = outcome.join(edges.select("run").unique(), on="run", how="semi")
    succeeded, failed = int(outcome["success"].sum()), int((~outcome["success"]).sum())
    if min(succeeded, failed) < MIN_RUNS:
        raise DerailError(
            f"{succeeded} successful and {failed} failed runs call tools; {MIN_RUNS} of each are needed"
        )
    per_run = (
        edges.group_by("run", "source", "target")
        .agg(pl.len().alias("count"), pl.col("place").sum())
        .with_columns((pl.col("count") / pl.col("count").sum().over("run")).alias("share"))
        .join(outcome, on="run")
    )
    frame = (
        per_run.group_by("source", "target")
        .agg(
            (pl.col("share").filter("success").sum() / succeeded).alias("success"),
            (pl.col("share").filter(~pl.col("success")).sum() / failed).alias("failure"),
            pl.col("count").filter("success").sum().cast(pl.Int64).alias("count_success"),
            pl.col("count").filter(~pl.col("success")).sum().cast(pl.Int64).alias("count_failure"),
            pl.len().cast(pl.Int64).alias("runs"),
            (pl.col("place").sum() / pl.col("count").sum()).alias("position"),
        )
        .with_columns((pl.col("success") - pl.col("failure")).alias("difference"))
    )
    frame = _with_intervals(frame, per_run, outcome).sort(
        pl.col("difference").abs(), "source", "target", descending=[True, False, False]
    )
    role = pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")
    return Result(
        kind="directly_follows",
        title="Which call follows which, success minus failure",
        frame=frame.select(
            *("source", "target", "success", "failure", "difference", "low", "high", "p"),
            *("p_adjusted", "count_success", "count_failure", "runs", "position"),
        ),
        method="Mean share of a run's transitions, successful less failed runs; 95 % t interval clustered by "
        "task; Benjamini-Hochberg over all edges.",
        keys=("source", "target"),
        members=per_run.select("source", "target", "trajectory_id", role),
        source=runs,
        warnings=(
            "What failing runs do more of may be their answer to trouble, and no cause of it.",
        ),
        headline=_headline(frame),
    )


def _transitions(runs: Trajectories, outcome: pl.DataFrame, most: int) -> pl.DataFrame:
    """A row per transition: ``run``, ``source``, ``target``, ``place`` (of the source, 0 to 1)."""
    calls = (
        runs.events.filter(pl.col("kind") == "tool_call")
        .select("run", "seq", pl.col("tool").fill_null("(unnamed)").alias("target"))
        .collect()
        .join(outcome.select("run"), on="run", how="semi")
        .sort("run", "seq")
    )
    if calls.is_empty():
        raise DerailError("no run with a known outcome calls a tool")
    frequent = calls["target"].value_counts(sort=True)["target"].head(most)
    calls = calls.with_columns(
        pl.when(pl.col("target").is_in(frequent.implode()))
        .then("target")
        .otherwise(pl.lit("other tools"))
        .alias("target")
    )
    last = calls.group_by("run", maintain_order=True).agg(
        pl.lit(None, calls.schema["seq"]).alias("seq"), pl.lit(END).alias("target")
    )
    place = pl.int_range(pl.len()) / (pl.len() - 1)
    return (
        pl.concat([calls, last.select(calls.columns)])
        .sort("run", "seq", nulls_last=True, maintain_order=True)
        .with_columns(
            pl.col("target").shift(1).over("run").fill_null(START).alias("source"),
            place.over("run").alias("place"),
        )
        .select("run", "source", "target", "place")
    )


def _with_intervals(
    frame: pl.DataFrame, per_run: pl.DataFrame, outcome: pl.DataFrame
) -> pl.DataFrame:
    """Interval and p of each difference: the residuals of both means, summed within tasks.

    A run without the edge has the share 0, so a task's sum is that of its shares less the means times
    its numbers of runs: no row for it is needed.
    """
    sizes = outcome.group_by("task").agg(
        pl.col("success").sum().alias("won"), (~pl.col("success")).sum().alias("lost")
    )
    won, lost = sizes["won"].to_numpy(), sizes["lost"].to_numpy()
    n_won, n_lost, tasks = int(won.sum()), int(lost.sum()), sizes.height
    place = sizes.select("task", pl.int_range(pl.len()).alias("at"))
    weight = pl.when("success").then(1 / n_won).otherwise(-1 / n_lost)
    sums = (
        per_run.join(place, on="task")
        .group_by("source", "target", "at")
        .agg((pl.col("share") * weight).sum().alias("sum"))
        .partition_by("source", "target", as_dict=True)
    )
    rows: list[tuple[float, float, float]] = []
    for source, target, success, failure, difference in frame.select(
        "source", "target", "success", "failure", "difference"
    ).iter_rows():
        part = sums[source, target]
        residual = -(success * won / n_won - failure * lost / n_lost)
        np.add.at(residual, part["at"].to_numpy(), part["sum"].to_numpy())
        se = math.sqrt(tasks / (tasks - 1) * float(residual @ residual)) if tasks > 1 else math.nan
        e = t_estimate(difference, se, tasks, n_won + n_lost)
        rows.append((e.low, e.high, e.p))
    found = pl.DataFrame(rows, schema=["low", "high", "p"], orient="row")
    adjusted = pl.Series("p_adjusted", benjamini_hochberg(found["p"].to_list()))
    return frame.hstack(found.with_columns(adjusted).fill_nan(None))


def _headline(frame: pl.DataFrame) -> str:
    clear = frame.filter(pl.col("p_adjusted") < 0.05)
    if clear.is_empty():
        return "No transition is clearly more frequent in successful or in failed runs."
    told = [
        f"{source} → {target} ({100 * success:.1f} % against {100 * failure:.1f} %)"
        for source, target, success, failure in clear.select(
            "source", "target", "success", "failure"
        )
        .head(3)
        .iter_rows()
    ]
    return f"Success against failure, share of transitions: {'; '.join(told)}."
