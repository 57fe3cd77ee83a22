"""Header, block heads and footer of a msgpack partition file, each with a checksum."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import inf
from struct import Struct

try:
    # It uses the processor's own instructions. The result is that of zlib.
    from isal.isal_zlib import crc32 as crc32
except ImportError:
    from zlib import crc32 as crc32

from agatha_ckpt._errors import UnsupportedFormatError, damaged
from agatha_ckpt._format.base import Attempt, StoredFile
from agatha_ckpt._format.main_classes import MainClasses
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import FORMAT_VERSION

COMPRESSIONS = (None, "zstd")

_MAGIC, _END_MAGIC = b"\x89AGATHA\n", b"AGCE"
_UNRELEASED_MAGIC = b"\x89AGCKPT\n"
_CHECKSUM = Struct("<I")
_HEADER = Struct("<8sHBI16sI")
_BLOCK = Struct("<BIII")  # flags, records, length, stored length
_FOOTER = Struct("<4sQQQdB16sH")

HEADER_BYTES = _HEADER.size + _CHECKSUM.size
BLOCK_HEAD_BYTES = _BLOCK.size + _CHECKSUM.size
FOOTER_BYTES = _FOOTER.size + _CHECKSUM.size  # without the text before it
FOOTER_READ_BYTES = 4096  # more than any footer has, with its text
_MAX_TEXT_BYTES = FOOTER_READ_BYTES - FOOTER_BYTES
_MAX_CLASSES_BYTES = _MAX_TEXT_BYTES // 2


class FramingError(Exception):
    """A partition file is not what was saved; the message is the reason."""


@contextmanager
def framing_errors(file: StoredFile) -> Iterator[None]:
    """Turn a `FramingError` into the error that names the partition."""
    try:
        yield
    except FramingError as error:
        raise damaged(file.where, error) from None


def _with_checksum(data: bytes) -> bytes:
    return data + _CHECKSUM.pack(crc32(data))


def _without_checksum(data: bytes, part: str) -> bytes:
    content = data[: -_CHECKSUM.size]
    if data != _with_checksum(content):
        raise FramingError(f"its {part} is cut or changed")
    return content


# ---- header ----


def encode_header(attempt: Attempt) -> bytes:
    """Return the header of a file."""
    return _with_checksum(
        _HEADER.pack(
            _MAGIC,
            FORMAT_VERSION,
            COMPRESSIONS.index(attempt.options.compression),
            attempt.index,
            bytes.fromhex(attempt.fingerprint),
            attempt.options.npartitions,
        )
    )


def decode_header(data: bytes, file: StoredFile) -> tuple[str | None, int]:
    """Return compression and partition count, in the first `HEADER_BYTES` of a file.

    Raises
    ------
    FramingError
        It is cut or changed, or of another file.
    UnsupportedFormatError
        It is whole but of another version of the format.
    """
    if not data:
        raise FramingError("it is empty")
    if data.startswith(_UNRELEASED_MAGIC):
        raise UnsupportedFormatError(
            f"{file.where} was written by an unreleased version of agatha_ckpt, in a "
            "format that is no longer read; clear the checkpoint or recompute it"
        )
    if not data.startswith(_MAGIC):
        raise FramingError("it does not begin like a partition file")
    if len(data) != HEADER_BYTES:
        raise FramingError("its header is cut")
    content = _without_checksum(data, "header")
    _, version, compression, index, fingerprint, count = _HEADER.unpack(content)
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{file.where} was written in format {version}, and this version of "
            f"agatha_ckpt reads format {FORMAT_VERSION}; upgrade agatha_ckpt"
        )
    if compression >= len(COMPRESSIONS):
        raise UnsupportedFormatError(
            f"{file.where} has compression number {compression}, which this version of "
            "agatha_ckpt does not support; upgrade agatha_ckpt"
        )
    found, name = (index, fingerprint.hex()), file.name
    if name is None or (name.index, name.fingerprint) != found:
        raise FramingError(
            f"it holds partition {index} with fingerprint {fingerprint.hex()}, and its "
            f"name is {file.filename!r}"
        )
    return COMPRESSIONS[compression], count


# ---- blocks ----


def encode_block_head(
    flags: int, records: int, length: int, stored: int, stored_crc: int
) -> bytes:
    """Return what precedes the stored payload of a block.

    The payload has *length* bytes before and *stored* after compression. The checksum
    covers the CRC-32 of the latter in its place, so that writers pass over it once.
    """
    head = _BLOCK.pack(flags, records, length, stored)
    return head + _CHECKSUM.pack(crc32(head + _CHECKSUM.pack(stored_crc)))


def split_block_head(head: bytes) -> tuple[int, int, int, int]:
    """Return flags, records, length and stored length, not checked yet.

    Raises
    ------
    FramingError
        It is cut.
    """
    if len(head) < BLOCK_HEAD_BYTES:
        raise FramingError("it ends in the head of a block")
    flags, records, length, stored = _BLOCK.unpack_from(head)
    return flags, records, length, stored


# ---- footer ----


def encode_text(code: str, classes: Iterable[str]) -> bytes:
    """Return the text of a footer as bytes: the code, then a class a line.

    Of both whole entries only, as many as there is room for.
    """
    lines = b"".join([b"\n" + name.encode() for name in classes])
    if len(lines) > _MAX_CLASSES_BYTES:
        lines = lines[: _MAX_CLASSES_BYTES + 1].rpartition(b"\n")[0]
    text = code.replace("\n", " ").encode("utf-8", "replace")
    room = _MAX_TEXT_BYTES - len(lines)
    if len(text) > room:
        text = text[: room + 1].rpartition(b";")[0]
    return text + lines


def encode_footer(info: PartitionInfo, blocks: int) -> bytes:
    """Return the footer of a file that has so many *blocks*."""
    text = encode_text(info.code, info.classes)
    fixed = _FOOTER.pack(
        _END_MAGIC,
        info.records,
        blocks,
        info.bytes,
        info.seconds,
        info.holds_pickle,
        bytes.fromhex(info.digest),
        len(text),
    )
    return _with_checksum(text + fixed)


def decode_footer(tail: bytes, file: StoredFile) -> tuple[PartitionInfo, int]:
    """Return what the footer at the end of *tail*, a file's end, holds; and its blocks.

    Raises
    ------
    FramingError
        It is cut or changed, or the file is.
    """
    fixed = tail[-FOOTER_BYTES : -_CHECKSUM.size]
    if len(fixed) != _FOOTER.size or not fixed.startswith(_END_MAGIC):
        raise FramingError("its footer is cut or changed")
    _, records, blocks, file_bytes, seconds, pickle, digest, length = _FOOTER.unpack(
        fixed
    )
    content = _without_checksum(tail[-FOOTER_BYTES - length :], "footer")
    if not 0 <= seconds < inf:  # a resume copies it into the manifest
        raise FramingError("its footer has a negative or infinite time")
    if file_bytes != file.size:
        raise FramingError(f"it has {file.size} bytes, and {file_bytes} by its footer")
    try:
        text = content[: -_FOOTER.size].decode()
    except UnicodeDecodeError as error:
        raise FramingError(f"its footer is not UTF-8 ({error})") from None
    code, *classes = text.split("\n")
    info = PartitionInfo(
        file=file.filename,
        records=records,
        bytes=file.size,
        digest=digest.hex(),
        seconds=round(seconds, 6),
        holds_pickle=bool(pickle),
        fingerprint=file.name.fingerprint if file.name else "",
        code=code,
        classes=MainClasses(classes),
    )
    return info, blocks
