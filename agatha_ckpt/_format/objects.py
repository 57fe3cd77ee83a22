"""Python objects in a column of a frame: which of them Arrow gives back, and how."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


_DETAILS = ("tzinfo", "fold", "unit")  # of times, that == leaves out


def objects_of(values: np.ndarray[Any, Any], column: pa.ChunkedArray) -> str | None:
    """Return the way by which *column* gives back *values*; None if none does.

    A way is Arrow's conversion to Python or to pandas, and what stands for its nulls.
    """
    missing = _missing_in(values, column)
    if missing is None:
        return None
    for made in ("python", "pandas"):
        way = f"{made} {missing}"
        try:
            back = from_objects(column, way)
        except (ArithmeticError, LookupError, NotImplementedError, ValueError):
            continue  # such as of a time zone without a name that Arrow knows
        if len(back) == len(values) and all(map(same_object, values, back)):
            return way
    return None


def _missing_in(values: np.ndarray[Any, Any], column: pa.ChunkedArray) -> str | None:
    """Return the name of the one missing value that stands for each null."""
    if not column.null_count:
        return "None"
    nulls = column.is_null().to_numpy()
    first = values[int(nulls.argmax())]
    return next((n for n, v in _missing().items() if same_object(v, first)), None)


def _missing() -> dict[str, Any]:
    import pandas as pd

    return {"None": None, "nan": float("nan"), "NA": pd.NA, "NaT": pd.NaT}


def from_objects(column: pa.ChunkedArray, way: str) -> np.ndarray[Any, Any]:
    """Return the objects of a column."""
    import numpy as np

    made, missing = way.split()
    found = (
        column.to_pylist()
        if made == "python"
        else column.to_pandas(integer_object_nulls=True)
    )
    values: np.ndarray[Any, Any] = np.fromiter(found, object, len(column))
    if missing != "None" and column.null_count:
        values[column.is_null().to_numpy()] = _missing()[missing]
    return values


def same_object(a: Any, b: Any) -> bool:
    """Return whether two objects are equal in type and value, at any depth."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is str or kind is bytes or kind is int or a is None:
        return bool(a == b)
    if kind is float:
        return bool(a.hex() == b.hex())
    if kind is list or kind is tuple:
        return len(a) == len(b) and all(map(same_object, a, b))
    if kind is dict:
        if list(map(type, a)) != list(map(type, b)):  # such as np.str_, equal to a str
            return False
        return list(a) == list(b) and all(map(same_object, a.values(), b.values()))
    if kind is Decimal:
        return bool(a.as_tuple() == b.as_tuple())
    if kind.__module__ == "numpy":
        if getattr(a, "dtype", None) != b.dtype or a.shape != b.shape:
            return False
        if a.dtype.hasobject:
            return all(map(same_object, a.reshape(-1), b.reshape(-1)))
        return bool(a.tobytes() == b.tobytes())
    if a is b:
        return True
    try:
        details = [[getattr(each, name, None) for name in _DETAILS] for each in (a, b)]
        zones = [str(each[0]) for each in details]  # equal ones may have other names
        same: bool = a == b and details[0] == details[1] and zones[0] == zones[1]
    except (TypeError, ValueError):
        return False
    return bool(same)
