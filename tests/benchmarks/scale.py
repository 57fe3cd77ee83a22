"""What does a partition cost when there are 1,000 to 100,000 of them?

    python -m tests.benchmarks.scale [--quick] [--scale 0.1] [--only sync]

The partitions are so small (three tuples) that their number is all that counts. Time
is given for each partition: to save them; to resume a save of which every second
partition is stored; to make the fingerprints of the bag; to open the done checkpoint
and build the graph that loads it; and to open it with the bag, which looks for what is
missing. It is compared with dask computing the same bag, on the same scheduler and in
the same round.

``--scale`` shortens the list of sizes: with 0.1 the largest is 10,000. A sync takes
what it takes on the disk at hand: ``--fsync-up-to`` says for how many it is measured.

Nothing is removed before the end, and a run should not follow upon the removal of many
files. Linux's ext4 gives no inode again that was freed in the last minutes, and looks
at each of them whenever a file is made: making one takes 10 times as long then.
"""

from functools import partial
from itertools import count
from pathlib import Path

import dask.bag

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._dask.fingerprint import fingerprints_of
from tests.benchmarks import common
from tests.benchmarks.schedulers import scheduler

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
NAME = "small"
SCHEDULERS = ("sync", "threads", "pool")
AGAINST = {
    "save": ("no fsync", "save"),
    "save with fsync": ("fsync", "save"),
    "resume half": ("no fsync", "resume"),
    "fingerprint": ("no fsync", "fingerprint"),
}
EACH = {
    "dask computes": ("dask", "compute"),
    **AGAINST,
    "open and build the graph": ("no fsync", "open and build the graph"),
    "open with the bag": ("no fsync", "open with the bag"),
}


def numbered(part):
    (index,) = part
    return [("record", index, i) for i in range(3)]


def bag_of(size):
    numbers = dask.bag.from_sequence(range(size), partition_size=1)
    return numbers.map_partitions(numbered)


class Case:
    """A number of partitions on a scheduler."""

    def __init__(self, size, root, compute_kw):
        self.size = size
        self.root = root
        self.compute_kw = compute_kw
        self.numbers = count()

    def only_compute(self):
        bag = bag_of(self.size)
        return {"compute": common.seconds(bag.compute, **self.compute_kw)}

    def save(self, fsync):
        root = self.root / f"{self.size}-{next(self.numbers)}"
        ckpt = Checkpointer(CheckpointStore(root, fsync=fsync), verbose=False)
        found = {"save": self._saved(ckpt)}
        if not fsync:
            self._lose_half(Path(ckpt.store.path(NAME)))
            found["resume"] = self._saved(ckpt)
            found |= self._opened(ckpt)
            found["fingerprint"] = self._fingerprinted()
        return found

    def _saved(self, ckpt):
        bag = bag_of(self.size)
        return common.seconds(ckpt.checkpoint, NAME, bag, **self.compute_kw)

    def _lose_half(self, folder):
        (folder / "__done__").unlink()
        lost = self.root / f"{self.size}-{next(self.numbers)}-lost"
        lost.mkdir()
        for path in sorted(folder.iterdir())[::2]:
            path.rename(lost / path.name)

    def _fingerprinted(self):
        bag = bag_of(self.size)
        return common.seconds(fingerprints_of, bag, version=None, format="msgpack")

    def _opened(self, ckpt):
        bag = bag_of(self.size)
        started = common.now()
        loaded = ckpt.checkpoint(NAME)
        opened = common.now()
        graph = dict(loaded.__dask_graph__())
        built = common.now()
        assert len(graph) >= self.size
        return {
            "open": opened - started,
            "open and build the graph": built - started,
            "open with the bag": common.seconds(ckpt.checkpoint, NAME, bag),
        }

    def contestants(self, fsync):
        found = {"dask": self.only_compute, "no fsync": partial(self.save, False)}
        return found | ({"fsync": partial(self.save, True)} if fsync else {})


def measured(report, sizes, rounds, root, which, compute_kw, fsync_up_to):
    """Return the times by size, contestant and measurement."""
    everything = {}
    for size in sizes:
        case = Case(size, root, compute_kw)
        for who, call in case.contestants(size <= fsync_up_to).items():
            everything[size, who] = call
    bag_of(10).compute(**compute_kw)  # imports, and a warm pool
    samples = common.Samples()
    for number in range(rounds):
        report.say(f"{which}, round {number + 1} of {rounds}")
        common.in_turn(everything, 1, report, samples)
    return samples


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--fsync-up-to", type=int, default=10_000, metavar="N")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    largest = 200 if arguments.quick else SIZES[-1] * arguments.scale
    sizes = [s for s in SIZES if s <= largest] or [int(largest) // 4, int(largest)]
    report = common.Report("scale.py", arguments)
    with common.folder(arguments) as root:
        for which in SCHEDULERS[:2] if arguments.quick else SCHEDULERS:
            if not common.is_wanted(arguments, which):
                continue
            with scheduler(which) as compute_kw:
                samples = measured(
                    report,
                    sizes,
                    rounds,
                    root / which,
                    which,
                    compute_kw,
                    arguments.fsync_up_to,
                )
            one_scheduler(report, which, sizes, samples)
    report.finish()


def one_scheduler(report, which, sizes, samples):
    for ((size, who), what), times in samples.items():
        report.row(scheduler=which, partitions=size, who=who, what=what, values=times)

    def times_of(size, who, what):
        return samples.get(((size, who), what))

    def against_dask(size, who, what):
        times = times_of(size, who, what)
        return times and divided(times, times_of(size, "dask", "compute"))

    rows = []
    for size in sizes:
        found = {head: against_dask(size, *key) for head, key in AGAINST.items()}
        for head, values in found.items():
            report.row(scheduler=which, partitions=size, what=head, ratios=values)
        shown = (common.spread(values) if values else "" for values in found.values())
        rows.append([f"{size:,}", *shown])
    title = f"Time over that of dask's only computing the same bag, {which}"
    report.table(title, ["partitions", *AGAINST], rows)

    rows = []
    for size in sizes:
        found = [times_of(size, *key) for key in EACH.values()]
        rows.append([f"{size:,}", *(microseconds(v, size) for v in found)])
    report.table(f"Microseconds a partition, {which}", ["partitions", *EACH], rows)

    middle = 10_000 if 10_000 in sizes else sizes[-1]
    for what, limit in (("save", 2), ("save with fsync", 3), ("fingerprint", 0.1)):
        if found := against_dask(middle, *AGAINST[what]):
            measure = f"{what} of {middle:,} partitions against dask only, {which}"
            report.target(measure, common.spread(found), at_most=limit)
        least, most = sizes[0], sizes[-1]
        small, large = (against_dask(n, *AGAINST[what]) for n in (least, most))
        if small and large:
            measure = f"{what}, that ratio at {most:,} against at {least:,}, {which}"
            report.target(measure, common.ratio(large, small), at_most=1.3)
    report.target(
        f"opening {most:,} partitions and building the graph, {which}",
        common.median(times_of(most, *EACH["open and build the graph"])) / most * 1e6,
        at_most=20,
        unit="microseconds each",
    )


def divided(times, others):
    return [a / b for a, b in zip(times, others, strict=True)]


def microseconds(times, size):
    if times is None:
        return ""
    each = [t / size * 1e6 for t in times]
    return f"{common.median(each):.0f} ({min(each):.0f} to {max(each):.0f})"


if __name__ == "__main__":
    main()
