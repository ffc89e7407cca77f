"""A long JSON Lines file in ranges of its lines: what comes of it is what the whole file gives."""

from __future__ import annotations

import json
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from test_store import assert_holds_its_word, assert_same

import loaders
from loaders import converting, shards
from loaders.archives import ZipArchive
from loaders.formats import sharegpt
from loaders.ranges import SourceOfLines, ranges_of
from loaders.sources import Source


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


def convert_split(path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> loaders.Trajectories:
    monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 80_000)
    with ThreadPoolExecutor(2) as executor:
        runs = loaders.convert(path, store, executor=executor, progress=False)
    assert_holds_its_word(runs)
    return runs


def shards_of(store: Path) -> int:
    return len(list((store / "shards").iterdir()))


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
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + "\n".join(lines) + "\n")
    runs = convert_split(path, tmp_path / "store", monkeypatch)
    assert shards_of(tmp_path / "store") > 5
    assert_same(runs, loaders.load(path))
    middle = runs.ids[200]
    assert runs.raw(middle, 0) == loaders.load(path).raw(middle, 0)


def test_lines_that_are_no_runs_move_the_numbers_of_those_behind_them(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    runs = convert_split(path, tmp_path / "store", monkeypatch)
    assert shards_of(tmp_path / "store") > 5
    loaded = loaders.load(path)
    assert_same(runs, loaded)
    reasons = loaded.problems.collect()["reason"].to_list()
    assert "credentials redacted in 3 values of text" in reasons
    assert any("3 times" in reason for reason in reasons)
    read_source, read = shards.read_source, []

    def spy(*given: Any, **options: Any) -> None:
        read.append(given)
        read_source(*given, **options)

    monkeypatch.setattr(shards, "read_source", spy)
    assert convert_split(path, tmp_path / "store", monkeypatch).ids == runs.ids
    assert not read  # nothing is new
    lines.append(lines[0])
    path.write_text("\n".join(lines))
    assert_same(convert_split(path, tmp_path / "store", monkeypatch), loaders.load(path))


@pytest.mark.parametrize("kind", ["messages", "calls", "many problems", "nothing"])
def test_what_turns_out_to_hang_together_is_read_as_a_whole(
    kind: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    whole = loaders.load(path) if kind != "nothing" else None
    if whole is None:
        with pytest.raises(loaders.LoadError, match="Nothing could be read"):
            convert_split(path, tmp_path / "store", monkeypatch)
    else:
        assert_same(convert_split(path, tmp_path / "store", monkeypatch), whole)
        assert shards_of(tmp_path / "store") == 1


def test_files_beside_it_and_other_formats_with_a_row_on_each_line(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    runs = convert_split(folder, tmp_path / "store", monkeypatch)
    assert_same(runs, loaders.load(folder))
    assert shards_of(tmp_path / "store") > 12


def test_a_file_that_changes_after_it_was_cut_is_read_again_by_the_next_call(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))

    def cut_and_change(*given: Any) -> Any:
        found = ranges_of(*given)
        path.write_text("\n".join([*lines, lines[3]]))
        return found

    monkeypatch.setattr(converting, "ranges_of", cut_and_change)
    first = convert_split(path, tmp_path / "store", monkeypatch)
    told = first.problems.collect()["reason"]
    assert told.str.contains("changed while it was read").any()
    monkeypatch.setattr(converting, "ranges_of", ranges_of)
    assert_same(convert_split(path, tmp_path / "store", monkeypatch), loaders.load(path))


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


def test_a_large_archive_gives_the_same_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.eval", {})
    runs = convert_split(path, tmp_path / "store", monkeypatch)
    assert shards_of(tmp_path / "store") > 5
    assert_same(runs, loaders.load(path))
    assert runs.raw(runs.ids[20], 0) == loaders.load(path).raw(runs.ids[20], 0)


def test_samples_that_are_no_runs_move_the_numbers_of_those_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = samples_of(STUDY / "none.eval")
    broken: dict[str, bytes | None] = {names[3]: b"[1]", names[20]: b'{"id": ', names[-1]: b""}
    path = archive(tmp_path / "a.eval", broken)
    runs = convert_split(path, tmp_path / "store", monkeypatch)
    assert shards_of(tmp_path / "store") > 5
    assert_same(runs, loaders.load(path))
    assert runs.problems.collect().height >= 3


@pytest.mark.parametrize("data", [None, b"{", b"\xff"])
def test_what_is_wrong_with_an_archive_as_a_whole_is_said_once(
    data: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.eval", {"header.json": data})
    runs = convert_split(path, tmp_path / "store", monkeypatch)
    assert shards_of(tmp_path / "store") == 1
    assert runs.problems.collect().height == loaders.load(path).problems.collect().height >= 1
    assert_same(runs, loaders.load(path))


def test_an_archive_that_is_replaced_while_it_is_shared_out_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.eval", {})
    names = samples_of(path)
    find = converting.ranges_of_members

    def find_and_change(*given: Any) -> Any:
        found = find(*given)
        archive(path, {names[5]: None})
        return found

    monkeypatch.setattr(converting, "ranges_of_members", find_and_change)
    told = convert_split(path, tmp_path / "store", monkeypatch).problems.collect()["reason"]
    assert any("changed while it was read" in reason for reason in told)
    monkeypatch.setattr(converting, "ranges_of_members", find)
    assert_same(convert_split(path, tmp_path / "store", monkeypatch), loaders.load(path))


def test_an_archive_weighs_what_it_unpacks_to() -> None:
    source = Source(STUDY / "none.eval")
    unpacked = sum(map(source.archive.size, source.archive.names))
    assert source.unpacked_size == unpacked > 4 * source.size
