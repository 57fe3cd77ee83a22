"""Filesystems of which no more is known than fsspec's interface."""

import shutil

import dask.bag
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._filesystem.remote import RemoteFiles
from tests.filesystem.conftest import Place


class Faulty(DirFileSystem):
    """A folder of local disk whose calls can fail after they were done."""

    cachable = False
    error = None

    def pipe_file(self, path, value, **kwargs):
        super().pipe_file(path, value, **kwargs)
        if self.error:
            raise self.error

    def rm_file(self, path):
        super().rm_file(path)
        if self.error:
            raise self.error


@pytest.fixture
def fs(tmp_path):
    return Faulty(str(tmp_path), LocalFileSystem())


@pytest.fixture
def place(fs):
    files = RemoteFiles(fs)
    files.make_folder("x")
    return Place(files, "x")


@pytest.mark.parametrize("error", [None, OSError("lost")])
def test_a_swap_looks_and_then_writes(place, fs, error):
    fs.error = error
    files, path = place.files, place.path("marker")
    assert not files.swap(path, b"0", b"1")
    assert files.swap(path, None, b"1")
    assert not files.swap(path, None, b"2")
    assert files.swap(path, b"1", b"2")
    assert files.read(path) == b"2"
    assert not files.swap(path, b"1", None)
    assert files.swap(path, b"2", None)
    assert not files.swap(path, b"2", None)
    assert files.list("x") == {}


def test_a_swap_that_failed_raises(place, fs):
    path = place.write("marker", b"1")

    def fail(*args, **kwargs):
        raise OSError("no connection")

    fs.pipe_file = fs.rm_file = fail
    for expected, data in [(b"1", b"2"), (b"1", None)]:
        with pytest.raises(OSError, match="no connection"):
            place.files.swap(path, expected, data)
    assert place.files.read(path) == b"1"


def test_a_swap_needs_the_folder(place, tmp_path):
    shutil.rmtree(tmp_path / "x")
    with pytest.raises(FolderGoneError):
        place.files.swap(place.path("marker"), None, b"1")


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
    bag = dask.bag.from_sequence(range(8), npartitions=4)
    try:
        loaded = Checkpointer(store, verbose=False).checkpoint(
            "x", bag, scheduler="sync"
        )
        assert loaded.compute(scheduler="sync") == list(range(8))
    finally:
        store.fs.unlisted = "nothing"
        store.clear("x")
