"""Run by test_race: does what it is told, at the same moment as others do.

One command a line comes in on stdin, as JSON, and one answer a line goes out on
stdout. At the barrier a worker says so in a line, and waits for a line.
"""

import itertools
import json
import random
import sys
import threading
import traceback

import dask.bag

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
)


def answer(value):
    print(json.dumps(value), flush=True)


def barrier():
    answer("at the barrier")
    sys.stdin.readline()


class Compute:
    """The bag's function: partition number to (writer, partition, position).

    At the call number *meet* it meets the others; each partition takes up to *pause*
    seconds.
    """

    def __init__(self, writer, size, meet=0, pause=0.0, seed=0, graph=None):
        self.writer, self.size, self.meet, self.pause = writer, size, meet, pause
        self.random = random.Random(seed)
        self.calls = itertools.count(1)
        self.graph = (writer, seed) if graph is None else graph
        self.__name__ = "compute"  # else dask names the bag after our address

    def __dask_tokenize__(self):
        return self.graph

    def __call__(self, part):
        (index,) = part
        if next(self.calls) == self.meet:
            barrier()
        return self.records(index)

    def records(self, index):
        wait(self.random.uniform(0, self.pause))
        for i in range(self.size):
            yield self.writer, index, i


def wait(seconds):
    if seconds:
        threading.Event().wait(seconds)


def bag_of(writer, npartitions, size, **compute):
    bag = dask.bag.from_sequence(range(npartitions), partition_size=1)
    return bag.map_partitions(Compute(writer, size, **compute))


def save(store, name, writer, npartitions, size, meet, later, settings, **options):
    """Save; meet the others at the call, or at the partition number *meet*."""
    checkpointer = Checkpointer(store, verbose=False, **settings)
    compute = {k: options.pop(k) for k in ("pause", "seed", "graph") if k in options}
    bag = bag_of(writer, npartitions, size, meet=meet, **compute)
    if not meet:
        barrier()
    wait(later)
    options = {"scheduler": "sync"} | options
    try:
        loaded = checkpointer.checkpoint(name, bag, **options)
    except CheckpointConflictError:
        return {"outcome": "conflict"}
    try:
        return {"outcome": "bag", "records": loaded.compute(scheduler="sync")}
    except CorruptCheckpointError as error:
        return {"outcome": "bag of what was then removed", "message": str(error)}


def clear(store, name, times):
    barrier()
    for _ in range(times):
        store.clear(name)
    return {"outcome": "cleared"}


def recompute(store, name, versions, npartitions, size):
    """Save the versions 1 to *versions*, each in place of the one before."""
    checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
    barrier()
    for version in range(1, versions + 1):
        bag = bag_of(version, npartitions, size)
        checkpointer.checkpoint(name, bag, version=str(version), scheduler="sync")
    return {"outcome": "recomputed"}


def read(store, name, versions, npartitions, size):
    """Load again and again, until the last version is what is loaded."""
    checkpointer = Checkpointer(store, verbose=False)
    whole = {
        version: [(version, p, i) for p in range(npartitions) for i in range(size)]
        for version in range(versions + 1)
    }
    found = {"outcome": "read", "loads": 0, "replaced": 0, "faults": []}
    barrier()
    latest = 0
    while latest < versions:
        found["loads"] += 1
        try:
            records = checkpointer.checkpoint(name).compute(scheduler="sync")
        except CheckpointError as error:
            if type(error) is CorruptCheckpointError and "was replaced" in str(error):
                found["replaced"] += 1
            else:
                found["faults"].append(repr(error))
            continue
        version = records[0][0] if records else None
        if records != whole.get(version):
            found["faults"].append(f"a mixture: {records[:3]} ... {records[-3:]}")
        elif version < latest:
            found["faults"].append(f"version {version} after {latest}")
        else:
            latest = version
    return found


def poll(store, name, loads):
    """Load until records were there *loads* times; return the different ones."""
    checkpointer = Checkpointer(store, verbose=False)
    found = {"outcome": "polled", "nothing": 0, "records": [], "faults": []}
    barrier()
    while loads:
        try:
            records = checkpointer.checkpoint(name).compute(scheduler="sync")
        except CheckpointNotFoundError:
            found["nothing"] += 1
            continue
        except CheckpointError as error:
            found["faults"].append(repr(error))
            return found
        loads -= 1
        if records not in found["records"]:
            found["records"].append(records)
    return found


COMMANDS = {f.__name__: f for f in (save, clear, recompute, read, poll)}


def main():
    for line in sys.stdin:
        command = json.loads(line)
        function = COMMANDS[command.pop("do")]
        store = CheckpointStore(command.pop("root"), fsync=command.pop("fsync"))
        try:
            answer(function(store, **command))
        except Exception:
            answer({"outcome": "error", "traceback": traceback.format_exc()})


if __name__ == "__main__":
    main()
