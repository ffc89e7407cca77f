"""Where runs break down, and what precedes it.

The event studied here is the *failure of the run*, judged by the benchmark at its end; that moment
is not the onset of the breakdown. ``triggers`` therefore asks at each step: of the runs of a task
that were still going and had not met the exposure, did those that met it now fail more often?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from analysis.cautions import cautions
from analysis.change_points import change_points, pelt
from analysis.confounding import difficulty_and_exposure, length_and_failure
from analysis.divergence import first_divergence, together
from analysis.event_study import event_study
from analysis.exposures import exposures, groups_of, met_first, refuse_ever
from analysis.hazard import hazard, person_period
from analysis.neighbours import with_room
from analysis.onset import onset
from analysis.outcomes import columns, judged
from analysis.results import Result, empty_members
from analysis.survival import cumulative_incidence
from analysis.uncertainty import (
    Estimate,
    benjamini_hochberg,
    counted_mean,
    counted_share,
    e_value,
    mantel_haenszel,
    mantel_haenszel_across,
)
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = [
    "by_step",
    "cautions",
    "change_points",
    "cumulative_incidence",
    "e_value",
    "event_study",
    "exposures",
    "first_divergence",
    "hazard",
    "onset",
    "pelt",
    "person_period",
    "together",
    "triggers",
]

MIN_CELL: Final = 10
"""Fewest runs in any cell of exposed or not by failed or not; smaller cells are refused."""

_SCHEMA = {
    "exposure": pl.String,
    "group": pl.String,
    "odds_ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    "e_value": pl.Float64,
    "failed_exposed": pl.Float64,
    "failed_unexposed": pl.Float64,
    "exposed_failed": pl.Int64,
    "exposed_succeeded": pl.Int64,
    "unexposed_failed": pl.Int64,
    "unexposed_succeeded": pl.Int64,
    "runs": pl.Int64,
    "tasks": pl.Int64,
    "refused": pl.String,
}


def triggers(
    runs: Trajectories,
    exposure: str | Sequence[str] | None = None,
    *,
    within: int | None = None,
    match: Literal["task", "step"] | None = None,
    by: str | Sequence[str] | None = None,
) -> Result:
    """What precedes failure, ranked: odds of failing after an exposure against not (yet) having met it.

    Design: sequential comparisons in risk sets. At each step t of a task, among its runs that are
    still going and have not met the exposure before, those that meet it at t are compared with those
    that do not, by whether the run fails in the end. Time is matched exactly and follow-up starts at
    the exposure, so there is no immortal time; comparisons are made inside a task only, so task
    difficulty can't confound. Pooled by Mantel-Haenszel, interval robust to clustering by task.
    Where tasks have one run each, risk sets are matched on time alone and a warning says so.

    ``frame`` columns: ``exposure``, ``group``; ``odds_ratio``, ``low``, ``high``, ``p``,
    ``p_adjusted`` (Benjamini-Hochberg); ``e_value`` (how strong an unmeasured confounder would have
    to be, VanderWeele and Ding 2017, for a common outcome); ``failed_exposed`` and
    ``failed_unexposed`` (share that fails); the four cells in runs; ``runs`` and ``tasks`` in
    informative risk sets; ``refused`` (why there is no estimate: a cell under 10 runs). Sorted by p.
    ``runs(exposure=..., role="exposed_failed")`` opens the runs.

    ``exposure``: only these. ``within``: count a failure only where the run ends within so many
    calls, the one that meets the exposure included; 1 is the hazard at that very call. By default a
    failure counts however late the run ends, because benchmarks judge at the end. ``match``: ``task``
    compares inside tasks, ``step`` also between them, which is confounded by difficulty; by default
    inside tasks where most have several runs. ``by``: arms inside which tool responses and behaviour
    are compared, so that what differs between arms can't confound; thinking is compared across them,
    because that is what arms assign.

    Raises ``DerailError`` for "ever" exposures, which are biased by construction, and where no
    outcome is known.

    >>> import loaders
    >>> found = triggers(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> {"odds_ratio", "low", "high", "p_adjusted", "tasks"} <= set(found.frame.columns)
    True
    """
    wanted = [exposure] if isinstance(exposure, str) else list(exposure or ())
    refuse_ever(wanted)
    arms = columns(by, runs)
    table = judged(runs, *arms)
    if table.is_empty():
        raise DerailError(
            "no run has a known outcome, so nothing can precede failure. Add outcomes: "
            "runs.label(frame with trajectory_id and success, on='trajectory_id')."
        )
    first = met_first(runs)
    runs_per_task = table.group_by("task", *arms).len().select(pl.col("len").median()).item()
    within_task = match == "task" if match else runs_per_task >= 2
    across_arms = _risk_sets(runs, table, ["task"] if within_task else [], within)
    inside_arms = _risk_sets(runs, table, ["task", *arms] if within_task else arms, within)
    names = list(groups_of(first).items())
    if wanted:
        names = [(name, group) for name, group in names if name in wanted]
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = [empty_members("exposure")]
    for name, group in names:
        of_name = first.filter(pl.col("exposure") == name)
        risk = across_arms if group == "thinking" else inside_arms
        row, behind = _trigger(name, group, risk, of_name, within_task)
        rows.append(row)
        members.append(behind)
    adjusted = benjamini_hochberg([math.nan if row["p"] is None else row["p"] for row in rows])
    frame = pl.DataFrame(
        [
            {**row, "p_adjusted": None if math.isnan(p) else p}
            for row, p in zip(rows, adjusted, strict=True)
        ],
        schema=_SCHEMA,
    ).sort("p", "exposed_failed", descending=[False, True], nulls_last=True)
    return Result(
        kind="triggers",
        title="What precedes failure",
        frame=frame,
        method="Risk sets at each step, first exposure against not yet exposed, "
        + ("inside tasks" if within_task else "matched on step only")
        + (" and arms" if arms else "")
        + f"; Mantel-Haenszel odds ratio of failing {f'within {within} calls' if within else 'in the end'}, 95 % t interval robust to clustering by "
        "task; Benjamini-Hochberg.",
        keys=("exposure",),
        members=pl.concat(members),
        source=runs,
        warnings=tuple(_warnings(within_task, runs, table, first)),
        headline=_headline(frame),
    )


@dataclass(frozen=True)
class _RiskSets:
    """Who is compared with whom.

    ``rows``: a row per run and call, made as it is read: its ``cell``, ``event``, and whether the call's
    request is known. It is compared with those of its cell at its step. ``cells``: what is ``matched``, by
    the number that stands for it; ``runs``: ``run``, ``trajectory_id``, ``task``.
    """

    rows: pl.LazyFrame
    runs: pl.DataFrame
    cells: pl.DataFrame
    matched: list[str]


def _risk_sets(
    runs: Trajectories, table: pl.DataFrame, matched: list[str], within: int | None
) -> _RiskSets:
    known = pl.col("thinking_sent").is_not_null() & (pl.col("thinking_available") > 0)
    last = (
        runs.clustered("steps")
        .group_by("run")
        .agg(pl.col("step").max().alias("last"))
        .collect(engine="streaming")
    )
    cells, number = pl.DataFrame({"cell": 0}), pl.lit(0, pl.Int64).alias("cell")
    if matched:
        cells = table.select(matched).unique().sort(matched).with_row_index("cell")
        cells = cells.with_columns(pl.col("cell").cast(pl.Int64))
        table = table.join(cells, on=matched, nulls_equal=True, maintain_order="left")
        number = pl.col("cell")
    people = (
        table.select("run", number, failed=~pl.col("success"))
        .join(last, on="run", maintain_order="left")
        .lazy()
    )
    calls_left = pl.col("last") - pl.col("step")
    in_time = pl.col("failed") & (calls_left < within) if within else pl.col("failed")
    rows = (
        runs.steps.select("run", "step", known.alias("request_known"))
        .join(people, on="run")
        .with_columns(in_time.alias("event"))
    )
    return _RiskSets(rows, table.select("run", "trajectory_id", "task"), cells, matched)


def _trigger(
    name: str, group: str, risk: _RiskSets, first: pl.DataFrame, within_task: bool
) -> tuple[dict[str, Any], pl.DataFrame]:
    met = first.select("run", "met_at").lazy()
    rows = risk.rows.join(met, on="run", how="left").filter(
        pl.col("met_at").is_null() | (pl.col("step") <= pl.col("met_at"))
    )
    if group == "thinking":
        rows = rows.filter("request_known")
    exposed, event = pl.col("exposed"), pl.col("event")
    rows = rows.with_columns(
        (pl.col("step") == pl.col("met_at")).fill_null(value=False).alias("exposed")
    )
    sets = (
        rows.group_by("cell", "step")
        .agg(
            (event & exposed).sum().cast(pl.Int64).alias("a"),
            exposed.sum().cast(pl.Int64).alias("n1"),
            (event & ~exposed).sum().cast(pl.Int64).alias("c"),
            (~exposed).sum().cast(pl.Int64).alias("n0"),
        )
        .filter(pl.col("n1") > 0, pl.col("n0") > 0)
        .collect(engine="streaming")
        .join(risk.cells, on="cell")
        .sort(*risk.matched, "step")
    )
    informative = sets.lazy().select("cell", "step")
    rows = rows.join(informative, on=["cell", "step"], how="semi")
    per_run = (
        rows.group_by("run")
        .agg(
            exposed.any(),
            (event & exposed).any().alias("when_met"),
            event.any(),
        )
        .collect(engine="streaming")
        .sort("run")
        .join(risk.runs, on="run", how="left", maintain_order="left")
        .with_columns(pl.when("exposed").then("when_met").otherwise("event").alias("failed"))
    )
    cells = {
        f"{'exposed' if exposed else 'unexposed'}_{'failed' if failed else 'succeeded'}": per_run.filter(
            pl.col("exposed") == exposed, pl.col("failed") == failed
        ).height
        for exposed in (True, False)
        for failed in (True, False)
    }
    smallest = min(cells, key=lambda cell: cells[cell])
    refused = (
        f"{cells[smallest]} runs {smallest.replace('_', ' and ')}; {MIN_CELL} are needed"
        if cells[smallest] < MIN_CELL
        else None
    )
    estimate: Estimate | None = None
    if refused is None:
        estimate = _pooled(sets) if within_task else _pooled_across(rows, risk.runs)
        if math.isnan(estimate.se) or estimate.clusters < 5:
            refused, estimate = "fewer than 5 tasks with both exposed and unexposed runs", None
    exposed_runs = per_run.filter("exposed")
    role = pl.when("failed").then(pl.lit("exposed_failed")).otherwise(pl.lit("exposed_succeeded"))
    behind = exposed_runs.select(
        pl.lit(name).alias("exposure"), "trajectory_id", role.alias("role")
    )
    row = {
        "exposure": name,
        "group": group,
        **_odds(estimate),
        "failed_exposed": exposed_runs["failed"].mean(),
        "failed_unexposed": per_run.filter(~pl.col("exposed"))["failed"].mean(),
        **cells,
        "runs": per_run.height,
        "tasks": per_run["task"].n_unique(),
        "refused": refused,
    }
    return row, behind


def _pooled_across(rows: pl.LazyFrame, runs: pl.DataFrame) -> Estimate:
    tasks = runs.select("run", pl.col("task").rank("dense")).lazy()
    stratum = with_room(pl.col("cell")) + pl.col("step")
    alike = ["stratum", "task", "event", "exposed"]
    told = (
        rows.join(tasks, on="run")
        .select("event", "exposed", "task", stratum.alias("stratum"))
        .group_by(alike)
        .len()
        .collect(engine="streaming")
        .sort(alike)
    )
    return mantel_haenszel_across(
        event=told["event"].to_list(),
        exposed=told["exposed"].to_list(),
        stratum=told["stratum"].to_list(),
        clusters=told["task"].to_list(),
        n=told["len"].to_list(),
    )


def _pooled(strata: pl.DataFrame) -> Estimate:
    return mantel_haenszel(
        exposed_failed=strata["a"].to_list(),
        exposed=strata["n1"].to_list(),
        unexposed_failed=strata["c"].to_list(),
        unexposed=strata["n0"].to_list(),
        clusters=strata["task"].to_list(),
    )


def _odds(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return dict.fromkeys(("odds_ratio", "low", "high", "p", "e_value"))
    ratio = math.exp(estimate.value)
    return {
        "odds_ratio": ratio,
        "low": math.exp(estimate.low),
        "high": math.exp(estimate.high),
        "p": estimate.p,
        "e_value": e_value(ratio),
    }


def _warnings(
    within_task: bool, runs: Trajectories, table: pl.DataFrame, first: pl.DataFrame
) -> list[str]:
    warnings = [
        "Observational: exposures were met, not assigned. Read an odds ratio as an association unless an "
        "experiment assigned the exposure.",
        "The event is failure of the whole run, judged at its end; it is not the onset of the breakdown.",
    ]
    if not within_task:
        warnings.append(
            "Compared between tasks, not inside them: what is more common in hard tasks looks like a "
            "trigger. Several runs per task would separate difficulty from bad luck."
        )
        warnings += [found.says for found in difficulty_and_exposure(runs, first)]
    everyone = (
        runs.trajectories.filter(pl.col("parent_id").is_null()).select(pl.len()).collect().item()
    )
    if everyone > table.height:
        warnings.append(f"{everyone - table.height} runs without a known outcome are left out.")
    return warnings


def _headline(frame: pl.DataFrame) -> str:
    found = frame.filter(pl.col("p_adjusted") < 0.05, pl.col("odds_ratio") > 1)
    if found.is_empty():
        return "No exposure is shown to precede failure (5 % after correction)."
    top = found.row(0, named=True)
    return (
        f"{top['exposure']} precedes failure: odds ratio {top['odds_ratio']:.1f} "
        f"[{top['low']:.1f}, {top['high']:.1f}], {top['exposed_failed']} of "
        f"{top['exposed_failed'] + top['exposed_succeeded']} exposed runs fail."
    )


def by_step(runs: Trajectories, by: str | Sequence[str] | None = None, last: int = 60) -> Result:
    """How runs that reach a step fare: ends at each step, and the share that succeeds in the end.

    ``frame`` columns: ``by`` columns, ``step``, ``at_risk`` (runs that make this call), ``failed`` and
    ``succeeded`` (runs whose last call it is), ``hazard`` (failed / at_risk) with ``hazard_low``,
    ``hazard_high`` (Wilson, at the sample size that runs clustered by task amount to), ``success``
    (share of those at risk that succeed in the end) with ``low``, ``high`` clustered by task. Steps at
    which fewer than 10 runs are left are not shown.

    >>> import loaders
    >>> by_step(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")).frame["at_risk"].is_sorted(descending=True)
    True
    """
    groups = columns(by, runs)
    table = judged(runs, *groups)
    lengths = runs.trajectories.select("run", pl.col("steps").alias("length")).collect()
    table = table.join(lengths, on="run").filter(pl.col("length") > 0)
    names = groups or ["group"]
    if not groups:
        table = table.with_columns(pl.lit("all runs").alias("group"))
    rows: list[tuple[Any, ...]] = []
    for key, group in table.group_by(names, maintain_order=True):
        rows += [(*key, *row) for row in _of_those_going(group, last)]
    schema = {
        **{name: table.schema[name] for name in names},
        "step": pl.Int64,
        "at_risk": pl.Int64,
        "failed": pl.Int64,
        "succeeded": pl.Int64,
        **dict.fromkeys(
            ("hazard", "hazard_low", "hazard_high", "success", "low", "high"), pl.Float64
        ),
    }
    return Result(
        kind="by_step",
        title="Success of the runs that reach a step",
        frame=pl.DataFrame(rows, schema=schema, orient="row"),
        method="Share of runs still going that succeed in the end; t interval clustered by task.",
        keys=tuple(names),
        members=table.select(
            *names,
            "trajectory_id",
            pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role"),
        ),
        source=runs,
        warnings=(found.says,) if (found := length_and_failure(runs)) else (),
    )


def _of_those_going(group: pl.DataFrame, last: int) -> list[tuple[Any, ...]]:
    """For each step, how the runs that make this call fare, from counts by task and length."""
    length = group["length"].clip(upper_bound=last + 1).to_numpy()
    task = group["task"].rank("dense").to_numpy().astype(np.intp) - 1
    good = group["success"].to_numpy()
    shape = (int(task.max()) + 1, last + 2)
    ending, succeeding = np.zeros(shape), np.zeros(shape)
    np.add.at(ending, (task, length), 1)
    np.add.at(succeeding, (task[good], length[good]), 1)
    going, winning = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (ending, succeeding))
    rows: list[tuple[Any, ...]] = []
    for step in range(min(int(group.select(pl.col("length").max()).item()), last)):
        n, wins = going[:, step + 1], winning[:, step + 1]
        if n.sum() < MIN_CELL:
            break
        ends, won = int(ending[:, step + 1].sum()), int(succeeding[:, step + 1].sum())
        at_risk = int(n.sum())
        e = counted_mean(wins[n > 0], n[n > 0])
        fails = (ending - succeeding)[:, step + 1]
        hazard = counted_share(fails[n > 0], n[n > 0])
        rows.append(
            (step, at_risk, ends - won, won, hazard.value, hazard.low, hazard.high, e.value,
             max(e.low, 0.0), min(e.high, 1.0))
        )  # fmt: skip
    return rows
