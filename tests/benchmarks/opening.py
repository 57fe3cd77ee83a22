"""What do time and memory of opening a done checkpoint of 1,000,000 partitions cost?

    python -m tests.benchmarks.opening [--quick] [--scale 0.1]

The checkpoint is a folder with a done marker and without partition files: opening
reads the marker and builds the graph, and touches no file. Each round is a process of
its own that opens it by name. Time is that of `checkpoint()`; memory is the peak
resident size (VmHWM) beyond that of a process that only imports the same.
"""

import json
import re
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import dask.bag  # noqa: F401

from agatha_ckpt import Checkpointer
from agatha_ckpt._format.done_marker import encode_manifest
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import DONE_MARKER, NO_BASE, new_run, partition_filename
from tests.benchmarks import common

MB = 1_000_000
COUNT = 1_000_000
NAME = "many"


def make(root, count):
    """Write the marker of a done checkpoint of *count* partitions of three records."""
    run, code = new_run(), "parse=0123abcd;tokenize=4567cdef"
    partitions = []
    for index in range(count):
        digest = sha256(b"%d" % index).hexdigest()[:32]
        name = partition_filename(index, digest, NO_BASE, run, "msgpack")
        seconds = 0.001 + index / 2**40
        info = PartitionInfo(name, 3, 145, digest[::-1], seconds, False, digest, code)
        partitions.append(info)
    manifest = Manifest(Plan(count), tuple(partitions), name=NAME, scheme="1")
    folder = Path(root) / NAME
    folder.mkdir()
    (folder / DONE_MARKER).write_bytes(encode_manifest(manifest))


def child(root):
    """Open the checkpoint in this process; print seconds and peak memory."""
    ckpt = Checkpointer(root, verbose=False)
    before = peak()
    started, cpu = time.perf_counter(), time.process_time()
    bag = ckpt.checkpoint(NAME)
    found = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "bytes": peak() - before,
    }
    print(json.dumps(found | {"partitions": bag.npartitions}))


def peak():
    # getrusage includes the peak of the parent process.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main():
    arguments = common.parser(__doc__).parse_args()
    count = 1_000 if arguments.quick else int(COUNT * arguments.scale)
    report = common.Report("opening.py", arguments)
    found = []
    with common.folder(arguments) as folder:
        command = [sys.executable, "-m", "tests.benchmarks.opening"]
        subprocess.run([*command, "make", str(folder), str(count)], check=True)
        for _ in range(arguments.rounds or 3):
            report.settle()
            done = subprocess.run(
                [*command, "child", str(folder)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found.append(json.loads(done.stdout))
    report.row(what="open", partitions=count, rounds=found)
    seconds, cpu, size = (
        common.median([one[key] for one in found])
        for key in ("seconds", "cpu", "bytes")
    )
    report.table(
        "Opening a done checkpoint by name",
        ["partitions", "seconds", "of the processor", "peak memory"],
        [[f"{count:,}", f"{seconds:.2f}", f"{cpu:.2f}", f"{size / MB:,.0f} MB"]],
    )
    if count == COUNT:
        report.target("opening", cpu, at_most=4.5, unit="seconds of the processor")
        report.target("memory for it", round(size / MB), at_most=350, unit="MB")
    report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["child"]:
        child(sys.argv[2])
    else:
        main()
