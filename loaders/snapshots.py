"""One snapshot of a store out of its shards: what can be said only of all runs together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import msgspec
import polars as pl

from loaders.errors import LoadError
from loaders.linking import (
    LINKED,
    copies,
    counted_together,
    linked,
    problems_with_copies,
    renamed,
    tools_of_all,
    unread_companions,
)
from loaders.reading import calls_of, labelled, nothing_readable
from loaders.schema import CALLERS, PROBLEMS, SPAWNS, TOOLS, TRAJECTORIES
from loaders.stores import (
    SHARDS,
    Manifest,
    Piece,
    new_folder,
    pieces_of,
    publish,
    sink,
    table,
    told_as_errors,
)

_PER_RUN = ("steps", "events")


@dataclass
class _Shard:
    """A shard and which of its runs are part of the store."""

    name: str
    logs: list[int] = field(default_factory=list[int])
    dropped: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def publish_snapshot(
    folder: Path,
    logs: pl.DataFrame,
    others: pl.DataFrame,
    before: Manifest | None,
    *,
    given: list[str],
    next_shard: int,
) -> None:
    """Make these logs (``planning.LOGS``) and other files (``planning.OTHERS``) the store.

    Raises ``LoadError`` where there is no run among them and there was no store before,
    ``DerailError`` where the store can't be written.
    """
    shards = _shards(folder, logs)
    dropped = _runs_in(run for shard in shards for run in shard.dropped)
    told = pl.scan_parquet(files) if (files := _files(folder, shards, "trajectories")) else None
    told = pl.LazyFrame(schema=TRAJECTORIES) if told is None else told
    told = told.filter(~pl.col("run").is_in(dropped.implode()))
    runs = told.select(LINKED).collect()
    copied = copies(runs)
    problems = _problems(folder, shards, others, logs)
    problems = problems_with_copies(problems, runs, copied)
    if runs.is_empty() and before is None:
        raise LoadError(nothing_readable(", ".join(map(repr, given)), problems))
    runs = renamed(runs.lazy(), copied).collect()
    name = uuid4().hex[:12]
    manifest = Manifest(
        generation=before.generation + 1 if before else 1,
        shards=[shard.name for shard in shards],
        next_shard=next_shard,
        given=given,
    )
    with told_as_errors(folder):
        manifest.pieces = _pieces(folder, shards, copied, before)
        runs = linked(
            runs,
            _all(folder, shards, "spawns", SPAWNS, dropped),
            _all(folder, shards, "callers", CALLERS, dropped),
            lambda callers: calls_of(table(folder, manifest, "events", callers), callers),
        )
        tables = {
            "trajectories": _with_columns(told, _columns_of_all(told, runs, logs)),
            "tools": _tools(folder, shards, manifest).lazy(),
            "problems": problems.lazy(),
            "logs": logs.lazy(),
            "others": others.lazy(),
        }
        for kind, frame in tables.items():
            manifest.tables[kind] = f"tables/{kind}-{name}.parquet"
            sink(frame, folder / manifest.tables[kind])
    path = manifest.tables.pop("trajectories")
    first, last = (runs["run"][0], runs["run"][-1]) if runs.height else (0, 0)
    manifest.pieces["trajectories"] = [Piece(path, first, last, runs.height)]
    publish(folder, manifest, before)


# ---------------------------------------------------------------------- shards


def _shards(folder: Path, logs: pl.DataFrame) -> list[_Shard]:
    """The shards that hold runs of these logs, in the order of their runs."""
    shards: dict[str, _Shard] = {}
    for name, log in logs.sort("first_run").select("shard", "log").iter_rows():
        shards.setdefault(name, _Shard(name)).logs.append(log)
    for name, shard in shards.items():
        written = pl.read_parquet(folder / SHARDS / name / "logs.parquet")
        gone = written.filter(~pl.col("log").is_in(shard.logs), pl.col("runs") > 0)
        shard.dropped = list(gone.select("first_run", "runs").iter_rows())
    return list(shards.values())


def _runs_in(ranges: Iterable[tuple[int, int]]) -> pl.Series:
    numbers = [run for first, count in ranges for run in range(first, first + count)]
    return pl.Series("run", numbers, dtype=pl.Int64)


def _files(folder: Path, shards: list[_Shard], name: str) -> list[Path]:
    """The files of a table in all shards, in the order of their runs."""
    return [
        file
        for shard in shards
        for file in sorted((folder / SHARDS / shard.name).glob(f"{name}-*.parquet"))
    ]


def _all(
    folder: Path, shards: list[_Shard], name: str, schema: pl.Schema, dropped: pl.Series
) -> pl.DataFrame:
    frames = [pl.read_parquet(folder / SHARDS / shard.name / f"{name}.parquet") for shard in shards]
    return pl.concat([pl.DataFrame(schema=schema), *frames]).filter(
        ~pl.col("run").is_in(dropped.implode())
    )


def _pieces(
    folder: Path, shards: list[_Shard], copied: pl.DataFrame, before: Manifest | None
) -> dict[str, list[Piece]]:
    """The files of steps and events, of which those with runs dropped or renamed are made anew."""
    known = {p.path: p for listed in (before.pieces if before else {}).values() for p in listed}
    pieces: dict[str, list[Piece]] = {}
    for name in _PER_RUN:
        shard_of = {
            f"{SHARDS}/{shard.name}/{file.name}": shard
            for shard in shards
            for file in _files(folder, [shard], name)
        }
        new = pieces_of(folder, [path for path in shard_of if path not in known])
        all_known = known | {piece.path: piece for piece in new}
        changed = (
            _changed(folder, shard, all_known[path], copied) for path, shard in shard_of.items()
        )
        pieces[name] = [piece for piece in changed if piece.rows]
    return pieces


def _changed(folder: Path, shard: _Shard, piece: Piece, copied: pl.DataFrame) -> Piece:
    """The same piece without the dropped runs, and with the new ids of copies."""
    if copied.is_empty() and not shard.dropped:
        return piece
    dropped = [(a, n) for a, n in shard.dropped if a <= piece.last and a + n > piece.first]
    new_ids = copied.filter(pl.col("run").is_between(piece.first, piece.last))
    if not dropped and new_ids.is_empty():
        return piece
    told = msgspec.json.encode((dropped, new_ids.select("run", "new_id").rows()))
    digest = hashlib.blake2b(told, digest_size=6).hexdigest()
    file = piece.path.rpartition("/")[2]
    name = f"{shard.name}~{digest}-{file.removesuffix('.parquet')}"
    with new_folder(folder, name) as made:
        if made is not None:
            table = pl.scan_parquet(folder / piece.path)
            table = table.filter(~pl.col("run").is_in(_runs_in(dropped).implode()))
            sink(renamed(table, new_ids), made / file)
    return pieces_of(folder, [f"{SHARDS}/{name}/{file}"])[0]


# ---------------------------------------------------------------------- tables over all shards


def _problems(
    folder: Path, shards: list[_Shard], others: pl.DataFrame, logs: pl.DataFrame
) -> pl.DataFrame:
    told = [_alive_problems(folder, shard) for shard in shards]
    unread = unread_companions(_companions(others), _read_along(folder, shards, logs))
    return pl.concat(
        [
            others.filter(pl.col("severity").is_not_null()).select(
                pl.col("name").alias("source"),
                *("position", "severity", "reason", "format"),
                pl.lit(None, pl.String).alias("trajectory_id"),
            ),
            pl.DataFrame([*unread], schema=PROBLEMS, orient="row"),
            counted_together(told).select(*PROBLEMS),
        ]
    )


def _alive_problems(folder: Path, shard: _Shard) -> pl.DataFrame:
    frame = pl.read_parquet(folder / SHARDS / shard.name / "problems.parquet")
    return frame.filter(pl.col("log").is_in(shard.logs)).drop("log")


def _companions(others: pl.DataFrame) -> dict[str, str]:
    return dict(others.drop_nulls("companion_of").select("name", "companion_of").iter_rows())


def _read_along(folder: Path, shards: list[_Shard], logs: pl.DataFrame) -> set[str]:
    files = [folder / SHARDS / shard.name / "companions.parquet" for shard in shards]
    return set(pl.read_parquet(files)["source"]) if files else set()


def _columns_of_all(told: pl.LazyFrame, runs: pl.DataFrame, logs: pl.DataFrame) -> pl.DataFrame:
    """What is known of each run only now: its id, what started it, and the labels of its path."""
    labels: list[tuple[str, dict[str, str]]] = [
        (name, msgspec.json.decode(text))
        for name, text in logs.select("name", "labels").unique(maintain_order=True).iter_rows()
    ]
    named = sorted({label for _, labels_of in labels for label in labels_of})
    fillable = [name for name in named if name in TRAJECTORIES]
    known = told.select("run", *fillable).collect()
    runs = runs.select("run", "source", "trajectory_id", "parent_id", "parent_seq")
    runs = runs.join(known, on="run", how="left", maintain_order="left")
    return labelled(runs, labels).drop("source")


def _with_columns(told: pl.LazyFrame, columns: pl.DataFrame) -> pl.LazyFrame:
    """The trajectories with these columns, in the order of the schema."""
    new = [name for name in columns.columns if name not in TRAJECTORIES]
    replaced = [name for name in columns.columns if name in TRAJECTORIES and name != "run"]
    return (
        told.drop(replaced)
        .join(columns.lazy(), on="run", how="left", maintain_order="left")
        .select(*TRAJECTORIES, *new)
    )


def _tools(folder: Path, shards: list[_Shard], manifest: Manifest) -> pl.DataFrame:
    """Every offer of tools once; of a shard with dropped logs, those that a run still has."""
    frames = [pl.DataFrame(schema=TOOLS)]
    for shard in shards:
        frame = pl.read_parquet(folder / SHARDS / shard.name / "tools.parquet")
        if shard.dropped and frame.height:
            frame = frame.join(
                _offers(folder, shard), on="toolset", how="semi", maintain_order="left"
            )
        frames.append(frame)
    return tools_of_all(frames)


def _offers(folder: Path, shard: _Shard) -> pl.DataFrame:
    dropped = _runs_in(shard.dropped).implode()
    offers = [
        pl.scan_parquet(file).filter(~pl.col("run").is_in(dropped)).select("toolset")
        for name in ("trajectories", "steps")
        for file in _files(folder, [shard], name)
    ]
    return (
        pl.concat(offers).unique().collect()
        if offers
        else pl.DataFrame(schema={"toolset": pl.String})
    )
