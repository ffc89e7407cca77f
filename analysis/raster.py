"""Runs laid beside each other, call by call: what each call had met, and how the run ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.exposures import exposures
from analysis.outcomes import columns
from analysis.results import Result
from loaders import Trajectories
from loaders.errors import DerailError

STATES: Final = ("ordinary", "thinking dropped", "repeat", "perturbed")
"""What a call can be shown as; where several are true, the last of them."""

_GROUPS: Final = {
    "thinking_dropped": STATES[1],
    "needless_repeat": STATES[2],
    "retry": STATES[2],
    "loop": STATES[2],
}


def raster(runs: Trajectories, by: str | Sequence[str] | None = None, most: int = 200) -> Result:
    """Each run as a row of its calls, in stretches of calls that met the same.

    ``frame`` columns: the ``by`` columns (``group`` without any), ``trajectory_id``, ``row`` (position
    in its group from 0: failures first, then by length and task), ``start`` and ``stop`` (first call of
    the stretch, first call after it), ``state`` (``perturbed``: the call met a perturbed response;
    ``repeat``: it follows a repeated call; ``thinking dropped``: its request lacks earlier thinking;
    ``ordinary``; the strongest where several hold), ``calls`` (of the run) and ``outcome``. Stretches
    and not calls are rows, so long runs stay small.

    ``most``: runs of each group that are shown; of more, every n-th in that order, so that the shown
    ones have the group's mix of lengths and outcomes, and a warning says so.

    Raises ``DerailError`` where no run makes a model call.

    >>> import loaders
    >>> rows = raster(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), most=20).frame
    >>> rows.group_by("trajectory_id").agg((pl.col("stop") - pl.col("start")).sum() == pl.col("calls").first())["stop"].all()
    True
    """
    arms = columns(by, runs)
    names = arms or ["group"]
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null() & (pl.col("steps") > 0))
        .select(
            "run", "trajectory_id", "task_id", pl.col("steps").alias("calls"),
            pl.col("outcome").cast(pl.String), "success", *arms,
        )
        .collect()
    )  # fmt: skip
    if table.is_empty():
        raise DerailError("no run makes a model call, so there is nothing to lay out")
    if not arms:
        table = table.with_columns(pl.lit("all runs").alias("group"))
    table = table.with_columns(pl.col(names).cast(pl.String)).sort(
        *names, pl.col("success").fill_null(value=True), -pl.col("calls"), "task_id", "run"
    )
    every = (pl.len().cast(pl.Int64) + (most - 1)) // most
    position = pl.int_range(pl.len())
    shown = table.filter((position % every == 0).over(names)).with_columns(
        position.over(names).alias("row")
    )
    return Result(
        kind="raster",
        title="Runs call by call",
        frame=_stretches(runs, shown).select(
            *names, "trajectory_id", "row", "start", "stop", "state", "calls", "outcome"
        ),
        method="A row for each run, failures first, the longest on top; what a call had met by rules.",
        keys=tuple(names),
        members=shown.select(*names, "trajectory_id", pl.col("outcome").alias("role")),
        source=runs,
        warnings=(f"{shown.height:,} of {table.height:,} runs are shown, at even distances.",)
        if shown.height < table.height
        else (),
    )


def _stretches(runs: Trajectories, shown: pl.DataFrame) -> pl.DataFrame:
    order = {state: n for n, state in enumerate(STATES)}
    state = pl.col("exposure").replace_strict(_GROUPS, default=STATES[3])
    met = (
        exposures(runs)
        .join(shown.select("run"), on="run", how="semi")
        .group_by("run", "step")
        .agg(state.replace_strict(order).max().alias("strength"))
    )
    calls = (
        shown.select(pl.exclude("success", "task_id"), pl.int_ranges(0, "calls").alias("step"))
        .explode("step")
        .join(met.with_columns(pl.col("step").cast(pl.Int64)), on=["run", "step"], how="left",
              maintain_order="left")
        .with_columns(pl.col("strength").fill_null(0))
        .with_columns(pl.struct("run", "strength").rle_id().alias("stretch"))
    )  # fmt: skip
    kept = [name for name in calls.columns if name not in ("step", "stretch", "run")]
    return (
        calls.group_by("run", "stretch", maintain_order=True)
        .agg(
            pl.col("step").min().alias("start"),
            (pl.col("step").max() + 1).alias("stop"),
            pl.col(kept).first(),
        )
        .with_columns(pl.col("strength").replace_strict(dict(enumerate(STATES))).alias("state"))
    )
