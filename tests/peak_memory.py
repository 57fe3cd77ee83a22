"""Run by test_resources: save or load one partition and print the peak memory.

    python peak_memory.py save|load|save-text|load-text ROOT RECORDS

The bag's own function hands out records one by one, so that all memory that grows
with the partition is the library's. Prints the peak resident size in bytes.
"""

import re
import sys
from pathlib import Path

import dask.bag

from agatha_ckpt import Checkpointer


def records_of(part, text):
    (count,) = part
    for i in range(count):
        line = f"record {i} " + "x" * 600
        yield line if text else {"id": i, "text": line, "tags": ("a", "b")}


def high_water_mark():
    # getrusage would give that of the process which started this one, if larger.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main():
    action, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    text = action.endswith("-text")
    checkpointer = Checkpointer(root, verbose=False)
    if action.startswith("save"):
        bag = dask.bag.from_sequence([count], npartitions=1)
        bag = bag.map_partitions(records_of, text)
        checkpointer.checkpoint("big", bag, textfile=text, scheduler="sync")
    else:
        bag = checkpointer.checkpoint("big")
        found = bag.map(len).fold(lambda n, _: n + 1, initial=0)
        assert found.compute(scheduler="sync") == count
    print(high_water_mark())


if __name__ == "__main__":
    main()
