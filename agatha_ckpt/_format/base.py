"""What a codec is: it encodes the records of a partition to a file and decodes them."""

from abc import ABC, abstractmethod
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import dataclass
from typing import Any, BinaryIO

from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import NO_BASE, FileName, partition_filename

DIGEST_BYTES = 16


@dataclass(frozen=True)
class WriteOptions:
    """What all partitions of one run have in common."""

    format: str
    npartitions: int  # of the collection
    base: str = NO_BASE  # `Marker.base` of the done marker that it is to replace
    run: str = ""  # its id, 8 hex digits
    compression: str | None = None  # or "zstd"
    allow_pickle: bool = False  # of types that the format does not have


@dataclass(frozen=True)
class Attempt:
    """One try at writing one partition."""

    index: int
    fingerprint: str
    options: WriteOptions
    where: str  # the partition, for messages
    code: str = ""  # digests of the steps that computed it, where they are known


# How tables of pyarrow, polars and pandas give their rows.
_ROWS = {
    "to_pylist": "to_pylist()",
    "to_dicts": "to_dicts()",
    "to_dict": "to_dict('records')",
}


def check_records(records: object, where: str) -> None:
    """Refuse a partition that is not a sequence of records.

    dask iterates over whatever a function returns, and would make records of the keys
    of a dict, the columns of a frame, or the characters of a string.

    Raises
    ------
    EncodeError
    """
    if _is_sequence(records):
        return
    cls = type(records)
    package = cls.__module__.partition(".")[0]
    name = cls.__name__ if package == "builtins" else f"{package}.{cls.__name__}"
    advice = "[value] makes it one record"
    rows = next((call for name, call in _ROWS.items() if hasattr(cls, name)), None)
    if hasattr(cls, "columns") and rows:
        advice += f", value.{rows} a record of each row"
    elif isinstance(records, Mapping):
        advice += ", list(value.items()) a record of each item"
    elif hasattr(cls, "__iter__") and getattr(records, "ndim", None) != 0:
        advice += ", list(value) a record of each member"
    raise EncodeError(
        f"{where} is of type {name}, not a sequence of records; let the function given "
        f"to map_partitions return a list: {advice}"
    )


def _is_sequence(value: object) -> bool:
    """Return whether the members of *value* are records, in an order."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return False
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a record, if anything
        return False
    cls = type(value)
    if cls.__module__ == "numpy" and hasattr(value, "ndim"):
        return bool(value.ndim) and cls.__name__ == "ndarray"
    views = KeysView, ValuesView, ItemsView  # in the order of their dict
    return isinstance(value, (Iterator, Sequence, *views))


@dataclass(frozen=True)
class StoredFile:
    """A partition file that a codec reads."""

    filename: str
    name: FileName | None  # its parts; None for a file that Agatha wrote
    where: str  # the partition, for messages
    size: int  # by a listing or the manifest
    remote: bool  # whether each read is a request over a network
    open: Callable[..., BinaryIO]  # takes the size of a read, where not all is needed
    tail: Callable[[int], bytes]  # returns so many bytes at the end


class Codec(ABC):
    """A file format for partitions.

    Every method that reads raises `CorruptCheckpointError` for a file that is not
    what was saved, and `UnsupportedFormatError` for one that this installation cannot
    read.
    """

    name: str  # in a manifest
    suffix: str  # of the files, without the dot
    is_text = False  # whether records are lines of text, for other programs
    has_header = False  # with partition count and digest, which else are in the name

    @abstractmethod
    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        """Write *records* to *sink* and return the manifest's entry, with a file name.

        They are an iterable, of which memory use does not depend on its length; or a
        frame or an array, where that is what the format is for.

        Raises
        ------
        EncodeError
            A record cannot be stored faithfully, or *records* is something else.
        """

    def entry(
        self, attempt: Attempt, digest: str, seconds: float, **counted: Any
    ) -> PartitionInfo:
        """Return the manifest's entry for a file that *attempt* wrote."""
        options, content = attempt.options, ""
        if not self.has_header:
            content = f"{options.npartitions:08x}{digest[:16]}"
        return PartitionInfo(
            file=partition_filename(
                attempt.index,
                attempt.fingerprint,
                options.base,
                options.run,
                self.suffix,
                content,
            ),
            digest=digest,
            seconds=round(seconds, 6),
            fingerprint=attempt.fingerprint,
            code=attempt.code,
            **counted,
        )

    @abstractmethod
    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[Sequence[Any]]:
        """Yield the records in lists, after checks against *file* and *info*.

        A *piece* above 0 is for a reader of the first few records. Checks that
        need the whole file are then left out.
        """

    @abstractmethod
    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Read all of the file, and raise where it is not what was saved."""

    @abstractmethod
    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file, by checks of the file alone.

        Reads all of it, except on a remote filesystem, where a file appears whole or
        not at all: there the end of a large file is enough.
        """

    def expected_partitions(self, file: StoredFile) -> int | None:
        """Return the partition count of the collection, where the file has it."""
        return file.name.npartitions if file.name else None
