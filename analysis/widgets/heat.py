"""Condition by tool: the numbers in the cells of the Explorer's heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from analysis.widgets.overview import EVERYTHING, Overview, levels, of_level
from analysis.widgets.strips import shown

MEASURES: Final = {
    "failed": "runs that fail",
    "calls": "calls per run",
    "perturbed": "perturbed responses",
    "runs": "number of runs",
}
ANY_TOOL: Final = "all runs"
HEAD: Final = 8
FEW: Final = 10


@dataclass(frozen=True)
class Heat:
    """Cells by row and column, and what each row and column stands for."""

    conditions: list[tuple[Any, str]]
    tools: list[str | None]
    cells: list[list[dict[str, Any] | None]]
    hidden: int

    @property
    def columns(self) -> list[str]:
        """What the columns are called; the first counts every run."""
        return [ANY_TOOL if tool is None else shown(tool) for tool in self.tools]


def heat(
    about: Overview, table: pl.DataFrame, column: str | None, measure: str, every_tool: bool = False
) -> Heat:
    """The heatmap of these runs (rows of ``about.table``); tools that are called most come first."""
    rows = levels(table, column)
    condition = pl.lit(EVERYTHING) if column is None else pl.col(column)
    table = table.select("run", "success", condition.alias("condition"))
    use = about.tools.join(table, on="run")
    ranked: list[str | None] = (
        use.group_by("tool")
        .agg(pl.col("calls").sum())
        .sort("calls", "tool", descending=[True, False])["tool"]
        .to_list()
    )
    kept = ranked if every_tool else ranked[:HEAD]
    every_run = use.group_by("run").agg(pl.col("calls").sum()).join(table, on="run", how="right")
    of_all, of_tool = _numbers(every_run, "condition"), _numbers(use, "condition", "tool")
    broken = about.codes.join(table, on="run") if measure == "perturbed" else None
    broken_of_all = _counts(broken, "condition")
    broken_of_tool = _counts(broken, "condition", "tool")
    cells: list[list[dict[str, Any] | None]] = []
    for value, _ in rows:
        key = EVERYTHING if column is None else value
        numbers = [of_all.get((key,), {}), *(of_tool.get((key, tool), {}) for tool in kept)]
        broke = [
            broken_of_all.get((key,), 0),
            *(broken_of_tool.get((key, tool), 0) for tool in kept),
        ]
        cells.append([_cell(n, b, measure) for n, b in zip(numbers, broke, strict=True)])
    _scale(cells, measure)
    return Heat(rows, [None, *kept], cells, len(ranked) - len(kept))


def picked(about: Overview, table: pl.DataFrame, column: str | None, cell: Heat, at: tuple[int, int]) -> pl.DataFrame:  # fmt: skip
    """The runs behind a cell."""
    value, tool = cell.conditions[at[0]][0], cell.tools[at[1]]
    chosen = table.filter(of_level(column, value))
    if tool is not None:
        chosen = chosen.join(about.tools.filter(pl.col("tool") == tool), on="run", how="semi", maintain_order="left")  # fmt: skip
    return chosen


def _numbers(use: pl.DataFrame, *by: str) -> dict[tuple[Any, ...], dict[str, int]]:
    counted = use.group_by(by).agg(
        pl.len().alias("runs"),
        pl.col("success").is_not_null().sum().alias("judged"),
        (~pl.col("success")).sum().alias("failed"),
        pl.col("calls").sum().alias("calls"),
    )
    names = ("runs", "judged", "failed", "calls")
    return {
        row[: len(by)]: dict(zip(names, row[len(by) :], strict=True)) for row in counted.iter_rows()
    }


def _counts(broken: pl.DataFrame | None, *by: str) -> dict[tuple[Any, ...], int]:
    return (
        {}
        if broken is None
        else {row[:-1]: row[-1] for row in broken.group_by(by).len().iter_rows()}
    )


def _cell(n: dict[str, int], broken: int, measure: str) -> dict[str, Any] | None:
    if not n or not n["runs"]:
        return None
    behind = f"{n['runs']:,} runs, {n['calls']:,} calls"
    if measure == "failed":
        if not n["judged"]:
            return {"share": 0.0, "text": "?", "tip": f"no known outcome\n{behind}"}
        share = n["failed"] / n["judged"]
        text = f"{100 * share:.0f} %" if n["judged"] >= FEW else f"{n['failed']} of {n['judged']}"
        return {"share": share, "text": text, "tip": f"{n['failed']:,} of {n['judged']:,} runs with a known outcome fail\n{behind}"}  # fmt: skip
    if measure == "perturbed":
        if not n["calls"]:
            return None
        share = broken / n["calls"]
        return {"share": share, "text": f"{100 * share:.1f} %", "tip": f"{broken:,} of {n['calls']:,} responses perturbed\n{behind}"}  # fmt: skip
    if measure == "calls":
        each = n["calls"] / n["runs"]
        return {"share": each, "text": f"{each:.1f}", "tip": behind}
    return {"share": float(n["runs"]), "text": f"{n['runs']:,}", "tip": behind}


def _scale(cells: list[list[dict[str, Any] | None]], measure: str) -> None:
    """Colours run from 0 to the largest cell, except for a share of failures, which runs to 1."""
    if measure == "failed":
        return
    # The column of all runs is no tool: it would drown the others.
    largest = max((cell["share"] for line in cells for cell in line[1:] if cell), default=0)
    for line in cells:
        for cell in filter(None, line):
            cell["share"] = min(1.0, cell["share"] / largest) if largest else 0.0
