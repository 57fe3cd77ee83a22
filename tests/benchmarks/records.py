"""How fast is `store.records`, against bare msgpack reading the same files?

    python -m tests.benchmarks.records [--quick] [--scale 0.25] [--only tuples]

A checkpoint of four partitions is read in one process, and each record is touched.
Bare msgpack knows beforehand where the blocks of the files are, checks nothing, and
unpacks each with one call.
"""

from collections import deque

import dask.bag
import msgpack

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._format import framing
from tests.benchmarks import common
from tests.benchmarks.workloads import WORKLOADS

NAME = "x"
PARTITIONS = 4


class Case:
    """A stored checkpoint of some kind of records."""

    def __init__(self, root, records, use_list):
        self.store = CheckpointStore(root, fsync=False)
        bag = dask.bag.from_sequence(records, npartitions=PARTITIONS)
        ckpt = Checkpointer(self.store, verbose=False)
        ckpt.checkpoint(NAME, bag, scheduler="sync")
        self.use_list = use_list
        counts = [info.records for info in self.store.manifest(NAME).partitions]
        paths = self.store.files(NAME)
        self.blocks = {
            path: list(places(path, count))
            for path, count in zip(paths, counts, strict=True)
        }

    def ours(self):
        return {"read": common.seconds(deque, self.store.records(NAME), maxlen=0)}

    def bare(self):
        return {"read": common.seconds(deque, self._bare(), maxlen=0)}

    def _bare(self):
        for path, blocks in self.blocks.items():
            with open(path, "rb") as file:
                for start, size in blocks:
                    file.seek(start)
                    yield from msgpack.unpackb(
                        file.read(size), strict_map_key=False, use_list=self.use_list
                    )


def places(path, records):
    """Yield where each block of a file begins, and its size."""
    with open(path, "rb") as file:
        at, found = framing.HEADER_BYTES, 0
        while found < records:
            file.seek(at)
            head = framing.split_block_head(file.read(framing.BLOCK_HEAD_BYTES))
            at += framing.BLOCK_HEAD_BYTES
            yield at, head[3]
            at, found = at + head[3], found + head[1]


def main():
    arguments = common.parser(__doc__).parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 11)
    scale = 0.02 if arguments.quick else arguments.scale
    report = common.Report("records.py", arguments)
    table = []
    with common.folder(arguments) as root:
        for name in ("sentences", "tuples", "strings"):
            if not common.is_wanted(arguments, name):
                continue
            report.say(name)
            records = list(WORKLOADS[name].prepared(root, scale).records())
            case = Case(root / name, records, use_list=name != "tuples")
            contestants = {"ours": case.ours, "bare": case.bare}
            samples = common.in_turn(contestants, rounds, report, warm=True)
            ratio = common.ratio(samples["ours", "read"], samples["bare", "read"])
            report.row(records=name, what="read", ratio=ratio)
            report.target(f"store.records of {name}", ratio, at_most=1.3)
            table.append([name, ratio])
    report.table("Time of store.records over bare msgpack", ["records", "read"], table)
    report.finish()


if __name__ == "__main__":
    main()
