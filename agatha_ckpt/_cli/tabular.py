"""Records that are flat dicts or rows, as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO

from agatha_ckpt._cli.plain import ARRAYS, OBJECTS, SETS, plain

Records = Callable[[], Iterable[Any]]  # each call reads them anew
_BATCH_BYTES, _BATCH_ROWS, _CELL_BYTES = 16 * 1024 * 1024, 100_000, 16
# What Arrow has as a type; the rest becomes text.
_TYPED = (bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal)


class NotTabularError(ValueError):
    """The records are not the rows of one table."""


def write_csv(records: Records, sink: BinaryIO, names: Sequence[str] = ()) -> None:
    """Write records as CSV: a line of column names for dicts, none for rows.

    Where there are no records, *names* are those of the columns.
    """
    found, is_named = _columns(records)
    names, is_named = found or names, is_named or bool(names)
    text = io.TextIOWrapper(sink, "utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        if is_named:
            writer.writerow(names)
        for _, row in _rows(records):
            writer.writerow([plain(row.get(name)) for name in names])
    finally:
        text.detach()  # which writes what is left, and keeps the sink open


def write_parquet(records: Records, sink: BinaryIO) -> None:
    """Write records as Parquet, in row groups of bounded size."""
    import pyarrow as pa
    import pyarrow.parquet

    names, _ = _columns(records, typed=True)
    try:
        # A first pass for the types: a column can begin with nulls.
        schema = pa.schema([(name, pa.null()) for name in names])
        for batch in _batches(records, names):
            found = pa.Table.from_pydict(batch).schema
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
            for batch in _batches(records, names):
                writer.write_table(pa.Table.from_pydict(batch, schema=schema))
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise NotTabularError(f"holds what Arrow does not take: {error}") from error


def write_batches(batches: Records, sink: BinaryIO) -> None:
    """Write Arrow's record batches as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        # A column can be all null in one partition, and have a type in another.
        schema = None
        for batch in batches():
            both = [schema or batch.schema, batch.schema]
            schema = pa.unify_schemas(both, promote_options="default")
        schema = schema or pa.schema([])
        pandas = {k: v for k, v in (schema.metadata or {}).items() if k == b"pandas"}
        schema = schema.with_metadata(pandas)
        with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
            for batch in batches():
                writer.write_batch(batch.cast(schema))
    except pa.ArrowException as error:
        raise NotTabularError(f"has partitions of other types: {error}") from error


def _columns(records: Records, typed: bool = False) -> tuple[list[str], bool]:
    """Return the names of all columns, and whether the records have names.

    Raises
    ------
    NotTabularError
        A record is not flat, or is a dict where others are rows; or, where *typed*,
        a column has values of two types.
    """
    types: dict[str, set[object]] = {}
    named: set[bool] = set()
    for number, (is_named, row) in enumerate(_rows(records)):
        named.add(is_named)
        if number and (len(named) > 1 or (not is_named and len(row) != len(types))):
            raise NotTabularError(
                f"record {number} has other columns than those before"
            )
        for name, value in row.items():
            kinds = types.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    for name, kinds in types.items():
        if typed and len(kinds) > 1 and not kinds <= {int, float}:
            found = " and ".join(sorted(map(str, kinds)))
            raise NotTabularError(f"column {name!r} has values of two types: {found}")
    return list(types), True in named


def _kind(value: object) -> object:
    value = _cell(value)
    if type(value) is datetime:
        return f"datetime of {value.tzinfo}"
    return type(value)


def _rows(records: Records) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield whether a record is a dict, and its values by column."""
    for number, record in enumerate(records()):
        kind = type(record)
        if kind in OBJECTS:
            row, is_named = record, True
        elif kind in (tuple, list) or getattr(record, "ndim", 0) == 1:
            row, is_named = {str(i): value for i, value in enumerate(record)}, False
        else:
            raise NotTabularError(
                f"record {number} is a {kind.__name__}, not a dict or a row"
            )
        for name, value in row.items():
            if type(name) is not str:
                raise NotTabularError(f"record {number} has the key {name!r}")
            if type(value) in (*OBJECTS, *ARRAYS, *SETS) or (
                hasattr(value, "dtype") and (value.shape or value.dtype.names)
            ):
                raise NotTabularError(
                    f"record {number} has a {type(value).__name__} in column {name!r}"
                )
        yield is_named, row


def _batches(records: Records, names: list[str]) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of so many records as have about `_BATCH_BYTES`."""
    batch: dict[str, list[Any]] = {name: [] for name in names}
    rows = size = 0
    for _, row in _rows(records):
        for name, cells in batch.items():
            value = _cell(row.get(name))
            size += len(value) if type(value) in (str, bytes) else _CELL_BYTES
            cells.append(value)
        rows += 1
        if size > _BATCH_BYTES or rows == _BATCH_ROWS:
            yield batch
            batch = {name: [] for name in names}
            rows = size = 0
    if rows:
        yield batch


def _cell(value: Any) -> Any:
    """Return a value that Arrow has a type for."""
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind in "mM":
            return value
        value = value.item()
        kind = type(value)
    if value is None or (kind in _TYPED and not getattr(value, "tzinfo", None)):
        return value
    if kind is datetime:
        return value
    return bytes(value) if kind is bytearray else plain(value)
