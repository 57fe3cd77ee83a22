"""Rounds of saves on a cluster, in each of which one worker is killed in the middle.

Only partitions that were in flight on that worker may be computed again. The moments
are drawn from a seed, and the findings are figures.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from agatha_ckpt import Checkpointer
from tests.dask import cluster_cases as cases

PARTITIONS, WORK = 60, 0.02

SHAPES = {
    "lazy": (partial(cases.bag_of, lazy=True), cases.records_of, {}),
    "list": (partial(cases.bag_of, lazy=False), cases.records_of, {}),
    "text": (
        partial(cases.bag_of, records=cases.lines_of),
        cases.lines_of,
        {"textfile": True},
    ),
}


def work(index):
    time.sleep(WORK)


def kill_when(log, computed, delay, pid, stored):
    """Kill a worker that long after so many partitions were begun.

    It is stopped first, so that it stores nothing between the listing and its death.
    """
    cases.wait_until(lambda: log.read_text().count("\n") >= computed)
    threading.Event().wait(delay)
    os.kill(pid, signal.SIGSTOP)
    try:
        return stored()
    finally:
        os.kill(pid, signal.SIGKILL)


def one_round(client, store, shape, rng, log):
    make_bag, records, options = SHAPES[shape]
    checkpointer = Checkpointer(store, verbose=False)
    name = log.stem
    folder = store.path(name)
    log.touch()
    pids = client.run(os.getpid)
    killed = rng.choice(sorted(pids.values()))
    kill = partial(
        kill_when,
        log,
        rng.randrange(4, PARTITIONS - 4),
        rng.uniform(0, WORK),
        killed,
        lambda: cases.stored_partitions(store.fs, folder),
    )
    bag = make_bag(log, work, npartitions=PARTITIONS)
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        checkpointer.checkpoint(name, bag, **options)
        stored = killing.result()
    computed = cases.computed(log)
    again = {index for index, times in computed.items() if times > 1}
    first = {}
    for entry in cases.entries(log):
        first.setdefault(entry["partition"], entry["pid"])
    loaded = checkpointer.checkpoint(name).compute(scheduler="sync")
    files = {path.rsplit("/", 1)[1] for path in store.fs.find(folder)}
    named = store.manifest(name).files | {"__done__"}
    client.wait_for_workers(len(pids))
    return {
        "wrong": loaded != cases.all_of(records, PARTITIONS),
        "left over": len(files ^ named),
        "elsewhere": sum(first[index] != killed for index in again),
        "recomputed": computed.total() - PARTITIONS,
        "middle": 0 < len(stored) < PARTITIONS,
        "stored": len(stored),
    }


def rounds(client, store, shape, number, seed, folder, recomputed=0):
    """Return the sums over all rounds; a round that went wrong is printed.

    A kill may come before anything is stored, or after all is. So there are rounds
    until *number* came in the middle, and so many partitions were computed again; but
    no more than four times as many.
    """
    print(f"{shape}, seed {seed}")
    totals = Counter()
    for i in range(4 * number):
        if totals["middle"] >= number and totals["recomputed"] >= recomputed:
            break
        rng = random.Random(f"{seed} {shape} {i}")
        found = one_round(client, store, shape, rng, folder / f"{shape}-{i}")
        if found["wrong"] or found["left over"] or found["elsewhere"]:
            print(f"round {i}: {found}")
        totals.update(found)
    print(dict(totals))
    return totals
