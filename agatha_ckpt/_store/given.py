"""A store as callers give it."""

import os
from collections.abc import Mapping
from typing import Any

from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._store.store import CheckpointStore


def store_of(
    given: CheckpointStore | str | os.PathLike[str] | None,
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
