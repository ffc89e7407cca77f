"""The chance of success along a run: V_t = P(success | what had happened up to model call t).

Predicted out of fold, by a model that has seen no run of the same task, from counts that are cheap to
take and look at nothing after call t and the responses to it. Where the chance drops most is where
the run was lost, as far as such counts can show; that is a prediction and no cause.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import perturbations
from analysis.outcomes import judged
from analysis.parts import part_by_part
from analysis.results import Result
from analysis.uncertainty import clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

Floats = NDArray[np.float64]

MIN_OF_EACH: Final = 20
"""Fewest failed runs, and fewest successful ones, from which a chance of success is learnt."""
MIN_TASKS: Final = 10

_LATE: Final = ("timeout", "rate_limit")
_SILENT: Final = (
    "empty", "truncated", "malformed", "schema_drift", "stale", "no_op", "contradiction",
)  # fmt: skip

PREFIX_FEATURES: Final = {
    "call": "model calls so far",
    "log_call": "log of 1 + that",
    "tool_calls": "tool calls of this model call",
    "no_tool_call": "this model call makes none",
    "tools": "log of 1 + tool calls so far",
    "distinct": "share of the tool calls so far that are distinct",
    "broken": "responses to this call with a perturbation code",
    "late": "of them those that timed out or were turned away for their rate",
    "silent": "of them those that are empty, cut, malformed or stale and do not say so",
    "broken_before": "responses to the call before with one",
    "broken_so_far": "log of 1 + responses with one so far",
    "since_broken": "calls since the latest of them, 20 at most or without one",
    "errors_so_far": "log of 1 + responses so far that the log flags as an error",
    "unanswered": "tool calls of this model call without a response",
    "repeats": "this call repeats the one before",
    "repeats_so_far": "log of 1 + such repeats so far",
    "response_chars": "log of 1 + characters of the responses to this call",
    "response_chars_so_far": "log of 1 + characters of all responses so far",
    "message_chars": "log of 1 + characters that the model says in this call",
    "thinking_chars": "log of 1 + characters that it thinks in this call",
    "thinking_missing": "earlier thinking that this request lacks, as a share; 0 where unknown",
    "user_turns": "user messages so far",
}
"""What the chance of success after a call is predicted from."""


def prefix_features(runs: Trajectories) -> pl.DataFrame:
    """Cheap counts of each prefix: a row per run and model call, sorted.

    Columns: ``run``, ``trajectory_id``, ``step``, ``seq``, then those of ``PREFIX_FEATURES``, all
    numbers without nulls, none of which looks beyond the call and the responses to it.

    >>> import loaders
    >>> table = prefix_features(loaders.load("sample_logs/frameworks"))
    >>> set(PREFIX_FEATURES) <= set(table.columns)
    True
    """
    found = perturbations.detect(runs)
    again = perturbations.repeats(runs, found)
    return part_by_part(runs, _prefix_features, found, again)


def _prefix_features(runs: Trajectories, found: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    kind, chars = pl.col("kind"), pl.col("text").str.len_chars()
    is_call, is_response = kind == "tool_call", kind == "tool_result"
    per_call = (
        runs.events.filter(pl.col("step").is_not_null())
        .group_by("run", "step")
        .agg(
            is_call.sum().alias("tool_calls"),
            (is_response & pl.col("call_seq").is_not_null()).sum().alias("answered"),
            (is_response & pl.col("is_error").fill_null(value=False)).sum().alias("errors"),
            chars.filter(is_response).sum().alias("response_chars"),
            chars.filter(kind == "message").sum().alias("message_chars"),
            (kind == "user").sum().alias("users"),
        )
    )
    first_time = (
        runs.events.filter(is_call)
        .select(
            "run",
            "step",
            pl.struct("tool", "arguments").is_first_distinct().over("run").alias("first_time"),
        )
        .group_by("run", "step")
        .agg(pl.col("first_time").sum())
    )
    code, seq = pl.col("code"), pl.col("seq")
    broken = (
        found.lazy()
        .group_by("run", "step")
        .agg(
            seq.n_unique().alias("broken"),
            seq.filter(code.is_in(_LATE)).n_unique().alias("late"),
            seq.filter(code.is_in(_SILENT)).n_unique().alias("silent"),
        )
    )
    repeats = again.lazy().group_by("run", "step").agg(pl.len().alias("repeats"))
    table = runs.steps.select(
        "run",
        "trajectory_id",
        "step",
        "seq",
        "thinking_chars",
        "thinking_available",
        "thinking_sent",
    )
    for more in (per_call, first_time, broken, repeats):
        table = table.join(more, on=["run", "step"], how="left", maintain_order="left")
    sizes = ("tool_calls", "answered", "errors", "response_chars", "message_chars", "users", "first_time",
             "broken", "late", "silent", "repeats", "thinking_chars")  # fmt: skip

    def so_far(name: str) -> pl.Expr:
        return pl.col(name).cum_sum().over("run")

    last_broken = pl.when(pl.col("broken") > 0).then("step").forward_fill().over("run")
    missing = 1 - pl.col("thinking_sent") / pl.col("thinking_available")
    return (
        table.with_columns(pl.col(*sizes).fill_null(0).cast(pl.Float64))
        .with_columns(
            pl.col("step").alias("call"),
            pl.col("step").log1p().alias("log_call"),
            (pl.col("tool_calls") == 0).alias("no_tool_call"),
            so_far("tool_calls").log1p().alias("tools"),
            (so_far("first_time") / so_far("tool_calls").clip(1)).alias("distinct"),
            pl.col("broken").shift(1).over("run").alias("broken_before"),
            so_far("broken").log1p().alias("broken_so_far"),
            (pl.col("step") - last_broken).fill_null(20).clip(0, 20).alias("since_broken"),
            so_far("errors").log1p().alias("errors_so_far"),
            (pl.col("tool_calls") - pl.col("answered")).clip(0).alias("unanswered"),
            so_far("repeats").log1p().alias("repeats_so_far"),
            so_far("response_chars").log1p().alias("response_chars_so_far"),
            pl.col("response_chars").log1p(),
            pl.col("message_chars").log1p(),
            pl.col("thinking_chars").log1p(),
            missing.alias("thinking_missing"),
            so_far("users").alias("user_turns"),
        )
        .select(
            "run", "trajectory_id", "step", "seq",
            *(pl.col(name).cast(pl.Float64).fill_nan(0).fill_null(0) for name in PREFIX_FEATURES),
        )
        .collect()
    )  # fmt: skip


def value(runs: Trajectories, folds: int = 10, seed: int = 0) -> Result:
    """The chance of success after each model call, V_t, out of fold, and how much it dropped there.

    A logistic regression on ``prefix_features``, fitted to the runs of other tasks; before the first
    call, V is the share of those runs that succeed. Runs without a known outcome and subagents' runs
    are left out.

    ``frame`` columns: ``trajectory_id``, ``task``, ``success``, ``step``, ``seq`` (of the call's first
    event), ``value``, ``drop`` (value before minus value after; below zero for a rise), ``largest``
    (the run's largest drop, the first of equals). ``runs(trajectory_id=...)`` opens a run, role
    ``success`` or ``failure``. Ask ``calibration`` whether V can be believed.

    Raises ``DerailError`` for fewer than 20 failed or 20 successful runs, or 10 tasks.

    >>> import loaders
    >>> value(loaders.load("sample_logs/frameworks"))
    Traceback (most recent call last):
    ...
    loaders.errors.DerailError: ... are needed to learn a chance of success
    """
    curves = _curves(_judged_prefixes(runs), folds, seed)
    per_run = curves.unique("run", keep="first", maintain_order=True)
    area = _area_under_curve(curves["success"].to_numpy(), curves["value"].to_numpy())
    gap = clustered_mean(
        (curves["success"].cast(pl.Float64) - curves["value"]).to_list(), curves["task"].to_list()
    )
    role = pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")
    return Result(
        kind="value",
        title="Chance of success along each run",
        frame=curves.select(
            "trajectory_id", "task", "success", "step", "seq", "value", "drop", "largest"
        ),
        method=f"Logistic regression on {len(PREFIX_FEATURES)} counts of the prefix; {folds} folds grouped by task; "
        "t interval clustered by task.",
        keys=("trajectory_id",),
        members=per_run.select("trajectory_id", role),
        source=runs,
        warnings=(
            "A prediction from cheap counts and no cause: a drop says that runs which look like this fail more "
            "often.",
            "The value of a long run is learnt from the few runs that get so far.",
        ),
        headline=f"Out of fold, over all prefixes: area under the curve {area:.2f}; success minus predicted "
        f"{100 * gap.value:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}].",
    )


def drops(runs: Trajectories, folds: int = 10, seed: int = 0, refits: int = 20) -> Result:
    """The largest drop of the chance of success in each run, where it stands, and how sure that is.

    ``frame`` columns: ``trajectory_id``, ``task``, ``success``, ``steps``, ``step`` and ``seq`` of the
    call with the largest drop, ``before`` and ``after`` (chance of success), ``drop`` with ``low`` and
    ``high`` (2.5 and 97.5 % over refits to resampled tasks), ``agreement`` (share of the refits whose
    largest drop stands at the same call; below .5 the place is not to be trusted), ``met``
    (perturbation codes of the responses to that call). Largest drop first.

    ``refits``: how many times the tasks that a model learns from are drawn anew.
    """
    prefixes = _judged_prefixes(runs)
    curves = _curves(prefixes, folds, seed)
    again = [_curves(prefixes, folds, seed, draw) for draw in range(1, refits + 1)]
    met = (
        perturbations.detect(runs)
        .group_by("run", "step")
        .agg(pl.col("code").unique().sort().alias("met"))
    )
    table = (
        curves.with_columns(pl.len().over("run").cast(pl.Int64).alias("steps"))
        .filter("largest")
        .join(met, on=["run", "step"], how="left", maintain_order="left")
        .with_columns(pl.col("met").fill_null(pl.lit([], pl.List(pl.String))))
    )
    if again:
        refitted = pl.concat(again).join(table.select("run", pl.col("step").alias("at")), on="run")
        here = pl.col("drop").filter(pl.col("step") == pl.col("at"))
        spread = refitted.group_by("run").agg(
            here.quantile(0.025, "linear").alias("low"),
            here.quantile(0.975, "linear").alias("high"),
            (pl.col("step") == pl.col("at")).filter("largest").mean().alias("agreement"),
        )
        table = table.join(spread, on="run", how="left", maintain_order="left")
    else:
        unknown = pl.lit(None, pl.Float64)
        table = table.with_columns(low=unknown, high=unknown, agreement=unknown)
    frame = table.select(
        "trajectory_id", "task", "success", "steps", "step", "seq",
        (pl.col("value") + pl.col("drop")).alias("before"), pl.col("value").alias("after"), "drop",
        "low", "high", "agreement", "met",
    ).sort("drop", "trajectory_id", descending=[True, False])  # fmt: skip
    failed = frame.filter(~pl.col("success"))
    role = pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure")).alias("role")
    return Result(
        kind="drops",
        title="Largest drop of the chance of success in each run",
        frame=frame,
        method=f"Largest fall of an out-of-fold chance of success (see value); {refits} refits to resampled "
        "tasks.",
        keys=("trajectory_id",),
        members=frame.select("trajectory_id", role),
        source=runs,
        warnings=(
            "A prediction and no cause; the largest of several noisy drops is biased upwards.",
        ),
        headline=f"In failed runs the largest drop is {100 * _mean(failed['drop']):.0f} points on average; "
        f"{100 * _mean(failed['met'].list.len() > 0):.0f} % of these drops stand at a call with a "
        f"perturbed response.",
    )


def calibration(runs: Trajectories, bins: int = 5, folds: int = 10, seed: int = 0) -> Result:
    """Do runs whose chance of success is put at V succeed that often?

    ``frame`` columns: ``bin`` (equally many prefixes each, the lowest values first), ``predicted``
    (mean value), ``observed`` (share that succeeds) with ``low`` and ``high`` (95 %, clustered by
    task), ``prefixes``, ``runs``, ``tasks``.
    """
    curves = _curves(_judged_prefixes(runs), folds, seed)
    order = pl.col("value").rank("ordinal") - 1
    table = curves.with_columns((order * bins // pl.len()).cast(pl.Int64).alias("bin"))
    rows: list[dict[str, Any]] = []
    for number in range(bins):
        rows_of = table.filter(pl.col("bin") == number)
        e = clustered_mean(rows_of["success"].cast(pl.Float64).to_list(), rows_of["task"].to_list())
        rows.append(
            {
                "bin": number,
                "predicted": rows_of["value"].mean(),
                "observed": e.value,
                "low": None if math.isnan(e.low) else max(e.low, 0.0),
                "high": None if math.isnan(e.high) else min(e.high, 1.0),
                "prefixes": e.n,
                "runs": rows_of["run"].n_unique(),
                "tasks": e.clusters,
            }
        )
    schema = {
        "bin": pl.Int64,
        **dict.fromkeys(("predicted", "observed", "low", "high"), pl.Float64),
        **dict.fromkeys(("prefixes", "runs", "tasks"), pl.Int64),
    }
    frame = pl.DataFrame(rows, schema=schema)
    inside = frame.filter(pl.col("predicted").is_between("low", "high")).height
    return Result(
        kind="calibration",
        title="Is the chance of success calibrated?",
        frame=frame,
        method="Out-of-fold values in bins of equal size; t interval clustered by task.",
        keys=("bin",),
        members=table.select("bin", "trajectory_id", pl.lit("prefix").alias("role")).unique(
            maintain_order=True
        ),
        source=runs,
        headline=f"The prediction lies inside the interval of what is observed in {inside} of {bins} bins.",
    )


def _judged_prefixes(runs: Trajectories) -> pl.DataFrame:
    outcome = judged(runs).select("run", "task", "success")
    table = prefix_features(runs).join(outcome, on="run", maintain_order="left")
    _refuse(table.unique("run"))
    return table


def _curves(table: pl.DataFrame, folds: int, seed: int, draw: int = 0) -> pl.DataFrame:
    """Out-of-fold V_t of each judged run; ``draw`` above 0 resamples the tasks that are learnt from."""
    _, task = np.unique(table["task"].to_numpy(), return_inverse=True)
    x = table.select(PREFIX_FEATURES.keys()).to_numpy()
    y = table["success"].to_numpy()
    first = table["run"].is_first_distinct().to_numpy()
    tasks = int(task.max()) + 1
    fold = np.empty(tasks, dtype=np.intp)
    fold[np.random.default_rng(seed).permutation(tasks)] = np.arange(tasks) % folds
    v, base = np.zeros(len(y)), np.zeros(len(y))
    rng = np.random.default_rng([seed, draw])
    for number in range(min(folds, tasks)):
        held_out = fold[task] == number
        learnt = np.flatnonzero(fold != number)
        drawn = rng.choice(learnt, len(learnt)) if draw else learnt
        weights = np.bincount(drawn, minlength=tasks)[task].astype(np.float64)
        v[held_out] = _predict(x, y, weights, x[held_out])
        base[held_out] = np.average(y[first], weights=weights[first])
    return (
        table.select("run", "trajectory_id", "task", "success", "step", "seq")
        .with_columns(pl.Series("value", v), pl.Series("base", base))
        .with_columns(
            (pl.col("value").shift(1).over("run").fill_null(pl.col("base")) - pl.col("value")).alias("drop")
        )
        .with_columns(
            (pl.int_range(pl.len()).over("run") == pl.col("drop").arg_max().over("run")).alias("largest")
        )
    )  # fmt: skip


def _predict(x: Floats, y: NDArray[np.bool_], weights: Floats, at: Floats) -> Floats:
    linear: Any = import_module("sklearn.linear_model")  # no stubs, and a second of import
    pipeline: Any = import_module("sklearn.pipeline")
    scaling: Any = import_module("sklearn.preprocessing")
    learnt = weights > 0
    if len(np.unique(y[learnt])) < 2:
        return np.full(len(at), float(y[learnt].mean()))
    model: Any = pipeline.make_pipeline(
        scaling.StandardScaler(), linear.LogisticRegression(C=0.1, solver="newton-cholesky")
    )
    model.fit(x[learnt], y[learnt], logisticregression__sample_weight=weights[learnt])
    return model.predict_proba(at)[:, 1]


def _refuse(judged_runs: pl.DataFrame) -> None:
    failed, tasks = int((~judged_runs["success"]).sum()), judged_runs["task"].n_unique()
    succeeded = judged_runs.height - failed
    if min(failed, succeeded) < MIN_OF_EACH or tasks < MIN_TASKS:
        raise DerailError(
            f"{failed} failed and {succeeded} successful runs of {tasks} tasks; {MIN_OF_EACH} of each and "
            f"{MIN_TASKS} tasks are needed to learn a chance of success"
        )


def _area_under_curve(y: NDArray[np.bool_], score: Floats) -> float:
    """The chance that a success is put above a failure; ties count half."""
    ranks = pl.Series(score).rank().to_numpy()
    up, down = int(y.sum()), int((~y).sum())
    return float((ranks[y].sum() - up * (up + 1) / 2) / (up * down))


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).mean() or 0.0)  # pyright: ignore[reportArgumentType]
