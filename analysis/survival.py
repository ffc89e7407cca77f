"""Time to an end: when runs fail or succeed, and when they recover from a perturbed response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from analysis.outcomes import columns, judged, task_of
from analysis.parts import part_by_part
from analysis.perturbations import detect
from analysis.results import Result
from analysis.survival_curves import REPEATS, aalen_johansen, banded, kaplan_meier
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = [
    "MIN_RUNS",
    "aalen_johansen",
    "cumulative_incidence",
    "kaplan_meier",
    "recovery",
    "recovery_curves",
    "recovery_times",
]

MIN_RUNS: Final = 10


def cumulative_incidence(
    runs: Trajectories, by: str | Sequence[str] | None = None, level: float = 0.95
) -> Result:
    """How many runs have failed, succeeded or been cut off by each call.

    Ends compete (Aalen-Johansen); ``failure`` is a run that did not succeed and was not cut off by a
    limit or its user, which are ends of their own. Bands are percentiles of a bootstrap over tasks.

    ``frame`` columns: the ``by`` columns, ``step`` (number of calls made), ``end``, ``at_risk`` (runs
    that make this call), ``events`` (runs that end so with it), ``incidence``, ``low``, ``high``. Groups of fewer
    than 10 runs are left out and named in a warning.

    Raises ``DerailError`` where no group is large enough.

    >>> import loaders
    >>> curve = cumulative_incidence(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> last = curve.frame.group_by("end").last()
    >>> round(last["incidence"].sum(), 9)
    1.0
    """
    arms = columns(by, runs)
    length = runs.trajectories.select("run", pl.col("steps").alias("step")).collect()
    cut_off = pl.col("outcome").cast(pl.String).is_in(["limit", "cancelled"])
    table = (
        judged(runs, *arms, "outcome")
        .join(length, on="run")
        .filter(pl.col("step") > 0)
        .with_columns(
            pl.when("success")
            .then(pl.lit("success"))
            .when(cut_off)
            .then(pl.lit("cut off"))
            .otherwise(pl.lit("failure"))
            .alias("end")
        )
    )
    names = arms or ["group"]
    if not arms:
        table = table.with_columns(pl.lit("all runs").alias("group"))
    parts: list[pl.DataFrame] = []
    small: list[str] = []
    for key, group in table.group_by(names, maintain_order=True):
        if group.height < MIN_RUNS:
            small.append(f"{', '.join(map(str, key))} ({group.height} runs)")
            continue
        labels = [pl.lit(value).alias(name) for name, value in zip(names, key, strict=True)]
        parts.append(banded(group, level).select(*labels, pl.all()))
    if not parts:
        raise DerailError(f"no group has {MIN_RUNS} runs with a known outcome and a model call")
    ends = table.select(*names, "trajectory_id", pl.col("end").alias("role"))
    return Result(
        kind="incidence",
        title="How runs end, by the number of calls made",
        frame=pl.concat(parts),
        method="Aalen-Johansen cumulative incidence of competing ends; "
        f"{level:.0%} percentile band of {REPEATS:,} bootstrap samples of tasks.",
        keys=tuple(names),
        members=ends,
        source=runs,
        warnings=(f"left out for fewer than {MIN_RUNS} runs: {'; '.join(small)}",) if small else (),
    )


def recovery(runs: Trajectories, h: int = 5, by: str = "code") -> Result:
    """How often, and how soon, a perturbed response is got over.

    Recovered is the first unperturbed response of the same tool at one of the ``h`` calls after it in
    the same run. A run that ends sooner is censored there: whether it would have recovered is unknown,
    and the rate counts it as not recovered. Responses that are the agent's own doing (invalid
    arguments) count as well; ``by`` may be ``code``, ``cause``, ``tool`` or ``evidence``.

    ``frame`` columns: ``by``, ``responses`` (perturbed ones, by their primary code), ``recovered``
    (within ``h`` calls), ``rate`` with ``low``, ``high`` (clustered by task), ``median`` (calls until
    half have recovered, Kaplan-Meier; null where fewer than half do), ``refused`` (fewer than 10).
    ``runs(code=..., role="recovered")`` opens the runs.

    >>> import loaders
    >>> found = recovery(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> found.frame["rate"].drop_nulls().is_between(0, 1).all()
    True
    """
    if by not in ("code", "cause", "tool", "evidence"):
        raise DerailError(f"recovery(by=...) takes code, cause, tool or evidence, not {by!r}")
    spells = recovery_times(runs, h)
    rows: list[dict[str, Any]] = []
    for (key,), group in spells.group_by(by, maintain_order=True):
        row: dict[str, Any] = {by: key, "responses": group.height}
        row["recovered"] = int(group["recovered"].sum())
        if group.height < MIN_RUNS:
            row["refused"] = f"{group.height} responses; {MIN_RUNS} are needed"
        else:
            rate = clustered_mean(
                group["recovered"].cast(pl.Float64).to_list(), group["task"].to_list()
            )
            row |= {"rate": rate.value, "low": max(rate.low, 0.0), "high": min(rate.high, 1.0)}
            curve = kaplan_meier(group["calls"].to_list(), group["recovered"].to_list())
            half = curve.filter(pl.col("survival") <= 0.5)["time"]
            row["median"] = half[0] if len(half) else None
        rows.append(row)
    schema = {by: pl.String, "responses": pl.Int64, "recovered": pl.Int64}
    schema |= dict.fromkeys(("rate", "low", "high", "median"), pl.Float64) | {"refused": pl.String}
    role = pl.when("recovered").then(pl.lit("recovered")).otherwise(pl.lit("not_recovered"))
    return Result(
        kind="recovery",
        title=f"Recovery within {h} calls",
        frame=pl.DataFrame(rows, schema=schema).sort("responses", descending=True),
        method=f"First unperturbed response of the same tool within {h} calls; share with a t interval "
        "clustered by task; median by Kaplan-Meier, censored where the run ends.",
        keys=(by,),
        members=spells.select(by, "trajectory_id", role.alias("role")).unique(maintain_order=True),
        source=runs,
    )


def recovery_curves(runs: Trajectories, h: int = 5, by: str = "code") -> Result:
    """The share of perturbed responses that has been got over by each later call (Kaplan-Meier).

    What counts as recovered, and ``by``, are as in ``recovery``; a run that ends before is censored
    there. ``frame`` columns: ``by``, ``calls`` (0 to ``h`` after the response), ``recovered`` (one minus
    Kaplan-Meier) with ``low``, ``high`` (95 %, Greenwood clustered by task on the log-log scale), ``at_risk`` (responses
    not got over and not censored before). Kinds with fewer than 10 responses are left out and named
    in a warning; most frequent first.

    Raises ``DerailError`` where no kind has 10.

    >>> import loaders
    >>> curves = recovery_curves(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> curves.frame.filter(calls=0)["recovered"].unique().to_list()
    [0.0]
    """
    if by not in ("code", "cause", "tool", "evidence"):
        raise DerailError(
            f"recovery_curves(by=...) takes code, cause, tool or evidence, not {by!r}"
        )
    spells = recovery_times(runs, h)
    parts: list[pl.DataFrame] = []
    small: list[str] = []
    kinds = spells.group_by(by).len().sort("len", by, descending=[True, False], nulls_last=True)
    moments = pl.DataFrame({"calls": range(h + 1)}, schema={"calls": pl.Float64})
    for key, count in kinds.iter_rows():
        if count < MIN_RUNS:
            small.append(f"{key} ({count})")
            continue
        group = spells.filter(pl.col(by).eq_missing(pl.lit(key)))
        curve = kaplan_meier(
            group["calls"].to_list(),
            group["recovered"].to_list(),
            clusters=group.select(pl.coalesce("task", "trajectory_id")).to_series().to_list(),
        )
        at_risk = [int((group["calls"] >= moment).sum()) for moment in range(h + 1)]
        parts.append(
            moments.join_asof(curve.rename({"time": "calls"}), on="calls")
            .select(
                pl.lit(key).cast(pl.String).alias(by),
                pl.col("calls").cast(pl.Int64),
                (1 - pl.col("survival").fill_null(1.0)).alias("recovered"),
                (1 - pl.col("high").fill_null(1.0)).alias("low"),
                (1 - pl.col("low").fill_null(1.0)).alias("high"),
                pl.Series("at_risk", at_risk),
            )
        )  # fmt: skip
    if not parts:
        raise DerailError(f"no kind has {MIN_RUNS} perturbed responses, so no curve is shown")
    role = pl.when("recovered").then(pl.lit("recovered")).otherwise(pl.lit("not_recovered"))
    return Result(
        kind="recovery_curves",
        title=f"Recovery within {h} calls",
        frame=pl.concat(parts),
        method=f"Kaplan-Meier time to the first unperturbed response of the same tool within {h} calls, "
        "censored where the run ends; 95 % intervals on the log-log scale, clustered by task.",
        keys=(by,),
        members=spells.select(by, "trajectory_id", role.alias("role")).unique(maintain_order=True),
        source=runs,
        warnings=(f"left out for fewer than {MIN_RUNS} responses: {', '.join(small)}",)
        if small
        else (),
    )


def recovery_times(runs: Trajectories, h: int = 5) -> pl.DataFrame:
    """A row per perturbed response: how many calls until the same tool answers unperturbed again.

    Columns: ``run``, ``trajectory_id``, ``task``, ``seq``, ``step``, ``tool``, ``code``, ``cause``,
    ``evidence``, ``calls`` (from 1; to recovery, or to where it is censored: ``h`` calls or the end of
    the run), ``recovered``.
    """
    return part_by_part(
        runs, lambda part, found: _recovery_times(part, found, h), detect(runs).filter("primary")
    )


def _recovery_times(runs: Trajectories, found: pl.DataFrame, h: int) -> pl.DataFrame:
    answered = (pl.col("kind") == "tool_result") & pl.col("tool").is_not_null()
    told = runs.events.filter(answered).select("run", "seq", "tool", "step").collect()
    good = told.join(found, on=["run", "seq"], how="anti").select(
        "run", "tool", good="seq", at="step"
    )
    known = runs.trajectories.select("run", task_of(), pl.col("steps").alias("last")).collect()
    following = (
        found.sort("seq")
        .join_asof(
            good.sort("good"),
            left_on="seq",
            right_on="good",
            by=["run", "tool"],
            strategy="forward",
            check_sortedness=False,
        )
        .join(known, on="run")
    )
    waited = pl.col("at") - pl.col("step")
    recovered = (waited <= h).fill_null(value=False)
    left = (pl.col("last") - 1 - pl.col("step")).clip(0, h)
    return (
        following.with_columns(
            recovered.alias("recovered"),
            pl.when(recovered).then(waited).otherwise(left).alias("calls"),
        )
        .select(
            *("run", "trajectory_id", "task", "seq", "step", "tool", "code", "cause", "evidence"),
            *("calls", "recovered"),
        )
        .sort("run", "seq")
    )
