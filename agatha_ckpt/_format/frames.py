"""pandas frames <-> Arrow tables, without loss.

Arrow's own conversion loses categories, units of time, kinds of strings and missing
values, and more. So the schema of a table has a description of the frame under a key
of ours, and a frame that it does not describe is refused.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agatha_ckpt._format.dtypes import (
    UnstorableFrame,
    describe_dtype,
    dtype_of,
    index_fault,
    same_dtype,
)
from agatha_ckpt._format.objects import from_objects, objects_of

if TYPE_CHECKING:  # imported when the first frame is met
    import pandas as pd
    import pyarrow as pa

KEY = b"agatha_ckpt"
_Described = dict[str, Any]
_MOST_CHECKED = 1_000
_checked: set[str] = set()


# ---- to Arrow ----


def to_arrow(value: pd.DataFrame | pd.Series) -> pa.Table:
    """Return a frame as a table from which `to_pandas` makes an equal one.

    Raises
    ------
    UnstorableFrame
    """
    import pandas as pd
    import pyarrow as pa

    described: _Described = {}
    frame = value
    if type(value) is pd.Series:
        described["series"] = value.name is not None
        frame = value.to_frame()
    if type(frame) is not pd.DataFrame:
        raise UnstorableFrame(
            f"it is a {type(value).__module__}.{type(value).__qualname__}, not a "
            "pandas.DataFrame; convert it with map_partitions(pandas.DataFrame)"
        )
    if not frame.columns.is_unique:
        names = frame.columns[frame.columns.duplicated()].unique()
        raise UnstorableFrame(
            f"several of its columns have the name {names[0]!r}; rename them"
        )
    described["labels"] = _describe_labels(frame.columns)
    described["attrs"] = _describe_attrs(frame.attrs)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=None)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = " ".join(map(str, error.args)) or repr(error)
        raise UnstorableFrame(
            f"Arrow cannot hold it ({reason.splitlines()[0]}); convert the column with "
            "astype, or store a bag"
        ) from None
    count = len(frame.columns)
    described["columns"] = [
        _describe_objects(frame.iloc[:, place], table.column(place))
        if getattr(dtype, "hasobject", False)
        else {"dtype": describe_dtype(dtype)}
        for place, dtype in enumerate(frame.dtypes)
    ]
    described["index"] = _describe_index(frame.index, table.columns[count:])
    described["template"] = _template(table)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), KEY: json.dumps(described).encode()}
    )
    # What a load gives depends on the description, and only the range on the values.
    index = {k: v for k, v in described["index"].items() if k != "range"}
    key = json.dumps({**described, "index": index, "attrs": None})
    if key not in _checked:
        _check(value, to_pandas(table.slice(0, 0)))
        if len(_checked) >= _MOST_CHECKED:
            _checked.clear()
        _checked.add(key)
    return table


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
    for level in map(set, zip(*values, strict=True) if nested else [values]):
        if others := [part for part in level if type(part) not in plain]:
            raise UnstorableFrame(
                f"a column has the name {others[0]!r}; rename it to a str or an int"
            )
        if len(set(map(type, level))) > 1:
            raise UnstorableFrame(
                "the names of its columns are str and int; rename them to one of both"
            )
    described: _Described = {"values": values, "names": names, "nested": nested}
    if not nested:
        described["dtype"] = describe_dtype(labels.dtype)
    return described


def _describe_attrs(attrs: dict[Any, Any]) -> dict[Any, Any]:
    try:
        kept = json.loads(json.dumps(attrs)) if attrs else {}
    except (TypeError, ValueError):
        kept = None
    if kept != attrs:
        raise UnstorableFrame(
            "its attrs are not what JSON can hold; use strings as keys, and strings, "
            "numbers, booleans, None, lists and dicts as values"
        )
    return dict(attrs)


def _describe_index(index: pd.Index, columns: list[Any]) -> _Described:
    import pandas as pd

    names = list(index.names)
    if not all(name is None or type(name) in (str, int) for name in names):
        raise UnstorableFrame(f"its index has the names {names!r}; use a str")
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "names": names}
    values = [index.get_level_values(level) for level in range(index.nlevels)]
    levels = [pd.Series(each.array, dtype=each.dtype) for each in values]
    freq = getattr(index, "freq", None)
    return {
        "levels": [
            _describe_objects(values, column)
            if getattr(values.dtype, "hasobject", False)
            else {"dtype": describe_dtype(values.dtype)}
            for values, column in zip(levels, columns, strict=True)
        ],
        "names": names,
        "freq": None if freq is None else freq.freqstr,
    }


def _describe_objects(values: pd.Series, column: pa.ChunkedArray) -> _Described:
    way = objects_of(values.to_numpy(), column)
    if way is None:
        raise UnstorableFrame(
            f"its column {values.name!r} holds objects that Arrow does not give back; "
            "convert it with astype (to 'string', for text), or store a bag"
        )
    return {"dtype": "object", "way": way}


def _template(table: pa.Table) -> str:
    """Return the table without rows: types and dictionaries, which Parquet loses."""
    import pyarrow as pa

    schema = table.schema.remove_metadata()
    arrays = list(map(_no_values, table.columns))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
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
        same = value.name == back.name or (value.name is None and back.name is None)
        pairs = [(value.dtype, back.dtype)]
    else:
        same = value.columns.equals(back.columns)
        same = same and value.columns.dtype == back.columns.dtype
        same = same and list(value.columns.names) == list(back.columns.names)
        pairs = list(zip(value.dtypes, back.dtypes, strict=True))
    for wanted, found in pairs:
        if not same_dtype(wanted, found):
            raise UnstorableFrame(
                f"Arrow gives back the dtype {found} for {wanted}; use astype"
            )
    if not same or index_fault(value.index, back.index):
        raise UnstorableFrame(
            "Arrow does not give back the names of its columns, or its index; use "
            "names that are str, and an index of one level"
        )


# ---- to pandas ----


def description_in(schema: pa.Schema) -> _Described:
    """Return the description of a frame in the schema of a table.

    Raises
    ------
    ValueError
        There is none.
    """
    found = (schema.metadata or {}).get(KEY)
    if found is None:
        raise ValueError("it was not written by agatha_ckpt")
    described: _Described = json.loads(found)
    return described


def fields_for(schema: pa.Schema, columns: list[Any] | None) -> list[str] | None:
    """Return the fields that hold *columns* and the index; None for all."""
    if columns is None:
        return None
    described = description_in(schema)
    labels = _labels(json.dumps(described["labels"]))
    places = labels.get_indexer_for(columns)
    count = len(described["columns"])
    names = [*(schema.names[place] for place in places), *schema.names[count:]]
    return list(dict.fromkeys(names))


def to_pandas(table: pa.Table, columns: list[Any] | None = None) -> Any:
    """Return the frame or the series that `to_arrow` made a table of.

    Parameters
    ----------
    table : pyarrow.Table
        All of its fields; or those of *columns*, in that order, and of the index.
    columns : list, optional
        Labels.
    """
    described = description_in(table.schema)
    labels = _labels(json.dumps(described["labels"]))
    places: Any = range(len(labels))
    if columns is not None:
        places = labels.get_indexer_for(columns)
        labels = labels.take(places)
    template = _template_in(described["template"])
    count = len(described["columns"])
    index = described["index"]
    levels = [
        _values(
            table.column(table.num_columns - len(index.get("levels", ())) + k),
            template.column(count + k),
            level,
        )
        for k, level in enumerate(index.get("levels", ()))
    ]
    rows = _index(index, levels, table)
    parts = [(described["columns"][p], template.column(int(p))) for p in places]
    frame = _frame(table, parts, rows)
    frame.columns = labels
    frame.attrs = described["attrs"]
    if "series" not in described:
        return frame
    series = frame.iloc[:, 0]
    series.attrs = described["attrs"]
    return series if described["series"] else series.rename(None)


def _frame(table: pa.Table, parts: list[tuple[_Described, Any]], rows: Any) -> Any:
    import pandas as pd

    plain = [k for k, (each, _) in enumerate(parts) if _is_plain(each["dtype"])]
    together = table.select(plain).replace_schema_metadata(None)
    names = list(map(str, range(len(plain))))
    frame = together.rename_columns(names).to_pandas(use_threads=False)
    found = list(map(str, frame.dtypes))
    if found == [described["dtype"] for described, _ in parts]:
        frame.index = rows
        return frame
    known = {k: frame.iloc[:, n] for n, k in enumerate(plain)}
    data = {}
    for k, (described, pattern) in enumerate(parts):
        values = known.get(k)
        if values is None:
            values = _values(table.column(k), pattern, described)
        elif str(values.dtype) != described["dtype"]:
            values = values.astype(described["dtype"])
        data[k] = values
    frame = pd.DataFrame(data, copy=False) if data else pd.DataFrame(index=rows)
    frame.index = rows
    return frame


def _is_plain(dtype: Any) -> bool:
    """Return whether Arrow converts a dtype as we want it, several columns at once."""
    return isinstance(dtype, str) and dtype != "object" and _is_numpy(dtype)


@lru_cache(maxsize=256)
def _is_numpy(name: str) -> bool:
    import numpy as np
    import pandas as pd

    dtype = pd.api.types.pandas_dtype(name)
    return isinstance(dtype, np.dtype | pd.DatetimeTZDtype)


def _values(column: pa.ChunkedArray, pattern: pa.Array, described: _Described) -> Any:
    """Return the values of one column, as a series."""
    import pandas as pd

    if described["dtype"] == "object":
        return pd.Series(from_objects(column, described["way"]), dtype=object)
    kind = dtype_of(described["dtype"], pattern)
    if isinstance(kind, pd.CategoricalDtype):
        return column.to_pandas().astype(kind)
    if column.type != pattern.type:
        column = column.cast(pattern.type)
    if hasattr(kind, "__from_arrow__"):
        return pd.Series(kind.__from_arrow__(column))
    return column.to_pandas().astype(kind)


@lru_cache(maxsize=64)
def _template_in(text: str) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(b64decode(text)).read_next_batch()


@lru_cache(maxsize=64)
def _labels(text: str) -> Any:
    import pandas as pd

    labels = json.loads(text)
    names = labels["names"]
    if "range" in labels:
        return pd.RangeIndex(*labels["range"], name=names[0])
    if labels["nested"]:
        values = list(map(tuple, labels["values"]))
        return pd.MultiIndex.from_tuples(values, names=names)
    return pd.Index(labels["values"], dtype=dtype_of(labels["dtype"]), name=names[0])


def _index(described: _Described, levels: list[Any], table: pa.Table) -> Any:
    import pandas as pd

    names = described["names"]
    if "range" in described:
        rows = pd.RangeIndex(*described["range"], name=names[0])
        # A table without columns has no rows, and one for a check has none of them.
        return rows if not table.num_columns else rows[: table.num_rows]
    if len(levels) > 1 or len(names) > 1:
        return pd.MultiIndex.from_arrays(levels, names=names)
    rows = pd.Index(levels[0], dtype=levels[0].dtype).rename(names[0])
    freq = described["freq"]
    if freq is not None:
        rows.freq = freq
    return rows
