"""A long JSON Lines file in ranges of its lines: what comes of it is what the whole file gives."""

from __future__ import annotations

import errno
import json
import random
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_store import assert_holds_its_word, assert_same

import loaders
from loaders import converting, logs, parallel, reading, shards
from loaders.archives import ZipArchive
from loaders.formats import sharegpt
from loaders.progress import ProgressBar
from loaders.ranges import SourceOfLines, ranges_of
from loaders.sources import Source
from loaders.workers import in_processes


def row(number: int, chance: random.Random) -> dict[str, Any]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    return {
        "task_id": str(number),
        "tools": [{"type": "function", "function": {"name": f"ls{number % 3}", "parameters": {}}}],
        "messages": [
            {"role": "user", "content": "x" * chance.randrange(10, 900)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "é" * chance.randrange(300)},
            {"role": "assistant", "content": "done"},
        ],
    }


def rows(count: int) -> list[str]:
    chance = random.Random(count)
    return [json.dumps(row(number, chance), ensure_ascii=False) for number in range(count)]


class InParts:
    """Reads long logs in parts, into memory or into a store; ``count`` how many shares it read at last."""

    def __init__(self, how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.how, self.store, self.count = how, folder / "store", 0
        monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 80_000)
        monkeypatch.setattr(reading, "_PARALLEL_FROM_BYTES", 0)
        monkeypatch.setattr(reading, "cores", lambda: 2)
        monkeypatch.setattr(parallel, "_BYTES_PER_SHARE", 20_000)
        monkeypatch.setattr(parallel, "_BYTES_FOR_A_FILE", 3_000)
        self.patch = monkeypatch

    def read(self, path: Path) -> loaders.Trajectories:
        with ThreadPoolExecutor(2) as executor:
            if self.how == "convert":
                runs = loaders.convert(path, self.store, executor=executor, progress=False)
                assert_holds_its_word(runs)
                self.count = len(list((self.store / "shards").iterdir()))
                return runs

            def counted(work: Any, shares: list[Any]) -> Any:
                self.count = len(shares) or self.count
                return in_processes(work, shares, executor)

            self.patch.setattr(parallel, "in_processes", counted)
            return loaders.load(path, progress=False)

    def whole(self, path: Path) -> loaders.Trajectories:
        self.patch.setattr(reading, "_PARALLEL_FROM_BYTES", 1 << 60)
        try:
            return loaders.load(path, progress=False)
        finally:
            self.patch.setattr(reading, "_PARALLEL_FROM_BYTES", 0)


@pytest.fixture(params=["convert", "load"])
def parts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> InParts:
    return InParts(request.param, tmp_path, monkeypatch)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InParts:
    return InParts("load", tmp_path, monkeypatch)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InParts:
    return InParts("convert", tmp_path, monkeypatch)


@pytest.fixture
def lines() -> list[str]:
    return rows(400)


def test_ranges_are_whole_lines_and_together_the_file(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    chance = random.Random(1)
    for _ in range(20):
        blank = [chance.choice(["", " ", "\r"]) for _ in range(9)]
        some = chance.sample(lines, 30) + blank
        chance.shuffle(some)
        path.write_text("\n".join(some) + chance.choice(["", "\n", "\n\n"]), newline="")
        whole = list(Source(path).lines())
        size = chance.choice([100, 3_000, 10_000, 1 << 20])
        ranges = ranges_of(path, size)
        assert ranges[0].start == 0
        assert size > 9_000 or len(ranges) > 3
        assert ranges[-1].stop == path.stat().st_size
        parts = [SourceOfLines(path, one) for one in ranges]
        assert [line for part in parts for line in part.lines()] == whole
        assert {part.hash for part in parts} == {Source(path).hash}


def test_a_long_file_gives_the_same_in_ranges(
    lines: list[str], tmp_path: Path, parts: InParts
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + "\n".join(lines) + "\n")
    runs = parts.read(path)
    assert parts.count > 5
    assert_same(runs, parts.whole(path))
    middle = runs.ids[200]
    assert runs.raw(middle, 0) == parts.whole(path).raw(middle, 0)


def test_lines_that_are_no_runs_move_the_numbers_of_those_behind_them(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: InParts
) -> None:
    key = "sk-ant-api03-" + "a1B2" * 24
    for place in (50, 51, 220, 399):
        lines[place] = '{"messages": [{"role": '
    for place in (60, 61, 300):
        lines[place] = ""
    for place in (10, 90, 330):
        lines[place] = lines[place].replace('"task_id"', '"score": NaN, "task_id"')
    for place in (20, 120, 320):
        lines[place] = lines[place].replace('"done"', json.dumps(key))
    lines[333] = '{"neither": "a row"}'
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    runs = parts.read(path)
    assert parts.count > 5
    loaded = parts.whole(path)
    assert_same(runs, loaded)
    reasons = loaded.problems.collect()["reason"].to_list()
    assert "credentials redacted in 3 values of text" in reasons
    assert any("3 times" in reason for reason in reasons)


def test_a_store_reads_no_part_again_that_it_has(
    lines: list[str], tmp_path: Path, stored: InParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines[50] = ""
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    runs = stored.read(path)
    read_source, read = shards.read_source, []

    def spy(*given: Any, **options: Any) -> None:
        read.append(given)
        read_source(*given, **options)

    monkeypatch.setattr(shards, "read_source", spy)
    assert stored.read(path).ids == runs.ids
    assert not read  # nothing is new
    lines.append(lines[0])
    path.write_text("\n".join(lines))
    assert_same(stored.read(path), stored.whole(path))


@pytest.mark.parametrize("kind", ["messages", "calls", "many problems", "nothing"])
def test_what_turns_out_to_hang_together_is_read_as_a_whole(
    kind: str, lines: list[str], tmp_path: Path, parts: InParts
) -> None:
    reply = {"choices": [{"message": {"role": "assistant", "content": "hi"}}]}
    if kind == "messages":
        lines[300:302] = ['{"role": "user", "content": "a"}', '{"role": "user", "content": "b"}']
    elif kind == "calls":
        messages = [{"role": "user", "content": "hello"}]
        lines[300] = json.dumps(
            {"request": {"model": "m", "messages": messages}, "response": reply}
        )
    elif kind == "many problems":
        lines[200:200] = ["{"] * 1_200
    else:
        lines[1:] = ['{"id": "' + "x" * 400 + '"}'] * 400
        lines[0] = '{"messages": [{"role": "user", "content": "cut'
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    whole = parts.whole(path) if kind != "nothing" else None
    if whole is None:
        with pytest.raises(loaders.LoadError, match="Nothing could be read"):
            parts.read(path)
    else:
        assert_same(parts.read(path), whole)
        assert parts.count == 1


def test_files_beside_it_and_other_formats_with_a_row_on_each_line(
    lines: list[str], tmp_path: Path, parts: InParts
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("a", "c"):
        (folder / f"{name}.jsonl").write_text("\n".join(lines))  # copies, in ranges both
    (folder / "b.jsonl").write_text(lines[5] + "\n" + lines[6])
    said = [
        [{"from": "human", "value": f"{n} " + "y" * 700}, {"from": "gpt", "value": "z"}]
        for n in range(400)
    ]
    (folder / "d.jsonl").write_text("\n".join(json.dumps({"conversations": one}) for one in said))
    assert sharegpt.splits(Source(folder / "d.jsonl"))
    runs = parts.read(folder)
    assert_same(runs, parts.whole(folder))
    assert parts.count > 12


def test_a_file_that_changes_after_it_was_cut_is_read_again_by_the_next_call(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: InParts
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))

    def cut_and_change(*given: Any) -> Any:
        found = ranges_of(*given)
        path.write_text("\n".join([*lines, lines[3]]))
        return found

    monkeypatch.setattr(logs, "ranges_of", cut_and_change)
    first = stored.read(path)
    told = first.problems.collect()["reason"]
    assert told.str.contains("changed while it was read").any()
    monkeypatch.setattr(logs, "ranges_of", ranges_of)
    assert_same(stored.read(path), stored.whole(path))


def test_what_changes_before_its_parts_are_put_together_is_read_anew(
    lines: list[str], tmp_path: Path, loaded: InParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))

    def cut_and_change(*given: Any) -> Any:
        found = ranges_of(*given)
        path.write_text("\n".join([*lines[1:], lines[3]]))
        return found

    monkeypatch.setattr(logs, "ranges_of", cut_and_change)
    runs = loaded.read(path)
    assert loaded.count == 1
    assert_same(runs, loaded.whole(path))


def test_without_room_for_files_tables_come_another_way(
    lines: list[str], tmp_path: Path, loaded: InParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    full = []

    def write(*given: Any, **options: Any) -> None:
        full.append(given)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_ipc", write)
    assert_same(loaded.read(path), loaded.whole(path))
    assert loaded.count > 5
    assert len(full) > 5


def test_the_bar_moves_by_the_bytes_of_each_part(
    lines: list[str], tmp_path: Path, loaded: InParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    moved: list[int] = []
    monkeypatch.setattr(ProgressBar, "update", lambda bar, count: moved.append(count))
    loaded.read(path)
    assert sum(moved) == path.stat().st_size
    assert sum(count > 0 for count in moved) == loaded.count > 5


def test_parts_leave_nothing_behind(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: InParts
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    seen: set[str] = set()
    read_ipc = pl.read_ipc

    def seen_by(path: Path) -> pl.DataFrame:
        seen.update(file.name for file in scratch.rglob("*.arrow"))
        return read_ipc(path)

    monkeypatch.setattr(pl, "read_ipc", seen_by)
    loaded.read(path)
    assert len(seen) > 5
    assert not [*scratch.iterdir()]


# ---------------------------------------------------------------------- archives

STUDY = Path(__file__).parent.parent / "sample_logs" / "study" / "all" / "planner-1" / "inspect"


def archive(path: Path, changed: dict[str, bytes | None]) -> Path:
    """The study's archive with some of its members changed, or left out."""
    source = ZipArchive(STUDY / "none.eval")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.names:
            data = changed.get(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
    return path


def samples_of(path: Path) -> list[str]:
    return [name for name in ZipArchive(path).names if name.startswith("samples/")]


def test_a_large_archive_gives_the_same_in_parts(tmp_path: Path, parts: InParts) -> None:
    path = archive(tmp_path / "a.eval", {})
    runs = parts.read(path)
    assert parts.count > 5
    assert_same(runs, parts.whole(path))
    assert runs.raw(runs.ids[20], 0) == parts.whole(path).raw(runs.ids[20], 0)


def test_samples_that_are_no_runs_move_the_numbers_of_those_behind_them(
    tmp_path: Path, parts: InParts
) -> None:
    names = samples_of(STUDY / "none.eval")
    broken: dict[str, bytes | None] = {names[3]: b"[1]", names[20]: b'{"id": ', names[-1]: b""}
    path = archive(tmp_path / "a.eval", broken)
    runs = parts.read(path)
    assert parts.count > 5
    assert_same(runs, parts.whole(path))
    assert runs.problems.collect().height >= 3


@pytest.mark.parametrize("data", [None, b"{", b"\xff"])
def test_what_is_wrong_with_an_archive_as_a_whole_is_said_once(
    data: bytes | None, tmp_path: Path, parts: InParts
) -> None:
    path = archive(tmp_path / "a.eval", {"header.json": data})
    runs = parts.read(path)
    assert parts.count <= 1
    assert runs.problems.collect().height == parts.whole(path).problems.collect().height >= 1
    assert_same(runs, parts.whole(path))


def test_an_archive_that_is_replaced_while_it_is_shared_out_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: InParts
) -> None:
    path = archive(tmp_path / "a.eval", {})
    names = samples_of(path)
    find = logs.ranges_of_members

    def find_and_change(*given: Any) -> Any:
        found = find(*given)
        archive(path, {names[5]: None})
        return found

    monkeypatch.setattr(logs, "ranges_of_members", find_and_change)
    told = stored.read(path).problems.collect()["reason"]
    assert any("changed while it was read" in reason for reason in told)
    monkeypatch.setattr(logs, "ranges_of_members", find)
    assert_same(stored.read(path), stored.whole(path))


def test_an_archive_weighs_what_it_unpacks_to() -> None:
    source = Source(STUDY / "none.eval")
    unpacked = sum(map(source.archive.size, source.archive.names))
    assert source.unpacked_size == unpacked > 4 * source.size
