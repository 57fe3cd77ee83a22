"""Values as plain JSON, for other programs; not all can be told apart again."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import asdict
from datetime import date, time
from typing import Any

from agatha_ckpt._cli.records import TEXTS, digits, is_short
from agatha_ckpt._format.failed_record import FailedRecord

ARRAYS = (list, tuple, deque)
SETS = (set, frozenset)
OBJECTS = (dict, OrderedDict, defaultdict, Counter)


class NotPlainError(ValueError):
    """The value has no plain JSON that keeps what is in it."""


def plain_line(record: Any) -> str:
    """Return a record as one line of plain JSON.

    Raises
    ------
    NotPlainError
        Two keys of a dict would be one in JSON, or it is nested too deeply.

    Examples
    --------
    >>> plain_line({"pair": (1, "é"), 2: float("nan"), "raw": b"0"})
    '{"pair": [1, "é"], "2": "nan", "raw": "MA=="}'
    """
    try:
        text = json.dumps(plain(record), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise NotPlainError("is nested too deeply") from None
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON has only as an escape
        return json.dumps(plain(record), allow_nan=False)
    return text


def plain(value: Any) -> Any:
    """Return *value* in types of JSON: arrays, objects, and strings for the rest."""
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is int:
        return value if is_short(value) else digits(value)
    if kind is float:
        return value if math.isfinite(value) else repr(value)
    if kind in OBJECTS:
        return _object(value)
    if kind is FailedRecord:
        return _object(asdict(value))
    if kind in ARRAYS:
        return [plain(member) for member in value]
    if kind in SETS:  # their order depends on the hash seed
        return sorted((plain(member) for member in value), key=json.dumps)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return _numpy(value)
    if kind not in TEXTS and isinstance(value, date | time):  # of pandas
        return value.isoformat()
    return TEXTS.get(kind, str)(value)


def _object(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, member in value.items():
        text = key_text(key)
        if text in found:
            raise NotPlainError(f"has two keys that are both {text!r} in JSON")
        found[text] = plain(member)
    return found


def key_text(key: Any) -> str:
    """Return a key as JSON has it: a string."""
    content = plain(key)
    return content if type(content) is str else json.dumps(content, ensure_ascii=False)


def _numpy(value: Any) -> Any:
    if value.dtype.kind in "mM":  # not all have a datetime
        strings = value.astype(str)
        return strings.tolist() if value.shape else str(value)
    content = value.tolist()
    return str(value) if type(content) is type(value) else plain(content)
