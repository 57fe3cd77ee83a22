"""One stored partition: written in one stream, read as a lazy sequence."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, overload

from agatha_ckpt._errors import (
    CheckpointConflictError,
    EncodeError,
    error_note,
)
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._format.agatha import decode_pickle
from agatha_ckpt._format.blocks import pickle_refusal
from agatha_ckpt._format.codec import decode_partition, encode_partition
from agatha_ckpt._format.framing import Footer, Header
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import (
    LEGACY,
    TEXT,
    Plan,
    new_attempt,
    partition_filename,
    text_attempt,
)
from agatha_ckpt._format.text import decode_text, encode_text
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.rivals import has_lost

_PIECE_BYTES, _MOST_PIECE_BYTES = 128 * 1024, 8 * 1024 * 1024


def write_partition(
    folder: Folder,
    plan: Plan,
    index: int,
    records: Iterable[Any],
    compression: str | None,
    allow_pickle: bool,
    bag: str,
    run: str,
) -> PartitionInfo:
    """Write one partition under a file name that is used once and never again.

    Raises
    ------
    EncodeError
        A record cannot be stored faithfully, or *records* is no sequence of them.
    CheckpointConflictError
        The checkpoint was cleared, or finished by another run, meanwhile.
    """
    where = folder.describe(index)
    if isinstance(records, str | bytes) or not hasattr(records, "__iter__"):
        raise EncodeError(
            f"{where} is a {type(records).__name__}, not a sequence of records; "
            "let the function given to map_partitions return a list"
        )
    footers: list[Footer] = []

    def write(sink: BinaryIO) -> str:
        if plan.format == TEXT:
            footer = encode_text(records, sink, where=where)
            attempt = text_attempt(plan.npartitions, footer.digest, run)
        else:
            header = Header(plan.digest, index, plan.npartitions, compression, bag)
            footer = encode_partition(
                records, sink, header, allow_pickle=allow_pickle, where=where
            )
            attempt = new_attempt(run)
        footers.append(footer)
        return partition_filename(plan, index, attempt)

    try:
        filename = folder.files.publish(folder.path, write)
        if has_lost(run):
            folder.files.remove(folder.path, [filename])
            raise FolderGoneError(folder.path)
    except FolderGoneError:
        raise CheckpointConflictError(
            f"{where} was cleared or finished by another run while it was being "
            "written; run again when the other run has ended"
        ) from None
    return footers[0].info(filename)


class Partition(Sequence[Any]):
    """The records of one stored partition; each iteration reads the file anew.

    A sequence and no iterator: dask hands a partition on as it is to a task that is
    its only user, and such a task may use it twice. ``len`` reads nothing.

    Parameters
    ----------
    folder : Folder
        That of the checkpoint.
    plan : Plan
    index : int
        Partition number, from 0.
    info : PartitionInfo
        What the manifest says of it.
    allow_pickle : bool
    """

    def __init__(
        self,
        folder: Folder,
        plan: Plan,
        index: int,
        info: PartitionInfo,
        allow_pickle: bool,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._index = index
        self._info = info
        self._allow_pickle = allow_pickle
        self._where = folder.describe(index)
        self._counted = info.records

    def __iter__(self) -> Iterator[Any]:
        # The first block here and now: before list() asks for a record it makes room
        # for as many as __len__ says, and then the file must have said so as well.
        blocks = self._blocks()
        first = next(blocks, ())
        # chain walks each block's list in C.
        return chain.from_iterable(chain((first,), blocks))

    def first(self, count: int) -> Iterator[Any]:
        """Yield the first *count* records, and read little more than they take.

        The lines of a text partition are then not checked: its digest is over all of
        them.
        """
        records, size = self._info.records, self._info.bytes
        share = size * count // records if records > 0 else 0
        piece = min(share + _PIECE_BYTES, _MOST_PIECE_BYTES)
        return islice(chain.from_iterable(self._blocks(piece)), count)

    def _blocks(self, piece: int = 0) -> Iterator[Iterable[Any]]:
        with error_note(f"reading {self._where}"):
            yield from self._read_blocks(piece)

    def _read_blocks(self, piece: int) -> Iterator[Iterable[Any]]:
        plan, info = self._plan, self._info
        with self._folder.open_file(self._index, info, piece) as source:
            if plan.format == LEGACY:
                if not self._allow_pickle:
                    raise pickle_refusal(self._where)
                records = decode_pickle(source, self._where)
                self._counted = len(records)
                yield records
            elif plan.format == TEXT:
                digest, lines = ("", -1) if piece else (info.digest, info.records)
                yield from decode_text(source, digest, self._where, lines)
            else:
                yield from decode_partition(
                    source,
                    info.bytes,
                    Header(plan.digest, self._index, plan.npartitions),
                    allow_pickle=self._allow_pickle,
                    where=self._where,
                    digest=info.digest,
                    records=info.records,
                )

    def __len__(self) -> int:
        if self._counted < 0:  # Agatha kept no count
            return sum(1 for _ in self)
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
        raise IndexError(f"{self._where} has no record {key}")

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
        return f"<{self._where}, {self._info.records} records>"
