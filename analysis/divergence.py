"""Where two runs of a task part: the first action that differs, and what had differed before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from analysis.outcomes import columns, judged, task_of
from analysis.paired_actions import LEVELS, Level, parted
from analysis.pairing import pair_up
from analysis.results import Result
from analysis.survival import kaplan_meier
from loaders import Trajectories
from loaders.errors import DerailError

MIN_PAIRS: Final = 10


def first_divergence(
    runs: Trajectories,
    by: str = "arm",
    pair: Sequence[str] = ("task_id", "trial"),
    *,
    level: Level = "arguments",
    baseline: str | None = None,
) -> Result:
    """For each pair of runs of two arms, the first action that differs and what had differed before.

    ``level``: what makes two actions the same: the ``tool``; the tool and its ``target`` (files and
    addresses in the arguments, else the first argument); the tool and all ``arguments`` (order of keys and
    white space do not count).

    ``frame``, a row per pair: ``a``, ``b``, ``pair`` (its number), ``task``, ``trajectory_a``, ``trajectory_b``,
    ``success_a``, ``success_b``; ``place`` (actions done alike before they part, or in all where they do
    not), ``parts`` (``tool``, ``target`` or ``arguments``: the coarsest level at which the next action differs; ``one
    ends``; null: they do not part, or arguments are not logged there), ``step_a``, ``step_b`` of that action with ``tool_a``, ``tool_b``,
    ``arguments_a``, ``arguments_b``; then what is seen to differ up to there, null where the log can't
    tell: ``prompts_differ``, ``tools_differ``, ``environment_differs`` (model or framework),
    ``thinking_sent_differs`` (blocks that a request lacked), ``response_differs`` (to the same action, at
    ``response_place``), ``thinking_differs`` (the words thought before the action);
    ``first_difference``: the earliest of them that could have been a reason (prompts, tools,
    environment, thinking sent, response), or ``nothing seen``, as where chance alone parts two runs.

    ``runs(pair=3)`` opens both runs; roles are ``a`` and ``b``. Pairs are made as in ``ablation.compare``.
    ``together`` has the curve. Raises ``DerailError`` where nothing can be paired.

    >>> import loaders
    >>> def chat(path):
    ...     function = {"name": "read", "arguments": '{"path": "%s"}' % path}
    ...     call = {"id": path, "type": "function", "function": function}
    ...     return [{"role": "user", "content": "Look."}, {"role": "assistant", "tool_calls": [call]}]
    >>> runs = loaders.from_messages([chat("a.py"), chat("b.py")], task_id="t", arm=["x", "y"])
    >>> first_divergence(runs, pair=["task_id"]).frame.select("place", "parts", "first_difference").rows()
    [(0, 'target', 'nothing seen')]
    """
    _check(level)
    keys = columns(pair, runs)
    pairs = _between(runs, by, keys, baseline)
    frame = parted(runs, pairs, level)
    known = frame.filter(pl.col("parts").is_not_null())
    first = known["first_difference"].value_counts(sort=True)
    shown = frame.select("a", "b", "pair", a_id="trajectory_a", b_id="trajectory_b")
    members = pl.concat(
        shown.select(
            "a",
            "b",
            "pair",
            pl.col(f"{side}_id").alias("trajectory_id"),
            pl.lit(side).alias("role"),
        )
        for side in ("a", "b")
    )
    return Result(
        kind="first_divergence",
        title=f"Where pairs of {by!r} part, by {level}",
        frame=frame,
        method=f"The n-th call with tools of one run against the n-th of the other, by {level}; paired by "
        f"{', '.join(keys)}.",
        keys=("a", "b", "pair"),
        members=members,
        source=runs,
        warnings=tuple(_warnings(frame)),
        headline=_headline(frame, first),
    )  # fmt: skip


def together(
    runs: Trajectories,
    by: str = "arm",
    pair: Sequence[str] = ("task_id", "trial"),
    *,
    level: Level = "arguments",
    baseline: str | None = None,
) -> Result:
    """The share of pairs that still act alike after so many actions, between arms and inside each.

    Two runs of one arm part, too: by chance. Their curve (``a`` = ``b``; trials of a task two by two) is what
    the curve between arms must be held against.

    ``frame``: ``a``, ``b``, ``place`` (actions done), ``at_risk`` (pairs), ``parted`` at the next action,
    ``ended`` (both runs ended alike, or the log can't tell any further), ``together`` with ``low``, ``high`` (Kaplan-Meier, Greenwood
    clustered by task on the log-log scale; null for one task). Fewer than 10 pairs are left out.

    >>> import loaders
    >>> few = loaders.load("tests/inspect_logs/reasoning_{arm}.eval")
    >>> together(few, pair=["task_id"])
    Traceback (most recent call last):
    ...
    loaders.errors.DerailError: all and last (1); all and none (1) pairs; 10 are needed for a curve
    """
    _check(level)
    keys = columns(pair, runs)
    between = _between(runs, by, keys, baseline)
    pairs = pl.concat([between, _within(runs, by, between)])
    frame = parted(runs, pairs, level)
    parts: list[pl.DataFrame] = []
    small: list[str] = []
    for (a, b), group in frame.group_by("a", "b", maintain_order=True):
        if group.height < MIN_PAIRS:
            small.append(f"{a} and {b} ({group.height})")
            continue
        curve = kaplan_meier(
            group["place"].to_list(),
            group["parts"].is_not_null().to_list(),
            clusters=group.select(pl.coalesce("task", "trajectory_a")).to_series().to_list(),
        )
        parts.append(
            curve.select(
                pl.lit(a).alias("a"),
                pl.lit(b).alias("b"),
                pl.col("time").cast(pl.Int64).alias("place"),
                pl.col("at_risk").cast(pl.Int64),
                pl.col("events").alias("parted"),
                pl.col("censored").alias("ended"),
                pl.col("survival").alias("together"),
                *("low", "high"),
            )
        )
    if not parts:
        raise DerailError(f"{'; '.join(small) or 'no'} pairs; {MIN_PAIRS} are needed for a curve")
    members = pl.concat(
        frame.select(
            "a",
            "b",
            pl.col(f"trajectory_{side}").alias("trajectory_id"),
            pl.lit(side).alias("role"),
        )
        for side in ("a", "b")
    )
    warnings = [f"left out for fewer than {MIN_PAIRS} pairs: {'; '.join(small)}"] if small else []
    if not any(row["a"] == row["b"] for row in frame.select("a", "b").unique().to_dicts()):
        warnings.append(
            "No task has two runs of one arm: how soon chance alone parts runs can't be told."
        )
    return Result(
        kind="together",
        title=f"Pairs of {by!r} that still act alike, by {level}",
        frame=pl.concat(parts),
        method="Kaplan-Meier over actions done alike; pairs that end alike leave; 95 % bands clustered by task. Inside an arm, trials of a task two by two.",
        keys=("a", "b"),
        members=members.unique(maintain_order=True),
        source=runs,
        warnings=tuple(warnings),
    )  # fmt: skip


def _check(level: str) -> None:
    if level not in LEVELS:
        raise DerailError(f"no level {level!r}; there are {', '.join(LEVELS)}")


# ---------------------------------------------------------------------- pairs


def _runs_of(runs: Trajectories, by: str, keys: Sequence[str]) -> pl.DataFrame:
    columns(by, runs)
    success = judged(runs).select("run", "success")
    return (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col(by).is_not_null())
        .select("run", "trajectory_id", task_of(), *dict.fromkeys((by, *keys)))
        .collect()
        .join(success, on="run", how="left", maintain_order="left")
        .with_columns(pl.col(by).cast(pl.String))
        .sort("run")
    )


def _between(
    runs: Trajectories, by: str, keys: Sequence[str], baseline: str | None
) -> pl.DataFrame:
    table = _runs_of(runs, by, keys)
    arms = table[by].unique().sort().to_list()
    if len(arms) < 2:
        raise DerailError(
            f"{by!r} has {len(arms)} value{'s' * (len(arms) != 1)}; pairs need two arms"
        )
    first = baseline if baseline is not None else arms[0]
    if first not in arms:
        raise DerailError(f"no arm is called {first!r}; there are {', '.join(arms)}")
    parts = [
        _named(pair_up(table, by, first, arm, keys).pairs, first, arm)
        for arm in arms
        if arm != first
    ]
    pairs = pl.concat(parts)
    if pairs.is_empty():
        raise DerailError(
            f"no two runs of different arms share {list(keys)}: nothing can be paired"
        )
    return pairs.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int64))


def _named(pairs: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    return pairs.select(
        pl.lit(a).alias("a"),
        pl.lit(b).alias("b"),
        *("run_a", "run_b", "trajectory_id_a", "trajectory_id_b"),
        pl.col("task_a").alias("task"),
        *("success_a", "success_b"),
    )


def _within(runs: Trajectories, by: str, between: pl.DataFrame) -> pl.DataFrame:
    """Runs of one arm and task, two by two, so that each is in one pair."""
    table = _runs_of(runs, by, ()).with_columns(nth=pl.int_range(pl.len()).over(by, "task"))
    even = table.filter(pl.col("nth") % 2 == 0).with_columns(couple=pl.col("nth") // 2)
    odd = table.filter(pl.col("nth") % 2 == 1).with_columns(couple=pl.col("nth") // 2)
    couples = even.join(odd, on=[by, "task", "couple"], suffix="_b", maintain_order="left")
    offset = between.height
    return (
        couples.with_row_index("pair")
        .select(
            (pl.col("pair").cast(pl.Int64) + offset),
            pl.col(by).alias("a"),
            pl.col(by).alias("b"),
            pl.col("run").alias("run_a"),
            "run_b",
            pl.col("trajectory_id").alias("trajectory_id_a"),
            "trajectory_id_b",
            "task",
            pl.col("success").alias("success_a"),
            "success_b",
        )
        .select(between.columns)
    )


# ---------------------------------------------------------------------- in words


def _warnings(frame: pl.DataFrame) -> list[str]:
    warnings = [
        "What had differed before runs parted may be a reason and need not be: two runs of one arm part as well. See "
        "together()."
    ]
    unknown = frame["thinking_sent_differs"].null_count()
    if unknown:
        warnings.append(f"Of {unknown} pairs it is not known what thinking their requests held.")
    return warnings


def _headline(frame: pl.DataFrame, first: pl.DataFrame) -> str:
    parted: Any = frame.filter(pl.col("parts").is_not_null())
    if parted.is_empty():
        return f"None of {frame.height} pairs part."
    why = ", ".join(f"{name} {count}" for name, count in first.iter_rows())
    return (
        f"{parted.height} of {frame.height} pairs part, half of them after {parted['place'].median():g} actions; first "
        f"difference seen: {why}."
    )
