"""dtypes of pandas as text, compared by all that a user can see of them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agatha_ckpt._format.objects import same_object

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class UnstorableFrame(Exception):
    """A frame that Arrow does not keep; the message is the reason and what to do."""


def describe_dtype(dtype: Any) -> Any:
    """Return a dtype as JSON can hold it.

    Raises
    ------
    UnstorableFrame
        Arrow has nothing of the kind.
    """
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        kept = dtype.categories
        if isinstance(kept.dtype, pd.PeriodDtype | pd.IntervalDtype):
            raise UnstorableFrame(
                f"Arrow has no categories of the dtype {kept.dtype}; make text of them "
                "with cat.rename_categories(str)"
            )
        return ["category", describe_dtype(kept.dtype), describe_axis(kept)]
    if isinstance(dtype, pd.StringDtype):
        missing = "NA" if dtype.na_value is pd.NA else "nan"
        return ["string", dtype.storage, missing]
    if isinstance(dtype, pd.ArrowDtype):
        return ["arrow"]
    if isinstance(zone := getattr(dtype, "tz", None), ZoneInfo):
        return ["zone", dtype.unit, zone.key]  # of "UTC", pandas makes another class
    name = str(dtype)
    if not _is_named(dtype, name):
        raise UnstorableFrame(f"Arrow does not keep the dtype {name}; use astype")
    return name


def describe_axis(index: pd.Index) -> dict[str, Any]:
    """Return the names of an index, and its range or its frequency.

    Raises
    ------
    UnstorableFrame
        JSON does not hold a name, or a text the frequency.
    """
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    names = list(index.names)
    if not all(name is None or type(name) in (str, int) for name in names):
        raise UnstorableFrame(f"its index has the names {names!r}; use a str")
    if isinstance(index, pd.MultiIndex) and index.nlevels == 1:
        raise UnstorableFrame(
            "its index is a MultiIndex of one level; use index.get_level_values(0)"
        )
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "names": names}
    # That of a period is in its dtype.
    freq = None if isinstance(index, pd.PeriodIndex) else getattr(index, "freq", None)
    try:
        kept = freq is None or to_offset(freq.freqstr) == freq
    except ValueError:
        kept = False
    if not kept:
        raise UnstorableFrame(
            f"the text of the frequency of its index, {freq!r}, is another one; set "
            "index.freq = None"
        )
    return {"names": names, "freq": None if freq is None else freq.freqstr}


def axis_of(index: pd.Index, described: dict[str, Any]) -> pd.Index:
    """Return the index that a description is of, with the values of another."""
    import pandas as pd

    name = described["names"][0]
    if "range" in described:
        return pd.RangeIndex(*described["range"], name=name)
    index = index.rename(name)
    if described["freq"] is not None:
        index.freq = described["freq"]
    return index


@lru_cache(maxsize=256)
def _is_named(dtype: Any, name: str) -> bool:
    """Return whether a dtype can be made of its name, and of Arrow's values."""
    import numpy as np
    import pandas as pd

    try:
        known = pd.api.types.pandas_dtype(name) == dtype
    except TypeError:
        return False
    supported = isinstance(dtype, np.dtype) or hasattr(dtype, "__from_arrow__")
    return bool(known and supported)


def dtype_of(described: Any, pattern: Any = None) -> Any:
    """Return the dtype that a description is of, with types from the template."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(described, str):
        return pd.api.types.pandas_dtype(described)
    kind, *rest = described
    if kind == "string":
        storage, missing = rest
        if missing == "NA":
            return pd.StringDtype(storage)
        try:
            return pd.StringDtype(storage, na_value=float("nan"))
        except TypeError:  # before pandas 2.3, where the storage determines it
            return pd.StringDtype(storage)
    if kind == "zone":
        return pd.DatetimeTZDtype(rest[0], ZoneInfo(rest[1]))
    if kind == "arrow":
        return pd.ArrowDtype(pattern.type)
    kept = pa.chunked_array([pattern.dictionary])
    dtype = dtype_of(rest[0], pattern.dictionary)
    if hasattr(dtype, "__from_arrow__"):
        values = dtype.__from_arrow__(kept)
    else:
        values = kept.to_pandas().astype(dtype)
    categories = axis_of(pd.Index(values, dtype=dtype), rest[1])
    return pd.CategoricalDtype(categories, pattern.type.ordered)


def codes_in(column: pa.ChunkedArray, pattern: pa.Array) -> Any:
    """Return the places of values in the dictionary of a template, -1 for nulls.

    pandas would look for them by its own types, in which they may differ.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = pattern.dictionary
    codes = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            places = pc.index_in(chunk.dictionary.cast(kept.type), value_set=kept)
            codes.append(places.take(chunk.indices))
        else:
            codes.append(pc.index_in(chunk.cast(kept.type), value_set=kept))
    return pa.chunked_array(codes, pa.int32()).fill_null(-1).to_numpy()


def same_dtype(a: Any, b: Any) -> bool:
    """Return whether two dtypes are equal, with their categories in order."""
    import pandas as pd

    if isinstance(a, pd.CategoricalDtype) and isinstance(b, pd.CategoricalDtype):
        if a.categories is None or b.categories is None:
            return a.categories is b.categories
        same = a.categories.equals(b.categories) and a.ordered == b.ordered
        if same and a.categories.dtype == object:
            same = all(map(same_object, a.categories, b.categories))
        return same and same_dtype(a.categories.dtype, b.categories.dtype)
    if isinstance(a, pd.StringDtype) and isinstance(b, pd.StringDtype):
        missing = (a.na_value is pd.NA) == (b.na_value is pd.NA)
        return missing and a.storage == b.storage
    zones = [type(getattr(each, "tz", None)) for each in (a, b)]
    return bool(type(a) is type(b) and a == b and zones[0] is zones[1])


def difference(found: Any, wanted: Any) -> str:
    """Return the texts of two dtypes that differ, or what their text leaves out."""
    if str(found) != str(wanted):
        return f"the dtype {found}, not {wanted}"
    return (
        f"another dtype {wanted}, with other categories, another storage, or another "
        "class of time zone"
    )


def index_fault(index: pd.Index, wanted: pd.Index) -> str:
    """Return how an index differs from another in names and types, or nothing."""
    import pandas as pd

    if list(index.names) != list(wanted.names):
        return f"has the names {list(index.names)}, not {list(wanted.names)}"
    if index.nlevels != wanted.nlevels:
        return f"has {index.nlevels} levels, not {wanted.nlevels}"
    nested = [isinstance(each, pd.MultiIndex) for each in (index, wanted)]
    if nested[0] != nested[1]:
        return "is a MultiIndex of one level, or should be one"
    if isinstance(index, pd.MultiIndex):
        found, asked = list(index.dtypes), list(wanted.dtypes)
    else:
        found, asked = [index.dtype], [wanted.dtype]
    for a, b in zip(found, asked, strict=True):
        if not same_dtype(a, b):
            return f"has {difference(a, b)}"
    return ""
