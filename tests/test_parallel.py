"""load() in several processes: the same tables, whatever becomes of a process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chatter
import pytest
from test_archives import zip_of
from test_reading import dojo, load, problems, tables_of

import loaders
from loaders import converting, logs, parallel, reading, workers
from loaders.formats import _template


def in_processes_from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PARALLEL_FROM_BYTES", 1)
    monkeypatch.setattr(reading, "cores", lambda: 2)


def test_reading_in_processes_gives_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.json").write_text(dojo(number))
    (tmp_path / "copy.json").write_text(dojo(7))
    (tmp_path / "cut.json").write_text(dojo(99)[:-40])
    (tmp_path / "more.zip").write_bytes(zip_of({f"{n}.json": dojo(n).encode() for n in (50, 51)}))
    serial = load(tmp_path)
    in_processes_from_the_first_byte(monkeypatch)
    monkeypatch.setattr(parallel, "_BYTES_PER_SHARE", 8 * logs._BYTES_PER_FILE)
    batches: list[int] = []
    in_processes = parallel.in_processes

    def counted(work: Any, tasks: Any) -> Iterator[Any]:
        batches.extend(len(task.logs) for task in tasks)
        return in_processes(work, tasks)

    monkeypatch.setattr(parallel, "in_processes", counted)
    by_others = load(tmp_path)
    assert sum(batches) == 44
    assert len(batches) > 4
    for name, table in tables_of(serial).items():
        assert table.equals(tables_of(by_others)[name]), name


def test_formats_of_the_users_own_are_read_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter.write(tmp_path / "a.jsonl")
    in_processes_from_the_first_byte(monkeypatch)
    monkeypatch.setattr(reading, "read_in_processes", None)
    assert len(load(tmp_path, format=_template)) == 1


def test_a_daemon_which_may_have_no_children_reads_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(dojo(number))
    in_processes_from_the_first_byte(monkeypatch)
    monkeypatch.setattr(converting, "_IN_THIS_PROCESS_BELOW", 1)
    monkeypatch.setattr(multiprocessing.current_process(), "daemon", True)
    with pytest.raises(AssertionError, match="daemonic"):
        workers.Processes(1).submit(int)
    assert len(load(tmp_path)) == 3
    assert len(loaders.convert(tmp_path / "[012].json", tmp_path / "store")) == 3


def test_a_log_that_kills_its_process_is_a_problem_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = "import os\nTITLE = 'deadly'\nsniff = lambda head: b'deadly' in head.data\n"
    deadly += "read = lambda source, out: os._exit(3)\n"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a").write_text("deadly")
    for number in range(3):
        (tmp_path / "logs" / f"{number}.json").write_text(dojo(number))
    in_processes_from_the_first_byte(monkeypatch)
    with chatter.installed(tmp_path, name="deadly", code=deadly, module="deadly_package"):
        runs = loaders.load(tmp_path / "logs")
    assert len(runs) == 3
    told = problems(runs)
    assert [(name, severity) for name, _, severity, _ in told] == [("a", "error")]
    assert "the process that read it was killed" in told[0][3]
