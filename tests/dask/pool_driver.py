"""Run by test_pool: saves with worker processes, and ends as it is told.

    python pool_driver.py ROOT exit|kill|raise

Prints the process ids of the workers.
"""

import os
import signal
import sys

import dask.bag

from agatha_ckpt import Checkpointer


def who(part):
    return [os.getpid() for _ in part]


def main():
    root, end = sys.argv[1:]
    ckpt = Checkpointer(root, verbose=False)
    bag = dask.bag.from_sequence(range(2), npartitions=2).map_partitions(who)
    workers = set()
    for name in ("a", "b"):
        saved = ckpt.checkpoint(name, bag, num_workers=1)
        workers |= set(saved.compute(scheduler="sync"))
    print(*workers, flush=True)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "raise":
        raise KeyError("of the program")


if __name__ == "__main__":
    main()
