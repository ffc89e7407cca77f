"""Read sources into tables: every one on its own, so that a bad one never stops the others."""

from __future__ import annotations

import gc
import importlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import polars as pl

from loaders import archives
from loaders.builder import Builder, Frames, short_id
from loaders.discovery import Found, Labels, PathLike, discover
from loaders.errors import LoadError, UnreadableRecord
from loaders.registry import Format, choose, formats, recognise
from loaders.schema import PROBLEMS, TABLES
from loaders.sources import Source
from loaders.trajectories import Trajectories, check_labels, with_labels

_PARALLEL_FROM_BYTES = 192 << 20
_BATCH_BYTES = 32 << 20
_BYTES_PER_FILE = 64 << 10
"""What reading one more file costs, in bytes that could be read in that time."""

Group = tuple[Format, list[Source], Labels]
ProblemRow = tuple[str, str | None, str, str, str | None, str | None]


def load(
    paths: PathLike | Iterable[PathLike],
    format: str | ModuleType | None = None,
    *,
    strict: bool = False,
    progress: bool | None = None,
) -> Trajectories:
    """Read agent logs of any known format into one schema.

    ``paths``: a file, a folder, a glob (``runs/**/*.eval``), a template whose fields become columns
    (``runs/{arm}/{model}/*.json``; a field named like ``model`` or ``arm`` of the schema fills that
    column), or a list of these; all of them may go on inside zip archives. ``format``: a name out of
    ``available()``, or a module of your own, where detection by content is not wanted. ``strict``:
    raise at the first thing that can't be read. ``progress``: show a bar; by default for anything
    that takes more than a second.

    Returns ``Trajectories``. What could not be read is in its ``problems``: file, position, reason.

    Raises ``LoadError`` where nothing at all could be read, or at the first problem if ``strict``.

    >>> runs = load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> runs.trajectories.select("format").unique().collect().height > 0
    True
    """
    candidates = choose(format)
    found = list(discover(paths))
    check_labels({name for item in found for name in item.labels})
    is_named = format is not None
    return load_found(found, candidates, is_named, repr(paths), strict=strict, progress=progress)


def load_found(
    found: list[Found],
    candidates: list[Format],
    named: bool,
    what: str,
    *,
    strict: bool = False,
    progress: bool | None = None,
) -> Trajectories:
    """What ``load`` does with the sources that it found; ``what`` they are called in an error."""
    groups, companions, problems = _grouped(found, candidates, named)
    if strict:
        _raise_first(problems)
    tables = assemble(_read_all(groups, progress, strict), problems, companions)
    if tables["trajectories"].is_empty():
        raise LoadError(_nothing_readable(what, tables["problems"]))
    tables["trajectories"] = _labelled(tables["trajectories"], groups)
    return Trajectories.from_frames(tables)


# ---------------------------------------------------------------------- recognise and group


def grouped(
    paths: PathLike | Iterable[PathLike], format: str | ModuleType | None = None
) -> list[Group]:
    """The logs that ``load`` would read there: the format of each, its files and its labels."""
    return _grouped(list(discover(paths)), choose(format), named=format is not None)[0]


def _grouped(
    found: list[Found], candidates: list[Format], named: bool
) -> tuple[list[Group], dict[str, str], list[ProblemRow]]:
    """Logs with their files; companions with their format's name; what is no log, and why."""
    groups: dict[tuple[str, str], Group] = {}
    companions: dict[str, str] = {}
    problems: list[ProblemRow] = []
    queue = list(reversed(found))
    while queue:
        item = queue.pop()
        source = item.source
        if item.problem is not None:
            problems.append((source.name, None, item.severity, item.problem, None, None))
            continue
        verdict = recognise(source, candidates, named)
        if verdict.companion_of is not None:
            companions[source.name] = verdict.companion_of
        elif verdict.format is not None:
            key = (verdict.format.name, _bundle_of(verdict.format, source, problems))
            groups.setdefault(key, (verdict.format, [], item.labels))[1].append(source)
        elif source.member is None and _is_archive(source):
            queue.extend(reversed(_members(item, problems)))
        else:
            problems.append((source.name, None, verdict.severity, verdict.reason, None, None))
        source.release()
    return list(groups.values()), companions, problems


def _bundle_of(chosen: Format, source: Source, problems: list[ProblemRow]) -> str:
    """Under which key a source is one log together with others; by itself where there is none."""
    try:
        return chosen.bundle(source) if chosen.bundle else source.name
    except Exception as error:  # noqa: BLE001 - a hostile file must not stop the others
        reason = f"can't be put together with its other files: {type(error).__name__}: {error}"
        problems.append((source.name, None, "warning", reason, chosen.name, None))
        return source.name


def _is_archive(source: Source) -> bool:
    with suppress(OSError, UnreadableRecord):
        return source.head.is_zip
    return False


def _members(item: Found, problems: list[ProblemRow]) -> list[Found]:
    """The files inside a plain archive; a template names folders on disk, so labels are inherited."""
    archive, name = item.source.archive, item.source.name
    if archive.damage:
        problems.append((name, None, "error", archive.damage, None, None))
    problems.extend(
        (name, member, "warning", "stands in the archive twice; the last one is read", None, None)
        for member in archive.repeated
    )
    return [Found(Source(item.source.path, member), item.labels) for member in archive.names]


# ---------------------------------------------------------------------- read


def _read_all(groups: list[Group], progress: bool | None, strict: bool) -> Iterator[Frames]:
    weights = [sum(_weight(source) for source in sources) for _, sources, _ in groups]
    in_parallel = not strict and sum(weights) >= _PARALLEL_FROM_BYTES and _are_known(groups)
    with progress_bar(len(groups), progress) as bar:
        if in_parallel:
            for frames, count in _read_in_processes(groups, weights):
                bar.update(count)
                yield frames
        else:
            builder = Builder()
            for chosen, sources, _ in groups:
                read_source(chosen, sources, builder, strict)
                bar.update(1)
            yield builder.frames()


def _weight(source: Source) -> int:
    with suppress(OSError, UnreadableRecord):  # gone by now: reading it will say so
        return source.size + _BYTES_PER_FILE
    return 0


def _are_known(groups: list[Group]) -> bool:
    """Whether other processes know the formats too; a module of the user's own they might not."""
    return all(formats().get(chosen.name) is chosen for chosen, _, _ in groups)


def read_source(
    chosen: Format, parts: list[Source], builder: Builder, strict: bool = False
) -> None:
    """Read one log; whatever goes wrong becomes a problem and what came before it is kept.

    With ``strict`` the first error is raised as ``LoadError`` instead.
    """
    source = parts[0]
    source.parts = tuple(parts)
    known_problems = len(builder.problem_rows)
    builder.begin(source, chosen.name, chosen.logs_thinking)
    with builder.record(None):
        chosen.read(source, builder)
    if builder.runs_in_source == 0 and not builder.has_problem(source):
        builder.problem(None, f"recognised as {chosen.name}, but there is no run in it", "warning")
    builder.end()
    if strict:
        _raise_first(builder.problem_rows[known_problems:])


Task = list[tuple[str, list[tuple[Path, str | None]]]]


def _read_in_processes(groups: list[Group], weights: list[int]) -> Iterator[tuple[Frames, int]]:
    joblib: Any = importlib.import_module("joblib")

    batches: list[Task] = [[]]
    filled = 0
    for (chosen, sources, _), weight in zip(groups, weights, strict=True):
        if batches[-1] and filled + weight > _BATCH_BYTES:
            batches.append([])
            filled = 0
        batches[-1].append((chosen.name, [(part.path, part.member) for part in sources]))
        filled += weight
    limits = (archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES)
    tasks = (joblib.delayed(_read_batch)(batch, limits) for batch in batches)
    results = joblib.Parallel(n_jobs=joblib.cpu_count(), return_as="generator")(tasks)
    try:
        yield from zip(results, map(len, batches), strict=True)
    except BrokenProcessPool as error:
        raise LoadError(
            "A process that read logs was killed, most likely for lack of memory. Load fewer logs at a "
            "time and save() each set; or load(..., strict=True), which reads in one process."
        ) from error


def _read_batch(batch: Task, limits: tuple[int, int, int]) -> Frames:
    archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES = limits
    builder = Builder()
    gc.disable()  # it would search all rows again and again; this process does nothing else
    try:
        for name, parts in batch:
            read_source(formats()[name], [Source(path, member) for path, member in parts], builder)
        return builder.frames()
    finally:
        gc.enable()


def progress_bar(
    total: int, progress: bool | None, doing: str = "reading", unit: str = " logs"
) -> Any:
    """A bar that shows itself after a second; at once if ``progress``, never if that is False."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        unit=unit,
        desc=doing,
        delay=0 if progress else 1.0,
        disable=progress is False,
        leave=False,
    )


# ---------------------------------------------------------------------- put together


def assemble(
    parts: Iterable[Frames],
    problems: Iterable[tuple[Any, ...]] = (),
    companions: dict[str, str] | None = None,
) -> Frames:
    """One set of tables from several: runs numbered through, copies told apart, subagents linked.

    ``companions``: files that belong to a log, with the name of its format; a warning is left of
    those that were not read along with one.
    """
    offset = 0
    collected: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for frames in parts:
        for name, frame in frames.items():
            if "run" in frame.columns:
                frame = frame.with_columns((pl.col("run") + offset).set_sorted())
            collected[name].append(frame)
        offset += frames["trajectories"].height
    tables = {name: pl.concat(frames, how="vertical") for name, frames in collected.items()}
    for name, schema in TABLES.items():
        tables.setdefault(name, pl.DataFrame(schema=schema))
    unread = _unread_companions(companions or {}, tables.pop("companions", None))
    found_first = pl.DataFrame([*problems, *unread], schema=PROBLEMS, orient="row")
    tables["problems"] = pl.concat([found_first, tables["problems"]])
    tables["tools"] = tables["tools"].unique(maintain_order=True)
    return _with_callers(_with_parents(_with_unique_ids(tables)))


def _unread_companions(
    companions: dict[str, str], read_along: pl.DataFrame | None
) -> Iterator[ProblemRow]:
    read: list[str] = [] if read_along is None else read_along["source"].to_list()
    known = set(read)
    for name, format_name in companions.items():
        if os.path.normpath(name) not in known:
            reason = f"belongs to a {format_name} log that was not loaded with it"
            yield (name, None, "warning", reason, format_name, None)


def _with_unique_ids(tables: Frames) -> Frames:
    """Tell apart runs whose files have the same content, and warn: they count twice otherwise."""
    runs = tables["trajectories"]
    if runs["trajectory_id"].n_unique() == runs.height:
        return tables
    copies = runs.select(
        "run", "trajectory_id", copy=pl.int_range(pl.len()).over("trajectory_id")
    ).filter(pl.col("copy") > 0)
    ids = [short_id(row["trajectory_id"], str(row["copy"])) for row in copies.to_dicts()]
    renamed = copies.select("run", new_id=pl.Series(ids, dtype=pl.String))
    for name in ("trajectories", "steps", "events"):
        tables[name] = (
            tables[name]
            .join(renamed, on="run", how="left", maintain_order="left")
            .with_columns(pl.coalesce("new_id", "trajectory_id").alias("trajectory_id"))
            .drop("new_id")
            .with_columns(pl.col("run").set_sorted())
        )
    copied = runs.join(renamed, on="run", maintain_order="left")
    warnings = copied.select(
        "source",
        pl.col("source_pos").alias("position"),
        pl.lit("warning").cast(PROBLEMS["severity"]).alias("severity"),
        pl.format("same content as run {}, loaded twice", "trajectory_id").alias("reason"),
        "format",
        pl.col("new_id").alias("trajectory_id"),
    )
    problems = (
        tables["problems"]
        .join(
            copied.select("source", "trajectory_id", "new_id"),
            on=["source", "trajectory_id"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.coalesce("new_id", "trajectory_id").alias("trajectory_id"))
        .drop("new_id")
    )
    tables["problems"] = pl.concat([problems, warnings])
    return tables


def _with_parents(tables: Frames) -> Frames:
    """Link subagents' runs to the event that started them, by native id within a format.

    Where several runs started one of that id, the nearest is meant: in the same file, else in the
    same folder, else in the one above it.
    """
    spawns = tables.pop("spawns", None)
    if spawns is None or spawns.is_empty():
        return tables
    runs = tables["trajectories"]
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
    tables["trajectories"] = (
        runs.join(parents, on="run", how="left", maintain_order="left")
        .with_columns(
            parent_seq=pl.when(pl.col("parent_id").is_null())
            .then(pl.coalesce("parent_seq", "parent_at"))
            .otherwise("parent_seq"),
            parent_id=pl.coalesce("parent_id", "parent"),
        )
        .select(runs.columns)
    )
    return tables


def _with_callers(tables: Frames) -> Frames:
    """Link runs that name the run that started them; of several of that name the nearest is meant."""
    callers = tables.pop("callers", None)
    if callers is None or callers.is_empty():
        return tables
    runs = tables["trajectories"]
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
    schema = {"run": pl.Int64, "caller": pl.Int64, "parent": pl.String, "call_id": pl.String}
    parents = pl.DataFrame(found, schema=schema, orient="row").unique("run", maintain_order=True)
    calls = (
        tables["events"]
        .filter(pl.col("kind") == "tool_call", pl.col("run").is_in(parents["caller"].implode()))
        .group_by(caller="run", call_id="call_id")
        .agg(parent_at=pl.col("seq").min())
    )
    linked = parents.join(calls, on=["caller", "call_id"], how="left")
    tables["trajectories"] = (
        runs.join(linked, on="run", how="left", maintain_order="left")
        .with_columns(
            parent_seq=pl.coalesce("parent_seq", "parent_at"),
            parent_id=pl.coalesce("parent_id", "parent"),
        )
        .select(runs.columns)
    )
    return tables


def _places(source: str) -> Iterator[str]:
    """A source and the folders around it, from the inside out."""
    yield source
    yield from (str(folder) for folder in PurePosixPath(source).parents)


def _labelled(runs: pl.DataFrame, groups: list[Group]) -> pl.DataFrame:
    rows = [{"source": sources[0].name, **labels} for _, sources, labels in groups if labels]
    if not rows:
        return runs
    names = sorted({name for row in rows for name in row if name != "source"})
    schema = {"source": pl.String, **dict.fromkeys(names, pl.String)}
    return with_labels(runs, pl.DataFrame(rows, schema=schema), ["source"])


# ---------------------------------------------------------------------- say what went wrong


def _raise_first(problems: Iterable[tuple[Any, ...]]) -> None:
    for source, position, severity, reason, *_ in problems:
        if severity == "error":
            raise LoadError(f"{source}{f' at {position}' if position else ''}: {reason}")


def _nothing_readable(what: str, problems: pl.DataFrame) -> str:
    lines = [f"Nothing could be read from {what}."]
    for row in problems.sort("severity", maintain_order=True).head(5).iter_rows(named=True):
        place = f" at {row['position']}" if row["position"] else ""
        lines.append(f"  {row['source']}{place}: {row['reason']}")
    if problems.height > 5:
        lines.append(f"  ... and {problems.height - 5} more")
    lines.append(f"Known formats: {', '.join(formats())}.")
    lines.append(
        "If it is one of these, name it: load(path, format='...'). For a format of your own, write a "
        "module as in loaders/formats/_template.py and give it: load(path, format=my_module)."
    )
    return "\n".join(lines)
