"""The five axes on which runs of one task may differ.

Toolset, system prompt, user prompt and environment are fixed before a run's first call. The tool
responses are not: which there are depends on what the agent asks. They are therefore compared only
where two runs had made the same calls and got the same responses so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.agreement import AXES, forks, roots, same_calls
from analysis.armdiff import diff
from analysis.outcomes import columns
from analysis.results import Result
from analysis.sensitivity import surface
from loaders import Trajectories

__all__ = ["axes", "diff", "surface"]

_READINGS = ("differ", "same", "same where known", "unknown", "one run")


def axes(runs: Trajectories, by: str | Sequence[str] = "task_id") -> Result:
    """On which of the five axes the runs of each task (or other group) differ.

    ``frame``: a row per group and ``axis``, with ``reading`` (differ, same, same where known, unknown,
    one run), ``values`` (distinct ones; null where none is known), ``runs``, ``unknown`` (runs whose
    log does not tell; an unknown value is never taken for the same), ``sizes`` (runs per value,
    largest first) and, for tool responses, ``forked``: runs that got another response than a run of
    their group and task which had made the same calls and got the same responses so far. Without a
    fork, responses differ because the agent asked for other things.

    ``runs(axis="toolset", task_id=...)`` opens the runs; the role is the value's fingerprint, or
    ``"unknown"``. A system or user prompt is the first of the run, a toolset its first offer.
    Subagents' runs are left out.

    >>> import loaders
    >>> table = axes(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")).frame
    >>> table.filter(pl.col("axis") == "toolset")["reading"].unique().to_list()
    ['same']
    """
    groups = columns(by, runs)
    table = roots(runs, *groups).drop_nulls(groups)
    values = table.unpivot(
        list(AXES),
        index=["run", "trajectory_id", *groups],
        variable_name="axis",
        value_name="value",
    )
    counted = (
        values.group_by(*groups, "axis", "value")
        .agg(pl.len().cast(pl.Int64).alias("n"))
        .sort("n", descending=True)
    )
    known, n = pl.col("value").is_not_null(), pl.col("n")
    frame = (
        counted.group_by(*groups, "axis")
        .agg(
            known.sum().cast(pl.Int64).alias("values"),
            n.sum().alias("runs"),
            n.filter(~known).sum().alias("unknown"),
            n.filter(known).alias("sizes"),
        )
        .join(_forked(runs, table, groups), on=[*groups, "axis"], how="left")
        .with_columns(
            pl.when(pl.col("values") > 0).then("values").alias("values"),
            pl.when(pl.col("axis") == AXES[-1]).then(pl.col("forked").fill_null(0)).alias("forked"),
            _reading().alias("reading"),
            pl.col("axis").cast(pl.Enum(AXES)),
        )
        .sort(*groups, "axis")
        .with_columns(pl.col("axis").cast(pl.String))
        .select(*groups, "axis", "reading", "values", "runs", "unknown", "sizes", "forked")
    )
    everyone = roots(runs)
    warnings = ["An axis whose value the log does not hold is unknown, not the same."]
    if left_out := everyone.height - table.height:
        warnings.append(f"{left_out} runs without {' or '.join(groups)} are left out.")
    if "task_id" in groups and "benchmark" not in groups:
        shared = everyone.group_by("task_id").agg(pl.col("benchmark").n_unique()).drop_nulls()
        if shared.filter(pl.col("benchmark") > 1).height:
            warnings.append(
                'Some task_id are in several benchmarks: group by=("benchmark", "task_id").'
            )
    return Result(
        kind="axes",
        title=f"The five axes within each {', '.join(groups)}",
        frame=frame,
        method="Fingerprints of the toolset, first system prompt, first user prompt, environment and sequence "
        "of tool responses, counted in each group.",
        keys=(*groups, "axis"),
        members=values.select(
            *groups, "axis", "trajectory_id", pl.col("value").fill_null("unknown").alias("role")
        ),
        source=runs,
        warnings=tuple(warnings),
        headline=_axes_headline(frame, "tasks" if groups == ["task_id"] else "groups"),
    )


def _reading() -> pl.Expr:
    values, unknown = pl.col("values"), pl.col("unknown")
    return (
        pl.when(values > 1)
        .then(pl.lit("differ"))
        .when(values == 0)
        .then(pl.lit("unknown"))
        .when(pl.col("runs") == 1)
        .then(pl.lit("one run"))
        .when(unknown > 0)
        .then(pl.lit("same where known"))
        .otherwise(pl.lit("same"))
    )


def _forked(runs: Trajectories, table: pl.DataFrame, groups: list[str]) -> pl.DataFrame:
    units = table.drop_nulls("task").select(
        "run", pl.struct(*groups, "task").alias("unit"), *groups
    )
    found = forks(same_calls(runs), units.select("run", "unit"))
    return (
        units.join(found, on="run", how="semi")
        .group_by(groups)
        .agg(pl.len().cast(pl.Int64).alias("forked"))
        .with_columns(pl.lit(AXES[-1]).alias("axis"))
    )


def _axes_headline(frame: pl.DataFrame, noun: str) -> str:
    said: list[str] = []
    for axis in AXES:
        rows = frame.filter(pl.col("axis") == axis, pl.col("runs") > 1)
        counts = dict(rows["reading"].value_counts().iter_rows())
        told = ", ".join(
            f"{reading} in {counts[reading]:,}" for reading in _READINGS if counts.get(reading)
        )
        said.append(f"{axis.replace('_', ' ')}: {told or 'nothing to compare'}")
    groups = frame.filter(pl.col("runs") > 1, pl.col("axis") == AXES[0]).height
    return f"Of {groups:,} {noun} with several runs, {'; '.join(said)}."
