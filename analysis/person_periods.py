"""Who is at risk of what: a row per run and call, and the same counted where rows are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from analysis.exposures import groups_of, met
from analysis.neighbours import with_room
from analysis.outcomes import columns, judged
from analysis.parts import each_part, slices
from loaders import Trajectories
from loaders.errors import DerailError
from loaders.schema import OUTCOMES

_STEPS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40)
"""First step of each piece of the baseline hazard."""


_CUT_OFF = ("limit", "cancelled")


def person_period(
    runs: Trajectories, end: str = "failure", by: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """A row per run and call, with all that a hazard model needs.

    Columns: ``run``, ``trajectory_id``, ``task``, ``step``, the ``by`` columns, ``event`` (this call is
    the run's last, and the run ended so), and a column of 0 and 1 for each exposure that was met.
    ``end``: ``failure`` (the run did not succeed, and was not cut off by a limit or its user), or one of
    the outcomes of the schema (``limit``, ``error`` ...); runs that end otherwise leave the risk set at
    their last call (competing ends: the hazard is the cause-specific one).

    >>> import loaders
    >>> rows = person_period(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> int(rows["event"].sum()) == rows.filter("event")["run"].n_unique()
    True
    """
    arms = columns(by, runs)
    risk = at_risk(runs, end, arms)
    return (
        _person_steps(runs, risk)
        .select("run", "trajectory_id", "task", "step", *arms, "event", *risk.groups)
        .collect(engine="streaming")
        .sort("run", "step")
    )


@dataclass(frozen=True)
class AtRisk:
    """Who is at risk of what: small tables, from which person-steps are made as they are read.

    ``runs``: ``run``, ``trajectory_id``, ``task``, arms, ``ended`` (the run ended so), ``last`` step;
    ``met``: ``run``, ``step``, ``exposure`` (``exposures.met``); ``groups``: the group of each exposure.
    Both tables are sorted by run.
    """

    runs: pl.DataFrame
    met: pl.DataFrame
    groups: dict[str, str]


def at_risk(runs: Trajectories, end: str, arms: list[str]) -> AtRisk:
    """Runs, what each of them met at which call, and the exposures; ``DerailError`` without outcomes."""
    table = judged(runs, *arms, "outcome")
    if table.is_empty():
        raise DerailError(
            "no run has a known outcome, so no call is known to break one. Add outcomes: "
            "runs.label(frame with trajectory_id and success, on='trajectory_id')."
        )
    last = (
        runs.clustered("steps")
        .group_by("run")
        .agg(pl.col("step").max().alias("last"))
        .collect(engine="streaming")
    )
    everything = met(runs)
    people = table.with_columns(ended=_ended(end)).join(last, on="run", maintain_order="left")
    return AtRisk(people.sort("run"), everything, groups_of(everything))


def _person_steps(runs: Trajectories, risk: AtRisk) -> pl.LazyFrame:
    """A row per run and call, with a column of 0 and 1 for each exposure."""
    wide = risk.met.with_columns(one=pl.lit(1.0)).pivot(
        on="exposure", index=["run", "step"], values="one"
    )
    is_last = pl.col("step") == pl.col("last")
    return (
        runs.steps.select("run", "step")
        .join(risk.runs.lazy(), on="run")
        .join(wide.lazy(), on=["run", "step"], how="left")
        .with_columns(
            (is_last & pl.col("ended")).alias("event"),
            *(pl.col(name).fill_null(0.0) for name in risk.groups),
        )
    )


def counted_periods(runs: Trajectories, risk: AtRisk, arms: list[str]) -> pl.DataFrame:
    """Person-steps that are alike to every model here, counted, so that a row is kept for few.

    Columns: ``task``, arms, ``step`` (first of its piece of the baseline), a column for each exposure;
    ``rows``, of which ``n`` whose event is known, ``event`` those that have it, ``ends`` a run's last.
    """
    cell, alike = ["task", *arms], ["task", *arms, "step", *risk.groups]
    # Many rows are told apart by numbers: one for the texts of task and arms, and a bit for each exposure.
    cells = risk.runs.select(cell).unique(maintain_order=True).with_row_index("cell")
    people = risk.runs.join(cells, on=cell, nulls_equal=True, maintain_order="left").select(
        "run", "cell", "last", "ended"
    )
    bits = {name: divmod(number, _BITS) for number, name in enumerate(risk.groups)}
    words = [f"met_{word}" for word in range(len(bits) // _BITS + 1)]
    counted = pl.DataFrame()
    for part in each_part(
        runs, lambda part, who, what: _counted(part, who, what, bits), people, risk.met, times=4
    ):
        both = pl.concat([counted, part]) if counted.width else part
        counted = both.group_by("cell", "step", *words).sum()
    return (
        counted.with_columns(
            (pl.col(words[word]) // (1 << place) % 2).cast(pl.Float64).alias(name)
            for name, (word, place) in bits.items()
        )
        .join(cells, on="cell")
        .select(*alike, "rows", "n", "event", "ends")
        .sort(alike)
    )


_BITS: Final = 60


def _counted(
    runs: Trajectories, people: pl.DataFrame, met: pl.DataFrame, bits: dict[str, tuple[int, int]]
) -> pl.DataFrame:
    """Of a part of the runs: calls by ``cell``, piece of the baseline and the bits of what they had met."""
    people = people.with_columns(base=with_room(pl.int_range(pl.len())))
    name, at = pl.col("exposure").cast(pl.String), (pl.col("base") + pl.col("step")).alias("at")
    words = {
        f"met_{word}": name.replace_strict(
            {name: 1 << place for name, (its, place) in bits.items() if its == word},
            default=0,
            return_dtype=pl.Int64,
        )
        for word in range(len(bits) // _BITS + 1)
    }
    marks = (
        met.join(people.select("run", "base"), on="run")
        .select(at, **words)
        .group_by("at")
        .agg(pl.col(*words).sum())
    )
    is_last = pl.col("step") == pl.col("last")
    return (
        runs.steps.select("run", "step")
        .collect(engine="streaming")
        .join(people, on="run")
        .with_columns(at)
        .join(marks, on="at", how="left")
        .select(
            "cell",
            _piece(pl.col("step"), _STEPS).alias("step"),
            pl.col(*words).fill_null(0),
            is_last.alias("is_last"),
            (is_last & pl.col("ended")).alias("event"),
        )
        .group_by("cell", "step", *words)
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("event").count().cast(pl.Int64).alias("n"),
            pl.col("event").sum().cast(pl.Int64),
            pl.col("is_last").sum().cast(pl.Int64).alias("ends"),
        )
    )


def met_by_each(risk: AtRisk, products: Sequence[tuple[str, str]] = ()) -> pl.DataFrame:
    """What each run met while it was at risk: ``run``, ``exposure``, ``met_at`` (first call), ``broke``.

    ``products``: pairs of exposures that count as one more, named ``a x b``, where one call met both;
    ``broke``: a call that met it was the last of a run that ended so.
    """
    names = pl.Enum([*sorted(risk.groups), *(product(*pair) for pair in products)])
    people = risk.runs.select("run", "last", "ended")
    broke = ((pl.col("step") == pl.col("last")) & pl.col("ended")).any()
    found: list[pl.DataFrame] = []
    for some in slices(risk.met):
        both = [
            some.filter(exposure=a)
            .join(some.filter(exposure=b), on=["run", "step"], how="semi")
            .with_columns(exposure=pl.lit(product(a, b), names))
            for a, b in products
        ]
        found.append(
            pl.concat([some.with_columns(pl.col("exposure").cast(pl.String).cast(names)), *both])
            .join(people, on="run")
            .filter(pl.col("step") <= pl.col("last"))
            .group_by("run", "exposure")
            .agg(pl.col("step").min().alias("met_at"), broke.alias("broke"))
            .sort("run", "exposure")
        )
    return pl.concat(found)


def product(a: str, b: str) -> str:
    """The name of an interaction."""
    return f"{a} x {b}"


def _piece(step: pl.Expr, starts: Sequence[int]) -> pl.Expr:
    """The first step of the piece of the baseline that a step is in."""
    piece = pl.lit(starts[0], pl.Int64)
    for start in starts[1:]:
        piece = pl.when(step >= start).then(pl.lit(start, pl.Int64)).otherwise(piece)
    return piece


def _ended(end: str) -> pl.Expr:
    if end == "failure":
        return ~pl.col("success") & ~pl.col("outcome").cast(pl.String).is_in(_CUT_OFF)
    if end not in OUTCOMES:
        raise DerailError(f"no run ends in {end!r}; ends are {', '.join(OUTCOMES)}")
    return pl.col("outcome") == end
