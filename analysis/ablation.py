"""Compare arms on the same tasks: paired differences, exact tests, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import perturbations
from analysis.confounding import immortal_labels
from analysis.factors import factors
from analysis.manipulation import stragglers
from analysis.outcomes import columns, judged, pass_k
from analysis.power import (
    Spread,
    alpha_of_looks,
    detectable,
    error_of_looks,
    plan,
    spread_of,
    tasks_needed,
)
from analysis.results import Result
from analysis.signals import responses
from analysis.uncertainty import Estimate, benjamini_hochberg, clustered_mean, holm, mcnemar_exact
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = [
    "Pairing",
    "Spread",
    "alpha_of_looks",
    "benjamini_hochberg",
    "compare",
    "detectable",
    "differences",
    "error_of_looks",
    "factors",
    "holm",
    "mcnemar_exact",
    "p_text",
    "pair_up",
    "pass_k",
    "per_run_signals",
    "plan",
    "spread_of",
    "tasks_needed",
]

_MIN_PAIRS = 10
_SCHEMA = {
    "a": pl.String,
    "b": pl.String,
    "rate_a": pl.Float64,
    "rate_b": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_mcnemar": pl.Float64,
    "p_adjusted": pl.Float64,
    "gained": pl.Int64,
    "lost": pl.Int64,
    "pairs": pl.Int64,
    "tasks": pl.Int64,
    "unpaired": pl.Int64,
}


@dataclass(frozen=True)
class Pairing:
    """Runs of two arms side by side: a row per pair with the suffixes ``_a`` and ``_b``."""

    a: str
    b: str
    pairs: pl.DataFrame
    unpaired: int
    repeated: int


def pair_up(table: pl.DataFrame, by: str, a: str, b: str, pair: Sequence[str]) -> Pairing:
    """Pair each run of arm ``a`` with the run of arm ``b`` that has the same ``pair`` columns.

    Runs without a partner are left out and counted in ``unpaired``. Where several runs of one arm
    share a key, they pair in order and ``repeated`` counts them.
    """
    order = pl.int_range(pl.len()).over(by, *pair)
    numbered = table.with_columns(order.alias("_nth"))
    left, right = (numbered.filter(pl.col(by) == name).drop(by) for name in (a, b))
    keys = [*pair, "_nth"]
    pairs = left.join(right, on=keys, suffix="_b", nulls_equal=True, maintain_order="left")
    renamed = {name: f"{name}_a" for name in left.columns if name not in keys}
    repeated = pairs.filter(pl.col("_nth") > 0).height
    return Pairing(
        a, b, pairs.rename(renamed), left.height + right.height - 2 * pairs.height, repeated
    )


def compare(
    runs: Trajectories,
    by: str = "arm",
    pair: Sequence[str] = ("task_id", "trial"),
    baseline: str | None = None,
) -> Result:
    """Success of each arm against the baseline, on the same tasks.

    ``frame`` columns: ``a`` (baseline), ``b``, ``rate_a``, ``rate_b``, ``difference`` (b - a) with
    ``low``, ``high`` and ``p`` from standard errors clustered by task, ``p_mcnemar`` (exact, from
    ``gained`` and ``lost`` pairs), ``p_adjusted`` (Holm over the comparisons), ``pairs``, ``tasks``,
    ``unpaired`` (runs left out). ``runs("gained")`` opens the runs of arm b that succeeded where
    their partner failed; roles are gained, gained_from, lost, lost_from, both, neither.

    Where a key has several runs per arm, trials pair in order, the exact test is over pairs and the
    interval is clustered by task; prefer the interval then.

    Raises ``DerailError`` where there are fewer than two arms, or no pairs.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")
    >>> compare(runs).frame.select("a", "b", "pairs").rows()
    [('all', 'last', 16), ('all', 'none', 16)]
    """
    keys = columns(pair, runs)
    columns(by, runs)
    table = judged(runs, by, *keys).with_columns(pl.col(by).cast(pl.String))
    arms = sorted(table[by].drop_nulls().unique().to_list())
    if len(arms) < 2:
        raise DerailError(
            f"{by!r} has {len(arms)} value{'s' * (len(arms) != 1)} among runs with a known outcome; two "
            "are needed to compare. Name another column with by=, or label the runs: "
            "loaders.load('runs/{arm}/*.json')."
        )
    first = baseline if baseline is not None else arms[0]
    if first not in arms:
        raise DerailError(f"no arm is called {first!r}; there are {', '.join(arms)}")
    pairings = [pair_up(table, by, first, arm, keys) for arm in arms if arm != first]
    rows = [_compared(pairing) for pairing in pairings if pairing.pairs.height]
    if not rows:
        raise DerailError(f"no two runs of different arms share {keys}: nothing can be paired")
    # Pairs of one task depend on each other, so the exact test stands only where each is its own task.
    tested = [row["p_mcnemar"] if row["pairs"] == row["tasks"] else row["p"] for row in rows]
    adjusted = holm([float("nan") if p is None else float(p) for p in tested])
    frame = pl.DataFrame(
        [
            {**row, "p_adjusted": None if math.isnan(p) else p}
            for row, p in zip(rows, adjusted, strict=True)
        ],
        schema=_SCHEMA,
    )
    return Result(
        kind="compare",
        title=f"Arms of {by!r} compared on the same tasks",
        frame=frame,
        method=f"Paired by {', '.join(keys)}; CR1 standard errors clustered by task, t interval; exact "
        "McNemar on discordant pairs; Holm over comparisons.",
        keys=("a", "b"),
        members=pl.concat([_members(pairing) for pairing in pairings]),
        source=runs,
        warnings=(*_pairing_warnings(pairings), *_label_warnings(runs, by)),
        headline=_headline(frame),
    )


def _compared(pairing: Pairing) -> dict[str, Any]:
    pairs = pairing.pairs
    a, b = pairs["success_a"].cast(pl.Int64), pairs["success_b"].cast(pl.Int64)
    estimate = clustered_mean((b - a).cast(pl.Float64).to_list(), pairs["task_a"].to_list())
    gained, lost = int((b > a).sum()), int((b < a).sum())
    enough = pairs.height >= _MIN_PAIRS
    return {
        "a": pairing.a,
        "b": pairing.b,
        "rate_a": a.mean(),
        "rate_b": b.mean(),
        "difference": estimate.value,
        "low": estimate.low if enough else None,
        "high": estimate.high if enough else None,
        "p": estimate.p if enough else None,
        "p_mcnemar": mcnemar_exact(gained, lost),
        "gained": gained,
        "lost": lost,
        "pairs": pairs.height,
        "tasks": estimate.clusters,
        "unpaired": pairing.unpaired,
    }


def _members(pairing: Pairing) -> pl.DataFrame:
    a, b = pl.col("success_a"), pl.col("success_b")
    role = (
        pl.when(b & ~a)
        .then(pl.lit("gained"))
        .when(a & ~b)
        .then(pl.lit("lost"))
        .when(a & b)
        .then(pl.lit("both"))
        .otherwise(pl.lit("neither"))
    )
    shared = pl.lit(pairing.a).alias("a"), pl.lit(pairing.b).alias("b")
    of_b = pairing.pairs.select(
        *shared, pl.col("trajectory_id_b").alias("trajectory_id"), role.alias("role")
    )
    partner = pl.when(role.is_in(["gained", "lost"])).then(role + "_from").otherwise(role)
    of_a = pairing.pairs.select(
        *shared, pl.col("trajectory_id_a").alias("trajectory_id"), partner.alias("role")
    )
    return pl.concat([of_b, of_a])


def _pairing_warnings(pairings: list[Pairing]) -> list[str]:
    def arms(affected: list[Pairing]) -> str:
        return ", ".join(pairing.b for pairing in affected)

    warnings = [
        f"{pairing.b}: {pairing.unpaired} runs of it or of {pairing.a} have no partner and are left out."
        for pairing in pairings
        if pairing.unpaired
    ]
    if repeated := [pairing for pairing in pairings if pairing.repeated]:
        warnings.append(
            f"Several runs of an arm share a key and are paired in order: {arms(repeated)}."
        )
    if clustered := [p for p in pairings if p.pairs.height > p.pairs["task_a"].n_unique()]:
        warnings.append(
            "Several pairs per task: McNemar's test takes them as independent, so quote the clustered interval "
            f"and p ({arms(clustered)})."
        )
    if few := [pairing for pairing in pairings if 0 < pairing.pairs.height < _MIN_PAIRS]:
        warnings.append(f"Too few pairs for an interval: {arms(few)}.")
    return warnings


def _label_warnings(runs: Trajectories, by: str) -> list[str]:
    """Labels that runs had to last for, and runs that got something else than the rest of their arm."""
    found = [flaw.says for flaw in immortal_labels(runs, by)]
    check = stragglers(runs, by)
    return [*found, *(check.warnings if check else ())]


def _headline(frame: pl.DataFrame) -> str:
    largest = frame.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
    interval = (
        f" [{100 * largest['low']:+.1f}, {100 * largest['high']:+.1f}]"
        if largest["low"] is not None
        else ""
    )
    independent = largest["pairs"] == largest["tasks"]
    test = (
        f"exact McNemar p {p_text(largest['p_mcnemar'])}"
        if independent
        else f"p {p_text(largest['p'])} clustered by task"
    )
    return (
        f"{largest['b']} succeeds in {100 * largest['rate_b']:.1f} % of {largest['pairs']} pairs, "
        f"{largest['a']} in {100 * largest['rate_a']:.1f} %: {100 * largest['difference']:+.1f} points"
        f"{interval}; {largest['gained']} gained, {largest['lost']} lost, {test}."
    )


def p_text(p: float | None) -> str:
    """A p value with its relation, as papers print it.

    >>> p_text(0.00152), p_text(0.00001), p_text(0.034), p_text(None)
    ('= .0015', '< .0001', '= .034', 'unknown')
    """
    if p is None or math.isnan(p):
        return "unknown"
    if p < 0.0001:
        return "< .0001"
    return "= " + (f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}").lstrip("0")


# ---------------------------------------------------------------------- what else differs


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
        if pairing.pairs.height < _MIN_PAIRS:
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
    if known.height < _MIN_PAIRS or (a.sum() == 0 and b.sum() == 0):
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
    if same.height < _MIN_PAIRS or not same["differs"].any():
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
