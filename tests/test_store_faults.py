"""What may happen to a conversion, done to one: each time the store is whole, or becomes it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import chatter
import polars as pl
import pytest
from conftest import ROOT
from test_store import assert_holds_its_word, assert_same

import loaders
from loaders import DerailError, LoadError, Trajectories, converting, shards
from loaders.schema import SCHEMA_VERSION, TABLES

KILLS = 20
_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(
    ["loaders", *(f"loaders.formats.{name}" for name in loaders.available()["format"])]
)


def in_child(work: Callable[..., None], *given: Any) -> Any:
    """A process that does some work; it starts in a few milliseconds and shares nothing with this one."""
    process = _FRESH.Process(target=work, args=given)
    process.start()
    return process


def convert_in_child(src: Path, store: Path, in_processes: bool = False) -> None:
    converting._BYTES_PER_SHARD = 400_000
    if in_processes:
        converting._IN_THIS_PROCESS_BELOW = 0
    loaders.convert(src, store, progress=False)


def done(process: Any) -> None:
    process.join(120)
    assert process.exitcode == 0


def tables_of(runs: Trajectories) -> dict[str, pl.DataFrame]:
    return {name: getattr(runs, name).collect() for name in TABLES}


def is_equal(store: Path, expected: dict[str, pl.DataFrame]) -> bool:
    """Row for row, the numbers of the runs included."""
    found = tables_of(loaders.scan(store))
    return all(found[name].equals(table) for name, table in expected.items())


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of several formats in 8 shards, with copies, whose shards are made anew at the end."""
    folder = tmp_path_factory.mktemp("faults") / "logs"
    frameworks = ROOT / "sample_logs" / "frameworks"
    for name in ("mini_swe_agent", "openai_agents"):
        shutil.copytree(frameworks / name, folder / name)
    shutil.copytree(frameworks / "openai_agents", folder / "zzz_copies")
    return folder


# ---------------------------------------------------------------------- killed


def test_killed_at_any_moment_a_conversion_goes_on_to_the_same_store(
    logs: Path, tmp_path: Path
) -> None:
    done(in_child(convert_in_child, logs, tmp_path / "warm"))
    started = time.monotonic()
    done(in_child(convert_in_child, logs, tmp_path / "undisturbed"))
    usual = time.monotonic() - started
    expected = tables_of(loaders.scan(tmp_path / "undisturbed"))
    assert len(list((tmp_path / "undisturbed" / "shards").iterdir())) > 6
    chance = random.Random(7)
    killed = 0
    for number in range(KILLS):
        store = tmp_path / f"store{number}"
        process = in_child(convert_in_child, logs, store, number % 10 == 9)
        time.sleep(chance.uniform(0, usual))
        killed += process.is_alive()
        process.kill()
        process.join()
        with suppress(LoadError):  # not one yet; else it must be the whole of it
            assert is_equal(store, expected)
        process = in_child(convert_in_child, logs, store)
        done(process)
        assert is_equal(store, expected)
        assert not list(store.glob("shards/.*"))
        shutil.rmtree(store)
    assert killed > KILLS / 2


def test_killed_while_it_adds_to_a_store_leaves_the_old_or_the_new_one(
    logs: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "logs"
    shutil.copytree(logs, mine)
    store = tmp_path / "store"
    done(in_child(convert_in_child, mine, store))
    chance = random.Random(8)
    for number in range(5):
        changed = sorted((mine / "openai_agents").rglob("*.json*"))[number]
        shutil.copy(changed, changed.with_name(f"again{number}{changed.suffix}"))
        changed.unlink()
        before = tables_of(loaders.scan(store))
        process = in_child(convert_in_child, mine, store)
        time.sleep(chance.uniform(0, 0.8))
        process.kill()
        process.join()
        seen = tables_of(loaders.scan(store))
        assert_holds_its_word(loaders.scan(store))
        done(in_child(convert_in_child, mine, store))
        after = tables_of(loaders.scan(store))
        assert any(
            all(seen[name].equals(state[name]) for name in TABLES) for state in (before, after)
        )
        assert after["trajectories"].height > before["trajectories"].height


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    chatter.write(tmp_path / "logs" / "a.jsonl")
    with chatter.installed(tmp_path, "slow", code=SLOW, module="slow_package"):
        (tmp_path / "logs" / "slow").write_text("slow")
        process = in_child(convert_in_child, tmp_path / "logs", tmp_path / "store", True)
        wait_for((tmp_path / "logs" / "started").exists)
    workers = children_of(process.pid)
    assert workers
    process.kill()
    process.join()
    wait_for(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in workers))


SLOW = """
import os, pathlib, time
TITLE = "slow"
sniff = lambda head: head.data == b"slow"
def read(source, out):
    source.path.with_name("started").touch()
    while not source.path.with_name("go on").exists():
        time.sleep(0.01)
    out.trajectory(native_id="slow").user("at last")
"""


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    out = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in out.stdout.split()]


# ---------------------------------------------------------------------- a worker killed

DEADLY = """
import os, pathlib, signal
TITLE = "deadly"
sniff = lambda head: b"deadly" in head.data
def read(source, out):
    mark = source.path.with_name(".mark")
    if b"always" in source.read_bytes() or not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    out.trajectory(native_id=source.filename).user("survived")
"""


@pytest.fixture
def deadly(tmp_path: Path) -> Generator[Path]:
    """Logs of which one kills the process that reads it once, in a batch with others."""
    for number in range(6):
        chatter.write(tmp_path / "logs" / f"{number}.jsonl", chatter.lines(f"r{number}"))
    (tmp_path / "logs" / "3once").write_text("deadly")
    package = chatter.PACKAGE
    with (
        chatter.installed(tmp_path, code=package),
        chatter.installed(tmp_path, "deadly", code=DEADLY, module="deadly_package"),
    ):
        yield tmp_path / "logs"


def test_a_killed_worker_costs_no_log_but_the_one_that_kills_it(
    deadly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "_IN_THIS_PROCESS_BELOW", 0)
    monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 300_000)
    (deadly / "4always").write_text("deadly always")
    runs = loaders.convert(deadly, tmp_path / "store")
    assert_holds_its_word(runs)
    assert runs.trajectories.collect()["native_id"].to_list() == [
        *("r0", "r1", "r2", "r3", "3once", "r4", "r5")
    ]
    told = runs.problems.filter(pl.col("severity") == "error").collect()
    assert [Path(source).name for source in told["source"]] == ["4always"]
    assert "the process that read it was killed" in told["reason"].item()
    assert len(loaders.convert(deadly, tmp_path / "store")) == 7  # and does not try it again


def test_a_worker_killed_under_dask(deadly: Path, tmp_path: Path) -> None:
    script = tmp_path / "with_dask.py"
    script.write_text(WITH_DASK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    out = subprocess.run(
        [sys.executable, script, deadly, tmp_path / "store"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert "executed by 127.0.0.1" in out.stdout
    runs = loaders.scan(tmp_path / "store")
    assert_holds_its_word(runs)
    assert (deadly / ".mark").exists()
    assert_same(runs, loaders.load(deadly))  # the mark is there now: it can be read


WITH_DASK = """
import os, sys
from distributed import Client
import loaders
from loaders import converting

if __name__ == "__main__":
    converting._BYTES_PER_SHARD = 150_000
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        workers = client.scheduler_info()["workers"]
        print("executed by", workers and next(iter(workers)).removeprefix("tcp://"))
        loaders.convert(sys.argv[1], sys.argv[2], executor=client.get_executor(retries=3))
"""


# ---------------------------------------------------------------------- the disk is full


@contextmanager
def little_room(folder: Path, kilobytes: int) -> Generator[Callable[[], object]]:
    """A disk of that size at ``folder``; gives what makes it large.

    Where no file system may be mounted, files of this process are bounded instead.
    """
    size = f"size={kilobytes}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=False)
    if mounted.returncode == 0:
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 128, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kilobytes", [60, 250, 450])
def test_a_full_disk_is_told_and_the_store_stays_as_it_was(
    kilobytes: int, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 300_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    with little_room(disk, kilobytes) as make_room:
        with pytest.raises(DerailError, match=r"can't write into .*\. The store is as it was"):
            loaders.convert(logs, disk / "store", progress=False)
        with pytest.raises(LoadError, match="A conversion into it has not ended"):
            loaders.scan(disk / "store")
        make_room()
        assert_same(loaders.convert(logs, disk / "store", progress=False), loaders.load(logs))


def test_a_full_disk_takes_nothing_from_the_store_that_was_there(
    logs: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mine = tmp_path / "logs"
    shutil.copytree(logs / "openai_agents", mine)
    before = tables_of(loaders.convert(mine, tmp_path / "elsewhere", progress=False))
    with little_room(disk, 240) as make_room:
        loaders.convert(mine, disk / "store", progress=False)
        shutil.copytree(logs, mine / "more")
        with pytest.raises(DerailError, match="can't write into"):
            loaders.convert(mine, disk / "store", progress=False)
        assert is_equal(disk / "store", before)
        make_room()
        assert len(loaders.convert(mine, disk / "store", progress=False)) > len(before)


# ---------------------------------------------------------------------- a log changes while it is read


@pytest.mark.parametrize("change", ["grows", "is cut"])
def test_a_log_that_changes_while_it_is_read(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "logs" / "long.jsonl"
    path.parent.mkdir()
    rows = [
        {"messages": [{"role": "user", "content": "x" * 4_000}], "task_id": n} for n in range(3_000)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    read_source = shards.read_source

    def disturbed(chosen: Any, sources: Any, builder: Any, **options: Any) -> None:
        finish = builder.finish

        def finish_and_change(run: Any) -> None:
            finish(run)
            if run.index == 5 and change == "grows":
                path.write_text(text + text.replace('"task_id": ', '"task_id": 9'))
            elif run.index == 5:
                os.truncate(path, len(text) // 2 + 17)

        builder.finish = finish_and_change
        read_source(chosen, sources, builder, **options)

    monkeypatch.setattr(shards, "read_source", disturbed)
    runs = loaders.convert(tmp_path / "logs", tmp_path / "store")
    assert_holds_its_word(runs)
    told = runs.problems.collect()["reason"].to_list()
    assert any("changed while it was read; convert again" in reason for reason in told)
    monkeypatch.undo()
    assert_same(loaders.convert(tmp_path / "logs", tmp_path / "store"), loaders.load(path))


def test_logs_that_are_being_written_are_never_half_in_a_store(tmp_path: Path) -> None:
    stop = threading.Event()

    def write_on() -> None:
        (tmp_path / "logs").mkdir()
        files = [(tmp_path / "logs" / f"{n}.jsonl").open("ab", buffering=0) for n in range(5)]
        for turn in range(10_000):
            row = {"messages": [{"role": "user", "content": f"t{turn}"}], "task_id": str(turn)}
            files[turn % 5].write(json.dumps(row).encode() + b"\n")
            if stop.wait(0.001):
                break
        for file in files:
            file.close()

    writer = threading.Thread(target=write_on)
    writer.start()
    wait_for((tmp_path / "logs" / "4.jsonl").exists)
    counts: list[int] = []
    for _ in range(6):
        with suppress(LoadError):
            runs = loaders.convert(tmp_path / "logs", tmp_path / "store", progress=False)
            assert_holds_its_word(runs)
            counts.append(len(runs))
    stop.set()
    writer.join()
    runs = loaders.convert(tmp_path / "logs", tmp_path / "store", progress=False)
    assert counts == sorted(counts)
    assert sorted(runs.ids) == sorted(loaders.load(tmp_path / "logs", progress=False).ids)


# ---------------------------------------------------------------------- several at once


def test_a_second_writer_is_told_to_wait(tmp_path: Path) -> None:
    logs, store = tmp_path / "logs", tmp_path / "store"
    chatter.write(logs / "a.jsonl")
    (logs / "slow").write_text("slow")
    with chatter.installed(tmp_path, "slow", code=SLOW, module="slow_package"):
        process = in_child(convert_in_child, logs, store)
        wait_for((logs / "started").exists)
        with pytest.raises(DerailError, match=r"another process is writing into .*; wait for it"):
            loaders.convert(logs, store)
        (logs / "go on").touch()
        done(process)
        assert len(loaders.convert(logs, store)) == 1


def test_readers_see_one_snapshot_whole_while_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, store = tmp_path / "logs", tmp_path / "store"
    with chatter.installed(tmp_path):
        for number in range(6):
            chatter.write(logs / f"{number}.jsonl", turns=2)
        monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 150_000)
        loaders.convert(logs, store)
        stop = threading.Event()

        def write() -> None:
            turns = 3
            while not stop.is_set():
                for number in range(0, 6, 2):
                    chatter.write(logs / f"{number}.jsonl", turns=turns)
                chatter.write(logs / f"new{turns}.jsonl", turns=turns)
                loaders.convert(logs, store)
                turns += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            opened = [loaders.scan(store)]
            end = time.monotonic() + 4
            while time.monotonic() < end:
                opened.append(loaders.scan(store))
                assert_holds_its_word(opened[-1])
                latest = opened[-1].trajectories.collect()
                changed = latest.filter(pl.col("native_id").is_in(["0", "2", "4"]))
                assert changed["steps"].n_unique() == 1  # all from the same moment
            for runs in opened:  # those that were opened long ago too
                assert_holds_its_word(runs)
        finally:
            stop.set()
            writer.join()
    assert len({len(runs) for runs in opened}) > 2


# ---------------------------------------------------------------------- another schema


def test_a_store_of_an_older_schema_says_what_to_type(tmp_path: Path) -> None:
    logs, store = tmp_path / "some logs", tmp_path / "store"
    with chatter.installed(tmp_path):
        chatter.write(logs / "a.jsonl")
        loaders.convert(logs, store)
        manifest = store / "derail.json"
        present = f'"schema_version": {SCHEMA_VERSION}'
        manifest.write_text(manifest.read_text().replace(present, '"schema_version": 0'))
        with pytest.raises(LoadError, match="schema version 0") as caught:
            loaders.scan(store)
        command = str(caught.value).partition("Read its logs again: ")[2]
        assert command == f"derail convert '{logs}' {store}"
        assert_same(loaders.convert(logs, store), loaders.load(logs))
        manifest.write_text(manifest.read_text().replace(present, '"schema_version": 9'))
        with pytest.raises(LoadError, match="a newer Derail wrote it"):
            loaders.convert(logs, store)


def test_a_shard_that_went_missing_says_what_to_type(tmp_path: Path) -> None:
    with chatter.installed(tmp_path):
        chatter.write(tmp_path / "logs" / "a.jsonl")
        loaders.convert(tmp_path / "logs", tmp_path / "store")
        next(tmp_path.glob("store/shards/*/events*.parquet")).unlink()
        with pytest.raises(LoadError, match=r"is damaged: .* is missing.*--no-resume"):
            loaders.scan(tmp_path / "store")
        assert len(loaders.convert(tmp_path / "logs", tmp_path / "store", resume=False)) == 1
