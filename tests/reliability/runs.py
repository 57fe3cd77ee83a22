"""Runs whose records name the run, the partition and the position.

So whatever is loaded can be judged without asking the library: each partition is whole
and of one run, or it is not. The label of a run does not count for its fingerprints, as
if its bag gave other records each time; *inputs* counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import dask.bag


@dataclass(frozen=True)
class Run:
    """One program that saves a bag.

    Attributes
    ----------
    label : str
        Is in each record.
    npartitions : int
    version : str, optional
    text : bool
    inputs : str
        Runs with the same inputs have the same fingerprints.
    sizes : tuple of int
        Records of each partition, in turn.
    """

    label: str
    npartitions: int = 3
    version: str | None = None
    text: bool = False
    inputs: str = "inputs"
    sizes: tuple[int, ...] = (4, 0, 30)

    @property
    def plan(self):
        return self.npartitions, self.version, self.text

    @property
    def options(self):
        """Keywords for `Checkpointer.checkpoint`."""
        return {
            "textfile": self.text,
            "version": self.version,
            "scheduler": "sync",
        }

    def records(self, index):
        size = self.sizes[index % len(self.sizes)]
        records = [(self.label, index, i) for i in range(size)]
        return list(map(str, records)) if self.text else records

    def bag(self, note=lambda index: None):
        """Return the bag; *note* is called with the number of each partition."""
        indexes = dask.bag.from_sequence(range(self.npartitions), partition_size=1)
        return indexes.map_partitions(_Compute(self, note))

    def save(self, checkpointer, name, note=lambda index: None):
        return checkpointer.checkpoint(name, self.bag(note), **self.options)

    def repair(self, checkpointer, name, note=lambda index: None):
        return checkpointer.repair(name, self.bag(note), scheduler="sync")


@dataclass(frozen=True)
class _Compute:
    run: Run
    note: Callable
    __name__ = "compute"  # otherwise dask names the bag after all of its fields

    def __dask_tokenize__(self):
        return "compute", self.run.inputs

    def __call__(self, part):
        (index,) = part
        self.note(index)
        return self.run.records(index)


def labels(records, runs):
    """Return the label of the run of each partition, None where it is empty.

    Raises
    ------
    AssertionError
        A partition is not whole, or is of none of the *runs*, which have the same
        number of partitions.
    """
    found, rest = [], records
    npartitions = {run.npartitions for run in runs}
    assert len(npartitions) == 1, runs
    for index in range(*npartitions):
        owners = [r for r in runs if rest[: len(r.records(index))] == r.records(index)]
        assert owners, f"partition {index} is of no run: {rest[:2]}, {len(rest)} left"
        length = len(owners[0].records(index))
        found.append(owners[0].label if length else None)
        rest = rest[length:]
    assert not rest, f"{len(rest)} records too many: {rest[:2]}"
    return found
