"""How much memory does a worker need for partitions of 10 MB to 2 GB?

    python -m tests.benchmarks.memory [--quick] [--scale 0.1] [--only zstd/load]

Each figure is the peak resident size (VmHWM) of a process of its own that saves one
partition, or loads it and touches every record. The bag hands its records out one by
one, so that what grows with the partition is the library's. Sizes are of the encoded
records, before compression. ``spooled`` is a filesystem that is not local disk, as an
object store is: files are encoded to a spool and uploaded, and read in ranges.

``--scale`` shortens the list of sizes: with 0.1 the largest is 200 MB.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import dask.bag
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.benchmarks import common
from tests.benchmarks.workloads import WORKLOADS, touch

MB = 1_000_000
SIZES = (10 * MB, 50 * MB, 200 * MB, 1_000 * MB, 2_000 * MB)
KINDS = ("plain", "zstd", "spooled")
NAME = "large"


def repeated(parse, path, times, part):
    for _ in range(times):
        yield from parse(path)


def checkpointer(kind, root):
    store = root
    if kind == "spooled":
        Path(root).mkdir(exist_ok=True)
        store = CheckpointStore("/", fs=DirFileSystem(root, fs=LocalFileSystem()))
    compression = "zstd" if kind == "zstd" else None
    return Checkpointer(store, verbose=False, compression=compression)


def child(action, kind, root, path, times):
    """Save or load one partition in this process, and print its peak."""
    ckpt = checkpointer(kind, root)
    parse = WORKLOADS["sentences"].parse
    if action == "save":
        one = dask.bag.from_sequence([0], npartitions=1)
        bag = one.map_partitions(partial(repeated, parse, path, int(times)))
        ckpt.checkpoint(NAME, bag, scheduler="sync")
    elif action == "load":
        ckpt.checkpoint(NAME).map_partitions(touch).compute(scheduler="sync")
    # getrusage includes the peak of the parent process.
    status = Path("/proc/self/status").read_text()
    print(json.dumps(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024))


def peak(*arguments):
    command = [sys.executable, __file__, "child", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main():
    arguments = common.parser(__doc__).parse_args()
    rounds = arguments.rounds or 1
    largest = 2 * MB if arguments.quick else SIZES[-1] * arguments.scale
    sizes = [s for s in SIZES if s <= largest] or [MB, int(largest)]
    kinds = KINDS[2:] if arguments.quick else KINDS
    wanted = [
        (action, kind)
        for kind in kinds
        for action in ("save", "load")
        if common.is_wanted(arguments, action, kind)
    ]
    report = common.Report("memory.py", arguments)
    found = defaultdict(list)
    with common.folder(arguments) as folder:
        # So few records that reading them once is a small part of any size.
        prepared = WORKLOADS["sentences"].prepared(folder, 0.02)
        bytes_each = encoded_bytes(folder, prepared)
        for _ in range(rounds):
            for size in sizes:
                report.say(f"{size / MB:,.0f} MB")
                for kind in dict.fromkeys(kind for _, kind in wanted):
                    report.noise.sample()
                    times = -(-size // bytes_each)
                    peaks = save_and_load(folder, kind, prepared.path, times)
                    for action, value in peaks.items():
                        found[action, kind, size].append(value)
    tell(report, wanted, found, sizes)


def encoded_bytes(folder, prepared):
    """Return the encoded size of one reading of the file."""
    root = folder / "once"
    one = dask.bag.from_sequence([0], npartitions=1)
    parse = prepared.workload.parse
    bag = one.map_partitions(partial(repeated, parse, prepared.path, 1))
    checkpointer("plain", root).checkpoint(NAME, bag, scheduler="sync")
    return common.stored_bytes(root)


def save_and_load(folder, kind, path, times):
    """Save one partition and load it, each in its own process; return the peaks."""
    root = folder / kind
    found = {what: peak(what, kind, root, path, times) for what in ("save", "load")}
    shutil.rmtree(root)
    return found


def tell(report, wanted, found, sizes):
    nothing = peak("nothing", "plain", "/nowhere", "", 0)
    first, last = sizes[0], sizes[-1]
    rows = []
    for action, kind in wanted:
        for size in sizes:
            values = found[action, kind, size]
            report.row(what=action, kind=kind, partition_bytes=size, values=values)
        shown = [f"{common.median(found[action, kind, s]) / MB:.0f}" for s in sizes]
        growth = max(found[action, kind, last]) - min(found[action, kind, first])
        rows.append([action, kind, *shown, f"{growth / MB:.1f}"])
        measure = f"{action}, {kind}, {last / MB:,.0f} MB against {first / MB:.0f} MB"
        report.target(measure, round(growth / MB, 1), at_most=50, unit="MB more")
    report.table(
        "Peak memory of a worker in MB, by size of the partition "
        f"({nothing / MB:.0f} MB when it has done nothing)",
        ["", "", *(f"{size / MB:,.0f} MB" for size in sizes), "growth"],
        rows,
    )
    report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main()
