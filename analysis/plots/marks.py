"""What many figures draw alike: estimates with intervals, reference lines, series, labels, scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import polars as pl

from analysis.plots.theme import BLUE, DASHES, GREY, LABEL_SIZE, SERIES, SHAPES, SMALL_SIZE
from loaders.errors import DerailError

AS_LINES: Final[dict[str, Any]] = {
    "symbolType": "stroke",
    "symbolStrokeWidth": 2.2,
    "symbolSize": 260,
}


_MIN_LEFT: Final = 5


def intervals(
    base: Any,
    value: str,
    title: str,
    *,
    low: str = "low",
    high: str = "high",
    tooltip: list[str],
    text: Any = None,
    scale: Any = alt.Undefined,
    axis: Any = alt.Undefined,
    colour: Any = None,
    shape: Any = None,
    reference: float | None = None,
    size: int = 80,
) -> Any:
    """Estimates along x: a rule from ``low`` to ``high``, a point, its text above it.

    ``base``: a chart that says what stands on y. ``colour`` and ``shape``: encodings, where points
    differ. ``reference``: where a dashed line stands for no difference.
    """
    fixed = {"color": BLUE} if colour is None else {}
    marked = base if colour is None else base.encode(color=colour)
    rule = marked.mark_rule(strokeWidth=2.5, opacity=0.55, **fixed).encode(
        x=alt.X(f"{low}:Q", title=title, scale=scale, axis=axis), x2=f"{high}:Q"
    )
    point = marked.mark_point(size=size, filled=True, opacity=1, **fixed).encode(
        x=f"{value}:Q", tooltip=tooltip, **({} if shape is None else {"shape": shape})
    )
    layers = [rule, point]
    if reference is not None:
        layers.insert(0, line_at(x=reference))
    if text is not None:
        layers.append(base.mark_text(dy=-12, fontSize=SMALL_SIZE).encode(x=f"{value}:Q", text=text))
    return alt.layer(*layers)


def ratios(
    base: Any, value: str, title: str, rows: pl.DataFrame, *, text: Any, **encodings: Any
) -> Any:
    """Ratios with intervals on a log axis that fits the estimates; an interval that runs off it ends in an arrow.

    Without the limit, one estimate that the data hardly bound would press all others into a line.
    ``rows``: with ``low``, ``high`` and ``value``; ``base``: a function from rows to a chart with y.
    """
    floor, ceiling = _ratio_limits(rows, value)
    shown = rows.with_columns(
        pl.col("low").clip(floor, ceiling).alias("from"),
        pl.col("high").clip(floor, ceiling).alias("to"),
        pl.col(value).clip(floor, ceiling).alias("at"),
        (pl.col("low") < floor).alias("below"),
        (pl.col("high") > ceiling).alias("above"),
    )
    chart = base(shown)
    drawn = intervals(
        chart,
        "at",
        title,
        low="from",
        high="to",
        text=text,
        scale=alt.Scale(type="log", domain=[floor, ceiling], nice=False),
        axis=alt.Axis(values=_ratio_ticks(floor, ceiling), format="~g"),
        reference=1,
        **encodings,
    )
    colour = encodings.get("colour")
    arrows: list[Any] = []
    for flag, x, angle in (("below", "from", 270), ("above", "to", 90)):
        if shown[flag].any():
            mark = chart.transform_filter(f"datum.{flag}").mark_point(
                shape="triangle", angle=angle, filled=True, size=60, opacity=1, color=BLUE
            )
            mark = mark if colour is None else mark.encode(color=colour)
            arrows.append(mark.encode(x=f"{x}:Q"))
    return alt.layer(drawn, *arrows)


def _ratio_limits(rows: pl.DataFrame, value: str) -> tuple[float, float]:
    """Room for the intervals, but no further from 1 than a hundredfold, or twice past the estimates."""
    inside = rows.filter(pl.col(value).is_between(1e-3, 1e3))[value]
    least = min([1.0, *inside])
    most = max([1.0, *inside])
    floor = max(min([least, *rows["low"].drop_nulls()]) * 0.9, min(least / 2, 0.01))
    ceiling = min(max([most, *rows["high"].drop_nulls()]) * 1.1, max(most * 2, 100.0))
    return floor, ceiling


def _ratio_ticks(floor: float, ceiling: float) -> list[float]:
    """Up to about six round ratios between the limits."""
    least, most = math.floor(math.log10(floor)), math.ceil(math.log10(ceiling))
    for wanted in ((1, 2, 5), (1, 3), (1,)):
        every = max(1, (most - least) // 6) if wanted == (1,) else 1
        found = [
            round(digit * 10.0**power, 12)
            for power in range(least, most + 1)
            if power % every == 0
            for digit in wanted
            if floor <= digit * 10.0**power <= ceiling
        ]
        if len(found) <= 7:
            break
    return found


def line_at(x: float | None = None, y: float | None = None, colour: str = GREY) -> Any:
    """A dashed line across the chart at one value of x or of y."""
    name, value = ("x", x) if x is not None else ("y", y)
    return (
        alt.Chart(pl.DataFrame({name: [value]}))
        .mark_rule(strokeDash=[4, 4], color=colour)
        .encode(**{name: f"{name}:Q"})
    )


def series(count: int) -> list[str]:
    """As many colours as there are series, from the start again after the last."""
    return [SERIES[n % len(SERIES)] for n in range(count)]


def colour_of(
    names: Sequence[str], width: int, field: str = "label", title: Any = None, **options: Any
) -> Any:
    """A colour for each series, with a legend that fits the width; the plain blue for one series."""
    if len(names) < 2:
        return alt.value(BLUE)
    return alt.Color(
        f"{field}:N",
        title=title,
        sort=None,
        scale=alt.Scale(domain=list(names), range=series(len(names))),
        legend=legend(names, width, **options),
    )


def shape_of(names: Sequence[str], width: int, field: str = "label", title: Any = None) -> Any:
    """A shape for each series, to be told apart without colour; shares the legend of ``colour_of``."""
    if len(names) < 2:
        return alt.value("circle")
    shapes = [SHAPES[n % len(SHAPES)] for n in range(len(names))]
    return alt.Shape(
        f"{field}:N",
        title=title,
        sort=None,
        scale=alt.Scale(domain=list(names), range=shapes),
        legend=legend(names, width),
    )


def dash_of(
    names: Sequence[str], width: int, field: str = "label", title: Any = None, *, told: bool = False
) -> Any:
    """A line pattern for each series. ``told``: the legend shows it, for lines that bear no shapes.

    Patterns in a legend of shapes would fray their outlines.
    """
    if len(names) < 2:
        return alt.value([1, 0])
    dashes = [DASHES[n % len(DASHES)] for n in range(len(names))]
    return alt.StrokeDash(
        f"{field}:N",
        title=title,
        sort=None,
        scale=alt.Scale(domain=list(names), range=dashes),
        legend=legend(names, width, **AS_LINES) if told else None,
    )


def staircase(rows: pl.DataFrame, axes: dict[str, str], tooltip: list[str], width: int) -> Any:
    """Falling curves of survivors with their bands, from 1 at the start; each ``label`` has its line pattern.

    ``rows``: a row per label and place, with ``low`` and ``high``; ``axes``: the columns of x and of y
    with their titles. A curve ends where fewer than five are left: its last drop would be the fate of one
    or two. Raises ``DerailError`` where there never are five.
    """
    (x, along), (y, up) = axes.items()
    names = names_in(rows)
    known = rows.filter(pl.col("low").is_not_null(), pl.col("at_risk") >= _MIN_LEFT)
    if known.is_empty():
        raise DerailError(
            f"fewer than {_MIN_LEFT} to follow in every group: the frame holds what is known"
        )
    first = known.unique("label", keep="first", maintain_order=True).filter(pl.col(x) > 0)
    start = first.with_columns(
        pl.lit(0).cast(rows.schema[x]).alias(x),
        *(pl.lit(1.0).alias(name) for name in (y, "low", "high")),
    )
    curve = pl.concat([start, known]).sort(pl.col("label").cast(pl.Enum(names)), x)
    base = alt.Chart(curve).encode(
        x=alt.X(f"{x}:Q", title=along, axis=alt.Axis(tickMinStep=1, grid=False, format="d")),
        color=colour_of(names, width, **AS_LINES),
    )
    band = base.mark_area(interpolate="step-after", opacity=0.14).encode(
        y=alt.Y("low:Q", scale=share()), y2="high:Q"
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=2.2).encode(
        y=alt.Y(f"{y}:Q", title=up, scale=share(), axis=percent()),
        strokeDash=dash_of(names, width, told=True),
        tooltip=["label", x, *tooltip, y, "low", "high"],
    )
    return alt.layer(band, line).properties(width=width, height=225)


def legend(names: Sequence[str], width: int, **options: Any) -> Any:
    """A legend on top, in as many columns as its names leave room for."""
    each = min(180, max((len(name) for name in names), default=0) * LABEL_SIZE * 0.56) + 34
    columns = max(1, min(len(names), int((width + 40) / each)))
    return alt.Legend(columns=columns, symbolOpacity=1, **options)


def highest(frame: pl.DataFrame, column: str) -> Any:
    """The largest value of a column of numbers; 1 where none is known."""
    most: Any = frame.select(pl.col(column).max()).item()
    return 1 if most is None else most


def names_in(frame: pl.DataFrame, column: str = "label") -> list[str]:
    """The names of the series in the order of the rows."""
    return frame[column].unique(maintain_order=True).to_list()


def label(keys: tuple[str, ...]) -> pl.Expr:
    """The values of the key columns of a row as one text."""
    return pl.concat_str(
        [pl.col(key).cast(pl.String).fill_null("–") for key in keys], separator=" · "
    )


def share() -> Any:
    """From none to all."""
    return alt.Scale(domain=[0, 1])


def percent(format: str = ".0%", **options: Any) -> Any:
    """Ticks in per cent."""
    settings: dict[str, Any] = {"tickCount": 5, **options}
    if settings.pop("labels", True) is False:
        settings["labelExpr"] = "' '"  # a blank keeps the height of panels beside each other alike
    return alt.Axis(format=format, **settings)


def steps(title: str = "step (model call)") -> Any:
    """An axis of whole steps."""
    return alt.Axis(title=title, tickMinStep=1, grid=False, format="d")
