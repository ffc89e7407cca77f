r"""Results as tables for papers: LaTeX with booktabs and aligned decimals, and Markdown."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from analysis.results import Result
from analysis.tables import TextTable, as_text

_LONGEST: Final = 200
_LONGEST_CAPTION: Final = 2_000

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "▶": r"$\triangleright$",
    "■": r"$\blacksquare$",
    "[": "{[}",
    "]": "{]}",
}
_PLAIN_NUMBER: Final = re.compile(r"^[+-]?[\d,]*\.?\d+$")
_UNIT: Final = " %"


def to_latex(result: Result, rows: int | None = None, caption: str | None = None) -> str:
    r"""A result as a LaTeX ``table``: booktabs rules, numbers aligned at the decimal point (siunitx).

    ``rows``: the first so many; a comment says how many were left out. ``caption``: by default the
    title, the method and the counts of tasks and runs. Texts of logs are escaped character by
    character; one that LaTeX has no sign for is written as its code point, such as ``U+4E2D``.

    Needs ``\usepackage{booktabs,siunitx}`` and, for quotes, ``\usepackage[T1]{fontenc}`` and
    ``\usepackage{textcomp}``.

    >>> escaped_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    table = _without_units(as_text(result))
    shown = table.rows if rows is None else table.rows[:rows]
    numbers = [
        table.is_number[at]
        and all(_is_number(cells[at]) for cells in shown)
        and any(cells[at] != "–" for cells in shown)
        for at in range(len(table.header))
    ]
    columns = "".join(
        _s_column([cells[at] for cells in shown]) if number else "r" if right else "l"
        for at, (number, right) in enumerate(zip(numbers, table.is_number, strict=True))
    )
    head = " & ".join(f"{{{escaped_latex(name)}}}" for name in table.header)
    lines = [
        " & ".join(
            _latex_cell(cell, is_number=number) for cell, number in zip(cells, numbers, strict=True)
        )
        + r" \\"
        for cells in shown
    ]
    left_out = len(table.rows) - len(shown)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped_latex(_caption(result) if caption is None else caption, _LONGEST_CAPTION)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *([f"% {left_out} more rows are not shown"] if left_out else []),
            r"\end{table}",
            "",
        ]
    )


def to_markdown(result: Result, rows: int | None = None) -> str:
    """A result as a Markdown table (GitHub's), numbers to the right; texts of logs show as they are.

    ``rows``: the first so many; a line says how many were left out.
    """
    table = as_text(result)
    shown = table.rows if rows is None else table.rows[:rows]
    lines = [
        _markdown_line([escaped_markdown(name) for name in table.header]),
        _markdown_line(["--:" if right else "---" for right in table.is_number]),
        *(_markdown_line([escaped_markdown(cell) for cell in cells]) for cells in shown),
    ]
    left_out = len(table.rows) - len(shown)
    if left_out:
        lines += ["", f"{left_out:,} more rows are not shown."]
    return "\n".join([*lines, "", escaped_markdown(_caption(result), _LONGEST_CAPTION), ""])


def escaped_latex(text: str, longest: int = _LONGEST) -> str:
    """Text that LaTeX prints as it is and never runs."""
    return "".join(_latex_sign(sign) for sign in _cut(text, longest))


def escaped_markdown(text: str, longest: int = _LONGEST) -> str:
    """Text that Markdown shows as it is: no links, no images, no HTML, no cells of its own."""
    shown = "".join(
        " " if unicodedata.category(sign) in ("Cc", "Cf") else sign for sign in _cut(text, longest)
    )
    shown = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", shown).replace("&", "&amp;")
    return shown.replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#8203;//")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _latex_sign(sign: str) -> str:
    if sign in _LATEX:
        return _LATEX[sign]
    if sign.isspace():
        return " "
    if " " < sign <= "~" or (sign.isalpha() and sign < "\u0180"):
        return sign
    return f"U+{ord(sign):04X}"


def _caption(result: Result) -> str:
    counted = result.counts()
    counts = " and ".join(f"{count:,} {unit}" for unit, count in counted.items() if count)
    return f"{result.title.rstrip('.')}. {result.method} {counts}."


def _without_units(table: TextTable) -> TextTable:
    """Percent signs go from the cells of a column into its head, so that its numbers align."""
    header = list(table.header)
    rows = [list(cells) for cells in table.rows]
    for at, name in enumerate(header):
        column = [cells[at] for cells in rows if cells[at] != "–"]
        if table.is_number[at] and column and all(cell.endswith(_UNIT) for cell in column):
            header[at] = f"{name} (%)"
            for cells in rows:
                cells[at] = cells[at].removesuffix(_UNIT)
    return TextTable(header, rows, table.keys, table.is_number)


def _is_number(cell: str) -> bool:
    return cell == "–" or _PLAIN_NUMBER.match(cell) is not None


def _s_column(cells: list[str]) -> str:
    """A siunitx column with room for the longest number on either side of the point."""
    numbers = [cell.replace(",", "") for cell in cells if cell != "–"]
    sign = "+" if any(number[0] == "+" for number in numbers) else "-"
    sign = sign if any(number[0] in "+-" for number in numbers) else ""
    parts = [number.lstrip("+-").partition(".") for number in numbers]
    whole = max(1, *(len(part[0]) for part in parts))
    return f"S[table-format={sign}{whole}.{max(len(part[2]) for part in parts)}]"


def _latex_cell(cell: str, *, is_number: bool) -> str:
    if not is_number:
        return escaped_latex(cell)
    return "{--}" if cell == "–" else cell.replace(",", "")


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
