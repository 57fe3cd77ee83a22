"""How far are save and load from what the hardware and msgpack allow?

    python -m tests.benchmarks.limit [--quick] [--scale 0.25] [--only sentences/sync]

The limit is a function of a few lines, computed as tasks of the same scheduler, in as
many processes, over the same bag: for each partition one msgpack.Packer packs the
records in lists of about 64 KiB, and bare `open().write()` writes each list with its
length before it; reading is `open().read()` of each length and `msgpack.unpackb`. It
has no checksums, no types of its own (a tuple comes back a list; only an array has a
hook of one line, as msgpack refuses it), no file that appears when it is whole, and
no marker. With fsync it syncs each file before it closes it.

Saving is given net: the time to only compute the bag, on the same scheduler and in the
same round, is taken off both. On a cluster that time is not what it is elsewhere: so
the table ends with the saves as they are, and with what computing takes of a bare one;
`ticking` shows what a worker's event loop does to it.
"""

import shutil
from functools import partial
from pathlib import Path

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.benchmarks import common
from tests.benchmarks.bare import bare_bag, bare_write
from tests.benchmarks.schedulers import PROCESSES, scheduler
from tests.benchmarks.workloads import WORKLOADS, drain, touch

NAME = "records"
HEADS = ["records", "scheduler", "save, net", "with fsync", "load", "bytes"]
HEADS += ["computing, of a bare save", "save, not net"]
SCHEDULERS = ("sync", "ticking", "pool", "cluster")


class Case:
    """A workload on a scheduler."""

    def __init__(self, prepared, npartitions, root, compute_kw):
        self.prepared = prepared
        self.bag = prepared.bag(npartitions)
        self.root = Path(root)
        self.compute_kw = compute_kw
        self.right = prepared.touched() * npartitions

    def only_compute(self):
        drained = self.bag.map_partitions(drain)
        return {"compute": common.seconds(drained.compute, **self.compute_kw)}

    def ours(self, fsync):
        root = self.root / "ours"
        ckpt = Checkpointer(CheckpointStore(root, fsync=fsync), verbose=False)
        found = {
            "save": common.seconds(ckpt.checkpoint, NAME, self.bag, **self.compute_kw),
            "bytes": common.stored_bytes(root),
        }
        if not fsync:
            found["load"] = common.seconds(self._touch, lambda: ckpt.checkpoint(NAME))
        shutil.rmtree(root)
        return found

    def bare(self, fsync):
        root = self.root / "bare"
        root.mkdir()
        write = partial(bare_write, str(root), self.prepared.in_a_block, fsync)
        found = {
            "save": common.seconds(
                self.bag.map_partitions(write).compute, **self.compute_kw
            ),
            "bytes": common.stored_bytes(root),
        }
        if not fsync:
            found["load"] = common.seconds(self._touch, partial(bare_bag, root))
        shutil.rmtree(root)
        return found

    def _touch(self, open_bag):
        touched = open_bag().map_partitions(touch)
        assert sum(touched.compute(**self.compute_kw)) == self.right

    def contestants(self):
        return {
            "compute": self.only_compute,
            "ours": partial(self.ours, False),
            "bare": partial(self.bare, False),
            "ours, fsync": partial(self.ours, True),
            "bare, fsync": partial(self.bare, True),
        }


def compared(samples):
    """Return the three ratios of a case: save, save with fsync, load."""
    compute = samples["compute", "compute"]
    found = {}
    for what, ours, bare in (
        ("save, net", "ours", "bare"),
        ("save, net, fsync", "ours, fsync", "bare, fsync"),
    ):
        found[what] = common.ratio(
            common.minus(samples[ours, "save"], compute),
            common.minus(samples[bare, "save"], compute),
        )
    found["load"] = common.ratio(samples["ours", "load"], samples["bare", "load"])
    return found


def not_net(samples):
    """Return the share of computing in a bare save, and the saves not net of it."""
    bare = samples["bare", "save"]
    return {
        "computing": common.ratio(samples["compute", "compute"], bare),
        "save": common.ratio(samples["ours", "save"], bare),
    }


def main():
    parser = common.parser(__doc__)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    scale = 0.02 if arguments.quick else arguments.scale
    npartitions = 4 if arguments.quick else 32
    processes = 2 if arguments.quick else PROCESSES
    names = ["sentences", "tuples"] if arguments.quick else list(WORKLOADS)
    report = common.Report("limit.py", arguments)
    table = []
    with common.folder(arguments) as root:
        for which in SCHEDULERS[:2] if arguments.quick else SCHEDULERS:
            wanted = [n for n in names if common.is_wanted(arguments, n, which)]
            if not wanted:
                continue
            with scheduler(which, processes) as compute_kw:
                for name in wanted:
                    report.say(f"{name}, {which}")
                    prepared = WORKLOADS[name].prepared(root, scale)
                    # One process gets as much as each of the others.
                    alone = which in ("sync", "ticking")
                    parts = npartitions // processes if alone else npartitions
                    case = Case(prepared, parts, root, compute_kw)
                    samples = common.in_turn(
                        case.contestants(), rounds, report, warm=True
                    )
                    table.append(one_case(report, name, which, samples))
    report.table("Time taken, against bare msgpack and bare files", HEADS, table)
    report.finish()


def one_case(report, name, which, samples):
    for (who, what), values in samples.items():
        report.row(records=name, scheduler=which, who=who, what=what, values=values)
    found = compared(samples)
    for what, value in found.items():
        report.row(records=name, scheduler=which, what=what, ratio=value)
        if which != "ticking":  # it computes nothing
            report.target(f"{what}, {name}, {which}", value, at_most=1.3)
    size = common.ratio(samples["ours", "bytes"], samples["bare", "bytes"])
    whole = not_net(samples)
    for what, value in whole.items():
        report.row(records=name, scheduler=which, what=f"{what}, not net", ratio=value)
    return [name, which, *found.values(), f"{size.median:.3f}", *whole.values()]


if __name__ == "__main__":
    main()
