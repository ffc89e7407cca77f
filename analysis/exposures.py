"""What a model call had just met: perturbed responses, dropped thinking, its own repetition."""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis import perturbations
from analysis.outcomes import refuse_ever
from analysis.parts import part_by_part
from loaders import Trajectories

__all__ = ["exposures", "refuse_ever"]

_LOOP = 3  # four times the same call in a row
OF_CODES = "tool response"
GROUPS: Final = {
    "thinking_dropped": "thinking",
    "needless_repeat": "behaviour",
    "retry": "behaviour",
    "loop": "behaviour",
}


def exposures(runs: Trajectories) -> pl.DataFrame:
    """What each model call had just met: a row per run, call and exposure, sorted by run and call.

    Columns: ``run``, ``step`` (the first call that could see it), ``exposure``, ``group``
    (tool response, thinking, behaviour). A perturbed response to call t - 1 is met by call t;
    ``thinking_dropped`` is met by the call whose request misses thinking; ``retry`` (a repeat after a
    broken response), ``needless_repeat`` and ``loop`` (four times the same) by the call after them.
    """
    name = pl.col("exposure").cast(pl.String)
    return (
        part_by_part(runs, _met_in, perturbations.detect(runs), times=4)
        .with_columns(name, name.replace_strict(GROUPS, default=OF_CODES).alias("group"))
        .sort("run", "step", maintain_order=True)
    )


def groups_of(met: pl.DataFrame) -> dict[str, str]:
    """The exposures of a table and the group of each, in the order of groups and names."""
    names: list[str] = met["exposure"].unique().cast(pl.String).to_list()
    groups = {name: GROUPS.get(name, OF_CODES) for name in sorted(names)}
    return dict(sorted(groups.items(), key=lambda told: told[1]))


def met(runs: Trajectories) -> pl.DataFrame:
    """The same in little memory: ``run``, ``step``, ``exposure`` (an Enum in the order of the alphabet).

    A row once; sorted by run, call and exposure.
    """
    return part_by_part(
        runs,
        lambda part, found: _met_in(part, found).unique().sort("run", "step", "exposure"),
        perturbations.detect(runs),
        times=4,
    )


def met_first(runs: Trajectories) -> pl.DataFrame:
    """The first call of a run that meets each exposure: ``run``, ``exposure`` as in ``met``, ``met_at``."""
    return part_by_part(
        runs,
        lambda part, found: (
            _met_in(part, found)
            .group_by("run", "exposure")
            .agg(pl.col("step").min().alias("met_at"))
            .sort("run", "exposure")
        ),
        perturbations.detect(runs),
        times=4,
    )


def _met_in(runs: Trajectories, found: pl.DataFrame) -> pl.DataFrame:
    names = pl.Enum(sorted({*perturbations.codes(), *GROUPS}))
    dropped = (
        runs.steps.filter(pl.col("history_edit") == "thinking_dropped")
        .select("run", "step", pl.lit("thinking_dropped", names).alias("exposure"))
        .collect(engine="streaming")
    )
    repeats = perturbations.repeats_in(runs, found)
    next_step = pl.col("step") + 1
    behaviour = [
        repeats.filter(condition).select("run", next_step, pl.lit(name, names).alias("exposure"))
        for name, condition in (
            ("needless_repeat", ~pl.col("is_retry")),
            ("retry", pl.col("is_retry")),
            ("loop", pl.col("streak") >= _LOOP),
        )
    ]
    perturbed = found.select("run", next_step, pl.col("code").cast(names).alias("exposure"))
    return pl.concat([perturbed, dropped, *behaviour]).drop_nulls("step")
