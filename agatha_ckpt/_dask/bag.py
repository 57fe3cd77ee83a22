"""Bags: what a save needs of one, and the bag that loads a checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, repeat
from typing import Any

from dask.bag import Bag, Item
from dask.sizeof import sizeof

from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import MSGPACK
from agatha_ckpt._store.partition import Partition

_SAMPLE = 10  # records


def source_of(bag: Bag, where: str) -> Source:
    """Return what a save needs of a bag."""
    return Source(
        bag,
        bag.name,
        bag.__dask_graph__(),
        tuple(bag.__dask_keys__()),
        tuple(bag.__dask_layers__()),
        MSGPACK,
    )


def _size_of(partition: Partition) -> int:
    """Return the size of the records in memory, from a sample of them."""
    sample = list(islice(partition, 0, None, len(partition) // _SAMPLE + 1))
    records = sum(map(sizeof, sample)) * len(partition) // max(len(sample), 1)
    size: int = sizeof([]) + 8 * len(partition) + records
    return size


sizeof.register(Partition, _size_of)


def load_bag(load: LoadPartition, layer: str, manifest: Manifest) -> Bag:
    """Return a bag that reads a done checkpoint when it is computed."""
    tasks = LoadTasks(load, layer, manifest.partitions)
    bag = LoadedBag(tasks, layer, len(tasks))
    if manifest.records is not None:
        bag.counted = (manifest.records, load)
    return bag


class LoadTasks(Mapping[tuple[str, int], Any]):
    """The tasks that load a bag, by key; they are made when the first is asked for."""

    def __init__(
        self, load: LoadPartition, layer: str, partitions: Sequence[PartitionInfo]
    ) -> None:
        self.load, self.layer, self.partitions = load, layer, partitions

    def __len__(self) -> int:
        return len(self.partitions)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(repeat(self.layer), range(len(self)))

    def __getitem__(self, key: tuple[str, int]) -> Any:
        return self._tasks[key]

    @cached_property
    def _tasks(self) -> dict[tuple[str, int], Any]:
        # A partition that several tasks use is a list. Where one task is its only user,
        # dask strips the call of list, and that task gets the lazy partition.
        return {
            (self.layer, i): (list, (self.load, i, info))
            for i, info in enumerate(self.partitions)
        }


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
