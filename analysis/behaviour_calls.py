"""Signals of behaviour of each tool call: what it repeats, and whether that leads anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from analysis.behaviour_events import CALL, SEQ, STEP, Look
from analysis.behaviour_rules import TARGET, entities
from analysis.neighbours import in_a_row, is_neighbour, so_far

STUCK_SAME: Final = 4
STUCK_ERROR: Final = 3
ALTERNATION: Final = 6

_OF_CALLS = ("repeat", "stuck_same", "stuck_error", "alternation")


def calls_in(seen: Look, window: int, ignore: Sequence[str]) -> pl.DataFrame:
    """The columns of ``behaviour.calls``, of a part of the runs; with ``base``, see ``Look``."""
    is_call = pl.col("kind") == "tool_call"
    ignored = pl.col("tool").is_in(list(ignore)).fill_null(value=False)
    turn = so_far(pl.col("kind") == "user").cast(pl.UInt32)
    table = (
        seen.events.select(
            *("run", "base", "seq", "step", "kind", "tool", "arguments"), turn.alias("turn")
        )
        .filter(is_call & ~ignored)
        .with_columns(SEQ.alias("at"))
        .pipe(_with_action)
        .join(_answers(seen), on="at", how="left", maintain_order="left")
    )
    acts = pl.col("action").is_not_null()
    knows = acts & pl.col("observation").is_not_null()
    return table.with_columns(
        pl.when(acts).then(_among_the_last(window, table)).alias("repeat"),
        pl.when(knows).then(pl.struct("action", "observation").hash()).alias("pair"),
        pl.when("error").then("action").alias("failing"),
    ).select(
        *("run", "seq", "step", "turn", "tool", "action", "observation", "error", "repeat"),
        pl.when(knows).then(_times_in_a_row("pair") >= STUCK_SAME).alias("stuck_same"),
        pl.when(acts & pl.col("error").is_not_null())
        .then(_times_in_a_row("failing") >= STUCK_ERROR)
        .alias("stuck_error"),
        pl.when(knows).then(_alternates()).alias("alternation"),
        *("arguments", "base"),
    )


def _answers(seen: Look) -> pl.DataFrame:
    """The response to each call: ``at`` (number of the call), ``observation``, ``error``."""
    wrong = seen.wrong.select((pl.col("base") + pl.col("at")).alias("told_at"), "error").unique()
    return (
        seen.events.filter(pl.col("kind") == "tool_result", pl.col("call_seq").is_not_null())
        .select(CALL.alias("at"), SEQ.alias("told_at"), "observation")
        .join(wrong, on="told_at", how="left", maintain_order="left")
        .group_by("at")
        .agg(pl.col("observation").last(), pl.col("error").fill_null(value=False).any())
    )


def normal_action() -> pl.Expr:
    """Tool and arguments as one number; keys of a flat object are sorted, a nested one stays in order."""
    tight = _tight()
    inner = _inner(tight)
    is_flat = tight.str.starts_with("{") & ~inner.str.contains(_NESTED)
    return _number(pl.when(is_flat).then(_by_key(inner)).otherwise(tight))


_NESTED = r"[\[\]{}]"


def _tight() -> pl.Expr:
    return (
        pl.col("arguments")
        .str.strip_chars()
        .str.replace_all(r'"\s*:\s+', '":')
        .str.replace_all(r',\s+"', ',"')
        .str.replace_all(r"^\{\s+", "{")
        .str.replace_all(r"\s+\}$", "}")
    )


def _inner(tight: pl.Expr) -> pl.Expr:
    return tight.str.strip_prefix("{").str.strip_suffix("}")


def _by_key(inner: pl.Expr) -> pl.Expr:
    keys = inner.str.replace_all(r',("\w+":)', "\x1f${1}").str.split("\x1f").list.sort()
    return keys.list.join("\x1f")


def _number(normal: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.col("tool").fill_null(""), pl.lit("\x1f"), normal).hash()


def _with_action(table: pl.DataFrame) -> pl.DataFrame:
    """Add ``action``, the ``normal_action``: what is alike is looked at once, and only several keys are sorted."""
    alike = ["tool", "arguments"]
    pairs = (
        table.select(alike)
        .unique()
        .with_columns(_tight().alias("tight"))
        .with_columns(_inner(pl.col("tight")).alias("inner"))
        .with_columns(
            (pl.col("tight").str.starts_with("{") & ~pl.col("inner").str.contains(_NESTED))
            .fill_null(value=False)
            .alias("is_flat")
        )
    )
    has_several = pl.col("is_flat") & pl.col("inner").str.contains(',"', literal=True)
    has_several = has_several.fill_null(value=False)
    several = pairs.filter(has_several).select(*alike, action=_number(_by_key(pl.col("inner"))))
    normal = pl.when("is_flat").then("inner").otherwise("tight")
    others = pairs.filter(~has_several).select(*alike, action=_number(normal))
    actions = pl.concat([several, others])
    return table.join(actions, on=alike, how="left", nulls_equal=True, maintain_order="left")


def _among_the_last(window: int, table: pl.DataFrame) -> pl.Series:
    """Whether each call's action is among those of the ``window`` calls before it in its run."""
    run = table["run"].to_numpy()
    action = table["action"].fill_null(0).to_numpy()
    order = np.lexsort((action, run))  # stable: rows of the same run and action stay in their order
    same = (run[order][1:] == run[order][:-1]) & (action[order][1:] == action[order][:-1])
    known = table["action"].is_not_null().to_numpy()[order]
    is_near = np.diff(order) <= window
    again = np.zeros(table.height, dtype=bool)
    again[order[1:]] = same & is_near & known[1:] & known[:-1]
    return pl.Series(again)


def _times_in_a_row(column: str) -> pl.Expr:
    """How often this value stood in a row, up to this call, within a user turn; 1 for a null."""
    return in_a_row(is_neighbour(1, "turn", column))


def _alternates() -> pl.Expr:
    """Whether the calls up to this one, in its turn, alternate between two pairs that differ."""
    pair = pl.col("pair")
    same = [pair.shift(n) == pair.shift(n + 2) for n in range(ALTERNATION - 2)]
    is_one_turn = is_neighbour(ALTERNATION - 1, "turn")
    return (is_one_turn & pl.all_horizontal(same) & (pair != pair.shift(1))).fill_null(value=False)


def signals_of_steps(calls: pl.DataFrame) -> pl.DataFrame:
    """The signals of calls by step: ``judged`` calls, whether one is so, and whether one brought something new."""
    targets = (
        calls.select("run", SEQ.alias("at"), entities(pl.col("arguments"), TARGET).alias("target"))
        .explode("target")
        .drop_nulls("target")
        .filter(pl.struct("run", "target").is_first_distinct())
    )
    unseen = pl.struct("run", "observation").is_first_distinct()
    is_new = (unseen & pl.col("observation").is_not_null()) | SEQ.is_in(targets["at"].implode())
    return (
        calls.select(STEP.alias("at_step"), *_OF_CALLS, is_new.alias("news"))
        .group_by("at_step")
        .agg(pl.len().alias("judged"), pl.col(*_OF_CALLS).max(), pl.col("news").any())
    )
