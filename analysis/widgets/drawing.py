"""A result as a figure of a given width, labels included, and as files."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from analysis import plots
from analysis.results import Result

THEMES: Final = {"light": "light", "grey": "light, seen in grey"}
PIXELS_PER_INCH: Final = 96
_SMALLEST: Final = 90
_SCALE: Final = 2


def fitted(result: Result, inches: float, theme: str) -> tuple[Any, bytes]:
    """The chart whose drawing, labels and legend included, is so wide, and a PNG of it.

    A PNG, because a browser would set the texts of an SVG in fonts of its own. ``theme`` is one of
    ``THEMES``. Raises ``DerailError`` where there is nothing to draw.
    """
    wanted = round(inches * PIXELS_PER_INCH)
    width = max(_SMALLEST, wanted - 150)
    chart, png, drawn = _drawn(result, width)
    for _ in range(2):  # what stands beside the axes is known only once it is drawn
        narrower = max(_SMALLEST, width - (drawn - wanted))
        if narrower == width:
            break
        width = narrower
        chart, png, drawn = _drawn(result, width)
    return chart, png


def _drawn(result: Result, width: int) -> tuple[Any, bytes, int]:
    chart = plots.chart(result, width=width)
    png = plots.to_png(chart, scale=_SCALE)
    return chart, png, pixels_wide(png) // _SCALE


def pixels_wide(png: bytes) -> int:
    """The width that a PNG states in its header."""
    return int.from_bytes(png[16:20])


def export(chart: Any, result: Result, stem: Path, formats: list[str]) -> list[Path]:
    """Write the figure, its data as CSV and its provenance as JSON; returns the paths."""
    import vl_convert

    stem.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        if kind == "svg":
            path.write_text(plots.to_svg(chart), "utf-8")
        elif kind == "png":
            path.write_bytes(plots.to_png(chart))
        else:
            path.write_bytes(vl_convert.vegalite_to_pdf(chart.to_dict(format="vega-lite"), vl_version="6.4"))  # fmt: skip
        written.append(path)
    data = stem.with_name(f"{stem.name}.csv")
    flat = result.frame.select(
        pl.col(name).list.join("; ") if dtype == pl.List(pl.String) else pl.col(name)
        for name, dtype in result.frame.schema.items()
    )
    flat.write_csv(data)
    origin = stem.with_name(f"{stem.name}.json")
    hashes = result.source.trajectories.select("source_hash").unique().sort("source_hash").collect()
    origin.write_text(
        json.dumps(
            {
                "kind": result.kind,
                "title": result.title,
                "method": result.method,
                "warnings": result.warnings,
                "versions": {
                    name: importlib.metadata.version(name)
                    for name in ("derail", "polars", "altair")
                },
                "sources": hashes["source_hash"].to_list(),
            },
            indent=2,
        )
        + "\n"
    )
    return [*written, data, origin]
