"""The msgpack format: a header, blocks, and a footer, each with a checksum.

The header is written before the first record is known; counts, digest and code when
the last one was written. The digest is over all blocks.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import SEEK_END
from math import inf
from struct import Struct
from time import perf_counter
from typing import Any, BinaryIO

from agatha_ckpt._errors import (
    CheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.base import (
    DIGEST_BYTES,
    Footer,
    Header,
    StoredFile,
    damaged,
)
from agatha_ckpt._format.blocks import (
    MAX_RECORDS,
    PICKLE,
    Block,
    decode_block,
    encode_blocks,
)
from agatha_ckpt._format.crc import crc32
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import FORMAT_VERSION, MSGPACK, SUFFIXES, parse_filename

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD_LEVEL = 1
COMPRESSIONS = (None, "zstd")

_MAGIC, _END_MAGIC = b"\x89AGATHA\n", b"AGCE"
_UNRELEASED_MAGIC = b"\x89AGCKPT\n"
_CHECKSUM = Struct("<I")
_HEADER = Struct("<8sHBI16sI")
_BLOCK = Struct("<BIII")  # flags, records, length, stored length; then a checksum
_CONTENT = Struct("<BIII")  # flags, records, length, CRC-32: what the digest covers
_FOOTER = Struct("<4sQQQdB16sH")

HEADER_BYTES = _HEADER.size + _CHECKSUM.size
FOOTER_BYTES = _FOOTER.size + _CHECKSUM.size  # and before it the code
FOOTER_READ_BYTES = 4096  # no footer with its code is longer
_MAX_CODE_BYTES = FOOTER_READ_BYTES - FOOTER_BYTES
_SMALL_BYTES = 256 * 1024  # one request for all costs no more than one for the end

_OTHER_RECORDS = "it holds other records than those that were saved"


class FramingError(Exception):
    """A partition file is not what was saved; the message is the reason."""


# ---- header and footer ----


def _with_checksum(data: bytes) -> bytes:
    return data + _CHECKSUM.pack(crc32(data))


def _checked(data: bytes, part: str) -> bytes:
    content = data[: -_CHECKSUM.size]
    if len(data) <= _CHECKSUM.size or data != _with_checksum(content):
        raise FramingError(f"its {part} is cut or changed")
    return content


def encode_header(header: Header) -> bytes:
    """Return a header as bytes."""
    return _with_checksum(
        _HEADER.pack(
            _MAGIC,
            FORMAT_VERSION,
            COMPRESSIONS.index(header.compression),
            header.index,
            bytes.fromhex(header.fingerprint),
            header.npartitions,
        )
    )


def decode_header(data: bytes, where: str) -> Header:
    """Return the header in the first `HEADER_BYTES` bytes of a file.

    Raises
    ------
    FramingError
        It is cut or changed, or the file is not a partition file.
    UnsupportedFormatError
        It is whole but from another version of the format.
    """
    if not data:
        raise FramingError("it is empty")
    if data.startswith(_UNRELEASED_MAGIC):
        raise UnsupportedFormatError(
            f"{where} was written by an unreleased version of agatha_ckpt, in a format "
            "that is no longer read; clear the checkpoint or recompute it"
        )
    if not data.startswith(_MAGIC):
        raise FramingError("it does not begin like a partition file")
    content = _checked(data, "header")
    _, version, compression, index, fingerprint, count = _HEADER.unpack(content)
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{where} was written in format {version}, and this version of "
            f"agatha_ckpt reads format {FORMAT_VERSION}; upgrade agatha_ckpt"
        )
    if compression >= len(COMPRESSIONS):
        raise UnsupportedFormatError(
            f"{where} has compression number {compression}, which this version of "
            "agatha_ckpt does not know; upgrade agatha_ckpt"
        )
    return Header(fingerprint.hex(), index, count, COMPRESSIONS[compression])


def encode_footer(footer: Footer) -> bytes:
    """Return a footer as bytes; the code comes first."""
    code = _encode_code(footer.code)
    return _with_checksum(
        code
        + _FOOTER.pack(
            _END_MAGIC,
            footer.records,
            footer.blocks,
            footer.bytes,
            footer.seconds,
            footer.holds_pickle,
            bytes.fromhex(footer.digest),
            len(code),
        )
    )


def _encode_code(code: str) -> bytes:
    data = code.encode("utf-8", "replace")
    if len(data) > _MAX_CODE_BYTES:  # keep whole entries
        data = data[:_MAX_CODE_BYTES].rpartition(b";")[0]
    return data


def decode_footer(tail: bytes) -> Footer:
    """Return the footer at the end of *tail*, the end of a file.

    Raises
    ------
    FramingError
        It is cut or changed.
    """
    fixed = tail[-FOOTER_BYTES : -_CHECKSUM.size]
    if len(fixed) != _FOOTER.size or not fixed.startswith(_END_MAGIC):
        raise FramingError("its footer is cut or changed")
    *counts, seconds, pickle, digest, length = _FOOTER.unpack(fixed)
    if length > len(tail) - FOOTER_BYTES:
        raise FramingError("its footer is cut or changed")
    content = _checked(tail[-FOOTER_BYTES - length :], "footer")
    if not 0 <= seconds < inf:  # a resume copies it into the manifest
        raise FramingError("its footer has a negative or infinite time")
    try:
        code = content[:length].decode()
    except UnicodeDecodeError as error:
        raise FramingError(f"its footer is not UTF-8 ({error})") from None
    _, records, blocks, size = counts
    return Footer(records, blocks, size, seconds, bool(pickle), digest.hex(), code)


def _footer_bytes(footer: Footer) -> int:
    return FOOTER_BYTES + len(_encode_code(footer.code))


# ---- blocks ----


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


def _read_blocks(source: BinaryIO, header: Header, footer: Footer) -> Iterator[Block]:
    """Yield the blocks after the header, each after its checksum."""
    left = footer.bytes - HEADER_BYTES - _footer_bytes(footer)
    running = hashlib.sha256()
    count = blocks = 0
    while left > 0:
        head = source.read(_BLOCK.size + _CHECKSUM.size)
        if len(head) < _BLOCK.size + _CHECKSUM.size:
            raise FramingError(f"it ends in block {blocks}")
        flags, records, length, stored_length = _BLOCK.unpack_from(head)
        left -= len(head) + stored_length
        if left < 0:
            raise FramingError(f"block {blocks} does not fit into the file")
        stored = payload = source.read(stored_length)
        stored_crc = crc32(stored)
        if head != _block_head(flags, records, length, len(stored), stored_crc):
            raise FramingError(f"block {blocks} does not match its checksum")
        if records > MAX_RECORDS:
            raise FramingError(
                f"block {blocks} has {records} records by its head, more than a block "
                "can hold"
            )
        if header.compression:
            payload = _decompress(stored, length, blocks)
        if len(payload) != length:
            raise FramingError(f"block {blocks} has another length than in its head")
        block = Block(flags, records, payload)
        running.update(_content_of(block, stored, stored_crc))
        count += records
        blocks += 1
        yield block
    if left < 0 or (footer.records, footer.blocks) != (count, blocks):
        raise FramingError("its footer has other counts of records, blocks or bytes")
    if footer.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:
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


# ---- files ----


class MsgpackCodec:
    """Partitions as blocks of msgpack, with checksums, compressed or not."""

    name = MSGPACK
    suffix = SUFFIXES[MSGPACK]
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
    ) -> Footer:
        """Write a partition file; see `Codec.encode`.

        After an error *sink* holds a file without a footer, which no reader accepts.
        """
        started = perf_counter()
        size = sink.write(encode_header(header))
        compress = _compressor(header.compression)
        digest = hashlib.sha256()
        count = blocks = flags = 0
        for block in encode_blocks(records, allow_pickle, where):
            stored = compress(block.payload)
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
            bytes=size + FOOTER_BYTES + len(_encode_code(code)),
            seconds=perf_counter() - started,
            holds_pickle=bool(flags & PICKLE),
            digest=digest.hexdigest()[: 2 * DIGEST_BYTES],
            code=code,
        )
        sink.write(encode_footer(footer))
        return footer

    def attempt_suffix(self, footer: Footer, npartitions: int) -> str:
        """Return nothing: header and footer hold it all."""
        return ""

    def decode(
        self,
        file: StoredFile,
        info: PartitionInfo,
        *,
        allow_pickle: bool,
        piece: int = 0,
    ) -> Iterator[list[Any]]:
        """Yield the records, a list for each block; see `Codec.decode`.

        A file that is whole but another one's raises before its first record.
        """
        with _damage_of(file), file.open(piece) as source:
            for block in _blocks_of(source, file, info):
                yield decode_block(block, allow_pickle, file.where)

    def verify(
        self, file: StoredFile, info: PartitionInfo, *, allow_pickle: bool
    ) -> None:
        """Read all, and decode what this caller may and this machine can decode."""
        with _damage_of(file), file.open() as source:
            for block in _blocks_of(source, file, info):
                if block.flags & PICKLE and not allow_pickle:
                    continue
                with suppress(PickleNotAllowedError, UnsupportedFormatError):
                    decode_block(block, allow_pickle, file.where)

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file; see `Codec.inspect`."""
        name = parse_filename(file.filename)
        with _damage_of(file):
            if name is None:
                raise FramingError("its name is not that of a partition file")
            if file.size < HEADER_BYTES + FOOTER_BYTES:
                raise FramingError("it is cut")
            if file.remote and file.size > _SMALL_BYTES:
                footer = decode_footer(file.tail(FOOTER_READ_BYTES))
                _check_size(footer, file.size)
            else:
                with file.open() as source:
                    header, footer = _ends_of(source, file, file.size)
                    for _ in _read_blocks(source, header, footer):
                        pass
        return footer.info(file.filename, name.fingerprint)

    def expected_partitions(self, file: StoredFile) -> int | None:
        """Return the partition count in the header."""
        with (
            suppress(CheckpointError, FileNotFoundError, FramingError),
            file.open(HEADER_BYTES) as source,
        ):
            return decode_header(source.read(HEADER_BYTES), file.where).npartitions
        return None


@contextmanager
def _damage_of(file: StoredFile) -> Iterator[None]:
    try:
        yield
    except FramingError as error:
        raise damaged(file.where, error) from None


def _compressor(compression: str | None) -> Callable[[bytes], bytes]:
    if compression is None:
        return lambda payload: payload
    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    return lambda payload: compressor.compress(payload, compressor.FLUSH_FRAME)


def _blocks_of(
    source: BinaryIO, file: StoredFile, info: PartitionInfo
) -> Iterator[Block]:
    """Yield the blocks of a file that a manifest names."""
    header, footer = _ends_of(source, file, info.bytes)
    if footer.digest != info.digest:
        raise FramingError(_OTHER_RECORDS)
    if footer.records != info.records:
        raise FramingError(f"it holds {footer.records} records, not {info.records}")
    yield from _read_blocks(source, header, footer)


def _ends_of(source: BinaryIO, file: StoredFile, size: int) -> tuple[Header, Footer]:
    """Return header and footer after checks; *source* is then at the first block.

    The end is read first: it tells a whole file of another run before a record of it
    is used, and how many there are before a reader makes room for them.
    """
    found = source.seek(0, SEEK_END)
    if found != size:
        raise FramingError(f"it has {found} bytes, not {size}")
    source.seek(max(size - FOOTER_READ_BYTES, 0))
    tail = source.read(FOOTER_READ_BYTES)
    source.seek(0)
    header = decode_header(source.read(HEADER_BYTES), file.where)
    name = parse_filename(file.filename)
    if name is None or (header.index, header.fingerprint) != (
        name.index,
        name.fingerprint,
    ):
        raise FramingError(
            f"it holds partition {header.index} with fingerprint "
            f"{header.fingerprint}, which is not what its name says"
        )
    footer = decode_footer(tail)
    _check_size(footer, size)
    return header, footer


def _check_size(footer: Footer, size: int) -> None:
    if footer.bytes != size:
        raise FramingError(f"its footer has {footer.bytes} bytes, and it has {size}")
