"""What a model call had just met: perturbed responses, dropped thinking, its own repetition."""

from __future__ import annotations

import polars as pl

from analysis import perturbations
from analysis.outcomes import refuse_ever
from loaders import Trajectories

__all__ = ["exposures", "refuse_ever"]

_LOOP = 3  # four times the same call in a row


def exposures(runs: Trajectories) -> pl.DataFrame:
    """What each model call had just met: a row per run, call and exposure.

    Columns: ``run``, ``step`` (the first call that could see it), ``exposure``, ``group``
    (tool response, thinking, behaviour). A perturbed response to call t - 1 is met by call t;
    ``thinking_dropped`` is met by the call whose request misses thinking; ``retry`` (a repeat after a
    broken response), ``needless_repeat`` and ``loop`` (four times the same) by the call after them.
    """
    found = perturbations.detect(runs)
    perturbed = found.select(
        "run",
        pl.col("step") + 1,
        pl.col("code").alias("exposure"),
        pl.lit("tool response").alias("group"),
    )
    dropped = (
        runs.steps.filter(pl.col("history_edit") == "thinking_dropped")
        .select(
            "run",
            "step",
            pl.lit("thinking_dropped").alias("exposure"),
            pl.lit("thinking").alias("group"),
        )
        .collect()
    )
    repeats = perturbations.repeats(runs, found)
    behaviour = [
        repeats.filter(condition).select(
            "run",
            pl.col("step") + 1,
            pl.lit(name).alias("exposure"),
            pl.lit("behaviour").alias("group"),
        )
        for name, condition in (
            ("needless_repeat", ~pl.col("is_retry")),
            ("retry", pl.col("is_retry")),
            ("loop", pl.col("streak") >= _LOOP),
        )
    ]
    return pl.concat([perturbed, dropped, *behaviour]).drop_nulls("step")
