"""Put an ablation together by hand, see its effects, and take the Python that made it along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import polars as pl

from analysis import ablation
from analysis.results import Result
from analysis.widgets.overview import Overview, most_paired, pairing
from analysis.widgets.pieces import Code, Controls, Effects, Note, NotListed
from analysis.widgets.runtable import RunTable
from analysis.widgets.stack import Stack, columns_to_compare
from analysis.widgets.strips import shown
from loaders import Trajectories
from loaders.errors import DerailError

_OUTCOMES: Final = (("success", "success"), ("behaviour", "what else differs"))
_MOST_EFFECTS: Final = 40
_MINOR: Final = ("baseline", "arm", "gained / lost", "kind", "pairs", "tasks", "runs")


class AblationBuilder(Stack):
    """Choose factors, outcome and pairing; get effects, a forest plot, warnings and the code.

    One factor is compared on the same tasks and trials (``ablation.compare``, or
    ``ablation.differences`` for what else differs); several give main effects and interactions
    within tasks (``ablation.factors``). ``result`` is what that function returned, ``code`` the Python
    that made it; ``behind`` are the runs behind the effect that was clicked.

    ``factors``: the factors at first; by default the one whose arms have most pairs.
    ``pair``: in what the runs of a pair are alike; by default task, trial and all other conditions.
    ``name``: what the runs are called in the code; by default their name in the notebook.

    Raises ``DerailError`` for an unknown column.

    >>> import loaders
    >>> builder = AblationBuilder(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"))
    >>> builder.choose(factors=["arm"], outcome="success")
    >>> print(builder.code)  # doctest: +ELLIPSIS
    import analysis
    ...
    """

    def __init__(
        self,
        runs: Trajectories,
        factors: str | Sequence[str] | None = None,
        pair: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.runs = runs
        self.name = name or _name_in_notebook(runs) or "runs"
        self._about = Overview(runs)
        table = self._about.table
        given = [factors] if isinstance(factors, str) else list(factors or ())
        columns_to_compare(runs, table, *given, *(pair or ()))
        self._factors = columns_to_compare(runs, table, *given)
        first = most_paired(table, self._factors)
        asked = given or ([first] if first else [])
        self._asked_pair = pair
        if pair is None:
            pair = pairing(table, asked[0] if asked else None, self._factors)
        self._pairing = list(dict.fromkeys([*pair, "task_id", "trial", *self._factors]))
        self.result: Result | None = None
        self.behind: Trajectories | None = None

        self.controls = Controls(title="the ablation")
        self.note = Note()
        self.effects = Effects(title="Effects", when_empty="Choose at least one factor.")
        self.list = RunTable(when_empty="Click an effect to see the runs behind it.")
        self._code = Code(title="The Python that made it")
        self._last: tuple[list[str], list[str]] = (asked, list(pair))
        self.controls.values = {"factors": asked, "outcome": "success", "pair": list(pair), "baseline": ""}  # fmt: skip
        self._set_controls()
        self._compute()
        self.controls.when("values", self._changed)
        self.effects.when("picked", self._show_runs)
        super().__init__(self.controls, self.note, self.effects, self._code, self.list)

    # ------------------------------------------------------------------ what a click does

    def choose(
        self,
        factors: Sequence[str] | None = None,
        outcome: str | None = None,
        pair: Sequence[str] | None = None,
        baseline: str | None = None,
    ) -> None:
        """Choose factors, outcome (``success`` or ``behaviour``), pairing and baseline.

        None leaves a choice as it is; ``baseline=""``: the first level in alphabetical order.
        Raises ``DerailError`` (a ``ValueError``, too) for what can't be chosen.
        """
        given = {"factors": factors, "outcome": outcome, "pair": pair, "baseline": baseline}
        chosen = {
            name: list(value) if isinstance(value, list | tuple) else value
            for name, value in given.items()
            if value is not None
        }
        if chosen.get("baseline") == "" or "baseline" not in chosen:
            self.controls.choose(**chosen)
            return
        base = chosen.pop("baseline")
        if chosen:  # the levels to choose from follow the factors
            self.controls.choose(**chosen)
        self.controls.choose(baseline=base)

    def pick(self, effect: int) -> None:
        """List the runs behind an effect, by its row.

        Raises ``DerailError`` (an ``IndexError``, too) where there is no such row.
        """
        if not 0 <= effect < len(self.effects.rows):
            raise NotListed(f"{len(self.effects.rows)} effects are shown; there is no {effect}")
        self.effects.picked = effect

    @property
    def code(self) -> str:
        """The Python that made what is shown."""
        return self._code.code

    # ------------------------------------------------------------------ controls

    def _set_controls(self) -> None:
        values = self.controls.values
        one = values["factors"][0] if len(values["factors"]) == 1 else None
        levels: list[str] = []
        several = len(values["factors"]) > 1
        names = {"task_id": "task"}
        fields: list[dict[str, Any]] = [
            {"name": "factors", "label": "factors", "kind": "checks", "options": [(f, shown(f)) for f in self._factors], "tip": "What was varied; several give interactions as well"},
            {"name": "outcome", "label": "outcome", "kind": "select", "options": list(_OUTCOMES[:1] if several else _OUTCOMES), "tip": "Success, or everything else that can be counted"},
        ]  # fmt: skip
        if not several:
            fields.append({"name": "pair", "label": "same", "kind": "checks", "options": [(p, names.get(p, shown(p))) for p in self._pairing if p not in values["factors"]], "tip": "Runs pair where these are the same"})  # fmt: skip
        if one is not None:
            levels = self._about.table[one].drop_nulls().cast(pl.String).unique().sort().to_list()
            fields.append({"name": "baseline", "label": "compared with", "kind": "select", "options": [("", "the first"), *((level, shown(level)) for level in levels)], "tip": "The arm that the others are compared with"})  # fmt: skip
        baseline = values["baseline"] if values["baseline"] in levels else ""
        with self.controls.together():
            self.controls.fields = fields
            self.controls.values = {
                **values,
                "outcome": "success" if several else values["outcome"],
                "pair": [p for p in values["pair"] if p not in values["factors"]],
                "baseline": baseline,
            }

    def _changed(self, values: dict[str, Any]) -> None:
        before = self.controls.values
        factors, pair = self._last
        if values["factors"] != factors and values["pair"] == pair and self._asked_pair is None:
            first = values["factors"][0] if values["factors"] else None
            equal = pairing(self._about.table, first, self._factors)
            self._last = (values["factors"], equal)
            if equal != pair:
                self.controls.values = {**values, "pair": equal}  # and is heard here again
                return
        self._last = (values["factors"], values["pair"])
        self._set_controls()  # which may correct the values, and is heard here again
        if self.controls.values == before:
            self._compute()

    # ------------------------------------------------------------------ the analysis

    def _call(self) -> tuple[str, dict[str, Any]]:
        """The function of ``analysis.ablation`` and its keywords."""
        values = self.controls.values
        chosen = values["factors"]
        if len(chosen) > 1:
            return "factors", {"by": chosen}
        options: dict[str, Any] = {"by": chosen[0], "pair": values["pair"]}
        if values["baseline"]:
            options["baseline"] = values["baseline"]
        return ("compare" if values["outcome"] == "success" else "differences"), options

    def _compute(self) -> None:
        self.effects.picked = None
        self._show_runs(None)
        if not self.controls.values["factors"]:
            self._show_nothing("Choose at least one factor.", kind="info")
            return
        function, options = self._call()
        self._code.code = code_of(self.runs, self.name, function, options)
        if self._about.table["success"].null_count() == self._about.table.height:
            self._show_nothing("No run has a known outcome: add outcomes with runs.label(...).")
            return
        self.note.say("Pairing runs and estimating …", kind="progress", progress=0.5)
        try:
            self.result = getattr(ablation, function)(self.runs, **options)
        except DerailError as error:
            self._show_nothing(str(error))
            return
        result = cast(Result, self.result)
        self.note.say(*map(shown_text, result.warnings), kind="warning")
        rows, columns = _ROWS[function](result.frame.head(_MOST_EFFECTS))
        is_success = function != "differences"
        with self.effects.together():
            self.effects.title = shown_text(result.title)
            self.effects.note = ""
            self.effects.columns = columns
            self.effects.minor = [n for n, name in enumerate(columns) if name in _MINOR]
            self.effects.points = is_success
            self.effects.reach = _reach(rows)
            self.effects.rows = rows
            unit = (
                "points of success"
                if is_success
                else "standard deviations of the paired difference"
            )
            more = f" The first {_MOST_EFFECTS} of {result.frame.height}." if result.frame.height > _MOST_EFFECTS else ""  # fmt: skip
            self.effects.caption = f"{shown_text(result.headline)} Forest plot in {unit}, 95 % intervals. {result.method}{more}".strip()  # fmt: skip

    def _show_nothing(self, why: str, kind: str = "error") -> None:
        self.result = None
        if kind == "info":
            self._code.code = ""
        self.note.say(shown_text(why), kind=kind)
        with self.effects.together():
            self.effects.rows, self.effects.caption = [], ""
            self.effects.title = "Effects"

    # ------------------------------------------------------------------ the runs behind

    def _show_runs(self, picked: int | None) -> None:
        if picked is None or self.result is None:
            self.behind = None
            self.list.fill("", "", pl.DataFrame(), [])
            return
        row = self.result.frame.row(picked, named=True)
        self.behind = self.result.runs(**{key: row[key] for key in self.result.keys})
        ids = self.behind.trajectories.select("run").collect()
        behind = self._about.table.join(ids, on="run", how="semi", maintain_order="left")
        self.list.fill(
            f"Runs behind {self.effects.rows[picked]['effect']}",
            f"{behind.height:,} runs, failures first; they are in .behind",
            behind.sort(pl.col("outcome") == "success", maintain_order=True),
            ["outcome", "task_id", "trial", *self.controls.values["factors"], "steps"],
        )


# ---------------------------------------------------------------------- the code


def code_of(runs: Trajectories, name: str, function: str, options: Mapping[str, Any]) -> str:
    """Python that calls this function of ``analysis.ablation``; values from logs are literals in it."""
    lines = ["import analysis"]
    if runs.stored_at is not None and name == "runs":
        lines += ["import loaders", "", f"runs = loaders.scan({_literal(str(runs.stored_at))})"]
    arguments = "".join(f"    {key}={_literal(value)},\n" for key, value in options.items())
    lines += [
        f"result = analysis.ablation.{function}(\n    {name},\n{arguments})",
        "result" if function == "differences" else "result.chart()",
    ]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    """A Python literal, in double quotes as formatters have it."""
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in cast(list[Any], value))}]"
    text = repr(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text


def _name_in_notebook(runs: Trajectories) -> str | None:
    """What the notebook calls these runs, so that the code can be pasted into it."""
    try:
        from IPython import get_ipython  # pyright: ignore[reportPrivateImportUsage]
    except ImportError:
        return None
    shell: Any = get_ipython()
    names = {} if shell is None else cast(dict[str, Any], shell.user_ns)
    return next((n for n, value in names.items() if value is runs and not n.startswith("_")), None)


# ---------------------------------------------------------------------- rows of effects


def shown_text(text: str) -> str:
    """A sentence that may name values from logs, cut where one of them is absurdly long."""
    return shown(text, 2_000)


def _of_compare(frame: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    rows = [
        _effect(
            f"{shown(r['b'])} against {shown(r['a'])}",
            [_percent(r["rate_a"]), _percent(r["rate_b"]), _points(r), _p(r["p_adjusted"]),
             f"{r['gained']} / {r['lost']}", f"{r['pairs']:,}", f"{r['tasks']:,}"],
            (r["difference"], r["low"], r["high"]), r["p_adjusted"],
            None if r["low"] is not None else "too few pairs for an interval",
        )
        for r in frame.iter_rows(named=True)
    ]  # fmt: skip
    return rows, ["baseline", "arm", "difference", "p", "gained / lost", "pairs", "tasks"]


def _of_factors(frame: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    rows = [
        _effect(
            shown(r["effect"]),
            [r["kind"], _points(r), _p(r["p_adjusted"]), f"{r['tasks']:,}", f"{r['runs']:,}"],
            (r["difference"], r["low"], r["high"]), r["p_adjusted"], r["refused"],
        )
        for r in frame.iter_rows(named=True)
    ]  # fmt: skip
    return rows, ["kind", "difference", "p", "tasks", "runs"]


def _of_differences(frame: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    for r in frame.iter_rows(named=True):
        scale = r["effect"] / r["difference"] if r["effect"] and r["difference"] else None
        ends = (r["effect"], None, None)
        if scale is not None and r["low"] is not None:
            ends = (r["effect"], r["low"] * scale, r["high"] * scale)
        row = _effect(
            f"{r['signal']} · {shown(r['b'])}",
            [f"{r['total_a']:,.0f}", f"{r['total_b']:,.0f}", f"{r['difference']:+.3g}", _p(r["p_adjusted"]), f"{r['pairs']:,}"],
            ends, r["p_adjusted"], None,
        )  # fmt: skip
        row["reading"] = "differs" if row["reading"] else ""
        rows.append(row)
    return rows, ["in baseline", "in arm", "per run", "p", "pairs"]


_ROWS: Final = {"compare": _of_compare, "factors": _of_factors, "differences": _of_differences}


def _effect(
    effect: str,
    cells: list[str],
    ends: tuple[float | None, float | None, float | None],
    p: float | None,
    refused: str | None,
) -> dict[str, Any]:
    estimate, low, high = (None if x is None or x != x else x for x in ends)  # noqa: PLR0124 - NaN
    is_clear = (
        p is not None and p < 0.05 and low is not None and high is not None and low * high > 0
    )
    reading = ("better" if (estimate or 0) > 0 else "worse") if is_clear else ""
    interval = "" if low is None or high is None else f", 95 % interval {low:+.3f} to {high:+.3f}"
    said = f"{effect}: {'no estimate' if estimate is None else f'{estimate:+.3f}'}{interval}"
    return {
        "effect": effect, "cells": cells, "estimate": estimate, "low": low, "high": high,
        "reading": reading, "refused": refused, "said": f"{said}{f', {refused}' if refused else ''}",
    }  # fmt: skip


def _reach(rows: Sequence[Mapping[str, Any]]) -> float:
    ends = [abs(row[end]) for row in rows for end in ("estimate", "low", "high") if row[end] is not None]  # fmt: skip
    largest = max(ends, default=0.1) * 1.05
    return next((r for r in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0) if largest <= r), largest)  # fmt: skip


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _points(row: Mapping[str, Any]) -> str:
    if row["difference"] is None or row["difference"] != row["difference"]:
        return "–"
    interval = "" if row["low"] is None else f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    return f"{100 * row['difference']:+.1f}{interval}"


def _p(p: float | None) -> str:
    return ablation.p_text(p).removeprefix("= ")
