"""What does a save to an object store cost beyond its uploads, and a load?

    python -m tests.benchmarks.objects [--quick] [--concurrency 4] [--delay 0.02]

200 partitions are saved and loaded on dask's threads, through a proxy on loopback that
holds each answer of an S3 server back for 20 milliseconds. Compared are bare calls of
the same filesystem, in as many threads: `pipe_file` with the very bytes that the save
stored, and `cat_file`. The records are in memory, so that computing the bag takes no
time. Requests are counted by the proxy, which is a process of its own.
"""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"

import dask.bag

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.benchmarks import common
from tests.benchmarks.workloads import WORKLOADS, touch
from tests.servers import proxy, s3

NAME = "records"
common.PACKAGES += ["s3fs", "fsspec"]


def run_proxy(connection, url, delay):
    """Run the proxy in its own process; send its URL, then its counts on request."""
    with proxy.Proxy(url) as served:
        served.fault = lambda request: proxy.Delay(delay)
        connection.send(served.url)
        while connection.recv():
            connection.send(served.counts)
            served.forget()


@contextmanager
def delayed(cloud, delay):
    """Yield the bucket behind the proxy, and a function that returns its new counts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_proxy, args=(there, cloud.url, delay))
    process.start()

    def counts():
        here.send(True)
        return here.recv()

    try:
        yield cloud.through(here.recv()), counts
    finally:
        here.send(False)
        process.join()


class Case:
    """A save and a load, and bare calls with the same bytes."""

    def __init__(self, cloud, counts, records, npartitions, concurrency):
        self.cloud = cloud
        self.counts = counts
        self.concurrency = concurrency
        self.right = sum(map(len, records)) * npartitions
        numbers = dask.bag.from_sequence(range(npartitions), npartitions=npartitions)
        self.bag = numbers.map_partitions(lambda part: records)
        self.options = cloud.options | {"use_listings_cache": False}

    def _timed(self, found, what, call):
        self.counts()
        found[what] = common.seconds(call)
        requests = self.counts()
        found[f"requests to {what}"] = sum(requests.values())

    def ours(self):
        store = CheckpointStore(self.cloud.new_root(), storage_options=self.options)
        ckpt = Checkpointer(store, verbose=False)
        use = {"scheduler": "threads", "num_workers": self.concurrency}
        found = {}

        def load():
            loaded = ckpt.checkpoint(NAME).map_partitions(touch)
            assert sum(loaded.compute(**use)) == self.right

        def only_open():
            assert ckpt.checkpoint(NAME, self.bag).npartitions == self.bag.npartitions

        self._timed(found, "save", lambda: ckpt.checkpoint(NAME, self.bag, **use))
        self._timed(found, "load", load)
        self._timed(found, "open with the bag", only_open)
        files = [f for f in store.fs.find(store.path(NAME)) if "part-" in f]
        self.contents = [store.fs.cat_file(f) for f in files]
        ckpt.clear(NAME)
        return found

    def bare(self):
        fs = self.cloud.fs
        root = self.cloud.new_root()
        paths = [f"{root}/{i}" for i in range(len(self.contents))]
        found = {}
        with ThreadPoolExecutor(self.concurrency) as threads:

            def save():
                list(threads.map(fs.pipe_file, paths, self.contents))

            def load():
                # Otherwise s3fs requests the size first.
                cat = partial(fs.cat_file, max_concurrency=1)
                assert sum(map(len, threads.map(cat, paths))) == self.stored

            self._timed(found, "save", save)
            self._timed(found, "load", load)
        fs.rm(paths)
        return found

    @property
    def stored(self):
        return sum(map(len, self.contents))


def main():
    parser = common.parser(__doc__)
    add = parser.add_argument
    add("--concurrency", type=int, default=4, help="threads; 4 unless given")
    add("--delay", type=float, default=0.02, help="seconds; 0.02 unless given")
    add("--records", type=int, default=50, help="in a partition; 50 unless given")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    npartitions = 20 if arguments.quick else max(1, int(200 * arguments.scale))
    report = common.Report("objects.py", arguments)
    with (
        common.folder(arguments) as root,
        s3.moto() as cloud,
        delayed(cloud, arguments.delay) as (slow, counts),
    ):
        prepared = WORKLOADS["sentences"].prepared(root, 0.1)
        records = list(islice(prepared.records(), arguments.records))
        case = Case(slow, counts, records, npartitions, arguments.concurrency)
        contestants = {"ours": case.ours, "bare": case.bare}
        samples = common.in_turn(contestants, rounds, report, warm=True)
        each = case.stored // npartitions
    for (who, what), values in samples.items():
        report.row(who=who, what=what, values=values)
    rows = []
    for what in ("save", "load"):
        found = common.ratio(samples["ours", what], samples["bare", what])
        report.row(what=what, ratio=found)
        requests = [max(samples[who, f"requests to {what}"]) for who in contestants]
        rows.append([what, found, *requests])
        measure = f"{what} {npartitions} objects, against bare calls"
        report.target(measure, found, at_most=1.2)
    opening = max(samples["ours", "requests to open with the bag"])
    rows.append(["open with the bag", "", opening, ""])
    report.table(
        f"{npartitions} partitions of {each:,} bytes, {arguments.concurrency} threads, "
        f"{arguments.delay * 1000:.0f} ms a request",
        ["", "time over bare calls", "requests", "bare requests"],
        rows,
    )
    report.finish()


if __name__ == "__main__":
    main()
