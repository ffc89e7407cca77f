"""What the report says in sentences: each reads one result, and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from analysis import outcomes
from analysis.results import Result
from loaders import Trajectories
from loaders.marks import is_simulated

_REPLACED: Final = 0.25  # identical calls differ a little wherever tools have state
_SHOWN_EFFECTS: Final = 3


@dataclass(frozen=True)
class Section:
    """A question, its answer in a sentence, and the result that the answer was read from."""

    name: str
    question: str
    answer: str
    result: Result


def _named(keys: Sequence[Any]) -> str:
    return " · ".join("(none named)" if key is None else str(key) for key in keys)


def success_answer(result: Result) -> str:
    rows = result.frame.iter_rows(named=True)
    parts = [
        f"{_named([row[key] for key in result.keys])} {outcomes.rate_text(row['success'])}"
        for row in rows
    ]
    shown = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    return f"{shown}."


def factors_answer(result: Result) -> str:
    """The largest effects first, then what depends on what; only those that hold after correction."""
    shown = result.frame.filter(pl.col("p_adjusted") < 0.05)
    ranked = shown.sort(pl.col("difference").abs(), descending=True)
    main = [*ranked.filter(pl.col("kind") == "main").iter_rows(named=True)]
    both = [*ranked.filter(pl.col("kind") == "interaction").iter_rows(named=True)]
    if not main and not both:
        return "No factor is shown to matter after correction."
    tried = result.frame.filter(pl.col("kind") == "main", pl.col("p_adjusted") >= 0.05)
    parts = ["; ".join(_effect(row) for row in main[:_SHOWN_EFFECTS])] if main else []
    if len(main) > _SHOWN_EFFECTS:
        parts[0] += f"; and {len(main) - _SHOWN_EFFECTS} more"
    if both:
        parts.append(f"Beyond the sum of both: {_effect(both[0])}")
    if not tried.is_empty():
        names = tried["effect"].to_list()
        named = f"{len(names)} others" if len(names) > _SHOWN_EFFECTS else ", ".join(names)
        parts.append(f"Not shown to matter: {named}")
    return ". ".join(parts) + "."


def _effect(row: dict[str, Any]) -> str:
    low, high = 100 * row["low"], 100 * row["high"]
    return f"{row['effect']} {100 * row['difference']:+.1f} points [{low:+.1f}, {high:+.1f}]"


def hazard_answer(result: Result) -> str:
    """The most harmful exposures, and by how much dropped thinking makes a broken response worse."""
    found = result.frame.filter(pl.col("p_adjusted") < 0.05, pl.col("odds_ratio") > 1)
    ranked = found.sort("odds_ratio", descending=True)
    alone = [*ranked.filter(pl.col("group") != "interaction").iter_rows(named=True)]
    both = [*ranked.filter(pl.col("group") == "interaction").iter_rows(named=True)]
    parts: list[str] = []
    if alone:
        named = "; ".join(f"{row['exposure']} {_times(row)}" for row in alone[:_SHOWN_EFFECTS])
        parts.append(f"Odds of breaking at a call that met it: {named}")
    if both:
        named = "; ".join(f"{row['exposure']} {_times(row)}" for row in both[:2])
        parts.append(f"Both together beyond each alone: {named}")
    if not both and (result.frame["group"] == "interaction").any():
        parts.append("That dropped thinking makes a broken response worse is not shown")
    return ". ".join(parts) + "." if parts else result.headline


def _times(row: dict[str, Any]) -> str:
    return f"{row['odds_ratio']:.1f} times [{row['low']:.1f}, {row['high']:.1f}]"


def simulated_note(runs: Trajectories) -> list[str]:
    """That no real model is in these logs, where they say so."""
    counted = runs.trajectories.select(is_simulated().sum(), pl.len()).collect()
    simulated, everything = counted.row(0)
    if not simulated:
        return []
    which = "All" if simulated == everything else f"{simulated:,} of {everything:,}"
    return [f"{which} runs are simulated, as their logs say: no real model is in them."]


def most_different(sections: list[Section]) -> str | None:
    """The arm that the headline of the comparison names."""
    for section in sections:
        if section.name == "compare":
            return str(
                section.result.frame.sort(pl.col("difference").abs(), descending=True)["b"][0]
            )
    return None


def difference_answer(result: Result, arm: str | None) -> str:
    frame = result.frame.filter(pl.col("b") == arm) if arm is not None else result.frame
    clear = frame.filter(pl.col("p_adjusted") < 0.05)
    signal, most = pl.col("signal"), pl.max_horizontal("total_a", "total_b")
    many_more = (most >= 10) & (most >= 3 * pl.min_horizontal("total_a", "total_b"))
    telling = frame.filter(
        ((signal == "response_replaced") & (pl.col("total_b") >= _REPLACED))
        | ((signal == "needless_repeat") & many_more)
    )
    rows = [*telling.iter_rows(named=True)]
    rows += [row for row in clear.head(3).iter_rows(named=True) if row not in rows]
    if not rows:
        return "Nothing that was counted differs clearly between the arms."
    return "; ".join(difference_text(row) for row in rows[:4]) + "."


def difference_text(row: dict[str, Any]) -> str:
    """One row of ``ablation.differences`` as words."""
    signal, a, b = row["signal"], row["a"], row["b"]
    if signal == "response_replaced":
        share = 100 * row["total_b"]
        return f"identical calls got another response in {share:.0f} % of cases ({a} against {b})"
    words = {
        "repeat_call": "calls that repeat the one before",
        "needless_repeat": "calls that repeat one whose response was in order",
    }.get(signal, signal.replace("_", " "))
    return f"{words}: {row['total_a']:,.0f} in {a}, {row['total_b']:,.0f} in {b}"


def step_answer(result: Result) -> str:
    worst = result.frame.sort("hazard", descending=True).row(0, named=True)
    who = (
        ""
        if result.keys == ("group",)
        else f" ({', '.join(str(worst[key]) for key in result.keys)})"
    )
    return (
        f"The share of failures per call is highest at step {worst['step']}{who}: {worst['failed']} of "
        f"{worst['at_risk']} runs that reach it fail there."
    )


def continuity_answer(result: Result) -> str:
    totals = result.frame.select(
        pl.col("calls_due", "calls_kept", "calls_dropped", "calls_unknown").sum()
    )
    due, kept, dropped, unknown = totals.row(0)
    if not due:
        return "These logs hold no thinking that could have been sent back."
    known = kept + dropped
    if not known:
        return (
            f"Unknown for all {due:,} calls that had earlier thinking: the logs hold no requests."
        )
    text = (
        f"Kept in {kept:,} and dropped in {dropped:,} of {known:,} calls whose request is recorded"
    )
    return text + (f"; unknown for {unknown:,}." if unknown else ".")


def rates_answer(result: Result) -> str:
    codes = (
        result.frame.group_by("code")
        .agg(pl.col("responses").sum())
        .sort("responses", "code", descending=True)
    )
    named = ", ".join(f"{code} {count:,}" for code, count in codes.head(4).iter_rows())
    return f"Most frequent: {named}."


def pass_k_answer(result: Result) -> str:
    last = result.frame.filter(pl.col("k") == pl.col("k").max())
    parts = [
        f"pass^{row['k']} {outcomes.rate_text(row['pass_k'])}"
        + (
            ""
            if result.keys == ("group",)
            else f" ({', '.join(str(row[key]) for key in result.keys)})"
        )
        for row in last.iter_rows(named=True)
    ]
    return "; ".join(parts[:4]) + "."


def answer(runs: Trajectories, sections: list[Section]) -> tuple[str, list[str]]:
    """One sentence that a person can quote, and those that support it."""
    named = {section.name: section for section in sections}
    support: list[str] = []
    outcome = outcomes.judged(runs)["success"]
    if outcome.n_unique() == 1:
        verb = "succeed" if outcome[0] else "fail"
        return (
            f"All {len(outcome):,} runs with a known outcome {verb}, so none shows the difference.",
            support,
        )
    support += [named[name].answer for name in ("factors", "hazard") if name in named]
    if "triggers" in named and named["triggers"].result.frame["odds_ratio"].is_not_null().any():
        support.append(named["triggers"].answer)
    if "compare" in named:
        if "differences" in named:
            support.append(f"What else differs: {named['differences'].answer}")
        if "continuity" in named and named["continuity"].result.frame["calls_due"].sum():
            support.append(f"Thinking: {named['continuity'].answer}")
        return named["compare"].answer, support
    if "success" in named:
        frame = named["success"].result.frame
        if frame.height > 1:
            return f"Success: {named['success'].answer}", support
        row = frame.row(0, named=True)
        known = row["low"] is not None
        interval = f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" if known else ""
        return (
            f"{100 * row['success']:.1f} %{interval} of {row['runs']:,} runs over {row['tasks']:,} tasks "
            "succeed."
        ), support
    if "rates" in named:
        support.append(f"Broken tool responses: {named['rates'].answer}")
    return (
        f"{len(runs):,} runs were read and none has a known outcome, so where they break down can't be told "
        "from the logs alone; add outcomes with runs.label(...)."
    ), support
