"""P10, and what calls cost and leave behind."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from functools import partial, partialmethod
from pathlib import Path

import dask.bag
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import Checkpointer, CheckpointStore, EncodeError, Plan
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import partition_filename
from tests.dask.cluster_cases import wait_until

PEAK_MEMORY = Path(__file__).with_name("peak_memory.py")
MB = 1_000_000
THREADS = {"scheduler": "threads", "num_workers": 3}


def peak_memory(*arguments):
    command = [sys.executable, str(PEAK_MEMORY), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["msgpack", "zstd", "text"])
def test_peak_memory_does_not_grow_with_the_partition_P10(
    tmp_path, kind, record_property
):
    few, many = 1_000, 100_000
    found = peak_memory(kind, tmp_path, few, many)
    sizes = found.pop("size")
    assert sizes[1] > 90 * sizes[0] > 25 * MB
    assert list(found) == ["save", "resume", "load", "verify", "repair"]
    for call, (_, growth) in found.items():
        record_property("figures", f"{call} of {sizes[1]:,} bytes: {growth:+,} bytes")
        assert growth < 8 * MB, call


# ---- many partitions ----

# Bytes of the driver's for each partition; of saving it, dask has 5,000.
PER_PARTITION = {
    "save": 12_000,
    "resume": 6_000,
    "open with the bag": 2_000,
    "clear": 1_000,
}
# What loading it may take beside what dask takes, from 2,500 on: a task that holds what
# the marker says of the partition, 510 bytes of objects, and what the allocator rounds.
OF_A_LOAD = 1_000


@pytest.mark.parametrize(
    "number",
    [
        10_000,
        pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3_600)]),
    ],
)
def test_a_driver_takes_a_few_kilobytes_a_partition_to_save_resume_and_load(
    tmp_path, number, record_property
):
    """With half of the partitions there; which records are loaded is checked."""
    found = peak_memory("partitions", tmp_path, number)
    dasks = peak_memory("dask", number)["load"]
    record_property("figures", f"load of dask's own: {dasks:,} bytes each")
    for call, limit in (PER_PARTITION | {"load": dasks + OF_A_LOAD}).items():
        seconds = found[f"{call}, seconds"]
        record_property("figures", f"{call}: {found[call]:,} bytes each, {seconds} s")
        assert found[call] < limit, call


# ---- call after call ----


@dataclass(frozen=True)
class Held:
    """What this process holds of the system."""

    descriptors: int
    threads: int  # of Python
    tasks: int  # of the system

    @classmethod
    def now(cls):
        gc.collect()
        return cls(
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(os.listdir("/proc/self/task")),
        )


class OwnError(Exception):
    """Of the bag's own function."""


def stop(index):
    if index == 1:
        raise OwnError


def unknown(index):
    return [index, *([object()] if index == 1 else [])]


# What makes a save fail when one partition may be stored already, and another be at it.
FAILURES = {OwnError: stop, EncodeError: unknown, SystemExit: sys.exit}


def records_of(function, part):
    (index,) = part
    yield from ((index, "x" * 1_000) for _ in range(400))
    if index == 1:
        yield from function(index) or ()


def a_round(root, number):
    """Save, load and clear; fail to save, go on from what is left, and clear."""
    checkpointer = Checkpointer(root, verbose=False)
    bag = dask.bag.from_sequence(range(3), npartitions=3)

    def save(function):
        saved = bag.map_partitions(partial(records_of, function))
        return checkpointer.checkpoint("x", saved, **THREADS)

    error, function = list(FAILURES.items())[number % len(FAILURES)]
    with pytest.raises(error):
        save(function)
    assert not checkpointer.is_done("x")
    loaded = save(lambda index: None)
    indexes = [r[0] for r in loaded.compute(**THREADS)]
    assert indexes == [0] * 400 + [1] * 400 + [2] * 400
    checkpointer.clear("x")


def check_flat(root, first, last, spool, record_property):
    """What is held after so many rounds is what was held after the first of them.

    What is kept for the next call grows to what calls need at the same moment, by
    chance: connections to a server, threads of a pool. So where more is held, as many
    rounds follow again. What calls leave behind grows each time.
    """
    held = []

    def most_held(rounds):
        """Return the most that was held in the last of so many rounds in all."""
        for number in range(len(held), rounds):
            a_round(root, number)
            held.append(Held.now())
        assert list(spool.iterdir()) == []
        return Held(*map(max, zip(*map(astuple, held[-first // 2 :]), strict=True)))

    before = most_held(first)
    for last_of_these in range(last, 4 * last, last - first):
        after = most_held(last_of_these)
        more = {
            what: f"{getattr(before, what)}, then {number}"
            for what, number in asdict(after).items()
            if number > getattr(before, what)
        }
        if not more:
            break
        before = after
    record_property("figures", f"{after} after {len(held)} rounds, {before} before")
    assert not more


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """The folder for temporary files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def young():
    """Let the garbage collector walk no objects but those that the test makes.

    Among what the tests before have left to live on, each of its rounds takes long.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("young")
def test_200_saves_200_that_fail_200_loads_and_200_clears_leave_nothing(
    tmp_path, spool, record_property
):
    """P6: no descriptor, no thread, and no file."""
    root = tmp_path / "root"
    check_flat(root, 40, 200, spool, record_property)
    wait_until(lambda: list(root.rglob("*")) == [])


@pytest.mark.usefixtures("young")
@pytest.mark.parametrize("rounds", [40, pytest.param(200, marks=pytest.mark.long)])
def test_call_after_call_leaves_nothing_on_s3(s3, rounds, spool, record_property):
    check_flat(s3.new_root(), 20, rounds, spool, record_property)


# ---- requests ----


class Counting(MemoryFileSystem):
    """The memory filesystem, counting what would be requests to an object store."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.requests = []
        self._inside = False

    def _request(self, kind, path, *args, **kwargs):
        # One request, whatever calls the filesystem makes of itself to answer it.
        outermost, self._inside = not self._inside, True
        if outermost:
            self.requests.append((kind, str(path).rsplit("/", 1)[-1]))
        try:
            return getattr(super(), kind)(path, *args, **kwargs)
        finally:
            self._inside = not outermost

    ls = partialmethod(_request, "ls")
    cat_file = partialmethod(_request, "cat_file")
    pipe_file = partialmethod(_request, "pipe_file")
    exists = partialmethod(_request, "exists")
    info = partialmethod(_request, "info")
    rm = partialmethod(_request, "rm")
    rm_file = partialmethod(_request, "rm_file")


@pytest.fixture
def counting(tmp_path):
    fs = Counting()
    root = f"/counting-{tmp_path.name}"
    yield CheckpointStore(root, fs=fs)
    for path in [p for p in fs.store if p.startswith(root)]:
        del fs.store[path]  # rm takes time that grows with the square of the files


def numbers(npartitions):
    return dask.bag.from_sequence(range(npartitions), partition_size=1)


def test_requests_of_each_call_are_few(counting):
    checkpointer = Checkpointer(counting, verbose=False)
    requests = counting.fs.requests

    def cost(call):
        requests.clear()
        call()
        return len(requests)

    def checkpoint(*bag):
        return checkpointer.checkpoint("x", *bag, scheduler="sync")

    n = 12
    assert cost(lambda: checkpoint(numbers(n))) <= n + 4
    assert cost(checkpoint) == 1
    assert cost(lambda: checkpoint(numbers(n))) == 2
    assert cost(lambda: checkpointer.is_done("x")) == 1
    assert cost(lambda: checkpointer.is_done("absent")) == 1
    loaded = checkpoint()
    assert cost(lambda: loaded.compute(scheduler="sync")) == n
    assert cost(lambda: loaded.count().compute(scheduler="sync")) == 0


def test_opening_100_000_partitions_takes_at_most_2_requests(counting):
    n = 100_000
    plan = Plan(n)
    infos = [
        PartitionInfo(partition_filename(plan, i, f"{i:016x}"), 0, 0, "0" * 32)
        for i in range(n)
    ]
    folder = counting.fs._strip_protocol(str(counting.path("x")))
    for info in infos:
        counting.fs.store[f"{folder}/{info.file}"] = Empty()
    counting.mark_done("x", Manifest(plan, tuple(infos)))
    requests = counting.fs.requests
    for bag in ((), (numbers(n),)):
        requests.clear()
        checkpointer = Checkpointer(counting, verbose=False)
        loaded = checkpointer.checkpoint("x", *bag)
        assert loaded.npartitions == len(loaded.dask) == n
        assert len(requests) <= 2, requests


class Empty:
    """What the memory filesystem lists as a file of no bytes."""

    size = 0
    created = modified = datetime.now(UTC)


def test_opening_local_checkpoints_looks_at_no_partition_file(local):
    checkpointer = Checkpointer(local, verbose=False)
    checkpointer.checkpoint("x", numbers(20), scheduler="sync")
    opened = []

    def hook(event, arguments):
        if event in ("open", "os.scandir", "os.listdir") and watching:
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(hook)
    try:
        checkpointer.checkpoint("x")
    finally:
        watching = False  # a hook cannot be taken back
    ours = [path for path in opened if str(local.root) in path]
    assert ours == [str(local.done_marker("x"))]
