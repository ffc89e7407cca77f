"""What a widget is: pieces one under the other. Here alone the untyped ipywidgets are touched."""

from __future__ import annotations

from typing import Any, cast

import ipywidgets as widgets  # pyright: ignore[reportMissingTypeStubs]
import polars as pl

from analysis.outcomes import conditions
from analysis.widgets.pieces import Piece
from loaders import Trajectories
from loaders.errors import DerailError

_Box: Any = widgets.Box
_VBox: Any = widgets.VBox


class Stack(_VBox):
    """Pieces one under the other, in Derail's look."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(list(parts))  # pyright: ignore[reportUnknownMemberType]
        self.add_class("derail-app")


def beside(*parts: tuple[Piece, str]) -> Any:
    """Pieces next to each other where there is room (CSS ``flex`` of each), else one under the other."""
    for part, flex in parts:
        cast(Any, part).layout.flex = flex
        cast(Any, part).layout.min_width = "0"
    box = _Box([part for part, _ in parts])
    box.layout.flex_flow = "row wrap"
    box.add_class("derail-row")
    return box


def columns_to_compare(runs: Trajectories, table: pl.DataFrame, *asked: str) -> list[str]:
    """The columns asked for, then all others that tell runs apart.

    Raises ``DerailError`` for an unknown one.
    """
    found = conditions(runs)
    if unknown := [name for name in asked if name not in table.columns]:
        raise DerailError(
            f"no column {unknown[0]!r} to compare by; there are {', '.join(found) or 'none'}. Labels come "
            "from a template such as 'runs/{arm}/*.json' or from runs.label(frame, on=...)."
        )
    return list(dict.fromkeys([*asked, *found]))
