"""What else differs between arms on the same tasks: a number per run and signal, compared in pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis import perturbations
from analysis.outcomes import columns, judged
from analysis.pairing import MIN_PAIRS, Pairing, pair_up
from analysis.results import Result
from analysis.signals import responses
from analysis.uncertainty import Estimate, benjamini_hochberg, clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError


def differences(
    runs: Trajectories,
    by: str = "arm",
    pair: Sequence[str] = ("task_id", "trial"),
    baseline: str | None = None,
) -> Result:
    """What else differs between arms on the same tasks: behaviour, tool responses, thinking, length.

    A row per signal and arm: ``a``, ``b``, ``signal``, ``total_a``, ``total_b`` (over paired runs;
    means for rates), ``difference`` (mean of b - a per run) with ``low``, ``high``, ``p`` clustered by
    task, ``p_adjusted`` (Benjamini-Hochberg over all rows), ``effect`` (difference over its standard
    deviation), ``pairs``, ``tasks``. Signals that no run shows are left out. Sorted by evidence.
    ``repeat_call``: a call that repeats the one before it, ``needless_repeat``: though its response
    was in order; ``response_replaced``: share of identical
    calls on the same task whose response differs between the arms (no p: tools with state differ
    anyway).

    It describes how arms differ; which of the differences made them succeed it can't tell.
    """
    keys = columns(pair, runs)
    table = judged(runs, by, *keys).with_columns(pl.col(by).cast(pl.String))
    arms = sorted(table[by].drop_nulls().unique().to_list())
    if len(arms) < 2:
        raise DerailError(f"{by!r} has fewer than two values among runs with a known outcome")
    first = baseline or arms[0]
    signals, answered = per_run_signals(runs), _first_responses(runs)
    names = [name for name in signals.columns if name != "run"]
    table = table.join(signals, on="run", how="left", maintain_order="left")
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = []
    for arm in arms:
        if arm == first:
            continue
        pairing = pair_up(table, by, first, arm, keys)
        if pairing.pairs.height < MIN_PAIRS:
            continue
        for name in names:
            row = _signal_row(pairing, name)
            if row is not None:
                rows.append(row)
                members.append(_signal_members(pairing, name))
        replaced = _response_replaced(answered, pairing)
        if replaced is not None:
            rows.append(replaced[0])
            members.append(replaced[1])
    p_adjusted = benjamini_hochberg([math.nan if row["p"] is None else row["p"] for row in rows])
    schema = {
        "a": pl.String,
        "b": pl.String,
        "signal": pl.String,
        "total_a": pl.Float64,
        "total_b": pl.Float64,
        **dict.fromkeys(("difference", "low", "high", "p", "p_adjusted", "effect"), pl.Float64),
        "pairs": pl.Int64,
        "tasks": pl.Int64,
    }
    frame = pl.DataFrame(
        [
            {**row, "p_adjusted": None if math.isnan(p) else p}
            for row, p in zip(rows, p_adjusted, strict=True)
        ],
        schema=schema,
    ).sort("p", pl.col("effect").abs(), descending=[False, True], nulls_last=True)
    return Result(
        kind="differences",
        title=f"What else differs between arms of {by!r}",
        frame=frame,
        method=f"Paired by {', '.join(keys)}; mean difference per run, CR1 clustered by task; "
        "Benjamini-Hochberg over all rows.",
        keys=("a", "b", "signal"),
        members=pl.concat(members) if members else pl.DataFrame(schema={
            **dict.fromkeys(("a", "b", "signal", "trajectory_id", "role"), pl.String)}),
        source=runs,
        warnings=("These differences go with the arms; they are not shown to cause the outcome.",),
    )  # fmt: skip


def per_run_signals(runs: Trajectories) -> pl.DataFrame:
    """Numbers that describe each run: a row per run, a column per signal.

    Perturbation codes, ``repeat_call`` and ``needless_repeat`` (not after a broken response) as
    counts, ``steps``, ``tool_calls``, ``output_tokens``, ``reasoning_tokens``, ``thinking_blocks``, ``thinking_dropped`` (calls that missed some).
    """
    base = runs.trajectories.select("run", "steps", "output_tokens", "reasoning_tokens").collect()
    codes = perturbations.detect(runs)
    counted = codes.group_by("run").agg(
        (pl.col("code") == code).sum().alias(code) for code in perturbations.codes()
    )
    kinds = runs.events.group_by("run").agg(
        (pl.col("kind") == "tool_call").sum().alias("tool_calls"),
        (pl.col("kind") == "thinking").sum().alias("thinking_blocks"),
    )
    dropped = runs.steps.group_by("run").agg(
        (pl.col("history_edit") == "thinking_dropped").sum().alias("thinking_dropped")
    )
    repeats = (
        perturbations.repeats(runs, codes)
        .group_by("run")
        .agg(pl.len().alias("repeat_call"), (~pl.col("is_retry")).sum().alias("needless_repeat"))
    )
    frame = base
    counts = [repeats, kinds.collect(), dropped.collect(), counted]
    for part in counts:
        frame = frame.join(part, on="run", how="left", maintain_order="left")
    filled = [name for part in counts for name in part.columns if name != "run"]
    return frame.with_columns(pl.col(filled).fill_null(0).cast(pl.Int64))


def _signal_row(pairing: Pairing, name: str) -> dict[str, Any] | None:
    known = pairing.pairs.drop_nulls([f"{name}_a", f"{name}_b"])
    a, b = known[f"{name}_a"].cast(pl.Float64), known[f"{name}_b"].cast(pl.Float64)
    if known.height < MIN_PAIRS or (a.sum() == 0 and b.sum() == 0):
        return None
    estimate = clustered_mean((b - a).to_list(), known["task_a"].to_list())
    return _row(pairing, name, (float(a.sum()), float(b.sum())), estimate, (b - a).std())


def _row(
    pairing: Pairing, name: str, totals: tuple[float, float], estimate: Estimate, spread: Any
) -> dict[str, Any]:
    return {
        "a": pairing.a,
        "b": pairing.b,
        "signal": name,
        "total_a": totals[0],
        "total_b": totals[1],
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "effect": estimate.value / spread if spread else None,
        "pairs": estimate.n,
        "tasks": estimate.clusters,
    }


def _signal_members(pairing: Pairing, name: str) -> pl.DataFrame:
    shared = [
        pl.lit(pairing.a).alias("a"),
        pl.lit(pairing.b).alias("b"),
        pl.lit(name).alias("signal"),
    ]
    return pl.concat(
        [
            pairing.pairs.filter(pl.col(f"{name}_{side}") > 0).select(
                *shared,
                pl.col(f"trajectory_id_{side}").alias("trajectory_id"),
                pl.lit(arm).alias("role"),
            )
            for side, arm in (("a", pairing.a), ("b", pairing.b))
        ]
    )


def _first_responses(runs: Trajectories) -> pl.DataFrame:
    """The first response to each call of a run: ``run``, ``tool``, ``arguments``, ``text``."""
    return (
        responses(runs)
        .filter(pl.col("arguments").is_not_null())
        .unique(["run", "tool", "arguments"], keep="first", maintain_order=True)
        .select("run", "tool", "arguments", "text")
    )


def _response_replaced(
    answered: pl.DataFrame, pairing: Pairing
) -> tuple[dict[str, Any], pl.DataFrame] | None:
    """Share of identical calls on the same task whose first response differs between the arms."""
    pairs = pairing.pairs.select("run_a", "run_b", "task_a", "trajectory_id_a", "trajectory_id_b")
    same = (
        pairs.join(answered, left_on="run_a", right_on="run")
        .join(
            answered,
            left_on=["run_b", "tool", "arguments"],
            right_on=["run", "tool", "arguments"],
            suffix="_b",
            nulls_equal=True,
        )
        .with_columns((pl.col("text").ne_missing(pl.col("text_b"))).alias("differs"))
    )
    if same.height < MIN_PAIRS or not same["differs"].any():
        return None
    estimate = clustered_mean(same["differs"].cast(pl.Float64).to_list(), same["task_a"].to_list())
    row = _row(pairing, "response_replaced", (0.0, estimate.value), estimate, same["differs"].std())
    row["p"] = None  # a share is above zero by construction
    shared = [
        pl.lit(pairing.a).alias("a"),
        pl.lit(pairing.b).alias("b"),
        pl.lit("response_replaced").alias("signal"),
    ]
    changed = same.filter("differs")
    members = pl.concat(
        [
            changed.select(
                *shared,
                pl.col(f"trajectory_id_{side}").alias("trajectory_id"),
                pl.lit(arm).alias("role"),
            ).unique(maintain_order=True)
            for side, arm in (("a", pairing.a), ("b", pairing.b))
        ]
    )
    return row, members
