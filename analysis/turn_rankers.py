"""Rankers of turns, trained and tested on other tasks, and the constant guesses beside them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.annotated_turns import AnnotatedTurns
from analysis.turns import FEATURES
from loaders.errors import DerailError

Floats = NDArray[np.float64]
Model = Literal["auto", "trees", "logit"]
MODELS: Final[tuple[Model, ...]] = ("trees", "logit")
CONSTANTS: Final = ("modal step", "first turn of the modal agent", "last step", "random step")
_TREES: Final = 200
_INNER_TREES: Final = 60
_INNER_FOLDS: Final = 3
_MOST_POSITIONS: Final = 40


def check_model(model: str) -> None:
    """Raise ``DerailError`` for a model that is not there."""
    if model not in ("auto", *MODELS):
        raise DerailError(f"no model {model!r}; there are auto, {', '.join(MODELS)}")


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


def _fit_predict(
    train: AnnotatedTurns, test: AnnotatedTurns, model: str, seed: int, trees: int = _TREES
) -> Floats:
    """Log odds of being the error for each tested turn; every training run weighs the same."""
    turns_of_run = np.bincount(train.run)[train.run]
    weights = np.where(train.is_error, 1.0, 1.0 / np.maximum(turns_of_run - 1, 1))
    classifier = _classifier(model, seed, trees)
    last = classifier.steps[-1][0]
    classifier.fit(_inputs(train), train.is_error, **{f"{last}__sample_weight": weights})
    p = np.clip(classifier.predict_proba(_inputs(test))[:, 1], 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _inputs(data: AnnotatedTurns) -> Floats:
    return np.column_stack([np.minimum(data.position, _MOST_POSITIONS), data.x])


def trained_scores(
    train: AnnotatedTurns, test: AnnotatedTurns, model: str, seed: int
) -> tuple[Floats, str]:
    """Scores of the tested turns, and the model; ``auto`` chooses inside the training runs only."""
    name = _better(train, seed) if model == "auto" else model
    return _fit_predict(train, test, name, seed), name


def _better(train: AnnotatedTurns, seed: int) -> str:
    """The model with the higher mean of 1 / rank in a cross-validation inside the training runs."""
    return max(MODELS, key=lambda name: _inner_mrr(train, name, seed))


def _inner_mrr(train: AnnotatedTurns, model: str, seed: int) -> float:
    scores = cross_validated(
        train,
        _INNER_FOLDS,
        seed + 1,
        lambda fit, test: _fit_predict(fit, test, model, seed, _INNER_TREES),
    )
    return float(np.mean(1 / ranks_of_truth(train, scores)[train.is_error]))


def cross_validated(
    data: AnnotatedTurns,
    folds: int,
    seed: int,
    predict: Callable[[AnnotatedTurns, AnnotatedTurns], Floats],
) -> Floats:
    """Scores of all turns, each predicted from runs of other tasks."""
    fold = _fold_of_task(data, folds, seed)[data.task]
    scores = np.zeros(len(data.run))
    for number in np.unique(fold):
        held_out = fold == number
        scores[held_out] = predict(data.where(~held_out), data.where(held_out))
    return scores


def _fold_of_task(data: AnnotatedTurns, folds: int, seed: int) -> NDArray[np.intp]:
    """Tasks dealt to folds at random, as evenly as it goes."""
    present = np.unique(data.task)
    fold = np.zeros(int(present.max()) + 1, dtype=np.intp)
    fold[np.random.default_rng(seed).permutation(present)] = np.arange(len(present)) % folds
    return fold


def out_of_fold(
    data: AnnotatedTurns, model: Model, folds: int, seed: int
) -> tuple[Floats, list[str]]:
    """Cross-validated scores, and which model scored each turn."""
    chosen = np.full(len(data.run), model, dtype=object)

    def predict(train: AnnotatedTurns, test: AnnotatedTurns) -> Floats:
        scores, name = trained_scores(train, test, model, seed)
        chosen[np.isin(data.run, test.run)] = name
        return scores

    return cross_validated(data, folds, seed, predict), [str(name) for name in chosen]


def all_out_of_fold(data: AnnotatedTurns, model: Model, folds: int, seed: int) -> dict[str, Floats]:
    """The same of ``model``, and for ``auto`` of those it chooses from, none fitted twice."""
    if model != "auto":
        return {model: out_of_fold(data, model, folds, seed)[0]}
    scores = {name: out_of_fold(data, name, folds, seed)[0] for name in MODELS}

    def chosen(train: AnnotatedTurns, test: AnnotatedTurns) -> Floats:
        return scores[_better(train, seed)][np.isin(data.run, test.run)]

    return {"auto": cross_validated(data, folds, seed, chosen), **scores}


def constant_guess(train: AnnotatedTurns, test: AnnotatedTurns, method: str) -> Floats:
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


def ranks_of_truth(data: AnnotatedTurns, scores: Floats) -> NDArray[np.int64]:
    """The rank of each turn in its run, 1 for the highest score; ties go to the earlier turn."""
    order = np.lexsort((data.position, -scores, data.run))
    sorted_runs = data.run[order]
    starts = np.flatnonzero(np.r_[True, sorted_runs[1:] != sorted_runs[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, lengths) + 1
    return ranks
