"""How a result shows itself in a notebook: the sentence, the chart, the head of the table."""

from __future__ import annotations

from html import escape

from analysis import plots
from analysis.results import Result
from analysis.tables import TextTable, as_text
from loaders.errors import DerailError

_HEAD, _MOST, _LONGEST = 8, 200, 200
_LARGEST_CHART = 400_000


def of_result(result: Result) -> str:
    """HTML of a result: headline, chart, first rows with "show all", method, and how to open its runs.

    No script, all text of logs escaped; colours follow JupyterLab's theme. A result that can't be
    drawn, or whose drawing would be heavy, has no chart.
    """
    keys = ", ".join(f"{key}=..." for key in result.keys)
    warnings = "".join(f"<li>{escape(text)}</li>" for text in result.warnings)
    headline = f"<p class='h'>{escape(_cut(result.headline, 1_000))}</p>" if result.headline else ""
    return (
        f"{_STYLE}<div class='derail-result'><p class='t'>{escape(_cut(result.title, 300))}</p>"
        f"{headline}{_chart(result)}{_table(as_text(result))}"
        f"{f'<ul>{warnings}</ul>' if warnings else ''}"
        f"<p class='m'>{escape(result.method)} Runs behind a row: <code>.runs({escape(keys)})</code>;"
        f" all columns: <code>.frame</code></p></div>"
    )


def _chart(result: Result) -> str:
    try:
        chart = plots.chart(result, width=420)
    except DerailError:
        return ""
    svg = plots.to_svg(chart, theme="jupyter")
    if len(svg) > _LARGEST_CHART:
        return "<p class='m'>Its chart: <code>.chart()</code></p>"
    told = escape(str(chart.description), quote=True)
    return f"<div role='img' aria-label='{told}'>{svg}</div>"


def _table(table: TextTable) -> str:
    if not table.rows:
        return "<p class='m'>No rows.</p>"
    rows = table.rows[:_MOST]
    more = len(table.rows) - len(rows)
    head = _rows(table, rows[:_HEAD])
    if len(rows) <= _HEAD:
        return f"<div class='s'>{head}</div>"
    note = f"<p class='m'>{more:,} more are in <code>.frame</code>.</p>" if more else ""
    return (
        f"<div class='s'>{head}</div><details><summary>show all {len(table.rows):,} rows</summary>"
        f"<div class='s'>{_rows(table, rows)}</div>{note}</details>"
    )


def _rows(table: TextTable, rows: list[list[str]]) -> str:
    css = ["n" if is_number else "w" for is_number in table.is_number]
    head = "".join(
        f"<th class={c}>{escape(name)}</th>" for name, c in zip(table.header, css, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class={c}>{escape(_cut(cell, _LONGEST))}</td>"
            for cell, c in zip(cells, css, strict=True)
        )
        + "</tr>"
        for cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cut(text: str, longest: int) -> str:
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(c if c.isprintable() else "\ufffd" for c in shown)


_STYLE = (
    "<style>.derail-result{font:13px/1.45 system-ui,sans-serif;max-width:860px;padding:4px 0;"
    "color:var(--jp-ui-font-color1,inherit)}.derail-result p{margin:0 0 6px}"
    ".derail-result .t{opacity:.72}.derail-result .h{font-size:16px;font-weight:600;line-height:1.35;"
    "overflow-wrap:anywhere}.derail-result svg{max-width:100%;height:auto;display:block;margin:4px 0 8px;"
    "overflow:visible}.derail-result .s{overflow-x:auto}.derail-result table{font:inherit;"
    "font-size:12.5px;border-collapse:collapse;margin:2px 0 6px;border:0}.derail-result th,.derail-result td{"
    "padding:3px 14px 3px 0!important;border:0;border-bottom:1px solid #8883;background:none!important;"
    "text-align:left!important;vertical-align:top;overflow-wrap:break-word;max-width:30em}"
    ".derail-result tr{background:none!important}.derail-result th{font-weight:500;opacity:.72}"
    ".derail-result .n{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".derail-result summary{cursor:pointer;opacity:.85}.derail-result .m{font-size:12px;opacity:.72}"
    ".derail-result ul{margin:4px 0 8px;padding:8px 12px 8px 28px;background:#d9930d1c;border-radius:6px}"
    "</style>"
)
