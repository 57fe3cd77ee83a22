"""A store as callers give it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._store.store import CheckpointStore

Given = CheckpointStore | str | os.PathLike[str]


def store_of(
    given: Given | None,
    storage_options: Mapping[str, Any] | None = None,
    fsync: bool | None = None,
) -> CheckpointStore | None:
    """Return the store that is given, or that of a path or URL.

    Raises
    ------
    InvalidValueError
        Options are given without a path or URL.
    """
    if given is not None and not isinstance(given, CheckpointStore):
        fsync = True if fsync is None else fsync
        return CheckpointStore(given, storage_options=storage_options, fsync=fsync)
    if storage_options is not None or fsync is not None:
        raise InvalidValueError(
            "storage_options and fsync belong to a path or URL; give that, or a "
            "CheckpointStore that was made with them"
        )
    return given


def stores_of(read_from: Any) -> tuple[CheckpointStore, ...]:
    """Return stores, of a list of what callers give as such.

    Raises
    ------
    InvalidValueError
        It is not a list.
    """
    is_one = isinstance(read_from, str | os.PathLike | bytes | CheckpointStore)
    if is_one or not isinstance(read_from, Iterable):
        raise InvalidValueError(
            f"invalid value of type {type(read_from).__name__} for read_from: expected "
            "a list of stores, Checkpointers, paths or URLs"
        )
    found: list[CheckpointStore] = []
    for given in read_from:
        if isinstance(given, CheckpointStore):
            found.append(given)
        else:  # a Checkpointer has several
            found += getattr(given, "_stores", None) or [CheckpointStore(given)]
    return tuple(found)
