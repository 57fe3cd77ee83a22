"""The request budget of an object store, counted by a proxy before the server."""

import contextlib
import math
import random
import re
from collections import Counter

import dask.bag
import pytest

from agatha_ckpt import Checkpointer
from agatha_ckpt._format.names import DONE_MARKER
from agatha_ckpt._format.partition_file import FOOTER_READ_BYTES
from tests.servers.proxy import Fault, Proxy

NAME = "numbers"
RECORDS = 5  # in each partition
PAGE = 1_000  # names that one listing gives, or one bulk delete takes
MIB = 1024 * 1024

SAVE_BEYOND = 5  # what a save costs beyond its partitions

FILE = r"[0-9a-f]{32}/\w+/(part-\d{5}-[0-9a-f-]+\.(msgpack|txt)|__done__)"
# All that the library may send: no HEAD, nothing that makes a bucket, and no object
# that stands for a folder.
ALLOWED = {
    "s3": rf"(GET|PUT|DELETE) /bucket/{FILE}|(LIST|BULK DELETE) /bucket",
    "gs": (
        rf"GET /download/storage/v1/b/bucket/o/{FILE}"
        r"|GET /storage/v1/b/bucket/o"
        r"|POST /upload/storage/v1/b/bucket/o"
        rf"|DELETE /storage/v1/b/bucket/o/{FILE}|POST /batch/storage/v1"
    ),
    "abfs": (
        r"(GET|POST) /devstoreaccount1/bucket"
        rf"|(GET|PUT|DELETE) /devstoreaccount1/bucket/{FILE}"
    ),
}


class Counted:
    """A root on an object store behind a proxy, and what a call costs there."""

    def __init__(self, proxy, server):
        self.proxy = proxy
        self.server = server
        self.root = server.new_root()
        self.ckpt = Checkpointer(self.root, verbose=False)

    def cost(self, call, *args, **kwargs):
        """Make the call and return how many requests of each kind it sent."""
        self.proxy.forget()
        call(*args, **kwargs)
        return Counter(map(kind, self.proxy.requests))

    def save(self, npartitions, name=NAME, **kwargs):
        bag = bag_of(npartitions)
        if kwargs.get("textfile"):
            bag = bag.map(str)
        return self.ckpt.checkpoint(name, bag, scheduler="sync", **kwargs)

    def load(self, name=NAME):
        return self.ckpt.checkpoint(name).compute(scheduler="sync")

    def keep_only(self, what):
        """Forget all requests of other kinds."""
        requests = self.proxy.requests
        self.proxy.requests = [r for r in requests if kind(r) == what]

    def files(self, name=NAME):
        """Paths of the objects in a checkpoint's folder, sorted."""
        return sorted(self.server.fs.find(f"{self.root}/{name}"))

    def marker(self, name=NAME):
        return f"{self.root}/{name}/{DONE_MARKER}".partition("://")[2]

    def interrupt(self, missing, name=NAME):
        """Leave what a run that died leaves: no marker, not all partitions."""
        parts = [path for path in self.files(name) if "/part-" in path]
        self.server.fs.rm([self.marker(name), *(parts[i] for i in missing)])


def kind(request):
    """What a request is, and of what; uploads to GCS name the object in the body."""
    found = re.search(r"/(part-|__done__)[^/]*$", request.path)
    of = {"part-": " part", DONE_MARKER: " marker"}[found[1]] if found else ""
    return request.what + of


@contextlib.contextmanager
def counting(server):
    with (
        Proxy(server.url) as proxy,
        server.through(proxy.url).configured(),
    ):
        yield Counted(proxy, server)


@pytest.fixture
def counted(s3):
    """On S3, where each request tells what it is."""
    with counting(s3) as counted:
        yield counted


@pytest.fixture
def anywhere(cloud):
    """On each object store."""
    with counting(cloud) as counted:
        yield counted


def bag_of(npartitions):
    return dask.bag.from_sequence(range(npartitions * RECORDS), npartitions=npartitions)


def test_each_object_store_keeps_the_budget(anywhere, record_property):
    n, ckpt = 10, anywhere.ckpt
    costs = {
        "save": anywhere.cost(anywhere.save, n),
        "save as text": anywhere.cost(anywhere.save, n, "text", textfile=True),
        "is_done": anywhere.cost(ckpt.is_done, NAME),
        "is_done, absent": anywhere.cost(ckpt.is_done, "absent"),
        "status": anywhere.cost(ckpt.status, NAME),
        "graph": anywhere.cost(ckpt.checkpoint, NAME),
        "graph with bag": anywhere.cost(ckpt.checkpoint, NAME, bag_of(n)),
        "load": anywhere.cost(anywhere.load),
        "load text": anywhere.cost(anywhere.load, "text"),
        "clear": anywhere.cost(ckpt.clear, NAME),
        "clear, absent": anywhere.cost(ckpt.clear, NAME),
    }
    bounds = {
        "save": n + SAVE_BEYOND,
        "save as text": n + SAVE_BEYOND,
        "is_done": 1,
        "is_done, absent": 1,
        "status": 1,
        "graph": 1,
        "graph with bag": 2,
        "load": n + 1,
        "load text": n + 1,
        "clear": 5,
        "clear, absent": 1,
    }
    for call, cost in costs.items():
        record_property(call, f"{cost.total()}: {dict(cost)}")
    assert {c: costs[c].total() for c in bounds if costs[c].total() > bounds[c]} == {}


SAVE = {"GET marker": 1, "LIST": 3, "PUT marker": 1}  # and a PUT for each partition


@pytest.mark.parametrize("textfile", [False, True])
def test_a_save_is_one_put_a_partition_and_five_requests(counted, textfile):
    cost = counted.cost(counted.save, 10, textfile=textfile)
    assert cost == SAVE | {"PUT part": 10}


def test_what_is_known_of_a_done_checkpoint_is_one_get_of_its_marker(counted):
    counted.save(3)
    ckpt = counted.ckpt
    for call in (ckpt.is_done, ckpt.status, ckpt.store.manifest, ckpt.checkpoint):
        assert counted.cost(call, NAME) == {"GET marker": 1}
    with_bag = counted.cost(ckpt.checkpoint, NAME, bag_of(3))
    assert with_bag == {"GET marker": 1, "LIST": 1}


@pytest.mark.parametrize("textfile", [False, True])
def test_a_load_is_one_get_a_partition_and_a_count_none(counted, textfile):
    counted.save(10, textfile=textfile)
    bag = counted.ckpt.checkpoint(NAME)
    assert counted.cost(bag.count().compute, scheduler="sync") == {}
    assert counted.cost(bag.compute, scheduler="sync") == {"GET part": 10}
    assert len({request.path for request in counted.proxy.requests}) == 10
    expected = range(10 * RECORDS)
    assert counted.load() == list(map(str, expected) if textfile else expected)


def noise(counts):
    """Records that do not compress, of 10 kB each."""
    for i in range(*counts):
        yield random.Random(i).randbytes(10_000)


def save_noise(counted, partitions, count):
    """Save partitions of that many records and return the sizes of their files."""
    bag = dask.bag.from_sequence([count] * partitions, npartitions=partitions)
    bag = bag.map_partitions(noise)
    counted.ckpt.checkpoint(NAME, bag, scheduler="sync")
    sizes = counted.server.fs.find(f"{counted.root}/{NAME}", detail=True)
    return bag, [i["size"] for p, i in sorted(sizes.items()) if "/part-" in p]


def ranges_of(counted):
    """First and last byte of each range that was asked for, in order."""
    gets = [request for request in counted.proxy.requests if request.method == "GET"]
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", r.headers["Range"]) for r in gets]
    return sorted((int(match[1]), int(match[2])) for match in found)


def test_a_partition_of_up_to_16_mib_is_read_by_one_request(counted):
    _, [size] = save_noise(counted, 1, 1_600)
    assert 15 * MIB < size < 16 * MIB
    bag = counted.ckpt.checkpoint(NAME)
    assert counted.cost(bag.compute, scheduler="sync") == {"GET part": 1}


def test_a_larger_partition_is_read_once_by_ranges_of_8_mib_P10(counted):
    _, [size] = save_noise(counted, 1, 2_000)
    assert size > 17 * MIB
    bag = counted.ckpt.checkpoint(NAME)
    found = []
    cost = counted.cost(lambda: found.extend(bag.compute(scheduler="sync")))
    assert cost == {"GET part": 1 + math.ceil(size / (8 * MIB))}
    ranges = ranges_of(counted)
    ranges.remove((size - FOOTER_READ_BYTES, size - 1))  # it says what the file is
    assert all(last - first < 16 * MIB for first, last in ranges)
    # Side by side they are the whole file, and no byte comes twice.
    ends = [-1, *(last for _, last in ranges)]
    assert [first for first, _ in ranges] == [end + 1 for end in ends[:-1]]
    assert ends[-1] == size - 1
    assert found == list(noise([2_000]))


def test_a_resume_reads_what_is_there_once_and_puts_what_is_missing_P4(counted):
    counted.save(10)
    counted.interrupt(missing=[2, 3, 7])
    cost = counted.cost(counted.save, 10)
    assert cost == SAVE | {"GET part": 7, "PUT part": 3}
    read = [r.path for r in counted.proxy.requests if kind(r) == "GET part"]
    assert len(set(read)) == 7
    assert counted.load() == list(range(10 * RECORDS))


def test_a_resume_reads_no_more_than_the_footer_of_a_large_partition(counted):
    bag, sizes = save_noise(counted, 3, 40)
    assert min(sizes) > 256 * 1024
    counted.interrupt(missing=[1])
    cost = counted.cost(counted.ckpt.checkpoint, NAME, bag, scheduler="sync")
    assert cost == SAVE | {"GET part": 2, "PUT part": 1}
    counted.keep_only("GET part")
    assert all(last - first < FOOTER_READ_BYTES for first, last in ranges_of(counted))


def test_to_explain_a_call_costs_what_the_call_costs_before_it_begins(counted):
    explain, bag = counted.ckpt.explain, bag_of(10)
    assert counted.cost(explain, NAME) == {"GET marker": 1}
    assert counted.cost(explain, NAME, bag) == {"GET marker": 1, "LIST": 1}
    counted.save(10)
    assert counted.cost(explain, NAME) == {"GET marker": 1}
    assert counted.cost(explain, NAME, bag) == {"GET marker": 1, "LIST": 1}
    counted.interrupt(missing=[2, 3, 7])
    partial = {"GET marker": 1, "LIST": 1, "GET part": 7}
    assert counted.cost(explain, NAME, bag) == partial
    assert explain(NAME, bag).compute == (2, 3, 7)


class SmallPages(Fault):
    """A listing gives only four names at once."""

    def happen(self, handler, request):
        handler.path += "&max-keys=4"
        super().happen(handler, request)


def test_a_listing_is_one_request_a_page(counted):
    counted.save(10)
    counted.interrupt(missing=[5])
    pages = SmallPages()
    counted.proxy.fault = lambda request: pages if request.what == "LIST" else None
    cost = counted.cost(counted.save, 10)
    assert cost == SAVE | {"LIST": 3 * 3, "GET part": 9, "PUT part": 1}
    listings = [r.query for r in counted.proxy.requests if r.what == "LIST"]
    assert {query.get("max-keys", [str(PAGE)])[0] for query in listings} == {str(PAGE)}
    with_bag = counted.cost(counted.ckpt.checkpoint, NAME, bag_of(10))
    assert with_bag == {"GET marker": 1, "LIST": 3}
    clear = counted.cost(counted.ckpt.clear, NAME)
    assert clear == {"LIST": 3, "DELETE marker": 2, "BULK DELETE": 1}
    assert counted.files() == []


@pytest.mark.long
def test_listings_and_deletes_are_one_request_for_each_1000_names(counted):
    folder = f"{counted.root}/{NAME}"
    left = [f"part-00000-{0:032x}-{0:08x}-{i:016x}.msgpack" for i in range(PAGE + 10)]
    counted.server.fs.pipe({f"{folder}/{name}": b"" for name in left})
    cost = counted.cost(counted.save, 3)
    # Two pages before the save and four at the commit, of which two name its files.
    expected = {"LIST": 6, "BULK DELETE": 2, "PUT part": 3}
    assert cost == {"GET marker": 1, "PUT marker": 1} | expected
    assert len(counted.files()) == 3 + 1
    assert counted.load() == list(range(3 * RECORDS))


def test_a_clear_is_four_requests_and_of_a_partial_three(counted):
    clear = {"LIST": 1, "BULK DELETE": 1}
    for interrupted in (False, True):
        counted.save(10)
        if interrupted:
            counted.interrupt(missing=[0])
        cost = counted.cost(counted.ckpt.clear, NAME)
        assert cost == clear | {"DELETE marker": 1 if interrupted else 2}
        assert counted.files() == []
    assert counted.cost(counted.ckpt.clear, NAME) == {"LIST": 1}


def test_names_is_one_listing_and_one_get_a_folder(counted):
    for name in ("a", "b", "c"):
        counted.save(4, name)
    counted.interrupt(missing=[], name="b")
    assert counted.cost(counted.ckpt.names) == {"LIST": 1, "GET marker": 3}


def every_query(counted):
    ckpt, bag = counted.ckpt, bag_of(3)
    ckpt.names()
    ckpt.names("*x*")
    for name in ("absent", "partial", "done"):
        ckpt.is_done(name)
        ckpt.status(name)
    ckpt.store.manifest("done")
    ckpt.store.verify("done")
    ckpt.checkpoint("done", bag)
    done = ckpt.checkpoint("done")
    done.count().compute(scheduler="sync")
    done.compute(scheduler="sync")


def test_a_query_writes_nothing_and_no_call_sends_a_head_or_makes_a_folder_P6(
    anywhere,
):
    ckpt, fs = anywhere.ckpt, anywhere.server.fs
    anywhere.save(3, "done")
    anywhere.save(3, "text", textfile=True)
    anywhere.save(3, "partial")
    anywhere.interrupt(missing=[1], name="partial")
    before, saves = fs.find(anywhere.root, detail=True), len(anywhere.proxy.requests)
    every_query(anywhere)
    queries = anywhere.proxy.requests[saves:]
    assert {request.method for request in queries} <= {"GET", "HEAD"}
    assert fs.find(anywhere.root, detail=True) == before
    anywhere.save(3, "partial")
    fs.rm_file(next(path for path in anywhere.files("done") if "/part-" in path))
    anywhere.save(3, "done")
    ckpt.repair("done", bag_of(3), scheduler="sync")
    bucket = f"{anywhere.server.name}/"
    found = [path.removeprefix(bucket) for path in fs.find(anywhere.root)]
    assert [path for path in found if not re.fullmatch(FILE, path)] == []
    assert len(found) == 3 * (3 + 1)
    ckpt.clear("text")
    ckpt.clear_all()
    assert fs.find(anywhere.root) == []
    allowed = ALLOWED[anywhere.server.protocol]
    sent = {f"{request.what} {request.path}" for request in anywhere.proxy.requests}
    assert [one for one in sent if not re.fullmatch(allowed, one)] == []
