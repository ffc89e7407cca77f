"""What many figures draw alike: estimates with intervals, reference lines, labels, scales."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.plots.theme import BLUE, GREY, SERIES


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
    size: int = 90,
) -> Any:
    """Estimates along x: a rule from ``low`` to ``high``, a point, its text above it.

    ``base``: a chart that says what stands on y. ``colour`` and ``shape``: encodings, where points
    differ. ``reference``: where a dashed line stands for no difference.
    """
    if colour is not None:
        base = base.encode(color=colour)
    fixed = {"color": BLUE} if colour is None else {}
    rule = base.mark_rule(strokeWidth=2.5, opacity=0.55, **fixed).encode(
        x=alt.X(f"{low}:Q", title=title, scale=scale, axis=axis), x2=f"{high}:Q"
    )
    point = base.mark_point(size=size, filled=True, opacity=1, **fixed).encode(
        x=f"{value}:Q", tooltip=tooltip, **({} if shape is None else {"shape": shape})
    )
    layers = [rule, point]
    if reference is not None:
        layers.insert(0, line_at(x=reference))
    if text is not None:
        layers.append(base.mark_text(dy=-12, fontSize=11).encode(x=f"{value}:Q", text=text))
    return alt.layer(*layers)


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


def label(keys: tuple[str, ...]) -> pl.Expr:
    """The values of the key columns of a row as one text."""
    return pl.concat_str(
        [pl.col(key).cast(pl.String).fill_null("–") for key in keys], separator=" · "
    )


def share() -> Any:
    """From none to all."""
    return alt.Scale(domain=[0, 1])


def percent(format: str = ".0%") -> Any:
    """Ticks in per cent."""
    return alt.Axis(format=format)
