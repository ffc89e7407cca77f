"""Sources: each layout and packing reads alike; what is broken is a problem with its place."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from budget import at_most
from test_archives import zip_of, zstd_zip

from loaders import sources
from loaders.errors import UnreadableRecord
from loaders.heads import HEAD_BYTES
from loaders.raw import find_source, follow, raw_record
from loaders.sources import Source

RECORDS: list[dict[str, Any]] = [{"n": n, "text": "é" * n} for n in range(5)]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
ARRAY = json.dumps(RECORDS, indent=1).encode()

Pack = Callable[[Path, bytes], Source]


def as_file(pack: Callable[[bytes], bytes]) -> Pack:
    def write(folder: Path, data: bytes) -> Source:
        path = folder / "log"
        path.write_bytes(pack(data))
        return Source(path)

    return write


def as_member(pack: Callable[[bytes], bytes]) -> Pack:
    def write(folder: Path, data: bytes) -> Source:
        path = folder / "log.zip"
        path.write_bytes(pack(data))
        return Source(path, "a.json")

    return write


PACKINGS: dict[str, Pack] = {
    "plain": as_file(bytes),
    "gz": as_file(gzip.compress),
    "zst": as_file(zstandard.ZstdCompressor().compress),
    "deflate": as_member(lambda data: zip_of({"a.json": data})),
    "stored": as_member(lambda data: zip_of({"a.json": data}, zipfile.ZIP_STORED)),
    "zstd": as_member(zstd_zip),
    "gz in zip": as_member(lambda data: zip_of({"a.json": gzip.compress(data)})),
}
every_packing = pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)


# ---------------------------------------------------------------------- layouts and packings


@every_packing
@pytest.mark.parametrize(
    ("data", "positions"),
    [
        (LINES, ["L1", "L2", "L3", "L4", "L5"]),
        (LINES.rstrip(), ["L1", "L2", "L3", "L4", "L5"]),
        (b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"), ["L1", "L2", "L3", "L4", "L5"]),
        (LINES.replace(b"\n", b"\n\n \n"), ["L1", "L4", "L7", "L10", "L13"]),
        (ARRAY, ["/0", "/1", "/2", "/3", "/4"]),
        (b"\xef\xbb\xbf" + json.dumps(RECORDS).encode(), ["/0", "/1", "/2", "/3", "/4"]),
    ],
    ids=["lines", "no last newline", "bom and crlf", "blank lines", "array", "bom and array"],
)
def test_records_are_the_same_in_each_layout_and_packing(
    pack: Pack, data: bytes, positions: list[str], tmp_path: Path
) -> None:
    source = pack(tmp_path, data)
    assert list(source.records()) == list(zip(positions, RECORDS, strict=True))
    assert source.take_problems() == []
    for position, record in zip(positions, RECORDS, strict=True):
        assert raw_record(source.name, f"{position}/text") == record["text"]


@every_packing
def test_a_single_value_has_no_position(pack: Pack, tmp_path: Path) -> None:
    for data in (json.dumps(RECORDS[1]).encode(), json.dumps(RECORDS[1], indent=2).encode()):
        source = pack(tmp_path, data)
        assert list(source.records()) == [("", RECORDS[1])]
        assert raw_record(source.name, "/text") == "é"
    assert list(pack(tmp_path, b'["a", "b"]').records()) == [("", ["a", "b"])]


@every_packing
def test_the_hash_is_that_of_the_content_however_it_is_packed(pack: Pack, tmp_path: Path) -> None:
    plain = PACKINGS["plain"](tmp_path, LINES).hash
    assert len(plain) == 64
    if "gz in" not in str(pack):
        assert pack(tmp_path, LINES).hash == plain
    assert pack(tmp_path, LINES + b"{}").hash != plain


def test_the_hash_of_a_log_in_several_files_depends_on_each(tmp_path: Path) -> None:
    hashes: set[str] = set()
    for contents in ([b"a", b"b"], [b"a", b"c"], [b"b", b"a"], [b"ab"]):
        parts: list[Source] = []
        for number, content in enumerate(contents):
            path = tmp_path / str(number)
            path.write_bytes(content)
            parts.append(Source(path))
        parts[0].parts = tuple(parts)
        hashes.add(parts[0].hash)
    assert len(hashes) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 18])
def test_lines_are_the_same_wherever_the_pieces_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_SMALL", 0)
    monkeypatch.setattr(sources, "_CHUNK", size)
    rng = random.Random(size)
    for _ in range(30):
        data = b"".join(rng.choices([b"a", b"bc", b" ", b"\r", b"\n", b"\n\n"], k=40))
        (tmp_path / "log.jsonl").write_bytes(b"\xef\xbb\xbf" + data)
        wanted = [
            (n, line) for n, line in enumerate(data.split(b"\n"), 1) if line and not line.isspace()
        ]
        assert list(Source(tmp_path / "log.jsonl").lines()) == wanted


@every_packing
def test_a_first_line_longer_than_the_head_is_still_json_lines(pack: Pack, tmp_path: Path) -> None:
    long = {"text": "x" * (HEAD_BYTES * 3)}
    lines = [long, {"text": "second"}]
    source = pack(tmp_path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert not source.head.is_whole
    assert source.is_json_lines
    assert [record for _, record in source.records()] == lines
    single = pack(tmp_path, json.dumps(long).encode() + b"\n\n")
    assert [position for position, _ in single.records()] == [""]


def test_an_array_with_a_record_per_line_is_an_array(tmp_path: Path) -> None:
    long = json.dumps({"text": "x" * (HEAD_BYTES * 2)}).encode()
    path = tmp_path / "array.json"
    for head in (long, b'{"text": "short"}'):
        path.write_bytes(b"[" + head + b',\n{"text": "second"}\n]')
        assert [position for position, _ in Source(path).records()] == ["/0", "/1"]
    path.write_bytes(b'{"a": "' + b"x" * HEAD_BYTES + b'",\n"b": 2}')
    assert [position for position, _ in Source(path).records()] == [""]


@pytest.mark.parametrize("size", [HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 5])
def test_a_file_as_long_as_the_head_is_whole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1, "pad": "' + b"x" * (size - 19) + b'"}')
    head = Source(path).head
    assert (head.is_whole, head.keys) == (
        size <= HEAD_BYTES,
        {"a", "pad"} if head.is_whole else {"a"},
    )


# ---------------------------------------------------------------------- the head


@every_packing
def test_the_head_shows_what_there_is(pack: Pack, tmp_path: Path) -> None:
    head = pack(tmp_path, LINES).head
    assert (head.is_json_lines, head.value, head.records) == (True, RECORDS[0], RECORDS)
    assert (head.first, head.keys) == (RECORDS[0], {"n", "text"})
    assert (head.is_zip, head.is_binary, head.members, head.damage) == (False, False, (), None)
    array = pack(tmp_path, ARRAY).head
    assert (array.is_json_lines, array.value, array.first) == (False, RECORDS, RECORDS[0])
    long = pack(tmp_path, json.dumps([{"n": n} for n in range(9_000)]).encode()).head
    assert long.value[:3] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert 500 < len(long.value) < 9_000


@every_packing
def test_the_tail_is_the_end(pack: Pack, tmp_path: Path) -> None:
    data = b"".join(b"%09d\n" % n for n in range(30_000))
    assert pack(tmp_path, data).head.tail == data[-HEAD_BYTES:]
    assert pack(tmp_path, b"short").head.tail == b"short"


def test_a_broken_first_line_does_not_hide_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 0, "te\n' + LINES)
    source = Source(path)
    assert source.head.is_json_lines
    assert source.head.first == RECORDS[0]
    assert [position for position, _ in source.records()] == ["L2", "L3", "L4", "L5", "L6"]
    assert [problem.position for problem in source.take_problems()] == ["L1"]


BESIDE = b'{"a": "' + b"x" * 90 + b'", "b": [1, 2]}'


@pytest.mark.parametrize("count", [1, 3, 400])
@pytest.mark.parametrize("first", [b'{"log": {"version": "1.2", "entries": [', b'{"n": 1, "of":'])
@every_packing
def test_a_value_whose_second_line_looks_like_a_record_is_a_value(
    pack: Pack, first: bytes, count: int, tmp_path: Path
) -> None:
    listed = first.endswith(b"[")
    rest = b",\n".join([BESIDE] * count) + b"]}}" if listed else BESIDE + b"}"
    source = pack(tmp_path, first + b"\n" + rest)
    assert not source.head.is_json_lines
    assert not source.is_json_lines
    assert source.head.keys == ({"log"} if listed else {"n", "of"})
    (record,) = source.records()
    assert record == ("", json.loads(first + rest))
    assert source.take_problems() == []


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("stop", [40, 60, 150, 155, 200, -1])
def test_such_a_value_that_is_cut_short_is_still_a_value(
    stop: int, long: bool, tmp_path: Path
) -> None:
    beside = BESIDE.replace(b"x", b"x" * 300) if long else BESIDE
    whole = b'{"log": {"version": "1.2", "entries": [\n' + beside + b",\n" + beside + b"]}}"
    path = tmp_path / "log"
    path.write_bytes(whole[:stop])
    source = Source(path)
    assert not source.is_json_lines
    ((position, value),) = source.records()
    assert position == ""
    assert value["log"]["version"] == "1.2"
    (problem,) = source.take_problems()
    assert "cut short" in problem.reason


@pytest.mark.parametrize(
    "broken",
    [
        b'{"n": 0, "te',
        b'{"n": 0,',
        b'{"n": [',
        b'{"n": ',
        b'{"n": [1, 2',
        b"{",
        b'{"n": 0}}',
        b"{]",
    ],
)
@pytest.mark.parametrize("count", [2, 5, 500])
def test_wherever_the_first_record_is_broken_the_others_are_read(
    broken: bytes, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(broken + b"\n" + LINES.split(b"\n")[1] + b"\n" + LINES * count)
    source = Source(path)
    assert source.head.is_json_lines
    assert len(list(source.records())) == 1 + 5 * count
    assert [problem.position for problem in source.take_problems()] == ["L1"]


def test_stray_zeros_are_no_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES + bytes(300) + b"\n" + LINES)
    source = Source(path)
    assert not source.head.is_binary
    assert len(list(source.json_lines())) == 10
    assert [problem.position for problem in source.take_problems()] == ["L6"]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert Source(path).head.is_binary
    path.write_bytes('{"a": 1}'.encode("utf-16-le"))
    assert Source(path).head.is_binary


def test_yaml_reads_as_json_does(tmp_path: Path) -> None:
    path = tmp_path / "log.yaml"
    path.write_text('interactions:\n- request: {body: \'{"model": "m"}\'}\n  n: 1\n- n: 2\n')
    source = Source(path)
    assert source.head.keys == {"interactions"}
    assert source.json()["interactions"][1] == {"n": 2}
    assert raw_record(source.name, "/interactions/0/request/body/model") == "m"


# ---------------------------------------------------------------------- what goes wrong


@every_packing
def test_one_broken_line_is_a_problem_and_the_rest_is_read(pack: Pack, tmp_path: Path) -> None:
    lines = LINES.split(b"\n")
    lines[2] = b'{"n": 2, "text":'
    source = pack(tmp_path, b"\n".join(lines))
    assert [position for position, _ in source.json_lines()] == ["L1", "L2", "L4", "L5"]
    (problem,) = source.take_problems()
    assert (problem.position, problem.severity) == ("L3", "error")
    assert "cut short" in problem.reason
    assert source.take_problems() == []


@every_packing
def test_a_value_cut_short_gives_what_stands_before(pack: Pack, tmp_path: Path) -> None:
    source = pack(tmp_path, ARRAY[:-30])
    value = source.json()
    assert value[:4] == RECORDS[:4]
    (problem,) = source.take_problems()
    assert (problem.severity, "cut short" in problem.reason) == ("error", True)
    assert problem.position is not None
    assert problem.position.startswith("byte ")


def test_a_value_broken_in_the_middle_gives_what_stands_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a": [1, 2], "b": oops, "c": 3}')
    source = Source(path)
    assert source.json() == {"a": [1, 2]}
    assert source.take_problems()[0].position == "byte 19"
    path.write_bytes(b'{"a": 1}\n\n  {"b": 2}')
    source = Source(path)
    assert source.json() == {"a": 1}
    assert "more follows" in source.take_problems()[0].reason


@pytest.mark.parametrize("data", [b"", b"plain text", b"\x00\x01"])
def test_what_is_no_json_at_all_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with pytest.raises(UnreadableRecord) as caught:
        Source(path).json()
    assert caught.value.position == "byte 0"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_packed_lines_cut_short_are_read_up_to_the_cut(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    lines = b"".join(
        b'{"n": %d, "noise": "%s"}\n' % (n, os.urandom(40).hex().encode()) for n in range(9_000)
    )
    path = tmp_path / "log"
    path.write_bytes(pack(lines)[: -len(pack(lines)) // 3])
    source = Source(path)
    numbers = [record["n"] for _, record in source.json_lines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 4_000
    assert any("compressed data" in problem.reason for problem in source.take_problems())
    assert len(source.hash) == 64


def test_doubts_are_counted_in_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1}\n{"a": NaN}\n{"a": "\xff"}\n{"a": Infinity}\n')
    source = Source(path)
    assert [record["a"] for _, record in source.json_lines()] == [1, None, "\ufffd", None]
    found = {problem.position: problem for problem in source.take_problems()}
    assert set(found) == {"L2", "L3"}
    assert found["L2"].reason.endswith(", 2 times")
    assert {problem.severity for problem in found.values()} == {"warning"}


def test_problems_of_one_file_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1}\n' + b"oops\n" * 2_500)
    source = Source(path)
    assert len(list(source.json_lines())) == 1
    problems = source.take_problems()
    assert len(problems) == sources.MAX_LISTED_PROBLEMS + 1
    assert problems[-1].reason == "1,500 more problems, not listed"


def test_a_line_of_many_megabytes_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 1}\n{"n": 2, "text": "' + b"x" * (40 << 20) + b'"}\n{"n": 3}\n')
    with at_most(3):
        assert [record["n"] for _, record in Source(path).records()] == [1, 2, 3]


def test_memory_stays_bounded_on_big_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    line = b'{"text": "' + b"x" * 1_000 + b'"}\n'
    with path.open("wb") as file:
        for _ in range(100):
            file.write(line * 1_000)
    script = (
        "import sys, resource; from pathlib import Path; from loaders.sources import Source\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = sum(1 for _ in Source(Path(sys.argv[1])).json_lines())\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base\n"
        "print(n, grown // 1024)\n"
    )
    import subprocess

    out = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    ).stdout
    count, grown_mb = map(int, out.split())
    assert count == 100_000
    assert grown_mb < 40  # of a file of 96 MB


# ---------------------------------------------------------------------- files beside


def test_files_beside_are_found_on_disk_and_in_archives(tmp_path: Path) -> None:
    files = {"runs/a/log.json": b'{"x": 1}', "runs/a/extra.json": b'{"y": 2}', "top.json": b"[3]"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    packed = tmp_path / "all.zip"
    packed.write_bytes(zip_of(files))
    for source in (Source(tmp_path / "runs/a/log.json"), Source(packed, "runs/a/log.json")):
        extra, top = source.beside("extra.json"), source.beside("../../top.json")
        assert extra is not None
        assert top is not None
        assert (extra.json(), top.json()) == ({"y": 2}, [3])
        assert source.beside("absent.json") is None
        assert source.beside(str(tmp_path / "top.json")) is None
        assert source.beside("x" * 5_000) is None
        assert source.beside("nul\0.json") is None
        assert source.beside("extra.json") is extra
        assert source.companions_read == {extra.name, top.name}
        assert raw_record(source.name, "extra.json#/y") == 2
        assert raw_record(source.name, "../../top.json#/0") == 3


def test_problems_of_a_file_beside_carry_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(b"{}")
    (tmp_path / "extra.jsonl").write_bytes(b"oops\n")
    source = Source(tmp_path / "log.json")
    extra = source.beside("extra.jsonl")
    assert extra is not None
    assert list(extra.json_lines()) == []
    assert source.take_problems() == []
    assert extra.take_problems()[0].position == "L1"


# ---------------------------------------------------------------------- back to the raw record


def test_positions_lead_into_members_and_lines(tmp_path: Path) -> None:
    files = {
        "a#b.json": b'{"x/y": {"~": [10, {"#": "deep"}]}}',
        "lines/s.jsonl": b'{"n": 1}\n\n{"n": 3}\n',
    }
    path = tmp_path / "log.eval"
    path.write_bytes(zip_of(files))
    name = path.as_posix()
    assert raw_record(name, "a#b.json#/x~1y/~0/1/#") == "deep"
    assert raw_record(name, "lines/s.jsonl#L3/n") == 3
    assert raw_record(name, "a#b.json#") == {"x/y": {"~": [10, {"#": "deep"}]}}
    assert raw_record(f"{name}/lines/s.jsonl", "L1/n") == 1
    nested = tmp_path / "outer.zip"
    nested.write_bytes(zip_of({"in/log.eval": path.read_bytes()}))
    assert raw_record(f"{nested.as_posix()}/in/log.eval", "lines/s.jsonl#L3/n") == 3


def test_a_hash_sign_in_a_key_is_no_member(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(b'{"a#": {"b#c": 1}}')
    assert raw_record(path.as_posix(), "/a#/b#c") == 1


@pytest.mark.parametrize(
    "position",
    [
        "L9",
        "/absent",
        "/list/7",
        "/list/-1",
        "/list/x",
        "/list/²",
        "other#/x",
        "nonsense",
        "Lx",
        None,
    ],
)
def test_a_position_that_leads_nowhere_is_said(position: str | None, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(b'{"list": [1]}')
    with pytest.raises(UnreadableRecord):
        raw_record(path.as_posix(), position)


def test_a_log_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecord, match="load the logs from where they are now"):
        raw_record(f"{tmp_path.as_posix()}/gone.json", "/x")
    packed = tmp_path / "a.zip"
    packed.write_bytes(zip_of({"a.json": b"{}"}))
    with pytest.raises(UnreadableRecord):
        raw_record(f"{packed.as_posix()}/b.json", "/x")
    with pytest.raises(UnreadableRecord):
        find_source("x" * 5_000)


def test_a_pointer_may_go_on_in_a_text_that_holds_json() -> None:
    assert follow({"body": '{"messages": ["hi"]}'}, "/body/messages/0") == "hi"
    with pytest.raises(UnreadableRecord):
        follow({"body": "no json"}, "/body/messages")


def test_no_file_stays_open_while_many_sources_live(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell which files are open")
    before = len(list(Path("/proc/self/fd").iterdir()))
    alive: list[Source] = []
    for number in range(40):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(zip_of({"a.json": LINES, "b.gz": gzip.compress(LINES)}))
        for source in (Source(path), Source(path, "a.json"), Source(path, "b.gz")):
            assert source.head.data
            assert source.head.tail
            assert source.hash
            alive.append(source)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_source_forgets_its_bytes_when_released(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    source = Source(path)
    assert source.head.records == RECORDS
    path.unlink()
    assert source.json_lines  # held in memory so far
    assert len(list(source.json_lines())) == 5
    source.release()
    with pytest.raises(FileNotFoundError):
        list(source.json_lines())


def test_a_pipe_as_a_file_is_never_opened_by_discovery(tmp_path: Path) -> None:
    from loaders.discovery import discover

    os.mkfifo(tmp_path / "pipe")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(discover(tmp_path)), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert "no regular file" in found[0].problem
