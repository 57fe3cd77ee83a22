"""P10, and what opening a large checkpoint costs."""

import subprocess
import sys
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path

import dask.bag
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._layout import Plan, partition_filename
from agatha_ckpt._manifest import Manifest, PartitionInfo

PEAK_MEMORY = Path(__file__).with_name("peak_memory.py")
MB = 1_000_000


def peak_memory(action, root, records):
    command = [sys.executable, str(PEAK_MEMORY), action, str(root), str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("suffix", ["", "-text"])
def test_peak_memory_does_not_grow_with_the_partition_P10(tmp_path, suffix):
    small, large = tmp_path / "small", tmp_path / "large"
    for action in ("save", "load"):
        few = peak_memory(action + suffix, small, 10_000)
        many = peak_memory(action + suffix, large, 200_000)
        assert many - few < 50 * MB
    sizes = [
        sum(f.stat().st_size for f in r.glob("big/part-*")) for r in (small, large)
    ]
    assert sizes[1] > 19 * sizes[0] > 100 * MB


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
