"""Saving: a graph with a task for each partition that is missing."""

import secrets
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from typing import Any

import dask.config
from dask import multiprocessing
from dask._task_spec import Task, TaskRef
from dask.bag import Bag
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph
from dask.multiprocessing import RemoteException

from agatha_ckpt._dask.distributed import gather, seceded
from agatha_ckpt._dask.failure import (
    Failure,
    WorkerTraceback,
    add_note,
    failed_error,
    failed_note,
    note_failure,
    stops,
)
from agatha_ckpt._dask.fingerprint import Fingerprints
from agatha_ckpt._dask.labels import label
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._dask.scheduler import client_of, is_local, scheduler_in_force
from agatha_ckpt._dask.source import Source
from agatha_ckpt._dask.tasks import optimize
from agatha_ckpt._errors import CheckpointConflictError
from agatha_ckpt._format.manifest import PartitionInfo

_MANY = 600  # partitions
_GUARD = (
    "; a worker process was killed, or it imports a script without a guard: put "
    "'if __name__ == \"__main__\":' around what the script does"
)
Land = Callable[[int, PartitionInfo | Failure], None]


def saving_bag(
    source: Source,
    indexes: Iterable[int],
    fingerprints: Fingerprints,
    save: SavePartition,
) -> Bag:
    """Return a bag of the tasks that save partitions of a collection.

    One graph layer on top of the collection: what only the other partitions need is
    not computed.
    """
    layer = f"{label('save', save.name)}-{secrets.token_hex(16)}"
    partitions, codes = fingerprints.partitions, fingerprints.codes
    tasks = {
        (layer, k): Task(
            (layer, k), save, TaskRef(source.keys[i]), i, partitions[i], codes[i]
        )
        for k, i in enumerate(indexes)
    }
    graph = HighLevelGraph.from_collections(layer, tasks, dependencies=[source])
    return Bag(graph, layer, len(tasks))


def save_partitions(
    source: Source,
    indexes: Iterable[int],
    fingerprints: Fingerprints,
    save: SavePartition,
    compute_kw: Mapping[str, Any],
    pool: WarmPool,
    landed: Callable[[int, PartitionInfo | Failure], None] | None = None,
) -> dict[int, PartitionInfo]:
    """Compute and write the partitions *indexes* of a collection, and no others.

    dask's process scheduler gets the processes of *pool*. *landed* is called with the
    number of each partition, and its entry or failure, in the thread of the caller.

    Raises
    ------
    PartitionsFailedError
        Partitions failed, and *save* catches errors.
    Exception
        Of a partition, with a note that names it.
    """
    indexes = list(indexes)
    if not indexes:
        return {}
    options = dict(compute_kw)
    kind = type(source.collection)
    schedule = scheduler_in_force(options.pop("scheduler", None), kind)
    client = client_of(schedule)
    # On a cluster, tasks raise: its scheduler may retry them, and tells of each.
    task = replace(save, catches=save.catches and client is None)
    saving = saving_bag(source, indexes, fingerprints, task)
    fuse = source.optimize if options.pop("optimize_graph", True) else None
    tasks = optimize(fuse, saving.dask, saving.__dask_keys__())
    found: dict[int, PartitionInfo | Failure] = {}

    def land(k: int, result: PartitionInfo | Failure) -> None:
        found[indexes[k]] = result
        if landed:
            landed(indexes[k], result)

    total = save.options.npartitions
    try:
        if client is None:
            with pool.lend(schedule, options) as use_pool:
                _compute_here(schedule, tasks, saving, options | use_pool, land)
        else:
            ready = Bag(tasks, saving.name, len(indexes))
            _compute_there(client, ready, save, indexes, options, land)
        return stored(found, save, save.folder.describe())
    except CheckpointConflictError:
        raise
    except Exception as error:
        if not hasattr(error, "partitions"):
            failed = sum(isinstance(each, Failure) for each in found.values())
            number = total - len(indexes) + len(found) - failed
            reason = _GUARD if isinstance(error, BrokenProcessPool) else ""
            note_failure(error, save.name, number, total, reason)
        raise


def stored(
    found: Mapping[int, PartitionInfo | Failure], save: SavePartition, where: str
) -> dict[int, PartitionInfo]:
    """Return the results of all tasks of a save, or raise their errors."""
    failures = {i: each for i, each in found.items() if isinstance(each, Failure)}
    for failure in failures.values():
        if stops(failure.error, is_driver=False):
            raise failure.error
    if failures:
        raise failed_error(where, save.name, failures, save.options.npartitions)
    return {i: each for i, each in found.items() if not isinstance(each, Failure)}


def _compute_there(
    client: Any,
    saving: Bag,
    save: SavePartition,
    indexes: list[int],
    options: Mapping[str, Any],
    land: Land,
) -> None:
    """Compute the tasks of *saving* on a cluster; *land* is called with each result."""
    with seceded(), closing(gather(client, saving, options)) as results:
        for k, result in results:
            if isinstance(result, Failure):
                error = result.error
                if not save.catches or stops(error, is_driver=False):
                    add_note(error, failed_note(save.name, indexes[k]))
                    raise error
            land(k, result)


def _compute_here(
    schedule: Callable[..., Any],
    tasks: Mapping[Hashable, Any],
    saving: Bag,
    options: dict[str, Any],
    land: Land,
) -> None:
    """Compute the tasks of *saving* without a cluster."""
    keys = saving.__dask_keys__()
    watched = is_local(schedule)
    if watched:
        # For this run alone: active callbacks are those of the whole process.
        active = options.get("callbacks") or Callback.active
        options["callbacks"] = [*active, _watching(set(keys), land)]
    if schedule is multiprocessing.get:
        # Results come back in batches. A batch of six halves the cost of a task.
        batch = 1 if len(keys) < _MANY else 6
        options.setdefault("chunksize", dask.config.get("chunksize", batch))
    try:
        results = schedule(tasks, keys, **options)
    except RemoteException as error:
        # From dask's process scheduler: the caller gets what the worker raised.
        original: BaseException = error.exception
        raise original from WorkerTraceback(error.traceback)
    if not watched:
        for (_, k), result in zip(keys, results, strict=True):
            land(k, result)


def _watching(
    keys: set[tuple[str, int]], land: Land
) -> tuple[Callable[..., None] | None, ...]:
    """Return a callback that passes on the results of the tasks *keys*."""

    def posttask(key: Any, result: PartitionInfo | Failure, *_: object) -> None:
        if key in keys:
            land(key[1], result)

    return (None, None, None, posttask, None)
