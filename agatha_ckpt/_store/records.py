"""The records of a done checkpoint, one after the other, without dask."""

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import index
from typing import Any

from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._human import format_count
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.partition import Partition


def records_of(
    folder: Folder,
    manifest: Manifest,
    numbers: Iterable[int] | None,
    allow_pickle: bool,
) -> Iterator[Any]:
    """Return an iterator over the records of some partitions; see `partitions_of`."""
    partitions = partitions_of(folder, manifest, numbers, allow_pickle)
    return chain.from_iterable(partitions)


def partitions_of(
    folder: Folder,
    manifest: Manifest,
    numbers: Iterable[int] | None,
    allow_pickle: bool,
) -> Iterator[Partition]:
    """Return an iterator over some partitions, by default over all.

    Raises
    ------
    InvalidValueError
        There is no partition of a number; raised by the call, not by the iterator.
    """
    count = len(manifest.partitions)
    try:
        chosen = range(count) if numbers is None else list(map(index, numbers))
    except TypeError:
        raise InvalidValueError(
            f"invalid value {numbers!r} for partitions of {folder.describe()}: "
            "expected a list of numbers, such as [0, 2]"
        ) from None
    for number in chosen:
        if not 0 <= number < count:
            raise InvalidValueError(
                f"there is no partition {number} in {folder.describe()}, which has "
                f"{format_count(count, 'partition')}, numbered from 0"
            )
    fmt, infos = manifest.plan.format, manifest.partitions
    return (
        Partition(folder, fmt, number, infos[number], allow_pickle) for number in chosen
    )
