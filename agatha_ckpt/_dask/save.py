"""dask bag <-> partitions: the only module that builds graphs."""

import hashlib
import os
import platform
import re
import secrets
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache, partial
from typing import Any

import cloudpickle
import dask.config
from dask import multiprocessing, threaded
from dask._task_spec import GraphNode, Task
from dask.bag import Bag, Item
from dask.base import compute_as_if_collection, get_scheduler
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.local import get_async, get_sync
from dask.multiprocessing import RemoteException

from agatha_ckpt._dask.distributed import SavingBag, as_they_land, client_of
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.tasks import NotingBag, note_partition
from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.partition import Partition, WriteOptions, write_partition
from agatha_ckpt._store.store import CheckpointStore

_MANY = 600  # partitions
_LOAD_LAYER = re.compile(
    r"load-(?P<name>.+)-(?P<id>[0-9a-f]{32})-[0-9a-f]{8}", re.DOTALL
)


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


@dataclass(frozen=True)
class Fingerprints:
    """What the partitions of a bag are computed from."""

    partitions: tuple[str, ...]
    codes: tuple[str, ...]
    opaque: tuple[str, ...] = ()
    scheme: str = "0"


def fingerprint_bag(bag: Bag, *, version: str | None, format: str) -> Fingerprints:
    """Return fingerprints of dask's name of the bag, or of the version if given."""
    source = bag.name if version is None else version
    found = []
    for index in range(bag.npartitions):
        data = repr((version is None, source, format, bag.npartitions, index))
        found.append(hashlib.sha256(data.encode()).hexdigest()[:32])
    return Fingerprints(tuple(found), ("",) * len(found))


@dataclass(frozen=True)
class SavePartition:
    """The task that writes one partition; travels to the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    options : WriteOptions
    home : tuple of (str, int)
        The machine and the process that the task was made in.
    """

    store: CheckpointStore
    name: str
    options: WriteOptions
    home: tuple[str, int] = field(default_factory=_this_process)

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
        self, records: Iterable[Any], index: int, fingerprint: str, code: str
    ) -> PartitionInfo:
        """Write the partition *index* and return its entry in the manifest."""
        folder = self._folder
        if folder.files.one_process and self.home != _this_process():
            raise RootNotSetError(
                f"{folder.describe(index)} was not saved, because its "
                "root lies in the memory of one process and the bag is computed in "
                "others; compute with scheduler='threads', or set another root"
            )
        try:
            return write_partition(
                folder, records, index, fingerprint, code, self.options
            )
        except Exception as error:
            # Whatever the bag's own functions raise keeps its type and message.
            note_partition(error, self.describe(index))
            raise

    def describe(self, index: int) -> str:
        """Return how messages speak of the partition *index*."""
        return self._folder.describe(index)


@lru_cache(maxsize=8)
def _unpickled(pickled: bytes) -> SavePartition:
    """Return what was pickled; in a worker, the same for all tasks of a save."""
    return SavePartition(*cloudpickle.loads(pickled))


@dataclass(frozen=True)
class LoadPartition:
    """The task that opens one partition; travels to the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    plan : Plan
    allow_pickle : bool
    id : str
        The digest of what the checkpoint holds; what is built from it is known by it.
    """

    store: CheckpointStore
    name: str
    plan: Plan
    allow_pickle: bool
    id: str

    def __call__(self, index: int, info: PartitionInfo) -> Partition:
        """Return the partition *index*, lazily."""
        return self.store.open_partition(
            self.name, self.plan, index, info, allow_pickle=self.allow_pickle
        )


def save_partitions(
    bag: Bag,
    indexes: Iterable[int],
    fingerprints: Fingerprints,
    save: SavePartition,
    compute_kw: dict[str, Any],
    pool: WarmPool,
    landed: Callable[[PartitionInfo], None] | None = None,
) -> dict[int, PartitionInfo]:
    """Compute and write the partitions *indexes* of *bag*, and no others.

    One graph layer with a task for each of them, on top of the bag: what only the
    other partitions need is never computed. The scheduler is the bag's own, or the
    active distributed client, or what *compute_kw* says; dask's process scheduler gets
    the processes of *pool*. *landed* is called, in the thread of the caller, with what
    is known of each partition as it is stored.
    """
    indexes = list(indexes)
    if not indexes:
        return {}
    layer = f"save-{save.name}-{secrets.token_hex(16)}"
    partitions, codes = fingerprints.partitions, fingerprints.codes
    tasks = {
        (layer, k): (save, (bag.name, i), i, partitions[i], codes[i])
        for k, i in enumerate(indexes)
    }
    graph = HighLevelGraph.from_collections(layer, tasks, dependencies=[bag])
    saving = SavingBag(graph, layer, len(indexes))
    compute_kw = {k: v for k, v in compute_kw.items() if k != "traverse"}
    schedule: Callable[..., Any] = get_scheduler(
        cls=Bag, scheduler=compute_kw.pop("scheduler", None)
    )
    client = client_of(schedule)
    if client is None:
        with pool.lend(schedule, compute_kw) as use_pool:
            found = _compute_here(schedule, saving, compute_kw | use_pool, landed)
        return dict(zip(indexes, found, strict=True))
    infos = {}
    for k, info in as_they_land(
        client, saving, compute_kw, lambda k: save.describe(indexes[k])
    ):
        infos[indexes[k]] = info
        if landed:
            landed(info)
    return infos


def _compute_here(
    schedule: Callable[..., Any],
    saving: SavingBag,
    compute_kw: dict[str, Any],
    landed: Callable[[PartitionInfo], None] | None,
) -> Iterable[PartitionInfo]:
    """Return what saving each partition returns, by one of dask's own schedulers."""
    graph, keys = saving.dask, saving.__dask_keys__()
    if landed and _is_dasks(schedule):
        # Given to this run alone: those that are active are of the whole process, and
        # a run in another thread would take them over.
        active = compute_kw.get("callbacks") or Callback.active
        compute_kw["callbacks"] = [*active, _watching(set(keys), landed)]
    if schedule is multiprocessing.get:
        # A batch comes back, and is counted, only when all of it is done. Six of many
        # are a small step all the same, and half the cost of six times one.
        batch = 1 if len(keys) < _MANY else 6
        compute_kw.setdefault("chunksize", dask.config.get("chunksize", batch))
    try:
        if compute_kw.pop("optimize_graph", True):
            found: Iterable[PartitionInfo] = compute_as_if_collection(
                NotingBag, graph, keys, scheduler=schedule, **compute_kw
            )
        else:
            found = schedule(dict(graph), keys, **compute_kw)
        return found
    except RemoteException as error:
        # dask's process scheduler wraps what a worker raised; the caller gets it as
        # it was, with the worker's traceback as a note.
        original: BaseException = error.exception
        original.add_note(f"Traceback of the worker:\n{error.traceback}")
        raise original from None


def _is_dasks(schedule: Callable[..., Any]) -> bool:
    """Whether a scheduler is known to take callbacks."""
    of_an_executor = isinstance(schedule, partial) and schedule.func is get_async
    return of_an_executor or schedule in (get_sync, threaded.get, multiprocessing.get)


def _watching(
    keys: set[Hashable], landed: Callable[[PartitionInfo], None]
) -> tuple[Callable[..., None] | None, ...]:
    """Return a callback that hands on the results of the tasks *keys*."""

    def posttask(key: Hashable, result: PartitionInfo, *_: object) -> None:
        if key in keys:
            landed(result)

    return (None, None, None, posttask, None)


def load_bag(
    store: CheckpointStore, name: str, manifest: Manifest, allow_pickle: bool
) -> Bag:
    """Return a bag that reads a done checkpoint when it is computed.

    Its name depends on the content and the root only, so that what is built on it
    has the same name in every run.
    """
    place = hashlib.sha256(store.url.encode()).hexdigest()[:8]
    layer = f"load-{name}-{manifest.id}-{place}"
    load = LoadPartition(store, name, manifest.plan, allow_pickle, manifest.id)
    # list is what a task that shares the partition gets; where one task is its only
    # user, dask strips it, and that task gets the lazy sequence.
    tasks = {
        (layer, i): (list, (load, i, info))
        for i, info in enumerate(manifest.partitions)
    }
    bag = LoadedBag(tasks, layer, len(manifest.partitions))
    counts = [info.records for info in manifest.partitions]
    if all(count >= 0 for count in counts):  # Agatha kept none
        bag.counted = (sum(counts), load)
    return bag


class LoadedBag(Bag):  # type: ignore[misc]
    """A bag that is loaded, and knows how many records it has.

    What is made of it is of this class as well, but knows no such thing.
    """

    counted: tuple[int, LoadPartition] | None = None

    def count(self, split_every: int | None = None) -> Item:
        """Return the number of records: one task, which reads nothing."""
        if self.counted is None:
            return super().count(split_every=split_every)
        name = f"count-{self.name}"
        # It holds what loads, too, so that what is built on it has its parent.
        return Item({name: (_first_of, *self.counted)}, name)


def _first_of(count: int, load: LoadPartition) -> int:
    return count


def parents_of(bag: Bag) -> tuple[tuple[str, str], ...]:
    """Return name and id of the checkpoints that *bag* is built from, sorted.

    What was computed already (``persist``, ``compute``) does not know any more what it
    was built from.
    """
    found = set()
    for name, layer in bag.dask.layers.items():
        match = _LOAD_LAYER.fullmatch(str(name))
        if match:
            found.add((match["name"], match["id"]))
        elif isinstance(layer, MaterializedLayer):  # others hold no task that loads
            for task in layer.mapping.values():
                found |= {(load.name, load.id) for load in _loads_in(task)}
    return tuple(sorted(found))


def _loads_in(task: Any) -> Iterator[LoadPartition]:
    """Yield what a task loads with, also where it was fused, renamed or wrapped."""
    parts = [task]
    while parts:
        part = parts.pop()
        if isinstance(part, Task):
            parts += [part.func, *part.args, *part.kwargs.values()]
        elif type(part) is dict and isinstance(next(iter(part.values()), 0), GraphNode):
            parts += part.values()  # a graph, of what was fused into the task
        elif type(part) is tuple and part and callable(part[0]):
            parts += part
        elif type(part) is LoadPartition:
            yield part
