"""The discrete-time hazard: the chance that a run breaks at a call, given what the call had met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from analysis.confounding import Finding, difficulty_and_exposure
from analysis.exposures import refuse_ever
from analysis.outcomes import columns
from analysis.person_periods import (
    AtRisk,
    at_risk,
    counted_periods,
    met_by_each,
    person_period,
    product,
)
from analysis.regression import Fit, Link, fit, patterns
from analysis.results import Result, empty_members
from analysis.two_levels import random_intercept
from analysis.uncertainty import benjamini_hochberg, e_value, t_estimate
from loaders import Trajectories
from loaders.errors import DerailError

MIN_EVENTS: Final = 10
"""Fewest calls that break, and that do not, among those that met an exposure and the others."""

_FEWEST_TASKS = 10
_BASE, _MEAN = "baseline_", "mean_of_"

_SCHEMA = {
    "exposure": pl.String,
    "group": pl.String,
    "odds_ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    "unadjusted": pl.Float64,
    "unadjusted_low": pl.Float64,
    "unadjusted_high": pl.Float64,
    "e_value": pl.Float64,
    "exposed_calls": pl.Int64,
    "exposed_events": pl.Int64,
    "unexposed_calls": pl.Int64,
    "unexposed_events": pl.Int64,
    "exposed_hazard": pl.Float64,
    "unexposed_hazard": pl.Float64,
    "refused": pl.String,
}

__all__ = ["MIN_EVENTS", "Model", "hazard", "person_period"]

Model = Literal["auto", "clustered", "random_intercept"]


def hazard(
    runs: Trajectories,
    exposure: str | Sequence[str] | None = None,
    *,
    interactions: Sequence[tuple[str, str]] = (),
    by: str | Sequence[str] | None = None,
    end: str = "failure",
    link: Link = "logit",
    model: Model = "auto",
) -> Result:
    """How exposures change the hazard of breaking at a call, all of them together in one model.

    Rows are calls (person-period form, Singer and Willett 1993); the event is that the run ends there
    in ``end``. The baseline is a step function of the step; ``by`` columns (arms) enter as their own
    terms. An exposure counts at the call that meets it; ``thinking_dropped`` at each call whose request
    lacks thinking, so that a run is exposed from then on only while it lasts.

    ``frame`` columns: ``exposure``, ``group``; ``odds_ratio`` with ``low``, ``high``, ``p`` and
    ``p_adjusted`` (Benjamini-Hochberg): odds of the event against calls that did not meet it, all else
    in the model equal (hazard ratio where ``link="cloglog"``); ``unadjusted`` with its interval: that
    exposure and the baseline alone (null for an interaction); ``e_value``; counts of calls and events in both groups and their
    raw hazards; ``refused`` (why there is no estimate: fewer than 10 events or others in a group). An
    interaction ``(a, b)`` is a row ``a x b``: the ratio by which one multiplies the other's odds ratio.

    ``model``: ``clustered`` is one level with errors clustered by task (CR1), right where exposures were
    assigned at random. ``random_intercept`` has an intercept of its own for each task and each task's
    rate of every tool exposure beside it (Mundlak 1978), for logs in which harder tasks meet more
    trouble; a random intercept alone would still be confounded. ``auto`` takes the second where at
    least 10 tasks have two runs or more on average.

    Raises ``DerailError`` for "ever" exposures, for an unknown one, where no run is known to have ended
    so, and where no log holds model calls.

    >>> import loaders
    >>> found = hazard(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), model="clustered")
    >>> set(found.frame.columns) >= {"odds_ratio", "unadjusted", "exposed_events"}
    True
    """
    wanted = [exposure] if isinstance(exposure, str) else list(exposure or ())
    refuse_ever([*wanted, *(name for pair in interactions for name in pair)])
    arms = columns(by, runs)
    risk = at_risk(runs, end, arms)
    rows, groups = counted_periods(runs, risk, arms), risk.groups
    if rows.is_empty():
        raise DerailError(
            "no run with a known outcome has a model call in its log, so there is no call at which one "
            "could break"
        )
    names = _chosen(wanted, groups)
    _check_interactions(interactions, names)
    refusals = {name: _refusal(rows, name) for name in names}
    kept = [name for name in names if refusals[name] is None]
    products = [(a, b) for a, b in interactions if a in kept and b in kept]
    rows = rows.with_columns((pl.col(a) * pl.col(b)).alias(product(a, b)) for a, b in products)
    for pair in products:
        refusals[product(*pair)] = _refusal(rows, product(*pair))
    kept += [product(*pair) for pair in products if refusals[product(*pair)] is None]
    chosen = _model(model, rows)
    base = _baseline_columns(rows)
    rows = rows.with_columns(**base).with_columns(_dummies(rows, arms))
    always = [*base, *(c for c in rows.columns if c.startswith("arm_of_"))]
    means: list[str] = []
    if chosen == "random_intercept":
        tools = [name for name in kept if groups.get(name) == "tool response"]
        rows = rows.with_columns(_rate_in_task(name).alias(f"{_MEAN}{name}") for name in tools)
        means = [f"{_MEAN}{name}" for name in tools if rows[f"{_MEAN}{name}"].n_unique() > 1]
    together = _fit(rows, [*kept, *means, *always], link, chosen)  # without any: the baseline alone
    alone = {name: _fit(rows, [name, *base], link, "clustered") for name in kept}
    frame = _frame(rows, names, products, groups, refusals, together, alone)
    met = met_by_each(risk, products)
    confounded: list[Finding] = []  # what is met more often in harder tasks, of those in the model
    if chosen == "clustered":
        confounded = difficulty_and_exposure(runs, met.filter(pl.col("exposure").is_in(names)))
    return Result(
        kind="hazard",
        title=f"What raises the hazard of {end} at a call",
        frame=frame,
        method=f"Discrete-time hazard of {end} at each call, {together.method}; stepwise baseline"
        + (f", {', '.join(arms)}" if arms else "")
        + (", each task's mean rate of every tool exposure" if means else "")
        + "; 95 % intervals by t over tasks; Benjamini-Hochberg.",
        keys=("exposure",),
        members=_members(risk, met, kept),
        source=runs,
        warnings=tuple(
            _warnings(risk, chosen, together, end, [found.says for found in confounded])
        ),
        headline=_headline(frame, end),
    )


# ---------------------------------------------------------------------- rows


def _chosen(wanted: list[str], groups: dict[str, str]) -> list[str]:
    unknown = [name for name in wanted if name not in groups]
    if unknown:
        raise DerailError(f"no call met {unknown[0]!r}; exposures here: {', '.join(groups)}")
    return wanted or list(groups)


def _check_interactions(pairs: Sequence[tuple[str, str]], names: list[str]) -> None:
    for name in (name for pair in pairs for name in pair):
        if name not in names:
            raise DerailError(f"{name!r} of an interaction is not among the exposures in the model")


def _refusal(rows: pl.DataFrame, name: str) -> str | None:
    cells = _cells(rows, name)
    smallest = min(cells, key=lambda cell: cells[cell])
    if cells[smallest] >= MIN_EVENTS:
        return None
    return f"{cells[smallest]} calls {smallest}; {MIN_EVENTS} are needed"


def _cells(rows: pl.DataFrame, name: str) -> dict[str, int]:
    exposed, breaks = pl.col(name) > 0, pl.col("event")
    goes_on = pl.col("n") - breaks
    counted = rows.select(
        breaks.filter(exposed).sum().alias("that met it and break"),
        goes_on.filter(exposed).sum().alias("that met it and go on"),
        breaks.filter(~exposed).sum().alias("that did not meet it and break"),
        goes_on.filter(~exposed).sum().alias("that did not meet it and go on"),
    )
    return counted.row(0, named=True)


def _model(model: Model, rows: pl.DataFrame) -> str:
    if model != "auto":
        return model
    tasks = rows["task"].n_unique()
    several = rows["ends"].sum() >= 2 * tasks
    return "random_intercept" if tasks >= _FEWEST_TASKS and several else "clustered"


def _baseline_columns(rows: pl.DataFrame) -> dict[str, pl.Expr]:
    """0 and 1 for each piece of the baseline but the first; each piece has events and others."""
    counts = rows.group_by("step").agg(pl.col("event", "rows").sum()).sort("step")
    starts, events, calls = [0], 0, 0
    for start, more_events, more_calls in counts.iter_rows():
        if 0 < events < calls:
            starts.append(int(start))
            events = calls = 0
        events, calls = events + more_events, calls + more_calls
    if not 0 < events < calls:
        starts = starts[:-1] or [0]
    stops: list[int] = [*starts[1:], 1 << 62]
    return {
        f"{_BASE}{start}": pl.col("step").is_between(start, stop, closed="left").cast(pl.Float64)
        for start, stop in zip(starts[1:], stops[1:], strict=True)
    }


def _rate_in_task(name: str) -> pl.Expr:
    """How often the calls of a task met a tool exposure: those that could, which a run's first can't.

    With first calls among them, tasks whose runs end early would seem to meet less of everything, and
    the exposure would take up what the length of runs says. A task of first calls alone has the mean.
    """
    could = pl.col("rows") * (pl.col("step") > 0)
    met = pl.col(name) * pl.col("rows")
    rate = (met.sum() / could.sum()).over("task")
    return pl.when(could.sum().over("task") > 0).then(rate).otherwise(met.sum() / could.sum())


def _dummies(rows: pl.DataFrame, arms: list[str]) -> list[pl.Expr]:
    return [
        pl.col(arm).eq_missing(pl.lit(value)).cast(pl.Float64).alias(f"arm_of_{arm}={value}")
        for arm in arms
        for value in rows[arm].unique().sort().to_list()[1:]
    ]


# ---------------------------------------------------------------------- fit and tell


def _fit(rows: pl.DataFrame, names: list[str], link: Link, model: str) -> Fit:
    varying = [name for name in names if rows[name].n_unique() > 1]
    data = patterns(rows, "event", varying, "task", n="n")
    return random_intercept(data) if model == "random_intercept" else fit(data, link)


def _ratio(found: Fit, name: str) -> tuple[float, float, float, float]:
    index = found.names.index(name)
    value, se = float(found.coefficients[index]), float(found.standard_errors[index])
    found_here = t_estimate(value, se, found.clusters, found.n)
    low, high = math.exp(found_here.low), math.exp(found_here.high)
    return math.exp(found_here.value), low, high, found_here.p


def _frame(  # noqa: PLR0917 - what was asked for, and what came of it
    rows: pl.DataFrame,
    names: list[str],
    products: list[tuple[str, str]],
    groups: dict[str, str],
    refusals: dict[str, str | None],
    together: Fit,
    alone: dict[str, Fit],
) -> pl.DataFrame:
    told: list[dict[str, Any]] = []
    for name in [*names, *(product(*pair) for pair in products)]:
        exposed_events, exposed_rest, events, rest = _cells(rows, name).values()
        row: dict[str, Any] = {
            "exposure": name,
            "group": groups.get(name, "interaction"),
            "exposed_calls": exposed_events + exposed_rest,
            "exposed_events": exposed_events,
            "unexposed_calls": events + rest,
            "unexposed_events": events,
            "exposed_hazard": _share(exposed_events, exposed_rest),
            "unexposed_hazard": _share(events, rest),
            "refused": refusals[name],
        }
        if name in alone:
            ratio, low, high, p = _ratio(together, name)
            raw, raw_low, raw_high, _ = _ratio(alone[name], name)
            row |= {"odds_ratio": ratio, "low": low, "high": high, "p": p}
            if name in groups:
                row |= {"unadjusted": raw, "unadjusted_low": raw_low, "unadjusted_high": raw_high}
            row["e_value"] = e_value(ratio)
        told.append(row)
    p_values = [row.get("p", math.nan) for row in told]
    for row, adjusted in zip(told, benjamini_hochberg(p_values), strict=True):
        row["p_adjusted"] = None if np.isnan(adjusted) else adjusted
    frame = pl.DataFrame(told, schema=_SCHEMA)
    return frame.sort("p", "exposed_events", descending=[False, True], nulls_last=True)


def _share(events: int, rest: int) -> float | None:
    return events / (events + rest) if events + rest else None


def _members(risk: AtRisk, met: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Runs that met an exposure: ``broke`` where a call that met it broke, else ``went_on``."""
    ids = risk.runs.select("run", "trajectory_id")
    role = pl.when("broke").then(pl.lit("broke")).otherwise(pl.lit("went_on")).alias("role")
    parts = [
        met.filter(exposure=name)
        .join(ids, on="run", how="left", maintain_order="left")
        .select(pl.col("exposure").cast(pl.String), "trajectory_id", role)
        for name in names
    ]
    return pl.concat([empty_members("exposure"), *parts])


def _warnings(risk: AtRisk, model: str, found: Fit, end: str, confounded: list[str]) -> list[str]:
    warnings = [
        "Observational: exposures were met, not assigned. Read an odds ratio as an association unless an "
        "experiment assigned the exposure.",
        f"The event is the last call of a run that ends in {end}; it is not the onset of the breakdown.",
    ]
    if model == "clustered":
        warnings.append(
            "Tasks are not adjusted for: what is more common in hard tasks looks harmful. Several runs "
            "per task allow model='random_intercept'."
        )
        warnings += confounded
    if found.clusters < 40:
        warnings.append(
            f"Only {found.clusters} tasks: clustered errors are too small below about 40."
        )
    if "Firth" in found.method:
        warnings.append(
            "Events are separated by an exposure; estimates are Firth's, shrunk towards 1."
        )
    if not found.converged:
        warnings.append("The fit did not converge: take out exposures that say the same.")
    if risk.runs.filter("ended")["last"].n_unique() == 1:
        warnings.append("All runs break at the same step: a limit on steps is no breakdown.")
    return warnings


def _headline(frame: pl.DataFrame, end: str) -> str:
    found = frame.filter(pl.col("p_adjusted") < 0.05, pl.col("odds_ratio") > 1)
    if found.is_empty():
        return f"No exposure is shown to raise the hazard of {end} (5 % after correction)."
    top = found.row(0, named=True)
    return (
        f"A call that met {top['exposure']} breaks the run {top['odds_ratio']:.1f} times as likely, by "
        f"odds [{top['low']:.1f}, {top['high']:.1f}]: {top['exposed_events']} of {top['exposed_calls']} "
        f"such calls did."
    )
