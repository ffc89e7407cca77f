"""A figure for a paper: the drawing at column width, its data, and where both come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import polars as pl

from analysis.plots.registry import caption_of, chart, counts_of
from analysis.plots.render import PIXELS_PER_INCH, size_of, to_pdf, to_png, to_svg
from analysis.plots.theme import PAPER, THEMES
from analysis.results import Result
from loaders.errors import DerailError

COLUMNS: Final = {"single": 3.25, "double": 6.75}
"""Widths of figures in papers of two columns, in inches."""

_DOTS_PER_INCH: Final = 300
_FORMATS: Final = ("pdf", "svg", "png")
_PACKAGES: Final = ("derail", "polars", "altair", "vl-convert-python", "numpy", "scipy")
_MOST_SOURCES: Final = 10_000

Width = Literal["single", "double"] | float


@dataclass(frozen=True)
class Exported:
    """The files of an exported figure and its size: ``files``, ``width`` and ``height`` in inches."""

    files: list[Path]
    width: float
    height: float
    caption: str

    def __repr__(self) -> str:
        names = ", ".join(path.name for path in self.files)
        return f"{names} in {self.files[0].parent}: {self.width:.2f} x {self.height:.2f} in"


def export(
    figure: Any,
    name: str | Path,
    formats: Sequence[str] = _FORMATS,
    width: Width = "single",
    *,
    theme: str = "light",
    caption: bool = False,
    **options: Any,
) -> Exported:
    """Write a figure, its data as CSV, and its provenance as JSON, all under one name.

    ``figure``: a result, drawn so that the whole figure with its labels is as wide as asked; or an
    Altair chart, whose own width is kept. ``name``: a path without an ending, such as
    ``"figures/fig3"``; files there are replaced. ``formats``: some of pdf, svg, png (300 dots per inch).
    ``width``: ``single`` (3.25 in), ``double`` (6.75 in), or inches. ``caption``: write the counts of
    tasks and runs into the figure too; the whole caption stands in the JSON. More options are those
    of ``chart``.

    The CSV holds the frame of a result, or the rows that a chart draws. A text that a spreadsheet would
    take for a formula gets an apostrophe in front, because logs may hold such texts. The JSON holds the
    caption, the call that made the result, hashes of the data and of the logs that were read,
    versions, and size.

    Raises ``DerailError`` for an unknown format, and where the figure can't be drawn so narrow.

    >>> import loaders, tempfile
    >>> from analysis import outcomes
    >>> rates = outcomes.success(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), by="format")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(rates, f"{folder}/fig1", formats=["svg"]).files[-1].name
    'fig1.json'
    """
    if unknown := [form for form in formats if form not in _FORMATS]:
        raise DerailError(f"no format {unknown[0]!r}; there are {', '.join(_FORMATS)}")
    result = figure if isinstance(figure, Result) else None
    if result is not None:
        drawn = _fitted(result, _inches(width), theme=theme, caption=caption, **options)
        drawn.background = THEMES[theme].get(PAPER, PAPER)  # pale words on no ground can't be read
    else:
        drawn = figure
    across, down = size_of(drawn)
    base = Path(name)
    base.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def write(ending: str, content: bytes) -> None:
        path = base.with_name(f"{base.name}.{ending}")
        path.write_bytes(content)
        written.append(path)

    for form in formats:
        if form == "pdf":
            write(form, to_pdf(drawn))
        elif form == "svg":
            write(form, to_svg(drawn).encode())
        else:
            write(form, to_png(drawn, scale=_DOTS_PER_INCH / PIXELS_PER_INCH))
    table = result.frame if result is not None else _rows_of(drawn)
    data = _flat(table).write_csv().encode()
    write("csv", data)
    size = across / PIXELS_PER_INCH, down / PIXELS_PER_INCH
    about = _provenance(figure, drawn, data, size, options)
    write("json", json.dumps(about, indent=1, ensure_ascii=False).encode())
    return Exported(written, *size, about["caption"])


def _inches(width: Width) -> float:
    inches = COLUMNS.get(width) if isinstance(width, str) else float(width)
    if inches is None:
        raise DerailError(f"no width {width!r}; there are single, double, or inches as a number")
    if not 1 <= inches <= 40:
        raise DerailError(f"{inches} inches are no width of a figure")
    return inches


def _fitted(result: Result, inches: float, **options: Any) -> Any:
    """The chart drawn so that it is as wide as asked with all its labels, within a pixel or two."""
    wanted = round(inches * PIXELS_PER_INCH)
    inner = wanted - 90
    drawn = chart(result, width=inner, **options)
    for attempt in range(14):
        excess = math.ceil(size_of(drawn)[0]) - wanted
        if -3 <= excess <= 0 or (attempt > 3 and excess <= 0):
            break
        inner -= excess if attempt <= 3 else 10  # legends break lines in leaps: then creep
        if inner < 60:
            raise DerailError(
                f"the labels of {result.title!r} leave no room in {inches:.2f} in; "
                "ask for width='double', or shorten the names"
            )
        drawn = chart(result, width=inner, **options)
    return drawn


def _rows_of(drawn: Any) -> pl.DataFrame:
    """The rows that an Altair chart draws; of several data sets, the one with most rows."""
    spec: dict[str, Any] = drawn.to_dict(format="vega-lite")
    sets = cast(dict[str, list[dict[str, Any]]], spec.get("datasets", {}))
    if not sets:
        raise DerailError("this chart holds no data of its own, so they can't be exported with it")
    return pl.DataFrame(max(sets.values(), key=len), infer_schema_length=None)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame that CSV can hold: lists joined by semicolons, structs as JSON, no formulas."""
    flat: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.List):
            column = column.cast(pl.List(pl.String)).list.join("; ")
        elif isinstance(dtype, pl.Struct):
            column = column.struct.json_encode()
        elif dtype != pl.String:
            flat.append(column)
            continue
        risky = column.str.contains(r"^[=+\-@\t\r]")
        flat.append(pl.when(risky).then("'" + column).otherwise(column).alias(name))
    return frame.select(flat)


def _provenance(
    figure: Any,
    drawn: Any,
    data: bytes,
    size: tuple[float, float],
    options: dict[str, Any],
) -> dict[str, Any]:
    spec: dict[str, Any] = drawn.to_dict(format="vega-lite")
    told = cast(dict[str, Any], spec.get("usermeta", {})).get("derail", {})
    about: dict[str, Any] = {
        "caption": told.get("caption", spec.get("description", "")),
        "alt_text": spec.get("description", ""),
        "kind": told.get("kind"),
        "figure": told.get("figure"),
        "call": told.get("call"),
        "options": {name: repr(value) for name, value in options.items()},
        "size_in": [round(length, 3) for length in size],
        "data": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "versions": {"python": platform.python_version(), **_versions()},
    }
    if isinstance(figure, Result):
        name = options.get("figure")
        about |= {
            "caption": caption_of(figure, name),
            "counts": counts_of(figure, name),
            "method": figure.method,
            "warnings": list(figure.warnings),
            "sources": _sources(figure),
        }
    return about


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sources(result: Result) -> dict[str, Any]:
    """The logs behind a result: one hash over all of them, and each, up to ten thousand."""
    behind = result.members.lazy().select("trajectory_id").unique()
    logs = (
        result.source.trajectories.join(behind, on="trajectory_id", how="semi")
        .select("source", "source_hash")
        .unique()
        .sort("source", "source_hash")
        .collect()
    )
    whole = hashlib.sha256(logs.write_csv().encode()).hexdigest()
    shown = logs.head(_MOST_SOURCES)
    return {
        "count": logs.height,
        "sha256": whole,
        "hashes": [{"source": source, "hash": found} for source, found in shown.iter_rows()],
    }
