"""Loading: bags that read a checkpoint, and what a bag was loaded from."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dask._task_spec import GraphNode, Task
from dask.bag import Bag, Item
from dask.highlevelgraph import MaterializedLayer
from dask.sizeof import sizeof

from agatha_ckpt._format.blocks import BLOCK_BYTES
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._store.partition import Partition
from agatha_ckpt._store.store import CheckpointStore

_LOAD_LAYER = re.compile(
    r"load-(?P<name>.+)-(?P<id>[0-9a-f]{32})-[0-9a-f]{8}", re.DOTALL
)
_SAMPLE = 10  # records


@dataclass(frozen=True)
class LoadPartition:
    """The task that opens one partition; it is pickled for the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    plan : Plan
    allow_pickle : bool
    id : str
        The checkpoint's content id, which is recorded in what is built from it.
    is_stale : bool
        Whether the checkpoint was stale when it was loaded.
    """

    store: CheckpointStore
    name: str
    plan: Plan
    allow_pickle: bool
    id: str
    is_stale: bool = False

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, self.id  # what it loads, not from where

    def __call__(self, index: int, info: PartitionInfo) -> Partition | list[Any]:
        """Return the partition *index*: lazily, if it is more than about a block."""
        partition = self.store.open_partition(
            self.name, self.plan, index, info, allow_pickle=self.allow_pickle
        )
        return list(partition) if 0 <= info.bytes <= BLOCK_BYTES else partition


def _size_of(partition: Partition) -> int:
    """Return the size of the records in memory, from a sample of them."""
    sample = list(islice(partition, 0, None, len(partition) // _SAMPLE + 1))
    records = sum(map(sizeof, sample)) * len(partition) // max(len(sample), 1)
    size: int = sizeof([]) + 8 * len(partition) + records
    return size


sizeof.register(Partition, _size_of)


def layer_of(store: CheckpointStore, name: str, manifest: Manifest) -> str:
    """Return the name of the bag that loads a checkpoint.

    It depends on content and root alone, so that what is built on the bag has the same
    name in every run.
    """
    place = hashlib.sha256(store.url.encode()).hexdigest()[:8]
    return f"load-{name}-{manifest.id}-{place}"


def load_bag(
    store: CheckpointStore,
    name: str,
    manifest: Manifest,
    allow_pickle: bool,
    is_stale: bool = False,
) -> Bag:
    """Return a bag that reads a done checkpoint when it is computed."""
    layer = layer_of(store, name, manifest)
    load = LoadPartition(
        store, name, manifest.plan, allow_pickle, manifest.id, is_stale
    )
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


@dataclass(frozen=True)
class Parents:
    """The checkpoints that a bag is built from.

    Attributes
    ----------
    ids : tuple of (name, id)
        Sorted.
    stale : tuple of str
        The names of those that were stale when they were loaded, sorted.
    """

    ids: tuple[tuple[str, str], ...]
    stale: tuple[str, ...]


def parents_of(bag: Bag) -> Parents:
    """Return the checkpoints that *bag* is built from.

    A bag that was computed (``persist``, ``compute``) has lost its parents.
    """
    found = set()
    for name, layer in bag.dask.layers.items():
        if match := _LOAD_LAYER.fullmatch(str(name)):
            found.add((match["name"], match["id"], False))  # also where it is persisted
        if isinstance(layer, MaterializedLayer):  # no other has tasks that load
            tasks = islice(layer.mapping.values(), 1 if match else None)
            found |= {
                (load.name, load.id, load.is_stale)
                for task in tasks
                for load in _loads_in(task)
            }
    return Parents(
        tuple(sorted({(name, id) for name, id, _ in found})),
        tuple(sorted({name for name, _, is_stale in found if is_stale})),
    )


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
