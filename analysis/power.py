"""Before you run: how many tasks and trials, what effect they can show, what looking early costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from analysis.outcomes import columns, judged
from analysis.results import Result, empty_members
from loaders import Trajectories
from loaders.errors import DerailError

_FEWEST_TASKS: Final = 10
_TRIALS: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Spread:
    """How outcomes vary in a paired comparison.

    ``between`` (w^2) variance over tasks of the true difference between the arms; ``within_a`` and
    ``within_b`` variance over trials of one task in each arm.
    """

    between: float
    within_a: float
    within_b: float

    def of_a_task(self, trials: float) -> float:
        """Variance of a task's observed difference with so many trials in each arm."""
        return self.between + (self.within_a + self.within_b) / trials


def tasks_needed(
    delta: float, spread: Spread, trials: float = 1, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Tasks for a paired comparison to show a difference of ``delta``.

    ``n = (z_{alpha/2} + z_power)^2 (w^2 + (s_A^2 + s_B^2) / K) / delta^2`` (Miller 2024). ``trials``
    may be ``math.inf``: no number of trials makes up for too few tasks.

    >>> spread = Spread(1 / 9, 1 / 6, 1 / 6)
    >>> tasks_needed(0.03, spread), tasks_needed(0.03, spread, math.inf)
    (3876, 969)
    """
    return math.ceil(_reach(alpha, power) ** 2 * spread.of_a_task(trials) / delta**2 - 1e-6)


def detectable(
    tasks: int, spread: Spread, trials: float = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest difference that so many tasks and trials show with that power.

    >>> round(detectable(3876, Spread(1 / 9, 1 / 6, 1 / 6)), 4)
    0.03
    """
    return _reach(alpha, power) * math.sqrt(spread.of_a_task(trials) / tasks)


def spread_of(
    runs: Trajectories, by: str = "arm", a: str | None = None, b: str | None = None
) -> Spread:
    """The spread of a pilot: variances of success between and within tasks.

    The variance within is unbiased (divided by n - 1) over the trials of each task and averaged; that
    between is what is left of the variance of observed differences when the noise of the trials is
    taken away, and at least 0. With one trial a task the two can't be told apart: all counts as between.

    Raises ``DerailError`` where fewer than 10 tasks have runs in both arms.
    """
    columns(by, runs)
    table = judged(runs, by).with_columns(pl.col(by).cast(pl.String))
    arms = sorted(table[by].drop_nulls().unique().to_list())
    a, b = a or (arms[0] if arms else ""), b or (arms[1] if len(arms) > 1 else "")
    if not {a, b} <= set(arms) or a == b:
        raise DerailError(
            f"a pilot needs two arms in {by!r}; there are {', '.join(arms) or 'none'}"
        )
    value = pl.col("success").cast(pl.Float64)
    cells = table.group_by("task", by).agg(
        value.mean().alias("mean"), value.var().alias("var"), pl.len().alias("n")
    )
    left, right = (cells.filter(pl.col(by) == arm).drop(by) for arm in (a, b))
    tasks = left.join(right, on="task", suffix="_b")
    if tasks.height < _FEWEST_TASKS:
        raise DerailError(
            f"{tasks.height} tasks have runs in both arms; {_FEWEST_TASKS} are needed"
        )
    observed = float(np.var((tasks["mean_b"] - tasks["mean"]).to_numpy(), ddof=1))
    within = [_average(tasks[name]) for name in ("var", "var_b")]
    noise = _average(tasks["var"] / tasks["n"]) + _average(tasks["var_b"] / tasks["n_b"])
    return Spread(max(observed - noise, 0.0), *within)


def plan(
    runs: Trajectories,
    by: str = "arm",
    *,
    tasks: Sequence[int] = (30, 60, 120, 250, 500),
    trials: Sequence[int] = _TRIALS,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Result:
    """What a study like this pilot could show: the smallest detectable difference by tasks and trials.

    ``frame`` columns: ``tasks``, ``trials`` (in each arm), ``runs`` (of both arms), ``detectable``
    (difference of success). The spread is the pilot's, which is itself uncertain: plan for more.

    >>> import loaders
    >>> grid = plan(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval")).frame
    >>> grid.filter(tasks=60, trials=4)["detectable"].item() < 0.25
    True
    """
    spread = spread_of(runs, by)
    rows = [
        {
            "tasks": n,
            "trials": k,
            "runs": 2 * n * k,
            "detectable": detectable(n, spread, k, alpha, power),
        }
        for n in tasks
        for k in trials
    ]
    members = judged(runs, by).select(
        pl.lit("pilot").alias("tasks"), "trajectory_id", pl.lit("pilot").alias("role")
    )
    one_each = _trials_of(runs, by) < 2
    warnings = [
        "The spread is the pilot's and uncertain itself: plan for a smaller effect than you hope."
    ]
    if one_each:
        warnings.append(
            "One trial a task: what trials would average out can't be told from the pilot."
        )
    return Result(
        kind="power",
        title="The smallest difference that a study like this shows",
        frame=pl.DataFrame(rows),
        method=f"Paired by task; between tasks {spread.between:.3f}, within {spread.within_a:.3f} and "
        f"{spread.within_b:.3f} (variances); alpha {alpha}, power {power}.",
        keys=("tasks",),
        members=members if len(members) else empty_members("tasks"),
        source=runs,
        warnings=tuple(warnings),
        headline=_headline(spread, power),
    )


def _headline(spread: Spread, power: float) -> str:
    n = tasks_needed(0.1, spread, 4, power=power)
    return f"To show 10 points with {power:.0%} power at 4 trials in each arm takes {n:,} tasks."


def _trials_of(runs: Trajectories, by: str) -> float:
    per_cell = judged(runs, by).group_by("task", by).len()["len"]
    return float(np.median(per_cell.to_numpy()))


def _average(values: pl.Series) -> float:
    known = values.drop_nulls().to_numpy()
    return float(known.mean()) if known.size else 0.0


def _reach(alpha: float, power: float) -> float:
    from scipy import special

    return float(special.ndtri(1 - alpha / 2) + special.ndtri(power))


# ---------------------------------------------------------------------- looking early


def error_of_looks(looks: int, alpha: float = 0.05) -> float:
    """The chance to find an effect of nothing when the data are tested after each of so many equal parts.

    Armitage, McPherson and Rowe (1969), by integrating over the paths of the test statistic.

    >>> [round(error_of_looks(k), 3) for k in (1, 2, 5)]
    [0.05, 0.083, 0.142]
    """
    from scipy import special

    return _crossing(looks, float(special.ndtri(1 - alpha / 2)))


def alpha_of_looks(looks: int, alpha: float = 0.05) -> float:
    """The level at which to test at each look so that all together keep ``alpha`` (Pocock 1977).

    >>> round(alpha_of_looks(5), 4)
    0.0158
    """
    from scipy import optimize, special

    def excess(bound: float) -> float:
        return _crossing(looks, bound) - alpha

    solve: Any = optimize.brentq
    bound: float = solve(excess, 1.5, 5.0, xtol=1e-6)
    return 2 * float(special.ndtr(-bound))


def _crossing(looks: int, bound: float) -> float:
    """The chance that a standard random walk leaves +-bound at any of the looks."""
    grid = np.linspace(-1, 1, 601)
    inside = 1.0
    density = np.zeros(0)
    at = np.zeros(0)
    for look in range(1, looks + 1):
        edge = bound * math.sqrt(look)
        new = grid * edge
        if look == 1:
            reached = np.exp(-(new**2) / 2) / math.sqrt(2 * math.pi)
        else:
            kernel = np.exp(-((new[:, None] - at[None]) ** 2) / 2) / math.sqrt(2 * math.pi)
            reached = np.asarray(np.trapezoid(kernel * density[None], at, axis=1))
        density, at = reached, new
        inside = float(np.trapezoid(density, at))
    return 1 - inside
