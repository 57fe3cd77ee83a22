"""Filesystems of which no more is known than fsspec's interface."""

import errno
import ftplib
import functools
import gc
import http.server
import io
import os
import shutil
import threading
import warnings

import dask.bag
import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem

from agatha_ckpt import Checkpointer, CheckpointStore, RootNotSetError
from agatha_ckpt._filesystem.base import FolderGoneError, NotAFileError
from agatha_ckpt._filesystem.factory import files_for
from agatha_ckpt._filesystem.ftp import FTPFiles
from agatha_ckpt._filesystem.remote import RemoteFiles
from tests.filesystem.conftest import Place
from tests.filesystem.test_factory import OfFTP


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


WEAK = "save this name in one run at a time: the filesystem has no compare-and-swap"


def lines_of_a_save(store, capsys):
    bag = dask.bag.from_sequence(range(4), npartitions=2)
    Checkpointer(store).checkpoint("x", bag, scheduler="sync")
    return capsys.readouterr().out.splitlines()


def test_a_save_begins_with_the_line_that_a_swap_is_weak(fs, tmp_path, capsys):
    printed = lines_of_a_save(CheckpointStore("root", fs=fs), capsys)
    assert [line for line in printed if line.endswith(WEAK)] == [printed[1]]
    printed = lines_of_a_save(CheckpointStore(tmp_path / "local"), capsys)
    assert len(printed) == 3
    assert WEAK not in "".join(printed)


def test_a_local_disk_without_locks_is_weak(tmp_path, capsys, monkeypatch):
    """As NFS is, where flock of a folder is refused."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*args):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", refuse)
    printed = lines_of_a_save(CheckpointStore(tmp_path), capsys)
    assert printed[1].endswith(WEAK)


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


def test_a_listing_that_fails_for_a_moment_is_tried_again_and_never_empty(place, fs):
    """SMB asks for each file once more, and one of them may be gone by then."""
    place.write("a", b"1")
    ls, failures = fs.ls, [FileNotFoundError("b")]

    def failing(*args, **kwargs):
        if failures:
            raise failures.pop()
        return ls(*args, **kwargs)

    fs.ls = failing
    assert list(place.files.list("x")) == ["a"]
    failures.extend([FileNotFoundError("b")] * 100)
    with pytest.raises(FileNotFoundError):
        place.files.list("x")
    assert place.files.list("absent") == {}


@pytest.mark.parametrize("first", [1, 2])
def test_a_folder_that_another_run_makes_at_the_same_moment_is_used(fs, first):
    """An SFTP server refuses to make it again."""
    makedirs, left = fs.makedirs, [None] * first

    def race(path, exist_ok):
        if left:
            left.pop()
            makedirs("a" if first == 2 else path, exist_ok=True)
            raise OSError("Failure")
        makedirs(path, exist_ok=exist_ok)

    fs.makedirs = race
    files = RemoteFiles(fs)
    files.make_folder("a/b")
    assert fs.isdir("a/b")
    assert files.list("a/b") == {}


def test_a_folder_where_a_file_is_expected_is_not_a_file(place):
    place.files.make_folder("x/below")
    with pytest.raises(NotAFileError):
        place.files.read("x/below")


class Torn(io.BytesIO):
    """A file of SMB or SFTP: what has been sent is there, and cannot be discarded."""

    def __init__(self, fs, path):
        super().__init__()
        self.sent = functools.partial(fs.pipe_file, path)

    def write(self, data):
        self.sent(bytes(data[:10]))
        raise OSError("connection lost")


def test_an_upload_that_fails_leaves_no_file(place, fs):
    fs.open = lambda path, mode, **options: Torn(fs, path)

    def write(file):
        file.write(bytes(17 << 20))
        return "large"

    with pytest.raises(OSError, match="connection lost"):
        place.files.publish("x", write)
    assert place.files.list("x") == {}


# ---- FTP ----


class Refusing(OfFTP):
    """An FTP server that answers each request with an error."""

    def __init__(self, host, error):
        super().__init__(host)
        self.error = error
        self.listed = ["a"]

    def cat_file(self, path, start=None, end=None, **kwargs):
        try:
            raise self.error
        except ftplib.Error as error:  # as fsspec does
            raise FileNotFoundError(path) from error

    def _rm(self, path):
        raise self.error

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        raise self.error

    def ls(self, path, detail=True, **kwargs):
        if not str(self.error).startswith("550"):
            raise FileNotFoundError(path) from self.error
        if not path.strip("/"):
            return [{"name": "/x", "type": "directory", "size": 0}]
        return [{"name": f"/x/{n}", "type": "file", "size": 1} for n in self.listed]


PERMISSION = ftplib.error_perm("550 Failed to open file.")  # vsftpd says no more
LOST = ftplib.error_temp("421 Timeout.")


@pytest.mark.parametrize("error", [PERMISSION, LOST])
def test_an_error_of_ftp_is_not_taken_for_absence_P5(error):
    files = FTPFiles(Refusing("host", error))
    for call in (
        lambda: files.read("/x/a"),
        lambda: files.tail("/x/a", 1, 1),
        lambda: files.swap("/x/a", None, b"1"),
        lambda: files.publish("/x", lambda file: "b"),
        lambda: files.remove("/x", ["a"]),
    ):
        with pytest.raises(Exception, match=str(error)) as caught:
            call()
        assert not isinstance(caught.value, FileNotFoundError | FolderGoneError)


def test_a_listing_of_ftp_that_failed_is_not_empty_P5():
    with pytest.raises(OSError, match="421 Timeout"):
        FTPFiles(Refusing("host", LOST)).list("/x")


def test_what_ftp_does_not_list_is_absent():
    files = FTPFiles(Refusing("host", PERMISSION))
    with pytest.raises(FileNotFoundError):
        files.read("/x/b")
    files.remove("/x", ["b"])


# ---- what can only be read ----

RECORDS = list(range(8))


def numbers(computed=None):
    bag = dask.bag.from_sequence(RECORDS, npartitions=4)
    return bag if computed is None else bag.map(computed.append)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Log nothing."""


@pytest.fixture
def published(tmp_path):
    """A root that others may read: as an archive, and on a web server."""
    ckpt = Checkpointer(tmp_path / "a root", verbose=False)
    for name in ("x", "é 2"):
        ckpt.checkpoint(name, numbers(), scheduler="sync")
    shutil.make_archive(str(tmp_path / "root"), "zip", tmp_path, "a root")
    shutil.make_archive(str(tmp_path / "whole"), "zip", tmp_path / "a root")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield {
            "http": f"http://127.0.0.1:{server.server_port}/a root",
            "http, encoded": f"http://127.0.0.1:{server.server_port}/a%20root",
            "zip": f"zip://a root::file://{tmp_path}/root.zip",
            "whole zip": f"zip://::file://{tmp_path}/whole.zip",
        }
        server.shutdown()
    # Older fsspec leaves the file of an archive to the collector.
    ZipFileSystem.clear_instance_cache()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.mark.parametrize("kind", ["http", "http, encoded", "zip", "whole zip"])
def test_a_root_that_can_only_be_read_loads_and_refuses_before_it_computes(
    published, kind
):
    ckpt = Checkpointer(published[kind], verbose=False)
    assert ckpt.names() == ["x", "é 2"]
    for name in ckpt.names():
        assert ckpt.store.verify(name) == []
        assert ckpt.checkpoint(name).compute(scheduler="sync") == RECORDS
    loaded = ckpt.checkpoint("x", numbers(), scheduler="sync")
    assert loaded.compute(scheduler="sync") == RECORDS
    computed = []
    with pytest.raises(RootNotSetError, match="set a root that can be written to"):
        ckpt.checkpoint("y", numbers(computed), scheduler="sync")
    with pytest.raises(RootNotSetError, match="set a root that can be written to"):
        ckpt.checkpoint("x", numbers(computed), overwrite=True, scheduler="sync")
    assert computed == []
    assert ckpt.names() == ["x", "é 2"]


class Unsized(Faulty):
    """A filesystem whose listings show no sizes."""

    known = False

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail=detail, **kwargs)
        return [entry | {"size": None} for entry in found] if detail else found

    def size(self, path):
        return super().size(path) if self.known else None


@pytest.mark.parametrize("known", [True, False])
def test_an_unknown_size_is_asked_for_and_is_not_a_missing_file(tmp_path, known):
    fs = Unsized(str(tmp_path), LocalFileSystem())
    fs.known = known
    files = files_for(fs, fsync=False)
    files.make_folder("x")
    place = Place(files, "x")
    for name, content in [("a", b"123"), ("b", b"")]:
        place.write(name, content)
    sizes = {name: info.bytes for name, info in files.list("x").items()}
    assert sizes == {"a": 3, "b": 0}
    fs.size = lambda path: fsspec.AbstractFileSystem.size(fs, f"{path}-gone")
    assert files.list("x") == {}  # removed after the listing
