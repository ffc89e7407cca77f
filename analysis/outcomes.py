"""How often runs succeed: by any grouping, with intervals that know that tasks cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import polars as pl

from analysis.results import Result
from analysis.uncertainty import clustered_mean, pass_hat_k, share_interval
from loaders import Trajectories
from loaders.errors import DerailError

MIN_RUNS = 10
MIN_TASKS: Final = 5
_REPEATS: Final = 1_000


def columns(by: str | Sequence[str] | None, runs: Trajectories) -> list[str]:
    """The grouping as a list of columns of ``trajectories``.

    Raises ``DerailError`` for an unknown column, with those that there are, and for one that tells what
    happened to a run at any time (``ever_dropped``): see ``refuse_ever``.
    """
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    refuse_ever(names)
    known = runs.trajectories.collect_schema().names()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DerailError(
            f"no column {unknown[0]!r} in trajectories; there are {', '.join(known)}. Labels come from a "
            "template such as 'runs/{arm}/*.json' or from runs.label(frame, on=...)."
        )
    return names


CONDITIONS: Final = ("model", "framework", "benchmark", "format", "provider")
"""Columns of the schema by which runs may be told apart where nobody named arms."""

MOST_LEVELS: Final = 24
"""A column of more values is no condition to compare."""


def conditions(runs: Trajectories) -> list[str]:
    """Columns by which these runs can be compared: ``arm`` first, then labels, then model, framework and so on.

    A column counts where it has from 2 to 24 values.

    >>> import loaders
    >>> chat = [{"role": "user", "content": "Look."}]
    >>> conditions(loaders.from_messages([chat, chat], task_id="t", arm=["kept", "dropped"]))
    ['arm']
    """
    schema = runs.trajectories.collect_schema()
    names = [
        name
        for name in dict.fromkeys(["arm", *runs.labels, *CONDITIONS])
        if name in schema and not schema[name].is_nested()
    ]
    counts = runs.trajectories.select(pl.col(names).n_unique()).collect().row(0, named=True)
    return [name for name in names if 2 <= counts[name] <= MOST_LEVELS]


_EVER: Final = re.compile(r"^[Ee][Vv][Ee][Rr](?:[\s_:-]+|(?=[A-Z]))(?P<what>.*)$")


def refuse_ever(wanted: Sequence[str]) -> None:
    """Raise ``DerailError`` for an exposure "ever", which is biased by construction.

    Refused are names such as ``ever_dropped``, ``ever:timeout`` and ``ever dropped``, as an exposure and as
    a column to compare runs by; a name such as ``everyday`` is none.

    >>> refuse_ever(["everyday_tasks", "timeout"])
    >>> refuse_ever(["ever:timeout"])
    Traceback (most recent call last):
    ...
    loaders.errors.DerailError: 'ever:timeout' compares runs by what happened at any time: ...
    """
    for name in wanted:
        if found := _EVER.match(name):
            what = found["what"].strip().lower()
            raise DerailError(
                f"{name!r} compares runs by what happened at any time: longer runs meet more, so it is biased "
                "even where nothing has an effect (immortal time; with a true null, 45 % of tests find one). Ask for "
                f"the exposure itself, breakdown.triggers(runs, {what!r}) or breakdown.hazard(runs, {what!r}): it is "
                "compared at the step at which it is met. If the label was assigned before the run, give it another "
                "name."
            )


def named_task() -> pl.Expr:
    """``task_id`` within its benchmark; null where the log names no task."""
    named = pl.concat_str(pl.col("benchmark").fill_null(""), pl.lit("/"), pl.col("task_id"))
    return pl.when(pl.col("task_id").is_not_null()).then(named)


def task_of() -> pl.Expr:
    """The column ``task``: the named task, or the run itself where there is none."""
    return pl.coalesce(named_task(), "trajectory_id").alias("task")


def judged(runs: Trajectories, *names: str) -> pl.DataFrame:
    """Runs with a known success that are no subagent's: ``trajectory_id``, ``task``, ``success``.

    ``task`` is ``task_id`` (within its benchmark), or the run itself where the log names no task,
    so that it can stand as the cluster.
    """
    return (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col("success").is_not_null())
        .select(
            "run",
            "trajectory_id",
            task_of(),
            "success",
            *dict.fromkeys(names),
        )
        .collect()
    )


def success(
    runs: Trajectories, by: str | Sequence[str] | None = "arm", level: float = 0.95
) -> Result:
    """Success rate of each group with an interval clustered by task.

    ``frame`` columns: ``by`` columns, ``success`` (mean), ``se``, ``low``, ``high``, ``tasks``,
    ``runs``. Groups of fewer than 10 runs or 5 tasks have no interval: it would not hold. Runs
    whose outcome the log does not tell are left out and counted in a warning.

    >>> import loaders
    >>> rates = success(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), by="format")
    >>> "success" in rates.frame.columns
    True
    """
    groups = columns(by, runs)
    table = judged(runs, *groups)
    rows: list[tuple[object, ...]] = []
    if not groups:
        table = table.with_columns(pl.lit("all runs").alias("group"))
    for key, group in table.group_by(groups or ["group"], maintain_order=True):
        e = clustered_mean(
            group["success"].cast(pl.Float64).to_list(), group["task"].to_list(), level
        )
        enough = e.n >= MIN_RUNS and e.clusters >= MIN_TASKS
        rows.append(
            (
                *key,
                e.value,
                *((e.se, e.low, e.high) if enough else (None, None, None)),
                e.clusters,
                e.n,
            )
        )
    names = groups or ["group"]
    schema = {
        **{n: table.schema.get(n, pl.String()) for n in names},
        "success": pl.Float64,
        "se": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "tasks": pl.Int64,
        "runs": pl.Int64,
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row").sort(names, nulls_last=True)
    role = pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")
    unknown = (
        runs.trajectories.filter(pl.col("parent_id").is_null()).select(pl.len()).collect().item()
    )
    left_out = unknown - table.height
    return Result(
        kind="success",
        title="Success",
        frame=frame.with_columns(pl.col("low").clip(0, 1), pl.col("high").clip(0, 1)),
        method=f"Mean of success; {level:.0%} t interval with CR1 standard errors clustered by task.",
        keys=tuple(names),
        members=table.select(*names, "trajectory_id", role),
        source=runs,
        warnings=(f"{left_out} runs whose outcome the log does not tell are left out.",)
        if left_out
        else (),
    )


def means(
    runs: Trajectories,
    of: str | pl.DataFrame,
    by: str | Sequence[str] | None = "arm",
    level: float = 0.95,
) -> Result:
    """The mean of a number of each run, by group, with an interval clustered by task.

    ``of``: the name of one of the runs' ``scores``, a column of numbers of ``trajectories`` (``steps``,
    ``output_tokens``, ``score`` ...), or a frame with ``run`` and ``value``. ``frame`` columns: the ``by`` columns, ``mean``,
    ``se``, ``low``, ``high``, ``tasks``, ``runs``. Runs without the number are left out and counted in a
    warning; groups of fewer than 10 runs or 5 tasks have no interval.

    Raises ``DerailError`` where no run has it.

    >>> import loaders
    >>> found = means(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), "steps", by=None)
    >>> found.frame["mean"].item() > 1
    True
    """
    groups = columns(by, runs)
    table = runs.trajectories.filter(pl.col("parent_id").is_null())
    everyone = table.select("run", "trajectory_id", task_of(), *groups).collect()
    name = of if isinstance(of, str) else "value"
    known = everyone.join(_values(runs, of), on="run", maintain_order="left").drop_nulls("value")
    if known.is_empty():
        raise DerailError(f"no run has {name!r}: it is no score and no column of numbers here")
    if not groups:
        known = known.with_columns(pl.lit("all runs").alias("group"))
    names = groups or ["group"]
    rows: list[dict[str, object]] = []
    for key, group in known.group_by(names, maintain_order=True):
        e = clustered_mean(group["value"].to_list(), group["task"].to_list(), level)
        row: dict[str, object] = {**dict(zip(names, key, strict=True)), "mean": e.value}
        if e.n >= MIN_RUNS and e.clusters >= 5:
            row |= {"se": e.se, "low": e.low, "high": e.high}
        rows.append(row | {"tasks": e.clusters, "runs": e.n})
    schema = {n: known.schema[n] for n in names} | dict.fromkeys(
        ("mean", "se", "low", "high"), pl.Float64()
    )
    left_out = everyone.height - known.height
    return Result(
        kind="means",
        title=f"Mean {name}",
        frame=pl.DataFrame(rows, schema={**schema, "tasks": pl.Int64(), "runs": pl.Int64()}).sort(
            names, nulls_last=True
        ),
        method=f"Mean over runs; {level:.0%} t interval with CR1 standard errors clustered by task.",
        keys=tuple(names),
        members=known.select(*names, "trajectory_id", pl.lit("run").alias("role")),
        source=runs,
        warnings=(f"{left_out} runs without {name} are left out.",) if left_out else (),
    )


def error_rates(runs: Trajectories) -> pl.DataFrame:
    """The share of each run's tool responses that its framework says failed: ``run``, ``value``.

    Failed: the error flag is set, or the exit code is not 0. Responses of which neither is known do not
    count; runs without any that is are left out. With ``means``: the mean over episodes, as InterCode
    (Yang et al. 2023) reports it, which is not the share of all responses pooled.

    >>> import loaders
    >>> shares = error_rates(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> shares["value"].is_between(0, 1).all()
    True
    """
    failed = pl.col("is_error").fill_null(value=False) | (pl.col("exit_code") != 0).fill_null(
        value=False
    )
    known = pl.col("is_error").is_not_null() | pl.col("exit_code").is_not_null()
    return (
        runs.events.filter(pl.col("kind") == "tool_result", known)
        .group_by("run")
        .agg(failed.mean().alias("value"))
        .sort("run")
        .collect()
    )


def _values(runs: Trajectories, of: str | pl.DataFrame) -> pl.DataFrame:
    """``run`` and ``value`` of a score, of a column, or as given."""
    if isinstance(of, pl.DataFrame):
        if missing := {"run", "value"} - set(of.columns):
            raise DerailError(f"numbers of your own need the columns {sorted(missing)}")
        return of.select("run", pl.col("value").cast(pl.Float64))
    schema = runs.trajectories.collect_schema()
    if of in schema and (schema[of].is_numeric() or schema[of] == pl.Boolean):
        return runs.trajectories.select("run", pl.col(of).cast(pl.Float64).alias("value")).collect()
    scores = runs.trajectories.select("run", "scores").explode("scores").unnest("scores")
    return scores.filter(pl.col("name") == of).select("run", "value").collect()


def pass_k(
    runs: Trajectories,
    by: str | Sequence[str] | None = None,
    k: int | None = None,
    *,
    band: Literal["wilson", "bootstrap"] = "wilson",
    level: float = 0.95,
) -> Result:
    """pass^k: the chance that k trials of a task all succeed, for k = 1, 2, ...

    Unbiased, C(c, k) / C(n, k) averaged over tasks; tasks with fewer than k trials are left out of
    that k. ``frame`` columns: ``by`` columns, ``k``, ``pass_k``, ``se``, ``low``, ``high``
    (null for fewer than 5 tasks), ``tasks``. ``k``: the largest to compute; by default the most common
    number of trials. ``band``: ``wilson`` (clustered by task), or ``bootstrap``, percentiles of 1,000
    samples of tasks, as papers draw it; that one has no width where all tasks agree.

    >>> import loaders
    >>> curve = pass_k(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> curve.frame["pass_k"].is_sorted(descending=True)
    True
    """
    groups = columns(by, runs)
    table = judged(runs, *groups)
    if table.is_empty():
        raise DerailError(
            "no run has a known outcome, so there is no pass^k; label() can add success"
        )
    names = groups or ["group"]
    if not groups:
        table = table.with_columns(pl.lit("all runs").alias("group"))
    counted = table.group_by(*names, "task", maintain_order=True).agg(
        pl.col("success").sum().alias("c"), pl.len().alias("n")
    )
    most = k or counted.select(pl.col("n").mode().max()).item()
    rows: list[tuple[object, ...]] = []
    for key, group in counted.group_by(names, maintain_order=True):
        for size in range(1, most + 1):
            estimates = [
                pass_hat_k(c, n, size) for c, n in group.select("c", "n").iter_rows() if n >= size
            ]
            if estimates:
                e = clustered_mean(estimates, range(len(estimates)))
                drawn = band == "bootstrap"
                low_high = _task_bootstrap(estimates, level) if drawn else share_interval(e, level)
                interval = (e.se, *low_high) if e.n >= MIN_TASKS else (None, None, None)
                rows.append((*key, size, e.value, *interval, e.n))
    schema = {
        **{n: table.schema[n] for n in names},
        "k": pl.Int64,
        "pass_k": pl.Float64,
        "se": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "tasks": pl.Int64,
    }
    return Result(
        kind="pass_k",
        title="pass^k",
        frame=pl.DataFrame(rows, schema=schema, orient="row").sort(*names, "k"),
        method="Unbiased C(c,k)/C(n,k), averaged over tasks; "
        + (
            f"{level:.0%} percentile band of {_REPEATS:,} bootstrap samples of tasks."
            if band == "bootstrap"
            else "Wilson interval over tasks."
        ),
        keys=tuple(names),
        members=table.select(*names, "trajectory_id", pl.lit("trial").alias("role")),
        source=runs,
    )


def _task_bootstrap(estimates: list[float], level: float) -> tuple[float, float]:
    """Percentiles of the mean over tasks that are drawn anew, the same draws in each run."""
    per_task = np.asarray(estimates)
    tasks = per_task.size
    drawn = np.random.default_rng(0).multinomial(tasks, np.full(tasks, 1 / tasks), size=_REPEATS)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn @ per_task / tasks, [tail, 1 - tail])
    return float(low), float(high)


def rate_text(value: float | None) -> str:
    """A rate as a percentage with one decimal, or a dash.

    >>> rate_text(0.5), rate_text(None)
    ('50.0 %', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"
