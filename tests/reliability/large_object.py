"""Saves or loads one large partition and prints the peak memory; run by test_large.

    python -m tests.reliability.large_object save|load ROOT RECORDS

The records are yielded one by one and do not compress, so that memory that grows with
the partition is the library's. Prints the peak resident size in bytes.
"""

import random
import sys

import dask.bag

from agatha_ckpt import Checkpointer
from tests.reliability.peak_memory import high_water_mark

NAME = "large"
RECORD_BYTES = 10_000


def records_of(count):
    for i in range(count):
        yield {"id": i, "data": random.Random(i).randbytes(RECORD_BYTES)}


def bag_of(count):
    bag = dask.bag.from_sequence([count], npartitions=1)
    return bag.map_partitions(lambda counts: records_of(*counts))


def count_right(partition, count):
    """Count the records, read one by one, as long as they are what was saved."""
    pairs = zip(partition, records_of(count), strict=True)
    return [sum(found == saved for found, saved in pairs)]


def main():
    action, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ckpt = Checkpointer(root, verbose=False)
    if action == "save":
        ckpt.checkpoint(NAME, bag_of(count), scheduler="sync")
    else:
        right = ckpt.checkpoint(NAME).map_partitions(count_right, count)
        assert right.compute(scheduler="sync") == [count]
    print(high_water_mark())


if __name__ == "__main__":
    main()
