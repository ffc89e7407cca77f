"""Decoders of packed bytes as chunks: deflate, gzip and zstd, without bounds on what they unpack to."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from loaders.errors import UnreadableRecord

PIECE: Final = 1 << 18
"""So many unpacked bytes come at a time."""
_PACKED_PIECE: Final = 1 << 16
_ZSTD_PIECE: Final = 1 << 9
"""What a zstd decoder is fed at a time: even a bomb then gives no more than 16 MiB at a time."""


class Damaged(UnreadableRecord):
    """Compressed data are damaged or cut short; what stands before that can be read."""


Chunks = Iterator[bytes]


class Packed:
    """Reads on in the packed bytes of one file or member, and no further."""

    def __init__(self, file: BinaryIO, size: int | None) -> None:
        self._file, self.size, self.taken = file, size, 0

    def __call__(self, count: int) -> bytes:
        data = self._file.read(count if self.size is None else min(count, self.size - self.taken))
        self.taken += len(data)
        return data


def stored(packed: Packed) -> Chunks:
    while data := packed(PIECE):
        yield data


def inflate(packed: Packed) -> Chunks:
    """Raw deflate, as inside a zip archive."""
    yield from _unzlib(zlib.decompressobj(-zlib.MAX_WBITS), packed)


def gunzip(packed: Packed) -> Chunks:
    """The members of a gzip file, one behind the other, padded with zeros or not."""
    data = packed(_PACKED_PIECE)
    while data.strip(b"\0"):
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        yield from _unzlib(decoder, packed, data)
        data = decoder.unused_data or packed(_PACKED_PIECE)


def _unzlib(decoder: Any, packed: Packed, data: bytes = b"") -> Chunks:
    while not decoder.eof:
        data = data or packed(_PACKED_PIECE)
        if not data:
            raise Damaged("compressed data are cut short")
        try:
            piece = decoder.decompress(data, PIECE)
        except zlib.error as error:
            raise Damaged(f"compressed data are damaged: {error}") from None
        data = decoder.unconsumed_tail
        if piece:
            yield piece


def unzstd(packed: Packed) -> Chunks:
    """Zstd frames, one behind the other."""
    data = packed(_PACKED_PIECE)
    while data:
        decoder, broken = _zstd()
        while not decoder.eof:
            if not data:
                raise Damaged("compressed data are cut short")
            try:
                piece = decoder.decompress(data[:_ZSTD_PIECE])
            except broken as error:
                raise Damaged(f"compressed data are damaged: {error}") from None
            data = data[_ZSTD_PIECE:] or packed(_PACKED_PIECE)
            if piece:
                yield piece
        data = decoder.unused_data + data


def inflated(packed: bytes, size: int) -> bytes | None:
    """What raw deflate unpacks to, if it ends within this size."""
    try:
        if len(packed) <= _PACKED_PIECE:  # some 1,000 times that at most, and no piece is copied
            return zlib.decompress(packed, -zlib.MAX_WBITS, max(1, size))
        decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        data = decoder.decompress(packed, size + 1)
    except zlib.error:
        return None
    return data if decoder.eof else None


def unzstd_frame(packed: bytes, size: int) -> bytes | None:
    """What one zstd frame unpacks to, if it ends within this size."""
    if sys.version_info >= (3, 14):
        decoder, broken = _zstd()
        try:
            data = decoder.decompress(packed, size + 1)
        except broken:
            return None
        return data if decoder.eof else None
    import zstandard

    try:
        if zstandard.frame_content_size(packed) not in (-1, size):  # it would be believed
            return None
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError:
        return None


def _zstd() -> tuple[Any, type[Exception]]:
    """A decoder of one zstd frame, and what it raises."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.ZstdDecompressor(), zstd.ZstdError
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


class _Stream(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Chunks, file: BinaryIO) -> None:
        self._chunks, self._file, self._rest = chunks, file, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def as_stream(chunks: Chunks, file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(_Stream(chunks, file), PIECE)
