"""The caller's own metadata of a checkpoint: what a manifest takes."""

import json
from math import isfinite
from typing import Any

from agatha_ckpt._errors import EncodeError

_MAX_BYTES = 65_536
_MAX_DEPTH = 50
_PLAIN = (str, int, bool, type(None))


def checked_metadata(metadata: object, where: str) -> dict[str, Any]:
    """Return a copy of *metadata*, which JSON can hold as it is.

    Parameters
    ----------
    metadata : object
    where : str
        The checkpoint, for messages.

    Raises
    ------
    EncodeError
        It is not a dict, or holds something that JSON would change, or is longer than
        64 KiB as JSON.
    """
    fault = "it is not a dict" if type(metadata) is not dict else _fault_in(metadata)
    if not fault:
        try:
            text = json.dumps(metadata, ensure_ascii=False)
            size = len(text.encode())
        except ValueError as error:  # surrogates, or thousands of digits
            fault = str(error)
        else:
            if size <= _MAX_BYTES:
                copy: dict[str, Any] = json.loads(text)
                return copy
            fault = f"it has {size:,} bytes, and {_MAX_BYTES:,} are the limit"
    raise EncodeError(
        f"the metadata of {where} cannot be kept: {fault}; give a dict of what JSON "
        "has (strings as keys; str, int, float, bool, None, list and dict as values)"
    )


def _fault_in(value: Any, place: str = "metadata", depth: int = 0) -> str | None:
    """Return what JSON would change in *value*, and where; None if nothing."""
    kind = type(value)
    if kind in _PLAIN:
        return None
    if kind is float:
        return None if isfinite(value) else f"{place} is {value!r}"
    if depth > _MAX_DEPTH:
        return f"{place[:40]}... is nested too deeply, or in itself"
    if kind is list:
        pairs = [(f"{place}[{i}]", each) for i, each in enumerate(value)]
    elif kind is dict:
        for key in value:
            if type(key) is not str:
                return f"{place} has the key {key!r}, which is not a str"
        pairs = [(f"{place}[{key!r}]", each) for key, each in value.items()]
    else:
        return f"{place} is of type {kind.__module__}.{kind.__qualname__}"
    faults = (_fault_in(each, inner, depth + 1) for inner, each in pairs)
    return next(filter(None, faults), None)
