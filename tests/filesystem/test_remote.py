"""What object stores answer at odd moments, and what a commit makes of it."""

import os

import dask.bag
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import CheckpointConflictError, Checkpointer, CheckpointStore, Plan
from agatha_ckpt._filesystem.factory import files_for
from agatha_ckpt._format.manifest import Manifest, encode_manifest
from agatha_ckpt._format.names import DONE_MARKER
from tests.servers.proxy import Fault, Proxy, Status

NUMBERS = list(range(8))


def bag(numbers=NUMBERS):
    return dask.bag.from_sequence(numbers, npartitions=4)


def save(store, **options):
    checkpointer = Checkpointer(store, verbose=False)
    return checkpointer.checkpoint("x", bag(), scheduler="sync", **options)


@pytest.fixture
def proxy(s3_server):
    """A proxy before S3, whose bucket `s3://` URLs mean."""
    with Proxy(s3_server.url) as proxy:
        cloud = s3_server.through(proxy.url)
        with cloud.configured():
            proxy.root = cloud.new_root()
            yield proxy


class RefusedInBulk(Fault):
    """The answer that a bulk delete was done, but for each key that was refused."""

    def happen(self, handler, request):
        body = (
            '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error>'
            "<Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            "</DeleteResult>"
        )
        handler.answer(200, [("Content-Type", "application/xml")], body.encode())


def test_a_clear_that_is_not_allowed_raises_and_the_checkpoint_stays(proxy):
    store = CheckpointStore(proxy.root)
    save(store)
    refused = {"DELETE": Status(403, "AccessDenied"), "BULK DELETE": RefusedInBulk()}
    proxy.fault = lambda request: refused.get(request.what)
    with pytest.raises(PermissionError):
        store.clear("x")
    proxy.fault = lambda request: None
    assert store.verify("x") == []
    assert Checkpointer(store).checkpoint("x").compute(scheduler="sync") == NUMBERS


class ExistsAlready(Fault):
    """The answer 412 of a server that does not say which condition failed.

    Another run's marker was there before.
    """

    def __init__(self, first):
        self.first = first

    def happen(self, handler, request):
        self.first()
        body = b"<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>"
        handler.answer(412, [("Content-Type", "application/xml")], body)


def test_a_marker_that_exists_is_known_by_the_status_alone_P1(proxy, s3_server):
    first = []

    def another_run():
        direct = CheckpointStore(proxy.root, storage_options=s3_server.options)
        first.append(save(direct).compute(scheduler="sync"))

    def fault(request):
        marker = request.what == "PUT" and request.is_marker
        return ExistsAlready(another_run) if marker and not first else None

    proxy.fault = fault
    assert save(CheckpointStore(proxy.root)).compute(scheduler="sync") == NUMBERS
    assert first == [NUMBERS]


class Unlisted(MemoryFileSystem):
    """The memory filesystem, where a listing does not name what is new."""

    cachable = False
    protocol = "unlisted"
    unlisted = "part-00002"

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail=True, **kwargs)
        return [entry for entry in found if self.unlisted not in entry["name"]]


def test_a_file_that_a_listing_does_not_name_yet_is_committed():
    store = CheckpointStore("/unlisted", fs=Unlisted())
    try:
        assert save(store).compute(scheduler="sync") == NUMBERS
    finally:
        store.fs.unlisted = "nothing"
        store.clear("x")


def test_a_range_beyond_the_end_of_an_object_is_empty_P5(cloud):
    """Each server refuses it with another error; the reader then says what is cut."""
    files = files_for(cloud.fs, fsync=True)
    path = cloud.fs._strip_protocol(f"{cloud.new_root()}/object")
    for content in (b"", b"abc"):
        cloud.fs.pipe_file(path, content)
        assert files.tail(path, 1_000, 57) == b""
        with files.open(path, 20 << 20) as source:
            assert source.read(10) == content
            source.seek(-57, os.SEEK_END)
            assert source.read() == b""
    with pytest.raises(FileNotFoundError):
        files.tail(f"{path}-2", 1_000, 57)


class Unconditional(MemoryFileSystem):
    """The memory filesystem under the name of one whose server ignores conditions."""

    cachable = False
    protocol = ("s3",)
    after_marker = None

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, mode="overwrite", **kwargs)
        if self.after_marker and path.endswith(DONE_MARKER):
            super().pipe_file(path, self.after_marker, mode="overwrite")

    def find(self, path, prefix="", detail=False, **kwargs):
        found = super().find(f"{path}/{prefix}", detail=True)
        return found if detail else list(found)


@pytest.mark.parametrize("version", [None, "other"])
def test_where_conditions_are_ignored_who_was_written_over_removes_nothing(version):
    fs = Unconditional()
    store = CheckpointStore("/bucket/unconditional", fs=fs)
    plan = Plan(4, version=version)
    theirs = [
        store.write_partition("x", plan, i, [i], run="0123abcd") for i in range(4)
    ]
    fs.after_marker = encode_manifest(Manifest(plan, tuple(theirs)))
    try:
        if version:
            with pytest.raises(CheckpointConflictError):
                save(store, allow_partial=False)
        else:
            loaded = save(store, allow_partial=False)
            assert loaded.compute(scheduler="sync") == [0, 1, 2, 3]
        assert store.verify("x") == []
        assert store.manifest("x").files == {info.file for info in theirs}
    finally:
        store.clear("x")
