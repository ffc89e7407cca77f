"""The command line: ``derail report``, ``load``, ``convert``, ``formats``, ``lab``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

import loaders
from analysis import report as reports
from analysis.tables import as_text
from loaders import DerailError

app = cyclopts.App(
    name="derail",
    help="Find where an agent's performance breaks down, and because of what.",
    help_format="plaintext",
)


def main() -> None:
    """Run the command line; an error that the user can mend is told in a sentence."""
    os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "2")  # twenty would be hundreds of MB
    try:
        app()
    except DerailError as error:
        Console(stderr=True).print(Text(_printable(f"derail: {error}"), style="red"))
        sys.exit(1)


@app.command
def report(
    *paths: str,
    html: Annotated[Path | None, Parameter(name="--html")] = None,
    by: str | None = None,
    pair: tuple[str, ...] = (),
    baseline: str | None = None,
    format: str | None = None,
) -> None:
    """Read logs, or a store, and answer: where does performance break down?

    Parameters
    ----------
    paths
        Files, folders, globs, or templates such as 'runs/{arm}/*.json'; or one store.
    html
        Also write a self-contained HTML file, in which each number opens its runs.
    by
        Column that holds the arms; found by itself where it can be.
    pair
        Columns that name the same task and trial in each arm; by default task_id, trial and whatever is
        crossed with the arms.
    baseline
        The arm with which others are compared.
    format
        Name of the format, where detection by content is not wanted.
    """
    console = Console(highlight=False)
    runs = _runs(paths, format)
    made = reports.make(runs, by=by, pair=pair or None, baseline=baseline)
    _print_report(console, made)
    if html is not None:
        from analysis import report_html

        html.write_text(report_html.render(made), encoding="utf-8")
        console.print(Text(f"\nWritten: {html} (open it in any browser; it needs no network)"))


@app.command
def load(*paths: str, format: str | None = None, problems: int = 50) -> None:
    """Read logs, or a store, and show what they hold, and what could not be read.

    Parameters
    ----------
    paths
        Files, folders, globs, or templates; or one store.
    format
        Name of the format, where detection by content is not wanted.
    problems
        How many problems to list.
    """
    console = Console(highlight=False)
    runs = _runs(paths, format)
    console.print(Text(_printable(repr(runs))))
    rows = runs.problems.collect()
    if rows.height:
        table = _table(["severity", "source", "position", "reason"], [False] * 4)
        for row in rows.head(problems).iter_rows(named=True):
            cells = (row["severity"], row["source"], row["position"] or "", row["reason"])
            table.add_row(*(Text(_printable(cell)) for cell in cells))
        console.print(table)
        if rows.height > problems:
            console.print(Text(f"and {rows.height - problems} more; --problems shows more"))


@app.command
def convert(*paths: str, format: str | None = None, resume: bool = True) -> None:
    """Read logs of any size into a store, of which 'derail report STORE' takes only what it needs.

    Call it again for new or changed logs, or after it was stopped: what is done is not done again.

    Parameters
    ----------
    paths
        Files, folders, globs, or templates with logs; then the folder of the store.
    format
        Name of the format, where detection by content is not wanted.
    resume
        Whether to keep what the store has already; --no-resume reads everything anew.
    """
    if len(paths) < 2:
        raise DerailError("name logs and a store, for example: derail convert logs/ store/")
    *src, store = paths
    runs = loaders.convert(src, store, resume=resume, format=format)
    console = Console(highlight=False)
    console.print(Text(_printable(repr(runs))))
    console.print(Text(_printable(f"\nWritten: {store} (derail report {store})"), style="dim"))


@app.command
def formats() -> None:
    """List the log formats that can be read, and what their logs can hold."""
    frame = loaders.available()
    table = _table(frame.columns, [False] * len(frame.columns))
    table.columns[0].no_wrap = True  # it is what the user types
    for row in frame.iter_rows():
        table.add_row(
            *(("yes" if cell else "–") if isinstance(cell, bool) else str(cell) for cell in row)
        )
    Console(highlight=False).print(table)


@app.command
def lab() -> None:
    """Open the notebooks in JupyterLab."""
    from jupyterlab.labapp import LabApp  # pyright: ignore[reportMissingTypeStubs]

    folder = Path(__file__).parent.parent / "notebooks"
    start: Any = LabApp
    start.launch_instance(argv=[str(folder) if folder.is_dir() else "."])


def _runs(paths: tuple[str, ...], format: str | None) -> loaders.Trajectories:
    """The runs of a store, or of logs."""
    given = _given(paths)
    if len(given) == 1 and (Path(given[0]) / "derail.json").is_file():
        return loaders.scan(given[0])
    return loaders.load(given, format=format)


def _given(paths: tuple[str, ...]) -> list[str]:
    if not paths:
        raise DerailError("name files or folders with logs, for example: derail report sample_logs")
    return list(paths)


def _print_report(console: Console, made: reports.Report) -> None:
    console.print(Text("\n" + _printable(made.answer), style="bold"))
    for sentence in made.support:
        console.print(Text(f"  · {_printable(sentence)}"))
    for note in made.notes:
        console.print(Text(_printable(note), style="dim"))
    console.print(Text(_printable(f"\n{made.runs!r}")))
    for section in made.sections:
        console.print(Text(f"\n{section.question}", style="bold"))
        console.print(Text(_printable(section.answer)))
        text = as_text(section.result)
        table = _table(text.header, text.is_number)
        shown = 12
        for row in text.rows[:shown]:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        console.print(table)
        if len(text.rows) > shown:
            console.print(Text(f"and {len(text.rows) - shown} more rows", style="dim"))
        for warning in section.result.warnings:
            console.print(Text(f"! {_printable(warning)}", style="yellow"))
    for question, reason in made.left_out:
        console.print(Text(f"\nNot answered: {question} {_printable(reason)}", style="dim"))
    keys = ", ".join(f'report["{section.name}"]' for section in made.sections[:2])
    console.print(
        Text(
            "\nThe runs behind a number: --html FILE, or in Python: from analysis import report; "
            f"report = report.make(runs); {keys} ... .runs(...)",
            style="dim",
        )
    )


def _table(header: list[str], is_number: list[bool]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, number in zip(header, is_number, strict=True):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _printable(text: str) -> str:
    """Text of a log without control characters, so that it can't steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


if __name__ == "__main__":
    main()
