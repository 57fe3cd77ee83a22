"""One stored partition: written in one stream, read as a lazy sequence."""

import re
from collections import UserList
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from itertools import chain, islice
from typing import Any, BinaryIO

from agatha_ckpt._errors import (
    CheckpointConflictError,
    InvalidValueError,
)
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._format.base import Attempt, StoredFile, WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.framing import COMPRESSIONS
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._store.folder import Folder

_FINGERPRINT = re.compile("[0-9a-f]{32}")
_PIECE_BYTES, _MAX_PIECE_BYTES = 128 * 1024, 8 * 1024 * 1024


class ClearedError(CheckpointConflictError):
    """The folder or the file was removed while a partition was being written."""


def write_partition(
    folder: Folder,
    records: Any,
    index: int,
    fingerprint: str,
    code: str,
    options: WriteOptions,
    makes_folder: bool = False,
) -> PartitionInfo:
    """Write one partition under a file name that is used once and never again.

    With *makes_folder* the folder is made where it is not there.

    Raises
    ------
    EncodeError
        A record cannot be stored faithfully, or *records* is not what the format is
        for: a sequence, a frame, an array.
    CheckpointConflictError
        The checkpoint was cleared meanwhile.
    """
    where = folder.describe(index)
    _check(where, index, fingerprint, options)
    codec = codec_for(options.format)
    attempt = Attempt(index, fingerprint, options, where, code)
    written: list[PartitionInfo] = []

    def write(sink: BinaryIO) -> str:
        written.append(codec.encode(records, sink, attempt))
        return written[0].file

    try:
        try:
            folder.files.publish(folder.path, write)
        except FolderGoneError:
            if written or not makes_folder:  # the records may be there only once
                raise
            folder.make()
            folder.files.publish(folder.path, write)
    except FolderGoneError:
        raise ClearedError(
            f"{where} was cleared by another run while it was being written; run again "
            "when the other run has ended"
        ) from None
    return written[0]


def _check(where: str, index: int, fingerprint: str, options: WriteOptions) -> None:
    """Refuse what a file name or a header cannot have."""
    if not 0 <= index < options.npartitions:
        raise InvalidValueError(
            f"invalid partition number {index} for {where}: the plan has "
            f"{options.npartitions} partitions, numbered from 0"
        )
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise InvalidValueError(
            f"invalid fingerprint {fingerprint!r} for {where}: fingerprints are 32 hex "
            "digits; omit it, or give a digest of what the partition is computed from"
        )
    if options.compression not in COMPRESSIONS:
        raise InvalidValueError(
            f"invalid compression {options.compression!r} for {where}: use None or "
            "'zstd'"
        )


def read_partition(
    folder: Folder,
    index: int,
    info: PartitionInfo,
    read: Callable[[StoredFile, PartitionInfo], Any],
) -> Any:
    """Return the value of a partition that is not a list of records, by *read*.

    Raises
    ------
    CorruptCheckpointError
        The file is missing, or not what was saved.
    """
    with folder.reading(index, info) as file:
        return read(file, info)


class Partition(UserList[Any]):
    """The records of one stored partition: a list that is read when it is used.

    Each iteration reads the file anew and holds a block of it in memory; ``len`` reads
    nothing. Anything else (an index, a slice, ``sort``, ``+``, ...) reads all records
    into memory, once, and then this is a list of them.

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
        self._format = format
        self._index = index
        self._info = info
        self._allow_pickle = allow_pickle
        self._counted = info.records

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # For isinstance. C code that needs a real list refuses this one, instead of
        # seeing an empty list.
        return list

    def __reduce__(self) -> Any:
        if self.is_read:
            return list, (self.data,)
        args = self._folder, self._format, self._index, self._info, self._allow_pickle
        return Partition, args

    @cached_property
    def data(self) -> list[Any]:  # type: ignore[override]
        """All records, in memory."""
        return list(self)

    @property
    def is_read(self) -> bool:
        """Whether all records are in memory."""
        return "data" in vars(self)

    def __iter__(self) -> Iterator[Any]:
        if self.is_read:
            return iter(self.data)
        # The first block now: before list() asks for a record it reserves memory for
        # as many as __len__ returns, and the file must confirm that number before.
        blocks: Iterator[Sequence[Any]] = self._blocks()
        first = next(blocks, ())
        if self._counted < 0:  # Agatha kept no count, and pickled a whole partition
            second = next(blocks, None)
            if second is None:
                self._counted = len(first)
            else:
                blocks = chain(iter((second,)), blocks)
        # chain walks each block's list in C. It keeps its arguments to the end, and an
        # iterator, once at its end, does not keep the block.
        return chain.from_iterable(chain(iter((first,)), blocks))

    def first(self, count: int) -> Iterator[Any]:
        """Yield the first *count* records, and read little more than they take.

        The lines of a text partition are then not checked: its digest covers all of
        them.
        """
        records, size = self._info.records, self._info.bytes
        if not records:
            return iter(())
        share = size * count // records if records > 0 else 0
        piece = min(share + _PIECE_BYTES, _MAX_PIECE_BYTES)
        return islice(chain.from_iterable(self._blocks(piece)), count)

    def _blocks(self, piece: int = 0) -> Iterator[Sequence[Any]]:
        codec = codec_for(self._format)
        with self._folder.reading(self._index, self._info) as file:
            yield from codec.decode(file, self._info, self._allow_pickle, piece)

    def __len__(self) -> int:
        if self.is_read:
            return len(self.data)
        return sum(1 for _ in self) if self._counted < 0 else self._counted

    def __radd__(self, other: object) -> Any:
        # UserList's would replace the list in ``records += partition``.
        return NotImplemented

    def __copy__(self) -> list[Any]:  # type: ignore[override]
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return deepcopy(self.data, memo)

    def __repr__(self) -> str:
        if self.is_read:
            return repr(self.data)
        where = self._folder.describe(self._index)
        return f"<{where}, {self._info.records} records>"
