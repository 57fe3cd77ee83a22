"""Object stores behind a proxy: requests, refusals, lost answers."""

import time
from itertools import product

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.filesystem.conftest import place_at
from tests.servers.proxy import Fault, LostAnswer, Proxy, Status

STORES = ["s3", "s3-seaweedfs", "gcs", "azure"]
CONDITIONAL = pytest.mark.parametrize("cloud", STORES, indirect=True)
CHANGES = [(None, b"new"), (b"old", b"new"), (b"old", None)]


@pytest.fixture
def proxy(cloud):
    """A proxy before the server, which the protocol's URLs lead to."""
    with Proxy(cloud.url) as proxy:
        behind = cloud.through(proxy.url)
        with behind.configured():
            proxy.place = place_at(behind.new_root())
            proxy.root = behind.new_root()
            proxy.direct = cloud.fs
            yield proxy


def is_write(request):
    return request.method in ("PUT", "POST", "DELETE")


def once(proxy, fault):
    """Let *fault* happen to the next write."""
    left = [fault]
    proxy.fault = lambda request: left.pop() if left and is_write(request) else None
    return left


def before(proxy, expected):
    """Return the path of a marker with the content *expected*, or of none."""
    if expected is not None:
        proxy.place.write("marker", expected)
    return proxy.place.path("marker")


def content(proxy, path):
    return proxy.direct.cat_file(path) if proxy.direct.exists(path) else None


@CONDITIONAL
def test_a_swap_is_a_conditional_write_after_one_read(proxy):
    files, path = proxy.place.files, proxy.place.path("marker")
    for expected, data, methods in [
        (b"old", b"new", ["GET"]),
        (None, b"old", ["PUT"]),
        (b"other", b"new", ["GET"]),
        (b"old", b"new", ["GET", "PUT"]),
        (b"new", None, ["GET", "DELETE"]),
    ]:
        proxy.forget()
        files.swap(path, expected, data)
        sent = [request.method.replace("POST", "PUT") for request in proxy.requests]
        assert sent == methods


class AnotherFirst(Fault):
    """Another writer writes or removes before the server gets the request."""

    def __init__(self, change):
        self.change = change

    def happen(self, handler, request):
        self.change()
        super().happen(handler, request)


@CONDITIONAL
@pytest.mark.parametrize(
    "expected, data, theirs",
    [*((*change, b"theirs") for change in CHANGES), *((*c, None) for c in CHANGES[1:])],
)
def test_a_change_between_read_and_swap_wins(proxy, expected, data, theirs):
    if theirs and data is None and proxy.direct.protocol[0] == "gs":
        pytest.skip("fake-gcs-server ignores the condition of a DELETE")
    path = before(proxy, expected)
    write, remove = proxy.direct.pipe_file, proxy.direct.rm_file
    left = once(
        proxy, AnotherFirst(lambda: write(path, theirs) if theirs else remove(path))
    )
    # What was to be removed is removed.
    assert proxy.place.files.swap(path, expected, data) == (theirs is data is None)
    assert not left
    assert content(proxy, path) == theirs


class DoneButRefused(Status):
    """The server does it and answers with an error that no client retries."""

    def happen(self, handler, request):
        handler.ask_server()
        super().happen(handler, request)


DONE = [DoneButRefused(400, "BadRequest"), DoneButRefused(412, "PreconditionFailed")]


@pytest.mark.parametrize(
    "cloud, fault",
    # After a lost answer the client sends it again, and the server refuses that.
    [*product(STORES, DONE), ("s3", LostAnswer())],
    indirect=["cloud"],
)
@pytest.mark.parametrize("expected, data", CHANGES)
def test_a_write_that_happened_is_recognised(proxy, expected, data, fault):
    path = before(proxy, expected)
    left = once(proxy, fault)
    assert proxy.place.files.swap(path, expected, data)
    assert not left
    assert content(proxy, path) == data


@CONDITIONAL
@pytest.mark.parametrize("expected, data", CHANGES)
def test_a_write_that_failed_raises_and_changes_nothing(proxy, expected, data):
    path = before(proxy, expected)
    once(proxy, Status(400, "BadRequest"))
    with pytest.raises(Exception, match=r"BadRequest|400"):
        proxy.place.files.swap(path, expected, data)
    assert content(proxy, path) == expected


@CONDITIONAL
def test_a_swap_in_an_absent_bucket_raises(proxy):
    with pytest.raises(Exception, match=r"absent|does not exist|Access Denied"):
        proxy.place.files.swap("absent/x/marker", None, b"new")


s3_only = pytest.mark.parametrize("cloud", ["s3"], indirect=True)


@s3_only
def test_conflicts_are_tried_again_a_few_times(proxy, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    path = proxy.place.write("marker", b"old")
    conflict = Status(409, "ConditionalRequestConflict")
    proxy.fault = lambda request: conflict if is_write(request) else None
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        proxy.place.files.swap(path, b"old", b"new")
    assert 5 < len(proxy.failed) < 50
    left = [conflict] * 3
    proxy.fault = lambda request: left.pop() if left and is_write(request) else None
    assert proxy.place.files.swap(path, b"old", b"new")
    assert content(proxy, path) == b"new"


class RefusedInBulk(Fault):
    """The answer that a bulk delete was done, except for a key that was refused."""

    def happen(self, handler, request):
        body = (
            '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error>'
            "<Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            "</DeleteResult>"
        )
        handler.answer(200, [("Content-Type", "application/xml")], body.encode())


@s3_only
def test_a_clear_that_is_not_allowed_raises_and_the_checkpoint_stays(proxy):
    store = CheckpointStore(proxy.root)
    numbers = list(range(8))
    checkpointer = Checkpointer(store, verbose=False)
    bag = dask.bag.from_sequence(numbers, npartitions=4)
    checkpointer.checkpoint("x", bag, scheduler="sync")
    refused = {"DELETE": Status(403, "AccessDenied"), "BULK DELETE": RefusedInBulk()}
    proxy.fault = lambda request: refused.get(request.what)
    with pytest.raises(PermissionError):
        store.clear("x")
    proxy.fault = lambda request: None
    assert store.verify("x") == []
    assert checkpointer.checkpoint("x").compute(scheduler="sync") == numbers
