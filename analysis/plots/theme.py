"""One look for every chart: colours that colour-blind readers tell apart, readable in grey.

Charts are drawn in ``LIGHT``; :func:`themed` puts the colours of another theme in their place. The
first colours of a series differ in lightness, so they stay apart in grey, and figures with several
series use shapes as well. Blue stands for what went well (success, kept), orange for what went
wrong (failure, dropped), grey for what is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from loaders.errors import DerailError

BLUE: Final = "#1060a8"
ORANGE: Final = "#d9730d"
GREEN: Final = "#2f8f6b"
PURPLE: Final = "#8e4a9e"
SKY: Final = "#69aede"
GREY: Final = "#8b929c"
PALE: Final = "#c3c8cf"
INK: Final = "#1c2026"
SOFT: Final = "#5c6470"
LINE: Final = "#e1e4e8"
PAPER: Final = "#ffffff"

SERIES: Final = (BLUE, ORANGE, GREEN, SKY, PURPLE, SOFT)
"""Neighbours differ in hue for the colour-blind and in lightness for print in grey."""

SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""A shape for each colour of ``SERIES``, so that no reader depends on colour."""

DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4])
"""Line patterns in the same order."""

FONT: Final = "Helvetica, Arial, 'Liberation Sans', sans-serif"
"""Faces of the same widths, so labels fit alike on screens, on paper, and in the PDF renderer."""

LABEL_SIZE: Final = 11
"""Pixels at 96 to the inch: 8.25 pt in print."""

SMALL_SIZE: Final = 10
"""The smallest text of any figure: 7.5 pt in print."""

_DARK: Final[Mapping[str, str]] = {
    BLUE: "#5fb0f0",
    ORANGE: "#f5a04c",
    GREEN: "#56c99b",
    PURPLE: "#c792dd",
    SKY: "#a9d8fb",
    GREY: "#8a929d",
    PALE: "#4b525d",
    INK: "#e8eaed",
    SOFT: "#a7afba",
    LINE: "#30353d",
    PAPER: "#16181d",
}
_NAMES: Final[Mapping[str, str]] = {
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PURPLE: "purple",
    SKY: "sky",
    GREY: "grey",
    PALE: "pale",
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    PAPER: "paper",
}
_PAGE: Final = {colour: f"var(--derail-{name},{colour})" for colour, name in _NAMES.items()}

# JupyterLab tells its theme by variables of the page alone. A colour mixed with that of its text is
# darker in the light theme and lighter in the dark one.
_TEXT: Final = "var(--jp-ui-font-color1,#1c2026)"
_JUPYTER: Final = {
    **{
        colour: f"color-mix(in srgb,{bright} 78%,{_TEXT})"
        for colour, bright in (
            (BLUE, "#1a7fd4"),
            (ORANGE, "#f5861a"),
            (GREEN, "#38ad82"),
            (PURPLE, "#ae5fc0"),
            (SKY, "#69b8ee"),
        )
    },
    INK: _TEXT,
    SOFT: f"color-mix(in srgb,{_TEXT} 72%,transparent)",
    PALE: f"color-mix(in srgb,{_TEXT} 28%,transparent)",
    LINE: f"color-mix(in srgb,{_TEXT} 13%,transparent)",
    PAPER: "var(--jp-layout-color0,#ffffff)",
}

THEMES: Final[Mapping[str, Mapping[str, str]]] = {
    "light": {},
    "dark": _DARK,
    "page": _PAGE,
    "jupyter": _JUPYTER,
}
"""What stands for each colour: ``light`` and ``dark``; ``page``, variables that
:func:`page_colours` defines for both; ``jupyter``, the colours that follow JupyterLab's theme."""

_NAMES_IN: Final = ("domain", "sort", "text", "values")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")


def themed(spec: Any, theme: str) -> Any:
    """A spec with the colours of a theme in place of those of the light one; data stay as they are.

    >>> themed({"mark": {"color": BLUE}}, "dark")
    {'mark': {'color': '#5fb0f0'}}
    """
    if theme not in THEMES:
        raise DerailError(f"no theme {theme!r}; there are {', '.join(THEMES)}")
    colours = THEMES[theme]
    return _replaced(spec, colours) if colours else spec


def _replaced(value: Any, colours: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return colours.get(value, value) if _COLOUR.fullmatch(value) else value
    if isinstance(value, list):
        return [_replaced(item, colours) for item in cast(list[Any], value)]
    if isinstance(value, dict):
        return {
            key: item if _is_data(key, item) else _replaced(item, colours)
            for key, item in cast(dict[str, Any], value).items()
        }
    return value


def _is_data(key: str, item: Any) -> bool:
    """Rows, and names in scales and titles: an arm may be called like a colour."""
    return key == "datasets" or (key in _NAMES_IN and not isinstance(item, dict))


def page_colours(dark: bool) -> str:
    """CSS declarations of the variables that charts drawn in the ``page`` theme refer to."""
    colours = _DARK if dark else {}
    return "".join(f"--derail-{name}:{colours.get(c, c)};" for c, name in _NAMES.items())


def configured(chart: Any, width: int = 460) -> Any:
    """The chart in Derail's look; in a narrow one, long labels are cut sooner."""
    longest = max(80, min(210, int(0.75 * width)))
    chart.config = {
        "font": FONT,
        "background": "transparent",
        "padding": 5,
        "view": {"stroke": None},
        "axis": {
            **_words("label", INK),
            **_words("title", SOFT),
            "gridColor": LINE,
            "domain": False,
            "tickSize": 0,
            "labelPadding": 6,
            "titlePadding": 8,
            "labelLimit": longest,
            "titleLimit": 640,
        },
        "legend": {
            **_words("label", INK),
            **_words("title", SOFT),
            "labelLimit": 180,
            "orient": "top",
            "offset": 6,
            "columnPadding": 12,
            "symbolOpacity": 1,
        },
        "header": {**_words("label", INK), **_words("title", SOFT)},
        "text": {"fontSize": LABEL_SIZE, "color": INK},
        "title": {
            "fontSize": SMALL_SIZE,
            "fontWeight": "normal",
            "color": SOFT,
            "anchor": "start",
            "frame": "group",
            "offset": 8,
        },
        "range": {"category": list(SERIES)},
    }
    return chart


def _words(of: str, colour: str) -> dict[str, Any]:
    return {f"{of}FontSize": LABEL_SIZE, f"{of}FontWeight": "normal", f"{of}Color": colour}
