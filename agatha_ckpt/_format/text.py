"""Records <-> lines: text partitions.

A text partition is its lines and nothing else, for other programs to read; what
checks it stands in its file name and in the manifest.
"""

import hashlib
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any, BinaryIO

from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.base import DIGEST_BYTES, Header, StoredFile, damaged
from agatha_ckpt._format.base import Footer as _Footer
from agatha_ckpt._format.crc import crc32
from agatha_ckpt._format.framing import Footer
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import SUFFIXES, TEXT, parse_filename

_CHUNK_BYTES = 256 * 1024


class TextCodec:
    """Partitions as lines of UTF-8."""

    name = TEXT
    suffix = SUFFIXES[TEXT]
    needs_pickle = False

    def encode(
        self,
        records: Iterable[Any],
        sink: BinaryIO,
        header: Header,
        *,
        code: str,
        allow_pickle: bool,
        where: str,
    ) -> _Footer:
        r"""Write *records*, one a line, each ending in ``\n``; see `Codec.encode`."""
        footer = encode_text(records, sink, where=where)
        return _Footer(
            footer.records,
            footer.blocks,
            footer.bytes,
            footer.seconds,
            footer.holds_pickle,
            footer.digest,
            code,
        )

    def attempt_suffix(self, footer: _Footer, npartitions: int) -> str:
        """Return partition count and digest, for which a text file has no room."""
        return f"{npartitions:08x}{footer.digest[:16]}"

    def decode(
        self,
        file: StoredFile,
        info: PartitionInfo,
        *,
        allow_pickle: bool,
        piece: int = 0,
    ) -> Iterator[list[str]]:
        """Yield the lines; see `Codec.decode`.

        The file is read twice, as a text file has no checksums on the way. No line of
        a changed file is yielded, unless a *piece* is given: then nothing is checked.
        """
        digest, lines = ("", -1) if piece else (info.digest, info.records)
        with file.open(piece) as source:
            yield from decode_text(source, digest, file.where, lines)

    def verify(
        self, file: StoredFile, info: PartitionInfo, *, allow_pickle: bool
    ) -> None:
        """Read and check all lines."""
        for _ in self.decode(file, info, allow_pickle=allow_pickle):
            pass

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file whose name has its digest."""
        name = parse_filename(file.filename)
        with file.open() as source:
            footer = count_text(source)
        stated = name.digest if name else None
        if name is None or not stated or not footer.digest.startswith(stated):
            raise damaged(file.where, "its content does not match its name")
        return PartitionInfo(
            file=file.filename,
            records=footer.records,
            bytes=footer.bytes,
            digest=footer.digest,
            fingerprint=name.fingerprint,
        )

    def expected_partitions(self, file: StoredFile) -> int | None:
        """Return the partition count in the file name."""
        name = parse_filename(file.filename)
        return name.npartitions if name else None


def encode_text(records: Iterable[Any], sink: BinaryIO, *, where: str) -> Footer:
    r"""Write *records* to *sink*, one a line, in UTF-8, each ending in ``\n``.

    Raises
    ------
    EncodeError
        A record is no str, or holds a line break or a lone surrogate.
    """
    started = perf_counter()
    digest = hashlib.sha256()
    count = size = 0
    for record in records:
        line = _encode_line(record, f"record {count} of {where}")
        digest.update(line)
        size += sink.write(line)
        count += 1
    return Footer(
        records=count,
        blocks=0,
        bytes=size,
        seconds=perf_counter() - started,
        holds_pickle=False,
        digest=digest.hexdigest()[: 2 * DIGEST_BYTES],
    )


def _encode_line(record: Any, where: str) -> bytes:
    if type(record) is not str:
        kind = type(record)
        raise EncodeError(
            f"{where} is of type {kind.__module__}.{kind.__qualname__}, and a text "
            "checkpoint holds only str; map str over the bag, or save it without "
            "textfile=True"
        )
    if "\n" in record or "\r" in record:
        raise EncodeError(
            f"{where} holds a line break, and a text checkpoint has one record a "
            "line; replace the line breaks, or save the bag without textfile=True"
        )
    try:
        return record.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"{where} holds a lone surrogate, which UTF-8 cannot express ({error}); "
            "replace it, or save the bag without textfile=True"
        ) from error


def count_text(source: BinaryIO, checksums: list[int] | None = None) -> Footer:
    """Read the text partition file *source* to its end and say what is in it.

    *checksums* gets the CRC-32 of each piece that `decode_text` reads.
    """
    digest = hashlib.sha256()
    count = size = 0
    last = b"\n"
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        if checksums is not None:
            checksums.append(crc32(chunk))
        count += chunk.count(b"\n")
        size += len(chunk)
        last = chunk[-1:]
    return Footer(
        records=count + (last != b"\n"),
        blocks=0,
        bytes=size,
        seconds=0.0,
        holds_pickle=False,
        digest=digest.hexdigest()[: 2 * DIGEST_BYTES],
    )


def decode_text(
    source: BinaryIO, digest: str, where: str, records: int = -1
) -> Iterator[list[str]]:
    """Yield the lines of a text partition file, after the whole of it was checked.

    Parameters
    ----------
    source : binary file
        At its beginning; read twice, as a text file has no checksums on the way.
    digest : str
        The digest that the manifest gives; empty where it gives none.
    where : str
        What is being read, for messages.
    records : int
        The number of lines that the manifest gives; -1 where it gives none.

    Raises
    ------
    CorruptCheckpointError
        The file is cut or changed; no line of it that is other was yielded.
    """
    started: list[bytes] = []  # a line that goes on in the next piece
    try:
        for chunk in _checked(source, digest, where, records):
            first, *others = chunk.split(b"\n")
            started.append(first)
            if others:
                yield [b"".join(started).decode(), *map(bytes.decode, others[:-1])]
                started = others[-1:]
        if any(started):
            yield [b"".join(started).decode()]
    except UnicodeDecodeError as error:
        raise damaged(where, f"it is no UTF-8 ({error})") from None


def _checked(
    source: BinaryIO, digest: str, where: str, records: int
) -> Iterator[bytes]:
    """Yield a file in pieces, each the same as when the whole of it was checked."""
    other = damaged(where, "it holds other lines than those that were saved")
    checksums: list[int] = []
    if digest:
        counted = count_text(source, checksums)
        if counted.digest != digest:
            raise other
        if records not in (-1, counted.records):
            raise damaged(where, f"it holds {counted.records} lines, not {records}")
        source.seek(0)
    number = 0
    while chunk := source.read(_CHUNK_BYTES):
        if digest and (number >= len(checksums) or crc32(chunk) != checksums[number]):
            raise other
        yield chunk
        number += 1
    if number < len(checksums):
        raise other
