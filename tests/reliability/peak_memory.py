"""What one call after another costs in memory; run by test_resources and test_large.

    python -m tests.reliability.peak_memory msgpack|zstd|text ROOT FEW MANY
    python -m tests.reliability.peak_memory partitions ROOT NUMBER
    python -m tests.reliability.peak_memory load ROOT NUMBER
    python -m tests.reliability.peak_memory dask NUMBER

The first saves, resumes, loads, verifies and repairs one partition of FEW records and
then one of MANY. The bag's own function yields the records one by one, so that memory
that grows with the partition is the library's. The second does the same with a
checkpoint of NUMBER small partitions, as its driver. The third loads that, in a process
whose memory is clean of other calls; the fourth, for comparison, computes a bag of so
many partitions that are not stored: what dask itself takes.

Prints, as JSON, by how many bytes each call made the peak resident size exceed what was
resident before it; and for MANY also the size of the partition file.
"""

import gc
import json
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dask.bag
from dask.bag import Bag

from agatha_ckpt import Checkpointer, CheckpointStore

NAME, FEW = "big", "few"
NOISE = random.Random(0).randbytes(600_000).hex()  # zstd halves it


def records_of(part, text):
    (count,) = part
    for i in range(count):
        at = i * 600 % (len(NOISE) - 600)
        line = f"record {i} " + NOISE[at : at + 600]
        yield line if text else {"id": i, "text": line, "tags": ("a", "b")}


def counted(part):
    yield sum(1 for _ in part)


def memory_of(what):
    # getrusage gives that of the parent process, if that is larger.
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


def high_water_mark():
    return memory_of("VmHWM")


def growth(call):
    """Return by how much the peak while *call* runs exceeds what was there before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = high_water_mark()
    call()
    return high_water_mark() - before


# ---- one large partition ----


class Large:
    """A checkpoint of one partition of *count* records, and an empty one beside it."""

    def __init__(self, kind, root, count):
        self.text = kind == "text"
        compression = "zstd" if kind == "zstd" else None
        self.ckpt = Checkpointer(root, verbose=False, compression=compression)
        self.name, self.count = f"{NAME}-{count}", count
        self.folder = Path(root, self.name)

    @property
    def bag(self):
        bag = dask.bag.from_sequence([self.count, 0], npartitions=2)
        return bag.map_partitions(records_of, self.text)

    def save(self):
        self.ckpt.checkpoint(self.name, self.bag, textfile=self.text, scheduler="sync")

    def file(self, index):
        [path] = self.folder.glob(f"part-{index:05}-*")
        return path

    def resume(self):
        """Check the large partition, and save the other one."""
        (self.folder / "__done__").unlink()
        self.file(1).unlink()
        kept = self.file(0)
        self.save()
        assert self.file(0) == kept

    def load(self):
        found = self.ckpt.checkpoint(self.name).map_partitions(counted)
        assert found.compute(scheduler="sync") == [self.count, 0]

    def verify(self):
        assert self.ckpt.store.verify(self.name) == []

    def repair(self):
        """Find the large partition damaged at its end, and compute it again."""
        damaged = self.file(0)
        with open(damaged, "r+b") as file:
            file.seek(-100, 2)
            file.write(b"\0" * 50)
        self.ckpt.repair(self.name, self.bag, scheduler="sync")
        assert self.file(0) != damaged


def large(kind, root, few, many):
    found = {}
    for count in (few, many):
        case = Large(kind, root, count)
        for call in (case.save, case.resume, case.load, case.verify, case.repair):
            found.setdefault(call.__name__, []).append(growth(call))
        found.setdefault("size", []).append(case.file(0).stat().st_size)
    return found


# ---- many partitions ----


def numbered(part):
    (index,) = part
    return [(index, i) for i in range(3)]


def all_numbered(number):
    return [(index, i) for index in range(number) for i in range(3)]


class Anywhere:
    """A partition that is generated as it is read."""

    def __init__(self, index):
        self.index = index

    def __iter__(self):
        return iter(numbered([self.index]))


def growth_of_a_load(make, number):
    """Return the bytes that a load of a bag from *make* takes for each partition."""

    def load(number):
        assert make(number).compute(scheduler="sync") == all_numbered(number)

    load(10)  # imports are not to be counted
    return growth(lambda: load(number)) // number


def from_nowhere(number):
    return Bag({("x", i): (list, (Anywhere, i)) for i in range(number)}, "x", number)


def partitions(root, number):
    ckpt = Checkpointer(CheckpointStore(root, fsync=False), verbose=False)
    folder = Path(root, NAME)
    found = {}

    def bag_of(number):
        bag = dask.bag.from_sequence(range(number), partition_size=1)
        return bag.map_partitions(numbered)

    def save(bag):
        ckpt.checkpoint(NAME, bag, scheduler="sync")

    def measured(what, call, bag):
        started = time.perf_counter()
        found[what] = growth(lambda: call(bag)) // number
        found[f"{what}, seconds"] = round(time.perf_counter() - started, 1)

    ckpt.checkpoint(FEW, bag_of(10), scheduler="sync")
    bag = bag_of(number)
    measured("save", save, bag)
    (folder / "__done__").unlink()
    kept = sorted(folder.iterdir())
    for path in kept[::2]:
        path.unlink()
    measured("resume", save, bag)
    assert set(kept[1::2]) <= set(folder.iterdir())
    assert len(list(folder.iterdir())) == number + 1
    measured("open with the bag", save, bag)
    command = [sys.executable, "-m", __spec__.name, "load", root, str(number)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found |= json.loads(done.stdout)
    found["load, seconds"] = round(time.perf_counter() - started, 1)
    measured("clear", lambda _: ckpt.clear(NAME), bag)
    assert not folder.exists()
    return found


def main():
    what, *arguments = sys.argv[1:]
    if what == "dask":
        [number] = arguments
        found = {"load": growth_of_a_load(from_nowhere, int(number))}
    elif what == "load":
        root, number = arguments
        ckpt = Checkpointer(root, verbose=False)
        stored = {10: FEW, int(number): NAME}
        found = {
            "load": growth_of_a_load(lambda n: ckpt.checkpoint(stored[n]), int(number))
        }
    else:
        root, *numbers = arguments
        measure = partitions if what == "partitions" else partial(large, what)
        found = measure(root, *map(int, numbers))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
