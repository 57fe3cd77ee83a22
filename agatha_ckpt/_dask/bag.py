"""Bags: what a save needs of one, and the bag that loads a checkpoint."""

from itertools import islice

from dask.bag import Bag, Item
from dask.sizeof import sizeof

from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._format.manifest import Manifest
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
