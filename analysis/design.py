"""How a set of runs was designed: which column holds the arms, and what is crossed with them.

An experiment is read off the logs' own columns, the fields of a template, or folders and file names.
Two values of a column are *compared* where the same task and trial has runs under both. What is
*crossed* with the arms takes the same values in every arm: runs must agree on it before they pair, or a
difference between arms mixes with one between strata. A *condition* is given to trials of a task, alike
in every arm, as a fault that is put into some trials and not into others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

import polars as pl

from loaders import Trajectories

_KEY: Final = ("benchmark", "task_id", "trial")
_MIN_SHARED_TASKS: Final = 10
_MOST_LEVELS: Final = 12
_OWN_COLUMNS: Final = ("benchmark", "framework", "model")
_NO_TREATMENT: Final = ("none", "baseline", "control", "clean", "unperturbed", "original")


@dataclass(frozen=True)
class Design:
    """``arm`` the column that holds the arms, if any; ``crossed`` columns that runs must agree on.

    ``conditions``: those of ``crossed`` that differ between trials of a task and not inside one.
    """

    arm: str | None
    crossed: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list[str])

    @property
    def pair(self) -> list[str]:
        """The columns that name the same task, trial and setting in each arm."""
        return ["task_id", "trial", *self.crossed]

    @property
    def strata(self) -> list[str]:
        """What is crossed with the arms and no condition: model, scaffold and the like."""
        return [name for name in self.crossed if name not in self.conditions]


def read_design(runs: Trajectories, by: str | None = None) -> tuple[Trajectories, Design]:
    """The design of these runs; they come back with what folders say as labels.

    ``by``: the arms, where they are known.
    """
    table = runs.trajectories.filter(pl.col("parent_id").is_null()).collect()
    notes: list[str] = []
    has_labels = bool(runs.labels) or _varies(table, "arm")
    levels: list[str] = []
    if not has_labels and by is None:
        runs, table, levels = _with_folders(runs, table)
    arm = by or _arm_of(table, [*runs.labels], notes, from_folders=bool(levels))
    if arm is None or arm not in table.columns:
        return runs, Design(arm, notes=notes)
    if levels:
        names = ", ".join(table[arm].drop_nulls().unique().sort().to_list())
        notes.append(
            f"Arms are the folders {names}, because they hold runs of the same tasks. "
            "Name other arms with --by, or a template such as 'runs/{arm}/*.json'."
        )
    crossed = crossed_with(table, arm, [n for n in (*runs.labels, *_OWN_COLUMNS) if n != arm])
    conditions = tuple(name for name in crossed if _is_condition(table, arm, name, crossed))
    if crossed:
        shown = "; ".join(f"{name} ({_values(table, name)})" for name in crossed)
        notes.append(f"Runs pair on task and trial and on what is crossed with {arm}: {shown}.")
    return runs, Design(arm, tuple(crossed), conditions, notes)


def untreated(levels: Sequence[str], counts: Sequence[int]) -> str:
    """The level of a condition that is no treatment: by its name, else the most frequent."""
    named = [level for level in levels if level.lower() in _NO_TREATMENT]
    most = max(zip(counts, levels, strict=True), key=lambda pair: pair[0])[1]
    return named[0] if named else most


# ---------------------------------------------------------------------- arms


def _varies(table: pl.DataFrame, name: str) -> bool:
    return table[name].drop_nulls().n_unique() > 1


def _arm_of(
    table: pl.DataFrame, labels: list[str], notes: list[str], *, from_folders: bool
) -> str | None:
    if from_folders or (_varies(table, "arm") and table["arm"].null_count() == 0):
        return "arm"
    shared = {name: shared_trials(table, name) for name in labels if _is_factor(table, name)}
    best = max(shared, key=lambda name: shared[name], default=None)
    if best is not None and shared[best] >= _MIN_SHARED_TASKS:
        return best
    if _varies(table, "arm"):
        return "arm"
    if _varies(table, "model"):
        notes.append("No arms are labelled; models are compared instead.")
        return "model"
    return None


def _is_factor(table: pl.DataFrame, name: str) -> bool:
    return 2 <= table[name].drop_nulls().n_unique() <= _MOST_LEVELS


def shared_trials(table: pl.DataFrame, name: str) -> int:
    """On how many tasks and trials runs under two values of the column can be compared."""
    if name in _KEY:
        return 0
    return (
        table.drop_nulls([name, "task_id"])
        .group_by(_KEY)
        .agg(pl.col(name).n_unique().alias("values"))
        .filter(pl.col("values") > 1)
        .height
    )


def _with_folders(
    runs: Trajectories, table: pl.DataFrame
) -> tuple[Trajectories, pl.DataFrame, list[str]]:
    """Levels of the path as labels: ``arm`` for the one that compares most runs, if any does.

    Folders below it are ``folder_2`` and so on by their depth after it, ``file`` is the name of the file up to its first dot.
    """
    judged = table.filter(pl.col("task_id").is_not_null() & pl.col("source").is_not_null())
    paths = [PurePosixPath(source) for source in judged["source"].to_list()]
    deepest = max((len(path.parent.parts) for path in paths), default=0)
    columns = {
        f"_{depth}": [p.parts[depth] if depth < len(p.parts) - 1 else None for p in paths]
        for depth in range(deepest)
    }
    columns["file"] = [path.name.partition(".")[0] for path in paths]
    found = judged.select("trajectory_id", *_KEY).with_columns(
        pl.Series(name, values, dtype=pl.String) for name, values in columns.items()
    )
    factors = [name for name in columns if _is_factor(found, name)]
    shared = {name: shared_trials(found, name) for name in factors if name != "file"}
    arm = max(shared, key=lambda name: shared[name], default=None)
    if arm is None or shared[arm] < _MIN_SHARED_TASKS:
        return runs, table, []
    deeper = [name for name in factors if name == "file" or int(name[1:]) > int(arm[1:])]
    deeper = [
        name for name in deeper if found[name].null_count() == 0 and _shares_tasks(found, name)
    ]
    names = {arm: "arm"} | {
        name: name if name == "file" else f"folder_{int(name[1:]) - int(arm[1:]) + 1}"
        for name in deeper
    }
    labels = found.select("trajectory_id", *names).rename(names).drop_nulls("arm")
    labelled = runs.label(labels, on="trajectory_id")
    told = labelled.trajectories.filter(pl.col("parent_id").is_null()).collect()
    return labelled, told, list(names.values())


def _shares_tasks(table: pl.DataFrame, name: str) -> bool:
    shared = table.group_by("benchmark", "task_id").agg(pl.col(name).n_unique().alias("values"))
    return shared.filter(pl.col("values") > 1).height >= _MIN_SHARED_TASKS


# ---------------------------------------------------------------------- what is crossed with them


def crossed_with(table: pl.DataFrame, arm: str, candidates: Sequence[str]) -> list[str]:
    """Columns that take the same values, two or more, in every arm; none that others determine.

    ``table``: a row per run. Runs of a pair must be alike in them, beside task and trial.
    """
    table = table.drop_nulls(arm)
    chosen: list[str] = []
    for name in dict.fromkeys(candidates):
        if not _is_factor(table, name) or table[name].null_count():
            continue
        in_every_arm = (
            table.group_by(name)
            .agg(pl.col(arm).n_unique().alias("arms"))
            .filter(pl.col("arms") == table[arm].n_unique())
            .height
        )
        is_new = table.select(*chosen, name).n_unique() > table.select(chosen or [arm]).n_unique()
        if in_every_arm >= 2 and (is_new or not chosen):
            chosen.append(name)
    return chosen


def _is_condition(table: pl.DataFrame, arm: str, name: str, crossed: Sequence[str]) -> bool:
    """Whether trials of a task differ in it, and no two runs of the same trial, arm and stratum do."""
    others = [other for other in crossed if other != name]
    inside = table.drop_nulls("task_id").group_by(*_KEY, arm, *others)
    in_trial = inside.agg(pl.col(name).n_unique().alias("values"))
    is_given = in_trial["values"].max() == 1 and shared_trials(table, name) == 0
    return is_given and _shares_tasks(table, name)


def _values(table: pl.DataFrame, name: str) -> str:
    values = table[name].drop_nulls().unique().sort().to_list()
    return ", ".join(map(str, values)) if len(values) <= 4 else f"{len(values)} values"
