"""Which function draws which kind of result: found in the modules of this folder, listed nowhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any, Protocol

from analysis.plots.render import use_offline_renderer
from analysis.plots.theme import configured
from analysis.results import Result
from loaders.errors import DerailError

WIDTH = 460
"""Pixels from the first to the last tick of the horizontal axis, where nobody asks for another."""


class Figure(Protocol):
    """A public figure: from a result to a finished chart."""

    def __call__(self, result: Result, width: int = WIDTH, **options: Any) -> Any:
        """The chart, ``width`` pixels wide."""
        ...


_FIGURES: dict[str, Figure] = {}


def draws(*kinds: str) -> Callable[[Callable[..., Any]], Figure]:
    """Make a function the usual chart of results of these kinds.

    The function takes a result and a width in pixels and returns an Altair chart. What it returns
    to its callers is the chart in Derail's look. A kind that is drawn already is drawn anew, so a
    notebook can put a chart of its own in place of Derail's.
    """

    def register(draw: Callable[..., Any]) -> Figure:
        @wraps(draw)
        def figure(result: Result, width: int = WIDTH, **options: Any) -> Any:
            if result.frame.is_empty():
                raise DerailError(f"nothing to draw for {result.title!r}: it has no rows")
            use_offline_renderer()
            return configured(draw(result, width, **options))

        for kind in kinds:
            _FIGURES[kind] = figure
        return figure

    return register


def figures() -> Mapping[str, Figure]:
    """The usual figure of each kind of result.

    >>> sorted(figures())[:3]
    ['axes', 'behaviour', 'by_step']
    """
    _import_all()
    return dict(_FIGURES)


def chart(result: Result, width: int = WIDTH, **options: Any) -> Any:
    """The usual Altair chart of a result, ``width`` pixels wide.

    Raises ``DerailError`` where there is nothing to draw.

    >>> import loaders
    >>> from analysis import breakdown
    >>> steps = breakdown.by_step(loaders.load("sample_logs/study"))
    >>> type(chart(steps)).__name__
    'LayerChart'
    """
    if result.kind not in _FIGURES:
        _import_all()
    draw = _FIGURES.get(result.kind)
    if draw is None:
        raise DerailError(
            f"{result.kind!r} results have no chart; there are charts of {', '.join(sorted(_FIGURES))}"
        )
    return draw(result, width, **options)


@cache
def _import_all() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
