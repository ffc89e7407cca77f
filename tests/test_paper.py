"""Tables for papers: aligned, escaped, complete or saying what is missing."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest
from simulate import Planted, simulate

from analysis import outcomes
from analysis.paper import escaped_latex, escaped_markdown
from analysis.results import Result

EVIL = "\\input{/etc/passwd}\\write18{rm} $x_1^2$ 50% a&b #1 {~} <img src=x onerror=alert(1)> [x](javascript:alert(1)) \x1b[31m 中"


@pytest.fixture(scope="module")
def rates() -> Result:
    return outcomes.success(simulate(Planted(tasks=20), 1), by="trial")


def test_latex_aligns_numbers_under_booktabs_rules(rates: Result) -> None:
    text = rates.to_latex(rows=2)
    assert re.search(r"\\begin\{tabular\}\{lS\[table-format=2\.1\]rS\[table-format=2\.0\]", text)
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    rows = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(rows) == 2
    columns = text.splitlines()[5].count("&")
    assert all(row.count(" & ") == columns for row in rows)
    assert "2 more rows are not shown" in text
    assert "success (\\%)" in text
    assert "20 tasks and 80 runs" in text


def test_latex_prints_hostile_text_and_runs_none() -> None:
    text = escaped_latex(EVIL)
    commands = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert commands <= {
        "textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater",
    }  # fmt: skip
    assert not re.search(r"(?<!\\)[$%&#_]", text)
    assert "U+001B" in text
    assert "U+4E2D" in text
    assert text.count("{") == text.count("}")


def test_markdown_shows_hostile_text_and_links_nothing(rates: Result) -> None:
    frame = rates.frame.with_columns(pl.lit(f"{EVIL} | https://evil.example").alias("trial"))
    text = replace(rates, frame=frame).to_markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + frame.height
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in lines)
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "://evil" not in text
    assert escaped_markdown("a_b*c") == r"a\_b\*c"
