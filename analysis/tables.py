"""Results as tables of text, the same for the terminal and the HTML report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from analysis.ablation import p_text
from analysis.results import Result

Row = dict[str, Any]


@dataclass(frozen=True)
class TextTable:
    """``header`` and ``rows`` of text; ``keys`` names each row for ``Result.runs``."""

    header: list[str]
    rows: list[list[str]]
    keys: list[dict[str, Any]]
    is_number: list[bool]


def as_text(result: Result) -> TextTable:
    """The columns of a result that a person reads, formatted; all of them for a kind without a choice."""
    columns = _COLUMNS.get(result.kind, _every_column)(result)
    rows = list(result.frame.iter_rows(named=True))
    return TextTable(
        [name for name, _, _ in columns],
        [[show(row) for _, show, _ in columns] for row in rows],
        [{key: row[key] for key in result.keys} for row in rows],
        [is_number for _, _, is_number in columns],
    )


Column = tuple[str, Callable[[Row], str], bool]


def percent(value: Any) -> str:
    """A share as a percentage with one decimal, a dash where unknown."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %"


def _interval(row: Row, scale: float = 100, digits: int = 1, sign: bool = False) -> str:
    if row["low"] is None or math.isnan(row["low"]):
        return "–"
    form = f"{'+' if sign else ''}.{digits}f"
    return f"[{scale * row['low']:{form}}, {scale * row['high']:{form}}]"


def _count(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _p(value: float | None) -> str:
    return "–" if value is None else p_text(value).removeprefix("= ")


def _keys(result: Result) -> list[Column]:
    def shower(key: str) -> Callable[[Row], str]:
        return lambda row: "–" if row[key] is None else str(row[key])

    return [(key, shower(key), False) for key in result.keys]


def _counted(name: str, column: str | None = None) -> Column:
    return (name, lambda row: _count(row[column or name]), True)


def _success(result: Result) -> list[Column]:
    return [
        *_keys(result),
        ("success", lambda row: percent(row["success"]), True),
        ("95 % interval", _interval, True),
        _counted("tasks"),
        _counted("runs"),
    ]


def _pass_k(result: Result) -> list[Column]:
    return [
        *_keys(result),
        _counted("k"),
        ("pass^k", lambda row: f"{row['pass_k']:.3f}", True),
        ("95 % interval", lambda row: _interval(row, 1, 3), True),
        _counted("tasks"),
    ]


def _compare(result: Result) -> list[Column]:
    del result
    return [
        ("arm", lambda row: row["b"], False),
        ("success", lambda row: percent(row["rate_b"]), True),
        ("baseline", lambda row: row["a"], False),
        ("success", lambda row: percent(row["rate_a"]), True),
        ("difference", lambda row: f"{100 * row['difference']:+.1f}", True),
        ("95 % interval", lambda row: _interval(row, sign=True), True),
        ("p clustered", lambda row: _p(row["p"]), True),
        ("p McNemar", lambda row: _p(row["p_mcnemar"]), True),
        _counted("gained"),
        _counted("lost"),
        _counted("pairs"),
        _counted("unpaired"),
    ]


def _differences(result: Result) -> list[Column]:
    def total(side: str) -> Callable[[Row], str]:
        def show(row: Row) -> str:
            if row["signal"] == "response_replaced":
                return percent(row["total_b"]) if side == "b" else "–"
            return _count(row[f"total_{side}"])

        return show

    arms = result.frame.select("a", "b").unique()
    per_run: list[Column] = [
        ("per run", lambda row: f"{row['difference']:+.3g}", True),
        ("95 % interval", lambda row: _interval(row, 1, 2, sign=True), True),
        ("adjusted p", lambda row: _p(row["p_adjusted"]), True),
        _counted("pairs"),
    ]
    signal: Column = ("signal", lambda row: row["signal"], False)
    if arms.height == 1:  # one comparison: name the arms once, in the header
        a, b = arms.row(0)
        return [signal, (a, total("a"), True), (b, total("b"), True), *per_run]
    return [
        signal,
        ("baseline", lambda row: row["a"], False),
        ("total", total("a"), True),
        ("arm", lambda row: row["b"], False),
        ("total", total("b"), True),
        *per_run,
    ]


def _triggers(result: Result) -> list[Column]:
    del result

    def odds(row: Row) -> str:
        return "refused" if row["odds_ratio"] is None else f"{row['odds_ratio']:.2f}"

    return [
        ("exposure", lambda row: row["exposure"], False),
        ("odds ratio", odds, True),
        ("95 % interval", lambda row: row["refused"] or _interval(row, 1, 2), True),
        ("adjusted p", lambda row: _p(row["p_adjusted"]), True),
        ("exposed runs that fail", lambda row: _of(row, "exposed"), True),
        ("others that fail", lambda row: _of(row, "unexposed"), True),
        _counted("tasks"),
    ]


def _hazard(result: Result) -> list[Column]:
    del result

    def ratio(row: Row) -> str:
        return "refused" if row["odds_ratio"] is None else f"{row['odds_ratio']:.2f}"

    return [
        ("exposure", lambda row: row["exposure"], False),
        ("odds ratio", ratio, True),
        ("95 % interval", lambda row: row["refused"] or _interval(row, 1, 2), True),
        ("adjusted p", lambda row: _p(row["p_adjusted"]), True),
        (
            "calls that break, exposed",
            lambda row: f"{row['exposed_events']:,} of {row['exposed_calls']:,}",
            True,
        ),
        (
            "others",
            lambda row: f"{row['unexposed_events']:,} of {row['unexposed_calls']:,}",
            True,
        ),
    ]


def _factors(result: Result) -> list[Column]:
    del result

    def points(row: Row) -> str:
        return "refused" if row["refused"] else f"{100 * row['difference']:+.1f}"

    return [
        ("effect", lambda row: row["effect"], False),
        ("kind", lambda row: row["kind"], False),
        ("points", points, True),
        ("95 % interval", lambda row: row["refused"] or _interval(row, sign=True), True),
        ("adjusted p", lambda row: _p(row["p_adjusted"]), True),
        _counted("tasks"),
        _counted("runs"),
    ]


def _manipulation(result: Result) -> list[Column]:
    return [
        *_keys(result),
        ("expected", lambda row: " or ".join(row["expected"]), False),
        _counted("runs"),
        _counted("complied"),
        _counted("deviated"),
        _counted("unknown"),
        _counted("nothing to send", "nothing_to_send"),
        ("compliance", lambda row: percent(row["compliance"]), True),
        ("95 % interval", _interval, True),
        ("got", lambda row: row["got"] or "–", False),
    ]


def _of(row: Row, group: str) -> str:
    failed, succeeded = row[f"{group}_failed"], row[f"{group}_succeeded"]
    return f"{failed:,} of {failed + succeeded:,}"


def _by_step(result: Result) -> list[Column]:
    return [
        *_keys(result),
        _counted("step"),
        _counted("runs that reach it", "at_risk"),
        _counted("fail here", "failed"),
        ("hazard", lambda row: percent(row["hazard"]), True),
        ("succeed in the end", lambda row: percent(row["success"]), True),
        ("95 % interval", _interval, True),
    ]


def _continuity(result: Result) -> list[Column]:
    return [
        *_keys(result),
        ("verdict", lambda row: row["verdict"], False),
        _counted("runs"),
        _counted("calls"),
        _counted("blocks emitted", "emitted"),
        _counted("hidden"),
        _counted("calls due", "calls_due"),
        _counted("kept", "calls_kept"),
        _counted("dropped", "calls_dropped"),
        _counted("unknown", "calls_unknown"),
        ("first dropped at step", lambda row: _count(row["first_dropped_step"]), True),
        ("evidence", lambda row: ", ".join(row["evidence"] or []) or "none", False),
    ]


def _rates(result: Result) -> list[Column]:
    return [
        *_keys(result),
        _counted("responses"),
        _counted("of"),
        ("share", lambda row: percent(row["share"]), True),
        _counted("runs"),
        ("tools", lambda row: ", ".join(row["tools"] or []), False),
    ]


_P_VALUES = ("p", "p_adjusted", "p_mcnemar", "q")
_SHARES = ("hazard", "share", "rate", "success", "exact", "top_3", "within_1", "recovered")
_WIDEST_CELL = 60


def _every_column(result: Result) -> list[Column]:
    """The columns of a frame as they stand, with an interval in one cell."""
    frame = result.frame
    columns: list[Column] = []
    for name, dtype in frame.schema.items():
        stem = name.removesuffix("high").rstrip("_")
        if name.endswith("high") and f"{stem}_low".strip("_") in frame.columns:
            continue
        if name.endswith("low"):
            other = f"{name[:-3]}high"
            if other in frame.columns:
                named = name[:-3].strip("_").replace("_", " ")
                columns.append((f"{named} 95 % interval".strip(), _between(name, other), True))
                continue
        columns.append((name.replace("_", " "), _shower(name), dtype.is_numeric()))
    return columns


def _between(low: str, high: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        if row[low] is None or row[high] is None or math.isnan(row[low]):
            return "–"
        return f"[{_number(row[low])}, {_number(row[high])}]"

    return show


def _shower(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row[name]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        if name in _P_VALUES:
            return _p(value)
        if name in _SHARES:
            return percent(value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return _number(value)
        if isinstance(value, int):
            return f"{value:,}"
        text = (
            ", ".join(map(str, cast(list[Any], value))) if isinstance(value, list) else str(value)
        )
        return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 1]}…"

    return show


def _number(value: float) -> str:
    """Three digits after the point, fewer for large numbers."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3f}"


_COLUMNS: dict[str, Callable[[Result], list[Column]]] = {
    "success": _success,
    "pass_k": _pass_k,
    "compare": _compare,
    "differences": _differences,
    "factors": _factors,
    "triggers": _triggers,
    "hazard": _hazard,
    "by_step": _by_step,
    "manipulation": _manipulation,
    "continuity": _continuity,
    "rates": _rates,
}
