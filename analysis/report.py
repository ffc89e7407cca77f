"""The main job: from logs to a defensible answer to "where does performance break down?"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePosixPath
from typing import Any, Final

import polars as pl

from analysis import ablation, breakdown, outcomes, perturbations, thinking
from analysis.results import Result
from loaders import Trajectories
from loaders.errors import DerailError

_MIN_SHARED_TASKS: Final = 10
_MOST_ARMS: Final = 12
_PAIR: Final = ("task_id", "trial")
_REPLACED: Final = 0.25  # identical calls differ a little wherever tools have state


@dataclass(frozen=True)
class Section:
    """A question, its answer in a sentence, and the result that the answer was read from."""

    name: str
    question: str
    answer: str
    result: Result


@dataclass(frozen=True, repr=False)
class Report:
    """The answer first, then the sections that support it, and what a reader must know.

    ``answer`` the sentence to quote, ``support`` those behind it; ``by`` the column that holds the
    arms (None: one group); ``notes`` what was decided on the way;
    ``left_out`` sections that could not be computed, with the reason.
    """

    runs: Trajectories
    answer: str
    support: list[str]
    sections: list[Section]
    by: str | None
    notes: list[str] = field(default_factory=list[str])
    left_out: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def __getitem__(self, name: str) -> Result:
        """The result of a section by its name, for example ``report["triggers"]``."""
        for section in self.sections:
            if section.name == name:
                return section.result
        raise KeyError(f"no section {name!r}; there are {[s.name for s in self.sections]}")

    def _ipython_key_completions_(self) -> list[str]:
        return [section.name for section in self.sections]

    def __repr__(self) -> str:
        return "\n".join([self.answer, *(f"  · {sentence}" for sentence in self.support)])

    def _repr_html_(self) -> str:
        support = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.support)
        names = ", ".join(
            f"<code>[{escape(repr(section.name))}]</code>" for section in self.sections
        )
        return (
            "<div style='font:15px/1.5 system-ui,sans-serif;border-left:4px solid #0072b2;padding:4px 16px;"
            f"max-width:760px'><p style='font-size:17px;margin:4px 0'>{escape(self.answer)}</p>"
            f"<ul style='margin:6px 0;padding-left:20px'>{support}</ul>"
            f"<small>Sections: {names}</small></div>"
        )


def make(
    runs: Trajectories,
    by: str | None = None,
    pair: Sequence[str] = _PAIR,
    baseline: str | None = None,
) -> Report:
    """Ask all questions of a set of runs and put the answer first.

    ``by``: the column that holds the arms; by default ``arm``, else folders that share tasks, else
    ``model`` where there are several. ``pair``: columns that name the same task and trial in each
    arm. ``baseline``: the arm to compare with; by default the one that succeeds less where there
    are two, else the one with most runs.

    Raises ``DerailError`` for an unknown column or baseline.

    >>> import loaders
    >>> report = make(loaders.load("sample_logs/study"))
    >>> report.answer.endswith(".")
    True
    """
    notes: list[str] = []
    outcomes.columns(by, runs)
    outcomes.columns(pair, runs)
    if by is None:
        runs, by = _with_arms(runs, notes)
    sections: list[Section] = []
    left_out: list[tuple[str, str]] = []

    def ask(
        name: str, question: str, answer: Callable[[Result], str], compute: Callable[[], Result]
    ) -> None:
        try:
            result = compute()
        except DerailError as error:
            left_out.append((question, str(error)))
            return
        if result.frame.is_empty():
            left_out.append((question, "there is nothing to count in these logs"))
        else:
            sections.append(Section(name, question, answer(result), result))

    if by is not None:
        baseline = baseline or _reference_arm(runs, by)
        compared = by
        ask(
            "compare",
            "Does one arm do better on the same tasks?",
            lambda result: result.headline,
            lambda: ablation.compare(runs, compared, pair, baseline),
        )
    ask(
        "success", "How often do runs succeed?", _success_answer, lambda: outcomes.success(runs, by)
    )
    ask("triggers", "What precedes failure?", lambda r: r.headline, lambda: _triggers(runs, by))
    if by is not None:
        compared = by
        ask(
            "differences",
            "What else differs between the arms?",
            lambda result: _difference_answer(result, _most_different(sections)),
            lambda: ablation.differences(runs, compared, pair, baseline),
        )
    ask(
        "by_step",
        "At which step does it go wrong?",
        _step_answer,
        lambda: breakdown.by_step(runs, by),
    )
    groups = [by, "framework"] if by not in (None, "framework") else ["framework"]
    ask(
        "continuity",
        "Was thinking sent back to the model?",
        _continuity_answer,
        lambda: thinking.continuity(runs, [name for name in groups if name]),
    )
    ask(
        "rates",
        "Which tool responses came back broken?",
        _rates_answer,
        lambda: perturbations.rates(runs, by or "framework"),
    )
    ask("pass_k", "How reliable is it over trials?", _pass_k_answer, lambda: _pass_k(runs, by))
    answer, support = _answer(runs, sections)
    return Report(runs, answer, support, sections, by, notes, left_out)


# ---------------------------------------------------------------------- arms


def _with_arms(runs: Trajectories, notes: list[str]) -> tuple[Trajectories, str | None]:
    """Find the column that holds the arms, or take them from folders that share tasks."""
    table = runs.trajectories.filter(pl.col("parent_id").is_null()).collect()
    if table["arm"].n_unique() > 1 and table["arm"].null_count() == 0:
        return runs, "arm"
    found = _arms_from_folders(table)
    if found is not None:
        names = ", ".join(found["arm"].unique().sort().to_list())
        notes.append(
            f"Arms are the folders {names}, because they hold runs of the same tasks. "
            "Name other arms with --by, or a template such as 'runs/{arm}/*.json'."
        )
        return runs.label(found, on="trajectory_id"), "arm"
    if table["arm"].drop_nulls().n_unique() > 1:
        return runs, "arm"
    if table["model"].drop_nulls().n_unique() > 1:
        notes.append("No arms are labelled; models are compared instead.")
        return runs, "model"
    return runs, None


def _arms_from_folders(table: pl.DataFrame) -> pl.DataFrame | None:
    """The folder level whose folders share most tasks, as labels of the runs below them."""
    judged = table.filter(pl.col("task_id").is_not_null() & pl.col("source").is_not_null())
    folders = [PurePosixPath(source).parent.parts for source in judged["source"].to_list()]
    best: tuple[int, pl.DataFrame] | None = None
    for depth in range(max(map(len, folders), default=0)):
        names = [parts[depth] if depth < len(parts) else None for parts in folders]
        labelled = judged.select("trajectory_id", "benchmark", "task_id", "trial").with_columns(
            pl.Series("arm", names, dtype=pl.String)
        )
        arms = labelled["arm"].drop_nulls().n_unique()
        if not 2 <= arms <= _MOST_ARMS:
            continue
        shared = (
            labelled.drop_nulls("arm")
            .group_by("benchmark", "task_id", "trial")
            .agg(pl.col("arm").n_unique())
            .filter(pl.col("arm") > 1)
            .height
        )
        if shared >= _MIN_SHARED_TASKS and (best is None or shared > best[0]):
            best = (shared, labelled.drop_nulls("arm").select("trajectory_id", "arm"))
    return best[1] if best else None


def _reference_arm(runs: Trajectories, by: str) -> str | None:
    """Of two arms the one that succeeds less, of more the one with most runs: a control, as a rule."""
    rates = outcomes.success(runs, by).frame.drop_nulls(by)
    if rates.height < 2:
        return None
    order = pl.col("success") if rates.height == 2 else -pl.col("runs")
    return str(rates.sort(order, by)[by][0])


# ---------------------------------------------------------------------- computing


def _triggers(runs: Trajectories, by: str | None) -> Result:
    """Matched as closely as the number of runs allows: inside tasks and arms, else on steps alone."""
    found = breakdown.triggers(runs, by=by, match="task")
    if found.frame["odds_ratio"].is_not_null().any():
        return found
    between = breakdown.triggers(runs, by=by, match="step")
    return between if between.frame["odds_ratio"].is_not_null().any() else found


def _pass_k(runs: Trajectories, by: str | None) -> Result:
    result = outcomes.pass_k(runs, by)
    if result.frame["k"].max() == 1:
        raise DerailError("each task has one trial, so there is nothing beyond the success rate")
    return result


# ---------------------------------------------------------------------- sentences


def _named(keys: Sequence[Any]) -> str:
    return " · ".join("(none named)" if key is None else str(key) for key in keys)


def _success_answer(result: Result) -> str:
    rows = result.frame.iter_rows(named=True)
    parts = [
        f"{_named([row[key] for key in result.keys])} {outcomes.rate_text(row['success'])}"
        for row in rows
    ]
    shown = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    return f"{shown}."


def _most_different(sections: list[Section]) -> str | None:
    """The arm that the headline of the comparison names."""
    for section in sections:
        if section.name == "compare":
            return str(
                section.result.frame.sort(pl.col("difference").abs(), descending=True)["b"][0]
            )
    return None


def _difference_answer(result: Result, arm: str | None) -> str:
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


def _step_answer(result: Result) -> str:
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


def _continuity_answer(result: Result) -> str:
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


def _rates_answer(result: Result) -> str:
    codes = (
        result.frame.group_by("code")
        .agg(pl.col("responses").sum())
        .sort("responses", "code", descending=True)
    )
    named = ", ".join(f"{code} {count:,}" for code, count in codes.head(4).iter_rows())
    return f"Most frequent: {named}."


def _pass_k_answer(result: Result) -> str:
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


def _answer(runs: Trajectories, sections: list[Section]) -> tuple[str, list[str]]:
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
    if "triggers" in named and named["triggers"].result.frame["odds_ratio"].is_not_null().any():
        support.append(named["triggers"].answer)
    if "compare" in named:
        if "differences" in named:
            support.insert(0, f"What else differs: {named['differences'].answer}")
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
