"""Run by test_race: does what it is told, at the same moment as others do.

One command a line comes in on stdin, as JSON, and one answer a line goes out on
stdout. At the barrier a worker says so in a line, and waits for a line.
"""

import json
import sys
import traceback

import dask.bag

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)


def answer(value):
    print(json.dumps(value), flush=True)


def barrier():
    answer("at the barrier")
    sys.stdin.readline()


class Compute:
    """The bag's function: partition number to (writer, partition, position)."""

    def __init__(self, writer, size, wait):
        self.writer, self.size, self.wait = writer, size, wait

    def __call__(self, part):
        (index,) = part
        if self.wait:
            self.wait = False
            barrier()
        return ((self.writer, index, i) for i in range(self.size))


def bag_of(writer, npartitions, size, wait=False):
    bag = dask.bag.from_sequence(range(npartitions), partition_size=1)
    return bag.map_partitions(Compute(writer, size, wait))


def save(store, name, writer, npartitions, size, barrier_at, settings, **options):
    checkpointer = Checkpointer(store, verbose=False, **settings)
    bag = bag_of(writer, npartitions, size, wait=barrier_at == "first partition")
    if barrier_at == "call":
        barrier()
    try:
        loaded = checkpointer.checkpoint(name, bag, scheduler="sync", **options)
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


COMMANDS = {f.__name__: f for f in (save, clear, recompute, read)}


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
