"""The parts that the widgets are put together from, each drawn by a file in ``static``.

A piece knows nothing of runs: it shows plain values and says what was clicked. What comes from logs
goes to the browser as data and is shown by ``textContent`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import anywidget
import traitlets

from loaders.errors import DerailError

STATIC: Final = Path(__file__).parent / "static"


class NoSuchOption(DerailError, ValueError):
    """A control was set to what it does not offer, as happens where other logs are looked at."""


class NotListed(DerailError, IndexError):
    """A row was opened that the list does not have."""


def synced(default: Any = None) -> Any:
    """A trait that Python and the browser share."""
    return cast(Any, traitlets.Any(default)).tag(sync=True)


def script(name: str) -> str:
    """The script of a piece: one module without imports, so that no server need serve a second."""
    return "\n".join((STATIC / f"{part}.js").read_text("utf-8") for part in ("shared", name))


def style(name: str) -> str:
    """The style of a piece."""
    return "\n".join((STATIC / f"{part}.css").read_text("utf-8") for part in ("shared", name))


class Piece(anywidget.AnyWidget):
    """What all pieces share: a title, a note beside it, and what to say when there is nothing."""

    title: Any = synced("")
    note: Any = synced("")
    caption: Any = synced("")
    when_empty: Any = synced("")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._on_click: dict[str, Callable[[], None]] = {}
        self.on_msg(self._hear)  # pyright: ignore[reportUnknownMemberType]

    def on_click(self, name: str, run: Callable[[], None]) -> None:
        """Call ``run`` when the button of that name is clicked."""
        self._on_click[name] = run

    def click(self, name: str) -> None:
        """What a click on the button of that name does.

        Raises ``KeyError`` where there is no such button.
        """
        self._on_click[name]()

    def _hear(self, _: Any, content: Any, __: Any) -> None:
        name = cast(dict[str, Any], content).get("click") if isinstance(content, dict) else None
        if isinstance(name, str) and name in self._on_click:
            self._on_click[name]()

    @contextmanager
    def together(self) -> Generator[None]:
        """Send all changes made inside in one message."""
        with self.hold_sync():
            yield

    def when(self, name: str, run: Callable[[Any], None]) -> None:
        """Call ``run`` with the new value whenever this trait changes."""

        def heard(change: Mapping[str, Any]) -> None:
            run(change["new"])

        self.observe(heard, names=name)


class Heatmap(Piece):
    """Rows by columns of cells (``share`` 0 to 1 for the colour, ``text``, ``tip``; None: no cell).

    ``picked`` is [row, column]; ``hidden`` how many columns are not shown.
    """

    _esm = script("heatmap")
    _css = style("heatmap")
    rows: Any = synced(())
    columns: Any = synced(())
    cells: Any = synced(())
    picked: Any = synced()
    hidden: Any = synced(0)
    show_all: Any = synced(default=False)


class Controls(Piece):
    """A row of labelled controls.

    ``fields``: dicts of ``name``, ``label``, ``kind`` (select, checks, search, text, button),
    ``options`` as (key, text) pairs, ``tip``; ``values`` by name. ``on_click(name, run)`` for buttons.
    """

    _esm = script("controls")
    _css = style("controls")
    fields: Any = synced(())
    values: Any = synced({})

    def _hear(self, _: Any, content: Any, __: Any) -> None:
        """A click comes with the values that were set before it, which may be under way still."""
        said = cast(dict[str, Any], content) if isinstance(content, dict) else {}
        values = said.get("values")
        if isinstance(values, dict):
            known = cast(dict[str, Any], values)
            self.values = {name: known.get(name, value) for name, value in self.values.items()}
        super()._hear(_, content, __)

    def choose(self, **values: Any) -> None:
        """Set some values, as a hand at the controls would.

        Raises ``ValueError`` for a value that is no option of its field.
        """
        for field in self.fields:
            name = field["name"]
            if name not in values or "options" not in field:
                continue
            keys = [key for key, _ in field["options"]]
            asked = values[name] if field["kind"] == "checks" else [values[name]]
            if unknown := [key for key in asked if key not in keys]:
                raise NoSuchOption(f"{name} has no option {unknown[0]!r}; there are {keys}")
        self.values = {**self.values, **values}


class Note(Piece):
    """What is going on: ``kind`` info, warning, error or progress, with ``progress`` from 0 to 1 (-1: no knowing)."""

    _esm = script("note")
    _css = style("note")
    texts: Any = synced(())
    kind: Any = synced("info")
    progress: Any = synced()

    def say(self, *texts: str, kind: str = "info", progress: float | None = None) -> None:
        """Show these texts in place of what is shown."""
        with self.together():
            self.kind, self.progress, self.texts = kind, progress, texts

    def clear(self) -> None:
        """Show nothing."""
        self.say()


class RunList(Piece):
    """Rows of runs: ``columns`` (label, kind), ``rows`` (id, cells), ``picked`` an id."""

    _esm = script("runlist")
    _css = style("runlist")
    columns: Any = synced(())
    rows: Any = synced(())
    picked: Any = synced()
    hidden: Any = synced(0)
    more: Any = synced("show all")


class EventView(Piece):
    """One event (title, kind, facts, arguments, text) and its ``raw`` record as text."""

    _esm = script("eventview")
    _css = style("eventview")
    event: Any = synced()
    raw: Any = synced()


class StepChart(Piece):
    """Lines over steps in ``panels`` (title, top, ticks, series); ``brushed`` is [first, last] step."""

    _esm = script("stepchart")
    _css = style("stepchart")
    panels: Any = synced(())
    last: Any = synced(0)
    brushed: Any = synced()


class Effects(Piece):
    """Rows of effects (effect, cells, estimate, low, high, reading, refused, said) with a forest plot.

    ``reach`` is the largest value of the axis; ``points``: values are shares, shown in points;
    ``minor``: numbers of the columns that are left out where there is little room.
    """

    _esm = script("effects")
    _css = style("effects")
    columns: Any = synced(())
    rows: Any = synced(())
    picked: Any = synced()
    minor: Any = synced(())
    reach: Any = synced(1.0)
    points: Any = synced(default=True)


class Code(Piece):
    """Python to copy."""

    _esm = script("code")
    _css = style("code")
    code: Any = synced("")


class Preview(Piece):
    """A figure as an image (a data URL) at its width in CSS pixels, 96 to the inch."""

    _esm = script("preview")
    _css = style("preview")
    picture: Any = synced("")
    alt: Any = synced("")
    width: Any = synced(312)
    theme: Any = synced("light")
