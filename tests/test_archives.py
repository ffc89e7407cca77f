"""Archives and compressed streams: methods, cuts, damage, bombs, hostile names and directories."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from budget import at_most

from loaders import archives
from loaders.archives import Damaged, ZipArchive, open_unpacked, read_up_to
from loaders.errors import UnreadableRecord

TEXT = "".join(f'{{"line": {n}, "text": "{random.Random(n).random()}"}}\n' for n in range(9_000))
DATA = TEXT.encode()


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def zip_by_hand(
    name: str,
    packed: bytes,
    size: int,
    crc: int,
    method: int,
    *,
    flags: int = 0,
    packed_size: int = -1,
) -> bytes:
    """A zip archive of one member with whatever its header is to claim."""
    packed_size = len(packed) if packed_size < 0 else packed_size
    raw = name.encode()
    common = struct.pack("<HHHHHIIIH", 20, flags, method, 0, 0, crc, packed_size, size, len(raw))
    local = b"PK\x03\x04" + common + struct.pack("<H", 0) + raw + packed
    central = b"PK\x01\x02\x14\x00" + common + struct.pack("<HHHHII", 0, 0, 0, 0, 0, 0) + raw
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def zstd_zip(data: bytes, name: str = "a.json") -> bytes:
    packed = zstandard.ZstdCompressor().compress(data)
    return zip_by_hand(name, packed, len(data), zlib.crc32(data), 93)


def pieces_of(stream: io.BufferedReader, pieces: list[bytes] | None = None) -> list[bytes]:
    pieces = [] if pieces is None else pieces
    while piece := stream.read1(1 << 20):
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    "archive",
    [
        zip_of({"a.json": DATA}),
        zip_of({"a.json": DATA}, zipfile.ZIP_STORED),
        zstd_zip(DATA),
    ],
    ids=["deflate", "stored", "zstd"],
)
@pytest.mark.parametrize("on_disk", [True, False], ids=["file", "bytes"])
def test_each_method_gives_the_same_bytes(archive: bytes, on_disk: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive)
    opened = ZipArchive(path if on_disk else archive)
    assert (opened.names, opened.damage) == (("a.json",), None)
    assert opened.size("a.json") == len(DATA)
    assert opened.read("a.json") == DATA
    assert opened.head("a.json", 100) == DATA[:100]
    with opened.open("a.json") as stream:
        assert b"".join(pieces_of(stream)) == DATA


def test_folders_are_no_members_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.mkdir("sub")
        archive.writestr("a", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"new")
    opened = ZipArchive(packed.getvalue())
    assert (opened.names, opened.repeated) == (("a",), ("a",))
    assert opened.read("a") == b"new"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_cut_file_gives_all_that_stands_before_the_cut(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    whole = pack(DATA)
    sizes: list[int] = []
    for cut in range(1, 20):
        path = tmp_path / f"{cut}"
        path.write_bytes(whole[: len(whole) * cut // 20])
        with open_unpacked(path) as stream:
            data, damage = read_up_to(stream, len(DATA) + 1)
        assert damage is not None
        assert "cut short" in damage
        assert data == DATA[: len(data)]
        sizes.append(len(data))
    assert sizes == sorted(sizes)
    assert sizes[10] > len(DATA) * 0.3


def test_several_gzip_members_or_zstd_frames_are_one_file(tmp_path: Path) -> None:
    for name, pack in [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)]:
        path = tmp_path / name
        padding = b"\0" * 512 if name == "gz" else b""
        path.write_bytes(pack(DATA[:1_000]) + pack(DATA[1_000:]) + padding)
        with open_unpacked(path) as stream:
            assert stream.read() == DATA


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_damage_in_the_middle_is_said(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    whole = bytearray(pack(DATA))
    whole[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    path = tmp_path / "damaged"
    path.write_bytes(whole)
    with open_unpacked(path) as stream, pytest.raises(Damaged, match=r"damaged|cut short"):
        pieces_of(stream)


def test_a_changed_byte_of_a_stored_member_is_noticed() -> None:
    packed = bytearray(zip_of({"a": DATA}, zipfile.ZIP_STORED))
    packed[1_000] ^= 1
    with pytest.raises(Damaged, match="checksum") as caught:
        ZipArchive(bytes(packed)).read("a")
    assert caught.value.position == "a"


@pytest.mark.parametrize("on_disk", [True, False], ids=["file", "bytes"])
def test_members_before_the_cut_of_an_archive_are_read(on_disk: bool, tmp_path: Path) -> None:
    members = {f"{n}.json": os.urandom(500) + DATA[:9_000] for n in range(8)}
    whole = zip_of(members)
    path = tmp_path / "cut.zip"
    before: list[str] = []
    for cut in range(1, 20):
        data = whole[: len(whole) * cut // 20]
        path.write_bytes(data)
        archive = ZipArchive(path if on_disk else data)
        assert archive.damage is not None
        assert "directory" in archive.damage
        *before, last = archive.names
        assert [archive.read(name) for name in before] == [members[name] for name in before]
        assert members[last].startswith(archive.head(last, 400))
    assert len(before) == 7


def test_sizes_behind_the_data_are_found_out(tmp_path: Path) -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:  # type: ignore[arg-type]
        packed.writestr("a", DATA)
        packed.writestr("b", DATA)
    archive = ZipArchive(stream.data[:-30])
    assert archive.damage is not None
    assert archive.head("a", len(DATA)) == archive.head("b", len(DATA)) == DATA


@pytest.mark.parametrize("ratio", [True, False], ids=["ratio", "size"])
@pytest.mark.parametrize("kind", ["deflate", "zstd", "gz", "zst"])
def test_a_bomb_is_stopped_with_the_limit_in_the_message(
    kind: str, ratio: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = bytes(96 << 20)
    if not ratio:
        monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
        zeros = zeros[: 2 << 20]
    path = tmp_path / "bomb"
    if kind == "deflate":
        opened = ZipArchive(zip_of({"a": zeros})).open("a")
    elif kind == "zstd":
        opened = ZipArchive(zstd_zip(zeros)).open("a.json")
    else:
        pack = gzip.compress if kind == "gz" else zstandard.ZstdCompressor().compress
        path.write_bytes(pack(zeros))
        opened = open_unpacked(path)
    pieces: list[bytes] = []
    with opened as stream, pytest.raises(UnreadableRecord, match="MAX_MEMBER_BYTES or MAX_RATIO"):
        pieces_of(stream, pieces)
    assert sum(map(len, pieces)) <= (archives.RATIO_FREE_BYTES if ratio else 1 << 20)


def test_the_head_of_a_bomb_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(bytes(1 << 30)))
    with at_most(1), open_unpacked(path) as stream:
        assert read_up_to(stream, 100) == (bytes(100), None)


@pytest.mark.parametrize("name", ["../../escape", "/etc/escape", "a/../../../escape", "C:\\escape"])
def test_names_that_lead_out_of_the_archive_are_labels_only(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = folder / "hostile.zip"
    data = b"data"
    path.write_bytes(zip_by_hand(name, data, 4, zlib.crc32(data), 0))
    archive = ZipArchive(path)
    assert archive.names == (name,)
    assert archive.read(name) == data
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["hostile.zip"]


def test_what_can_not_be_unpacked_is_refused_with_the_reason() -> None:
    encrypted = zip_by_hand("a", b"x" * 20, 8, 0, 8, flags=1)
    with pytest.raises(UnreadableRecord, match="encrypted"):
        ZipArchive(encrypted).read("a")
    lzma = zip_of({"a": DATA}, zipfile.ZIP_LZMA)
    with pytest.raises(UnreadableRecord, match="method 14"):
        ZipArchive(lzma).read("a")
    with pytest.raises(UnreadableRecord, match="no such member"):
        ZipArchive(lzma).read("b")


@pytest.mark.parametrize("method", [8, 93], ids=["deflate", "zstd"])
@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 1, 0])
def test_a_member_of_another_size_than_it_claims_reads_as_in_a_stream(
    method: int, size: int
) -> None:
    deflate = zlib.compressobj(wbits=-15)
    packed = (
        deflate.compress(DATA) + deflate.flush()
        if method == 8
        else zstandard.ZstdCompressor().compress(DATA)
    )
    archive = ZipArchive(zip_by_hand("a", packed, size, zlib.crc32(DATA), method))
    assert archive.read("a") == DATA


@pytest.mark.parametrize(
    "archive", [zip_of({"a.json": DATA}), zstd_zip(DATA)], ids=["deflate", "zstd"]
)
def test_a_small_member_and_a_large_one_are_read_alike(
    archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[str] = []
    open_stream = ZipArchive.open

    def counted(self: ZipArchive, name: str) -> io.BufferedReader:
        streams.append(name)
        return open_stream(self, name)

    monkeypatch.setattr(ZipArchive, "open", counted)
    assert ZipArchive(archive).read("a.json") == DATA
    assert streams == []
    monkeypatch.setattr(archives, "_SMALL", len(DATA) - 1)
    assert ZipArchive(archive).read("a.json") == DATA
    assert streams == ["a.json"]


def test_a_lying_directory_costs_no_memory_and_does_not_crash() -> None:
    lying = zip_by_hand("a", b"{}", 2, zlib.crc32(b"{}"), 0, packed_size=0xFFFFFFF0)
    archive = ZipArchive(lying)
    with pytest.raises(UnreadableRecord):
        archive.read("a")
    beyond = bytearray(zip_of({"a": b"{}"}))
    at = beyond.index(b"PK\x01\x02") + 42
    beyond[at : at + 4] = struct.pack("<I", 5)  # where the member's header is said to be
    with pytest.raises(UnreadableRecord, match=r"points at no member|directory"):
        ZipArchive(bytes(beyond)).read("a")


@pytest.mark.parametrize("seed", range(60))
def test_an_archive_with_random_damage_never_crashes(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(zip_of({"a": DATA[:2_000], "b/c": DATA[:3_000]}))
    for _ in range(chance.randrange(1, 12)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    archive = ZipArchive(bytes(data))
    for name in archive.names:
        with suppress(UnreadableRecord):
            archive.read(name)
        archive.head(name, 100)


def test_no_file_stays_open(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell which files are open")
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({"a": DATA}))
    before = open_files()
    kept = [ZipArchive(path) for _ in range(50)]
    for archive in kept:
        archive.read("a")
        archive.head("a", 10)
    assert open_files() == before
