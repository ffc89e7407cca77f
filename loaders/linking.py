"""What can be said of runs only when all of them are read: copies, subagents, unread companions.

Everything here works on the few narrow columns ``LINKED`` of the runs, so that it does for a store
what it does in memory.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from loaders.builder import short_id
from loaders.schema import PROBLEMS
from loaders.sources import Counted

LINKED = (
    "run",
    "trajectory_id",
    "native_id",
    "parent_id",
    "parent_seq",
    "source",
    "source_pos",
    "format",
)

_COUNTS = {"once": pl.String, "often": pl.String, "times": pl.Int64}
_NO_COPIES = pl.DataFrame(schema={"run": pl.Int64, "trajectory_id": pl.String, "new_id": pl.String})

Calls = Callable[[pl.Series], pl.DataFrame]
"""Gives the tool calls (``run seq call_id``) of the runs whose numbers it is given."""


def copies(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs whose files have the same content as an earlier one's, and the id that tells them apart.

    ``runs`` has ``run`` and ``trajectory_id``; returns ``run``, ``trajectory_id``, ``new_id``.
    """
    if runs["trajectory_id"].n_unique() == runs.height:
        return _NO_COPIES
    copied = runs.select(
        "run", "trajectory_id", copy=pl.int_range(pl.len()).over("trajectory_id")
    ).filter(pl.col("copy") > 0)
    ids = [short_id(row["trajectory_id"], str(row["copy"])) for row in copied.to_dicts()]
    return copied.select("run", "trajectory_id", new_id=pl.Series(ids, dtype=pl.String))


def renamed(table: pl.LazyFrame, copied: pl.DataFrame) -> pl.LazyFrame:
    """A table with ``run`` and ``trajectory_id`` in which the copies have their new ids."""
    new_ids = copied.lazy().select("run", "new_id")
    return (
        table.join(new_ids, on="run", how="left", maintain_order="left")
        .with_columns(pl.coalesce("new_id", "trajectory_id").alias("trajectory_id"))
        .drop("new_id")
    )


def problems_with_copies(
    problems: pl.DataFrame, runs: pl.DataFrame, copied: pl.DataFrame
) -> pl.DataFrame:
    """The problems under the copies' new ids, and a warning for each copy: it counts twice.

    ``runs`` as they were before ``renamed``, with ``LINKED``.
    """
    if copied.is_empty():
        return problems
    there = runs.join(copied.select("run", "new_id"), on="run", maintain_order="left")
    warnings = there.select(
        "source",
        pl.col("source_pos").alias("position"),
        pl.lit("warning").cast(PROBLEMS["severity"]).alias("severity"),
        pl.format("same content as run {}, loaded twice", "trajectory_id").alias("reason"),
        "format",
        pl.col("new_id").alias("trajectory_id"),
    )
    known = (
        problems.join(
            there.select("source", "trajectory_id", "new_id"),
            on=["source", "trajectory_id"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.coalesce("new_id", "trajectory_id").alias("trajectory_id"))
        .drop("new_id")
    )
    return pl.concat([known, warnings])


def linked(
    runs: pl.DataFrame, spawns: pl.DataFrame, callers: pl.DataFrame, calls: Calls
) -> pl.DataFrame:
    """``runs`` (at least ``LINKED``) with ``parent_id`` and ``parent_seq`` of subagents.

    ``spawns`` and ``callers`` as in ``loaders.schema``.
    """
    return _with_callers(_with_parents(runs, spawns), callers, calls)


def tools_of_all(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The tools of several sets of runs, each offer as it was first told.

    The same offer may be told with the keys of its parameters in another order.
    """
    parts = [*parts]
    filled = [part for part in parts if not part.is_empty()]
    if not filled:
        return parts[0]
    if len(filled) == 1:
        return filled[0].unique(maintain_order=True)
    numbered = [part.with_columns(part=pl.lit(number)) for number, part in enumerate(filled)]
    return (
        pl.concat(numbered)
        .filter(pl.col("part") == pl.col("part").min().over("toolset"))
        .drop("part")
        .unique(maintain_order=True)
    )


def unread_companions(
    companions: dict[str, str], read_along: Iterable[str]
) -> Iterator[tuple[Any, ...]]:
    """A warning, as a row of ``problems``, for each companion file that no log was read along with.

    ``companions`` by name with their format's name; ``read_along`` normalized names.
    """
    known = set(read_along)
    for name, format_name in companions.items():
        if os.path.normpath(name) not in known:
            reason = f"belongs to a {format_name} log that was not loaded with it"
            yield (name, None, "warning", reason, format_name, None)


def _with_parents(runs: pl.DataFrame, spawns: pl.DataFrame) -> pl.DataFrame:
    """Link subagents' runs to the event that started them, by native id within a format.

    Where several runs started one of that id, the nearest is meant: in the same file, else in the
    same folder, else in the one above it.
    """
    if spawns.is_empty():
        return runs
    started = spawns.join(runs.select("run", "trajectory_id", "source"), on="run")
    starters: dict[tuple[str, str, str], dict[int, tuple[str, int]]] = defaultdict(dict)
    for row in started.sort("run", "seq").iter_rows(named=True):
        for place in _places(row["source"]):
            runs_there = starters[row["format"], row["child_native_id"], place]
            if len(runs_there) < 2:  # a second one, should the first be the child itself
                runs_there.setdefault(row["run"], (row["trajectory_id"], row["seq"]))
    children = runs.select("run", "format", "native_id", "source").filter(
        pl.col("native_id").is_in(spawns["child_native_id"].unique().implode())
    )
    found: list[tuple[int, str, int]] = []
    for row in children.iter_rows(named=True):
        for place in _places(row["source"]):
            runs_there = starters.get((row["format"], row["native_id"], place), {})
            parent = next((event for run, event in runs_there.items() if run != row["run"]), None)
            if parent is not None:
                found.append((row["run"], *parent))
                break
    parents = pl.DataFrame(
        found, schema={"run": pl.Int64, "parent": pl.String, "parent_at": pl.Int64}, orient="row"
    )
    return (
        runs.join(parents, on="run", how="left", maintain_order="left")
        .with_columns(
            parent_seq=pl.when(pl.col("parent_id").is_null())
            .then(pl.coalesce("parent_seq", "parent_at"))
            .otherwise("parent_seq"),
            parent_id=pl.coalesce("parent_id", "parent"),
        )
        .select(runs.columns)
    )


def _with_callers(runs: pl.DataFrame, callers: pl.DataFrame, calls: Calls) -> pl.DataFrame:
    """Link runs that name the run that started them; of several of that name the nearest is meant."""
    if callers.is_empty():
        return runs
    wanted = pl.col("native_id").is_in(callers["parent_native_id"].unique().implode())
    nearest: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    columns = ("run", "trajectory_id", "format", "native_id", "source")
    for run, identity, format_name, name, source in runs.filter(wanted).select(columns).iter_rows():
        for place in _places(source):
            nearest[format_name, name, place].append((run, identity))
    found: list[tuple[int, int, str, str | None]] = []
    for row in callers.join(runs.select("run", "source"), on="run").iter_rows(named=True):
        for place in _places(row["source"]):
            there = nearest.get((row["format"], row["parent_native_id"], place), [])
            parent = next((parent for parent in there if parent[0] != row["run"]), None)
            if parent is not None:
                found.append((row["run"], *parent, row["call_id"]))
                break
    if not found:
        return runs
    schema = {"run": pl.Int64, "caller": pl.Int64, "parent": pl.String, "call_id": pl.String}
    parents = pl.DataFrame(found, schema=schema, orient="row").unique("run", maintain_order=True)
    answering = (
        calls(parents["caller"].unique())
        .group_by(caller="run", call_id="call_id")
        .agg(parent_at=pl.col("seq").min())
    )
    started = parents.join(answering, on=["caller", "call_id"], how="left")
    return (
        runs.join(started, on="run", how="left", maintain_order="left")
        .with_columns(
            parent_seq=pl.coalesce("parent_seq", "parent_at"),
            parent_id=pl.coalesce("parent_id", "parent"),
        )
        .select(runs.columns)
    )


def _places(source: str) -> Iterator[str]:
    """A source and the folders around it, from the inside out."""
    yield source
    yield from (str(folder) for folder in PurePosixPath(source).parents)


def with_counts(problems: pl.DataFrame, counted: Mapping[int, Counted]) -> pl.DataFrame:
    """Problems with how to say how often each was, where it was counted, which ``counted_together`` adds up."""
    times = [counted.get(place) for place in range(problems.height)]
    columns = {name: [one and getattr(one, name) for one in times] for name in Counted._fields}
    return problems.hstack(pl.DataFrame(columns, schema=_COUNTS))


def counted_together(told: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Problems of several readings, ``with_counts``; what was counted in parts of a file is told once."""
    empty = pl.DataFrame(schema={**PROBLEMS, **_COUNTS})
    rows = pl.concat([empty, *told], how="diagonal").with_row_index("place")
    same = ("source", "format", "often")
    counted = rows.filter(pl.col("often").is_not_null()).group_by(same, maintain_order=True)
    together = counted.agg(pl.exclude("times").first(), pl.col("times").sum())
    reasons = [str(Counted(*row)) for row in together.select(*Counted._fields).iter_rows()]
    together = together.with_columns(reason=pl.Series(reasons, dtype=pl.String))
    rest = rows.filter(pl.col("often").is_null())
    return pl.concat([rest, together.select(rest.columns)]).sort("place").drop("place")
