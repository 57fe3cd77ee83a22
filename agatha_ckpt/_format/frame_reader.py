"""Arrow tables -> pandas frames, by the description in the schema of the table."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agatha_ckpt._format.dtypes import (
    axis_of,
    codes_in,
    describe_dtype,
    dtype_of,
    same_dtype,
)
from agatha_ckpt._format.objects import from_objects

if TYPE_CHECKING:  # imported when the first frame is met
    import pyarrow as pa

KEY = b"agatha_ckpt"
_FLOATS = ("Float32", "Float64")  # by themselves, they make NA of NaN
_Described = dict[str, Any]


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


def dtypes_in(schema: pa.Schema) -> list[Any]:
    """Return the described dtype of each field."""
    described = description_in(schema)
    levels = described["index"].get("levels", ())
    return [each["dtype"] for each in (*described["columns"], *levels)]


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


def frame_in(parquet: Any, columns: list[Any] | None = None) -> Any:
    """Return the frame or series of an open Parquet file, or *columns* of it."""
    fields = fields_for(parquet.schema_arrow, columns)
    table = parquet.read(columns=fields, use_threads=False)
    if fields is not None:  # of nested columns more than asked for may be read
        table = table.select(fields)
    return to_pandas(table, columns)


def to_pandas(table: pa.Table, columns: list[Any] | None = None) -> Any:
    """Return the frame or the series that `to_arrow` made a table of.

    The table has all fields; or those of the labels *columns*, in that order, and those
    of the index.
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
    for place, dtype in enumerate(frame.dtypes):
        if hasattr(dtype, "tz"):  # pandas leaves these in memory of Arrow: read-only
            frame.isetitem(place, frame.iloc[:, place].array.copy())
    frame.columns = labels
    value = frame
    if "series" in described:
        value = frame.iloc[:, 0]
        if described["series"] != "numpy":  # as it is in the columns, if it is an int
            value = value.rename(labels.tolist()[0] if described["series"] else None)
    value.attrs = described["attrs"]
    if "unique" in described:
        value.flags.allows_duplicate_labels = False
    return value


def _frame(table: pa.Table, parts: list[tuple[_Described, Any]], rows: Any) -> Any:
    """Return the columns of a frame: together where Arrow can, else one by one."""
    import pandas as pd

    kinds = _kinds_by_type(table, parts)
    if kinds is not None:
        frame = _converted(table, range(len(parts)), kinds.get)
        found = list(map(describe_dtype, frame.dtypes))
        if found == [described["dtype"] for described, _ in parts]:
            frame.index = rows
            return frame
    plain = [k for k, (each, _) in enumerate(parts) if _is_plain(each["dtype"])]
    frame = _converted(table, plain)
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


def _converted(table: pa.Table, places: Iterable[int], kinds: Any = None) -> Any:
    together = table.select(list(places)).replace_schema_metadata(None)
    names = list(map(str, range(together.num_columns)))
    return together.rename_columns(names).to_pandas(
        use_threads=False, types_mapper=kinds
    )


def _kinds_by_type(
    table: pa.Table, parts: list[tuple[_Described, Any]]
) -> dict[Any, Any] | None:
    """Return the dtype for each type of Arrow; None where that does not say it all."""
    plain = set()
    kinds: dict[Any, Any] = {}
    for place, (described, pattern) in enumerate(parts):
        dtype, found = described["dtype"], table.column(place).type
        if _is_plain(dtype):
            plain.add(found)
            continue
        one_by_one = dtype in ("object", *_FLOATS) or dtype[0] == "category"
        if one_by_one or found != pattern.type:
            return None
        kind = dtype_of(dtype, pattern)
        if not same_dtype(kinds.setdefault(found, kind), kind):
            return None
    return None if plain & kinds.keys() else kinds


def _is_plain(dtype: Any) -> bool:
    """Return whether Arrow converts a dtype as we want it, several columns at once."""
    return isinstance(dtype, str) and dtype != "object" and _is_numpy(dtype)


@lru_cache(maxsize=256)
def _is_numpy(name: str) -> bool:
    import numpy as np
    import pandas as pd

    dtype = pd.api.types.pandas_dtype(name)
    return isinstance(dtype, np.dtype)


def _values(column: pa.ChunkedArray, pattern: pa.Array, described: _Described) -> Any:
    """Return the values of one column, as a series."""
    import pandas as pd

    dtype = described["dtype"]
    if dtype[0] == "category":
        codes, kind = codes_in(column, pattern), dtype_of(dtype, pattern)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=kind))
    if column.type != pattern.type:
        column = column.cast(pattern.type)
    if dtype == "object":
        return pd.Series(from_objects(column, described["way"]), dtype=object)
    if dtype in _FLOATS:
        numbers, missing = column.fill_null(0), column.is_null()
        both = numbers.to_numpy(), missing.to_numpy()
        return pd.Series(pd.arrays.FloatingArray(*both, copy=True))
    kind = dtype_of(dtype, pattern)
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
        dtypes = labels.get("dtype", [None] * len(names))  # older files have none
        values = list(zip(*labels["values"], strict=True)) or [()] * len(names)
        levels = [
            pd.Index(level, dtype=_dtype_without_values(dtype))
            for level, dtype in zip(values, dtypes, strict=True)
        ]
        return pd.MultiIndex.from_arrays(levels, names=names)
    dtype = dtype_of(labels["dtype"])
    if "categories" in labels:
        categories = axis_of(
            pd.Index(labels["categories"], dtype=dtype), labels["axis"]
        )
        dtype = pd.CategoricalDtype(categories, labels["ordered"])
    return pd.Index(labels["values"], dtype=dtype, name=names[0])


def _dtype_without_values(described: Any) -> Any:
    """Return a dtype that its description alone gives; None for what pandas infers."""
    if isinstance(described, str) or (described and described[0] == "string"):
        return dtype_of(described)
    return None


def _index(described: _Described, levels: list[Any], table: pa.Table) -> Any:
    import pandas as pd

    names = described["names"]
    if "range" in described:
        rows = pd.RangeIndex(*described["range"], name=names[0])
        # A table without columns has no rows, and one for a check has none of them.
        return rows if not table.num_columns else rows[: table.num_rows]
    if len(levels) > 1 or len(names) > 1:
        for place, level in enumerate(described["levels"]):
            if "range" in level:
                kept = pd.RangeIndex(*level["range"])
                levels[place] = kept[: table.num_rows]
        return pd.MultiIndex.from_arrays(levels, names=names)
    return axis_of(pd.Index(levels[0], dtype=levels[0].dtype), described)
