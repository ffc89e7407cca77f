"""Who is at risk of what: a row per run and call, and the same counted where rows are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from analysis.exposures import exposures
from analysis.outcomes import columns, judged
from loaders import Trajectories
from loaders.errors import DerailError
from loaders.schema import OUTCOMES

_STEPS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40)
"""First step of each piece of the baseline hazard."""


_CUT_OFF = ("limit", "cancelled")


def person_period(
    runs: Trajectories, end: str = "failure", by: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """A row per run and call, with all that a hazard model needs.

    Columns: ``run``, ``trajectory_id``, ``task``, ``step``, the ``by`` columns, ``event`` (this call is
    the run's last, and the run ended so), and a column of 0 and 1 for each exposure that was met.
    ``end``: ``failure`` (the run did not succeed, and was not cut off by a limit or its user), or one of
    the outcomes of the schema (``limit``, ``error`` ...); runs that end otherwise leave the risk set at
    their last call (competing ends: the hazard is the cause-specific one).

    >>> import loaders
    >>> rows = person_period(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> int(rows["event"].sum()) == rows.filter("event")["run"].n_unique()
    True
    """
    arms = columns(by, runs)
    risk = at_risk(runs, end, arms)
    return (
        _person_steps(runs, risk)
        .select("run", "trajectory_id", "task", "step", *arms, "event", *risk.groups)
        .collect(engine="streaming")
        .sort("run", "step")
    )


@dataclass(frozen=True)
class AtRisk:
    """Who is at risk of what: small tables, from which person-steps are made as they are read.

    ``runs``: ``run``, ``trajectory_id``, ``task``, arms, ``ended`` (the run ended so), ``last`` step;
    ``met``: ``run``, ``step``, ``exposure``; ``groups``: the group of each exposure.
    """

    runs: pl.DataFrame
    met: pl.DataFrame
    groups: dict[str, str]


def at_risk(runs: Trajectories, end: str, arms: list[str]) -> AtRisk:
    """Runs, what each of them met at which call, and the exposures; ``DerailError`` without outcomes."""
    table = judged(runs, *arms, "outcome")
    if table.is_empty():
        raise DerailError(
            "no run has a known outcome, so no call is known to break one. Add outcomes: "
            "runs.label(frame with trajectory_id and success, on='trajectory_id')."
        )
    last = (
        runs.clustered("steps")
        .group_by("run")
        .agg(pl.col("step").max().alias("last"))
        .collect(engine="streaming")
    )
    met = exposures(runs).unique(["run", "step", "exposure"])
    groups = dict(met.select("exposure", "group").unique().sort("group", "exposure").iter_rows())
    people = table.with_columns(ended=_ended(end)).join(last, on="run", maintain_order="left")
    return AtRisk(people, met.drop("group").sort("run", "step", "exposure"), groups)


def _person_steps(runs: Trajectories, risk: AtRisk) -> pl.LazyFrame:
    """A row per run and call, with a column of 0 and 1 for each exposure."""
    wide = risk.met.with_columns(one=pl.lit(1.0)).pivot(
        on="exposure", index=["run", "step"], values="one"
    )
    is_last = pl.col("step") == pl.col("last")
    return (
        runs.steps.select("run", "step")
        .join(risk.runs.lazy(), on="run")
        .join(wide.lazy(), on=["run", "step"], how="left")
        .with_columns(
            is_last.alias("is_last"),
            (is_last & pl.col("ended")).alias("event"),
            *(pl.col(name).fill_null(0.0) for name in risk.groups),
        )
    )


def counted_periods(runs: Trajectories, risk: AtRisk, arms: list[str]) -> pl.DataFrame:
    """Person-steps that are alike to every model here, counted, so that a row is kept for few.

    Columns: ``task``, arms, ``step`` (first of its piece of the baseline), a column for each exposure;
    ``rows``, of which ``n`` whose event is known, ``event`` those that have it, ``ends`` a run's last.
    """
    cell, alike = ["task", *arms], ["task", *arms, "step", *risk.groups]
    # Many rows are told apart by one number, and not by the texts of task and arms.
    cells = risk.runs.select(cell).unique(maintain_order=True).with_row_index("cell")
    people = risk.runs.join(cells, on=cell, nulls_equal=True, maintain_order="left").drop(cell)
    return (
        _person_steps(runs, replace(risk, runs=people))
        .with_columns(_piece(pl.col("step"), _STEPS).alias("step"))
        .group_by("cell", "step", *risk.groups)
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("event").count().cast(pl.Int64).alias("n"),
            pl.col("event").sum().cast(pl.Int64),
            pl.col("is_last").sum().cast(pl.Int64).alias("ends"),
        )
        .collect(engine="streaming")
        .join(cells, on="cell")
        .select(*alike, "rows", "n", "event", "ends")
        .sort(alike)
    )


def _piece(step: pl.Expr, starts: Sequence[int]) -> pl.Expr:
    """The first step of the piece of the baseline that a step is in."""
    piece = pl.lit(starts[0], pl.Int64)
    for start in starts[1:]:
        piece = pl.when(step >= start).then(pl.lit(start, pl.Int64)).otherwise(piece)
    return piece


def _ended(end: str) -> pl.Expr:
    if end == "failure":
        return ~pl.col("success") & ~pl.col("outcome").cast(pl.String).is_in(_CUT_OFF)
    if end not in OUTCOMES:
        raise DerailError(f"no run ends in {end!r}; ends are {', '.join(OUTCOMES)}")
    return pl.col("outcome") == end
