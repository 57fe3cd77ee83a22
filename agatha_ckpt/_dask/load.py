"""Loading: bags that read a checkpoint, and what a bag was loaded from."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dask._task_spec import GraphNode, Task
from dask.bag import Bag, Item
from dask.highlevelgraph import MaterializedLayer

from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._store.partition import Partition
from agatha_ckpt._store.store import CheckpointStore

_LOAD_LAYER = re.compile(
    r"load-(?P<name>.+)-(?P<id>[0-9a-f]{32})-[0-9a-f]{8}", re.DOTALL
)


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
        The checkpoint's content id, which is recorded in what is built from it.
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


def load_bag(
    store: CheckpointStore, name: str, manifest: Manifest, allow_pickle: bool
) -> Bag:
    """Return a bag that reads a done checkpoint when it is computed.

    Its name depends on content and root alone, so that what is built on it has the
    same name in every run.
    """
    place = hashlib.sha256(store.url.encode()).hexdigest()[:8]
    layer = f"load-{name}-{manifest.id}-{place}"
    load = LoadPartition(store, name, manifest.plan, allow_pickle, manifest.id)
    # A partition that several tasks use is a list. Where one task is its only user,
    # dask strips the call of list, and that task gets the lazy partition.
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
    """A bag that is loaded, and has the number of its records.

    Bags that are made of it are of this class too, but do not have the number.
    """

    counted: tuple[int, LoadPartition] | None = None

    def count(self, split_every: int | None = None) -> Item:
        """Return the number of records: one task, which reads nothing."""
        if self.counted is None:
            return super().count(split_every=split_every)
        name = f"count-{self.name}"
        # The load is an argument, so that what is built on the count has a parent.
        return Item({name: (_first_of, *self.counted)}, name)


def _first_of(count: int, load: LoadPartition) -> int:
    return count


def parents_of(bag: Bag) -> tuple[tuple[str, str], ...]:
    """Return name and id of the checkpoints that *bag* is built from, sorted.

    A bag that was computed (``persist``, ``compute``) has lost its parents.
    """
    found = set()
    for name, layer in bag.dask.layers.items():
        match = _LOAD_LAYER.fullmatch(str(name))
        if match:
            found.add((match["name"], match["id"]))
        elif isinstance(layer, MaterializedLayer):  # no other has tasks that load
            for task in layer.mapping.values():
                found |= {(load.name, load.id) for load in _loads_in(task)}
    return tuple(sorted(found))


def _loads_in(task: Any) -> Iterator[LoadPartition]:
    """Yield the `LoadPartition` of a task, also where it was fused or wrapped."""
    parts = [task]
    while parts:
        part = parts.pop()
        if isinstance(part, Task):
            parts += [part.func, *part.args, *part.kwargs.values()]
        elif type(part) is dict and isinstance(next(iter(part.values()), 0), GraphNode):
            parts += part.values()  # the tasks that dask fused into this one
        elif type(part) is tuple and part and callable(part[0]):
            parts += part
        elif type(part) is LoadPartition:
            yield part
