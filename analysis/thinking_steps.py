"""Thinking call by call: its state, how dense it is, whether it follows results, when it goes missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from analysis.behaviour_signals import signals
from analysis.outcomes import columns, task_of
from analysis.results import Result
from analysis.survival import kaplan_meier
from analysis.thinking_policy import calls_and_turns
from analysis.thinking_tokens import with_token_evidence
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

MIN_RUNS: Final = 10
MIN_TASKS: Final = 5
_THOUGHT: Final = ("text", "summary", "hidden", "redacted", "tagged_in_text")


def states(runs: Trajectories, *, tokens: bool = True) -> pl.DataFrame:
    """The state of thinking at each model call: a row per run and call, sorted.

    Columns: ``run``, ``trajectory_id``, ``step``; ``state`` (``text``, ``summary``, ``hidden``,
    ``redacted``, ``tagged_in_text``, ``absent``, ``not_logged``; null where the log can't tell);
    ``thinks`` (the call has thinking; null where unknown); ``chars``, ``reasoning_tokens``, ``density``
    (share of the output that is thinking) and ``interleaved`` (it follows a tool response and thinks
    before it acts), see ``behaviour.signals``; ``available`` (earlier blocks), ``sent`` (how many of them
    were in this request), ``missing``, ``evidence``; ``history``, what became of the earlier thinking:
    ``kept``, ``partly dropped``, ``dropped``, ``unknown``, ``nothing to send``.

    ``tokens``: let token counts tell where no request is known, see ``with_token_evidence``.

    >>> import loaders
    >>> table = states(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> table.filter(step=0)["history"].unique().to_list()
    ['nothing to send']
    """
    told = with_token_evidence(runs) if tokens else runs
    available, sent = pl.col("available"), pl.col("sent")
    measured = signals(runs).select("run", "step", "density", "interleaved")
    state = pl.col("thinking").cast(pl.String)
    return (
        told.steps.select(
            *("run", "trajectory_id", "step"),
            state.alias("state"),
            pl.when(state.is_in(_THOUGHT))
            .then(pl.lit(value=True))
            .when(state == "absent")
            .then(pl.lit(value=False))
            .when(pl.col("reasoning_tokens") > 0)
            .then(pl.lit(value=True))
            .alias("thinks"),
            pl.col("thinking_chars").alias("chars"),
            "reasoning_tokens",
            pl.col("thinking_available").alias("available"),
            pl.col("thinking_sent").alias("sent"),
            pl.col("evidence").cast(pl.String),
        )
        .sort("run", "step")
        .collect()
        .join(measured, on=["run", "step"], how="left", maintain_order="left")
        .with_columns(
            (available - sent).alias("missing"),
            pl.when((available == 0) | (pl.col("step") == 0))
            .then(pl.lit("nothing to send"))
            .when(available.is_null() | sent.is_null())
            .then(pl.lit("unknown"))
            .when(sent == available)
            .then(pl.lit("kept"))
            .when(sent == 0)
            .then(pl.lit("dropped"))
            .otherwise(pl.lit("partly dropped"))
            .alias("history"),
        )
        .select(
            *("run", "trajectory_id", "step", "state", "thinks", "chars", "reasoning_tokens"),
            *("density", "interleaved", "available", "sent", "missing", "evidence", "history"),
        )
    )


def density(runs: Trajectories, by: str | Sequence[str] | None = "arm") -> Result:
    """How much of what the model writes is thinking, in each group, and how many calls think.

    ``frame``, a row per group and ``measure``: ``density`` (reasoning tokens over output tokens, or
    characters where the log counts none) and ``thinking`` (share of calls with thinking); ``value`` with
    ``low``, ``high``; ``calls`` where it is known, ``of`` all calls; ``runs``, ``tasks``; ``refused``.
    Averaged over the calls of a run, then over runs; t interval clustered by task.

    >>> import loaders
    >>> found = density(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), by="format").frame
    >>> found["value"].drop_nulls().is_between(0, 1).all()
    True
    """
    return _measured(
        runs,
        by,
        {"density": pl.col("density"), "thinking": pl.col("thinks").cast(pl.Float64)},
        kind="density",
        title="How much of the output is thinking",
    )


def interleaving(runs: Trajectories, by: str | Sequence[str] | None = "arm") -> Result:
    """How often a tool response is thought about before the next action, in each group.

    ``frame`` as in ``density``, with the one measure ``interleaved``: of the calls that follow a tool
    response and whose log can show thinking, the share that think before they act.

    >>> import loaders
    >>> found = interleaving(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), by="format").frame
    >>> found["value"].drop_nulls().is_between(0, 1).all()
    True
    """
    return _measured(
        runs,
        by,
        {"interleaved": pl.col("interleaved").cast(pl.Float64)},
        kind="interleaving",
        title="Tool responses that are thought about before the next action",
    )


def _measured(
    runs: Trajectories,
    by: str | Sequence[str] | None,
    measures: dict[str, pl.Expr],
    *,
    kind: str,
    title: str,
) -> Result:
    groups = columns(by, runs)
    labels = _labels(runs, groups)
    names = groups or ["group"]
    per_run = (
        states(runs, tokens=False)
        .group_by("run", maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("of"),
            *(value.mean().alias(name) for name, value in measures.items()),
            *(
                value.is_not_null().sum().cast(pl.Int64).alias(f"calls_{name}")
                for name, value in measures.items()
            ),
        )
    )
    table = labels.join(per_run, on="run", maintain_order="left")
    if table.is_empty():
        raise DerailError("these logs have no model calls, so there is no thinking to measure")
    rows: list[dict[str, Any]] = []
    for key, group in table.group_by(names, maintain_order=True):
        for name in measures:
            known = group.drop_nulls(name)
            found = clustered_mean(known[name].to_list(), known["task"].to_list())
            row: dict[str, Any] = dict(zip(names, key, strict=True))
            row |= {"measure": name, "value": None if math.isnan(found.value) else found.value}
            row |= {"calls": int(known[f"calls_{name}"].sum()), "of": int(group["of"].sum())}
            row |= {"runs": found.n, "tasks": found.clusters}
            if not found.n:
                row["refused"] = "the log of no run can tell"
            elif found.n < MIN_RUNS or found.clusters < MIN_TASKS:
                row["refused"] = (
                    f"no interval for {found.n} runs of {found.clusters} tasks; {MIN_RUNS} of {MIN_TASKS} are needed"
                )
            else:
                row |= {"low": max(found.low, 0.0), "high": min(found.high, 1.0)}
            rows.append(row)
    schema: dict[str, Any] = {name: table.schema[name] for name in names}
    schema |= {"measure": pl.String, **dict.fromkeys(("value", "low", "high"), pl.Float64)}
    schema |= {**dict.fromkeys(("calls", "of", "runs", "tasks"), pl.Int64), "refused": pl.String}
    frame = pl.DataFrame(rows, schema=schema).sort(*names, "measure", nulls_last=True)
    unknown = int(frame.select((pl.col("of") - pl.col("calls")).sum()).item())
    return Result(
        kind=kind,
        title=title,
        frame=frame,
        method="Mean over the calls of a run where it is known, then over runs; 95 % t interval clustered by task.",
        keys=tuple(names),
        members=table.select(*names, "trajectory_id", pl.lit("measured").alias("role")),
        source=runs,
        warnings=(
            "Thinking and difficulty go together: a difference between groups is no effect of thinking.",
            *(
                [f"{unknown:,} values of calls are unknown: hidden or not logged thinking has no size."]
                if unknown and kind == "density"
                else []
            ),
        ),
    )  # fmt: skip


def _labels(runs: Trajectories, groups: list[str]) -> pl.DataFrame:
    return (
        runs.trajectories.filter(pl.col("parent_id").is_null())
        .select("run", "trajectory_id", task_of(), *groups)
        .with_columns([] if groups else [pl.lit("all runs").alias("group")])
        .collect()
    )


# ---------------------------------------------------------------------- onset of dropping


def onset(
    runs: Trajectories, by: str | Sequence[str] | None = "arm", *, tokens: bool = True
) -> Result:
    """When requests begin to lack earlier thinking: the share of runs that still had all of it.

    Time is counted in calls that had earlier thinking to be sent (``due_call`` 1 is the first of a
    run), so that a run is at risk only where something could be dropped. A run leaves where its next
    request is unknown or it ends (censored); Kaplan-Meier.

    ``frame``, a row per group and ``due_call`` at which runs begin to lack some or leave: the ``by`` columns; ``at_risk``;
    ``onsets`` (first lack some) and of these ``after_user_turn``, ``after_compaction``, ``otherwise``
    by what came between the call before and this one; ``censored``; ``kept`` (share that still had all) with
    ``low``, ``high`` (Greenwood clustered by task, log-log; null for one task). ``runs(role="drops")`` opens the runs that begin to lack
    some, ``role="keeps"`` those never seen to.

    Raises ``DerailError`` where no call that had earlier thinking has a known request.

    >>> import loaders
    >>> curve = onset(loaders.load("tests/inspect_logs/reasoning_{arm}.eval")).frame
    >>> curve.select("arm", "due_call", "onsets").rows()
    [('all', 3, 0), ('last', 2, 1), ('none', 1, 1)]
    """
    groups = columns(by, runs)
    names = groups or ["group"]
    per_run = _first_lack(with_token_evidence(runs) if tokens else runs)
    table = _labels(runs, groups).join(per_run, on="run", maintain_order="left")
    if table.is_empty():
        raise DerailError(
            "no call that had earlier thinking has a known request, so no onset can be seen: attach a "
            "recording with loaders.attach_wire(runs, 'wire.har')"
        )
    parts: list[pl.DataFrame] = []
    for key, group in table.group_by(names, maintain_order=True):
        curve = kaplan_meier(
            group["time"].to_list(),
            group["drops"].to_list(),
            clusters=group.select(pl.coalesce("task", "trajectory_id")).to_series().to_list(),
        )
        causes = (
            group.filter("drops")
            .group_by(pl.col("time").cast(pl.Float64))
            .agg(
                (pl.col("before") == cause).sum().cast(pl.Int64).alias(column)
                for cause, column in _BEFORE.items()
            )
        )
        parts.append(
            curve.join(causes, on="time", how="left", maintain_order="left").select(
                *(
                    pl.lit(value, dtype=table.schema[name]).alias(name)
                    for name, value in zip(names, key, strict=True)
                ),
                pl.col("time").cast(pl.Int64).alias("due_call"),
                pl.col("at_risk").cast(pl.Int64),
                pl.col("events").alias("onsets"),
                pl.col(*_BEFORE.values()).fill_null(0),
                "censored",
                pl.col("survival").alias("kept"),
                "low",
                "high",
            )
        )
    dropping = table.filter("drops")
    first = dropping["step"].median()
    return Result(
        kind="onset_of_dropping",
        title="When requests begin to lack earlier thinking",
        frame=pl.concat(parts),
        method="Kaplan-Meier over calls that had earlier thinking; runs leave where a request is unknown; 95 % bands "
        "clustered by task.",
        keys=tuple(names),
        members=table.select(
            *names,
            "trajectory_id",
            pl.when("drops").then(pl.lit("drops")).otherwise(pl.lit("keeps")).alias("role"),
        ),
        source=runs,
        headline=f"{dropping.height} of {table.height} runs with known requests begin to lack thinking"
        + (f", half of them by call {first:g} (counted from 0)." if first is not None else "."),
    )


_BEFORE: Final = {
    "user turn": "after_user_turn",
    "compaction": "after_compaction",
    "otherwise": "otherwise",
}


def _first_lack(runs: Trajectories) -> pl.DataFrame:
    """Runs with a known request that had thinking: ``time`` of the onset or of leaving, and why."""
    due = pl.col("thinking_available").fill_null(pl.col("step")) > 0
    compacted = (
        runs.events.filter((pl.col("kind") == "compaction") & pl.col("step").is_not_null())
        .select("run", pl.col("step") + 1, pl.lit(value=True).alias("after_compaction"))
        .unique()
    )
    known = pl.col("thinking_sent").is_not_null() & pl.col("thinking_available").is_not_null()
    table = (
        calls_and_turns(runs)
        .filter(due)
        .join(compacted, on=["run", "step"], how="left", maintain_order="left")
        .with_columns(known.cast(pl.Int8).cum_min().over("run").alias("seen"))
        .filter(pl.col("seen") == 1)
        .with_columns(
            pl.int_range(1, pl.len() + 1).over("run").alias("time"),
            (pl.col("thinking_sent") < pl.col("thinking_available")).alias("drops"),
            pl.when(pl.col("after_compaction"))
            .then(pl.lit("compaction"))
            .when(pl.col("begins_turn"))
            .then(pl.lit("user turn"))
            .otherwise(pl.lit("otherwise"))
            .alias("before"),
        )
        .select("run", "step", "time", "drops", "before")
        .collect()
    )
    first = table.filter("drops").unique("run", keep="first", maintain_order=True)
    never = table.join(first, on="run", how="anti").unique("run", keep="last", maintain_order=True)
    return pl.concat([first, never]).sort("run")
