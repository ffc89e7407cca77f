"""Logs into a store: what is new or changed is read in processes, then one snapshot takes it in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import polars as pl

from loaders import archives
from loaders.columns import frame_of_records
from loaders.discovery import PathLike, discover, pattern_of
from loaders.errors import DerailError
from loaders.logs import Log, are_known, collector_spared, logs_of, weight_of
from loaders.planning import LOGS, OTHERS, Plan, Row, labels_as_json, plan
from loaders.progress import ProgressBar, progress_bar
from loaders.ranges import Part, Told, true_parts
from loaders.reading import labelled
from loaders.registry import choose
from loaders.schema import SCHEMA_VERSION, TRAJECTORIES
from loaders.shards import (
    LINES_DEPEND,
    RUNS_PER_SHARD,
    Task,
    state_of,
    try_log,
    write_shard,
)
from loaders.shares import by_weight
from loaders.snapshots import publish_snapshot
from loaders.stores import (
    LAYOUT,
    SHARDS,
    Manifest,
    OtherVersion,
    clear_unfinished,
    manifest_of,
    table,
    writing_into,
)
from loaders.trajectories import Trajectories, check_labels, scan
from loaders.workers import Work, can_start_processes, in_processes, starting_processes

_BYTES_PER_SHARD = 64 << 20
_SHARDS_TO_SHARE = 16
"""So many and more keep all processes busy to the end; of fewer, one would wait for another's last."""
_IN_THIS_PROCESS_BELOW = 32 << 20
"""What starting processes would take longer than reading."""


def convert(
    src: PathLike | Iterable[PathLike],
    store: PathLike,
    executor: Executor | None = None,
    resume: bool = True,
    *,
    progress: bool | None = None,
    format: str | ModuleType | None = None,
) -> Trajectories:
    """Read agent logs of any size into a store of Parquet files, which ``scan`` opens.

    ``src`` and ``format`` as in ``load``. Logs that the store has already, unchanged, are not read
    again; the runs of those that changed are replaced; logs that are gone keep their runs. A
    conversion that was stopped, even by a power cut, goes on where it was when it is called again;
    readers see the store as it was before until all is done. ``resume=False`` reads everything anew.

    ``executor``: any of ``concurrent.futures``, Dask's among them, whose workers see the same files;
    by default a process for each core. A log that kills its process is a row of ``problems``.

    Returns the store as ``Trajectories``, like ``scan(store)``: what ``load(src)`` would hold, with
    the absolute paths of the logs and other numbers of ``run``.

    Raises ``LoadError`` where nothing could be read, ``DerailError`` where the store can't be written,
    is no store, or another process writes into it.

    >>> import loaders, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logs = "sample_logs/study/*/planner-1/inspect/timeout.eval"
    ...     runs = loaders.convert(logs, f"{folder}/store")
    ...     again = loaders.convert(logs, f"{folder}/store")  # reads nothing
    ...     again.ids == runs.ids == loaders.load(logs).ids
    True
    """
    folder = Path(os.path.abspath(Path(store).expanduser()))  # noqa: PTH100 - links stay
    candidates = choose(format)
    given = [os.path.abspath(pattern_of(path)) for path in _listed(src)]  # noqa: PTH100
    own = f"{folder}{os.sep}"
    found = [item for item in discover(given) if not str(item.source.path).startswith(own)]
    check_labels({name for item in found for name in item.labels})
    with writing_into(folder), ExitStack() as until_the_end:
        before = _present(folder)
        clear_unfinished(folder, None if resume else before)
        is_new = executor is None and before is None
        if is_new and not _is_read_here(sum(weight_of(item.source) for item in found)):
            executor = until_the_end.enter_context(starting_processes())
        logs, others = _bookkeeping(folder, before if resume else None)
        todo = plan(found, logs, others, candidates, named=format is not None)
        _check_values_of_labels(todo)
        if before is None or not resume or todo.has_news(logs, others):
            first_shard = before.next_shard if before else 0
            read = _read(folder, todo, first_shard, executor, progress)
            rows = frame_of_records([*todo.kept, *read], LOGS)
            others = frame_of_records(todo.others, OTHERS)
            next_shard = max(
                [first_shard, *(int(row["shard"].partition("-")[0]) + 1 for row in read)]
            )
            publish_snapshot(
                folder, rows.sort("first_run"), others, before, given=given, next_shard=next_shard
            )
    return scan(folder)


def _listed(src: Any) -> list[PathLike]:
    return [src] if isinstance(src, str | os.PathLike) else list(src)


def _present(folder: Path) -> Manifest | None:
    """The snapshot to go on from; none where there is none, or one of an older schema."""
    try:
        before = manifest_of(folder)
    except OtherVersion as error:
        if error.is_newer:
            raise
        return None
    if before is not None and not before.is_converted:
        raise DerailError(
            f"{folder} was written by save(), which does not keep what logs its runs come from; give "
            "another folder"
        )
    return before


def _is_read_here(weight: int) -> bool:
    """Whether processes would take longer to start than to read so many bytes, or can't be started."""
    return weight < _IN_THIS_PROCESS_BELOW or not can_start_processes()


def _bookkeeping(folder: Path, before: Manifest | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    if before is None:
        return pl.DataFrame(schema=LOGS), pl.DataFrame(schema=OTHERS)
    return table(folder, before, "logs").collect(), table(folder, before, "others").collect()


def _check_values_of_labels(todo: Plan) -> None:
    """Raise ``LoadError`` for a value that its column can't hold, before hours of reading."""
    labels = [labels for _, (_, _, labels) in todo.logs]
    names = [str(number) for number in range(len(labels))]
    empty = pl.DataFrame({"source": names}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in TRAJECTORIES.items() if name != "source"
    )
    labelled(empty, zip(names, labels, strict=True))


# ---------------------------------------------------------------------- read


def _read(
    folder: Path,
    todo: Plan,
    first_shard: int,
    executor: Executor | None,
    progress: bool | None,
) -> list[Row]:
    """Write the shards of what is to be read; returns the rows of ``LOGS`` of their logs."""
    groups = [group for _, group in todo.logs]
    sizes = [sum(map(weight_of, sources)) for _, sources, _ in groups]
    known = {chosen.name: chosen for chosen, _, _ in groups}
    is_here = executor is None and _is_read_here(sum(sizes))
    is_here = is_here or not are_known(groups)
    per_shard = _BYTES_PER_SHARD if is_here else _bytes_per_shard(sum(sizes))
    logs = logs_of(groups, sizes, per_shard, in_parts=not is_here)
    tasks: list[_Planned] = []
    weights = [weight for _, _, weight in logs]
    for batch in by_weight(weights, per_shard, is_shared=not is_here):
        read_by = [logs[place][:2] for place in batch]
        tasks.append(_planned(folder, first_shard + len(tasks), read_by))

    def write(planned: Sequence[_Planned], bar: ProgressBar) -> None:
        only_tasks = [task for task, _ in planned]
        for task in only_tasks:
            _remove_if_stale(folder / SHARDS / task.name)
        if is_here:
            done: Iterator[tuple[int, str]] = (
                (number, write_shard(task, {}, known.__getitem__))
                for number, task in enumerate(only_tasks)
            )
        else:
            work = Work[Task, str](write_shard, lambda task: len(task.logs), try_log)
            done = in_processes(work, only_tasks, executor)
        for number, _ in done:
            bar.update(sum(_bytes_of(log, sizes[i]) for log, i in _logs_of(planned[number])))

    with collector_spared(), progress_bar(sum(sizes), progress, "converting") as bar:
        write(tasks, bar)
        tasks, again = _with_true_numbers(folder, tasks)
        write(again, bar)
    rows: list[Row] = []
    for task, numbers in tasks:
        for row, number in zip(_written(folder, task), numbers, strict=True):
            (format_name, bundle), (_, sources, labels) = todo.logs[number]
            row.pop(LINES_DEPEND, None)
            row |= {"shard": task.name, "format": format_name, "bundle": bundle}
            row |= {"name": sources[0].name, "labels": labels_as_json(labels)}
            row["parts"] = [
                {"path": source.path.as_posix(), "member": source.member} for source in sources
            ]
            rows.append(row)
    return rows


_Planned = tuple[Task, list[int]]
"""A task and the numbers of its logs among all that is read."""


def _planned(folder: Path, number: int, logs: Sequence[tuple[int, Log]]) -> _Planned:
    return _task(folder, number, [log for _, log in logs]), [number for number, _ in logs]


def _logs_of(planned: _Planned) -> Iterable[tuple[Log, int]]:
    return zip(planned[0].logs, planned[1], strict=True)


def _bytes_of(log: Log, size: int) -> int:
    return size if log.only is None else log.only.weight


def _written(folder: Path, task: Task) -> list[Row]:
    return pl.read_parquet(folder / SHARDS / task.name / "logs.parquet").to_dicts()


def _bytes_per_shard(size_of_all: int) -> int:
    """Half or a quarter of the usual where there is little to share out.

    In such steps, so that a conversion that goes on after some more logs came finds its shards.
    """
    halvings = (size_of_all * 2 <= _SHARDS_TO_SHARE * _BYTES_PER_SHARD) + (
        size_of_all * 4 <= _SHARDS_TO_SHARE * _BYTES_PER_SHARD
    )
    return _BYTES_PER_SHARD >> halvings


def _with_true_numbers(
    folder: Path, tasks: list[_Planned]
) -> tuple[list[_Planned], list[_Planned]]:
    """The tasks as they should have been, now that all is read once, and those to be done (again)."""
    tasks_of: dict[int, list[Task]] = {}
    for task, numbers in tasks:
        if task.logs[0].only is not None:
            tasks_of.setdefault(numbers[0], []).append(task)
    instead: dict[str, _Planned | None] = {}
    for number, of_log in tasks_of.items():
        parts = [part for task in of_log if (part := task.logs[0].only) is not None]
        true = true_parts(parts, [_told(folder, task) for task in of_log])
        if true is None:  # the first task reads the log as a whole
            first = of_log[0]
            instead |= dict.fromkeys(task.name for task in of_log)
            instead[first.name] = _instead(folder, first, number, None)
            continue
        for task, part, true_part in zip(of_log, parts, true, strict=True):
            if part != true_part:
                instead[task.name] = _instead(folder, task, number, true_part)
    true_tasks = [instead.get(planned[0].name, planned) for planned in tasks]
    return (
        [planned for planned in true_tasks if planned is not None],
        [planned for planned in instead.values() if planned is not None],
    )


def _told(folder: Path, task: Task) -> Told:
    problems = pl.scan_parquet(folder / SHARDS / task.name / "problems.parquet")
    row = _written(folder, task)[0]
    return Told(row["runs"], problems.select(pl.len()).collect().item(), row[LINES_DEPEND])


def _instead(folder: Path, task: Task, number: int, part: Part | None) -> _Planned:
    """The task for another part of its log, or all of it, under the same number."""
    log = task.logs[0]._replace(only=part)
    return _planned(folder, task.first_run // RUNS_PER_SHARD, [(number, log)])


def _task(folder: Path, number: int, logs: list[Log]) -> Task:
    """A task under a name that is the same for the same logs in the same state, and for no others."""
    files = {path.as_posix() for log in logs for path, _ in log.parts}
    limits = (archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES)
    told = msgspec.json.encode(
        [
            (SCHEMA_VERSION, LAYOUT, number, limits),
            [
                (log.format, [(path.as_posix(), member) for path, member in log.parts], log.only)
                for log in logs
            ],
            state_of(files),
        ]
    )
    name = f"{number:06}-{hashlib.blake2b(told, digest_size=8).hexdigest()}"
    return Task(folder, name, number * RUNS_PER_SHARD, tuple(logs))


def _remove_if_stale(shard: Path) -> None:
    """A shard that a stopped conversion left is of use only if the files beside its logs are the same."""
    if not shard.exists():
        return
    with suppress(OSError, pl.exceptions.PolarsError):
        files = pl.read_parquet(shard / "logs.parquet")["files"].explode().drop_nulls().to_list()
        then = {file["path"]: file for file in files}
        if state_of(set(then)) == [then[path] for path in sorted(then)]:
            return
    shutil.rmtree(shard)
