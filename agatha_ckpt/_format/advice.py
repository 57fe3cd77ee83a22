"""What to store in place of a value that the format does not have."""

from dataclasses import is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from typing import Any

CHANGE = "change the records"
_PANDAS = {
    "DataFrame": "map it to its rows (list(frame.itertuples(name=None)) or "
    "frame.to_dict('records'))",
    "Series": "map it to a list (series.tolist()) or a dict (series.to_dict())",
    "Timestamp": "map it to a datetime (value.to_pydatetime())",
    "Timedelta": "map it to a timedelta (value.to_pytimedelta())",
    "NaTType": "map it to None",
    "NAType": "map it to None",
    "Interval": "map it to a tuple (value.left, value.right, value.closed)",
    "Period": "map it to a str (str(value))",
}
_BUILTIN: tuple[type, ...] = (str, int, float, complex, bytes, bytearray)
_BUILTIN += (list, tuple, dict, set, frozenset)


def advice_for(value: Any) -> str:
    """Return what to do about a record that holds *value*, as an imperative."""
    cls = type(value)
    if hasattr(cls, "__dask_graph__"):
        return "compute it where it is made, or save it as a checkpoint of its own"
    if isinstance(value, Enum):
        return "map it to its name or value (value.name, value.value)"
    if is_dataclass(cls):
        return "map it to a dict (dataclasses.asdict(value))"
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return "map it to a tuple (tuple(value)) or a dict (value._asdict())"
    if hasattr(cls, "__attrs_attrs__"):
        return "map it to a dict (attrs.asdict(value))"
    if hasattr(cls, "model_dump"):
        return "map it to a dict (value.model_dump())"
    if _is_of("pandas", cls):
        others = "map it to a list (value.tolist())"
        named = (_PANDAS.get(base.__name__) for base in cls.__mro__)
        return next(filter(None, named), others)
    if _is_of("numpy", cls):
        return "map it to a list (value.tolist()) or to an array of another dtype"
    if isinstance(value, date | time | timedelta):
        return "map it to the class of the module datetime that it extends"
    for builtin in _BUILTIN:
        if isinstance(value, builtin):
            return f"map it to a {builtin.__name__} ({builtin.__name__}(value))"
    if hasattr(cls, "__iter__") and not hasattr(value, "__dict__"):
        return "map it to a list (list(value))"
    return CHANGE


def _is_of(package: str, cls: type) -> bool:
    """Return whether *cls* is a class of a package, or extends one."""
    modules = (base.__module__ for base in cls.__mro__)
    return any(str(name).partition(".")[0] == package for name in modules)
