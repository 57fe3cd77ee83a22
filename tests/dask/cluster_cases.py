"""What the workers of a cluster are given to do by test_distributed.

A bag's functions travel to the workers by name, so they stand in a module that is quick
to import. What must outlive a worker is kept in files.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dask.bag
import fsspec
from distributed import SchedulerPlugin, WorkerPlugin, get_worker

from agatha_ckpt._format.names import parse_filename

PARTITIONS, SIZE = 8, 40
_SECONDS = 180  # within which what must come about has come about, on any machine


def wait_until(condition):
    """Return the first true value of *condition*, looked at every few milliseconds."""
    pause = threading.Event()
    until = time.monotonic() + _SECONDS
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{condition} did not come true in {_SECONDS} seconds")
        pause.wait(0.005)
    return value


def stored_partitions(fs, folder):
    """Return the numbers of the partitions that have a file, as anybody sees them."""
    try:
        listing = fs.ls(str(folder), detail=False, refresh=True)
    except FileNotFoundError:
        return set()
    names = [parse_filename(path.rsplit("/", 1)[1]) for path in listing]
    return {name.index for name in names if name}


# ---- a log that all workers write, and no death of one can damage ----


def append(log, **entry):
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{json.dumps(entry)}\n".encode())
    finally:
        os.close(descriptor)


def entries(log):
    return [json.loads(line) for line in Path(log).read_text().splitlines()]


def computed(log):
    """Return how often each partition was computed."""
    return Counter(entry["partition"] for entry in entries(log))


def first_time(folder, what):
    """Say whether nobody has asked this of *what* before, in any process."""
    try:
        os.close(os.open(Path(folder, f"first-{what}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


# ---- bags ----


def records_of(index):
    return [(index, i, {"text": f"é{i}"}) for i in range(SIZE)]


def lines_of(index):
    return [f"{index} {i} é" for i in range(SIZE)]


def random_records(index):
    run = uuid.uuid4()
    return [(index, i, run, uuid.uuid4()) for i in range(SIZE)]


def random_lines(index):
    return [f"{index} {i} {uuid.uuid4()}" for i in range(SIZE)]


def all_of(records=records_of, npartitions=PARTITIONS):
    return [record for i in range(npartitions) for record in records(i)]


def where_we_are():
    try:
        return get_worker().address
    except ValueError:
        return None


@dataclass(frozen=True)
class Compute:
    """Notes who computes a partition, acts as the test wants, and returns it.

    Fingerprints cover the records alone.
    """

    log: str
    records: Callable[[int], list]
    act: Callable[[int], None]
    lazy: bool

    def __dask_tokenize__(self):
        return getattr(self.records, "func", self.records).__name__

    def __call__(self, part):
        (index,) = part
        append(self.log, partition=index, pid=os.getpid(), worker=where_we_are())
        if self.lazy:
            return lazily(index, self.records, self.act)
        self.act(index)
        return self.records(index)


def lazily(index, records, act):
    """Give half of a partition, act, and give the rest."""
    whole = records(index)
    yield from whole[: len(whole) // 2]
    act(index)
    yield from whole[len(whole) // 2 :]


def nothing(index):
    pass


def bag_of(log, act=nothing, records=records_of, lazy=True, npartitions=PARTITIONS):
    numbers = dask.bag.from_sequence(range(npartitions), partition_size=1)
    return numbers.map_partitions(Compute(str(log), records, act, lazy))


def with_pid(record):
    return os.getpid(), record


# ---- what functions of bags do ----


class UserError(Exception):
    """Of the bag's own function."""


def fail_the_first_time(index, folder):
    if first_time(folder, index):
        raise UserError(f"flaky {index}")


def wait_for(index, path):
    wait_until(Path(path).exists)


def wait_at(index, at, path):
    if index == at:
        wait_for(index, path)


def wait_for_others(root_folder, others):
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    wait_until(lambda: len(stored_partitions(fs, root_folder)) >= others)


def fail_at(index, at, folder, others):
    if index == at:
        wait_for_others(folder, others)
        raise UserError(f"no partition {index}")


def exit_at(index, at, folder, others):
    if index == at:
        wait_for_others(folder, others)
        os._exit(1)


def unknown_type_at(index, at, folder, others):
    if index != at:
        return records_of(index)
    wait_for_others(folder, others)
    return [*records_of(index), object()]


# ---- workers that die at an exact moment ----


def is_task_of(key, index):
    """Say whether *key* is that of the task that saves a partition."""
    return isinstance(key, tuple) and key[0].startswith("save:") and key[1] == index


class DieUnreported(WorkerPlugin):
    """The worker dies when a partition is stored, before it says so."""

    name = "die-unreported"

    def __init__(self, folder, index):
        self.folder, self.index = str(folder), index

    def transition(self, key, start, finish, **kwargs):
        stored = finish == "memory" and is_task_of(key, self.index)
        if stored and first_time(self.folder, "death"):
            os._exit(1)


class KillReported(SchedulerPlugin):
    """A worker dies when it has said that it stored a partition, and holds the result.

    The scheduler of a LocalCluster lives in the test's process.
    """

    name = "kill-reported"

    def __init__(self, folder, index, pids):
        self.folder, self.index, self.pids = str(folder), index, pids

    def transition(self, key, start, finish, *args, worker=None, **kwargs):
        stored = finish == "memory" and is_task_of(key, self.index)
        if stored and first_time(self.folder, "death"):
            os.kill(self.pids[worker], 9)


# ---- run on the scheduler or on a worker ----


def priorities(dask_scheduler):
    return {
        key: task.priority[0]
        for key, task in dask_scheduler.tasks.items()
        if isinstance(key, tuple) and key[0].startswith("save:")
    }


def waiting_tasks(dask_worker):
    """How many tasks a worker has been given beside the one that it is at."""
    return len(dask_worker.state.tasks) - len(dask_worker.state.executing)


def left_over(dask_scheduler):
    """Return what is on the scheduler of tasks, and of notes about tasks."""
    return [*map(str, dask_scheduler.tasks), *map(str, dask_scheduler.task_metadata)]


@contextlib.contextmanager
def a_cluster(folder, n_workers, processes=True, **options):
    """A cluster on this machine, on free ports, with one thread for each worker."""
    from distributed import LocalCluster

    # A task may lose one worker: tests kill no more, but the one that wants an error.
    config = {
        "distributed.scheduler.allowed-failures": 1,
        # So long after a death, a worker that is dying once more would be given up.
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=processes,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            local_directory=folder,
            **options,
        ) as cluster,
    ):
        yield cluster
