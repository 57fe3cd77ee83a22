"""Records <-> bytes: whole partition files, streamed block by block.

A msgpack partition is a header, blocks, and a footer; each carries a checksum, and
the footer a digest over all of them.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from io import SEEK_END
from struct import Struct
from time import perf_counter
from typing import Any, BinaryIO

from agatha_ckpt._errors import UnsupportedFormatError
from agatha_ckpt._format.agatha import AgathaCodec
from agatha_ckpt._format.base import Codec
from agatha_ckpt._format.blocks import (
    MAX_RECORDS,
    PICKLE,
    Block,
    decode_block,
    encode_blocks,
)
from agatha_ckpt._format.crc import crc32
from agatha_ckpt._format.framing import (
    CHECKSUM,
    DIGEST_BYTES,
    FOOTER_BYTES,
    Footer,
    FramingError,
    Header,
    damaged,
    encode_footer,
    encode_header,
    parse_footer,
    parse_header,
)
from agatha_ckpt._format.partition_file import MsgpackCodec
from agatha_ckpt._format.text import TextCodec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD_LEVEL = 1

_BLOCK = Struct("<BIII")  # flags, records, length, stored length; then a checksum
_CONTENT = Struct("<BIII")  # flags, records, length, CRC-32: what the digest covers
_OTHER_RECORDS = "it holds other records than those that were saved"

_CODECS: tuple[Codec, ...] = (MsgpackCodec(), TextCodec(), AgathaCodec())
_BY_NAME = {codec.name: codec for codec in _CODECS}
_BY_SUFFIX = {codec.suffix: codec for codec in _CODECS}
FORMATS = tuple(_BY_NAME)


def codec_for(format: str) -> Codec:
    """Return the codec of a format, by its name in a manifest.

    Raises
    ------
    UnsupportedFormatError
        There is none.
    """
    if codec := _BY_NAME.get(format):
        return codec
    raise UnsupportedFormatError(
        f"unknown format {format!r}: expected one of {', '.join(map(repr, FORMATS))}; "
        "if a newer version of agatha_ckpt wrote it, upgrade"
    )


def codec_of_suffix(suffix: str) -> Codec | None:
    """Return the codec whose partition files have this suffix, or None."""
    return _BY_SUFFIX.get(suffix)


def encode_partition(
    records: Iterable[Any],
    sink: BinaryIO,
    header: Header,
    *,
    allow_pickle: bool,
    where: str,
) -> Footer:
    """Write *records* to *sink* as a msgpack partition file and say what came out.

    Memory does not grow with the number of records: no more than one block's worth
    of them is held.

    Raises
    ------
    EncodeError
        A record holds a value that cannot be stored faithfully; *sink* then holds
        a file without a footer, which no reader accepts.
    """
    started = perf_counter()
    size = sink.write(encode_header(header))
    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL) if header.compression else None
    digest = hashlib.sha256()
    count = blocks = flags = 0
    for block in encode_blocks(records, allow_pickle, where):
        stored = block.payload
        if compressor:
            stored = compressor.compress(stored, mode=compressor.FLUSH_FRAME)
        stored_crc = crc32(stored)
        digest.update(_content_of(block, stored, stored_crc))
        size += sink.write(_block_head(*_sizes(block), len(stored), stored_crc))
        size += sink.write(stored)
        count += block.records
        flags |= block.flags
        blocks += 1
    footer = Footer(
        records=count,
        blocks=blocks,
        bytes=size + FOOTER_BYTES,
        seconds=perf_counter() - started,
        holds_pickle=bool(flags & PICKLE),
        digest=digest.hexdigest()[: 2 * DIGEST_BYTES],
    )
    sink.write(encode_footer(footer))
    return footer


def _sizes(block: Block) -> tuple[int, int, int]:
    return block.flags, block.records, len(block.payload)


def _block_head(
    flags: int, records: int, length: int, stored: int, stored_crc: int
) -> bytes:
    head = _BLOCK.pack(flags, records, length, stored)
    # One pass over the payload: the checksum covers its CRC, not it.
    return head + CHECKSUM.pack(crc32(head + CHECKSUM.pack(stored_crc)))


def _content_of(block: Block, stored: bytes, stored_crc: int) -> bytes:
    """Return what the digest covers: the same in whatever compression."""
    crc = stored_crc if stored is block.payload else crc32(block.payload)
    return _CONTENT.pack(*_sizes(block), crc)


def read_blocks(
    source: BinaryIO,
    size: int,
    expected: Header,
    where: str,
    digest: str = "",
    records: int | None = None,
) -> Iterator[Block]:
    """Yield the blocks of a msgpack partition file, each after its checksum is right.

    Parameters
    ----------
    source : binary file
        Seekable.
    size : int
        Size in bytes that the file must have.
    expected : Header
        Plan and partition number that the file must have.
    where : str
        What is being read, for messages.
    digest : str
        The digest that the file must have; empty where it is not known.
    records : int, optional
        The number of records that the file must have.

    Raises
    ------
    CorruptCheckpointError
        The file is cut or changed, or is another partition's. Where it says itself
        that it holds something else, before the first block; at the latest after the
        last one.
    UnsupportedFormatError
        The file is from a newer version of the format.
    """
    try:
        found = source.seek(0, SEEK_END)
        if found != size:
            raise FramingError(f"it has {found} bytes, not {size}")
        # The end first: it tells a whole file of another run before a record of it
        # is used, and how much is in it before anybody makes room.
        source.seek(max(size - FOOTER_BYTES, 0))
        end = source.read(FOOTER_BYTES)
        source.seek(0)
        header = parse_header(source, where)
        found_in = (header.plan, header.index, header.npartitions)
        if found_in != (expected.plan, expected.index, expected.npartitions):
            raise FramingError(
                f"it holds partition {header.index} of plan {header.plan}, not "
                f"partition {expected.index} of plan {expected.plan}"
            )
        footer = parse_footer(end)
        if footer.bytes != size:
            raise FramingError(
                f"its footer says {footer.bytes} bytes, and it has {size}"
            )
        if digest not in ("", footer.digest):
            raise FramingError(_OTHER_RECORDS)
        if records not in (None, footer.records):
            raise FramingError(f"it holds {footer.records} records, not {records}")
        yield from _read_blocks(source, header, footer)
    except FramingError as error:
        raise damaged(where, error) from None


def _read_blocks(source: BinaryIO, header: Header, footer: Footer) -> Iterator[Block]:
    left = footer.bytes - source.tell() - FOOTER_BYTES
    running = hashlib.sha256()
    count = blocks = 0
    while left > 0:
        head = source.read(_BLOCK.size + CHECKSUM.size)
        if len(head) < _BLOCK.size + CHECKSUM.size:
            raise FramingError("it is cut in the middle")
        flags, records, length, stored_length = _BLOCK.unpack_from(head)
        left -= len(head) + stored_length
        if left < 0:
            raise FramingError(f"block {blocks} does not fit into the file")
        stored = payload = source.read(stored_length)
        stored_crc = crc32(stored)
        if head != _block_head(flags, records, length, len(stored), stored_crc):
            raise FramingError(f"block {blocks} does not match its checksum")
        if records > MAX_RECORDS:
            raise FramingError(f"block {blocks} states {records} records")
        if header.compression:
            payload = _decompress(stored, length, blocks)
        if len(payload) != length:
            raise FramingError(f"block {blocks} has another length than it states")
        block = Block(flags, records, payload)
        running.update(_content_of(block, stored, stored_crc))
        count += records
        blocks += 1
        yield block
    if left < 0 or (footer.records, footer.blocks) != (count, blocks):
        raise FramingError("its footer counts other records, blocks or bytes")
    if footer.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:
        raise FramingError(_OTHER_RECORDS)


def _decompress(stored: bytes, length: int, block: int) -> bytes:
    # The stated length bounds the output, and memory is taken as output appears.
    decompressor = zstd.ZstdDecompressor()
    try:
        payload: bytes = decompressor.decompress(stored, max_length=length + 1)
    except zstd.ZstdError as error:
        raise FramingError(f"block {block} does not decompress ({error})") from None
    if not decompressor.eof or decompressor.unused_data:
        del payload  # else the error would keep it, by its traceback
        raise FramingError(f"block {block} does not decompress to its length")
    return payload


def decode_partition(
    source: BinaryIO,
    size: int,
    expected: Header,
    *,
    allow_pickle: bool,
    where: str,
    digest: str = "",
    records: int | None = None,
) -> Iterator[list[Any]]:
    """Yield the records of a msgpack partition file, a list for each block.

    Parameters and errors are those of `read_blocks` and `decode_block`.
    """
    for block in read_blocks(source, size, expected, where, digest, records):
        yield decode_block(block, allow_pickle, where)
