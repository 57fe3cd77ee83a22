"""Loading: the tasks that open a partition, and what a collection was loaded from."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dask._task_spec import GraphNode, Task
from dask.highlevelgraph import MaterializedLayer
from dask.tokenize import normalize_token

from agatha_ckpt._dask.labels import label, name_in
from agatha_ckpt._format.blocks import BLOCK_BYTES
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import canonical
from agatha_ckpt._store.partition import Partition
from agatha_ckpt._store.store import CheckpointStore

_LOAD_LAYER = re.compile(
    r"load:(?P<name>.+)-(?P<id>[0-9a-f]{32})-[0-9a-f]{8}", re.DOTALL
)


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
        partition = self.open(index, info)
        return list(partition) if 0 <= info.bytes <= BLOCK_BYTES else partition

    def open(self, index: int, info: PartitionInfo) -> Partition:
        """Return the partition *index*, which reads nothing before it is used."""
        return self.store.open_partition(
            self.name, self.plan, index, info, allow_pickle=self.allow_pickle
        )


def _token_of(info: PartitionInfo) -> object:
    # Not the content: dask gives one frame for all expressions of one name, and that
    # of another run would read files that were replaced.
    return type(info).__name__, info.file


normalize_token.register(PartitionInfo, _token_of)


def layer_of(store: CheckpointStore, name: str, manifest: Manifest) -> str:
    """Return the name of the collection that loads a checkpoint.

    It depends on content, its places and the root alone, so that what is built on the
    collection has the same name in every run.
    """
    layout = [manifest.collection.get(key) for key in ("chunks", "divisions")]
    place = hashlib.sha256(canonical([store.url, *layout])).hexdigest()[:8]
    return f"{label('load', name)}-{manifest.id}-{place}"


@dataclass(frozen=True)
class Parents:
    """The checkpoints that a collection is built from.

    Attributes
    ----------
    ids : tuple of (name, id)
        Sorted.
    stale : tuple of str
        The names of those that were stale when they were loaded, sorted.
    """

    ids: tuple[tuple[str, str], ...]
    stale: tuple[str, ...]


def parents_of(collection: Any) -> Parents:
    """Return the checkpoints that a collection is built from.

    One that was computed (``persist``, ``compute``) has lost its parents.
    """
    found = set()
    graph = collection.__dask_graph__()
    layers = getattr(graph, "layers", None) or {"": MaterializedLayer(graph)}
    for name, layer in layers.items():
        if match := _LOAD_LAYER.fullmatch(str(name)):
            # Also where it is persisted.
            found.add((name_in(match["name"]), match["id"], False))
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
        elif isinstance(part, LoadPartition):
            yield part
