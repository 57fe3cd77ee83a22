"""Checksums of files that have none of their own, as Parquet and npy files.

A file is divided into pieces of 256 KiB, each with a CRC-32. The manifest has all of
them, so that a reader of a few columns checks the pieces that it reads, and no others.
"""

import hashlib
import io
import mmap
import os
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from agatha_ckpt._errors import damaged
from agatha_ckpt._format.base import DIGEST_BYTES, StoredFile
from agatha_ckpt._format.framing import crc32
from agatha_ckpt._format.manifest import PartitionInfo

PIECE_BYTES = 256 * 1024
_PART_BYTES = 2 * 1024 * 1024
_MIN_RESERVED_BYTES = 1024 * 1024
_MOST_CHECKED_FILES = 100_000
_OTHER = "it holds other bytes than those that were saved"

_checked_files: set[object] = set()


class PieceWriter:
    """A sink that passes on what is written and takes the checksum of each piece.

    Parameters
    ----------
    sink : binary file, optional
    """

    closed = False

    def __init__(self, sink: BinaryIO | None = None) -> None:
        self.bytes = 0
        self._sink = sink
        self._crc = 0
        self._checksums: list[int] = []

    def reserve(self, size: int) -> None:
        """Allocate the blocks of a large file at once, in less time."""
        sink = self._sink
        if isinstance(sink, io.BufferedWriter) and size >= _MIN_RESERVED_BYTES:
            with suppress(OSError, AttributeError):  # a write reports what is wrong
                os.posix_fallocate(sink.fileno(), 0, size)

    def write(self, data: Any) -> int:
        """Write *data*, which has the buffer protocol, in parts of 2 MiB.

        The page cache has a file that was written in such parts as large pages, which
        are mapped in half the time. A checksum is taken after its part was written,
        which left the part in the processor's cache.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PART_BYTES):
            part = view[start : start + _PART_BYTES]
            if self._sink is not None:
                self._sink.write(part)
            self._take(part)
        return len(view)

    def _take(self, part: memoryview) -> None:
        start, room = 0, PIECE_BYTES - self.bytes % PIECE_BYTES
        while start + room <= len(part):
            crc = crc32(part[start : start + room], self._crc)
            self._checksums.append(crc)
            self._crc, start, room = 0, start + room, PIECE_BYTES
        self._crc = crc32(part[start:], self._crc)
        self.bytes += len(part)

    def flush(self) -> None:
        """Do nothing: the owner of the sink flushes it."""

    def close(self) -> None:
        """Do nothing: the owner of the sink closes it."""

    def result(self) -> tuple[str, str]:
        """Return digest and checksums of what was written."""
        last = [self._crc] if self.bytes % PIECE_BYTES else []
        checksums = [*self._checksums, *last]
        packed = struct.pack(f"<{len(checksums)}I", *checksums)
        return _digest(self.bytes, packed), b64encode(packed).decode()


def _digest(size: int, packed: bytes) -> str:
    data = size.to_bytes(8, "little") + packed
    return hashlib.sha256(data).hexdigest()[: 2 * DIGEST_BYTES]


class PieceReader(io.RawIOBase):
    """The bytes of a stored file, each piece after its checksum.

    A local file is mapped into memory. Of a remote one that is not needed in full, only
    the pieces that are read are fetched.

    Parameters
    ----------
    source : binary file
    file : StoredFile
        The same, for messages.
    info : PartitionInfo
        With the checksums.
    partly : bool
        Whether only parts of it are read.
    """

    def __init__(
        self, source: BinaryIO, file: StoredFile, info: PartitionInfo, partly: bool
    ) -> None:
        self._file = file
        self._source = source
        self._at = 0
        self._size = info.bytes
        packed = b64decode(info.checksums)
        if _digest(info.bytes, packed) != info.digest:
            raise damaged(file.where, "its checksums do not match its digest")
        self._checksums = struct.unpack(f"<{len(packed) // 4}I", packed)
        self._checked = bytearray(len(self._checksums))
        self._digest = info.digest
        self._identity: tuple[int, ...] | None = None
        self._data: memoryview | None = None
        self._piece: tuple[int, memoryview] = (0, memoryview(b""))
        if not (partly and file.remote):
            self._data, self._identity = _content(source, self._size)
            if len(self._data) != self._size:
                raise self._wrong_size(len(self._data))

    def _wrong_size(self, size: int) -> Exception:
        return damaged(self._file.where, f"it has {size} bytes, not {self._size}")

    def get(self, start: int, stop: int) -> memoryview:
        """Return the bytes from *start* to *stop*, after their checksums."""
        stop = min(stop, self._size)
        if start >= stop:
            return memoryview(b"")
        first, last = start // PIECE_BYTES, (stop - 1) // PIECE_BYTES
        if self._data is None:
            data, begin = self._fetch(first, last), first * PIECE_BYTES
            return data[start - begin : stop - begin]
        for piece in range(first, last + 1):
            if not self._checked[piece]:
                begin = piece * PIECE_BYTES
                self._check(piece, self._data[begin : begin + PIECE_BYTES])
                self._checked[piece] = True
        return self._data[start:stop]

    def all(self) -> memoryview:
        """Return the whole file, after its checksums.

        Those of a local file are taken once in a process, unless the file changes.
        """
        key = (self._identity, self._digest)
        if self._data is not None and key in _checked_files:
            return self._data
        data = self.get(0, self._size)
        if self._identity:
            if len(_checked_files) >= _MOST_CHECKED_FILES:
                _checked_files.clear()
            _checked_files.add(key)
        return data

    def check_all(self) -> None:
        """Check all pieces, whatever was checked before."""
        self.get(0, self._size)

    def _check(self, piece: int, data: memoryview) -> None:
        if crc32(data) != self._checksums[piece]:
            raise damaged(self._file.where, _OTHER)

    def _fetch(self, first: int, last: int) -> memoryview:
        start, stop = first * PIECE_BYTES, (last + 1) * PIECE_BYTES
        begin, data = self._piece
        if begin <= start and min(stop, self._size) <= begin + len(data):
            return data[start - begin : stop - begin]
        self._source.seek(start)
        data = memoryview(self._source.read(min(stop, self._size) - start))
        if len(data) < min(stop, self._size) - start:
            raise self._wrong_size(start + len(data))
        for piece in range(first, last + 1):
            at = (piece - first) * PIECE_BYTES
            self._check(piece, data[at : at + PIECE_BYTES])
        self._piece = start, data
        return data

    # ---- as a file ----

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        self._at = starts[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> Any:
        """Return the next *size* bytes, without a copy."""
        stop = self._size if size < 0 else self._at + size
        data = self.get(self._at, stop)
        self._at += len(data)
        return data


def _content(source: BinaryIO, size: int) -> tuple[memoryview, tuple[int, ...] | None]:
    """Return the content of a file: mapped, where it is one of the system.

    With it, what identifies a mapped file until it is changed.
    """
    try:
        descriptor = source.fileno()
        # A private copy, of the pages that are written to: arrays made of it can be
        # changed, and the file cannot.
        mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
        stat = os.fstat(descriptor)
    except (AttributeError, ValueError, OSError):  # also an empty file
        return memoryview(_read(source, size)), None
    return mapped, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _read(source: BinaryIO, size: int) -> bytearray:
    """Return the content of a file that is to have *size* bytes, and can be changed."""
    data = bytearray(size)
    view, found = memoryview(data), 0
    while found < size and (count := source.readinto(view[found:])):  # type: ignore[attr-defined]
        found += count
    view.release()
    del data[found:]
    return data + source.read(1)


@contextmanager
def open_pieces(
    file: StoredFile, info: PartitionInfo, partly: bool = False
) -> Iterator[PieceReader]:
    """Open a stored file for reading through its checksums."""
    with file.open(PIECE_BYTES if partly else 0) as source:
        yield PieceReader(source, file, info, partly)


def inspect_pieces(file: StoredFile, records: int) -> PartitionInfo:
    """Return the manifest's entry for a file that matches the digest in its name."""
    taken = PieceWriter()
    with file.open() as source:
        while chunk := source.read(PIECE_BYTES):
            taken.write(chunk)
    digest, checksums = taken.result()
    name = file.name
    if name is None or not digest.startswith(name.digest or "-"):
        raise damaged(file.where, "it does not match the digest in its name")
    return PartitionInfo(
        file=file.filename,
        records=records,
        bytes=taken.bytes,
        digest=digest,
        fingerprint=name.fingerprint,
        checksums=checksums,
    )
