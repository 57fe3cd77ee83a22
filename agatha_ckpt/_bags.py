"""dask bag <-> partitions: the only module that builds graphs."""

import hashlib
import os
import platform
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dask.bag import Bag
from dask.base import compute_as_if_collection, get_scheduler
from dask.highlevelgraph import HighLevelGraph
from dask.multiprocessing import RemoteException

from agatha_ckpt._cluster import SavingBag, as_they_land, client_of
from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._layout import Plan
from agatha_ckpt._manifest import Manifest, PartitionInfo
from agatha_ckpt._partition import Partition
from agatha_ckpt._store import CheckpointStore

_LOAD_LAYER = re.compile(
    r"load-(?P<name>.+)-(?P<id>[0-9a-f]{32})-[0-9a-f]{8}", re.DOTALL
)


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


@dataclass(frozen=True)
class SavePartition:
    """The task that writes one partition; travels to the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    plan : Plan
    compression : str, optional
    allow_pickle : bool
    bag : str
        dask's name of the bag.
    run : str
        8 hexadecimal digits, new for each save.
    home : tuple of (str, int)
        The machine and the process that the task was made in.
    """

    store: CheckpointStore
    name: str
    plan: Plan
    compression: str | None
    allow_pickle: bool
    bag: str
    run: str

    home: tuple[str, int] = field(default_factory=_this_process)

    def __call__(self, records: Iterable[Any], index: int) -> PartitionInfo:
        """Write the partition *index* and return what the manifest says of it."""
        if self.store.one_process and self.home != _this_process():
            raise RootNotSetError(
                f"{self.store.describe(self.name, index)} was not saved, because its "
                "root lies in the memory of one process and the bag is computed in "
                "others; compute with scheduler='threads', or set another root"
            )
        try:
            return self.store.write_partition(
                self.name,
                self.plan,
                index,
                records,
                compression=self.compression,
                allow_pickle=self.allow_pickle,
                bag=self.bag,
                run=self.run,
            )
        except Exception as error:
            # Whatever the bag's own functions raise keeps its type and message.
            error.add_note(f"while saving {self.store.describe(self.name, index)}")
            raise

    def find(self, index: int) -> PartitionInfo | None:
        """Return what an earlier try stored of the partition *index*, if one did."""
        survey = self.store.survey(self.name, self.plan, run=self.run, index=index)
        return survey.kept.get(index)


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
    """

    store: CheckpointStore
    name: str
    plan: Plan
    allow_pickle: bool

    def __call__(self, index: int, info: PartitionInfo) -> Partition:
        """Return the partition *index*, lazily."""
        return self.store.open_partition(
            self.name, self.plan, index, info, allow_pickle=self.allow_pickle
        )


def save_partitions(
    bag: Bag, indexes: Iterable[int], save: SavePartition, compute_kw: dict[str, Any]
) -> dict[int, PartitionInfo]:
    """Compute and write the partitions *indexes* of *bag*, and no others.

    One graph layer with a task for each of them, on top of the bag: what only the
    other partitions need is never computed. The scheduler is the bag's own, or the
    active distributed client, or what *compute_kw* says.
    """
    indexes = list(indexes)
    if not indexes:
        return {}
    layer = f"save-{save.name}-{secrets.token_hex(16)}"
    tasks = {(layer, k): (save, (bag.name, i), i) for k, i in enumerate(indexes)}
    graph = HighLevelGraph.from_collections(layer, tasks, dependencies=[bag])
    saving = SavingBag(graph, layer, len(indexes))
    found = _compute(saving, dict(compute_kw))
    return {indexes[k]: info for k, info in found}


def _compute(
    saving: SavingBag, compute_kw: dict[str, Any]
) -> Iterable[tuple[int, PartitionInfo]]:
    """Yield position and result of each partition."""
    compute_kw.pop("traverse", None)
    schedule: Callable[..., Any] = get_scheduler(
        cls=Bag, scheduler=compute_kw.pop("scheduler", None)
    )
    client = client_of(schedule)
    if client is not None:
        return as_they_land(client, saving, compute_kw)
    graph, keys = saving.dask, saving.__dask_keys__()
    try:
        if compute_kw.pop("optimize_graph", True):
            found = compute_as_if_collection(
                Bag, graph, keys, scheduler=schedule, **compute_kw
            )
        else:
            found = schedule(dict(graph), keys, **compute_kw)
        return list(enumerate(found))
    except RemoteException as error:
        # dask's process scheduler wraps what a worker raised; the caller gets it as
        # it was, with the worker's traceback as a note.
        original: BaseException = error.exception
        original.add_note(f"Traceback of the worker:\n{error.traceback}")
        raise original from None


def load_bag(
    store: CheckpointStore, name: str, manifest: Manifest, allow_pickle: bool
) -> Bag:
    """Return a bag that reads a done checkpoint when it is computed.

    Its name depends on the content and the root only, so that what is built on it
    has the same name in every run.
    """
    place = hashlib.sha256(store.url.encode()).hexdigest()[:8]
    layer = f"load-{name}-{manifest.id}-{place}"
    load = LoadPartition(store, name, manifest.plan, allow_pickle)
    # list is what a task that shares the partition gets; where one task is its only
    # user, dask strips it, and that task gets the lazy sequence.
    tasks = {
        (layer, i): (list, (load, i, info))
        for i, info in enumerate(manifest.partitions)
    }
    return Bag(tasks, layer, len(manifest.partitions))


def parents_of(bag: Bag) -> tuple[tuple[str, str], ...]:
    """Return name and id of the checkpoints that *bag* is built from, sorted."""
    layers = bag.dask.layers
    names = set(layers)
    if len(layers) == 1:  # an optimised graph has lost its layers, not its keys
        names |= {key[0] for key in bag.dask if isinstance(key, tuple)}
    matches = [_LOAD_LAYER.fullmatch(n) for n in names if isinstance(n, str)]
    return tuple(sorted({(m["name"], m["id"]) for m in matches if m}))
