"""A figure at the size of the page that it is for, and out as files."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analysis import ablation, breakdown, outcomes, perturbations, thinking
from analysis.outcomes import conditions
from analysis.plots import export
from analysis.results import Result
from analysis.widgets import drawing
from analysis.widgets.pieces import Controls, Note, Preview
from analysis.widgets.stack import Stack
from analysis.widgets.strips import shown
from loaders import Trajectories
from loaders.errors import DerailError

WIDTHS: Final = {"3.25": "one column, 3.25 in", "6.75": "two columns, 6.75 in"}
FORMATS: Final = ("pdf", "svg", "png")

_Make = Callable[[], Result]


class FigureStudio(Stack):
    """Choose a figure, a column width and a theme; see it at its size; export it.

    ``runs``: the standard figures of these runs; or a ``Result``, a list of them, or a dict from
    names to them. ``folder``: where files go. An export writes the figure in the formats chosen, its
    data as CSV, and its provenance as JSON; ``exported`` are the paths of the last one.

    What the mouse does: ``choose(figure=, width=, theme=)`` and ``export(name, formats)``.

    >>> import loaders
    >>> from analysis import outcomes
    >>> rates = outcomes.success(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"))
    >>> studio = FigureStudio(rates)
    >>> studio.choose(width=3.25)
    >>> 308 < studio.preview.width <= 312
    True
    """

    def __init__(
        self,
        runs: Trajectories | Result | Sequence[Result] | Mapping[str, Result],
        folder: str | Path = "figures",
    ) -> None:
        self.folder = Path(folder)
        self._figures = _figures(runs)
        if not self._figures:
            raise DerailError("no result to draw: give runs, a Result, or several")
        self._made: dict[str, Result] = {}
        self.result: Result | None = None
        self.exported: list[Path] = []

        self.controls = Controls(title="the figure")
        self.note = Note()
        self.preview = Preview(title="Preview", when_empty="This figure can't be drawn.")
        self.files = Controls(title="export")
        names = list(self._figures)
        self.controls.fields = [
            {"name": "figure", "label": "figure", "kind": "select", "options": [(n, shown(n)) for n in names], "tip": "What is drawn"},
            {"name": "width", "label": "width", "kind": "select", "options": list(WIDTHS.items()), "tip": "Labels and legend included"},
            {"name": "theme", "label": "theme", "kind": "select", "options": list(drawing.THEMES.items()), "tip": "Dark is for slides"},
        ]  # fmt: skip
        self.controls.values = {"figure": names[0], "width": "3.25", "theme": "light"}
        self.files.fields = [
            {"name": "name", "label": "file name", "kind": "text", "placeholder": "figure", "tip": "Without an ending"},
            {"name": "formats", "label": "formats", "kind": "checks", "options": [(f, f.upper()) for f in FORMATS], "tip": "Data as CSV and provenance as JSON are always written"},
            {"name": "export", "label": "export", "kind": "button", "primary": True, "tip": "Write the files"},
        ]  # fmt: skip
        self.files.values = {"name": file_name(names[0]), "formats": list(FORMATS)}
        self._draw()
        self.controls.when("values", self._chosen)
        self.files.on_click("export", self._export)
        super().__init__(self.controls, self.note, self.preview, self.files)

    # ------------------------------------------------------------------ what a click does

    def choose(
        self, figure: str | None = None, width: float | None = None, theme: str | None = None
    ) -> None:
        """Choose the figure, its width in inches (3.25 or 6.75), its theme.

        Raises ``ValueError`` for what can't be chosen.
        """
        given = {"figure": figure, "width": None if width is None else str(width), "theme": theme}
        self.controls.choose(**{name: value for name, value in given.items() if value is not None})

    def export(self, name: str | None = None, formats: Sequence[str] | None = None) -> list[Path]:
        """Write the figure, its data and its provenance into ``folder``; returns the paths.

        Raises ``DerailError`` where nothing is drawn, or for a name that is no plain file name.
        """
        if self.result is None:
            raise DerailError("there is no figure to export")
        stem = self.files.values["name"] if name is None else name
        if not re.fullmatch(r"[\w][\w .-]{0,99}", stem):
            raise DerailError(f"{shown(stem)!r} is no file name: use letters, digits, - and _")
        kinds = list(self.files.values["formats"] if formats is None else formats)
        values = self.controls.values
        made = export(
            self.result,
            self.folder / stem,
            kinds,
            float(values["width"]),
            theme=drawing.drawn_in(values["theme"]),
        )
        self.exported = made.files
        return self.exported

    # ------------------------------------------------------------------ drawing

    def _chosen(self, values: dict[str, Any]) -> None:
        self.files.values = {**self.files.values, "name": file_name(values["figure"])}
        self._draw()

    def _result(self, name: str) -> Result:
        if name not in self._made:
            self.note.say(f"Computing {shown(name)} …", kind="progress", progress=0.4)
            self._made[name] = self._figures[name]()
        return self._made[name]

    def _draw(self) -> None:
        values = self.controls.values
        inches = float(values["width"])
        try:
            self.result = self._result(values["figure"])
            png, made = drawing.preview(self.result, inches, values["theme"])
        except DerailError as error:
            self.result = None
            self.note.say(shown(error, 2_000), kind="error")
            with self.preview.together():
                self.preview.picture, self.preview.caption = "", ""
            return
        self.note.say(*(shown(text, 2_000) for text in self.result.warnings), kind="warning")
        picture = base64.b64encode(png).decode()
        with self.preview.together():
            self.preview.title = f"Preview, {made.width:.2f} x {made.height:.2f} in"
            self.preview.width = round(96 * made.width)
            self.preview.theme = values["theme"]
            self.preview.alt = shown(f"{self.result.title}. {self.result.headline}", 2_000)
            self.preview.caption = shown(made.caption, 2_000)
            self.preview.picture = f"data:image/png;base64,{picture}"

    def _export(self) -> None:
        try:
            paths = self.export()
        except (DerailError, OSError) as error:
            self.note.say(shown(error, 2_000), kind="error")
            return
        self.note.say(f"Written: {', '.join(path.as_posix() for path in paths)}", kind="info")


def file_name(name: str) -> str:
    """A figure's name as a file name.

    >>> file_name("Success by step (all runs)")
    'success_by_step_all_runs'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower())[:60].strip("_") or "figure"


def _figures(given: Any) -> dict[str, _Make]:
    if isinstance(given, Trajectories):
        return _standard(given)
    if isinstance(given, Result):
        given = [given]
    if isinstance(given, Mapping):
        return {str(name): (lambda r=result: r) for name, result in given.items()}  # pyright: ignore
    found: dict[str, _Make] = {}
    for result in given:
        name = result.title if result.title not in found else f"{result.title} ({len(found) + 1})"
        found[name] = lambda r=result: r
    return found


def _standard(runs: Trajectories) -> dict[str, _Make]:
    """The figures that any runs give; those that compare need a condition of two values or more."""
    columns = conditions(runs)
    by = columns[0] if columns else None
    of = f" by {shown(by)}" if by else ""
    figures: dict[str, _Make] = {f"Success{of}": lambda: outcomes.success(runs, by)}
    if by is not None:
        figures[f"Arms of {shown(by)} compared"] = lambda: ablation.compare(runs, by)
    figures |= {
        f"Success by step{of}": lambda: breakdown.by_step(runs, by),
        "What precedes failure": lambda: breakdown.triggers(runs, by=by),
        "Hazard of failure": lambda: breakdown.hazard(runs, by=by),
        "Was thinking sent back?": lambda: thinking.continuity(runs, by or ["format"]),
        "Perturbed tool responses": lambda: perturbations.rates(runs, by or "format"),
        "pass^k": lambda: outcomes.pass_k(runs, by),
    }
    return figures
