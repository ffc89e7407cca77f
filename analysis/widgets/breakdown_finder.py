"""At which steps runs break down, and the pairs of runs that part there, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import polars as pl

from analysis import breakdown
from analysis.divergence import first_divergence
from analysis.widgets.events import Reader
from analysis.widgets.overview import AT_ONCE, Overview, most_paired, pairing
from analysis.widgets.parting import SCHEMA, partings
from analysis.widgets.pieces import Controls, Note, NotListed, StepChart
from analysis.widgets.runtable import RunTable
from analysis.widgets.stack import Stack, beside, columns_to_compare
from analysis.widgets.strips import Strip, shown, strip_of
from analysis.widgets.timeline import Timeline, labelled
from loaders import Trajectories
from loaders.errors import DerailError

_MOST_LINES: Final = 6
_SHOW: Final = (
    ("parted", "one succeeds, one fails"),
    ("gained", "the second succeeds, the first fails"),
    ("lost", "the first succeeds, the second fails"),
    ("", "all pairs"),
)


class BreakdownFinder(Stack):
    """Success and hazard by step; brush steps for the pairs of runs that part there.

    ``by``: the condition whose two arms are paired (a label or column; by default the first with two
    values or more); ``pair``: what names a pair within an arm. Click a pair for both its timelines,
    aligned step by step, with the first different call or response marked; click an event to read it.

    What the mouse does: ``arms(a, b)``, ``brush(first, last)``, ``keep(relation)``, ``open_pair(n)``,
    ``select(seq, side)``. ``pairs`` holds the pairs that are listed, ``chosen`` their runs as
    ``Trajectories``, ``steps`` the ``Result`` that is drawn.

    Raises ``DerailError`` for an unknown column.

    >>> import loaders
    >>> finder = BreakdownFinder(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"), by="arm")
    >>> finder.brush(1, 2)
    >>> finder.pairs["step"].is_between(1, 2).all()
    True
    """

    def __init__(
        self,
        runs: Trajectories,
        by: str | None = None,
        pair: Sequence[str] | None = None,
    ) -> None:
        self.runs = runs
        self._asked_pair = pair
        self._about = Overview(runs)
        self._columns = columns_to_compare(runs, self._about.table, *([by] if by else []))
        self._by = by or most_paired(self._about.table, self._columns)
        columns_to_compare(runs, self._about.table, *(pair or ()))
        self._counted_by: object = object()  # nothing yet
        self.all_pairs = pl.DataFrame(schema=SCHEMA)

        self.controls = Controls(title="what is compared")
        self.note = Note()
        self.chart = StepChart(
            title="Runs that reach a step",
            caption="Drag over steps to see the pairs that part there; with the keyboard: arrows move, "
            "Shift and arrow widens, Escape clears.",
            when_empty="No run has a known outcome: add outcomes with runs.label(...).",
        )
        self.list = RunTable(when_empty="No pair parts at these steps.")
        self.timeline = Timeline(when_empty="Click a pair to see both runs, aligned.")
        self.view = Reader(
            runs, self.timeline, when_empty="Click an event in a timeline to read it."
        )
        if self._about.table["events"].sum() <= AT_ONCE:
            self._about.codes  # noqa: B018 - so that a pair opens at once
        self._set_columns()
        self._set_arms()
        self._recount()
        self.controls.when("values", self._controls_changed)
        self.chart.when("brushed", lambda _: self._fill_list())
        self.list.when("picked", self._pair_picked)
        super().__init__(
            self.controls,
            self.note,
            beside((self.chart, "3 1 430px"), (self.list, "2 1 400px")),
            self.timeline,
            self.view,
        )

    # ------------------------------------------------------------------ what a click does

    def arms(self, a: str, b: str) -> None:
        """Pair the runs of these two arms.

        Raises ``ValueError`` where there is no such arm.
        """
        self.controls.choose(a=a, b=b)

    def brush(self, first: int | None, last: int | None = None) -> None:
        """Keep the pairs that part from step ``first`` to ``last``; None: at any step."""
        self.chart.brushed = None if first is None else [first, first if last is None else last]

    def keep(self, relation: str) -> None:
        """Keep pairs that end so: ``parted``, ``gained``, ``lost``, or "" for all."""
        self.controls.choose(relation=relation)

    def open_pair(self, n: int = 0) -> None:
        """Show both timelines of the n-th pair of ``pairs``.

        Raises ``DerailError`` (an ``IndexError``, too) where there are fewer.
        """
        if not 0 <= n < self.pairs.height:
            raise NotListed(f"{self.pairs.height} pairs are listed; there is no {n}")
        self.list.picked = str(self.pairs["pair"][n])

    def select(self, seq: int, side: str = "a") -> None:
        """Show an event of the pair that is open.

        Raises ``KeyError`` where that run has no such event.
        """
        self.timeline.select(seq, "ab".index(side))

    @property
    def pair(self) -> list[str]:
        """In what the two runs of a pair are alike."""
        if self._asked_pair is not None:
            return list(self._asked_pair)
        return pairing(self._about.table, self._by, self._columns)

    @property
    def pairs(self) -> pl.DataFrame:
        """The pairs that are listed, a row each; see ``analysis.widgets.parting.partings``."""
        return self.list.frame

    @property
    def event(self) -> dict[str, Any] | None:
        """The event that is open, as a row of ``events``."""
        return self.view.row

    @property
    def chosen(self) -> Trajectories:
        """The runs of the pairs that are listed, to go on with.

        Raises ``DerailError`` where there is none.
        """
        if self.pairs.is_empty():
            raise NotListed("no pair is listed, so no run is chosen")
        return self.runs.filter([*self.pairs["trajectory_a"], *self.pairs["trajectory_b"]])

    # ------------------------------------------------------------------ what is compared

    def _values(self) -> list[str]:
        if self._by is None:
            return []
        values = self._about.table[self._by].drop_nulls().cast(pl.String).unique().sort()
        return values.to_list()

    def _set_columns(self) -> None:
        by = [(name, name) for name in self._columns] or [("", "nothing to compare by")]
        self._fields = [
            {"name": "by", "label": "condition", "kind": "select", "options": by, "tip": "Whose arms are compared"},
        ]  # fmt: skip
        self.controls.values = {"by": self._by or "", "relation": _SHOW[0][0]}

    def _set_arms(self) -> None:
        """The two arms; by default the first two, which can be exchanged for any others."""
        values = self._values()
        arms = [(value, shown(value)) for value in values] or [("", "no arms")]
        relations = _SHOW if self._about.table["success"].is_not_null().any() else (_SHOW[-1],)
        fields = [
            *self._fields,
            {"name": "a", "label": "first arm", "kind": "select", "options": arms, "tip": "The upper timeline"},
            {"name": "b", "label": "second arm", "kind": "select", "options": arms, "tip": "The lower timeline"},
            {"name": "relation", "label": "pairs", "kind": "select", "options": list(relations), "tip": "How the runs of a pair end"},
        ]  # fmt: skip
        a, b = (values[0], values[1]) if len(values) > 1 else (arms[0][0], arms[0][0])
        relation = self.controls.values["relation"]
        if relation not in dict(relations):
            relation = relations[0][0]
        self._arms = (a, b)
        with self.controls.together():
            self.controls.fields = fields
            self.controls.values = {"by": self._by or "", "a": a, "b": b, "relation": relation}

    def _controls_changed(self, values: dict[str, Any]) -> None:
        if values["by"] != (self._by or ""):
            self._by = values["by"] or None
            self._arms = ("", "")  # so that what follows is seen as a change
            self._set_arms()
            self._recount()
        elif (values["a"], values["b"]) != self._arms:
            self._arms = (values["a"], values["b"])
            self._recount()
        else:
            self._fill_list()

    def _recount(self) -> None:
        """Success, hazard and partings by step, for what is now compared."""
        if self._counted_by != self._by:
            self.note.say("Counting by step …", kind="progress", progress=0.2)
            self.steps = breakdown.by_step(self.runs, by=self._by)
            self._counted_by = self._by
        a, b = self._arms
        if a != b and self._by is not None:
            self.note.say("Comparing pairs call by call …", kind="progress", progress=0.6)
            self.all_pairs = partings(self.runs, self._by, a, b, self.pair)
        else:
            self.all_pairs = pl.DataFrame(schema=SCHEMA)
        self._say_what_lacks()
        panels = _panels(self.steps.frame, self._by, self.all_pairs)
        with self.chart.together():
            self.chart.brushed = None
            self.chart.last = max(
                (max(s["steps"]) for p in panels for s in p["series"] if s["steps"]), default=0
            )
            self.chart.panels = panels
        self._fill_list()

    def _say_what_lacks(self) -> None:
        a, b = self._arms
        lacks: list[str] = []
        if self.steps.frame.is_empty():
            lacks.append("No run has a known outcome: add outcomes with runs.label(...).")
        if self._by is None or len(self._values()) < 2:
            lacks.append(
                "Pairs need a condition with two values: load with a template such as "
                "'runs/{arm}/*.json', or add a column with runs.label(...)."
            )
        elif a == b:
            lacks.append("Choose two different arms to see where their pairs part.")
        elif self.all_pairs.is_empty():
            lacks.append(
                f"No run of {shown(a)} has the same {', '.join(self.pair)} as one of {shown(b)}."
            )
        elif self._by is not None and len(self._values()) > _MOST_LINES:
            lacks.append(f"The first {_MOST_LINES} of {len(self._values())} values are drawn.")
        self.note.say(*lacks, kind="warning")

    # ------------------------------------------------------------------ answers

    def _fill_list(self) -> None:
        relation, brushed = self.controls.values["relation"], self.chart.brushed
        pairs = self.all_pairs
        if relation == "parted":
            pairs = pairs.filter(pl.col("relation").is_in(["gained", "lost"]))
        elif relation:
            pairs = pairs.filter(pl.col("relation") == relation)
        if brushed:
            pairs = pairs.filter(pl.col("step").is_between(brushed[0], brushed[1]))
        a, b = (shown(arm, 40) for arm in self._arms)
        where = "any step"
        if brushed:
            where = (
                f"step {brushed[0]}"
                if brushed[0] == brushed[1]
                else f"steps {brushed[0]} to {brushed[1]}"
            )
        self.list.fill(
            f"Pairs that part at {where}",
            f"{pairs.height:,} of {self.all_pairs.height:,} pairs of {a} and {b}",
            pairs.sort("step", "task", nulls_last=True, maintain_order=True),
            ["step", "what", "relation", *self.pair],
            id_column="pair",
            labels={"step": "parts at step", "what": "first difference", "relation": "outcome"},
            words={"gained": f"{b} succeeds, {a} fails", "lost": f"{a} succeeds, {b} fails"},
        )

    def _pair_picked(self, picked: str | None) -> None:
        if picked is None:
            self.timeline.clear("Click a pair to see both runs, aligned.")
            return
        row = self.all_pairs.row(int(picked), named=True)
        strips: list[Strip] = []
        for side in "ab":
            id_ = row[f"trajectory_{side}"]
            run = self._about.table.filter(pl.col("trajectory_id") == id_)
            strips.append(strip_of(self.runs[id_], label=labelled(run, *([self._by] if self._by else [])), marks=self._about.marks_of(run["run"].item())))  # fmt: skip
        ends = [
            row[f"seq_{side}"] if row[f"seq_{side}"] is not None else strip.seq[-1]
            for side, strip in zip("ab", strips, strict=True)
        ]
        self.timeline.hint = self._how_they_part(row)
        self.timeline.show(*strips, difference=None if row["what"] == "never" else (ends[0], ends[1]))  # fmt: skip

    def _how_they_part(self, row: dict[str, Any]) -> str:
        """In a sentence, with what ``divergence.first_divergence`` finds to have differed before."""
        if row["what"] == "never":
            return "Both runs make the same calls and get the same responses to the end."
        if row["what"] == "one ends":
            return "They make the same calls and get the same responses until one of them ends."
        told = f"They part at step {row['step']}: the first different {row['what']}."
        two = self.runs.filter([row["trajectory_a"], row["trajectory_b"]])
        with suppress(DerailError):
            found = first_divergence(two, self._by or "arm", self.pair, baseline=row["a"]).frame
            before = found["first_difference"].first()
            if before is not None:
                told += f" Of what the calls saw, the first to differ before the runs act differently: {before}."
        return told


def _panels(steps: pl.DataFrame, by: str | None, pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """Success, hazard, and the share of pairs that part, as panels of lines over steps."""
    column = by if by is not None and by in steps.columns else "group"
    groups = list(steps.group_by(column, maintain_order=True))[:_MOST_LINES]
    panels: list[dict[str, Any]] = []

    def line(name: object, group: pl.DataFrame, value: str, counted: str) -> dict[str, Any]:
        has_band = value == "success"
        return {
            "name": shown(name),
            "steps": group["step"].to_list(),
            "values": group[value].to_list(),
            "counts": group[counted].to_list(),
            "low": [_number(v) for v in group["low"]] if has_band else None,
            "high": [_number(v) for v in group["high"]] if has_band else None,
        }

    if groups:
        panels.append({"title": "succeed in the end, of the runs that make this call", "top": 1.0, "ticks": [0, 0.5, 1], "unit": "runs at risk",
            "series": [line(key[0], group, "success", "at_risk") for key, group in groups]})  # fmt: skip
        top = _above(max(group["hazard"].max() for _, group in groups))  # pyright: ignore
        panels.append({"title": "fail at this call (hazard)", "top": top, "ticks": [0, top / 2, top], "unit": "runs at risk",
            "series": [line(key[0], group, "hazard", "at_risk") for key, group in groups]})  # fmt: skip
    parted = pairs.drop_nulls("step").group_by("step").len().sort("step")
    if parted.height:
        shares = parted.with_columns(
            (pl.col("len") / pairs.height).alias("share"), pl.lit(pairs.height).alias("of")
        )
        top = _above(float(shares["share"].max() or 0))  # pyright: ignore
        panels.append({"title": "part at this step, of all pairs", "top": top, "ticks": [0, top / 2, top], "unit": "pairs", "bars": True,
            "series": [line("pairs", shares, "share", "of")]})  # fmt: skip
    return panels


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN alone differs from itself


def _above(largest: float) -> float:
    """The next round share above the largest value, for the top of an axis."""
    return next((top for top in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8) if largest <= top), 1.0)
