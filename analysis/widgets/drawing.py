"""A result as the picture that an export of it would be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from analysis.plots import Exported, export
from analysis.results import Result

THEMES: Final = {"light": "light", "dark": "dark, for slides", "grey": "light, seen in grey"}


def preview(result: Result, inches: float, theme: str) -> tuple[bytes, Exported]:
    """The PNG that an export of this width writes, and what the export says of itself.

    A PNG, because a browser would set the texts of an SVG in fonts of its own. Raises ``DerailError``
    where the result can't be drawn so narrow.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = export(result, Path(folder) / "preview", ["png"], inches, theme=drawn_in(theme))
        return made.files[0].read_bytes(), made


def drawn_in(theme: str) -> str:
    """The theme that a figure is drawn in; grey is how the light one is looked at."""
    return "light" if theme == "grey" else theme
