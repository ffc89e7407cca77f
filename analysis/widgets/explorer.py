"""From a number to the step behind it: condition by tool, runs, timeline, event, raw record."""

from __future__ import annotations

from threading import Thread
from typing import Any, Final

import polars as pl
import traitlets

from analysis.perturbations import CODES
from analysis.widgets import heat as heatmaps
from analysis.widgets.events import Reader
from analysis.widgets.heat import MEASURES, Heat, heat
from analysis.widgets.overview import (
    AT_ONCE,
    EVERYTHING,
    Overview,
    in_background,
    options,
)
from analysis.widgets.pieces import Controls, Heatmap, Note
from analysis.widgets.runtable import RunTable
from analysis.widgets.stack import Stack, beside, columns_to_compare
from analysis.widgets.strips import strip_of
from analysis.widgets.timeline import Timeline, labelled
from loaders import Trajectories
from loaders.errors import DerailError

_ANY: Final = "any"
_LOOK: Final = "look"


class Explorer(Stack):
    """Condition by tool; click a cell for its runs, a run for its timeline, an event for its text.

    ``by``: the condition at first (a label or a column of ``trajectories``); by default the first
    label, arm, model or framework with several values. Everything that a click does is a method:
    ``pick(condition, tool)``, ``open_run(trajectory_id)``, ``select(seq)``, ``search(text)``,
    ``keep(thinking=, code=, outcome=)``, ``show(by=, measure=)``. ``table`` holds the runs that are
    listed, ``chosen`` is the same as ``Trajectories``, to go on with; ``trajectory_id``, ``seq`` and
    ``event`` are what is open. Only what is on screen is collected, so a store of millions of events
    will do.

    Raises ``DerailError`` for an unknown column.

    >>> import loaders
    >>> explorer = Explorer(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"))
    >>> explorer.pick("none")
    >>> explorer.open_run(explorer.table["trajectory_id"][0])
    >>> explorer.select(1)
    >>> explorer.event["kind"]
    'user'
    """

    _heat: Heat
    trajectory_id: Any = traitlets.Any(None, allow_none=True)
    seq: Any = traitlets.Any(None, allow_none=True)

    def __init__(self, runs: Trajectories, by: str | None = None) -> None:
        self.runs = runs
        self._about = Overview(runs)
        self._columns = columns_to_compare(runs, self._about.table, *([by] if by else []))
        self._by = by or next(iter(self._columns), None)
        self._cell: tuple[int, int] | None = None
        self._thread: Thread | None = None

        self.controls = Controls(title="filters")
        self.note = Note()
        self.heatmap = Heatmap(when_empty="No runs pass these filters.")
        self.list = RunTable(when_empty="No runs pass these filters.")
        self.timeline = Timeline(when_empty="Click a run to see its events.")
        self.view = Reader(
            runs, self.timeline, when_empty="Click an event in the timeline to read it."
        )
        super().__init__(
            self.controls,
            self.note,
            beside((self.heatmap, "3 1 430px"), (self.list, "2 1 360px")),
            self.timeline,
            self.view,
        )
        self._has_outcomes = self._about.table["success"].is_not_null().any()
        if self._about.table["events"].sum() <= AT_ONCE:
            self._look_for_perturbations()
        self._set_controls()
        self._refresh()
        self._wire()

    # ------------------------------------------------------------------ what a click does

    def show(self, by: str | None = None, measure: str | None = None) -> None:
        """Choose the condition and the measure of the heatmap."""
        given = {"by": by, "measure": measure}
        self.controls.choose(**{name: value for name, value in given.items() if value is not None})

    def keep(
        self, thinking: str | None = None, code: str | None = None, outcome: str | None = None
    ) -> None:
        """Keep only runs with this verdict on their thinking, perturbation code and outcome.

        "" filters nothing, None leaves a filter as it is; ``code="any"``: any code.
        """
        given = {"thinking": thinking, "code": code, "outcome": outcome}
        self.controls.choose(**{name: value for name, value in given.items() if value is not None})

    def search(self, text: str) -> None:
        """Keep only runs that say this somewhere, in any case; their timelines mark where."""
        self.controls.choose(query=text)

    def pick(self, condition: object = None, tool: str | None = None) -> None:
        """List the runs of this condition that call this tool; no tool: all of the condition.

        Raises ``DerailError`` where there is no such cell.
        """
        rows = [value for value, _ in self._heat.conditions]
        if tool is not None and tool not in self._heat.tools and self._heat.hidden:
            self.heatmap.show_all = True
        if condition not in rows or tool not in self._heat.tools:
            raise DerailError(
                f"no cell for {condition!r} and {tool!r}; conditions are {rows}, tools {self._heat.tools[1:]}"
            )
        self.heatmap.picked = [rows.index(condition), self._heat.tools.index(tool)]

    def open_run(self, trajectory_id: str) -> None:
        """Show the timeline of a run.

        Raises ``KeyError`` for an unknown run.
        """
        if not self._about.table["trajectory_id"].eq(trajectory_id).any():
            raise KeyError(f"no run has the id {trajectory_id!r}")
        self.list.picked = trajectory_id

    def select(self, seq: int) -> None:
        """Show an event of the run that is open.

        Raises ``KeyError`` where the run has no such event.
        """
        self.timeline.select(seq)

    @property
    def table(self) -> pl.DataFrame:
        """The runs that are listed, a row each."""
        return self.list.frame

    @property
    def event(self) -> dict[str, Any] | None:
        """The event that is open, as a row of ``events``."""
        return self.view.row

    @property
    def chosen(self) -> Trajectories:
        """The runs that are listed, to go on with."""
        return self.runs.filter(self.table["trajectory_id"].to_list())

    # ------------------------------------------------------------------ wiring

    def _wire(self) -> None:
        self.controls.when("values", self._filters_changed)
        self.heatmap.when("picked", self._cell_picked)
        self.heatmap.when("show_all", lambda _: self._refresh())
        self.list.when("picked", self._run_picked)
        self.timeline.when("selected", self._event_selected)

    def _set_controls(self) -> None:
        about = self._about
        measures = dict(MEASURES)
        if not self._has_outcomes:
            del measures["failed"]
        verdicts = about.table["_thinking"].value_counts(sort=True).rows()
        outcomes = about.table["outcome"].value_counts(sort=True).rows()
        codes = [(_LOOK, "look for them")]
        if about.knows_codes:
            counts = dict(about.codes.group_by("code").agg(pl.col("run").n_unique()).iter_rows())
            any_code = about.codes["run"].n_unique()
            codes = [(_ANY, f"any code ({any_code:,})")]
            codes += [(code, f"{code} ({counts[code]:,})") for code in CODES if code in counts]
        by = [(name, name) for name in self._columns] or [("", EVERYTHING)]
        fields = [
            {"name": "by", "label": "condition", "kind": "select", "options": by, "tip": "What the rows of the heatmap are"},
            {"name": "measure", "label": "colour", "kind": "select", "options": list(measures.items()), "tip": "What the cells show"},
            {"name": "outcome", "label": "outcome", "kind": "select", "options": options([(name, f"{name} ({n:,})") for name, n in outcomes], "any outcome"), "tip": "Keep runs that end so"},
            {"name": "thinking", "label": "earlier thinking", "kind": "select", "options": options([(name, f"{name} ({n:,})") for name, n in verdicts], "any state"), "tip": "Was the thinking of earlier calls in later requests? Unknown without a recorded request"},
            {"name": "code", "label": "perturbation", "kind": "select", "options": options(codes, "any or none"), "tip": "Keep runs with such a tool response"},
            {"name": "query", "label": "search in text", "kind": "search", "placeholder": "text or arguments", "tip": "Keep runs in which an event says this"},
        ]  # fmt: skip
        values = {"by": self._by or "", "measure": next(iter(measures)), "outcome": "", "thinking": "", "code": "", "query": ""}  # fmt: skip
        with self.controls.together():
            self.controls.fields = fields
            self.controls.values = {**values, **self.controls.values}

    def _look_for_perturbations(self) -> None:
        """Now where that is quick; else beside the kernel, and what waits for it fills when done."""
        events = int(self._about.table["events"].sum() or 0)
        if self._about.knows_codes or self._thread is not None:
            return
        if events <= AT_ONCE:
            self._about.codes  # noqa: B018 - cached from here on
            return
        self.note.say(
            f"Looking for perturbed responses in {events:,} events, once. All else works meanwhile.",
            kind="progress",
            progress=-1,
        )

        def done() -> None:
            self.note.clear()
            if self.controls.values["code"] == _LOOK:
                self.controls.values = {**self.controls.values, "code": _ANY}
            self._set_controls()
            self._refresh()

        self._thread = in_background(lambda: self._about.codes, done)

    def wait(self) -> None:
        """Wait until perturbed responses have been looked for, where that was asked for."""
        if self._thread is not None:
            self._thread.join()

    # ------------------------------------------------------------------ answers

    def _filters_changed(self, values: dict[str, Any]) -> None:
        self._by = values["by"] or None
        self._cell = None
        if values["code"] or values["measure"] == "perturbed":
            self._look_for_perturbations()
        self._refresh()

    def _kept(self) -> pl.DataFrame:
        values, table = self.controls.values, self._about.table
        for name, column in (("outcome", "outcome"), ("thinking", "_thinking")):
            if values[name]:
                table = table.filter(pl.col(column) == values[name])
        if values["code"] and self._about.knows_codes:
            codes = self._about.codes
            wanted = (
                codes if values["code"] == _ANY else codes.filter(pl.col("code") == values["code"])
            )
            table = table.join(wanted.select("run"), on="run", how="semi", maintain_order="left")
        if values["query"]:
            matches = self._about.found(values["query"])
            table = table.join(matches, on="run", maintain_order="left")
        return table

    def _refresh(self) -> None:
        """Heatmap and list, after a filter."""
        self._filtered = self._kept()
        measure = self.controls.values["measure"]
        if measure == "perturbed" and not self._about.knows_codes:
            measure = "calls"
        if measure == "failed" and self.controls.values["outcome"]:
            measure = "runs"  # of runs that all ended alike, the share that fails is no news
        self._heat = heat(self._about, self._filtered, self._by, measure, every_tool=self.heatmap.show_all)  # fmt: skip
        notes = {
            "failed": "Share of the runs that call the tool and fail, of those with a known outcome. "
            "It describes; what precedes failure is for breakdown.triggers to say.",
            "perturbed": "Share of the tool's responses that came back perturbed, by rules.",
            "calls": "Calls of the tool per run that calls it.",
            "runs": "Runs that call the tool.",
        }
        with self.heatmap.together():
            self.heatmap.title = f"{MEASURES[measure].capitalize()}, by {self._by or 'tool'} and tool" if self._by else f"{MEASURES[measure].capitalize()}, by tool"  # fmt: skip
            self.heatmap.note = "" if self._has_outcomes else _NO_OUTCOMES
            self.heatmap.caption = notes[measure]
            self.heatmap.rows = [name for _, name in self._heat.conditions] if self._filtered.height else []  # fmt: skip
            self.heatmap.columns = self._heat.columns
            self.heatmap.cells = self._heat.cells
            self.heatmap.hidden = self._heat.hidden
            self.heatmap.picked = list(self._cell) if self._cell else None
        self._fill_list()

    def _cell_picked(self, cell: list[int] | None) -> None:
        self._cell = (cell[0], cell[1]) if cell else None
        self._fill_list()

    def _fill_list(self) -> None:
        table, name = self._filtered, "All runs"
        if self._cell is not None:
            table = heatmaps.picked(self._about, table, self._by, self._heat, self._cell)
            row, column = self._heat.conditions[self._cell[0]][1], self._heat.columns[self._cell[1]]
            name = f"{row}" if self._heat.tools[self._cell[1]] is None else f"{row} · {column}"
        by_matches = ["_matches"] if "_matches" in table.columns else []
        order = [*by_matches, pl.col("outcome") == "success"]
        down = [*(True for _ in by_matches), False]
        names = [
            "outcome",
            "task_id",
            "trial",
            *([self._by] if self._by else []),
            *by_matches,
            "steps",
            "_thinking",
        ]
        self.list.fill(
            name,
            f"{table.height:,} runs, {'most matches' if by_matches else 'failures'} first",
            table.sort(*order, descending=down, maintain_order=True),
            names,
        )

    def _run_picked(self, trajectory_id: str | None) -> None:
        self.trajectory_id, self.seq = trajectory_id, None
        if trajectory_id is None:
            self.timeline.clear("Click a run to see its events.")
            return
        row = self._about.table.filter(pl.col("trajectory_id") == trajectory_id)
        strip = strip_of(
            self.runs[trajectory_id],
            label=labelled(row, *([self._by] if self._by else [])),
            query=self.controls.values["query"],
            marks=self._about.marks_of(row["run"].item()),
        )
        self.timeline.show(strip)

    def _event_selected(self, _: list[int] | None) -> None:
        self.seq = self.timeline.seq


_NO_OUTCOMES: Final = "no run has a known outcome: add outcomes with runs.label(...)"
