"""The report as one HTML file: no script, no network, every row opens the runs behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import polars as pl

from analysis import plots
from analysis.report import Report, Section
from analysis.report_style import css
from analysis.results import Result
from analysis.tables import as_text
from loaders.errors import DerailError

# Codes that steer terminals, and those that turn the direction of writing, show themselves.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_RUNS_IN_A_LIST: Final = 40
_CHART_WIDTH, _WIDE_CHART_WIDTH, _TALL = 345, 440, 420
"""Pixels: of a chart in a card, in a card that spans the page, and from which height on it does."""
_RUNS_IN_THE_INDEX: Final = 3_000
_ROWS_IN_A_TABLE: Final = 40
_WARNINGS: Final = 3
_LONGEST_CELL: Final = 100
_LONGEST_TEXT: Final = 300
_LONGEST_SENTENCE: Final = 1_200


def render(report: Report, title: str = "Where does performance break down?") -> str:
    """The whole report as HTML text; all text from logs is escaped.

    >>> import loaders
    >>> from analysis import report
    >>> page = render(report.make(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")))
    >>> page.startswith("<!doctype html>") and "<script" not in page
    True
    """
    known = set(report.runs.ids[:_RUNS_IN_THE_INDEX])
    sections = "".join(_section(section, known) for section in report.sections)
    notes = _list(report.notes, "notes")
    left_out = "".join(
        f"<li><b>{escape(question)}</b> {escape(reason)}</li>"
        for question, reason in report.left_out
    )
    contents = "".join(
        f'<a href="#{section.name}">{escape(section.question)}</a>' for section in report.sections
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
        f"<title>{escape(title)}</title><style>{css()}</style></head><body><main>"
        f"<header><p class='brand'><b>Derail</b> report on {len(report.runs):,} runs</p>"
        f"<h1>{escape(title)}</h1><div class='answer'><p>{escape(_whole(report.answer))}</p>"
        f"{_list(report.support)}{_behind_the_answer(report, known)}</div>{notes}</header>"
        f"<nav aria-label='Questions'>{contents}<a href='#runs'>All runs</a></nav>"
        f"<div class='grid'>{sections}</div>{_card(report)}"
        f"{f'<section><h2>Not answered</h2><ul>{left_out}</ul></section>' if left_out else ''}"
        f"{_problems(report)}{_index(report)}</main></body></html>"
    )
    return _CONTROL.sub("\ufffd", page)


def _whole(answer: str) -> str:
    """A sentence with its full stop, whose numbers keep their signs at a line's end."""
    shown = _cut(answer if answer.endswith((".", "!", "?")) else f"{answer}.", _LONGEST_SENTENCE)
    return (
        shown.replace(" %", "\u00a0%")
        .replace(" < ", "\u00a0<\u00a0")
        .replace(" = ", "\u00a0=\u00a0")
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _list(lines: Sequence[str], name: str = "") -> str:
    items = "".join(f"<li>{escape(_cut(line, _LONGEST_SENTENCE))}</li>" for line in lines)
    return f"<ul{f' class={name}' if name else ''}>{items}</ul>" if items else ""


def _warnings(result: Result) -> str:
    shown = [escape(_cut(text, _LONGEST_SENTENCE)) for text in result.warnings]
    if len(shown) > _WARNINGS + 1:
        rest = "".join(f"<p>{text}</p>" for text in shown[_WARNINGS:])
        more = f"<details><summary>{len(shown) - _WARNINGS} more</summary>{rest}</details>"
        shown = [*shown[:_WARNINGS], more]
    return "<ul class=warnings><li>" + "</li><li>".join(shown) + "</li></ul>" if shown else ""


def _behind_the_answer(report: Report, known: set[str]) -> str:
    """The runs behind the sentence at the top: those of the section that it was read from."""
    for section in report.sections:
        if report.answer in (section.answer, f"Success: {section.answer}"):
            members = section.result.members
            by_role = {
                role: members.filter(pl.col("role") == role)["trajectory_id"].unique().to_list()
                for role in members["role"].unique().sort().to_list()
            }
            return _runs_behind({role: sorted(ids) for role, ids in by_role.items()}, {}, known)
    return ""


def _card(report: Report) -> str:
    html: Any = report.runs
    return f"<section class='card'><h2>What was read</h2>{html._repr_html_()}</section>"


def _section(section: Section, known: set[str]) -> str:
    result = section.result
    figure = _chart(result)
    said = (
        f"<h2>{escape(section.question)}</h2><p class='lead'>{escape(_whole(section.answer))}</p>",
        f"{_warnings(result)}"
        f"<details class='numbers'><summary>Numbers, and the runs behind each</summary>"
        f"{_table(result, known)}</details>"
        f"<p class='method'>{escape(result.method)}</p>",
    )
    if _height(figure) > _TALL:  # beside what it says, so that no neighbour stands over a hole
        figure = _chart(result, _WIDE_CHART_WIDTH)
        return f'<section id="{section.name}" class="wide"><div>{"".join(said)}</div>{figure}</section>'
    return f'<section id="{section.name}">{figure.join(said)}</section>'


def _height(figure: str) -> float:
    found = re.search(r"<svg[^>]*? height=\"([\d.]+)", figure)
    return float(found[1]) if found else 0.0


def _chart(result: Result, width: int = _CHART_WIDTH) -> str:
    try:
        chart = plots.chart(result, width=width, caption=False)
        svg = plots.to_svg(chart, theme="page")
    except DerailError:
        return ""
    told = escape(str(chart.description), quote=True)
    return (
        f"<figure><div role='img' aria-label='{told}'>{svg}</div>"
        f"<figcaption>{escape(plots.counts_of(result))}</figcaption></figure>"
    )


def _table(result: Result, known: set[str]) -> str:
    table = as_text(result)
    classes = ["n" if is_number else "t" for is_number in table.is_number]
    head = "".join(
        f"<th class={css}>{escape(name)}</th>"
        for name, css in zip(table.header, classes, strict=True)
    )
    behind = _runs_by_key(result)
    body = ""
    for cells, key in list(zip(table.rows, table.keys, strict=True))[:_ROWS_IN_A_TABLE]:
        shown = "".join(
            f"<td class={css}>{escape(_cut(cell, _LONGEST_TEXT))}</td>"
            for cell, css in zip(cells, classes, strict=True)
        )
        opened = _runs_behind(behind.get(_key(key), {}), key, known)
        first, rest = shown.split("</td>", 1)
        body += f"<tr>{first}{opened}</td>{rest}</tr>"
    more = len(table.rows) - _ROWS_IN_A_TABLE
    note = f"<p class='method'>{more} more rows are in <code>.frame</code>.</p>" if more > 0 else ""
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )


Behind = dict[str, list[str]]


def _key(key: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in key.values())


def _runs_by_key(result: Result) -> dict[tuple[str, ...], Behind]:
    grouped: dict[tuple[str, ...], Behind] = {}
    for row in result.members.unique(maintain_order=True).iter_rows(named=True):
        key = tuple(str(row[name]) for name in result.keys)
        grouped.setdefault(key, {}).setdefault(row["role"], []).append(row["trajectory_id"])
    return grouped


def _runs_behind(behind: Behind, key: dict[str, Any], known: set[str]) -> str:
    if not behind:
        return ""
    parts: list[str] = []
    for role, ids in sorted(behind.items()):
        links = " ".join(
            f'<a href="#run-{escape(i, quote=True)}">{escape(i)}</a>' if i in known else escape(i)
            for i in ids[:_RUNS_IN_A_LIST]
        )
        more = len(ids) - _RUNS_IN_A_LIST
        call = ", ".join([*(f"{name}={value!r}" for name, value in key.items()), f"role={role!r}"])
        rest = f" and {more:,} more: <code>.runs({escape(call)})</code>" if more > 0 else ""
        parts.append(f"<p><b>{escape(role.replace('_', ' '))} ({len(ids):,})</b> {links}{rest}</p>")
    total = len({i for ids in behind.values() for i in ids})
    return f"<details><summary>{total:,} runs behind it</summary>{''.join(parts)}</details>"


def _problems(report: Report) -> str:
    problems = report.runs.problems.collect()
    if problems.is_empty():
        return (
            "<section id='problems'><h2>What was not read</h2><p>Everything was read.</p></section>"
        )
    counts = ", ".join(
        f"{count:,} {severity}"
        for severity, count in problems.group_by("severity").len().sort("severity").rows()
    )
    rows = "".join(
        f"<tr><td>{escape(row['severity'])}</td><td>{escape(row['source'])}</td>"
        f"<td>{escape(row['position'] or '')}</td><td>{escape(row['reason'])}</td></tr>"
        for row in problems.sort("severity", maintain_order=True).head(200).iter_rows(named=True)
    )
    return (
        f"<section id='problems'><h2>What was not read</h2><p class='lead'>{escape(counts)}.</p>"
        f"<details><summary>Files and reasons</summary><div class='scroll'><table><thead><tr><th>severity"
        f"</th><th>source</th><th>position</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table>"
        f"</div></details></section>"
    )


def _short(value: Any) -> str:
    """A cell of the index: the end of a path tells more than its beginning."""
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST_CELL else f"…{text[1 - _LONGEST_CELL :]}"


def _index(report: Report) -> str:
    columns = ["trajectory_id", "task_id", "trial", "arm", "model", "outcome", "steps", "source", "source_pos"]  # fmt: skip
    runs = report.runs.trajectories.select(columns).collect()
    rows = "".join(
        f'<tr id="run-{escape(row["trajectory_id"], quote=True)}">'
        + "".join(f"<td>{escape(_short(row[name]))}</td>" for name in columns)
        + "</tr>"
        for row in runs.head(_RUNS_IN_THE_INDEX).iter_rows(named=True)
    )
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    more = runs.height - _RUNS_IN_THE_INDEX
    rest = f"<p>{more:,} more are in <code>runs.trajectories</code>.</p>" if more > 0 else ""
    return (
        f"<section id='runs' class='screen'><h2>All runs</h2><p class='method'>Open one in Python: "
        f"<code>runs['id'].events.collect()</code>; the raw record of an event: "
        f"<code>runs.raw('id', seq)</code>.</p><div class='scroll'><table class='index'><thead><tr>{head}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>{rest}</section>"
    )
