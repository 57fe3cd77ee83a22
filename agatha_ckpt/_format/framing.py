"""What a partition file says of itself: its header, and its footer.

Both carry a checksum. The header is there before the first record is known; counts
and digest come when the last one was written.
"""

from dataclasses import dataclass
from math import inf
from struct import Struct
from typing import BinaryIO

from agatha_ckpt._errors import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.crc import crc32
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import FORMAT_VERSION

COMPRESSIONS = (None, "zstd")

_MAGIC, _END_MAGIC = b"\x89AGCKPT\n", b"AGCE"
CHECKSUM = Struct("<I")
_HEADER = Struct("<8sHBI8sIH")
_FOOTER = Struct("<4sQQQdB16s")
FOOTER_BYTES = _FOOTER.size + CHECKSUM.size
HEADER_BYTES = 4096  # more than any header has
DIGEST_BYTES = 16


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


class FramingError(Exception):
    """What is wrong with a partition file, in half a sentence."""


def damaged(where: str, reason: object) -> CorruptCheckpointError:
    """Return the error for a partition file that does not hold what was saved."""
    return CorruptCheckpointError(
        f"{where} is damaged: {reason}; verify the checkpoint, repair it with its bag "
        "(Checkpointer.repair), or clear it"
    )


def encode_header(header: Header) -> bytes:
    """Return a header as bytes."""
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


def encode_footer(footer: Footer) -> bytes:
    """Return a footer as bytes."""
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
    return data + CHECKSUM.pack(crc32(data))


def _without_checksum(data: bytes, part: str) -> bytes:
    content = data[: -CHECKSUM.size]
    if len(data) <= CHECKSUM.size or data != _with_checksum(content):
        raise FramingError(f"its {part} is cut or changed")
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
        return parse_header(source, where)
    except FramingError as error:
        raise damaged(where, error) from None


def parse_header(source: BinaryIO, where: str) -> Header:
    """Do what `read_header` does, with `FramingError` where it is cut or changed."""
    head = source.read(_HEADER.size)
    if not head:
        raise FramingError("it is empty")
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        raise FramingError("it does not begin like a partition file")
    _, version, compression, index, plan, npartitions, length = _HEADER.unpack(head)
    bag = source.read(length + CHECKSUM.size)
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
        return parse_footer(data)
    except FramingError as error:
        raise damaged(where, error) from None


def parse_footer(data: bytes) -> Footer:
    """Do what `read_footer` does, with `FramingError` where it is cut or changed."""
    content = _without_checksum(data, "footer")
    if len(content) != _FOOTER.size or not content.startswith(_END_MAGIC):
        raise FramingError("its footer is cut or changed")
    _, records, blocks, size, seconds, holds_pickle, digest = _FOOTER.unpack(content)
    if not 0 <= seconds < inf:  # what a resume keeps goes into the manifest
        raise FramingError("its footer gives a time that no clock gives")
    return Footer(records, blocks, size, seconds, bool(holds_pickle), digest.hex())
