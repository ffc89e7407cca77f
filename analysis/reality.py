"""A benchmark beside what happened in use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.crossed_runs import MIN_RUNS, MIN_TASKS, table_of_runs
from analysis.rank_agreement import kendall_tau
from analysis.results import Result
from analysis.uncertainty import clustered_mean, t_estimate
from loaders import Trajectories
from loaders.errors import DerailError


def reality(
    benchmark: Trajectories,
    real: Trajectories | str,
    by: str | Sequence[str] = "model",
    *,
    outcome: str = "success",
    level: float = 0.95,
) -> Result:
    """A benchmark beside reality, for each model: is what it says what happens in use?

    ``real``: the runs of real use, or a column of the benchmark's own runs that tells of each what came
    of it (added by ``runs.label(...)``). ``outcome``: the column of success or scores.

    ``frame`` columns: the ``by`` columns; ``benchmark`` and ``real`` with their intervals (clustered by
    task); ``gap`` (real minus benchmark) with ``gap_low``, ``gap_high`` (paired by run where ``real`` is
    a column); ``rank_benchmark``, ``rank_real`` (1 is best); ``runs``, ``real_runs``; ``refused`` (under
    10 runs or 5 tasks on either side). ``runs(role="real")`` opens the runs.

    Raises ``DerailError`` where both sides have no group in common.

    >>> import loaders, polars as pl
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> short = runs.trajectories.select("trajectory_id", kept_short=pl.col("steps") < 9).collect()
    >>> found = reality(runs.label(short, on="trajectory_id"), "kept_short", by="arm")
    >>> found.frame["gap"].is_not_null().all()
    True
    """
    names = [by] if isinstance(by, str) else list(by)
    same_runs = isinstance(real, str)
    other = outcome if isinstance(real, Trajectories) else real
    first, warnings = table_of_runs(benchmark, names, outcome)
    second, more = table_of_runs(benchmark if isinstance(real, str) else real, names, other)
    shared = first.select(names).unique().join(second.select(names).unique(), on=names)
    if shared.is_empty():
        raise DerailError(f"no value of {names} has a known outcome on both sides")
    rows: list[dict[str, Any]] = []
    for row in shared.sort(names).iter_rows(named=True):
        is_group = [pl.col(name) == value for name, value in row.items()]
        rows.append(
            {**row, **_beside(first.filter(is_group), second.filter(is_group), same_runs, level)}
        )
    frame = pl.DataFrame(rows, schema={name: first.schema[name] for name in names} | _REALITY)
    for side in ("benchmark", "real"):
        place = pl.col(side).rank("min", descending=True).cast(pl.Int64)
        frame = frame.with_columns(place.alias(f"rank_{side}"))
    if not same_runs:
        warnings.append(
            "Tasks of a benchmark and of real use differ: a gap is not of the agent alone."
        )
    sides = {"benchmark": first, "real": second}
    return Result(
        kind="reality",
        title="Benchmark and reality",
        frame=frame.sort("benchmark", descending=True, nulls_last=True),
        method=f"Means with {level:.0%} t intervals clustered by task; gap "
        + ("paired by run." if same_runs else "of independent means."),
        keys=tuple(names),
        members=pl.concat(
            side.join(shared, on=names, how="semi").select(*names, "trajectory_id", pl.lit(role).alias("role"))
            for role, side in sides.items()
        ),
        source=benchmark if isinstance(real, str) else benchmark + real,
        warnings=(*warnings, *more),
        headline=_reality_headline(frame),
    )  # fmt: skip


_REALITY = {
    **dict.fromkeys(
        (
            *("benchmark", "benchmark_low", "benchmark_high", "real", "real_low", "real_high"),
            *("gap", "gap_low", "gap_high"),
        ),
        pl.Float64,
    ),
    "runs": pl.Int64,
    "real_runs": pl.Int64,
    "refused": pl.String,
}


def _beside(
    first: pl.DataFrame, second: pl.DataFrame, same_runs: bool, level: float
) -> dict[str, Any]:
    means = [clustered_mean(t["y"].to_list(), t["task"].to_list(), level) for t in (first, second)]
    row: dict[str, Any] = {"runs": means[0].n, "real_runs": means[1].n}
    small = [e for e in means if e.n < MIN_RUNS or e.clusters < MIN_TASKS]
    if small:
        few = f"{small[0].n} runs of {small[0].clusters} tasks"
        return row | {"refused": f"{few}; {MIN_RUNS} of {MIN_TASKS} are needed"}
    for side, found in zip(("benchmark", "real"), means, strict=True):
        row |= {side: found.value, f"{side}_low": found.low, f"{side}_high": found.high}
    if same_runs:
        both = first.join(second.select("trajectory_id", real="y"), on="trajectory_id")
        gap = clustered_mean((both["real"] - both["y"]).to_list(), both["task"].to_list(), level)
    else:
        se = math.hypot(means[0].se, means[1].se)
        smaller = min(means[0].clusters, means[1].clusters)
        gap = t_estimate(means[1].value - means[0].value, se, smaller, row["runs"], level)
    return row | {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high}


def _reality_headline(frame: pl.DataFrame) -> str:
    known = frame.drop_nulls("gap")
    if known.is_empty():
        return "Too few runs on both sides to compare."
    told = f"On average reality is {100 * known.select(pl.col('gap').mean()).item():+.1f} points from the benchmark"
    if known.height < 3:
        return f"{told}."
    sides = [known[side].to_numpy()[None] for side in ("benchmark", "real")]
    return (
        f"{told}; Kendall's tau of the two orders {float(kendall_tau(sides[0], sides[1])[0]):.2f}."
    )
