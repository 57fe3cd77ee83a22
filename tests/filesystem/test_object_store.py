"""Object stores behind a proxy: requests, refusals, lost answers."""

import re
import time
from functools import partial
from itertools import product

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, RootNotSetError
from tests.filesystem.conftest import place_at
from tests.servers.proxy import CutBody, Fault, LostAnswer, Proxy, Status

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


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_a_swap_reads_again_what_was_cut(proxy):
    path = before(proxy, b"old")
    left = [CutBody()]
    proxy.fault = lambda request: (
        left.pop() if left and request.method == "GET" else None
    )
    assert proxy.place.files.swap(path, b"old", b"new")
    assert not left
    assert content(proxy, path) == b"new"


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


@CONDITIONAL
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"compute": False}])
def test_an_absent_bucket_is_told_before_anything_is_computed(cloud, options):
    ckpt = Checkpointer(f"{cloud.protocol}://absent/x", verbose=False)
    bag = dask.bag.range(3, npartitions=1).map(pytest.fail)
    with pytest.raises(RootNotSetError, match=r"bucket 'absent' .*does not exist"):
        ckpt.checkpoint("a", bag, **options)
    assert not ckpt.is_done("a")


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


# ---- removing many ----


def is_batch(request):
    """Whether a request removes several objects."""
    return request.method == "POST" and (
        "delete" in request.query
        or request.path.endswith("/batch/storage/v1")
        or request.query.get("comp") == ["batch"]
    )


def written(proxy, count=6):
    names = [f"{number} +ü" for number in range(count)]
    for name in names:
        proxy.place.write(name, b"1")
    proxy.forget()
    return names


@CONDITIONAL
def test_many_objects_are_removed_by_one_request(proxy):
    names = written(proxy)
    proxy.place.files.remove(proxy.place.folder, [*names[1:], "absent"])
    assert list(proxy.place.files.list(proxy.place.folder)) == names[:1]
    assert len([r for r in proxy.requests if is_write(r)]) == 1


@CONDITIONAL
def test_more_objects_than_one_request_takes_are_removed_by_several(proxy):
    files, names = proxy.place.files, written(proxy)
    files.batch_size = 4
    files.remove(proxy.place.folder, names)
    assert files.list(proxy.place.folder) == {}
    assert len([r for r in proxy.requests if is_write(r)]) == 2


@CONDITIONAL
@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_server_without_bulk_deletion_is_asked_for_each_object(proxy, status):
    if status == 501 and "gs" in proxy.direct.protocol:
        pytest.skip("gcsfs tries this again for minutes")
    names = written(proxy)
    refused = Status(status, "NotImplemented")
    proxy.fault = lambda request: refused if is_batch(request) else None
    proxy.place.files.remove(proxy.place.folder, names)
    assert proxy.place.files.list(proxy.place.folder) == {}
    assert len([r for r in proxy.requests if r.method == "DELETE"]) == len(names)


class OneRefused(Fault):
    """The server removes all objects but one, and answers so."""

    def happen(self, handler, request):
        handler._body = handler._body.replace(b"refuse-me", b"not-there")
        status, headers, body = handler.ask_server()
        if "delete" in request.query:
            [key] = re.findall(rb"<Key>([^<]*/)not-there</Key>", handler._body)
            error = b"<Error><Key>%srefuse-me</Key><Code>InternalError</Code></Error>"
            body = b"<DeleteResult>%s</DeleteResult>" % (error % key)
        body = body.replace(b"HTTP/1.1 404", b"HTTP/1.1 403")
        headers = [pair for pair in headers if pair[0].lower() != "content-length"]
        handler.answer(status, headers, body)


@CONDITIONAL
@pytest.mark.parametrize("alone", [True, False])
def test_an_object_that_a_batch_refuses_is_removed_alone_or_raises_P5(proxy, alone):
    names = written(proxy)
    proxy.place.write("refuse-me", b"1")
    proxy.forget()
    refused = Status(403, "AccessDenied")
    faults = {"DELETE": None if alone else refused}
    proxy.fault = lambda r: OneRefused() if is_batch(r) else faults.get(r.method)
    remove = partial(proxy.place.files.remove, proxy.place.folder)
    if alone:
        remove([*names, "refuse-me"])
    else:
        with pytest.raises(PermissionError, match=r"AccessDenied|Forbidden"):
            remove([*names, "refuse-me"])
    assert [r.method for r in proxy.requests] == ["POST", "DELETE"]
    left = [] if alone else ["refuse-me"]
    assert list(proxy.place.files.list(proxy.place.folder)) == left


@CONDITIONAL
def test_an_account_that_may_not_delete_can_save(proxy):
    store = CheckpointStore(proxy.root)
    checkpointer = Checkpointer(store, verbose=False)
    bag = dask.bag.from_sequence(range(8), npartitions=4)
    checkpointer.checkpoint("x", bag, scheduler="sync")
    old = set(store.manifest("x").files)
    refused = Status(403, "AccessDenied")
    proxy.fault = lambda r: refused if is_batch(r) or r.method == "DELETE" else None
    loaded = checkpointer.checkpoint("x", bag, overwrite=True, scheduler="sync")
    assert loaded.compute(scheduler="sync") == list(range(8))
    folder = f"{store._root.base}/x"
    files = {path.rpartition("/")[2] for path in proxy.direct.find(folder)}
    assert files == {*old, *store.manifest("x").files, "__done__"}


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
