"""Writes the samples of v1/: once, with the first release of format 1.

They are not written again. A test that fails on them has found a change of the format,
which would break files that exist. A new format version gets its own folder beside v1/.
Run from the root of the repository::

    python -m tests.format.data.make_samples FOLDER

The records are in tests/format/test_specification.py, which compares what it loads.
"""

import sys
from pathlib import Path

import dask
from dask.bag import Bag

from agatha_ckpt import Checkpointer
from tests.format.test_specification import SAMPLE_RECORDS


def main(folder):
    """Save every sample under *folder*, which must not exist yet."""
    Path(folder).mkdir(parents=True)
    dask.config.set(scheduler="sync")

    def bag_of(name):
        def partition(index):
            return list(SAMPLE_RECORDS[name][index])

        layer = f"sample-{name}"
        tasks = {(layer, i): (partition, i) for i in range(len(SAMPLE_RECORDS[name]))}
        return Bag(tasks, layer, len(tasks))

    checkpointer = Checkpointer(folder, compression=None)
    checkpointer.checkpoint("text", bag_of("text"), textfile=True)
    for name in ("every-type", "no-partitions", "an-empty-partition"):
        checkpointer.checkpoint(name, bag_of(name))
    checkpointer.checkpoint("of-this-machine", bag_of("of-this-machine"))

    # With a version label and a parent.
    checkpointer.configure(compression="zstd")
    lines = checkpointer.checkpoint("text")
    repeated = lines.map_partitions(lambda partition: list(partition) * 500)
    checkpointer.checkpoint("compressed", repeated, version="v7")

    checkpointer.configure(allow_pickle=True)
    checkpointer.checkpoint("pickled", bag_of("pickled"))


if __name__ == "__main__":
    main(sys.argv[1])
