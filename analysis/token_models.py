"""Which policy of sending thinking back explains how the prompts of a run grew.

Each policy is a linear model of the growth, with conjugate priors on tokens per byte of each kind of
text and per message, fitted to all runs at once from sums; see ``thinking_tokens`` for what it is for.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POLICIES: Final = ("all", "none", "turn_boundary", "last")
"""Simplest first: of policies that predict the same, the first is named."""
_MODELS: Final = (*POLICIES, "half")
"""Half of the thinking dropped is no policy; it competes so that a part is not taken for all or none."""

CONFIDENT: Final = 0.99
"""Smallest posterior chance of a policy at which a run is told."""
_MISFIT: Final = 3.0
_OFF: Final = 0.3
PER_BYTE, PER_BYTE_SD = 0.27, 0.08
_PER_MESSAGE, _PER_MESSAGE_SD = 5.0, 5.0
_FIXED_NOISE, _TEXT_NOISE = 4.0, 0.15
_SHAPE, _SCALE = 2.0, 2.0
_TERMS: Final = ("said", "responses", "user", "messages")

ACCOUNT: Final = {
    "trajectory_id": pl.String,
    "policy": pl.String,
    "confidence": pl.Float64,
    "phi": pl.Float64,
    "phi_low": pl.Float64,
    "phi_high": pl.Float64,
    "growths": pl.Int64,
    "compactions": pl.Int64,
    "reasoning_tokens": pl.Float64,
    "bytes_per_token_said": pl.Float64,
    "bytes_per_token_responses": pl.Float64,
    "bytes_per_token_user": pl.Float64,
    "tokens_per_message": pl.Float64,
    "noise": pl.Float64,
    "fits": pl.List(pl.String),
    "why_unknown": pl.String,
}


# ---------------------------------------------------------------------- what each policy loses


def with_losses(table: pl.DataFrame) -> pl.DataFrame:
    """For each policy the thinking tokens that a growth lacks, as ``known - per_byte * bytes``.

    Where the log counts no reasoning tokens, thinking is the completion less what it says in text.
    """
    is_open = pl.col("reasoning").is_null()
    known = pl.when(is_open).then(pl.col("completion")).otherwise(pl.col("reasoning")).fill_null(0)
    bytes_ = pl.when(is_open).then(pl.col("said")).otherwise(0)
    thinks = is_open | (pl.col("reasoning") > 0)
    turn = pl.col("opens_turn").cast(pl.Int64).shift(1).fill_null(0).cum_sum().over("run")
    table = table.with_columns(
        known.alias("r"), bytes_.alias("v"), thinks.alias("thinks"), turn.alias("turn")
    )

    def lost(name: str, column: str) -> pl.Expr:
        value = pl.col(column)
        before = pl.when("thinks").then(value).forward_fill().shift(1).over("run")
        return {
            "all": pl.lit(0),
            "none": value,
            "half": value / 2,
            "turn_boundary": pl.when("opens_turn").then(value.cum_sum().over("run", "turn")),
            "last": pl.when("thinks").then(before),
        }[name].fill_null(0).cast(pl.Float64)  # fmt: skip

    return table.with_columns(
        lost(name, column).alias(f"{column}_{name}") for name in _MODELS for column in ("r", "v")
    )


def weight() -> pl.Expr:
    """One over the variance that a tokeniser's unevenness is expected to make."""
    texts = (pl.col("responses"), pl.col("user"), pl.col("v"))
    spread = [(_TEXT_NOISE * PER_BYTE * text.cast(pl.Float64)) ** 2 for text in texts]
    return 1 / (_FIXED_NOISE**2 + pl.sum_horizontal(spread))


# ---------------------------------------------------------------------- fits, all runs at once


def fits(rows: pl.DataFrame) -> pl.DataFrame:
    """Policy, chance, phi and calibration of each run."""
    w = pl.col("w")
    sums: dict[str, pl.Expr] = {"growths": pl.len().cast(pl.Float64)}
    for name in _MODELS:
        x = [pl.col(f"v_{name}"), pl.col("responses"), pl.col("user"), pl.col("messages")]
        y = pl.col("growth") - pl.col("completion") + pl.col(f"r_{name}")
        x, y = [value.cast(pl.Float64) for value in x], y.cast(pl.Float64)
        for i, left in enumerate(x):
            sums[f"{name}_y{i}"] = (w * left * y).sum()
            sums |= {f"{name}_{i}{j}": (w * left * x[j]).sum() for j in range(i, len(x))}
        sums[f"{name}_yy"] = (w * y * y).sum()
    for column in ("responses", "user", "v"):
        sums[f"all_{column}"] = pl.col(column).sum().cast(pl.Float64)
    table = rows.group_by("run", maintain_order=True).agg(
        expression.alias(name) for name, expression in sums.items()
    )
    if table.is_empty():
        return pl.DataFrame(
            schema={"run": pl.Int64, **{n: t for n, t in ACCOUNT.items() if n not in _ELSEWHERE}}
        )
    evidence, means, noise = zip(*(_posterior(table, name) for name in _MODELS), strict=True)
    log_evidence = np.stack(evidence, axis=1)
    chance = np.exp(log_evidence - log_evidence.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    best = chance.argmax(axis=1)
    runs_index = np.arange(len(best))
    beta = np.stack(means, axis=1)[runs_index, best]
    spread = np.sqrt(np.stack(noise, axis=1)[runs_index, best])
    alike = _alike(rows, table["run"], best)
    confidence = np.minimum((chance * alike).sum(axis=1), 1.0)
    # argmax takes the first of equals only up to rounding: name the simplest of those alike.
    named = alike.argmax(axis=1)
    phi = _phi(rows, table["run"], beta, spread)
    per_byte = np.maximum(beta[:, :3], 1e-3)
    has = [table[f"all_{name}"].to_numpy() > 0 for name in ("v", "responses", "user")]
    told = (
        pl.DataFrame(
            {
                "run": table["run"],
                "named": np.array(_MODELS)[named],
                "confidence": confidence,
                "growths": table["growths"].cast(pl.Int64),
                "noise": spread,
                "tokens_per_message": beta[:, 3],
                "fits": [[p for p, same in zip(_MODELS, row, strict=True) if same] for row in alike.tolist()],
            }
        )
        .with_columns(
            pl.Series(f"bytes_per_token_{name}", np.where(has[i], 1 / per_byte[:, i], np.nan)).fill_nan(None)
            for i, name in enumerate(_TERMS[:3])
        )
        .join(phi, on="run", how="left", maintain_order="left")
    )  # fmt: skip
    reason = _why_unknown()
    return told.with_columns(reason.alias("why_unknown")).with_columns(
        pl.when(pl.col("reasoning_tokens") <= 0)
        .then(pl.lit("nothing_to_send"))
        .when(pl.col("why_unknown").is_not_null())
        .then(pl.lit("unknown"))
        .otherwise("named")
        .alias("policy"),
        pl.when(pl.col("reasoning_tokens") > 0).then("why_unknown"),
    )


_ELSEWHERE: Final = ("trajectory_id", "compactions")


def _posterior(table: pl.DataFrame, name: str) -> tuple[Floats, Floats, Floats]:
    """Log marginal likelihood, mean of the coefficients and noise variance of one policy's model."""
    size, terms = table.height, len(_TERMS)
    xx = np.zeros((size, terms, terms))
    xy = np.zeros((size, terms))
    for i in range(terms):
        xy[:, i] = table[f"{name}_y{i}"].to_numpy()
        for j in range(i, terms):
            xx[:, i, j] = xx[:, j, i] = table[f"{name}_{i}{j}"].to_numpy()
    yy, n = table[f"{name}_yy"].to_numpy(), table["growths"].to_numpy()
    mean = np.array([PER_BYTE] * 3 + [_PER_MESSAGE])
    precision = np.diag(1 / np.array([PER_BYTE_SD] * 3 + [_PER_MESSAGE_SD]) ** 2)
    after = xx + precision
    solved = np.linalg.solve(after, (xy + precision @ mean)[..., None])
    coefficients = np.asarray(solved[..., 0], dtype=np.float64)
    left = (
        yy + mean @ precision @ mean - np.einsum("ri,rij,rj->r", coefficients, after, coefficients)
    )
    shape, scale = _SHAPE + n / 2, _SCALE + np.maximum(left, 0) / 2
    spread = np.asarray(np.linalg.slogdet(after)[1], dtype=np.float64)
    log_evidence = -0.5 * spread - shape * np.log(scale)
    return log_evidence, coefficients, scale / (shape - 1)


def _alike(rows: pl.DataFrame, order: pl.Series, best: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For each run the policies that predict the growths of its best one."""
    same: dict[str, pl.Expr] = {}
    for a in _MODELS:
        for b in _MODELS:
            equal = [pl.col(f"{c}_{a}") == pl.col(f"{c}_{b}") for c in ("r", "v")]
            same[f"{a}={b}"] = pl.all_horizontal(equal).all()
    table = rows.group_by("run", maintain_order=True).agg(
        expression.alias(name) for name, expression in same.items()
    )
    table = pl.DataFrame({"run": order}).join(table, on="run", how="left", maintain_order="left")
    cube = np.stack(
        [np.stack([table[f"{a}={b}"].to_numpy() for b in _MODELS], axis=1) for a in _MODELS],
        axis=1,
    )
    return cube[np.arange(len(best)), best]  # fmt: skip


def _phi(rows: pl.DataFrame, order: pl.Series, beta: Floats, spread: Floats) -> pl.DataFrame:
    """Share of thinking tokens that growths lack, with the calibration of the best policy."""
    calibrated = pl.DataFrame(
        {"run": order, "spread": spread, **{f"b{i}": beta[:, i] for i in range(len(_TERMS))}}
    )
    text = pl.sum_horizontal(
        pl.col(f"b{i}") * pl.col(name) for i, name in enumerate(_TERMS) if i > 0
    )
    thinking = (pl.col("r") - pl.col("b0") * pl.col("v")).clip(0)
    delta = pl.col("growth") - pl.col("completion") - text
    w, r = pl.col("w"), pl.col("thinking_tokens")
    half = 1.96 * pl.col("spread") / pl.col("wrr").sqrt()
    return (
        rows.join(calibrated, on="run", maintain_order="left")
        .with_columns(thinking.alias("thinking_tokens"), delta.alias("delta"))
        .group_by("run", maintain_order=True)
        .agg(
            r.sum().alias("reasoning_tokens"),
            (w * r * r).sum().alias("wrr"),
            (-(w * r * pl.col("delta")).sum() / (w * r * r).sum()).alias("phi"),
            pl.col("spread").first(),
        )
        .with_columns(pl.col("phi").fill_nan(None))
        .select(
            "run",
            "reasoning_tokens",
            "phi",
            (pl.col("phi") - half).alias("phi_low"),
            (pl.col("phi") + half).alias("phi_high"),
        )
    )


def _why_unknown() -> pl.Expr:
    expected = pl.col("named").replace_strict(
        {"all": 0.0, "none": 1.0}, default=None, return_dtype=pl.Float64
    )
    return (
        pl.when(pl.col("confidence") < CONFIDENT)
        .then(pl.lit("several policies would explain these counts"))
        .when(pl.col("noise") > _MISFIT)
        .then(pl.lit("no policy explains these counts"))
        .when((pl.col("named") == "half") | ((pl.col("phi") - expected).abs() > _OFF))
        .then(pl.lit("only a part of the thinking seems to be missing"))
        .when(pl.col("phi_high") - pl.col("phi_low") > 1)
        .then(pl.lit("too little thinking to be seen in the counts"))
    )
