"""The report as one HTML file: no script, no network, every row opens the runs behind it."""

from __future__ import annotations

import importlib
from html import escape
from typing import Any, Final

from analysis.report import Report, Section
from analysis.results import Result
from analysis.tables import as_text
from loaders.errors import DerailError

_RUNS_IN_A_LIST: Final = 60
_RUNS_IN_THE_INDEX: Final = 3_000
_ROWS_IN_A_TABLE: Final = 40


def render(report: Report, title: str = "Where does performance break down?") -> str:
    """The whole report as HTML text; all text from logs is escaped.

    >>> import loaders
    >>> from analysis import report
    >>> page = render(report.make(loaders.load("sample_logs/study")))
    >>> page.startswith("<!doctype html>") and "<script" not in page
    True
    """
    known = set(report.runs.ids[:_RUNS_IN_THE_INDEX])
    sections = "".join(_section(section, known) for section in report.sections)
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    left_out = "".join(
        f"<li><b>{escape(question)}</b> {escape(reason)}</li>"
        for question, reason in report.left_out
    )
    support = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.support)
    contents = "".join(
        f'<a href="#{section.name}">{escape(section.question)}</a>' for section in report.sections
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><p class='brand'>Derail report</p><h1>{escape(title)}</h1>"
        f"<div class='answer'><p>{escape(report.answer)}</p>"
        f"{f'<ul>{support}</ul>' if support else ''}</div>"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</header>"
        f"{_card(report)}<nav>{contents}</nav>{sections}"
        f"{f'<section><h2>Not answered</h2><ul>{left_out}</ul></section>' if left_out else ''}"
        f"{_problems(report)}{_index(report)}</main></body></html>"
    )


def _card(report: Report) -> str:
    html: Any = report.runs
    return f"<section class='card'>{html._repr_html_()}</section>"


def _section(section: Section, known: set[str]) -> str:
    result = section.result
    warnings = "".join(f"<li>{escape(text)}</li>" for text in result.warnings)
    return (
        f'<section id="{section.name}"><h2>{escape(section.question)}</h2>'
        f"<p class='lead'>{escape(section.answer)}</p>{_chart(result)}{_table(result, known)}"
        f"{f'<ul class=warnings>{warnings}</ul>' if warnings else ''}"
        f"<p class='method'>{escape(result.method)}</p></section>"
    )


def _chart(result: Result) -> str:
    plots: Any = importlib.import_module("analysis.plots")
    try:
        svg: str = plots.to_svg(result.chart(width=560))
    except DerailError:
        return ""
    return f"<figure role='img' aria-label='{escape(result.title, quote=True)}'>{svg}</figure>"


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
            f"<td class={css}>{escape(cell)}</td>" for cell, css in zip(cells, classes, strict=True)
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


def _index(report: Report) -> str:
    columns = [
        "trajectory_id",
        "task_id",
        "trial",
        "arm",
        "model",
        "outcome",
        "steps",
        "source",
        "source_pos",
    ]
    runs = report.runs.trajectories.select(columns).collect()
    rows = "".join(
        f'<tr id="run-{escape(row["trajectory_id"], quote=True)}">'
        + "".join(
            f"<td>{escape('' if row[name] is None else str(row[name]))}</td>" for name in columns
        )
        + "</tr>"
        for row in runs.head(_RUNS_IN_THE_INDEX).iter_rows(named=True)
    )
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    more = runs.height - _RUNS_IN_THE_INDEX
    rest = f"<p>{more:,} more are in <code>runs.trajectories</code>.</p>" if more > 0 else ""
    return (
        f"<section id='runs'><h2>All runs</h2><p class='method'>Open one in Python: "
        f"<code>runs['id'].events.collect()</code>; the raw record of an event: "
        f"<code>runs.raw('id', seq)</code>.</p><div class='scroll'><table class='index'><thead><tr>{head}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>{rest}</section>"
    )


_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fbfbfa;--paper:#fff;--ink:#1c2026;--soft:#5c6470;--line:#e3e5e8;
--accent:#0072b2;--warn:#9a4a00;--mark:#fff6e5}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--paper:#1b1e24;--ink:#e8eaed;--soft:#9aa3af;
--line:#2d323a;--accent:#5db3e6;--warn:#f0a860;--mark:#2c2517}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,'Segoe UI',Helvetica,Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 80px}
.brand{margin:0;color:var(--accent);font-weight:600;letter-spacing:.02em}
h1{font-size:30px;line-height:1.2;margin:4px 0 14px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 6px;letter-spacing:-.005em}
.answer{margin:0 0 16px;padding:16px 20px;background:var(--paper);
border-left:4px solid var(--accent);border-radius:0 8px 8px 0;overflow-wrap:anywhere}
.answer p{font-size:19px;line-height:1.45;margin:0}.answer ul{margin:10px 0 0;padding-left:20px}
.notes{color:var(--soft);margin:0 0 8px;padding-left:20px}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:22px 24px;margin:18px 0}
section.card{padding:6px 10px}.card .derail-card{border:0!important;max-width:none!important}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;margin:18px 2px}nav a{color:var(--accent);text-decoration:none}
nav a:hover,nav a:focus{text-decoration:underline}
.lead{margin:0 0 12px;overflow-wrap:anywhere}figure{margin:8px 0 14px;padding:0 4px}
figure svg{max-width:100%;height:auto;overflow:visible}
figure svg text{fill:var(--ink)}figure svg .role-axis-grid line{stroke:var(--line)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px}
th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);vertical-align:bottom}
th,td{padding:5px 10px 5px 0;text-align:left}td{border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details summary{white-space:nowrap;cursor:pointer;color:var(--accent);font-size:12.5px}details p{margin:6px 0;max-width:46em;font-size:12.5px}
details a{color:var(--accent);text-decoration:none;font-family:ui-monospace,Menlo,Consolas,monospace}
.warnings{margin:12px 0 0;padding:10px 14px 10px 30px;background:var(--mark);border-radius:6px;color:var(--warn)}
.method{color:var(--soft);font-size:13px;margin:10px 0 0}code{font-family:ui-monospace,Menlo,Consolas,monospace}
.index td{font-size:12.5px;overflow-wrap:anywhere}tr:target td{background:var(--mark)}
@media print{body{background:#fff}section{break-inside:avoid;border-color:#ccc}nav{display:none}}
@media(max-width:700px){main{padding:20px 12px}h1{font-size:24px}.answer p{font-size:17px}section{padding:16px}}
"""
