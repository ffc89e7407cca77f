"""Turns of failed runs as arrays, with the decisive error where somebody has marked it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.outcomes import task_of
from analysis.turns import FEATURES, features
from loaders import Trajectories
from loaders.errors import DerailError

Floats = NDArray[np.float64]
MIN_ANNOTATED: Final = 20
"""Fewest annotated runs, and half as many tasks, on which a ranker is trained."""


@dataclass(frozen=True)
class AnnotatedTurns:
    """Turns as arrays, sorted by run: features, run and task by number, position, the truth."""

    table: pl.DataFrame
    x: Floats
    run: NDArray[np.intp]
    task: NDArray[np.intp]
    is_error: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()

    @property
    def position(self) -> NDArray[np.intp]:
        return self.table["turn"].to_numpy().astype(np.intp)

    def where(self, mask: NDArray[np.bool_]) -> AnnotatedTurns:
        """Only these turns."""
        return AnnotatedTurns(
            self.table.filter(pl.Series(mask)),
            self.x[mask],
            self.run[mask],
            self.task[mask],
            self.is_error[mask],
            self.warnings,
        )


def annotated_turns(runs: Trajectories, truth: pl.DataFrame | None) -> AnnotatedTurns:
    """Turns of the runs that failed or are annotated, with the truth where it is known.

    Raises ``DerailError`` where too few runs are annotated to train and test on others.
    """
    named = _named(runs, truth)
    is_told = pl.col("trajectory_id").is_in(named.implode()) | ~pl.col("success")
    told = runs.trajectories.filter(is_told).select("trajectory_id").collect()
    table = features(runs, told["trajectory_id"])
    answers = _annotated_in_logs(runs) if truth is None else _given(truth, table)
    labels = runs.trajectories.select("run", "success", task_of()).collect()
    is_error = pl.col("truth_seq").is_between("seq", "last_seq")
    table = (
        table.join(labels, on="run", maintain_order="left")
        .join(answers, on="trajectory_id", how="left", maintain_order="left")
        .with_columns(is_error.any().over("run").fill_null(value=False).alias("annotated"))
        .filter(pl.col("annotated") | ~pl.col("success").fill_null(value=True))
        .with_columns(
            pl.when("annotated").then(is_error).alias("is_error"),
            pl.coalesce("truth_agent", pl.col("agent").filter(is_error).first().over("run")),
        )
    )
    lost = answers.drop_nulls("truth_seq").join(
        table.filter("annotated"), on="trajectory_id", how="anti"
    )
    return AnnotatedTurns(
        table,
        table.select(FEATURES.keys()).to_numpy(),
        table["run"].rank("dense").to_numpy().astype(np.intp) - 1,
        table["task"].rank("dense").to_numpy().astype(np.intp) - 1,
        table["is_error"].fill_null(value=False).to_numpy(),
        (f"{lost.height} annotations point at no turn and are left out.",) if lost.height else (),
    )


def _annotated_in_logs(runs: Trajectories) -> pl.DataFrame:
    seq = pl.col("scores").list.eval(
        pl.element()
        .filter(pl.element().struct.field("name") == "mistake_seq")
        .struct.field("value")
    )
    return runs.trajectories.select(
        "trajectory_id",
        seq.list.first().cast(pl.Int64).alias("truth_seq"),
        pl.col("metadata").str.json_path_match("$.mistake_agent").alias("truth_agent"),
    ).collect()


def _given(truth: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The user's truth as the ``seq`` of the first event of each error turn."""
    unit = next((name for name in ("seq", "step", "turn") if name in truth.columns), None)
    if unit is None or "trajectory_id" not in truth.columns:
        raise DerailError(
            f"truth needs the columns trajectory_id and one of seq, step, turn; it has {truth.columns}"
        )
    agent = pl.col("agent") if "agent" in truth.columns else pl.lit(None, pl.String)
    truth = truth.drop_nulls(["trajectory_id", unit]).select(
        "trajectory_id", pl.col(unit).cast(pl.Int64).alias(unit), agent.alias("truth_agent")
    )
    if truth["trajectory_id"].is_duplicated().any():
        raise DerailError(
            "truth names more than one error for a run; the decisive one is the first"
        )
    if unit == "seq":
        return truth.rename({"seq": "truth_seq"})
    firsts = table.select("trajectory_id", unit, pl.col("seq").alias("truth_seq")).unique(
        ["trajectory_id", unit], keep="first", maintain_order=True
    )
    return truth.join(firsts, on=["trajectory_id", unit], how="left").select(
        "trajectory_id", pl.col("truth_seq").fill_null(-1), "truth_agent"
    )


def groups_of_runs(runs: Trajectories, by: str | None) -> pl.DataFrame:
    """``run`` and ``group``: the column ``by``, or that key of the metadata; "all runs" where there is none."""
    table = runs.trajectories
    everyone = pl.lit("all runs")
    if by is None:
        group = everyone
    elif by in table.collect_schema().names():
        group = pl.col(by).cast(pl.String).fill_null(everyone)
    else:
        known = re.fullmatch(r"\w[\w .-]*", by)  # any other name would be syntax of a JSON path
        value = pl.col("metadata").str.json_path_match(f"$['{by}']") if known else everyone
        group = value.fill_null(everyone)
    return table.select("run", group.alias("group")).collect()


def _named(runs: Trajectories, truth: pl.DataFrame | None) -> pl.Series:
    """Ids of the runs that somebody has annotated; few are refused before any text is read, which takes long."""
    truth = _annotated_in_logs(runs).drop_nulls("truth_seq") if truth is None else truth
    if "trajectory_id" not in truth.columns:
        return pl.Series(dtype=pl.String)  # what it lacks is said later
    ids = truth["trajectory_id"].drop_nulls()
    named = runs.trajectories.filter(pl.col("trajectory_id").is_in(ids.implode()))
    rows = named.select("run", "trajectory_id", task_of()).collect()
    _refuse(rows.height, rows["task"].n_unique())
    return rows["trajectory_id"]


def refuse_few(data: AnnotatedTurns) -> None:
    """Raise ``DerailError`` where too few runs are annotated to train and test on others."""
    _refuse(len(np.unique(data.run)), len(np.unique(data.task)))


def _refuse(annotated: int, tasks: int) -> None:
    if annotated < MIN_ANNOTATED or tasks < MIN_ANNOTATED // 2:
        raise DerailError(
            f"{annotated} annotated runs of {tasks} tasks; {MIN_ANNOTATED} runs of {MIN_ANNOTATED // 2} tasks "
            "are needed to train and test a ranker. Annotations come from the logs (score mistake_seq) or "
            "from truth=frame with trajectory_id and seq."
        )
