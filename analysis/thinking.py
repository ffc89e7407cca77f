"""Was the thinking there, and was it sent back? On what evidence?

Three things are kept apart that look alike in a log: thinking *absent* (the model emitted none),
*hidden* (emitted, but encrypted, redacted or only signed), and *dropped* (emitted, and missing from
a later request). Only a recorded request can show the last; without one the answer is "unknown".
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.manipulation import manipulation, treatment_effects
from analysis.outcomes import columns
from analysis.parts import part_by_part
from analysis.results import Result
from analysis.thinking_policy import POLICIES, policy, sent_back
from analysis.thinking_steps import density, interleaving, onset, states
from analysis.thinking_tokens import (
    token_account,
    token_accounting,
    token_growths,
    with_token_evidence,
)
from loaders import Trajectories
from loaders.schema import EVIDENCE

__all__ = [
    "POLICIES",
    "audit",
    "continuity",
    "density",
    "interleaving",
    "manipulation",
    "onset",
    "policy",
    "sent_back",
    "states",
    "token_account",
    "token_accounting",
    "token_growths",
    "treatment_effects",
    "with_token_evidence",
]

_DEFAULT = ("arm", "framework", "model")


def continuity(
    runs: Trajectories, by: str | Sequence[str] = _DEFAULT, *, tokens: bool = True
) -> Result:
    """For each group: thinking emitted, hidden, sent back, dropped; from which step on; on what evidence.

    ``frame`` columns: ``by`` columns; ``verdict`` (kept, partly dropped, dropped, unknown, nothing
    to send back, no thinking, none logged, no model calls); ``runs``; ``calls``; ``emitted`` thinking blocks, of which ``hidden`` can't be read;
    ``calls_due`` (calls that had earlier thinking to be sent), of which ``calls_kept``,
    ``calls_dropped`` (at least one block missing) and ``calls_unknown``; ``sent_share`` (blocks
    sent over blocks available, where known); ``first_dropped_step`` (median over runs, counted from
    0); ``evidence`` (best first).

    Where no request is known but token counts tell which policy a run follows, its calls are told by
    that, and ``evidence`` says ``tokens``; never where a request is known. ``tokens=False`` leaves
    them unknown. ``token_accounting`` shows how sure that is.

    >>> import loaders
    >>> audit = continuity(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> "verdict" in audit.frame.columns
    True
    """
    groups = columns(by, runs)
    per_run = audit(with_token_evidence(runs) if tokens else runs)
    labels = runs.trajectories.select("trajectory_id", *groups).collect()
    table = labels.join(
        per_run, on="trajectory_id", how="left", maintain_order="left"
    ).with_columns(pl.col("verdict").fill_null(_NO_CALLS))
    totals = [
        pl.col(name).sum().cast(pl.Int64)
        for name in (
            "calls",
            "emitted",
            "hidden",
            "calls_due",
            "calls_kept",
            "calls_dropped",
            "calls_unknown",
        )
    ]
    frame = (
        table.group_by(groups)
        .agg(
            pl.len().cast(pl.Int64).alias("runs"),
            *totals,
            (pl.col("blocks_sent").sum() / pl.col("blocks_due").sum()).alias("sent_share"),
            pl.col("first_dropped_step").median(),
            pl.col("evidence").explode().drop_nulls().unique().alias("evidence"),
            (pl.col("evidence").list.contains("tokens").fill_null(value=False).sum()).alias(
                "by_tokens"
            ),
            pl.col("logged").any().alias("logged"),
        )
        .with_columns(
            pl.when(pl.col("calls") > 0)
            .then(_verdict())
            .otherwise(pl.lit(_NO_CALLS))
            .alias("verdict")
        )
        .sort(groups, nulls_last=True)
        .with_columns(
            pl.col("sent_share").fill_nan(None),
            pl.col("evidence").list.eval(
                pl.element().sort_by(
                    pl.element().replace_strict(_RANK, default=len(_RANK), return_dtype=pl.Int8)
                )
            ),
        )
        .select(
            *groups,
            "verdict",
            "runs",
            *(c for c in _COUNTS),
            "sent_share",
            "first_dropped_step",
            "evidence",
            "by_tokens",
        )
    )
    unknown, inferred = frame["calls_unknown"].sum(), frame["by_tokens"].sum()
    frame = frame.drop("by_tokens")
    warnings: list[str] = []
    if unknown:
        warnings.append(
            f"{unknown:,} calls had earlier thinking and no recorded request: whether it was sent back is "
            "unknown, whatever the log shows."
        )
    if inferred:
        warnings.append(
            f"{inferred:,} runs are told by their token counts alone, an inference from sums; "
            "thinking.token_accounting(runs) shows how sure it is."
        )
    return Result(
        kind="continuity",
        title="Thinking continuity",
        frame=frame,
        method="A block counts as sent only where its text, signature or ciphertext stands in the recorded "
        "request of the call"
        + (
            ", or where the run's token counts fit no policy that would not send it."
            if inferred
            else "."
        ),
        keys=tuple(groups),
        members=table.select(*groups, "trajectory_id", pl.col("verdict").alias("role")),
        source=runs,
        warnings=tuple(warnings),
    )


_NO_CALLS = "no model calls"
_RANK = {name: number for number, name in enumerate(EVIDENCE)}
_MIXTURES = pl.Series(
    "evidence",
    [
        [name for place, name in enumerate(EVIDENCE) if mixture >> place & 1]
        for mixture in range(1 << len(EVIDENCE))
    ],
    dtype=pl.List(pl.String),
)
"""Every mixture of evidence, by the sum of its bits: a list for each of these, not for each run."""
_COUNTS = (
    "calls",
    "emitted",
    "hidden",
    "calls_due",
    "calls_kept",
    "calls_dropped",
    "calls_unknown",
)


def audit(runs: Trajectories) -> pl.DataFrame:
    """The same for every run: one row each, with its ``verdict``.

    Columns: ``trajectory_id``, ``calls``, ``emitted``, ``hidden``, ``calls_due``, ``calls_kept``,
    ``calls_dropped``, ``calls_unknown``, ``blocks_due``, ``blocks_sent`` (where known),
    ``first_dropped_step``, ``evidence``, ``logged`` (the log can show thinking), ``verdict``.
    """
    return part_by_part(runs, _audit, times=32)


def _audit(runs: Trajectories) -> pl.DataFrame:
    # Masked before they are grouped: a filter inside each run takes four times as long.
    known_from = {f"known from {name}": pl.col("evidence") == name for name in EVIDENCE}
    sent = pl.col("thinking_sent")
    steps = (
        runs.clustered("steps")
        .select(
            "run",
            "step",
            "thinking_available",
            "thinking_sent",
            "evidence",
            (pl.col("thinking") != "not_logged").fill_null(value=False).alias("logged"),
            (pl.col("thinking_available") > 0).fill_null(value=False).alias("calls_due"),
        )
        .with_columns((pl.col("calls_due") & sent.is_not_null()).alias("known"))
        .with_columns(
            (pl.col("known") & (sent < pl.col("thinking_available"))).alias("calls_dropped")
        )
        .select(
            "run",
            "logged",
            "known",
            "calls_due",
            "calls_dropped",
            pl.when("known").then("thinking_available").alias("blocks_due"),
            pl.when("known").then("thinking_sent").alias("blocks_sent"),
            pl.when("calls_dropped").then("step").alias("first_dropped_step"),
            **{name: pl.col("known") & is_so for name, is_so in known_from.items()},
        )
        .group_by("run")
        .agg(
            pl.len().cast(pl.Int64).alias("calls"),
            pl.col("known", "calls_due", "calls_dropped").sum().cast(pl.Int64),
            pl.col("blocks_due", "blocks_sent").sum(),
            pl.col("first_dropped_step").min(),
            pl.col("logged", *known_from).any(),
        )
        .collect(engine="streaming")
        .with_columns(
            (pl.col("known") - pl.col("calls_dropped")).alias("calls_kept"),
            (pl.col("calls_due") - pl.col("known")).alias("calls_unknown"),
            pl.sum_horizontal(
                pl.col(name).cast(pl.UInt8) * (1 << place) for place, name in enumerate(known_from)
            ).alias("mixture"),
        )
        .drop("known", *known_from)
    )
    emitted = (
        runs.clustered("events")
        .filter(pl.col("kind") == "thinking")
        .select("run", pl.col("thinking_state").is_in(["hidden", "redacted"]).alias("hidden"))
        .group_by("run")
        .agg(pl.len().cast(pl.Int64).alias("emitted"), pl.col("hidden").sum().cast(pl.Int64))
        .collect(engine="streaming")
    )
    steps, emitted = steps.rechunk(), emitted.rechunk()  # thousands of chunks: dear to join
    table = (
        runs.trajectories.select("run", "trajectory_id")
        .collect()
        .join(steps, on="run", maintain_order="left")
        .join(emitted, on="run", how="left", maintain_order="left")
        .with_columns(pl.col("emitted", "hidden").fill_null(0))
        .with_columns(_verdict().alias("verdict"))
    )
    return table.select(
        "trajectory_id", "calls", "calls_due", "calls_kept", "calls_dropped", "calls_unknown", "blocks_due",
        "blocks_sent", "first_dropped_step", "logged", _MIXTURES.gather(table["mixture"]), "emitted", "hidden",
        "verdict",
    )  # fmt: skip


def _verdict() -> pl.Expr:
    return (
        pl.when((pl.col("emitted") == 0) & ~pl.col("logged").fill_null(value=False))
        .then(pl.lit("none logged"))
        .when(pl.col("emitted") == 0)
        .then(pl.lit("no thinking"))
        .when(pl.col("calls_due") == 0)
        .then(pl.lit("nothing to send back"))
        .when(pl.col("calls_kept") + pl.col("calls_dropped") == 0)
        .then(pl.lit("unknown"))
        .when(pl.col("calls_dropped") == 0)
        .then(pl.lit("kept"))
        .when(pl.col("calls_kept") == 0)
        .then(pl.lit("dropped"))
        .otherwise(pl.lit("partly dropped"))
    )
