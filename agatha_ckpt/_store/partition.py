"""One stored partition: written in one stream, read as a lazy sequence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO, overload

from agatha_ckpt._errors import CheckpointConflictError, EncodeError, error_note
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._format.base import Footer, Header
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import NO_BASE, partition_filename
from agatha_ckpt._store.folder import Folder, missing_file_error

_PIECE_BYTES, _MAX_PIECE_BYTES = 128 * 1024, 8 * 1024 * 1024


@dataclass(frozen=True)
class WriteOptions:
    """What all partitions of one run have in common.

    Attributes
    ----------
    format : str
    npartitions : int
        Partition count of the collection.
    base : str
        `Marker.base` of the done marker that the run is to replace.
    run : str
        8 hex digits, the id of the run.
    compression : {None, "zstd"}
    allow_pickle : bool
        Whether values of types that the format does not have are pickled.
    """

    format: str
    npartitions: int
    base: str = NO_BASE
    run: str = ""
    compression: str | None = None
    allow_pickle: bool = False


def write_partition(
    folder: Folder,
    records: Iterable[Any],
    index: int,
    fingerprint: str,
    code: str,
    options: WriteOptions,
) -> PartitionInfo:
    """Write one partition under a file name that is used once and never again.

    Raises
    ------
    EncodeError
        A record cannot be stored faithfully, or *records* is not a sequence.
    CheckpointConflictError
        The checkpoint was cleared meanwhile.
    """
    where = folder.describe(index)
    if isinstance(records, str | bytes) or not hasattr(records, "__iter__"):
        raise EncodeError(
            f"{where} is a {type(records).__name__}, not a sequence of records; "
            "let the function given to map_partitions return a list"
        )
    codec = codec_for(options.format)
    header = Header(fingerprint, index, options.npartitions, options.compression)
    footers: list[Footer] = []

    def write(sink: BinaryIO) -> str:
        footer = codec.encode(
            records,
            sink,
            header,
            code=code,
            allow_pickle=options.allow_pickle,
            where=where,
        )
        footers.append(footer)
        content = codec.attempt_suffix(footer, options.npartitions)
        return partition_filename(
            index, fingerprint, options.base, options.run, codec.suffix, content
        )

    try:
        filename = folder.files.publish(folder.path, write)
    except FolderGoneError:
        raise CheckpointConflictError(
            f"{where} was cleared by another run while it was being written; run again "
            "when the other run has ended"
        ) from None
    return footers[0].info(filename, fingerprint)


class Partition(Sequence[Any]):
    """The records of one stored partition; each iteration reads the file anew.

    A sequence and not an iterator: dask gives the partition as it is to a task that
    is its only user, and such a task may use it twice. ``len`` reads nothing.

    Parameters
    ----------
    folder : Folder
    format : str
    index : int
        Partition number, from 0.
    info : PartitionInfo
    allow_pickle : bool
    """

    def __init__(
        self,
        folder: Folder,
        format: str,
        index: int,
        info: PartitionInfo,
        allow_pickle: bool,
    ) -> None:
        self._folder = folder
        self._codec = codec_for(format)
        self._index = index
        self._info = info
        self._allow_pickle = allow_pickle
        self._file = folder.partition_file(info.file, info.bytes, index)
        self._counted = info.records

    def __iter__(self) -> Iterator[Any]:
        # The first block now: before list() asks for a record it reserves memory for
        # as many as __len__ returns, and the file must confirm that number before.
        blocks = self._blocks()
        first = next(blocks, ())
        # chain walks each block's list in C.
        return chain.from_iterable(chain((first,), blocks))

    def first(self, count: int) -> Iterator[Any]:
        """Yield the first *count* records, and read little more than they take.

        The lines of a text partition are then not checked: its digest covers all of
        them.
        """
        records, size = self._info.records, self._info.bytes
        share = size * count // records if records > 0 else 0
        piece = min(share + _PIECE_BYTES, _MAX_PIECE_BYTES)
        return islice(chain.from_iterable(self._blocks(piece)), count)

    def _blocks(self, piece: int = 0) -> Iterator[Sequence[Any]]:
        with error_note(f"reading {self._file.where}"):
            try:
                yield from self._codec.decode(
                    self._file,
                    self._info,
                    allow_pickle=self._allow_pickle,
                    piece=piece,
                )
            except FileNotFoundError:
                error = missing_file_error(self._folder, self._index, self._info)
                raise error from None

    def __len__(self) -> int:
        if self._counted < 0:  # Agatha kept no count
            self._counted = sum(1 for _ in self)
        return self._counted

    @overload
    def __getitem__(self, key: int) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> list[Any]: ...
    def __getitem__(self, key: int | slice) -> Any:
        """Return a record, or a list of records, by reading up to it."""
        if isinstance(key, slice):
            return list(self)[key]
        index = key + len(self) if key < 0 else key
        if 0 <= index < len(self):
            for record in islice(self, index, None):
                return record
        raise IndexError(f"{self._file.where} has no record {key}")

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the position of the first record equal to *value*."""
        return list(self).index(value, start, len(self) if stop is None else stop)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | Partition):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like the list it stands for

    def __repr__(self) -> str:
        return f"<{self._file.where}, {self._info.records} records>"
