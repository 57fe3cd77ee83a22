"""pandas frames <-> Arrow tables, without loss.

Arrow's own conversion loses categories, units of time, kinds of strings and missing
values, and more. So the schema of a table has a description of the frame under a key
of ours, and a frame that it does not describe is refused.
"""

from __future__ import annotations

import io
import json
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agatha_ckpt._format.dtypes import (
    UnstorableFrame,
    describe_axis,
    describe_dtype,
    difference,
    index_fault,
    same_dtype,
)
from agatha_ckpt._format.frame_reader import KEY, frame_in
from agatha_ckpt._format.objects import objects_of, same_object
from agatha_ckpt._format.pieces import PieceWriter

if TYPE_CHECKING:  # imported when the first frame is met
    import pandas as pd
    import pyarrow as pa

_Described = dict[str, Any]
ROW_GROUP = 128 * 1024  # rows, so that a reader with a filter can skip some
_BUFFER_BYTES = 1024 * 1024  # fewer and larger writes, from the processor's cache
_MOST_CHECKED = 1_000
_checked: set[str] = set()


def to_arrow(value: pd.DataFrame | pd.Series) -> pa.Table:
    """Return a frame as a table from which `to_pandas` makes an equal one.

    Raises
    ------
    UnstorableFrame
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    described: _Described = {}
    frame = value
    if not value.flags.allows_duplicate_labels:
        described["unique"] = True
    if type(value) is pd.Series:
        name = value.name
        described["series"] = "numpy" if hasattr(name, "dtype") else name is not None
        try:
            frame = value.to_frame()
        except (UnicodeError, NotImplementedError):  # also np.float16(1)
            raise UnstorableFrame(
                f"its name {name!r} is not one that a column can have; rename it"
            ) from None
    if type(frame) is not pd.DataFrame:
        raise UnstorableFrame(
            f"it is a {type(value).__module__}.{type(value).__qualname__}, not a "
            "pandas.DataFrame; convert it with map_partitions(pandas.DataFrame)"
        )
    described["labels"] = _describe_labels(frame.columns)
    if not frame.columns.is_unique:
        names = frame.columns[frame.columns.duplicated()].unique()
        raise UnstorableFrame(
            f"several of its columns have the name {names[0]!r}; rename them"
        )
    described["attrs"] = _describe_attrs(frame.attrs)
    try:
        # With True, a level that is a range is a column too. In this thread: the
        # scheduler has partitions for the others.
        index = None if isinstance(frame.index, pd.RangeIndex) else True
        named = _with_names_of_text(frame)
        table = pa.Table.from_pandas(named, preserve_index=index, nthreads=1)
        described["template"] = _template(table)
    except MemoryError:
        raise
    except Exception as error:  # any, such as OverflowError, and from objects in it
        is_text = isinstance(error, UnicodeError)  # which has the text in its arguments
        reason = str(error) if is_text else " ".join(map(str, error.args))
        reason = (reason or repr(error)).splitlines()[0]
        raise UnstorableFrame(
            f"Arrow cannot hold it ({reason}); convert the column with astype, "
            "or store a bag"
        ) from None
    count = len(frame.columns)
    described["columns"] = [
        _describe_objects(frame.iloc[:, place], table.column(place))
        if getattr(dtype, "hasobject", False)
        else {"dtype": _describe_dtype(dtype, name)}
        for place, (name, dtype) in enumerate(frame.dtypes.items())
    ]
    described["index"] = _describe_index(frame.index, table.columns[count:])
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), KEY: json.dumps(described).encode()}
    )
    # What a load gives depends on the description, and only the range on the values.
    rows = {k: v for k, v in described["index"].items() if k != "range"}
    key = json.dumps({**described, "index": rows, "attrs": None})
    if key not in _checked or not _is_described(value):
        try:
            sink = io.BytesIO()
            write_table(table.slice(0, 0), PieceWriter(sink), None)
            back = frame_in(pq.ParquetFile(sink))
        except UnstorableFrame:
            raise
        except Exception as error:  # any, from pandas: it cannot make such a frame
            raise UnstorableFrame(
                f"Arrow does not give back one of its types ({error}); convert the "
                "column or the index with astype"
            ) from None
        _check(value, back)
        if len(_checked) >= _MOST_CHECKED:
            _checked.clear()
        _checked.add(key)
    return table


def _with_names_of_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose index has no int as a name.

    Arrow would make text of it, and give two fields the same name.
    """
    names = list(frame.index.names)
    if int in map(type, names):
        frame = frame.copy(deep=False)
        frame.index = frame.index.set_names(
            [str(name) if type(name) is int else name for name in names]
        )
    return frame


def _is_described(value: Any) -> bool:
    """Return whether a description has all that is checked; of objects it has not."""
    import pandas as pd

    if isinstance(value, pd.Series):
        plain = type(value.name) in (type(None), str, int)
        dtypes = [value.dtype]
    else:
        plain = not isinstance(value.columns, pd.MultiIndex)
        dtypes = list(value.dtypes)
    index = value.index
    dtypes += [*index.dtypes] if index.nlevels > 1 else [index.dtype]
    return plain and not any(
        isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype == object
        for dtype in dtypes
    )


def _describe_labels(labels: pd.Index) -> _Described:
    import pandas as pd

    names = list(labels.names)
    plain = (str, int)
    if not all(name is None or type(name) in plain for name in names):
        raise UnstorableFrame(f"its columns are named {names!r}; use a str")
    if isinstance(labels, pd.RangeIndex):
        return {"range": [labels.start, labels.stop, labels.step], "names": names}
    values = labels.tolist()
    nested = isinstance(labels, pd.MultiIndex)
    for level in zip(*values, strict=True) if nested else [values]:
        if others := [part for part in level if type(part) not in plain]:
            raise UnstorableFrame(
                f"a column has the name {others[0]!r}; rename it to a str or an int"
            )
        if len(set(map(type, level))) > 1:
            raise UnstorableFrame(
                "the names of its columns are str and int; rename them to one of both"
            )
    described: _Described = {"values": values, "names": names, "nested": nested}
    if isinstance(labels, pd.CategoricalIndex):
        described["ordered"] = labels.ordered
        labels = labels.categories
        described["categories"] = labels.tolist()
        described["axis"] = describe_axis(labels)
    described["dtype"] = (
        list(map(describe_dtype, labels.dtypes))
        if nested
        else describe_dtype(labels.dtype)
    )
    return described


def _describe_attrs(attrs: dict[Any, Any]) -> dict[Any, Any]:
    try:
        kept = json.loads(json.dumps(attrs)) if attrs else {}
    except (TypeError, ValueError):
        kept = None
    if not same_object(kept, attrs):
        raise UnstorableFrame(
            "its attrs are not what JSON can hold; use strings as keys, and strings, "
            "numbers, booleans, None, lists and dicts as values"
        )
    return dict(attrs)


def _describe_index(index: pd.Index, columns: list[Any]) -> _Described:
    import pandas as pd

    described = describe_axis(index)
    if "range" in described:
        return described
    values = [index.get_level_values(level) for level in range(index.nlevels)]
    levels = [pd.Series(each.array, dtype=each.dtype) for each in values]
    described["levels"] = [
        _describe_objects(values, column)
        if getattr(values.dtype, "hasobject", False)
        else {"dtype": describe_dtype(values.dtype)}
        for values, column in zip(levels, columns, strict=True)
    ]
    for level, kept in zip(described["levels"], values, strict=True):
        if isinstance(kept, pd.RangeIndex):
            level["range"] = [kept.start, kept.stop, kept.step]
    return described


def _describe_dtype(dtype: Any, name: Any) -> Any:
    try:
        return describe_dtype(dtype)
    except UnstorableFrame as error:
        raise UnstorableFrame(f"of its column {name!r}, {error}") from None


def _describe_objects(values: pd.Series, column: pa.ChunkedArray) -> _Described:
    way = objects_of(values.to_numpy(), column)
    if way is None:
        place = "its index" if values.name is None else f"its column {values.name!r}"
        raise UnstorableFrame(
            f"{place} holds objects that Arrow does not give back; "
            "convert it with astype (to 'string', for text), or store a bag"
        )
    return {"dtype": "object", "way": way}


def _template(table: pa.Table) -> str:
    """Return the table without rows: types and dictionaries, which Parquet loses."""
    import pyarrow as pa

    schema = table.schema.remove_metadata()
    if not any(map(pa.types.is_dictionary, schema.types)):
        return _template_of(schema)
    return _stream(
        pa.RecordBatch.from_arrays([*map(_no_values, table.columns)], schema=schema)
    )


@lru_cache(maxsize=64)
def _template_of(schema: pa.Schema) -> str:
    import pyarrow as pa

    arrays = [pa.array([], kind) for kind in schema.types]
    return _stream(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _stream(batch: pa.RecordBatch) -> str:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return b64encode(sink.getvalue()).decode()


def _no_values(column: pa.ChunkedArray) -> pa.Array:
    """Return an empty array with type and dictionary; a slice would have all values."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_dictionary(kind) and column.num_chunks):
        return pa.array([], kind)
    indices = pa.array([], kind.index_type)
    dictionary = column.chunk(0).dictionary
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)


def _check(value: Any, back: Any) -> None:
    """Refuse a frame whose types are not those that a load gives."""
    import pandas as pd

    if isinstance(value, pd.Series):
        same = same_object(value.name, back.name)
        columns = [(value.name, value.dtype, back.dtype)]
    else:
        same = value.columns.equals(back.columns)
        same = same and not index_fault(value.columns, back.columns)
        columns = list(zip(value.columns, value.dtypes, back.dtypes, strict=True))
    for name, wanted, found in columns:
        if not same_dtype(wanted, found):
            raise UnstorableFrame(
                f"of its column {name!r}, Arrow gives back "
                f"{difference(found, wanted)}; use astype, or dt.tz_convert for a zone"
            )
    if not same:
        raise UnstorableFrame(
            "Arrow does not give back the names of its columns; use a str for each"
        )
    if fault := index_fault(back.index, value.index):
        raise UnstorableFrame(
            f"what Arrow gives back as its index {fault}; use reset_index"
        )


def write_table(table: pa.Table, sink: PieceWriter, compression: str | None) -> None:
    """Write a table as a Parquet file.

    Raises
    ------
    UnstorableFrame
        Parquet does not have one of the types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A dictionary takes time to build, and numbers seldom repeat.
    texts = [field.name for field in table.schema if not _is_number(field.type)]
    try:
        with (
            pa.BufferedOutputStream(pa.PythonFile(sink, "w"), _BUFFER_BYTES) as buffer,
            pq.ParquetWriter(
                buffer,
                table.schema,
                version="2.6",
                compression=compression or "none",
                use_dictionary=texts or False,
            ) as writer,
        ):
            for column in table.columns:
                if pa.types.is_timestamp(column.type) and column.type.unit == "s":
                    # Parquet has no seconds, and older pyarrow does not check these.
                    column.cast(pa.timestamp("ms", column.type.tz))
            writer.write_table(table, row_group_size=ROW_GROUP)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnstorableFrame(
            f"Parquet cannot hold it ({error}); convert the column, or store a bag"
        ) from None


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_primitive(kind))
