"""Saving: a graph with a task for each partition that is missing."""

import secrets
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import cloudpickle
import dask.config
from dask import multiprocessing
from dask._task_spec import Task, TaskRef
from dask.bag import Bag
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph
from dask.multiprocessing import RemoteException

from agatha_ckpt._dask.distributed import gather
from agatha_ckpt._dask.fingerprint import Fingerprints
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.scheduler import client_of, is_local, scheduler_in_force
from agatha_ckpt._dask.source import Source
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.partition import WriteOptions, write_partition
from agatha_ckpt._store.store import CheckpointStore

_MANY = 600  # partitions


@dataclass(frozen=True)
class SavePartition:
    """The task that writes one partition; it is pickled for the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    options : WriteOptions
    prepare : callable, optional
        `Source.prepare`.
    """

    store: CheckpointStore
    name: str
    options: WriteOptions
    prepare: Callable[[Any, int, str], Any] | None = None

    def __reduce__(self) -> Any:
        return _unpickled, (self._pickled,)

    @cached_property
    def _pickled(self) -> bytes:
        """What all tasks of a save have in common, pickled once and not with each."""
        mine = tuple(getattr(self, each.name) for each in fields(self))
        pickled: bytes = cloudpickle.dumps(mine)
        return pickled

    @cached_property
    def _folder(self) -> Folder:
        return self.store._folder(self.name)

    def __call__(
        self, value: Any, index: int, fingerprint: str, code: str
    ) -> PartitionInfo:
        """Write the partition *index* and return its entry in the manifest."""
        folder = self._folder
        try:
            if self.prepare is not None:
                value = self.prepare(value, index, folder.describe(index))
            return write_partition(
                folder, value, index, fingerprint, code, self.options
            )
        except Exception as error:  # lazy records are computed here
            self.note(error, index)
            raise

    def note(self, error: BaseException, index: int) -> None:
        """Add to an error, once, the partition that was being saved.

        Notes are attributes of an exception, and return with it from another process,
        unless its type drops them.
        """
        note = f"while saving {self._folder.describe(index)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@lru_cache(maxsize=8)
def _unpickled(pickled: bytes) -> SavePartition:
    """Return what was pickled: in a worker, one object for all tasks of a save."""
    return SavePartition(*cloudpickle.loads(pickled))


def save_partitions(
    source: Source,
    indexes: Iterable[int],
    fingerprints: Fingerprints,
    save: SavePartition,
    compute_kw: Mapping[str, Any],
    pool: WarmPool,
    landed: Callable[[PartitionInfo], None] | None = None,
) -> dict[int, PartitionInfo]:
    """Compute and write the partitions *indexes* of a collection, and no others.

    One graph layer with a task for each of them, on top of the collection: what only
    the other partitions need is not computed. dask's process scheduler gets the
    processes of *pool*. *landed* is called with each partition as it is stored, in the
    thread of the caller.
    """
    indexes = list(indexes)
    if not indexes:
        return {}
    layer = f"save-{save.name}-{secrets.token_hex(16)}"
    partitions, codes = fingerprints.partitions, fingerprints.codes
    tasks = {
        (layer, k): Task(
            (layer, k), save, TaskRef(source.keys[i]), i, partitions[i], codes[i]
        )
        for k, i in enumerate(indexes)
    }
    graph = HighLevelGraph.from_collections(layer, tasks, dependencies=[source])
    saving = Bag(graph, layer, len(indexes))
    saving.__dask_optimize__ = source.optimize
    options = dict(compute_kw)
    kind = type(source.collection)
    schedule = scheduler_in_force(options.pop("scheduler", None), kind)
    client = client_of(schedule)
    if client is None:
        with pool.lend(schedule, options) as use_pool:
            options |= use_pool
            found = _compute(schedule, saving, indexes, save, options, landed)
        return dict(zip(indexes, found, strict=True))
    infos = {}
    for k, info in gather(
        client, saving, options, lambda error, k: save.note(error, indexes[k])
    ):
        infos[indexes[k]] = info
        if landed:
            landed(info)
    return infos


def _compute(
    schedule: Callable[..., Any],
    saving: Bag,
    indexes: list[int],
    save: SavePartition,
    options: dict[str, Any],
    landed: Callable[[PartitionInfo], None] | None,
) -> Iterable[PartitionInfo]:
    """Return the results of the tasks of *saving*, computed without a cluster."""
    keys = saving.__dask_keys__()
    if landed and is_local(schedule):
        # For this run alone: active callbacks are those of the whole process.
        active = options.get("callbacks") or Callback.active
        options["callbacks"] = [*active, _watching(set(keys), landed)]
    if schedule is multiprocessing.get:
        # Results come back in batches. A batch of six halves the cost of a task.
        batch = 1 if len(keys) < _MANY else 6
        options.setdefault("chunksize", dask.config.get("chunksize", batch))
    tasks = dict(saving.dask)
    if options.pop("optimize_graph", True):
        tasks = dict(saving.__dask_optimize__(saving.dask, keys))
        _add_notes(tasks, dict(zip(keys, indexes, strict=True)), save)
    try:
        found: Iterable[PartitionInfo] = schedule(tasks, keys, **options)
        return found
    except RemoteException as error:
        # From dask's process scheduler: the caller gets what the worker raised, with
        # the worker's traceback as a note.
        original: BaseException = error.exception
        original.add_note(f"Traceback of the worker:\n{error.traceback}")
        raise original from None


def _add_notes(
    tasks: dict[Hashable, Any], indexes: Mapping[Hashable, int], save: SavePartition
) -> None:
    """Let the errors of the save tasks name the partition.

    dask has fused the bag's own functions into these tasks, and an error of theirs
    does not pass through `SavePartition`.
    """
    for key, index in indexes.items():
        task = tasks[key]
        if target := getattr(task, "target", None):  # an alias of the fused task
            task = tasks.pop(target)
        needs = tuple(task.dependencies)
        tasks[key] = Task(
            key, _NotedTask(task, needs, save, index), *map(TaskRef, needs)
        )


@dataclass(frozen=True)
class _NotedTask:
    """A task whose errors name the partition that it saves."""

    task: Task
    needs: tuple[Hashable, ...]
    save: SavePartition
    index: int

    def __call__(self, *values: Any) -> Any:
        try:
            return self.task(dict(zip(self.needs, values, strict=True)))
        except Exception as error:
            self.save.note(error, self.index)
            raise


def _watching(
    keys: set[tuple[str, int]], landed: Callable[[PartitionInfo], None]
) -> tuple[Callable[..., None] | None, ...]:
    """Return a callback that passes on the results of the tasks *keys*."""

    def posttask(key: Hashable, result: PartitionInfo, *_: object) -> None:
        if key in keys:
            landed(result)

    return (None, None, None, posttask, None)
