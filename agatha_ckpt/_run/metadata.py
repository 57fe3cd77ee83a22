"""The caller's own metadata of a checkpoint: what a manifest takes."""

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from agatha_ckpt._errors import EncodeError

_MAX_BYTES = 65_536
_MAX_DEPTH = 50
_PLAIN = (str, int, bool, type(None))


def checked_metadata(metadata: object, where: str) -> dict[str, Any]:
    """Return a copy of *metadata*, which JSON can hold as it is; of dicts alone.

    Parameters
    ----------
    metadata : object
    where : str
        The checkpoint, for messages.

    Raises
    ------
    EncodeError
        It is not a mapping, or holds something that JSON would change, or is longer
        than 64 KiB as JSON.
    """
    is_mapping = isinstance(metadata, Mapping)
    fault = _fault_in(metadata) if is_mapping else "it is not a dict"
    if not fault:
        try:
            text = json.dumps(metadata, ensure_ascii=False, default=dict)
            size = len(text.encode())
        except ValueError as error:  # surrogates, or thousands of digits
            fault = str(error)
        else:
            if size <= _MAX_BYTES:
                copy: dict[str, Any] = json.loads(text)
                return copy
            fault = f"it has {size:,} bytes as JSON, and {_MAX_BYTES:,} are the limit"
    raise EncodeError(
        f"the metadata of {where} cannot be kept: {fault}; give a dict of what JSON "
        "has (strings as keys; str, int, float, bool, None, list and dict as values)"
    )


def _fault_in(metadata: object) -> str | None:
    """Return what JSON would change, and where; None if nothing."""
    waiting: list[tuple[str, int, Any]] = [("metadata", 0, metadata)]
    # A value takes a byte or more. One that holds itself has no end.
    for _ in range(_MAX_BYTES):
        if not waiting:
            return None
        place, depth, value = waiting.pop()
        kind = type(value)
        if kind in _PLAIN or (kind is float and isfinite(value)):
            continue
        if depth > _MAX_DEPTH:
            return f"{place[:40]}... is nested too deeply, or in itself"
        if kind is float:
            return f"{place} is {value!r}"
        inner: Iterable[tuple[Any, Any]]
        if kind is list:
            inner = enumerate(value)
        elif isinstance(value, Mapping):
            inner = value.items()
        else:
            return f"{place} is of type {kind.__module__}.{kind.__qualname__}"
        for key, each in inner:
            if kind is not list and type(key) is not str:
                return f"{place} has the key {key!r}, which is not a str"
            waiting.append((f"{place}[{key!r}]", depth + 1, each))
    return f"it has more than {_MAX_BYTES:,} values"
