"""Where two conditions meet: the hazard of failing in each cell of their table, with its counts."""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis import perturbations
from analysis.hazard import person_period
from analysis.outcomes import columns as check_columns
from analysis.results import Result
from analysis.uncertainty import clustered_share
from loaders import Trajectories

MIN_EVENTS: Final = 10
"""Fewest failures in a cell from which its hazard is estimated."""

_UNPERTURBED: Final = "none"

_SCHEMA: Final = {
    "calls": pl.Int64,
    "events": pl.Int64,
    "hazard": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "runs": pl.Int64,
    "tasks": pl.Int64,
    "refused": pl.String,
}


def cells(runs: Trajectories, column: str = "thinking", end: str = "failure") -> Result:
    """Hazard of failing at a call, by the perturbation it had just met and by its thinking.

    Rows of the table are primary perturbation codes of the responses to the call before (``none``
    where all were in order; the first one where several broke). Its columns are what became of
    earlier ``thinking`` in the request of the call: ``kept``, ``dropped``, ``unknown`` (no request is
    recorded) or ``none yet`` (there was none to send); or another ``column`` of ``trajectories``,
    such as an arm. Time-varying on both sides, so there is no immortal time; cells are described,
    not compared: see ``hazard.hazard(interactions=...)`` for that.

    ``frame`` columns: ``perturbation``, the column, ``calls``, ``events`` (calls that end the run in
    ``end``), ``hazard`` with ``low`` and ``high`` (clustered by task), ``runs``, ``tasks``,
    ``refused`` (fewer than 10 events: counts only). ``runs(perturbation=..., thinking=...,
    role="failed")`` opens the runs that fail in a cell.

    >>> import loaders
    >>> table = cells(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> {"none"} <= set(table.frame["perturbation"])
    True
    """
    if column != "thinking":
        check_columns(column, runs)
    by = [] if column == "thinking" else [column]
    calls = person_period(runs, end, by).select(
        "run", "trajectory_id", "task", "step", "event", *by
    )
    met = (
        perturbations.detect(runs)
        .filter("primary")
        .sort("seq")
        .group_by("run", pl.col("step") + 1, maintain_order=True)
        .agg(pl.col("code").first().alias("perturbation"))
    )
    calls = calls.join(met, on=["run", "step"], how="left").with_columns(
        pl.col("perturbation").fill_null(_UNPERTURBED)
    )
    if column == "thinking":
        calls = calls.join(_fate(runs), on=["run", "step"], how="left").with_columns(
            pl.col("thinking").fill_null("unknown")
        )
    else:
        calls = calls.with_columns(pl.col(column).cast(pl.String).fill_null("–"))
    keys = ("perturbation", column)
    rows: list[dict[str, object]] = []
    for key, cell in calls.group_by(keys, maintain_order=True):
        events = int(cell["event"].sum())
        row: dict[str, object] = {**dict(zip(keys, key, strict=True)), "calls": cell.height}
        row |= {"events": events, "runs": cell["run"].n_unique(), "tasks": cell["task"].n_unique()}
        if events < MIN_EVENTS:
            row["refused"] = f"{events} events; {MIN_EVENTS} are needed"
        else:
            e = clustered_share(cell["event"].to_list(), cell["task"].to_list())
            row |= {"hazard": e.value, "low": e.low, "high": e.high}
        rows.append(row)
    total = pl.col("calls").sum().over("perturbation")
    frame = (
        pl.DataFrame(rows, schema={**dict.fromkeys(keys, pl.String), **_SCHEMA})
        .sort(pl.col("perturbation") != _UNPERTURBED, -total, *keys)
        .select(*keys, *_SCHEMA)
    )
    failed = pl.col("event").any().over("run", *keys)
    role = pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("went on")).alias("role")
    return Result(
        kind="cells",
        title=f"Hazard of {end} by perturbation and {column.replace('_', ' ')}",
        frame=frame,
        method="Share of calls that end the run so; 95 % Wilson interval at the effective sample size "
        "of calls clustered by task.",
        keys=keys,
        members=calls.select(*keys, "trajectory_id", role).unique(maintain_order=True),
        source=runs,
        warnings=("Cells are described and not adjusted: what else differs is in hazard().",),
    )


def _fate(runs: Trajectories) -> pl.DataFrame:
    """What became of earlier thinking in the request of each call."""
    available, sent = pl.col("thinking_available"), pl.col("thinking_sent")
    fate = (
        pl.when(available == 0)
        .then(pl.lit("none yet"))
        .when(available.is_null() | sent.is_null())
        .then(pl.lit("unknown"))
        .when(sent < available)
        .then(pl.lit("dropped"))
        .otherwise(pl.lit("kept"))
    )
    return runs.steps.select("run", "step", fate.alias("thinking")).collect()
