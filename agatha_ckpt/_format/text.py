"""The text format: one record a line, and nothing else in the file.

It is for other programs to read. Partition count and digest are in the file name, as
there is no header; the manifest has the digest as well.
"""

import hashlib
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any, BinaryIO

from agatha_ckpt._errors import EncodeError, damaged
from agatha_ckpt._format.base import (
    DIGEST_BYTES,
    Attempt,
    Codec,
    StoredFile,
    check_records,
)
from agatha_ckpt._format.framing import crc32
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import SUFFIXES, TEXT

_CHUNK_BYTES = 256 * 1024


class TextCodec(Codec):
    """Partitions as lines of UTF-8."""

    name = TEXT
    suffix = SUFFIXES[TEXT]
    is_text = True

    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        r"""Write *records*, one a line, each ended by ``\n``; see `Codec.encode`."""
        check_records(records, attempt.where)
        started = perf_counter()
        content = _Content()
        for record in records:
            line = _encode_line(record, content.lines, attempt.where)
            content.add(line)
            sink.write(line)
        seconds = perf_counter() - started
        return self.entry(
            attempt,
            content.digest,
            seconds,
            records=content.records,
            bytes=content.bytes,
        )

    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[list[str]]:
        """Yield the lines; see `Codec.decode`.

        The file is read twice: only the whole of it has a checksum, and no line of a
        changed file is yielded. With a *piece*, it is read once and not checked.
        """
        with file.open(piece) as source:
            if info.digest and not piece:
                chunks = _checked_chunks(source, file, info)
            else:
                chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
            try:
                yield from _split_lines(chunks)
            except UnicodeDecodeError as error:
                raise damaged(file.where, f"it is not UTF-8 ({error})") from None

    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Read and check all lines."""
        for _ in self.decode(file, info, allow_pickle):
            pass

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file that matches the digest in its name.

        Neither time nor code is in a text file.
        """
        content = _Content()
        with file.open() as source:
            while chunk := source.read(_CHUNK_BYTES):
                content.add(chunk)
        digest, name = content.digest, file.name
        if name is None or not digest.startswith(name.digest or "-"):
            raise damaged(file.where, "it does not match the digest in its name")
        return PartitionInfo(
            file=file.filename,
            records=content.records,
            bytes=content.bytes,
            digest=digest,
            fingerprint=name.fingerprint,
        )


class _Content:
    """Counts and digest of the bytes so far."""

    def __init__(self) -> None:
        self.lines = self.bytes = 0
        self._digest = hashlib.sha256()
        self._end = b"\n"

    def add(self, data: bytes) -> None:
        self.lines += data.count(b"\n")
        self.bytes += len(data)
        self._digest.update(data)
        self._end = data[-1:]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[: 2 * DIGEST_BYTES]

    @property
    def records(self) -> int:
        return self.lines + (self._end != b"\n")


def _encode_line(record: Any, number: int, where: str) -> bytes:
    if type(record) is not str:
        kind = type(record)
        raise EncodeError(
            f"record {number} of {where} is of type {kind.__module__}."
            f"{kind.__qualname__}, and a text checkpoint holds only str; map str over "
            "the bag, or save it without textfile=True"
        )
    if "\n" in record or "\r" in record:
        raise EncodeError(
            f"record {number} of {where} holds a line break, and a text checkpoint has "
            "one record a line; replace the line breaks, or save the bag without "
            "textfile=True"
        )
    try:
        return record.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"record {number} of {where} holds a lone surrogate, which UTF-8 cannot "
            f"express ({error}); replace it, or save the bag without textfile=True"
        ) from error


def _checked_chunks(
    source: BinaryIO, file: StoredFile, info: PartitionInfo
) -> Iterator[bytes]:
    """Yield a file in chunks, each the same as when the whole of it was checked."""
    other = damaged(file.where, "it holds other lines than those that were saved")
    content = _Content()
    checksums: list[int] = []
    while chunk := source.read(_CHUNK_BYTES):
        content.add(chunk)
        checksums.append(crc32(chunk))
    if content.digest != info.digest:
        raise other
    if content.records != info.records:
        reason = f"it holds {content.records} lines, not {info.records}"
        raise damaged(file.where, reason)
    source.seek(0)
    for checksum in checksums:
        chunk = source.read(_CHUNK_BYTES)
        if crc32(chunk) != checksum:
            raise other
        yield chunk
    if source.read(1):
        raise other


def _split_lines(chunks: Iterable[bytes]) -> Iterator[list[str]]:
    started: list[bytes] = []  # a line whose end is in a later chunk
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        started.append(first)
        if others:
            yield [b"".join(started).decode(), *map(bytes.decode, others[:-1])]
            started = others[-1:]
    if any(started):
        yield [b"".join(started).decode()]
