"""The parquet format: one partition of a frame, a file that any program can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO
from zoneinfo import ZoneInfoNotFoundError

from agatha_ckpt._errors import (
    EncodeError,
    UnsupportedFormatError,
    damaged,
)
from agatha_ckpt._format.base import Attempt, Codec, StoredFile
from agatha_ckpt._format.dtypes import UnstorableFrame
from agatha_ckpt._format.frame_reader import dtypes_in, frame_in
from agatha_ckpt._format.frames import ROW_GROUP, to_arrow, write_table
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import PARQUET, SUFFIXES
from agatha_ckpt._format.pieces import PieceWriter, inspect_pieces, open_pieces

if TYPE_CHECKING:  # pandas and pyarrow are imported when the first frame is met
    import pyarrow as pa

_BATCH = 1024  # rows that are made Python objects at a time


class ParquetCodec(Codec):
    """Partitions as pandas frames; a record is a row."""

    name = PARQUET
    suffix = SUFFIXES[PARQUET]

    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        """Write a frame; see `Codec.encode`."""
        started = perf_counter()
        taken = PieceWriter(sink)
        try:
            table = to_arrow(records)
            write_table(table, taken, attempt.options.compression)
        except UnstorableFrame as error:
            raise EncodeError(f"{attempt.where} cannot be stored: {error}") from None
        digest, checksums = taken.result()
        return self.entry(
            attempt,
            digest,
            perf_counter() - started,
            records=table.num_rows if table.num_columns else len(records),
            bytes=taken.bytes,
            checksums=checksums,
        )

    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[list[Any]]:
        """Yield the rows as dicts, in lists; see `Codec.decode`."""
        with _opened(file, info, bool(piece)) as parquet:
            names = parquet.schema_arrow.names
            if not names:
                yield [{} for _ in range(info.records)]
            dtypes = dtypes_in(parquet.schema_arrow)
            for batch in parquet.iter_batches(_BATCH):
                try:
                    columns = list(map(_objects, batch.columns, dtypes))
                except (LookupError, ValueError) as error:  # not of damage
                    raise not_here(file.where, error) from None
                rows = zip(*columns, strict=True)
                yield [dict(zip(names, row, strict=True)) for row in rows]

    def batches(self, file: StoredFile, info: PartitionInfo) -> Iterator[Any]:
        """Yield the rows as Arrow has them, in batches of at most a row group.

        At least one, as a batch has the names and types of the columns.
        """
        import pyarrow as pa

        with _opened(file, info, False) as parquet:
            if not parquet.metadata.num_rows:
                yield pa.RecordBatch.from_pylist([], parquet.schema_arrow)
            yield from parquet.iter_batches(ROW_GROUP)

    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Check all bytes."""
        with open_pieces(file, info) as pieces:
            pieces.check_all()

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file that matches the digest in its name.

        Neither time nor code is in the file.
        """
        info = inspect_pieces(file, 0)
        with _opened(file, info, False) as parquet:
            records = parquet.metadata.num_rows
            if not parquet.schema_arrow.names:
                records = len(frame_in(parquet))
            return replace(info, records=records)


def _objects(column: pa.Array, dtype: Any) -> list[Any]:
    import pyarrow as pa

    if isinstance(dtype, str) and dtype.startswith("period["):  # a number for Arrow
        import pandas as pd

        kind: Any = pd.api.types.pandas_dtype(dtype)
        return list(kind.__from_arrow__(column))
    if column.type == pa.time64("ns"):  # Python's times have microseconds
        whole = column.cast(pa.time64("us"), safe=False)
        if whole.cast(column.type) != column:
            column = column.cast(pa.int64()).cast(pa.duration("ns"))
    try:
        found: list[Any] = column.to_pylist()
    except OverflowError:  # times that Python does not have
        return list(column.to_numpy(zero_copy_only=False))
    return found


@contextmanager
def _opened(file: StoredFile, info: PartitionInfo, partly: bool) -> Iterator[Any]:
    """Open a stored file, whose bytes are checked before they are used."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_pieces(file, info, partly) as pieces:
        try:
            yield pq.ParquetFile(pa.PythonFile(pieces, "r"))
        except (pa.ArrowException, ValueError) as error:
            text = str(error).partition("\n")[0]
            raise damaged(file.where, f"it is not our Parquet file ({text})") from None


def read_frame(
    file: StoredFile, info: PartitionInfo, columns: list[Any] | None = None
) -> Any:
    """Return the frame or series of a stored file, or *columns* of it.

    Only what holds them is read, and checked.

    Raises
    ------
    CorruptCheckpointError
        The file is not what was saved.
    UnsupportedFormatError
        It holds a time zone that this machine does not know.
    """
    with _opened(file, info, columns is not None) as parquet:
        try:
            return frame_in(parquet, columns)
        except ZoneInfoNotFoundError as error:
            raise not_here(file.where, error) from None


def not_here(where: str, error: Exception) -> UnsupportedFormatError:
    """Return the error for values that are whole, and cannot be made here."""
    return UnsupportedFormatError(
        f"{where} holds values that cannot be made here ({error}); where it is a time "
        "zone, pip install tzdata, else load the frame"
    )
