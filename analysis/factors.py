"""Several factors at once: main effects and interactions on the same tasks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from analysis.outcomes import columns, judged
from analysis.power import alpha_of_looks, error_of_looks
from analysis.results import Result
from analysis.uncertainty import Estimate, clustered_mean, holm
from loaders import Trajectories
from loaders.errors import DerailError

MIN_TASKS: Final = 10

_SCHEMA = {
    "effect": pl.String,
    "kind": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    "tasks": pl.Int64,
    "runs": pl.Int64,
    "refused": pl.String,
}


def factors(
    runs: Trajectories,
    by: Sequence[str],
    *,
    baseline: dict[str, str] | None = None,
    looks: int = 1,
) -> Result:
    """Main effects of any number of factors, and interactions of each two, within tasks.

    Each task is its own control. The *main effect* of a level is the mean, over the settings of all
    other factors, of its success minus that of the baseline level in the same setting. The *interaction*
    of two factors is a difference in differences: by how much one's effect is larger under the other.
    Trials of a cell are averaged first; tasks that lack a cell which an effect needs are left out of
    it. Estimates are means over tasks, intervals clustered by task, p values adjusted by Holm.

    ``frame`` columns: ``effect`` (``policy=none`` against the baseline level, or ``policy=none x
    model=small``), ``kind`` (main, interaction), ``difference`` (of success) with ``low``, ``high``,
    ``p``, ``p_adjusted``; ``tasks``, ``runs`` behind it; ``refused`` (fewer than 10 tasks).
    ``runs(effect=...)`` opens them. ``baseline``: factor to its base level; by default the first in
    alphabetical order. ``looks``: how often the data were tested, this time included; beyond 1 a warning
    says what that costs and p values are compared with Pocock's level.

    Raises ``DerailError`` where a factor has one level, or no task has all that an effect needs.

    >>> import loaders
    >>> found = factors(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"), ["arm"])
    >>> found.frame.select("effect", "kind").rows()
    [('arm=last', 'main'), ('arm=none', 'main')]
    """
    names = columns(by, runs)
    table = judged(runs, *names).with_columns(pl.col(names).cast(pl.String)).drop_nulls(names)
    levels = _levels(table, names, baseline or {})
    cells = table.group_by("task", *names).agg(
        pl.col("success").cast(pl.Float64).mean().alias("rate"), pl.col("trajectory_id")
    )
    contrasts = [
        *((f"{f}={v}", "main", _main(cells, f, v, levels[f][0], names)) for f in names for v in levels[f][1:]),
        *(
            (f"{f}={v} x {g}={w}", "interaction", _interaction(cells, (f, v, levels[f][0]), (g, w, levels[g][0]), names))
            for f, g in itertools.combinations(names, 2)
            for v in levels[f][1:]
            for w in levels[g][1:]
        ),
    ]  # fmt: skip
    rows = [_row(effect, kind, per_task) for effect, kind, per_task in contrasts]
    if all(row["tasks"] == 0 for row in rows):
        raise DerailError(f"no task has runs in two settings of {names}: nothing can be compared")
    for row, p in zip(rows, holm([row.get("p", float("nan")) for row in rows]), strict=True):
        row["p_adjusted"] = None if p != p else p  # noqa: PLR0124 - NaN alone differs from itself
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    level = alpha_of_looks(looks) if looks > 1 else 0.05
    base = ", ".join(f"{name}={levels[name][0]}" for name in names)
    return Result(
        kind="factors",
        title=f"Effects of {', '.join(names)} on success",
        frame=frame,
        method=f"Differences within tasks against {base}, interactions as differences in differences; "
        "95 % t interval clustered by task; Holm over all effects.",
        keys=("effect",),
        members=_members(contrasts),
        source=runs,
        warnings=tuple(_warnings(cells, table, names, looks, level)),
        headline=_headline(frame, level),
    )


def _levels(
    table: pl.DataFrame, names: list[str], baseline: dict[str, str]
) -> dict[str, list[str]]:
    if unknown := [name for name in baseline if name not in names]:
        raise DerailError(f"{unknown[0]!r} of baseline is no factor here; factors are {names}")
    found: dict[str, list[str]] = {}
    for name in names:
        values: list[str] = sorted(table[name].unique().to_list())
        if len(values) < 2:
            raise DerailError(f"{name!r} has one level, {values}: it is no factor")
        first = baseline.get(name, values[0])
        if first not in values:
            raise DerailError(f"{name!r} has no level {first!r}; there are {', '.join(values)}")
        found[name] = [first, *(value for value in values if value != first)]
    return found


def _main(
    cells: pl.DataFrame, factor: str, level: str, base: str, names: list[str]
) -> pl.DataFrame:
    """A row per task: the mean difference over the settings of the other factors that it has."""
    others = [name for name in names if name != factor]
    pairs = _paired(cells, factor, level, base, others)
    return _per_task(pairs.with_columns((pl.col("rate") - pl.col("rate_base")).alias("value")))


def _interaction(
    cells: pl.DataFrame,
    first: tuple[str, str, str],
    second: tuple[str, str, str],
    names: list[str],
) -> pl.DataFrame:
    (f, v, f_base), (g, w, g_base) = first, second
    others = [name for name in names if name not in (f, g)]
    pairs = _paired(cells, f, v, f_base, [g, *others]).with_columns(
        (pl.col("rate") - pl.col("rate_base")).alias("effect")
    )
    both = pairs.filter(pl.col(g) == w).join(
        pairs.filter(pl.col(g) == g_base), on=["task", *others], suffix="_other"
    )
    lists = [
        "trajectory_id",
        "trajectory_id_base",
        "trajectory_id_other",
        "trajectory_id_base_other",
    ]
    return _per_task(
        both.with_columns((pl.col("effect") - pl.col("effect_other")).alias("value")), lists
    )


def _paired(
    cells: pl.DataFrame, factor: str, level: str, base: str, others: list[str]
) -> pl.DataFrame:
    left, right = (cells.filter(pl.col(factor) == value).drop(factor) for value in (level, base))
    return left.join(right, on=["task", *others], suffix="_base", maintain_order="left")


def _per_task(
    pairs: pl.DataFrame, lists: Sequence[str] = ("trajectory_id", "trajectory_id_base")
) -> pl.DataFrame:
    return (
        pairs.with_columns(pl.concat_list(lists).alias("_behind"))
        .group_by("task", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("_behind").explode().alias("trajectory_id"))
    )


def _row(effect: str, kind: str, per_task: pl.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"effect": effect, "kind": kind, "tasks": per_task.height}
    row["runs"] = per_task.select(pl.col("trajectory_id").list.len().sum()).item()
    if per_task.height < MIN_TASKS:
        return {
            **row,
            "refused": f"{per_task.height} tasks have all it needs; {MIN_TASKS} are needed",
        }
    found: Estimate = clustered_mean(per_task["value"].to_list(), per_task["task"].to_list())
    return {**row, "difference": found.value, "low": found.low, "high": found.high, "p": found.p}


def _members(contrasts: Sequence[tuple[str, str, pl.DataFrame]]) -> pl.DataFrame:
    return pl.concat(
        per_task.select(pl.lit(effect).alias("effect"), "trajectory_id")
        .explode("trajectory_id")
        .with_columns(pl.lit("compared").alias("role"))
        .unique(maintain_order=True)
        for effect, _, per_task in contrasts
    )


def _warnings(
    cells: pl.DataFrame, table: pl.DataFrame, names: list[str], looks: int, level: float
) -> list[str]:
    warnings: list[str] = []
    settings = cells.select(names).n_unique()
    whole = cells.group_by("task").len().filter(pl.col("len") == settings).height
    tasks = cells["task"].n_unique()
    if whole < tasks:
        warnings.append(
            f"Unbalanced: {tasks - whole} of {tasks} tasks lack runs in some of the {settings} settings; "
            "each effect uses the tasks that have all it needs."
        )
    per_cell = table.group_by("task", *names).len()["len"]
    if per_cell.min() != per_cell.max():
        warnings.append(
            "Cells have different numbers of trials; each task counts once all the same."
        )
    if looks > 1:
        warnings.append(
            f"Tested {looks} times: at 5 % each, {error_of_looks(looks):.0%} of studies of nothing would "
            f"find something. Compare p values with {level:.4f} (Pocock)."
        )
    return warnings


def _headline(frame: pl.DataFrame, level: float) -> str:
    found = frame.filter(pl.col("p_adjusted") < level).sort(
        pl.col("difference").abs(), descending=True
    )
    if found.is_empty():
        return "No effect is shown after correction."
    return "; ".join(
        f"{row['effect']}: {100 * row['difference']:+.1f} points [{100 * row['low']:+.1f}, "
        f"{100 * row['high']:+.1f}]"
        for row in found.head(3).iter_rows(named=True)
    )
