"""Where in a failed run the decisive error stands: a ranker trained on annotated runs, and its honest test.

The decisive error is the earliest step whose correction would have turned the failure into a
success. ``rank`` scores every turn of failed runs, ``benchmark`` says how far that can be trusted,
beside constant guesses, because annotated sets are biased to certain positions. ``value`` and
``drops`` need outcomes and no annotation: they follow the chance of success along a run.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.annotated_turns import (
    MIN_ANNOTATED,
    AnnotatedTurns,
    annotated_turns,
    groups_of_runs,
    refuse_few,
)
from analysis.prefixes import calibration, drops, value
from analysis.results import Result
from analysis.turn_rankers import (
    CONSTANTS,
    MODELS,
    Model,
    all_out_of_fold,
    check_model,
    constant_guess,
    cross_validated,
    out_of_fold,
    ranks_of_truth,
    trained_scores,
)
from analysis.turns import FEATURES, features, turns
from analysis.uncertainty import Estimate, clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = [
    "FEATURES",
    "MIN_ANNOTATED",
    "benchmark",
    "calibration",
    "drops",
    "features",
    "rank",
    "turns",
    "value",
]

Floats = NDArray[np.float64]


_MIN_TRANSFER: Final = 10  # runs of other sets; the result is told as it is, so fewer will do

_BIASED: Final = (
    "Annotated sets are biased to certain positions: a model counts only for what it gains over the "
    "constant guesses."
)
_SUPERVISED: Final = (
    "Trained on annotations of the same set, so not comparable with figures of prompted models, which "
    "see none; trained_on tells what a row was trained on."
)


def rank(
    runs: Trajectories,
    truth: pl.DataFrame | None = None,
    *,
    model: Model = "auto",
    folds: int = 10,
    seed: int = 0,
) -> Result:
    """Score the turns of each failed run as its decisive error, most suspicious first.

    ``truth``: which turn is the error in annotated runs; columns ``trajectory_id`` and one of ``seq``
    (any event of the turn), ``step`` (the model call), ``turn``; maybe ``agent``. By default what
    the logs annotate (their score ``mistake_seq``). ``model``: ``trees`` (extremely randomised),
    ``logit``, or ``auto``, which takes the one that ranks better inside the training runs.

    An annotated run is scored by a model that has seen no run of its task (``folds`` grouped by
    task); a failed run without annotation by a model trained on all annotated ones.

    ``frame`` columns: ``trajectory_id``, ``task``, ``rank`` (1 is the most suspicious), ``turn``,
    ``seq``, ``step``, ``agent``, ``probability`` (shares of 1 among the turns of the run; only their
    order was tested), ``is_error`` (the annotation; null without), ``model``. Sorted by run and rank.
    ``runs(trajectory_id=...)`` opens a run.

    Raises ``DerailError`` where fewer than 20 runs or 10 tasks are annotated.

    >>> import loaders
    >>> rank(loaders.load("sample_logs/frameworks"))
    Traceback (most recent call last):
    ...
    loaders.errors.DerailError: ...
    """
    check_model(model)
    data = annotated_turns(runs, truth)
    known = data.table["annotated"].to_numpy()
    annotated, others = data.where(known), data.where(~known)
    refuse_few(annotated)
    scores, chosen = out_of_fold(annotated, model, folds, seed)
    parts = [_scored(annotated, scores, chosen)]
    if others.table.height:
        scores, name = trained_scores(annotated, others, model, seed)
        parts.append(_scored(others, scores, [name] * others.table.height))
    frame = (
        pl.concat(parts)
        .sort("run", "rank")
        .select("trajectory_id", "task", "rank", "turn", "seq", "step", "agent", "probability",
                "is_error", "model")
    )  # fmt: skip
    tops = frame.filter(pl.col("rank") == 1)
    right = tops["is_error"].drop_nulls()
    role = pl.when(pl.col("is_error").is_null()).then(pl.lit("not annotated"))
    role = role.when("is_error").then(pl.lit("found")).otherwise(pl.lit("missed")).alias("role")
    return Result(
        kind="ranking",
        title="Suspected error step of each failed run",
        frame=frame,
        method=_method(model, folds)
        + " Runs without an annotation are scored by a model trained on all annotated runs.",
        keys=("trajectory_id",),
        members=tops.select("trajectory_id", role),
        source=runs,
        warnings=(
            *data.warnings,
            _BIASED,
            _SUPERVISED,
            "Ask benchmark() how often the first rank is right.",
        ),
        headline=f"The first rank is the annotated step in {int(right.sum())} of {len(right)} annotated runs.",
    )


def benchmark(
    runs: Trajectories,
    truth: pl.DataFrame | None = None,
    *,
    by: str | None = "half",
    model: Model = "auto",
    folds: int = 10,
    seed: int = 0,
) -> Result:
    """How often the decisive error is found, with constant guesses beside the models.

    ``by``: a column of ``trajectories`` or a key of their metadata whose values are separate sets,
    such as the halves of Who&When; runs without it are one set. Each set is tested twice: in
    grouped cross-validation, and with everything trained on the other sets alone, on tasks that
    the tested set does not have. The model of ``auto`` is chosen inside each training fold; its features
    and settings are not: they were settled after about 22 looks at scores in cross-validation on the
    odd half of Who&When, whose figures therefore flatter it. ``model``: ``auto`` also shows both that it chooses from. ``truth``,
    ``folds``, ``seed`` as in ``rank``.

    ``frame`` columns: ``group``; ``trained_on`` (``same set``, ``other sets``, or ``nothing``);
    ``method``; ``exact`` (share of runs whose first rank is the annotated step, compared as
    numbers) with ``low`` and ``high`` (95 %, clustered by task); ``top_3``; ``within_1`` (first rank
    at most one turn off); ``mrr`` (mean of 1 / rank); ``agent`` (first rank is a turn of the annotated
    agent); ``runs``, ``tasks``. The modal step and agent are those of the training runs, and a random
    step is its expectation, not a draw. ``runs(group=..., method=..., trained_on=..., role="found")``
    opens the runs that a row got right; random steps get none.

    Raises ``DerailError`` where no set has 20 annotated runs of 10 tasks.

    >>> import loaders
    >>> benchmark(loaders.load("sample_logs/frameworks"))
    Traceback (most recent call last):
    ...
    loaders.errors.DerailError: ...
    """
    check_model(model)
    data = annotated_turns(runs, truth)
    data = data.where(data.table["annotated"].to_numpy())
    refuse_few(data)
    groups = groups_of_runs(runs, by).join(data.table.select("run").unique(), on="run", how="semi")
    group = data.table.join(groups, on="run", how="left", maintain_order="left")["group"]
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = []
    small: list[str] = []
    for name in group.unique().sort():
        inside = (group == name).to_numpy()
        test = data.where(inside)
        try:
            refuse_few(test)
        except DerailError:
            small.append(name)
            continue
        train = data.where(~inside & ~np.isin(data.task, np.unique(test.task)))
        for trained_on, method, scores in _methods(test, train, model, folds, seed):
            found = _found(test, scores, method)
            rows.append({"group": name, "trained_on": trained_on, "method": method, **_row(found)})
            members.append(_members(found, name, trained_on, method))
    if not rows:
        raise DerailError(
            f"no set by {by!r} has {MIN_ANNOTATED} annotated runs of {MIN_ANNOTATED // 2} tasks; by=None "
            "takes all as one set"
        )
    schema = {
        **dict.fromkeys(("group", "trained_on", "method"), pl.String),
        **dict.fromkeys(("exact", "low", "high", "top_3", "within_1", "mrr", "agent"), pl.Float64),
        "runs": pl.Int64,
        "tasks": pl.Int64,
    }
    frame = pl.DataFrame(rows, schema=schema)
    return Result(
        kind="localization",
        title="Finding the decisive error step",
        frame=frame,
        method=_method(model, folds) + " Exact match of numbers; t interval clustered by task.",
        keys=("group", "trained_on", "method"),
        members=pl.concat(members),
        source=runs,
        warnings=(
            _BIASED,
            _SUPERVISED,
            *data.warnings,
            *([f"Too few annotated runs to test on: {', '.join(small)}."] if small else []),
        ),
        headline=_headline(frame, model),
    )


# ---------------------------------------------------------------------- scores


def _methods(
    test: AnnotatedTurns, others: AnnotatedTurns, model: Model, folds: int, seed: int
) -> list[tuple[str, str, Floats]]:
    """What a set was trained on, how, and the scores of its turns."""
    rows: list[tuple[str, str, Floats]] = []
    for name, scores in all_out_of_fold(test, model, folds, seed).items():
        rows.append(("same set", name, scores))
    learnt = CONSTANTS[:2]
    for method in learnt:
        guess = cross_validated(
            test, folds, seed, lambda fit, held, m=method: constant_guess(fit, held, m)
        )
        rows.append(("same set", method, guess))
    for method in CONSTANTS[2:]:
        scores = np.zeros(len(test.run))
        if method != "random step":
            scores = constant_guess(test, test, method)
        rows.append(("nothing", method, scores))
    if len(np.unique(others.run)) >= _MIN_TRANSFER:
        names = (model,) if model != "auto" else (model, *MODELS)
        rows += [("other sets", m, trained_scores(others, test, m, seed)[0]) for m in names]
        rows += [("other sets", method, constant_guess(others, test, method)) for method in learnt]
    return rows


def _scored(data: AnnotatedTurns, scores: Floats, models: list[str]) -> pl.DataFrame:
    table = data.table.with_columns(
        pl.Series("score", scores),
        pl.Series("rank", ranks_of_truth(data, scores)),
        pl.Series("model", models, dtype=pl.String),
    )
    odds = (pl.col("score") - pl.col("score").max().over("run")).exp()
    return table.select(
        "run", "trajectory_id", "task", "rank", "turn", "seq", "step", "agent",
        (odds / odds.sum().over("run")).alias("probability"), "is_error", "model",
    )  # fmt: skip


def _found(data: AnnotatedTurns, scores: Floats, method: str) -> pl.DataFrame:
    """A row per run: whether and how nearly the annotated step was found."""
    table = data.table.select(
        "run", "trajectory_id", "task", "turn", "agent", "truth_agent"
    ).with_columns(
        pl.Series("is_error", data.is_error), pl.Series("rank", ranks_of_truth(data, scores))
    )
    truth = pl.col("turn").filter("is_error").first()
    near = (pl.col("turn") - truth).abs() <= 1
    by_agent = pl.col("agent") == pl.col("truth_agent")
    n = pl.len()
    if method == "random step":
        harmonic = pl.Series(np.r_[0.0, np.cumsum(1 / np.arange(1, table.height + 1))])
        per_run = table.group_by("run", maintain_order=True).agg(
            pl.col("trajectory_id", "task").first(),
            (1 / n).alias("exact"),
            (3 / n).clip(0, 1).alias("top_3"),
            near.mean().alias("within_1"),
            n.cast(pl.Int64).alias("n"),
            by_agent.mean().alias("agent"),
        )
        return per_run.with_columns((harmonic.gather(per_run["n"]) / per_run["n"]).alias("mrr"))
    is_first = pl.col("rank") == 1
    place = pl.col("rank").filter("is_error").first()
    return table.group_by("run", maintain_order=True).agg(
        pl.col("trajectory_id", "task").first(),
        (place == 1).cast(pl.Float64).alias("exact"),
        (place <= 3).cast(pl.Float64).alias("top_3"),
        near.filter(is_first).first().cast(pl.Float64).alias("within_1"),
        (1 / place).alias("mrr"),
        by_agent.filter(is_first).first().fill_null(value=False).cast(pl.Float64).alias("agent"),
    )


def _row(found: pl.DataFrame) -> dict[str, Any]:
    e: Estimate = clustered_mean(found["exact"].to_list(), found["task"].to_list())
    return {
        "exact": e.value,
        "low": None if math.isnan(e.low) else max(e.low, 0.0),
        "high": None if math.isnan(e.high) else min(e.high, 1.0),
        **{name: found[name].mean() for name in ("top_3", "within_1", "mrr", "agent")},
        "runs": e.n,
        "tasks": e.clusters,
    }


def _members(found: pl.DataFrame, group: str, trained_on: str, method: str) -> pl.DataFrame:
    role = pl.when(pl.col("exact") == 1).then(pl.lit("found")).otherwise(pl.lit("missed"))
    return found.select(
        pl.lit(group).alias("group"),
        pl.lit(trained_on).alias("trained_on"),
        pl.lit(method).alias("method"),
        "trajectory_id",
        role.alias("role"),
    )


def _method(model: str, folds: int) -> str:
    chosen = (
        "trees or logit, whichever ranks better in an inner cross-validation of the training runs"
    )
    return (
        f"{len(FEATURES)} cheap features of each turn; {chosen if model == 'auto' else model}; {folds} folds "
        "grouped by task."
    )


def _headline(frame: pl.DataFrame, model: str) -> str:
    """The chosen model against the best constant guess, for each set."""
    sentences: list[str] = []
    for name in frame["group"].unique(maintain_order=True):
        rows = frame.filter(pl.col("group") == name, pl.col("trained_on") != "other sets")
        ours = rows.filter(pl.col("method") == model).row(0, named=True)
        best = rows.filter(pl.col("method").is_in(CONSTANTS)).sort("exact", descending=True)
        guess = best.row(0, named=True)
        sentences.append(
            f"{name}: exact step {100 * ours['exact']:.1f} % [{100 * ours['low']:.0f}, "
            f"{100 * ours['high']:.0f}] of {ours['runs']} runs, against {100 * guess['exact']:.1f} % for the "
            f"best constant guess ({guess['method']})."
        )
    return " ".join(sentences)
