"""Records as JSON; a value that JSON does not have becomes an object with a tag."""

import json
import math
from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from agatha_ckpt._cli.table import printable

_PLAIN = (str, bool, type(None))
_MAX_DECIMAL_BITS = 2_000  # Python refuses to write a larger int in decimal, or may
_MEMBERS = (tuple, set, frozenset, deque)
_MAPPINGS = (Counter, OrderedDict, defaultdict)
TEXTS: dict[type, Callable[[Any], str]] = {
    bytes: lambda value: b64encode(value).decode(),
    bytearray: lambda value: b64encode(value).decode(),
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    Fraction: lambda value: f"{digits(value.numerator)}/{digits(value.denominator)}",
    **dict.fromkeys((timezone, ZoneInfo, Decimal, UUID), str),
}
_LEAVES: dict[type, Callable[[Any], Any]] = {
    **TEXTS,
    complex: lambda value: [tagged(value.real), tagged(value.imag)],
    timedelta: timedelta.total_seconds,
}


def json_line(record: Any, ascii_only: bool = False) -> str:
    r"""Return a record as one line of JSON, in characters of ASCII where *ascii_only*.

    Examples
    --------
    >>> json_line({"pair": (1, "é"), "raw": b"\x00"})
    '{"pair": {"$tuple": [1, "é"]}, "raw": {"$bytes": "AA=="}}'
    """
    try:
        text = json.dumps(tagged(record), ensure_ascii=ascii_only, allow_nan=False)
    except RecursionError:  # also where an unpickled value holds itself
        kind = type(record).__name__
        text = json.dumps({"$object": f"<{kind} nested too deeply to be shown>"})
    return printable(text)


def tagged(value: Any) -> Any:
    """Return *value* as a JSON value, with tags for what JSON does not have.

    A tag begins with ``$`` and is the only key of its object. A dict with such a key
    is itself tagged, so that tags are unambiguous.

    Examples
    --------
    >>> tagged([float("inf"), {1: 2}, {"$tuple": 3}])
    [{'$float': 'inf'}, {'$dict': [[1, 2]]}, {'$dict': [['$tuple', 3]]}]
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if is_short(value) else {"$int": digits(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [tagged(member) for member in value]
    if kind is dict and all(type(k) is str and not k.startswith("$") for k in value):
        return {key: tagged(member) for key, member in value.items()}
    try:
        if kind.__name__ == "Timestamp" and isinstance(value, datetime):
            return {"$datetime": value.isoformat()}  # of pandas: a column in ns
        return {f"${_tag(value)}": _content(value)}
    except RecursionError:
        raise
    except Exception as error:  # an unpickled object can raise anything
        return {"$object": f"<{kind.__name__}: {type(error).__name__}>"}


def is_short(number: int) -> bool:
    """Return whether Python writes *number* in decimal."""
    return number.bit_length() <= _MAX_DECIMAL_BITS


def digits(number: int) -> str:
    """Return *number* in decimal, or in hexadecimal where it is long.

    Examples
    --------
    >>> digits(-12), digits(1 << 2000)[:6]
    ('-12', '0x1000')
    """
    return str(number) if is_short(number) else hex(number)


def _tag(value: Any) -> str:
    kind = type(value)
    if kind in (dict, *_MEMBERS, *_MAPPINGS) or kind in _LEAVES:
        return kind.__name__.lower()
    if kind.__module__ == "numpy":
        return "ndarray" if kind.__name__ == "ndarray" else "numpy"
    return "path" if isinstance(value, PurePath) else "object"


def _content(value: Any) -> Any:
    kind = type(value)
    if kind in _MEMBERS:
        members = [tagged(member) for member in value]
        # The order of a set depends on the hash seed.
        return sorted(members, key=json.dumps) if kind in (set, frozenset) else members
    if kind is dict or kind in _MAPPINGS:
        return [[tagged(key), tagged(member)] for key, member in value.items()]
    if kind in _LEAVES:
        return _LEAVES[kind](value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        plain = value.tolist()
        shown = str(plain) if type(plain) is kind else tagged(plain)  # a longdouble
        content = {"dtype": str(value.dtype), "value": shown}
        return content if value.shape == () else content | {"shape": [*value.shape]}
    return str(value) if isinstance(value, PurePath) else repr(value)
