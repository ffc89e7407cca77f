"""Codes of one's own are known to every analysis; the subject is found in one place."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from small import responses

from analysis import ablation, axes, breakdown, perturbations, survival
from loaders import DerailError


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    for code in list(perturbations.defined()):
        perturbations.undefine(code)


def test_a_code_in_one_line_reaches_the_analyses() -> None:
    perturbations.define("paywall", r"(?i)subscribe to continue")
    runs = responses({"text": "Please subscribe to continue."}, {"text": "fine"})
    found = perturbations.detect(runs)
    row = found.row(0, named=True)
    assert (found.height, row["code"], row["cause"], row["primary"]) == (
        1,
        "paywall",
        "environment",
        True,
    )
    assert perturbations.rates(runs, by="format").frame["code"].to_list() == ["paywall"]
    assert "paywall" in breakdown.exposures(runs)["exposure"].to_list()
    assert ablation.per_run_signals(runs)["paywall"].to_list() == [1]
    assert perturbations.codes()[-1] == "paywall"


def test_a_rule_may_be_an_expression_a_tool_and_somebodys_doing() -> None:
    slow = pl.col("text").str.len_chars() > 10
    perturbations.define("chatty", slow, tool="look|read", cause="agent")
    runs = responses(
        {"text": "x" * 20, "tool": "look"},
        {"text": "x" * 20, "tool": "looking"},
        {"text": "x", "tool": "read"},
    )
    found = perturbations.detect(runs)
    assert found.select("seq", "cause").rows() == [(1, "agent")]


def test_a_known_code_comes_first_on_the_same_evidence() -> None:
    perturbations.define("oops", r"Traceback")
    runs = responses({"text": "Traceback (most recent call last)\n  x\nValueError: y"})
    found = perturbations.detect(runs)
    assert found["code"].to_list() == ["exception", "oops"]
    assert found["primary"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("code", "rule", "says"),
    [
        ("timeout", "x", "already"),
        ("Not good", "x", "no name"),
        ("bad", "(", "no regular expression"),
    ],
)
def test_what_can_be_no_code_is_refused(code: str, rule: str, says: str) -> None:
    with pytest.raises(DerailError, match=says):
        perturbations.define(code, rule)
    with pytest.raises(DerailError, match="defined are: none"):
        perturbations.undefine(code)


def test_the_whole_subject_is_found_here() -> None:
    assert perturbations.recovery is survival.recovery
    assert (perturbations.axes, perturbations.diff, perturbations.surface) == (
        axes.axes,
        axes.diff,
        axes.surface,
    )
    assert {"recovery", "axes", "diff", "surface", "detect"} <= set(dir(perturbations))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = perturbations.nothing  # pyright: ignore[reportAttributeAccessIssue]
