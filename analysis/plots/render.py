"""Charts as SVG, PNG and PDF, drawn without a network."""

from __future__ import annotations

import base64
import re
from typing import Any, Final, cast

from analysis.plots.theme import INK, LINE, PAPER, SOFT, THEMES, themed
from loaders.errors import DerailError

MAX_MARKS = 20_000
"""The renderer aborts the whole process at about a million marks; this is far below."""

PIXELS_PER_INCH: Final = 96

_LONGEST_TEXT = 200
_LONGEST_READ_OUT = 2_000
_READ_OUT = ("description", "usermeta")
_UNDRAWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_PAINT = re.compile(r'(?<= )(fill|stroke)="(#[0-9a-f]{6})"')
_SIZE = re.compile(r'width="[\d.]+" height="[\d.]+" viewBox="0 0 ([\d.]+) ([\d.]+)"')
_VERSION: Final = "6.4"
# Of the menu's entries only those that need no network.
_EMBED: Final = {
    "renderer": "svg",
    "actions": {"export": True, "source": False, "compiled": False, "editor": False},
}
_WORDS: Final[dict[str, dict[str, str]]] = {
    "axis": {
        "labelColor": INK,
        "titleColor": SOFT,
        "gridColor": LINE,
        "domainColor": SOFT,
        "tickColor": SOFT,
    },
    "legend": {"labelColor": INK, "titleColor": SOFT},
    "header": {"labelColor": INK, "titleColor": SOFT},
    "title": {"color": INK, "subtitleColor": SOFT},
    "view": {"stroke": "transparent"},
}


def to_svg(chart: Any, theme: str = "light") -> str:
    """The chart as SVG text, in the colours of a theme of :mod:`analysis.plots.theme`.

    ``page`` colours are CSS variables, for an SVG that stands in a page which defines them; ``jupyter``
    colours follow the theme of JupyterLab.
    Raises ``DerailError`` for more than ``MAX_MARKS`` rows; aggregate in Polars first.
    """
    import vl_convert

    # The renderer knows colours and no variables, so those are put into what it has drawn.
    follows = theme in ("page", "jupyter")
    spec = spec_of(chart, "light" if follows else theme)
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION)
    if not follows:
        return svg
    colours = THEMES[theme]
    return _PAINT.sub(lambda found: f'{found[1]}="{colours.get(found[2], found[2])}"', svg)


def to_png(chart: Any, scale: float = 2, theme: str = "light") -> bytes:
    """The chart as PNG, at twice its size for sharp print and screens.

    Raises ``DerailError`` for more than ``MAX_MARKS`` rows; aggregate in Polars first.
    """
    import vl_convert

    return vl_convert.vegalite_to_png(spec_of(chart, theme), vl_version=_VERSION, scale=scale)


def to_pdf(chart: Any, theme: str = "light") -> bytes:
    """The chart as PDF with its fonts inside, at 96 pixels to the inch.

    Raises ``DerailError`` for more than ``MAX_MARKS`` rows; aggregate in Polars first.
    """
    import vl_convert

    # The converter takes a pixel for a point, so the size is told to it in points.
    svg = to_svg(chart, theme)
    across, down = (length * 72 / PIXELS_PER_INCH for length in _size(svg))
    return vl_convert.svg_to_pdf(
        _SIZE.sub(rf'width="{across:.2f}" height="{down:.2f}" viewBox="0 0 \1 \2"', svg, count=1)
    )


def size_of(chart: Any) -> tuple[float, float]:
    """Width and height of the drawn chart in pixels, labels and legend included."""
    return _size(to_svg(chart))


def _size(svg: str) -> tuple[float, float]:
    found = _SIZE.search(svg)
    if found is None:  # every SVG of the renderer tells its size
        raise DerailError("the renderer made an SVG without a size")
    return float(found[1]), float(found[2])


def use_offline_renderer() -> None:
    """Make notebooks draw Altair charts without a network, also when reopened without running.

    JupyterLab bundles Vega-Lite 5 and knows only its types, so the spec is labelled with that
    version and a PNG goes with it for everything else. In JupyterLab, the colours follow its theme.
    """
    import altair as alt

    if "derail" not in alt.renderers.names():
        alt.renderers.register("derail", _bundle)
    if alt.renderers.active != "derail":
        alt.renderers.enable("derail")


def _bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    import vl_convert

    spec = drawable(spec)
    on_white = {**spec, "background": PAPER}
    png: bytes = vl_convert.vegalite_to_png(on_white, vl_version=_VERSION, scale=2)
    older = {
        **themed(_following(spec), "jupyter"),
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "usermeta": {**spec.get("usermeta", {}), "embedOptions": _EMBED},
    }
    return {
        "application/vnd.vegalite.v5+json": older,
        "image/png": base64.b64encode(png).decode(),
        "text/plain": f"<chart: {spec.get('description', 'no description')}>",
    }


def _following(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec whose ground and words follow the page's theme, where its author chose no colours."""
    chosen = spec.get("config", {})
    words = {part: {**colours, **chosen.get(part, {})} for part, colours in _WORDS.items()}
    return {**spec, "config": {"background": "transparent", **chosen, **words}}


def themed_chart(chart: Any, theme: str) -> Any:
    """The chart itself in another theme, an Altair chart as before."""
    if theme == "light":
        return chart
    import altair as alt

    return alt.Chart.from_dict(themed(chart.to_dict(), theme))


def undrawable() -> str:
    """A pattern of the characters that the renderer can't draw, for the regular expressions of Polars."""
    return r"[\x00-\x08\x0b-\x1f\x7f-\x9f\x{fffe}\x{ffff}]"


def spec_of(chart: Any, theme: str = "light") -> dict[str, Any]:
    """The Vega-Lite spec of a chart, safe to draw and in the colours of a theme.

    Raises ``DerailError`` for more than ``MAX_MARKS`` rows; aggregate in Polars first.
    """
    spec: dict[str, Any] = chart.to_dict(format="vega-lite")
    rows = sum(len(data) for data in spec.get("datasets", {}).values())
    if rows > MAX_MARKS:
        raise DerailError(
            f"{rows:,} rows are too many to draw (limit {MAX_MARKS:,}). Aggregate them first, for example "
            "frame.group_by(...).agg(...) in Polars."
        )
    return themed(drawable(spec), theme)


def drawable(value: Any, longest: int = _LONGEST_TEXT) -> Any:
    r"""A spec whose texts can be drawn: no control characters, none over 200 characters long.

    Names of tools, tasks and arms come from logs. A control character makes the renderer abort the
    whole process, and a text of a megabyte makes it hang. A description, which is read out and not
    drawn, may be longer.

    >>> drawable({"y": "a\x1b[31m"})
    {'y': 'a\ufffd[31m'}
    """
    if isinstance(value, str):
        shown = value if len(value) <= longest else value[: longest - 1] + "…"
        return _UNDRAWABLE.sub("\ufffd", shown)
    if isinstance(value, list):
        return [drawable(item, longest) for item in cast(list[Any], value)]
    if isinstance(value, dict):
        return {
            key: drawable(item, _LONGEST_READ_OUT if key in _READ_OUT else longest)
            for key, item in cast(dict[str, Any], value).items()
        }
    return value
