"""Which function draws which kind of result: found in the modules of this folder, listed nowhere."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any, Final, Protocol

import polars as pl

from analysis.plots.render import size_of, themed_chart, undrawable, use_offline_renderer
from analysis.plots.theme import configured
from analysis.results import Result
from analysis.wording import shown
from loaders.errors import DerailError

WIDTH: Final = 460
"""Pixels from the first to the last tick of the horizontal axis, where nobody asks for another."""

PAGE: Final = 572
"""Pixels that a whole chart may take then, labels included: beside its menu a small window has no more."""

_LONGEST_NAME, _LONGEST_SENTENCE = 120, 600

Events = Callable[[pl.DataFrame], str]


class Figure(Protocol):
    """A public figure: from a result to a finished chart."""

    def __call__(
        self,
        result: Result,
        width: int = WIDTH,
        *,
        theme: str = "light",
        caption: bool = True,
        **options: Any,
    ) -> Any:
        """The chart, ``width`` pixels wide; ``theme`` light or dark; ``caption``: counts beneath it."""
        ...


@dataclass(frozen=True)
class _Entry:
    name: str
    kind: str
    draw: Figure
    usual: bool
    events: Events | None


_ENTRIES: dict[str, _Entry] = {}


def draws(
    kind: str, *, usual: bool = True, events: Events | None = None
) -> Callable[[Callable[..., Any]], Figure]:
    """Make a function a figure of results of this kind; the usual one, or one to be asked for by name.

    The function takes a result and a width in pixels and returns an Altair chart. What its callers
    get is the chart in Derail's look, with alternative text from the first line of its docstring and
    the counts of tasks and runs beneath; ``events`` tells from the frame what else was counted, as
    words. A name that is taken is taken over, so a notebook can put a figure of its own in place.
    """

    def register(draw: Callable[..., Any]) -> Figure:
        @wraps(draw)
        def figure(
            result: Result,
            width: int = WIDTH,
            *,
            theme: str = "light",
            caption: bool = True,
            **options: Any,
        ) -> Any:
            if result.frame.is_empty():
                raise DerailError(f"nothing to draw for {result.title!r}: it has no rows")
            use_offline_renderer()
            drawn = draw(replace(result, frame=_drawable(result.frame)), width, **options)
            return themed_chart(
                _told(configured(drawn, width), result, _ENTRIES[name], caption), theme
            )

        name = getattr(draw, "__name__", kind)
        _check_name(name, draw)
        _ENTRIES[name] = _Entry(name, kind, figure, usual, events)
        return figure

    return register


def _check_name(name: str, draw: Callable[..., Any]) -> None:
    """Two modules of this folder may not draw under one name; anybody else may take a name over."""
    taken = getattr(_ENTRIES[name].draw, "__module__", "") if name in _ENTRIES else draw.__module__
    ours = __name__.rpartition(".")[0]
    if taken != draw.__module__ and taken.startswith(ours) and draw.__module__.startswith(ours):
        raise ValueError(f"{draw.__module__} and {taken} both draw {name!r}")


def figures(result: Result | None = None) -> Mapping[str, Figure]:
    """Every figure by its name, or those that can draw a result, the usual one first.

    >>> sorted(figures())[:3]
    ['axes', 'behaviour', 'by_step']
    """
    _import_all()
    entries = [e for e in _ENTRIES.values() if result is None or e.kind == result.kind]
    return {e.name: e.draw for e in sorted(entries, key=lambda e: not e.usual)}


def kinds() -> set[str]:
    """The kinds of results that have a usual figure."""
    _import_all()
    return {entry.kind for entry in _ENTRIES.values() if entry.usual}


def chart(
    result: Result,
    width: int | None = None,
    *,
    figure: str | None = None,
    theme: str = "light",
    caption: bool = True,
    **options: Any,
) -> Any:
    """The usual Altair chart of a result, or another ``figure`` of it.

    ``width``: pixels from the first to the last tick; by default 460, or less where long labels would
    make the whole wider than a notebook is. ``theme``: ``light`` or ``dark``. ``caption``: write the counts of tasks, runs and events beneath.
    More options are those of the figure. Raises ``DerailError`` where there is nothing to draw.

    >>> import loaders
    >>> from analysis import breakdown
    >>> steps = breakdown.by_step(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> type(chart(steps)).__name__
    'LayerChart'
    """
    found = figures(result)
    if not found:
        known = ", ".join(sorted({entry.kind for entry in _ENTRIES.values()}))
        raise DerailError(f"{result.kind!r} results have no chart; there are charts of {known}")
    if figure is not None and figure not in found:
        raise DerailError(
            f"{result.kind!r} results have no figure {figure!r}; there is {', '.join(found)}"
        )
    draw = found[figure or next(iter(found))]
    drawn = draw(result, width or WIDTH, theme=theme, caption=caption, **options)
    if width is not None or (excess := math.ceil(size_of(drawn)[0]) - PAGE) <= 0:
        return drawn
    return draw(result, WIDTH - min(excess, WIDTH // 2), theme=theme, caption=caption, **options)


def counts_of(result: Result, figure: str | None = None) -> str:
    """The counts behind a result in words, for a caption: tasks, runs, events."""
    names = figures(result)
    entry = _ENTRIES[figure or next(iter(names))] if names else None
    counted = result.counts()
    words = [f"{counted[unit]:,} {unit}" for unit in ("tasks", "runs") if counted[unit]]
    if entry is not None and entry.events is not None:
        words.append(entry.events(result.frame))
    return " · ".join(words)


def caption_of(result: Result, figure: str | None = None) -> str:
    """A caption for a paper: what is shown, the method, and how many tasks, runs and events."""
    return f"{result.title.rstrip('.')}. {result.method} {counts_of(result, figure)}."


def _told(drawn: Any, result: Result, entry: _Entry, caption: bool) -> Any:
    """The chart with its alternative text, and its counts beneath."""
    import altair as alt

    counts = counts_of(result, entry.name)
    looks = inspect.cleandoc(entry.draw.__doc__ or "").partition("\n")[0]
    title, headline = (shown(text, _LONGEST_SENTENCE) for text in (result.title, result.headline))
    told = [f"{title.rstrip('.')}.", looks, headline, f"{counts}."]
    drawn.description = " ".join(text for text in told if text)
    drawn.usermeta = {
        "derail": {
            "kind": result.kind,
            "figure": entry.name,
            "caption": caption_of(result, entry.name),
            "call": result.call,
        }
    }
    if caption and counts and drawn.title is alt.Undefined:
        drawn.title = alt.TitleParams(text=counts, orient="bottom")
    return drawn


def _drawable(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts of logs cut to what can be drawn, so that no spec carries a megabyte of one."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    cut = pl.col(texts).str.slice(0, _LONGEST_NAME).str.replace_all(undrawable(), "\ufffd")
    return frame.with_columns(cut) if texts else frame


@cache
def _import_all() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
