"""The main job: from logs to a defensible answer to "where does performance break down?"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

import polars as pl

from analysis import ablation, breakdown, outcomes, perturbations, thinking
from analysis import report_words as words
from analysis.design import Design, read_design, untreated
from analysis.exposures import exposures
from analysis.hazard import hazard
from analysis.manipulation import manipulation
from analysis.report_words import Section
from analysis.results import Result
from analysis.thinking_policy import POLICIES
from loaders import Trajectories
from loaders.errors import DerailError

DROPPED: Final = "thinking_dropped"
_EXPLICIT: Final = ("exec_error", "exception", "timeout", "rate_limit", "http_error")
"""Responses that say that the call failed: whether to try again is a thought that may be lost."""


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
        """The result of a section by its name, for example ``report["triggers"]``.

        Raises ``DerailError`` where there is none; ``left_out`` tells why.
        """
        for section in self.sections:
            if section.name == name:
                return section.result
        there = ", ".join(section.name for section in self.sections) or "none"
        raise DerailError(
            f"these logs gave no section {name!r}; there are: {there}. report.left_out tells why."
        )

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
    pair: Sequence[str] | None = None,
    baseline: str | None = None,
) -> Report:
    """Ask all questions of a set of runs and put the answer first.

    ``by``: the column that holds the arms; by default ``arm``, else the label or the folders under which
    the same tasks were run, else ``model`` where there are several. ``pair``: columns that name the same
    task and trial in each arm; by default ``task_id``, ``trial`` and whatever is crossed with the arms
    (model, scaffold, perturbation), so that no pair mixes strata; a note says what that is.
    ``baseline``: the arm to compare with; by default the one that succeeds less where there
    are two, else the one with most runs.

    Raises ``DerailError`` for an unknown column or baseline.

    >>> import loaders
    >>> report = make(loaders.load("sample_logs/study/*/planner-1/inspect/none.eval"))
    >>> report.answer.endswith(".")
    True
    """
    outcomes.columns(by, runs)
    runs, design = read_design(runs, by)
    pairs = design.pair if pair is None else outcomes.columns(pair, runs)
    asked = _Asked()
    if design.arm is not None:
        _ask_of_arms(asked, runs, design, pairs, baseline)
    by = design.arm
    asked.ask(
        "success",
        "How often do runs succeed?",
        words.success_answer,
        lambda: outcomes.success(runs, by),
    )
    asked.ask(
        "triggers", "What precedes failure?", lambda r: r.headline, lambda: _triggers(runs, design)
    )
    asked.ask(
        "hazard",
        "Is a broken response worse where thinking is dropped?",
        words.hazard_answer,
        lambda: _hazard(runs, design),
    )
    if by is not None:
        asked.ask(
            "differences",
            "What else differs between the arms?",
            lambda result: words.difference_answer(result, words.most_different(asked.sections)),
            lambda: ablation.differences(runs, by, pairs, baseline or _reference_arm(runs, by)),
        )
    asked.ask(
        "by_step",
        "At which step does it go wrong?",
        words.step_answer,
        lambda: breakdown.by_step(runs, by),
    )
    if by is not None:
        asked.ask(
            "manipulation",
            "Did each arm get what its label says?",
            lambda result: result.headline,
            lambda: _manipulation(runs, by),
        )
    groups = [by, "framework"] if by not in (None, "framework") else ["framework"]
    asked.ask(
        "continuity",
        "Was thinking sent back to the model?",
        words.continuity_answer,
        lambda: thinking.continuity(runs, [name for name in groups if name]),
    )
    asked.ask(
        "rates",
        "Which tool responses came back broken?",
        words.rates_answer,
        lambda: perturbations.rates(runs, by or "framework"),
    )
    asked.ask(
        "pass_k",
        "How reliable is it over trials?",
        words.pass_k_answer,
        lambda: _pass_k(runs, by),
    )
    answer, support = words.answer(runs, asked.sections)
    notes = [*design.notes, *words.simulated_note(runs)]
    return Report(runs, answer, support, asked.sections, by, notes, asked.left_out)


class _Asked:
    """Questions asked so far: those that were answered, and those that could not be."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.left_out: list[tuple[str, str]] = []

    def ask(
        self,
        name: str,
        question: str,
        answer: Callable[[Result], str],
        compute: Callable[[], Result],
    ) -> None:
        try:
            result = compute()
        except DerailError as error:
            self.left_out.append((question, str(error)))
            return
        if result.frame.is_empty():
            self.left_out.append((question, "there is nothing to count in these logs"))
        else:
            self.sections.append(Section(name, question, answer(result), result))


def _ask_of_arms(
    asked: _Asked, runs: Trajectories, design: Design, pairs: list[str], baseline: str | None
) -> None:
    """Which arm does better, and by how much each factor of the design matters."""
    by = str(design.arm)
    first = baseline or _reference_arm(runs, by)
    asked.ask(
        "compare",
        "Does one arm do better on the same tasks?",
        lambda result: result.headline,
        lambda: ablation.compare(runs, by, pairs, first),
    )
    if design.crossed:
        asked.ask(
            "factors",
            "Which factor matters most, and which depend on each other?",
            words.factors_answer,
            lambda: _factors(runs, design, first),
        )


# ---------------------------------------------------------------------- computing


def _reference_arm(runs: Trajectories, by: str) -> str | None:
    """Of two arms the one that succeeds less, of more the one with most runs: a control, as a rule."""
    rates = outcomes.success(runs, by).frame.drop_nulls(by)
    if rates.height < 2:
        return None
    order = pl.col("success") if rates.height == 2 else -pl.col("runs")
    return str(rates.sort(order, by)[by][0])


def _triggers(runs: Trajectories, design: Design) -> Result:
    """Matched as closely as the number of runs allows: inside tasks and arms, else on steps alone."""
    arms = [name for name in (design.arm, *design.strata) if name is not None]
    found = breakdown.triggers(runs, by=arms, match="task")
    if found.frame["odds_ratio"].is_not_null().any():
        return found
    between = breakdown.triggers(runs, by=arms, match="step")
    return between if between.frame["odds_ratio"].is_not_null().any() else found


def _hazard(runs: Trajectories, design: Design) -> Result:
    """Broken responses, dropped thinking, and what both do together."""
    met = exposures(runs)
    codes = (
        met.filter(pl.col("group") == "tool response")
        .group_by("exposure")
        .len()
        .sort("len", "exposure", descending=[True, False])["exposure"]
        .to_list()
    )
    if not codes or met.filter(pl.col("exposure") == DROPPED).is_empty():
        raise DerailError(
            "it takes broken tool responses, and calls whose requests are recorded and lack thinking"
        )
    both = [(DROPPED, code) for code in codes if code in _EXPLICIT]
    # Where a condition was given to trials at random, harder tasks do not meet more of it.
    model = "clustered" if design.conditions else "auto"
    return hazard(runs, [DROPPED, *codes], interactions=both, by=design.strata, model=model)


def _manipulation(runs: Trajectories, by: str) -> Result:
    """Whether runs were sent the thinking that their arm is named for, or that most of its runs were."""
    arms = runs.trajectories.select(pl.col(by).cast(pl.String).unique()).collect()[by].drop_nulls()
    named = {arm: arm for arm in arms.sort() if arm in POLICIES}
    found = manipulation(runs, by, named if len(named) == len(arms) else None)
    if not found.frame.select(pl.sum_horizontal("complied", "deviated").sum()).item():
        raise DerailError("no request is recorded that could show what the runs were sent")
    return found


def _factors(runs: Trajectories, design: Design, baseline: str | None) -> Result:
    """Each factor against its first level; a condition against no treatment."""
    names = [str(design.arm), *design.crossed]
    table = outcomes.judged(runs, *names).with_columns(pl.col(names).cast(pl.String))
    base = {} if baseline is None else {names[0]: baseline}
    for name in design.conditions:
        levels, counts = table.group_by(name).len().sort(name).drop_nulls().get_columns()
        base[name] = untreated(levels.to_list(), counts.to_list())
    return ablation.factors(runs, names, baseline=base)


def _pass_k(runs: Trajectories, by: str | None) -> Result:
    result = outcomes.pass_k(runs, by)
    if result.frame["k"].max() == 1:
        raise DerailError("each task has one trial, so there is nothing beyond the success rate")
    return result
