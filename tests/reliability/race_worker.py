"""Run by test_race: does what it is told, at the same moment as others do.

One command a line comes in on stdin, as JSON, and one answer a line goes out on
stdout. At the barrier a worker says so in a line, and waits for a line.
"""

import contextlib
import functools
import itertools
import json
import os
import random
import select
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import dask.bag
import fsspec

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    Plan,
)
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._store import rivals as _rivals

past_the_barrier = []  # to be called there


def answer(value):
    print(json.dumps(value), flush=True)


def barrier():
    answer("at the barrier")
    sys.stdin.readline()
    for call in past_the_barrier:
        call()


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
    compute = {k: options.pop(k) for k in ("pause", "seed", "graph") if k in options}
    bag = bag_of(writer, npartitions, size, meet=meet, **compute)
    if not meet:
        barrier()
    wait(later)
    checkpointer = Checkpointer(store, verbose=False, **settings)
    with contextlib.ExitStack() as stack:
        if "num_workers" in options:
            # Threads go on with what they are at when the save has raised, or has
            # adopted another run. The answer is for when they have ended.
            pool = ThreadPoolExecutor(options.pop("num_workers"))
            options["pool"] = stack.enter_context(pool)
        return saved(checkpointer.checkpoint, name, bag, **options)


def repair(store, name, writer, npartitions, size, meet):
    """Repair; meet the others as `save` does, if anything is left to compute."""
    bag = bag_of(writer, npartitions, size, meet=meet)
    if not meet:
        barrier()
    return saved(Checkpointer(store, verbose=False).repair, name, bag)


def save_each(store, name, names, writer, npartitions, size):
    """Save several names, one after the other."""
    checkpointer = Checkpointer(store, verbose=False)
    bag = bag_of(writer, npartitions, size)
    barrier()
    return {"outcome": "saved each"} | {
        "of": {name: saved(checkpointer.checkpoint, name, bag) for name in names}
    }


def saved(method, name, bag, **options):
    """What comes of a save or a repair, in the terms of an answer."""
    try:
        loaded = method(name, bag, **{"scheduler": "sync"} | options)
    except CheckpointConflictError:
        return {"outcome": "conflict"}
    try:
        return {"outcome": "bag", "records": loaded.compute(scheduler="sync")}
    except CorruptCheckpointError as error:
        return {"outcome": "bag of what was then removed", "message": str(error)}


def mark(store, name, writer, npartitions, size):
    """Put the marker alone: all partitions are there when the others are met."""
    plan = Plan(npartitions)
    store.begin(name)
    partitions = [
        store.write_partition(name, plan, i, [(writer, i, k) for k in range(size)])
        for i in range(npartitions)
    ]
    ours = Manifest(plan, tuple(partitions))
    barrier()
    try:
        placed = store.mark_done(name, ours)
    except CheckpointConflictError:
        return {"outcome": "conflict"}
    won = placed.token == ours.token
    return {"outcome": "won" if won else "adopted", "token": placed.token}


def clear(store, name, times):
    barrier()
    for _ in range(times):
        store.clear(name)
    return {"outcome": "cleared"}


def clear_all(store, name, times):
    barrier()
    for _ in range(times):
        store.clear_all()
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


def poll(store, name, loads, tries=None):
    """Load until records were there *loads* times; return the different ones."""
    checkpointer = Checkpointer(store, verbose=False)
    found = {"outcome": "polled", "nothing": 0, "told": 0, "records": [], "faults": []}
    barrier()
    for _ in range(tries) if tries else itertools.repeat(None):
        try:
            records = checkpointer.checkpoint(name).compute(scheduler="sync")
        except CheckpointNotFoundError:
            found["nothing"] += 1
            continue
        except CheckpointError as error:
            # Only where others clear or replace what is read is that an answer.
            if not tries or "replaced or cleared" not in str(error):
                found["faults"].append(repr(error))
                return found
            found["told"] += 1
            continue
        if records not in found["records"]:
            found["records"].append(records)
        loads -= 1
        if not loads:
            break
    return found


COMMANDS = {
    function.__name__: function
    for function in (
        save,
        repair,
        save_each,
        mark,
        clear,
        clear_all,
        recompute,
        read,
        poll,
    )
}


def outcome_of(command):
    function = COMMANDS[command.pop("do")]
    store = CheckpointStore(command.pop("root"), fsync=command.pop("fsync"))
    try:
        return function(store, **command)
    except Exception:
        return {"outcome": "error", "traceback": traceback.format_exc()}


@functools.cache
def import_all(root):
    """Import here what children would else import: it is they alone who connect."""
    fsspec.get_filesystem_class(fsspec.utils.get_protocol(root))
    store = CheckpointStore("memory://imports")
    saved(Checkpointer(store, verbose=False).checkpoint, "x", bag_of(0, 1, 1))


def outcome_of_mortal(command, seconds):
    """Let a child do it, and kill that so many seconds after the barrier."""
    import_all(command["root"])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        past_the_barrier.append(lambda: os.write(writing, b"\n"))
        os.write(writing, json.dumps(outcome_of(command)).encode() + b"\n")
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 1)  # at the barrier, or what went wrong before that
    if not select.select([reading], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    while more := os.read(reading, 65536):
        said += more
    os.close(reading)
    os.waitpid(child, 0)
    return json.loads(said) if said.strip() else {"outcome": "killed"}


def main():
    # On an object store a run is known to go on by what it stores while another looks.
    # One waits for the machine here: a busy one may need seconds for a partition.
    _rivals._LEAST_SECONDS = _rivals._MOST_SECONDS = 3.0
    for line in sys.stdin:
        command = json.loads(line)
        seconds = command.pop("killed_after", None)
        if seconds is None:
            answer(outcome_of(command))
        else:
            answer(outcome_of_mortal(command, seconds))


if __name__ == "__main__":
    main()
