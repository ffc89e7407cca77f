"""Zip archives and compressed streams, read with bounds: deflate and zstd, whole or cut short.

Nothing is ever unpacked onto the disk, so that a member's name is a label and no path. No file stays
open between two reads: thousands of archives can be loaded together.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from loaders.errors import UnreadableRecord
from loaders.unpacking import (
    Chunks,
    Damaged,
    Packed,
    as_stream,
    gunzip,
    inflate,
    inflated,
    stored,
    unzstd,
    unzstd_frame,
)

MAX_MEMBER_BYTES = 8 << 30
"""Largest size to which one file or member may unpack; raise it by assignment if yours is larger."""
MAX_RATIO = 500
"""Largest ratio of unpacked to packed size for what unpacks to over ``RATIO_FREE_BYTES``."""
RATIO_FREE_BYTES = 64 << 20

_STORED, _DEFLATE, _ZSTD_OLD, _ZSTD = 0, 8, 20, 93
_LOCAL_SIGNATURE: Final = b"PK\x03\x04"
_LOCAL_HEADER: Final = struct.Struct("<4sHHHHHIIIHH")
_GZIP, _FRAME = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ENCRYPTED, _SIZES_BEHIND = 1, 8
_SMALL: Final = 16 << 20
"""So many bytes may be unpacked at once; no member of this size can be a bomb."""


@dataclass(frozen=True)
class Member:
    """Where one file lies inside an archive."""

    name: str
    method: int
    header_offset: int
    packed: int
    unpacked: int
    crc: int | None = None
    is_encrypted: bool = False


class ZipArchive:
    """The members of a zip file; of one cut short, those that stand before the cut.

    ``damage`` says what is wrong with the archive as a whole, or is None; ``repeated`` names that
    it holds several times, of which the last counts.
    """

    def __init__(self, file: Path | bytes) -> None:
        self._file = file
        self.damage: str | None = None
        try:
            members = list(self._directory())
        except Exception as error:  # noqa: BLE001 - a hostile directory makes zipfile raise anything
            self.damage = f"zip directory unreadable ({error}); members before the damage are read"
            members = list(self._scan_local_headers())
        self._members = {member.name: member for member in members}
        counts = Counter(member.name for member in members)
        self.repeated = tuple(name for name, count in counts.items() if count > 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the order of the directory."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Unpacked size that the directory declares, in bytes."""
        return self._member(name).unpacked

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The unpacked bytes of a member.

        Raises ``UnreadableRecord`` where there is none of that name, where it is damaged, encrypted
        or packed by an unknown method, or unpacks beyond ``MAX_MEMBER_BYTES`` or ``MAX_RATIO``.
        """
        with self._open() as file:
            return self._read(name, file)

    @contextmanager
    def reader(self) -> Generator[Callable[[str], bytes]]:
        """``read`` for many members, one after the other, out of a file that is opened once."""
        with self._open() as file:
            yield lambda name: self._read(name, file)

    def _read(self, name: str, file: BinaryIO) -> bytes:
        data = self._read_at_once(self._member(name), file)
        if data is not None:
            return data
        with self.open(name) as stream:
            try:
                return stream.read()
            except UnreadableRecord as error:
                error.position = error.position or name
                raise

    def _read_at_once(self, member: Member, file: BinaryIO) -> bytes | None:
        """The bytes of a member that is small and just as the directory says: half the time.

        None for any other, and for what is damaged, which the stream reads or finds the words for.
        """
        unpack = _AT_ONCE.get(member.method)
        is_small = 0 < member.unpacked <= min(_SMALL, MAX_MEMBER_BYTES)
        if unpack is None or not is_small or member.is_encrypted:
            return None
        file.seek(max(0, member.header_offset))
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != _LOCAL_SIGNATURE:
            return None
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        file.seek(name_length + extra_length, io.SEEK_CUR)
        packed = file.read(min(member.packed, _SMALL))
        data = unpack(packed, member.unpacked)
        if data is None or len(data) != member.unpacked:
            return None
        return data if member.crc in (None, zlib.crc32(data)) else None

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a member; what can be unpacked of it where it is damaged."""
        with suppress(OSError, UnreadableRecord), self.open(name) as stream:
            return read_up_to(stream, size)[0]
        return b""

    def open(self, name: str) -> io.BufferedReader:
        """A bounded stream of the unpacked bytes of a member.

        Raises ``UnreadableRecord`` as ``read`` does, partly only when the stream is read.
        """
        member = self._member(name)
        if member.is_encrypted:
            raise UnreadableRecord("encrypted; decrypt the archive first", name)
        unpack = _UNPACKERS.get(member.method)
        if unpack is None:
            raise UnreadableRecord(
                f"packed by zip method {member.method}; stored, deflate and zstd can be read", name
            )
        file = self._open()
        try:
            file.seek(max(0, member.header_offset))
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != _LOCAL_SIGNATURE:
                raise UnreadableRecord("the archive's directory points at no member", name)
            *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            file.seek(name_length + extra_length, io.SEEK_CUR)
            packed = Packed(file, member.packed)
            return as_stream(_checked(_bounded(unpack(packed), packed), member.crc), file)
        except BaseException:
            file.close()
            raise

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise UnreadableRecord("the archive holds no such member", name)
        return self._members[name]

    def _open(self) -> BinaryIO:
        return io.BytesIO(self._file) if isinstance(self._file, bytes) else self._file.open("rb")

    def _directory(self) -> Iterator[Member]:
        with self._open() as file, zipfile.ZipFile(file) as directory:
            for info in directory.infolist():
                if not info.is_dir():
                    yield Member(
                        info.filename,
                        info.compress_type,
                        info.header_offset,
                        info.compress_size,
                        info.file_size,
                        info.CRC,
                        bool(info.flag_bits & _ENCRYPTED),
                    )

    def _scan_local_headers(self) -> Iterator[Member]:
        if isinstance(self._file, bytes):
            yield from _members_in(self._file)
        elif self._file.stat().st_size:
            with (
                self._file.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                yield from _members_in(data)


def _members_in(data: bytes | mmap.mmap) -> Iterator[Member]:
    """The members of an archive whose directory is lost, found by the header before each."""
    offset = data.find(_LOCAL_SIGNATURE)
    while 0 <= offset <= len(data) - _LOCAL_HEADER.size:
        _, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = (
            _LOCAL_HEADER.unpack_from(data, offset)
        )
        name_at = offset + _LOCAL_HEADER.size
        start = name_at + name_length + extra_length
        name = data[name_at : name_at + name_length].decode("utf-8", "replace")
        if flags & _SIZES_BEHIND or packed == 0xFFFFFFFF:  # sizes stand behind the data, or zip64
            following = data.find(_LOCAL_SIGNATURE, start)
            packed = (following if following > 0 else len(data)) - start
            unpacked, crc = 0, None
        if name and not name.endswith("/"):
            packed = max(0, min(packed, len(data) - start))
            yield Member(name, method, offset, packed, unpacked, crc, bool(flags & _ENCRYPTED))
        offset = data.find(_LOCAL_SIGNATURE, start + packed)


# ---------------------------------------------------------------------- compressed files


def open_unpacked(path: Path) -> io.BufferedReader:
    """A file's bytes, unpacked where its first bytes say that it is gzip or zstd."""
    return unpacked(path.open("rb"))


def unpacked(file: io.BufferedReader) -> io.BufferedReader:
    """The same stream, unpacked with bounds where its first bytes say that it is gzip or zstd."""
    magic = file.peek(4)[:4]
    packed = Packed(file, None)
    if magic[:2] == _GZIP:
        return as_stream(_bounded(gunzip(packed), packed), file)
    if magic == _FRAME:
        return as_stream(_bounded(unzstd(packed), packed), file)
    return file


def is_packed(data: bytes) -> bool:
    """Whether bytes begin as gzip or zstd does."""
    return data[:2] == _GZIP or data[:4] == _FRAME


def open_zstd(packed: BinaryIO) -> io.BufferedReader:
    """A stream of the unpacked bytes of zstd frames, without bounds: read no more than you want."""
    return as_stream(unzstd(Packed(packed, None)), packed)


def read_up_to(stream: io.BufferedReader, size: int) -> tuple[bytes, str | None]:
    """The first ``size`` bytes of a stream; or those before it is damaged, and how it is."""
    pieces: list[bytes] = []
    try:
        while size > 0 and (piece := stream.read1(size)):
            pieces.append(piece)
            size -= len(piece)
    except Damaged as error:
        return b"".join(pieces), error.reason
    return b"".join(pieces), None


def _bounded(chunks: Chunks, packed: Packed) -> Chunks:
    """Stops a decompression bomb with a message that says how to raise the limit."""
    read = 0
    for chunk in chunks:
        read += len(chunk)
        ratio = read / max(1, packed.size or packed.taken)
        if read > MAX_MEMBER_BYTES or (read > RATIO_FREE_BYTES and ratio > MAX_RATIO):
            raise UnreadableRecord(
                f"unpacks to over {read >> 20} MiB, {ratio:.0f} times its packed size; to read it, "
                "raise loaders.archives.MAX_MEMBER_BYTES or MAX_RATIO"
            )
        yield chunk


def _checked(chunks: Chunks, checksum: int | None) -> Chunks:
    """Says at the end whether the bytes are those that were packed."""
    found = 0
    for chunk in chunks:
        found = zlib.crc32(chunk, found)
        yield chunk
    if checksum is not None and found != checksum:
        raise Damaged("the archive's checksum says that the data are damaged")


_UNPACKERS: Final = {
    _STORED: stored,
    _DEFLATE: inflate,
    _ZSTD_OLD: unzstd,
    _ZSTD: unzstd,
}
_AT_ONCE: Final = {_DEFLATE: inflated, _ZSTD_OLD: unzstd_frame, _ZSTD: unzstd_frame}
