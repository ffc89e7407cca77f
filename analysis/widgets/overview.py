"""What the widgets know of all runs before anything is clicked: small tables, no texts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from analysis import perturbations, thinking
from analysis.design import crossed_with, shared_trials
from analysis.outcomes import CONDITIONS
from analysis.widgets.strips import says, shown
from loaders import Trajectories

AT_ONCE: Final = 200_000
"""Up to so many events, perturbed responses are looked for before the widget shows; else beside it."""

EVERYTHING: Final = "all runs"


def pairing(table: pl.DataFrame, by: str | None, columns: Sequence[str]) -> list[str]:
    """What names a pair by default: task, trial, and every other column that is crossed with ``by``."""
    names = ["task_id", "trial"]
    if by is None:
        return names
    others = [name for name in columns if name not in (by, *names)]
    return [*names, *crossed_with(table, by, others)]


def most_paired(table: pl.DataFrame, columns: Sequence[str]) -> str | None:
    """The condition whose arms meet on most tasks and trials; the first of several."""
    return max(columns, key=lambda name: shared_trials(table, name), default=None)


@dataclass
class Overview:
    """A row per run (``table``), a row per run and tool (``tools``), and the perturbed responses.

    Columns of our own begin with an underscore, so that no label of the user's is in their way.
    """

    runs: Trajectories

    @cached_property
    def table(self) -> pl.DataFrame:
        """Every run: identity, labels, outcome, size, and the verdict on its thinking."""
        names = (
            "run",
            "trajectory_id",
            "task_id",
            "trial",
            "outcome",
            "success",
            "steps",
            "events",
        )
        labels = ("arm", *self.runs.labels, *CONDITIONS)
        verdicts = thinking.audit(self.runs).select(
            "trajectory_id", pl.col("verdict").alias("_thinking")
        )
        return (
            self.runs.trajectories.select(*dict.fromkeys([*names, *labels]))
            .with_columns(pl.col("outcome").cast(pl.String).fill_null("unknown"))
            .collect()
            .join(verdicts, on="trajectory_id", how="left", maintain_order="left")
            .with_columns(pl.col("_thinking").fill_null("no model calls"))
        )  # fmt: skip

    @cached_property
    def tools(self) -> pl.DataFrame:
        """Calls of each tool by each run: ``run``, ``tool``, ``calls``."""
        return (
            self.runs.events.filter(pl.col("kind") == "tool_call")
            .group_by("run", pl.col("tool").fill_null("unnamed tool"))
            .agg(pl.len().cast(pl.Int64).alias("calls"))
            .collect()
        )

    @cached_property
    def codes(self) -> pl.DataFrame:
        """Perturbed responses: ``run``, ``seq``, ``tool``, ``code`` of each, by its best evidence."""
        return (
            perturbations.detect(self.runs)
            .filter("primary")
            .select("run", "seq", pl.col("tool").fill_null("unnamed tool"), "code", "rule", "evidence")
        )  # fmt: skip

    @property
    def knows_codes(self) -> bool:
        """Whether perturbed responses have been looked for."""
        return "codes" in self.__dict__

    def marks_of(self, run: int) -> dict[int, str] | None:
        """Codes of a run by ``seq``, once all runs have been looked at: some rules compare runs."""
        if not self.knows_codes:
            return None
        return dict(self.codes.filter(pl.col("run") == run).select("seq", "code").iter_rows())

    def found(self, query: str) -> pl.DataFrame:
        """How many events of each run hold the text: ``run``, ``_matches``."""
        return (
            self.runs.events.filter(says(query))
            .group_by("run")
            .agg(pl.len().cast(pl.Int64).alias("_matches"))
            .collect(engine="streaming")
        )


def levels(table: pl.DataFrame, column: str | None) -> list[tuple[Any, str]]:
    """The values of a condition and what to call each."""
    if column is None:
        return [(None, EVERYTHING)]
    values = table[column].unique().sort(nulls_last=True).to_list()
    return [(value, shown(value)) for value in values]


def of_level(column: str | None, value: Any) -> pl.Expr:
    """Runs under this value of the condition."""
    return pl.lit(value=True) if column is None else pl.col(column).eq_missing(pl.lit(value))


def in_background(work: Callable[[], object], done: Callable[[], None]) -> threading.Thread:
    """Do ``work`` beside the kernel's own thread, then call ``done``."""

    def run() -> None:
        work()
        done()

    thread = threading.Thread(target=run, name="derail-widget", daemon=True)
    thread.start()
    return thread


def options(values: Sequence[tuple[str, str]], everything: str) -> list[tuple[str, str]]:
    """Options of a filter, the first of which filters nothing."""
    return [("", everything), *values]
