"""Logs into the files of one shard: what a worker of a conversion does."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from loaders.builder import Builder, Frames, NotKept, files_of
from loaders.columns import frame_of_records
from loaders.linking import with_counts
from loaders.logs import Log, read_source
from loaders.registry import Format, format_called
from loaders.sources import Counted, Source
from loaders.stores import KEYED, new_folder, write_frame
from loaders.workers import Lost

RUNS_PER_SHARD = 1 << 32
"""Numbers set apart for the runs of one shard: how many it will have is not known beforehand."""

File = pl.Struct({"path": pl.String, "size": pl.Int64, "changed": pl.Int64})
LOGS_OF_A_SHARD = pl.Schema(
    {
        "log": pl.Int64,
        "first_run": pl.Int64,
        "runs": pl.Int64,
        "hash": pl.String,
        "files": pl.List(File),
        "read_at": pl.Int64,
    }
)
"""Internal, a row per log of a shard: its runs, and the files that it was read from or looked for.

``size`` and ``changed`` (ns) of a file or folder are null where there was none; ``read_at`` (ns) when
reading began.
"""


LINES_DEPEND = "lines_depend"
"""In the file of a shard's logs beside these: whether lines that were read alone need others."""


class Task(NamedTuple):
    """Logs that become one shard of a store; ``name`` tells them and their state apart from others."""

    store: Path
    name: str
    first_run: int
    logs: tuple[Log, ...]


def write_shard(task: Task, lost: Lost, format_of: Callable[[str], Format] = format_called) -> str:
    """Read the logs of a task into a shard; returns its name.

    ``lost`` logs become problems unread. ``format_of``: a format by its name.

    Raises ``DerailError`` where the store can't be written.
    """
    with new_folder(task.store, task.name) as folder:
        if folder is not None:
            try:
                _Writer(folder, task.first_run).write(task, lost, format_of)
            except NotKept as error:
                raise error.__cause__ or error from None
    if not gc.isenabled():
        gc.collect()
    return task.name


def try_log(task: Task, number: int) -> None:
    """Read one log of a task and keep nothing: does the process survive it?"""
    builder = Builder(hand_over=lambda frames: None)
    log = task.logs[number]
    read_source(format_called(log.format), log.sources(), builder)
    builder.frames()


class _Writer:
    """Writes the runs of a shard as they are told, a file of each table at a time."""

    def __init__(self, folder: Path, first_run: int) -> None:
        self._folder = folder
        self._first_run = first_run
        self._pieces = 0
        self._latest_run = first_run - 1

    def write(self, task: Task, lost: Lost, format_of: Callable[[str], Format]) -> None:
        builder = Builder(hand_over=self._keep)
        logs: list[dict[str, Any]] = []
        log_of_problem: list[int] = []
        log_of_file: dict[str, int] = {}
        run = self._first_run
        for number, log in enumerate(task.logs):
            sources = log.sources()
            parts = {source.path.as_posix() for source in sources}
            before, began = state_of(parts), time.time_ns()
            read_source(format_of(log.format), sources, builder, lost=lost.get(number))
            if log.only is not None:  # its hash is of the file as it was then
                path, size, changed = sources[0].path, log.only.size, log.only.changed
                before = [{"path": path.as_posix(), "size": size, "changed": changed}]
            if state_of(parts) != before:
                reason = "the file changed while it was read; convert again to have it as it is now"
                builder.problem(None, reason, "warning")
            files = files_of(sources[0])
            looked_for = set[str]().union(*(file.looked_for for file in files)) - parts
            hashed = None if number in lost else _hash_of(sources[0])
            state = [*before, *state_of(looked_for)]
            told = (number, run, builder.runs_in_source, hashed, state, began)
            logs.append(dict(zip(LOGS_OF_A_SHARD, told, strict=True)))
            logs[-1][LINES_DEPEND] = sources[0].lines_depend
            run += builder.runs_in_source
            log_of_problem += [number] * (len(builder.problem_rows) - len(log_of_problem))
            log_of_file.update((file.name, number) for file in files)
        frames = builder.frames()
        self._keep(frames)
        self._write_rest(frames, log_of_problem, log_of_file, builder.counted)
        schema = pl.Schema({**LOGS_OF_A_SHARD, LINES_DEPEND: pl.Boolean})
        write_frame(frame_of_records(logs, schema), self._folder / "logs.parquet")

    def _keep(self, frames: Frames) -> None:
        """What is told next, which must go on where the rest ended: readers rely on it.

        The latest events and steps may be of a run that goes on, and whose trajectory comes later.
        """
        told = frames["trajectories"].height
        last = self._latest_run + told
        for name in KEYED:
            if frames[name].is_empty():
                continue
            frame = self._numbered(frames[name])
            run = frame["run"]
            is_ordered = not (run.diff() < 0).any()  # is_sorted() would trust what is to be checked
            until = last if name == "trajectories" else last + 1
            if not (is_ordered and self._latest_run < run[0] and run[-1] <= until):
                raise RuntimeError(f"{name} are not in the order of their runs")
            write_frame(frame, self._folder / f"{name}-{self._pieces:05}.parquet")
        self._latest_run = last
        self._pieces += 1

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns((pl.col("run") + self._first_run).set_sorted())

    def _write_rest(
        self,
        frames: Frames,
        log_of_problem: list[int],
        log_of_file: dict[str, int],
        counted: dict[int, Counted],
    ) -> None:
        problems = frames["problems"]
        owners = [
            log_of_file.get(source, log_of_problem[place] if place < len(log_of_problem) else 0)
            for place, source in enumerate(problems["source"])
        ]
        rest = {
            "problems": with_counts(problems, counted).with_columns(
                log=pl.Series(owners, dtype=pl.Int64)
            ),
            "spawns": self._numbered(frames["spawns"]),
            "callers": self._numbered(frames["callers"]),
            "tools": frames["tools"],
            "companions": frames["companions"],
        }
        for name, frame in rest.items():
            write_frame(frame, self._folder / f"{name}.parquet")


def state_of(paths: set[str]) -> list[dict[str, Any]]:
    """Path, size and time of the last change of each, sorted by path; null for what is not there."""
    return [_state(path) for path in sorted(paths)]


def _state(path: str) -> dict[str, Any]:
    try:
        status = os.stat(path)  # noqa: PTH116 - called for each file of thousands of logs
    except (OSError, ValueError):  # gone, or a name that no file can have
        return {"path": path, "size": None, "changed": None}
    return {"path": path, "size": status.st_size, "changed": status.st_mtime_ns}


def _hash_of(source: Source) -> str | None:
    try:
        return source.hash
    except Exception:  # noqa: BLE001 - what can't be read has no content to remember
        return None
