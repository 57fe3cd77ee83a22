"""Deferred saves: a Delayed that saves when it is computed."""

import secrets
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dask._task_spec import Task, TaskRef
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from agatha_ckpt._dask.fingerprint import Fingerprints
from agatha_ckpt._dask.labels import label
from agatha_ckpt._dask.save import saving_bag
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._dask.tasks import optimize


class DeferredSave(Delayed):  # type: ignore[misc]
    """A Delayed of a save, which dask optimises as what is saved.

    dask optimises those together that are computed together, so that what they share
    is computed once.
    """

    def __init__(
        self, key: str, graph: HighLevelGraph, fuse: Callable[..., Any] | None
    ) -> None:
        super().__init__(key, graph)
        self.__dask_optimize__ = _optimizer(fuse)


@lru_cache(maxsize=32)
def _optimizer(fuse: Callable[..., Any] | None) -> Callable[..., Any]:
    def optimizer(
        graph: Mapping[Hashable, Any], keys: Any, **_: object
    ) -> Mapping[Hashable, Any]:
        return optimize(fuse, graph, keys)

    return optimizer


def deferred_save(
    source: Source,
    indexes: tuple[int, ...],
    fingerprints: Fingerprints,
    save: SavePartition,
    end: Callable[..., None],
) -> Delayed:
    """Return a Delayed that writes partitions, and calls *end* with the results."""
    if source.shared is not None:
        graph, keys = source.shared()
        source = replace(source, graph=graph, keys=keys)
    saving = saving_bag(source, indexes, fingerprints, save)
    key = f"{label('commit', save.name)}-{secrets.token_hex(16)}"
    task = Task(key, end, *map(TaskRef, saving.__dask_keys__()))
    whole = HighLevelGraph.from_collections(key, {key: task}, dependencies=[saving])
    return DeferredSave(key, whole, source.optimize)


def nothing() -> Delayed:
    """Return a Delayed that does nothing."""
    return delayed(None)
