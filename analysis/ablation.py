"""Compare arms on the same tasks: paired differences, exact tests, and what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.arm_differences import differences, per_run_signals
from analysis.confounding import immortal_labels
from analysis.factors import factors
from analysis.manipulation import stragglers
from analysis.outcomes import columns, judged, pass_k
from analysis.pairing import MIN_PAIRS, Pairing, pair_up
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
from analysis.uncertainty import benjamini_hochberg, clustered_mean, holm, mcnemar_exact
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
    enough = pairs.height >= MIN_PAIRS
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
    if few := [pairing for pairing in pairings if 0 < pairing.pairs.height < MIN_PAIRS]:
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
