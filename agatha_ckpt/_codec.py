"""Records <-> bytes: whole partition files, streamed block by block.

A msgpack partition is a header, blocks, and a footer; each carries a checksum, and
the footer a digest over all of them.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import SEEK_END
from math import inf
from struct import Struct
from time import perf_counter
from typing import Any, BinaryIO

from agatha_ckpt._blocks import (
    MAX_RECORDS,
    PICKLE,
    Block,
    decode_block,
    encode_blocks,
)
from agatha_ckpt._crc import crc32
from agatha_ckpt._errors import (
    CorruptCheckpointError,
    UnsupportedFormatError,
)
from agatha_ckpt._layout import FORMAT_VERSION
from agatha_ckpt._manifest import PartitionInfo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSIONS = (None, "zstd")
_ZSTD_LEVEL = 1

_MAGIC, _END_MAGIC = b"\x89AGCKPT\n", b"AGCE"
_CHECKSUM = Struct("<I")
_HEADER = Struct("<8sHBI8sIH")
_BLOCK = Struct("<BIII")  # flags, records, length, stored length; then a checksum
_CONTENT = Struct("<BIII")  # flags, records, length, CRC-32: what the digest covers
_FOOTER = Struct("<4sQQQdB16s")
FOOTER_BYTES = _FOOTER.size + _CHECKSUM.size
DIGEST_BYTES = 16
_OTHER_RECORDS = "it holds other records than those that were saved"


@dataclass(frozen=True)
class Header:
    """What a msgpack partition file says before its records.

    Attributes
    ----------
    plan : str
        Digest of the plan, 8 hexadecimal digits.
    index : int
        Partition number, from 0.
    npartitions : int
        Number of partitions of the bag.
    compression : str, optional
        ``"zstd"``, or None for none.
    bag : str
        dask's name of the bag: a hint at which graph it came from.
    """

    plan: str
    index: int
    npartitions: int
    compression: str | None = None
    bag: str = ""


@dataclass(frozen=True)
class Footer:
    """What a partition file says after its records, or what was counted instead.

    Attributes
    ----------
    records, blocks : int
    bytes : int
        Size of the whole file.
    seconds : float
        Time it took to compute and encode the records.
    holds_pickle : bool
    digest : str
        32 hexadecimal digits over the content, whatever the compression.
    """

    records: int
    blocks: int
    bytes: int
    seconds: float
    holds_pickle: bool
    digest: str

    def info(self, filename: str) -> PartitionInfo:
        """Return what the manifest has to say of the file."""
        return PartitionInfo(
            file=filename,
            records=self.records,
            bytes=self.bytes,
            digest=self.digest,
            seconds=round(self.seconds, 6),
            holds_pickle=self.holds_pickle,
        )


class Damage(Exception):
    """What is wrong with a partition file, in half a sentence."""


def damaged(where: str, reason: object) -> CorruptCheckpointError:
    """Return the error for a partition file that does not hold what was saved."""
    return CorruptCheckpointError(
        f"{where} is damaged: {reason}; verify the checkpoint, repair it with its bag "
        "(Checkpointer.repair), or clear it"
    )


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
    size = sink.write(_encode_header(header))
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
    sink.write(_encode_footer(footer))
    return footer


def _sizes(block: Block) -> tuple[int, int, int]:
    return block.flags, block.records, len(block.payload)


def _block_head(
    flags: int, records: int, length: int, stored: int, stored_crc: int
) -> bytes:
    head = _BLOCK.pack(flags, records, length, stored)
    # One pass over the payload: the checksum covers its CRC, not it.
    return head + _CHECKSUM.pack(crc32(head + _CHECKSUM.pack(stored_crc)))


def _content_of(block: Block, stored: bytes, stored_crc: int) -> bytes:
    """Return what the digest covers: the same in whatever compression."""
    crc = stored_crc if stored is block.payload else crc32(block.payload)
    return _CONTENT.pack(*_sizes(block), crc)


def _encode_header(header: Header) -> bytes:
    bag = header.bag.encode("utf-8", "replace")[:1000]
    head = _HEADER.pack(
        _MAGIC,
        FORMAT_VERSION,
        COMPRESSIONS.index(header.compression),
        header.index,
        header.plan.encode(),
        header.npartitions,
        len(bag),
    )
    return _with_checksum(head + bag)


def _encode_footer(footer: Footer) -> bytes:
    return _with_checksum(
        _FOOTER.pack(
            _END_MAGIC,
            footer.records,
            footer.blocks,
            footer.bytes,
            footer.seconds,
            footer.holds_pickle,
            bytes.fromhex(footer.digest),
        )
    )


def _with_checksum(data: bytes) -> bytes:
    return data + _CHECKSUM.pack(crc32(data))


def _without_checksum(data: bytes, part: str) -> bytes:
    content = data[: -_CHECKSUM.size]
    if len(data) <= _CHECKSUM.size or data != _with_checksum(content):
        raise Damage(f"its {part} is cut or changed")
    return content


def read_header(source: BinaryIO, where: str) -> Header:
    """Return the header at the beginning of *source*.

    Raises
    ------
    CorruptCheckpointError
        It is cut or changed, or *source* is no partition file at all.
    UnsupportedFormatError
        It is whole but from a newer version of the format.
    """
    try:
        return _read_header(source, where)
    except Damage as error:
        raise damaged(where, error) from None


def _read_header(source: BinaryIO, where: str) -> Header:
    head = source.read(_HEADER.size)
    if not head:
        raise Damage("it is empty")
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        raise Damage("it does not begin like a partition file")
    _, version, compression, index, plan, npartitions, length = _HEADER.unpack(head)
    bag = source.read(length + _CHECKSUM.size)
    content = _without_checksum(head + bag, "header")
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{where} was written in format {version}, and this version of "
            f"agatha_ckpt reads format {FORMAT_VERSION}; upgrade agatha_ckpt"
        )
    if compression >= len(COMPRESSIONS):
        raise UnsupportedFormatError(
            f"{where} is compressed in a way (number {compression}) that this "
            "version of agatha_ckpt does not know; upgrade agatha_ckpt"
        )
    return Header(
        plan=plan.decode("ascii", "replace"),
        index=index,
        npartitions=npartitions,
        compression=COMPRESSIONS[compression],
        bag=content[_HEADER.size :].decode("utf-8", "replace"),
    )


def read_footer(data: bytes, where: str) -> Footer:
    """Return the footer of a file that ends in the `FOOTER_BYTES` bytes *data*.

    Raises
    ------
    CorruptCheckpointError
        The file is cut or changed there.
    """
    try:
        return _read_footer(data)
    except Damage as error:
        raise damaged(where, error) from None


def _read_footer(data: bytes) -> Footer:
    content = _without_checksum(data, "footer")
    if len(content) != _FOOTER.size or not content.startswith(_END_MAGIC):
        raise Damage("its footer is cut or changed")
    _, records, blocks, size, seconds, holds_pickle, digest = _FOOTER.unpack(content)
    if not 0 <= seconds < inf:  # what a resume keeps goes into the manifest
        raise Damage("its footer gives a time that no clock gives")
    return Footer(records, blocks, size, seconds, bool(holds_pickle), digest.hex())


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
            raise Damage(f"it has {found} bytes, not {size}")
        # The end first: it tells a whole file of another run before a record of it
        # is used, and how much is in it before anybody makes room.
        source.seek(max(size - FOOTER_BYTES, 0))
        end = source.read(FOOTER_BYTES)
        source.seek(0)
        header = _read_header(source, where)
        found_in = (header.plan, header.index, header.npartitions)
        if found_in != (expected.plan, expected.index, expected.npartitions):
            raise Damage(
                f"it holds partition {header.index} of plan {header.plan}, not "
                f"partition {expected.index} of plan {expected.plan}"
            )
        footer = _read_footer(end)
        if footer.bytes != size:
            raise Damage(f"its footer says {footer.bytes} bytes, and it has {size}")
        if digest not in ("", footer.digest):
            raise Damage(_OTHER_RECORDS)
        if records not in (None, footer.records):
            raise Damage(f"it holds {footer.records} records, not {records}")
        yield from _read_blocks(source, header, footer)
    except Damage as error:
        raise damaged(where, error) from None


def _read_blocks(source: BinaryIO, header: Header, footer: Footer) -> Iterator[Block]:
    left = footer.bytes - source.tell() - FOOTER_BYTES
    running = hashlib.sha256()
    count = blocks = 0
    while left > 0:
        head = source.read(_BLOCK.size + _CHECKSUM.size)
        if len(head) < _BLOCK.size + _CHECKSUM.size:
            raise Damage("it is cut in the middle")
        flags, records, length, stored_length = _BLOCK.unpack_from(head)
        left -= len(head) + stored_length
        if left < 0:
            raise Damage(f"block {blocks} does not fit into the file")
        stored = payload = source.read(stored_length)
        stored_crc = crc32(stored)
        if head != _block_head(flags, records, length, len(stored), stored_crc):
            raise Damage(f"block {blocks} does not match its checksum")
        if records > MAX_RECORDS:
            raise Damage(f"block {blocks} states {records} records")
        if header.compression:
            payload = _decompress(stored, length, blocks)
        if len(payload) != length:
            raise Damage(f"block {blocks} has another length than it states")
        block = Block(flags, records, payload)
        running.update(_content_of(block, stored, stored_crc))
        count += records
        blocks += 1
        yield block
    if left < 0 or (footer.records, footer.blocks) != (count, blocks):
        raise Damage("its footer counts other records, blocks or bytes")
    if footer.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:
        raise Damage(_OTHER_RECORDS)


def _decompress(stored: bytes, length: int, block: int) -> bytes:
    # The stated length bounds the output, and memory is taken as output appears.
    decompressor = zstd.ZstdDecompressor()
    try:
        payload: bytes = decompressor.decompress(stored, max_length=length + 1)
    except zstd.ZstdError as error:
        raise Damage(f"block {block} does not decompress ({error})") from None
    if not decompressor.eof or decompressor.unused_data:
        del payload  # else the error would keep it, by its traceback
        raise Damage(f"block {block} does not decompress to its length")
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
