"""Where in a failed run the decisive error stands: a ranker trained on annotated runs, and its honest test.

The decisive error is the earliest step whose correction would have turned the failure into a
success. ``rank`` scores every turn of failed runs, ``benchmark`` says how far that can be trusted,
beside constant guesses, because annotated sets are biased to certain positions. ``value`` and
``drops`` need outcomes and no annotation: they follow the chance of success along a run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.outcomes import task_of
from analysis.prefixes import calibration, drops, value
from analysis.results import Result
from analysis.turns import FEATURES, features, turns
from analysis.uncertainty import Estimate, clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = [
    "FEATURES",
    "benchmark",
    "calibration",
    "drops",
    "features",
    "rank",
    "turns",
    "value",
]

Floats = NDArray[np.float64]
Model = Literal["auto", "trees", "logit"]

MIN_ANNOTATED: Final = 20
"""Fewest annotated runs, and half as many tasks, on which a ranker is trained."""

_MODELS: Final[tuple[Model, ...]] = ("trees", "logit")
_CONSTANTS: Final = ("modal step", "first turn of the modal agent", "last step", "random step")
_TREES: Final = 200
_INNER_TREES: Final = 60
_INNER_FOLDS: Final = 3
_MIN_TRANSFER: Final = 10  # runs of other sets; the result is told as it is, so fewer will do
_MOST_POSITIONS: Final = 40

_BIASED: Final = (
    "Annotated sets are biased to certain positions: a model counts only for what it gains over the "
    "constant guesses."
)
_SUPERVISED: Final = (
    "Trained on annotations of the same set, so not comparable with figures of prompted models, which "
    "see none; trained_on tells what a row was trained on."
)


@dataclass(frozen=True)
class _Turns:
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

    def where(self, mask: NDArray[np.bool_]) -> _Turns:
        """Only these turns."""
        return _Turns(
            self.table.filter(pl.Series(mask)),
            self.x[mask],
            self.run[mask],
            self.task[mask],
            self.is_error[mask],
            self.warnings,
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
    _check_model(model)
    data = _data(runs, truth)
    known = data.table["annotated"].to_numpy()
    annotated, others = data.where(known), data.where(~known)
    _refuse_few(annotated)
    scores, chosen = _out_of_fold(annotated, model, folds, seed)
    parts = [_scored(annotated, scores, chosen)]
    if others.table.height:
        scores, name = _trained(annotated, others, model, seed)
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
    _check_model(model)
    data = _data(runs, truth)
    data = data.where(data.table["annotated"].to_numpy())
    _refuse_few(data)
    groups = _groups(runs, by).join(data.table.select("run").unique(), on="run", how="semi")
    group = data.table.join(groups, on="run", how="left", maintain_order="left")["group"]
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = []
    small: list[str] = []
    for name in group.unique().sort():
        inside = (group == name).to_numpy()
        test = data.where(inside)
        try:
            _refuse_few(test)
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


# ---------------------------------------------------------------------- data


def _data(runs: Trajectories, truth: pl.DataFrame | None) -> _Turns:
    """Turns of the runs that failed or are annotated, with the truth where it is known."""
    table = features(runs)
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
    if table.is_empty():
        raise DerailError(
            "no run is annotated and none is known to have failed, so there is no error to look for"
        )
    return _Turns(
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


def _groups(runs: Trajectories, by: str | None) -> pl.DataFrame:
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


def _refuse_few(data: _Turns) -> None:
    annotated, tasks = len(np.unique(data.run)), len(np.unique(data.task))
    if annotated < MIN_ANNOTATED or tasks < MIN_ANNOTATED // 2:
        raise DerailError(
            f"{annotated} annotated runs of {tasks} tasks; {MIN_ANNOTATED} runs of {MIN_ANNOTATED // 2} tasks "
            "are needed to train and test a ranker. Annotations come from the logs (score mistake_seq) or "
            "from truth=frame with trajectory_id and seq."
        )


def _check_model(model: str) -> None:
    if model not in ("auto", *_MODELS):
        raise DerailError(f"no model {model!r}; there are auto, {', '.join(_MODELS)}")


# ---------------------------------------------------------------------- models


def _classifier(model: str, seed: int, trees: int) -> Any:
    """A classifier of turns, with the same settings for every set and fold.

    They and the list of features were settled after about twenty trials in cross-validation on half
    of Who&When, so figures on that half are slightly flattering.
    """
    compose: Any = import_module("sklearn.compose")  # no stubs, and a second of import
    ensemble: Any = import_module("sklearn.ensemble")
    linear: Any = import_module("sklearn.linear_model")
    pipeline: Any = import_module("sklearn.pipeline")
    coding: Any = import_module("sklearn.preprocessing")

    # Positions are also coded one by one: a scaffold with a fixed round of speakers errs at certain ones.
    position = coding.OneHotEncoder(min_frequency=4, handle_unknown="infrequent_if_exist")
    numbers = list(range(1, len(FEATURES) + 1))
    inputs = compose.ColumnTransformer(
        [("position", position, [0]), ("features", coding.StandardScaler(), numbers)],
        sparse_threshold=0,
    )
    if model == "logit":
        fitted = linear.LogisticRegression(C=0.1, solver="newton-cholesky")
    else:
        fitted = ensemble.ExtraTreesClassifier(trees, min_samples_leaf=3, random_state=seed)
    return pipeline.make_pipeline(inputs, fitted)


def _fit_predict(train: _Turns, test: _Turns, model: str, seed: int, trees: int = _TREES) -> Floats:
    """Log odds of being the error for each tested turn; every training run weighs the same."""
    turns_of_run = np.bincount(train.run)[train.run]
    weights = np.where(train.is_error, 1.0, 1.0 / np.maximum(turns_of_run - 1, 1))
    classifier = _classifier(model, seed, trees)
    last = classifier.steps[-1][0]
    classifier.fit(_inputs(train), train.is_error, **{f"{last}__sample_weight": weights})
    p = np.clip(classifier.predict_proba(_inputs(test))[:, 1], 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _inputs(data: _Turns) -> Floats:
    return np.column_stack([np.minimum(data.position, _MOST_POSITIONS), data.x])


def _trained(train: _Turns, test: _Turns, model: str, seed: int) -> tuple[Floats, str]:
    """Scores of the tested turns, and the model; ``auto`` chooses inside the training runs only."""
    name = _better(train, seed) if model == "auto" else model
    return _fit_predict(train, test, name, seed), name


def _better(train: _Turns, seed: int) -> str:
    """The model with the higher mean of 1 / rank in a cross-validation inside the training runs."""
    return max(_MODELS, key=lambda name: _inner_mrr(train, name, seed))


def _inner_mrr(train: _Turns, model: str, seed: int) -> float:
    scores = _cross(
        train,
        _INNER_FOLDS,
        seed + 1,
        lambda fit, test: _fit_predict(fit, test, model, seed, _INNER_TREES),
    )
    return float(np.mean(1 / _ranks(train, scores)[train.is_error]))


def _cross(
    data: _Turns, folds: int, seed: int, predict: Callable[[_Turns, _Turns], Floats]
) -> Floats:
    """Scores of all turns, each predicted from runs of other tasks."""
    fold = _fold_of_task(data, folds, seed)[data.task]
    scores = np.zeros(len(data.run))
    for number in np.unique(fold):
        held_out = fold == number
        scores[held_out] = predict(data.where(~held_out), data.where(held_out))
    return scores


def _fold_of_task(data: _Turns, folds: int, seed: int) -> NDArray[np.intp]:
    """Tasks dealt to folds at random, as evenly as it goes."""
    present = np.unique(data.task)
    fold = np.zeros(int(present.max()) + 1, dtype=np.intp)
    fold[np.random.default_rng(seed).permutation(present)] = np.arange(len(present)) % folds
    return fold


def _out_of_fold(data: _Turns, model: Model, folds: int, seed: int) -> tuple[Floats, list[str]]:
    """Cross-validated scores, and which model scored each turn."""
    chosen = np.full(len(data.run), model, dtype=object)

    def predict(train: _Turns, test: _Turns) -> Floats:
        scores, name = _trained(train, test, model, seed)
        chosen[np.isin(data.run, test.run)] = name
        return scores

    return _cross(data, folds, seed, predict), [str(name) for name in chosen]


def _all_out_of_fold(data: _Turns, model: Model, folds: int, seed: int) -> dict[str, Floats]:
    """The same of ``model``, and for ``auto`` of those it chooses from, none fitted twice."""
    if model != "auto":
        return {model: _out_of_fold(data, model, folds, seed)[0]}
    scores = {name: _out_of_fold(data, name, folds, seed)[0] for name in _MODELS}

    def chosen(train: _Turns, test: _Turns) -> Floats:
        return scores[_better(train, seed)][np.isin(data.run, test.run)]

    return {"auto": _cross(data, folds, seed, chosen), **scores}


def _constant(train: _Turns, test: _Turns, method: str) -> Floats:
    """Scores by which a guess without features orders the turns, learnt from the training runs."""
    if method == "last step":
        return test.position.astype(np.float64)
    if method == "modal step":
        longest = max(train.position.max(), test.position.max()) + 1
        counts = np.bincount(train.position[train.is_error], minlength=longest)
        return counts[test.position].astype(np.float64)
    errors = train.table.filter(pl.Series(train.is_error))["truth_agent"]
    counts = errors.value_counts(name="count").rename({"truth_agent": "agent"})
    first = pl.when(pl.int_range(pl.len()).over("run", "agent") == 0).then(1.0).otherwise(1e-6)
    scored = test.table.select("run", "agent", first.alias("first")).join(
        counts, on="agent", how="left", maintain_order="left"
    )
    return (scored["count"].fill_null(0) * scored["first"]).to_numpy().astype(np.float64)


# ---------------------------------------------------------------------- scores


def _methods(
    test: _Turns, others: _Turns, model: Model, folds: int, seed: int
) -> list[tuple[str, str, Floats]]:
    """What a set was trained on, how, and the scores of its turns."""
    rows: list[tuple[str, str, Floats]] = []
    for name, scores in _all_out_of_fold(test, model, folds, seed).items():
        rows.append(("same set", name, scores))
    learnt = _CONSTANTS[:2]
    for method in learnt:
        guess = _cross(test, folds, seed, lambda fit, held, m=method: _constant(fit, held, m))
        rows.append(("same set", method, guess))
    for method in _CONSTANTS[2:]:
        scores = np.zeros(len(test.run))
        if method != "random step":
            scores = _constant(test, test, method)
        rows.append(("nothing", method, scores))
    if len(np.unique(others.run)) >= _MIN_TRANSFER:
        names = (model,) if model != "auto" else (model, *_MODELS)
        rows += [("other sets", m, _trained(others, test, m, seed)[0]) for m in names]
        rows += [("other sets", method, _constant(others, test, method)) for method in learnt]
    return rows


def _ranks(data: _Turns, scores: Floats) -> NDArray[np.int64]:
    """The rank of each turn in its run, 1 for the highest score; ties go to the earlier turn."""
    order = np.lexsort((data.position, -scores, data.run))
    sorted_runs = data.run[order]
    starts = np.flatnonzero(np.r_[True, sorted_runs[1:] != sorted_runs[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, lengths) + 1
    return ranks


def _scored(data: _Turns, scores: Floats, models: list[str]) -> pl.DataFrame:
    table = data.table.with_columns(
        pl.Series("score", scores),
        pl.Series("rank", _ranks(data, scores)),
        pl.Series("model", models, dtype=pl.String),
    )
    odds = (pl.col("score") - pl.col("score").max().over("run")).exp()
    return table.select(
        "run", "trajectory_id", "task", "rank", "turn", "seq", "step", "agent",
        (odds / odds.sum().over("run")).alias("probability"), "is_error", "model",
    )  # fmt: skip


def _found(data: _Turns, scores: Floats, method: str) -> pl.DataFrame:
    """A row per run: whether and how nearly the annotated step was found."""
    table = data.table.select(
        "run", "trajectory_id", "task", "turn", "agent", "truth_agent"
    ).with_columns(pl.Series("is_error", data.is_error), pl.Series("rank", _ranks(data, scores)))
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
        best = rows.filter(pl.col("method").is_in(_CONSTANTS)).sort("exact", descending=True)
        guess = best.row(0, named=True)
        sentences.append(
            f"{name}: exact step {100 * ours['exact']:.1f} % [{100 * ours['low']:.0f}, "
            f"{100 * ours['high']:.0f}] of {ours['runs']} runs, against {100 * guess['exact']:.1f} % for the "
            f"best constant guess ({guess['method']})."
        )
    return " ".join(sentences)
