"""The msgpack format: whole partition files, written and read block by block."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import SEEK_END
from struct import Struct
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import msgpack

from agatha_ckpt._errors import (
    CheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.base import (
    DIGEST_BYTES,
    Attempt,
    Codec,
    StoredFile,
    check_records,
)
from agatha_ckpt._format.blocks import (
    CLASSES,
    MAX_RECORDS,
    PICKLE,
    Block,
    decode_block,
    encode_blocks,
)
from agatha_ckpt._format.framing import (
    BLOCK_HEAD_BYTES,
    FOOTER_BYTES,
    FOOTER_READ_BYTES,
    HEADER_BYTES,
    FramingError,
    crc32,
    decode_footer,
    decode_header,
    encode_block_head,
    encode_footer,
    encode_header,
    encode_text,
    framing_errors,
    split_block_head,
)
from agatha_ckpt._format.main_classes import (
    MainClasses,
    PickleReader,
    decode_definitions,
)
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import MSGPACK, SUFFIXES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD_LEVEL = 1
_SMALL_BYTES = 256 * 1024  # one request for all costs no more than one for the end
_CONTENT = Struct("<BIII")  # flags, records, length, CRC-32: what the digest covers
_OTHER_RECORDS = "it holds other records than those that were saved"


class MsgpackCodec(Codec):
    """Partitions as blocks of msgpack, with checksums, compressed or not."""

    name = MSGPACK
    suffix = SUFFIXES[MSGPACK]
    has_header = True

    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        """Write a partition file; see `Codec.encode`.

        After an error *sink* holds a file without a footer, which no reader accepts.
        """
        where, options = attempt.where, attempt.options
        check_records(records, where)
        started = perf_counter()
        size = sink.write(encode_header(attempt))
        compress = _compressor(options.compression)
        digest = hashlib.sha256()
        count = blocks = flags = 0
        classes: list[str] = []
        for block in encode_blocks(records, options.allow_pickle, where):
            stored = compress(block.payload)
            stored_crc = crc32(stored)
            if block.flags == CLASSES:
                classes += decode_definitions(block.payload)
            else:
                digest.update(_content_of(block, stored, stored_crc))
            sizes = len(block.payload), len(stored)
            head = encode_block_head(block.flags, block.records, *sizes, stored_crc)
            size += sink.write(head) + sink.write(stored)
            count += block.records
            flags |= block.flags
            blocks += 1
        info = self.entry(
            attempt,
            digest.hexdigest()[: 2 * DIGEST_BYTES],
            perf_counter() - started,
            records=count,
            bytes=size + len(encode_text(attempt.code, classes)) + FOOTER_BYTES,
            holds_pickle=bool(flags & PICKLE),
            classes=MainClasses(classes),
        )
        sink.write(encode_footer(info, blocks))
        return info

    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[list[Any]]:
        """Yield the records, a list for each block; see `Codec.decode`.

        A file that is whole but another one's raises before its first record.
        """
        pickles = PickleReader(getattr(info.classes, "definitions", None))
        for block in _record_blocks(file, info, piece, pickles):
            yield decode_block(block, allow_pickle, file.where, pickles)

    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Read all, and decode what this caller may and this machine can decode."""
        pickles = PickleReader()
        for block in _record_blocks(file, info, 0, pickles):
            if allow_pickle or not block.flags & PICKLE:
                with suppress(PickleNotAllowedError, UnsupportedFormatError):
                    decode_block(block, allow_pickle, file.where, pickles)

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file; see `Codec.inspect`."""
        with framing_errors(file):
            if file.remote and file.size > _SMALL_BYTES:
                info, _ = decode_footer(file.tail(FOOTER_READ_BYTES), file)
                return info
            if not file.size:  # of which no object store gives a part
                raise FramingError("it is empty")
            with file.open() as source:
                ends = _read_ends(source, file)
                for _ in _read_blocks(source, ends):
                    pass
            return ends.info

    def expected_partitions(self, file: StoredFile) -> int | None:
        """Return the partition count in the header."""
        with (
            suppress(CheckpointError, FileNotFoundError, FramingError),
            file.open(HEADER_BYTES) as source,
        ):
            return decode_header(source.read(HEADER_BYTES), file)[1]
        return None


def _compressor(compression: str | None) -> Callable[[bytes], bytes]:
    if compression is None:
        return lambda payload: payload
    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    return lambda payload: compressor.compress(payload, compressor.FLUSH_FRAME)


def _content_of(block: Block, stored: bytes, stored_crc: int) -> bytes:
    """Return what the digest covers: the same in any compression."""
    crc = stored_crc if stored is block.payload else crc32(block.payload)
    return _CONTENT.pack(block.flags, block.records, len(block.payload), crc)


# ---- reading ----


def _definitions_in(block: Block) -> dict[str, bytes]:
    try:
        return decode_definitions(block.payload)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FramingError(f"a block defines no classes ({error})") from None


def _record_blocks(
    file: StoredFile, info: PartitionInfo, piece: int, pickles: PickleReader
) -> Iterator[Block]:
    """Yield the blocks of records of a file, which is to hold what *info* names.

    *pickles* gets the definitions of classes.
    """
    with framing_errors(file), file.open(piece) as source:
        ends = _read_ends(source, file)
        if ends.info.digest != info.digest:
            raise FramingError(_OTHER_RECORDS)
        if (found := ends.info.records) != info.records:
            raise FramingError(f"it holds {found} records, not {info.records}")
        for block in _read_blocks(source, ends):
            if block.flags == CLASSES:
                pickles.definitions |= _definitions_in(block)
            else:
                yield block


class _Ends(NamedTuple):
    """What header and footer of a file hold."""

    compression: str | None
    info: PartitionInfo
    blocks: int


def _read_ends(source: BinaryIO, file: StoredFile) -> _Ends:
    """Return header and footer after checks; *source* is then at the first block.

    By the footer, a whole file of another run is detected before a record of it is
    used, and the number of records is known before a reader makes room for them.
    """
    found = source.seek(0, SEEK_END)
    if found != file.size:
        raise FramingError(f"it has {found} bytes, not {file.size}")
    source.seek(max(file.size - FOOTER_READ_BYTES, 0))
    tail = source.read(FOOTER_READ_BYTES)
    source.seek(0)
    compression, _ = decode_header(source.read(HEADER_BYTES), file)
    return _Ends(compression, *decode_footer(tail, file))


def _read_blocks(source: BinaryIO, ends: _Ends) -> Iterator[Block]:
    """Yield the blocks after the header, each after its checksum."""
    info = ends.info
    text = encode_text(info.code, info.classes)
    left = info.bytes - HEADER_BYTES - len(text) - FOOTER_BYTES
    running = hashlib.sha256()
    count = blocks = 0
    while left > 0:
        head = source.read(BLOCK_HEAD_BYTES)
        flags, records, length, stored_length = split_block_head(head)
        left -= BLOCK_HEAD_BYTES + stored_length
        if left < 0:
            raise FramingError(f"block {blocks} does not fit into the file")
        stored = payload = source.read(stored_length)
        stored_crc = crc32(stored)
        sizes = length, len(stored)
        if head != encode_block_head(flags, records, *sizes, stored_crc):
            raise FramingError(f"block {blocks} does not match its checksum")
        if records > MAX_RECORDS:
            raise FramingError(f"block {blocks} has a count of {records} records")
        if ends.compression:
            payload = _decompress(stored, length, blocks)
        if len(payload) != length:
            raise FramingError(f"block {blocks} has another length than in its head")
        block = Block(flags, records, payload)
        if flags != CLASSES:
            running.update(_content_of(block, stored, stored_crc))
        elif records:
            raise FramingError(f"block {blocks} defines classes and has records")
        count += records
        blocks += 1
        yield block
    if left < 0 or (info.records, ends.blocks) != (count, blocks):
        raise FramingError("its footer has other counts of records or blocks")
    if info.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:
        raise FramingError(_OTHER_RECORDS)


def _decompress(stored: bytes, length: int, block: int) -> bytes:
    # The length bounds the output, and memory is taken as output appears.
    decompressor = zstd.ZstdDecompressor()
    try:
        payload: bytes = decompressor.decompress(stored, max_length=length + 1)
    except zstd.ZstdError as error:
        raise FramingError(f"block {block} does not decompress ({error})") from None
    if not decompressor.eof or decompressor.unused_data:
        del payload  # else the error would keep it, by its traceback
        raise FramingError(f"block {block} does not decompress to its length")
    return payload
