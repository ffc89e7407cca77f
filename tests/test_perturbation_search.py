"""One search decides which responses the rules look at: it may leave none out that a rule would find."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from small import responses as told
from test_perturbations import FIRES

import loaders
from analysis import perturbation_messages as said
from analysis.perturbation_rules import alone, programs_say_why
from analysis.signals import responses

SINGLE = ("TRACEBACK", "EXCEPTION", "SAYS_ERROR", "TIMED_OUT", "TRUNCATION", "INJECTION", "ZERO_WIDTH",
          "NO_OP", "CONTROL", "FROM_CACHE", "STATUS")  # fmt: skip
_NAMED = r"^(?:/bin/)?[\w./+-]{1,40}: (?:\(\d+\) )?"
PROGRAMS = {
    "error": rf"(?m){_NAMED}(?:[^\n]{{0,300}}[: (])?(?:{said._ERRNO})\)?\s*$",
    "usage": rf"(?mi){_NAMED}(?:-\S+: )?(?:{said._GETOPT})",
    "refuses": rf"(?mi){_NAMED}(?:[\w./'-]{{1,60}}: )?(?:{said._REFUSES})",
}
"""What ``programs_say_why`` finds, each as one expression."""
PATTERNS = {
    **PROGRAMS,
    **{name: getattr(said, name) for name in SINGLE},
    **{
        f"{name} {number}": pattern
        for name in ("REFUSED", "SHELL", "BUILD", "TESTS")
        for number, pattern in enumerate(getattr(said, name))
    },
}


@pytest.mark.parametrize("name", PATTERNS)
def test_what_a_rule_matches_is_looked_at(name: str) -> None:
    # Some of what it matches, drawn quickly.
    short = re.sub(r"\{(\d),\d+\}", r"{\1,3}", PATTERNS[name])
    in_python = re.compile(short.replace(r"\z", r"\Z"), re.ASCII)
    drawn: list[str] = []

    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(st.from_regex(in_python))
    def draw(text: str) -> None:
        drawn.append(text)

    draw()
    texts = pl.Series([text.encode("utf-8", "replace").decode() for text in drawn])
    matched = texts.filter(texts.str.contains(PATTERNS[name]))
    assert len(matched) >= 3
    assert matched.filter(~matched.str.contains(said.NEEDED)).to_list() == []


def test_programs_are_read_by_parts_as_by_one_expression() -> None:
    """Around each limit, with what stands before and behind, and with one of the parts spoilt."""
    errors = (
        "No such file or directory",
        "cannot open",
        "invalid option -- x",
        "error: gone",
        "you may",
    )
    names = ("ls", "/bin/sh", "a" * 40, "a" * 41, "/bin/" + "b" * 40, "/bin/" + "b" * 41, "/bin/", "né.x+-",
             "two words", "", "x:")  # fmt: skip
    between = ("", "(3) ", "(x) ", "file: ", "it's: ", "--bar: ", "c" * 60 + ": ", "c" * 61 + ": ", "two words: ",
               "d " * 149 + "'x': ", "d " * 149 + "'x'y: ", "(3) x: ", "x: y: ", "error: ", "(")  # fmt: skip
    around = (
        ("", ""),
        ("before\n", "\nbehind"),
        ("before", ""),
        ("", ")"),
        ("", "  \r\n"),
        ("", " x"),
    )
    texts = pl.Series(
        f"{before}{name}: {what}{error}{behind}"
        for name in names
        for what in between
        for error in errors
        for before, behind in around
    )
    one = pl.any_horizontal(pl.col("text").str.contains(pattern) for pattern in PROGRAMS.values())
    expected = pl.DataFrame({"text": texts}).select(one).to_series()
    assert 0.2 < expected.mean() < 0.8  # pyright: ignore[reportOperatorIssue]
    wrong = texts.filter(programs_say_why(texts) != expected)
    assert wrong.to_list() == []
    assert programs_say_why(pl.Series([None, "", "x: cannot go"])).to_list() == [False, False, True]


def test_most_texts_are_not_looked_at() -> None:
    texts = [
        "the order of item 7 is ready",
        '{"id": 7, "state": "open", "note": "left at the desk"}',
    ]
    assert not pl.Series(texts).str.contains(said.NEEDED).any()


def same(runs: loaders.Trajectories) -> None:
    table = responses(runs)
    few, all_of_them = alone(table), alone(table, every=True)
    order = ["run", "seq", "code", "rule"]
    assert_frame_equal(few[0].sort(order), all_of_them[0].sort(order))
    assert_frame_equal(few[1], all_of_them[1])


@pytest.mark.parametrize(("result", "_expected"), FIRES)
def test_a_close_look_at_all_finds_the_same(result: dict[str, Any], _expected: object) -> None:
    same(told(result))


def test_a_close_look_at_all_samples_finds_the_same() -> None:
    same(loaders.load("sample_logs/study/none/planner-1/inspect"))
    same(loaders.load("sample_logs/frameworks"))


def test_a_close_look_at_all_real_logs_finds_the_same(real_logs: Path) -> None:
    folders = [
        path for path in sorted(real_logs.iterdir()) if path.is_dir() and path.name != "otlp"
    ]
    same(loaders.load(folders))
