"""Read sources into tables: every one on its own, so that a bad one never stops the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from loaders.builder import Builder, Frames
from loaders.discovery import Found, Labels, PathLike, discover
from loaders.errors import LoadError, UnreadableRecord
from loaders.linking import (
    copies,
    linked,
    problems_with_copies,
    renamed,
    tools_of_all,
    unread_companions,
)
from loaders.logs import Group, are_known, collector_spared, raise_first, read_source, weight_of
from loaders.parallel import read_in_processes, shared_out
from loaders.progress import ProgressBar, progress_bar
from loaders.registry import Alike, Format, choose, formats, recognise
from loaders.schema import PROBLEMS, TABLES
from loaders.sources import Source
from loaders.trajectories import Trajectories, check_labels, with_labels
from loaders.workers import can_start_processes, cores

_PARALLEL_FROM_BYTES = 128 << 20
"""Of less, processes take as long to start as they save on two cores."""
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
    that takes more than a second. From 128 MB on a process for each core reads, a long file whose lines are
    runs or an archive of Inspect in parts; for what memory does not hold there is ``convert``.

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
    kinds = sort_out(found, candidates, named)
    if strict:
        raise_first(kinds.problems)
    groups = list(kinds.groups.values())
    tables = assemble(_read_all(groups, progress, strict), kinds.problems, kinds.companions)
    if tables["trajectories"].is_empty():
        raise LoadError(nothing_readable(what, tables["problems"]))
    tables["trajectories"] = labelled(
        tables["trajectories"], ((sources[0].name, labels) for _, sources, labels in groups)
    )
    return Trajectories.from_frames(tables)


# ---------------------------------------------------------------------- recognise and group


def grouped(
    paths: PathLike | Iterable[PathLike], format: str | ModuleType | None = None
) -> list[Group]:
    """The logs that ``load`` would read there: the format of each, its files and its labels."""
    kinds = sort_out(list(discover(paths)), choose(format), named=format is not None)
    return list(kinds.groups.values())


@dataclass
class Kinds:
    """What was found, by what it is.

    ``groups`` logs with their files, by format and bundle; ``companions`` files that belong to a log,
    with the name of its format; ``archives`` those that were opened, whose members are among these;
    ``problems`` what is no log, and why; ``places`` the file on disk for each name of these.
    """

    groups: dict[tuple[str, str], Group] = field(default_factory=dict[tuple[str, str], Group])
    companions: dict[str, str] = field(default_factory=dict[str, str])
    archives: list[str] = field(default_factory=list[str])
    problems: list[ProblemRow] = field(default_factory=list[ProblemRow])
    places: dict[str, Path] = field(default_factory=dict[str, Path])


def sort_out(found: list[Found], candidates: list[Format], named: bool) -> Kinds:
    """Recognise each source by its content, and open archives that are no log themselves."""
    kinds = Kinds()
    problems = kinds.problems
    queue = list(reversed(found))
    alike: Alike = {}
    while queue:
        item = queue.pop()
        source = item.source
        kinds.places[source.name] = source.path
        if item.problem is not None:
            problems.append((source.name, None, item.severity, item.problem, None, None))
            continue
        verdict = recognise(source, candidates, named, alike)
        if verdict.companion_of is not None:
            kinds.companions[source.name] = verdict.companion_of
        elif verdict.format is not None:
            key = (verdict.format.name, _bundle_of(verdict.format, source, problems))
            kinds.groups.setdefault(key, (verdict.format, [], item.labels))[1].append(source)
        elif source.member is None and _is_archive(source):
            kinds.archives.append(source.name)
            queue.extend(reversed(_members(item, problems)))
        else:
            problems.append((source.name, None, verdict.severity, verdict.reason, None, None))
        source.release()
    return kinds


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
    weights = [sum(weight_of(source) for source in sources) for _, sources, _ in groups]
    in_parallel = sum(weights) >= _PARALLEL_FROM_BYTES and not strict and are_known(groups)
    in_parallel = in_parallel and cores() > 1 and can_start_processes()
    with progress_bar(sum(weights), progress) as bar:
        shared = shared_out(groups, weights) if in_parallel else []
        if len(shared) > 1:
            yield from read_in_processes(shared, bar.update)
        else:
            yield _read_here(groups, weights, bar, strict)


def _read_here(groups: list[Group], weights: list[int], bar: ProgressBar, strict: bool) -> Frames:
    builder = Builder()
    with collector_spared():
        for (chosen, sources, _), weight in zip(groups, weights, strict=True):
            with bar.share(weight) as advance:
                for source in sources:
                    source.advance = advance
                read_source(chosen, sources, builder, strict)
        return builder.frames()


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
    tools = collected.pop("tools", [])
    tables = {name: pl.concat(frames, how="vertical") for name, frames in collected.items()}
    tables["tools"] = tools_of_all([pl.DataFrame(schema=TABLES["tools"]), *tools])
    for name, schema in TABLES.items():
        if name not in tables:
            tables[name] = pl.DataFrame(schema=schema)
    read_along = tables.pop("companions", None)
    unread = unread_companions(
        companions or {}, [] if read_along is None else read_along["source"].to_list()
    )
    found_first = pl.DataFrame([*problems, *unread], schema=PROBLEMS, orient="row")
    tables["problems"] = pl.concat([found_first, tables["problems"]])
    return _with_parents(_with_unique_ids(tables))


def _with_unique_ids(tables: Frames) -> Frames:
    """Tell apart runs whose files have the same content, and warn: they count twice otherwise."""
    runs = tables["trajectories"]
    copied = copies(runs)
    if copied.is_empty():
        return tables
    tables["problems"] = problems_with_copies(tables["problems"], runs, copied)
    for name in ("trajectories", "steps", "events"):
        table = renamed(tables[name].lazy(), copied).collect()
        tables[name] = table.with_columns(pl.col("run").set_sorted())
    return tables


def _with_parents(tables: Frames) -> Frames:
    spawns, callers = tables.pop("spawns", None), tables.pop("callers", None)
    if spawns is None or callers is None:
        return tables
    events = tables["events"].lazy()
    tables["trajectories"] = linked(
        tables["trajectories"], spawns, callers, lambda runs: calls_of(events, runs)
    )
    return tables


def calls_of(events: pl.LazyFrame, runs: pl.Series) -> pl.DataFrame:
    """The tool calls of some runs."""
    return (
        events.filter(pl.col("kind") == "tool_call", pl.col("run").is_in(runs.implode()))
        .select("run", "seq", "call_id")
        .collect()
    )


def labelled(runs: pl.DataFrame, labels_of: Iterable[tuple[str, Labels]]) -> pl.DataFrame:
    """``runs`` with the labels that the path of each source gave."""
    rows = [{"source": name, **labels} for name, labels in labels_of if labels]
    if not rows:
        return runs
    names = sorted({name for row in rows for name in row if name != "source"})
    schema = {"source": pl.String, **dict.fromkeys(names, pl.String)}
    return with_labels(runs, pl.DataFrame(rows, schema=schema), ["source"])


# ---------------------------------------------------------------------- say what went wrong


def nothing_readable(what: str, problems: pl.DataFrame) -> str:
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
