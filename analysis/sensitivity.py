"""How much of what becomes of a run hangs on each of the five axes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.agreement import AXES, FIXED, forks, roots, same_calls
from analysis.outcomes import MIN_RUNS, columns
from analysis.results import Result
from analysis.uncertainty import Estimate, clustered_mean, holm, variance_estimate
from analysis.wording import shown
from loaders import Trajectories
from loaders.errors import DerailError

_MIN_TASKS = 5

_SURFACE = {
    "axis": pl.String,
    **dict.fromkeys(("explained", "low", "high", "p"), pl.Float64),
    **dict.fromkeys(("spread", "spread_low", "spread_high"), pl.Float64),
    "worst": pl.String,
    "worst_text": pl.String,
    **dict.fromkeys(("worst_effect", "worst_low", "worst_high", "worst_p"), pl.Float64),
    **dict.fromkeys(("values", "tested", "runs", "tasks"), pl.Int64),
    **dict.fromkeys(("replicated_runs", "replicated_tasks", "unknown"), pl.Int64),
    "refused": pl.String,
}


def surface(
    runs: Trajectories,
    outcome: str = "success",
    given: Sequence[str] = FIXED,
    within: Sequence[str] = ("model",),
) -> Result:
    """How much of the outcome's variation within a task hangs on each axis alone.

    For each axis, runs of one task are compared that differ on it and agree on the other axes in
    ``given`` and on the columns ``within``: such a set of runs is a *setting*. Runs whose value on the
    axis itself is unknown are left out (``unknown``); on another axis, an unknown value is matched
    only with another unknown one, and a warning counts those runs.

    **Estimands.** Let mu_v be the true mean outcome of value v in a setting, s_v^2 the variance
    between runs of that value. ``explained`` is ``sum E / sum (E + S)``, E the variance of mu_v over the
    setting's values (each counted once) and S the mean of s_v^2, summed over settings in which at
    least two values have two runs each (``replicated_runs`` of ``replicated_tasks``). E is estimated without bias, from the
    variance of the observed means less what chance adds to it, so where an axis does nothing the
    estimate lies around zero, below it about as often as above. ``spread`` is the root mean square
    difference of two values' true means. ``worst`` is the value with the lowest ``worst_effect``: its
    mean less the mean over the values of its setting, averaged over settings; ``worst_p`` is corrected
    by Holm for the ``tested`` values. Being picked as the worst makes an effect look larger than it is.
    Intervals are CR1, clustered by task; of
    ``explained`` and ``spread`` on a log scale, as ``variance_estimate`` says. Fewer than 10 runs or 5 tasks: refused.

    **Tool responses.** The first place at which a run got another response than a run of its setting
    that had made the same calls and got the same responses so far; value is that response. "Ever met
    a broken response" would be biased: longer runs meet more. All axes in ``given`` must agree there.

    ``outcome``: ``success`` or any column of numbers. ``frame``: a row per axis with the columns above,
    ``values``, ``runs`` and ``tasks`` that could be compared, ``worst_text`` (how the worst prompt or
    response begins), and ``refused``: why there is no number. ``runs("worst", axis=...)`` opens the
    runs of the worst value, ``"compared"`` the others.

    Raises ``DerailError`` for an unknown axis or column, and where no run has an outcome.

    >>> import loaders
    >>> table = surface(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> table.frame.filter(pl.col("axis") == "toolset")["refused"].item()
    'no two runs of a task differ in it'
    """
    if unknown := [axis for axis in given if axis not in FIXED]:
        raise DerailError(f"{unknown[0]!r} is no axis that can be given; there are {list(FIXED)}")
    others = columns(within, runs)
    table = _with_outcome(runs, outcome, others)
    if table.is_empty():
        raise DerailError(f"no run has a known {outcome!r}; label() can add it")
    tried = [_tried(runs, table, axis, given, others) for axis in AXES]
    frame = pl.DataFrame([one.row for one in tried], schema=_SURFACE)
    return Result(
        kind="surface",
        title=f"How much of {outcome!r} within a task hangs on each axis",
        frame=frame,
        method="Runs of a task that agree on the other axes; variance between values less sampling variance, "
        "over total variance; ratio over settings, CR1 clustered by task, t interval on the logarithm of the "
        "variance as observed.",
        keys=("axis",),
        members=pl.concat([one.members for one in tried]),
        source=runs,
        warnings=tuple(_surface_warnings(frame, table, given)),
        headline=_surface_headline(frame),
    )


@dataclass(frozen=True)
class _Tried:
    row: dict[str, Any]
    members: pl.DataFrame


def _with_outcome(runs: Trajectories, outcome: str, others: list[str]) -> pl.DataFrame:
    columns(outcome, runs)
    kind = runs.trajectories.collect_schema()[outcome]
    if not (kind == pl.Boolean or kind.is_numeric()):
        raise DerailError(
            f"{outcome!r} holds {kind}: an outcome is yes or no, or a number, such as 'score'"
        )
    table = roots(runs, outcome, *others)
    return table.with_columns(
        pl.coalesce("task", "trajectory_id").alias("task"),
        pl.col(outcome).cast(pl.Float64).fill_nan(None).alias("outcome"),
    ).drop_nulls("outcome")


def _tried(
    runs: Trajectories, table: pl.DataFrame, axis: str, given: Sequence[str], others: list[str]
) -> _Tried:
    agreed = [name for name in given if name != axis]
    rows = _valued(runs, table, axis, ["task", *others, *agreed])
    compared = rows.filter(pl.col("value").n_unique().over("setting") > 1)
    unknown = table.height - rows.height if axis in FIXED else 0
    row: dict[str, Any] = dict.fromkeys(_SURFACE)
    row |= {
        "axis": axis,
        "values": compared["value"].n_unique(),
        "runs": compared.height,
        "tasks": compared["task"].n_unique(),
        "unknown": unknown,
        "replicated_runs": 0,
        "replicated_tasks": 0,
        "tested": 0,
    }
    if compared.is_empty():
        row["refused"] = _why_nothing(table, rows, axis, others, agreed)
    else:
        row |= _explained(compared) | _worst(runs, compared, axis)
    is_worst = pl.col("value").eq_missing(pl.lit(row["worst"]))
    role = pl.when(is_worst).then(pl.lit("worst")).otherwise(pl.lit("compared"))
    members = compared.select(pl.lit(axis).alias("axis"), "trajectory_id", role.alias("role"))
    return _Tried(row, members)


def _valued(runs: Trajectories, table: pl.DataFrame, axis: str, setting: list[str]) -> pl.DataFrame:
    """Runs with their ``value`` on the axis (text) and the ``setting`` in which they are compared."""
    named = table.with_columns(pl.struct(setting).rank("dense").alias("setting"))
    if axis in FIXED:
        return named.with_columns(pl.col(axis).alias("value")).drop_nulls("value")
    units = named.select("run", pl.col("setting").alias("unit"))
    found = forks(same_calls(runs), units)
    return named.join(found, on="run").with_columns(
        pl.struct("unit", "asked").rank("dense").alias("setting"),
        pl.format("response {}", "answer").alias("value"),
    )


def _why_nothing(
    table: pl.DataFrame, rows: pl.DataFrame, axis: str, others: list[str], agreed: list[str]
) -> str:
    if axis not in FIXED:
        return "no two runs of a task were answered otherwise after the same calls and responses"
    if rows.is_empty():
        return "the logs do not tell it"

    def differ(*keys: str) -> bool:
        return bool(rows.select(pl.col(axis).n_unique().over("task", *keys) > 1).to_series().any())

    if not differ():
        return "no two runs of a task differ in it"
    alone = [name for name in (*others, *agreed) if not differ(name)]
    return (
        "runs of a task that differ in it also differ in "
        f"{' and '.join(alone) or 'one of ' + ', '.join((*others, *agreed))}"
    )


def _explained(compared: pl.DataFrame) -> dict[str, Any]:
    y = pl.col("outcome")
    cells = (
        compared.group_by("task", "setting", "value", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("n"), y.mean().alias("mean"), y.var().alias("var"))
        .filter(pl.col("n") > 1)
        .filter(pl.len().over("setting") > 1)
    )
    replicated = int(cells["n"].sum())
    if cells.is_empty():
        return {"refused": "in no setting do two values have two runs each"}
    noise = (pl.col("var") / pl.col("n")).mean()
    settings = cells.group_by("task", "setting", maintain_order=True).agg(
        (pl.col("mean").var() - noise).alias("between"),
        pl.col("var").mean().alias("chance"),
        noise.alias("noise"),
        (1 - 1 / pl.len()).alias("shrink"),
    )
    settings = settings.with_columns((pl.col("between") * pl.col("shrink")).alias("e"))
    tasks = settings["task"].n_unique()
    counts = {"replicated_runs": replicated, "replicated_tasks": tasks}
    if replicated < MIN_RUNS or tasks < _MIN_TASKS:
        return counts | {
            "refused": f"{replicated} runs of {tasks} tasks in settings where two values have two runs "
            f"each; {MIN_RUNS} and {_MIN_TASKS} are needed"
        }
    whole = settings["e"] + settings["chance"]
    if whole.sum() <= 0:
        return counts | {"refused": "the outcome does not vary between the runs that are compared"}
    share = _ratio(settings["e"], whole, settings["task"], settings["noise"] * settings["shrink"])
    twice = clustered_mean((2 * settings["between"]).to_list(), settings["task"].to_list())
    noise_twice = 2 * float(settings["noise"].sum()) / settings.height
    spread = variance_estimate(twice.value, noise_twice, twice.se, twice.clusters, twice.n)
    return counts | {
        "explained": share.value,
        "low": share.low,
        "high": share.high,
        "p": None if math.isnan(share.p) else share.p,
        **{
            name: math.sqrt(max(0.0, value))
            for name, value in (
                ("spread", spread.value),
                ("spread_low", spread.low),
                ("spread_high", spread.high),
            )
        },
    }


def _ratio(above: pl.Series, below: pl.Series, clusters: pl.Series, noise: pl.Series) -> Estimate:
    """The ratio of two sums, with the CR1 standard error of its linearisation."""
    whole = float(below.sum())
    ratio = float(above.sum()) / whole
    residual = (above - ratio * below) / below.mean()
    error = clustered_mean(residual.to_list(), clusters.to_list())
    share_of_noise = float(noise.sum()) / whole
    return variance_estimate(ratio, share_of_noise, error.se, error.clusters, error.n)


def _worst(runs: Trajectories, compared: pl.DataFrame, axis: str) -> dict[str, Any]:
    """The value whose mean lies lowest beneath its settings', of those with enough runs and tasks."""
    cells = compared.group_by("task", "setting", "value", maintain_order=True).agg(
        pl.len().alias("n"), pl.col("outcome").mean().alias("mean")
    )
    cells = cells.with_columns(
        (pl.col("mean") - pl.col("mean").mean().over("setting")).alias("effect")
    )
    enough = (pl.col("n").sum() >= MIN_RUNS) & (pl.col("task").n_unique() >= _MIN_TASKS)
    tested = cells.filter(enough.over("value"))
    if tested.is_empty():
        return {}
    estimates = {
        value: clustered_mean(group["effect"].to_list(), group["task"].to_list())
        for (value,), group in tested.group_by("value", maintain_order=True)
    }
    adjusted = dict(zip(estimates, holm([e.p for e in estimates.values()]), strict=True))
    worst = min(estimates, key=lambda value: estimates[value].value)
    e = estimates[worst]
    return {
        "worst": worst,
        "worst_text": _begins(runs, compared.filter(pl.col("value") == worst), axis),
        "worst_effect": e.value,
        "worst_low": e.low,
        "worst_high": e.high,
        "worst_p": None if math.isnan(adjusted[worst]) else adjusted[worst],
        "tested": len(estimates),
    }


def _begins(runs: Trajectories, compared: pl.DataFrame, axis: str) -> str | None:
    if "seq" in compared.columns:  # of the response that a run got
        run, seq = compared.select("run", "seq").row(0)
        is_it = (pl.col("run") == run) & (pl.col("seq") == seq)
        return shown(runs.events.filter(is_it).select("text").collect().item())
    kind = {"system_prompt": "system", "user_prompt": "user"}.get(axis)
    if kind is None:
        return None
    is_first = (pl.col("run") == compared["run"][0]) & (pl.col("kind") == kind)
    texts = runs.events.filter(is_first, pl.col("text") != "").select("text").head(1).collect()
    return shown(texts["text"][0]) if texts.height else None


def _surface_warnings(frame: pl.DataFrame, table: pl.DataFrame, given: Sequence[str]) -> list[str]:
    warnings = [
        "Observational, unless the values were assigned: what else goes with a value counts as its doing."
    ]
    warnings += [
        f"{axis}: unknown in {table[axis].null_count():,} of {table.height:,} runs, which are compared with one "
        "another as if they agreed on it."
        for axis in given
        if table[axis].null_count()
    ]
    if frame["worst"].is_not_null().any():
        warnings.append(
            "The worst value is picked for being the worst: on fresh runs its effect will be smaller."
        )
    below = frame.filter(pl.col("explained") < 0)["axis"].to_list()
    if below:
        warnings.append(f"A share below zero is chance: {', '.join(below)}.")
    return warnings


def _surface_headline(frame: pl.DataFrame) -> str:
    known = frame.filter(pl.col("explained").is_not_null()).sort("explained", descending=True)
    said: list[str] = []
    if known.height:
        top = known.row(0, named=True)
        said.append(
            f"{top['axis'].replace('_', ' ')} explains {100 * top['explained']:.0f} % "
            f"[{100 * top['low']:.0f}, {100 * top['high']:.0f}] of the variation within a setting "
            f"({top['replicated_runs']:,} runs, {top['replicated_tasks']:,} tasks)"
        )
    if refused := frame.filter(pl.col("explained").is_null())["axis"].to_list():
        said.append(f"no estimate for {', '.join(name.replace('_', ' ') for name in refused)}")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."
