"""Local disk: what is not a file, what cannot be opened, and what syncing asks for."""

import errno
import os
import socket
import stat
import subprocess
import sys

import dask.bag
import pytest

from agatha_ckpt import Checkpointer
from agatha_ckpt._filesystem.base import NotAFileError
from agatha_ckpt._filesystem.local import LocalFiles
from tests.cli.cases import without_privileges

fcntl = pytest.importorskip("fcntl")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's path is at most 108
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


NOT_FILES = {
    "folder": os.mkdir,
    "fifo": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.fixture
def files():
    return LocalFiles(fsync=True)


@pytest.mark.parametrize("make", NOT_FILES.values(), ids=NOT_FILES)
def test_what_is_not_a_file_is_refused_at_once_and_listed_nowhere(
    files, tmp_path, make
):
    (tmp_path / "a").write_bytes(b"1")
    path = tmp_path / "b"
    make(path)
    for read in (
        lambda: files.read(str(path)),
        lambda: files.open(str(path), 10),
        lambda: files.tail(str(path), 10, 5),
        lambda: files.swap(str(path), None, b"1"),
        lambda: files.swap(str(path), b"1", None),
    ):
        with pytest.raises(NotAFileError, match="Not a regular file"):
            read()
    assert list(files.list(str(tmp_path))) == ["a"]
    assert path.is_symlink() or path.exists()


def test_a_loop_of_links_is_not_a_folder(files, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "x").mkdir()
    assert files.folders(str(tmp_path), links=True) == ["x"]


def refuse(code, when=lambda *args: True):
    def wrap(call):
        def refusing(*args, **kwargs):
            if when(*args):
                raise OSError(code, os.strerror(code))
            return call(*args, **kwargs)

        return refusing

    return wrap


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_opened_is_not_absent_P5(files, tmp_path, monkeypatch, code):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    monkeypatch.setattr(os, "open", refuse(code)(os.open))
    monkeypatch.setattr(os, "scandir", refuse(code)(os.scandir))
    for call in (
        lambda: files.read(str(path)),
        lambda: files.open(str(path), 1),
        lambda: files.tail(str(path), 1, 1),
        lambda: files.swap(str(path), None, b"2"),
        lambda: files.list(str(tmp_path)),
        lambda: files.folders(str(tmp_path), links=True),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == code
    assert path.read_bytes() == b"1"


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("made", [False, True])
def test_a_filesystem_that_does_not_sync_folders_saves(
    tmp_path, monkeypatch, code, made
):
    monkeypatch.setattr(os, "fsync", refuse(code, is_folder)(os.fsync))
    if made:
        (tmp_path / "root" / "x").mkdir(parents=True)
    ckpt = Checkpointer(tmp_path / "root", verbose=False)
    bag = dask.bag.from_sequence(range(6), npartitions=3)
    loaded = ckpt.checkpoint("x", bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == list(range(6))
    assert ckpt.store.clear("x")


@pytest.mark.parametrize("of_folder", [False, True])
def test_a_sync_that_fails_raises_P2(tmp_path, monkeypatch, of_folder):
    code = errno.EIO if of_folder else errno.EINVAL
    refused = refuse(code, lambda fd: is_folder(fd) == of_folder)
    monkeypatch.setattr(os, "fsync", refused(os.fsync))
    files = LocalFiles(fsync=True)
    with pytest.raises(OSError) as caught:
        files.swap(str(tmp_path / "marker"), None, b"1")
    assert caught.value.errno == code


@pytest.mark.parametrize("offered", [True, False])
def test_macos_empties_the_cache_of_the_drive_P2(tmp_path, monkeypatch, offered):
    """There fsync alone does not."""
    full, flushed, synced = 51, [], []

    def control(descriptor, command):
        assert command == full
        flushed.append(is_folder(descriptor))
        if not offered:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", full, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(is_folder(fd)))
    assert LocalFiles(fsync=True).swap(str(tmp_path / "marker"), None, b"1")
    assert flushed == [False, True]
    assert synced == ([] if offered else [False, True])


SAVE = """
import sys, dask.bag, agatha_ckpt
bag = dask.bag.from_sequence(range(6), npartitions=3).map(print)
ckpt = agatha_ckpt.Checkpointer(sys.argv[1], verbose=False)
try:
    ckpt.checkpoint("x", bag, scheduler="sync")
except agatha_ckpt.RootNotSetError as error:
    print(error)
"""


@pytest.mark.parametrize("made", ["root", "checkpoint"])
def test_a_folder_without_write_permission_is_told_before_anything_is_computed(
    tmp_path, made
):
    folder = tmp_path / "x" if made == "checkpoint" else tmp_path
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    command = without_privileges(sys.executable, "-c", SAVE, str(tmp_path))
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    folder.chmod(0o755)
    assert printed.startswith("the folder of checkpoint 'x' under ")
    assert printed.endswith("; set a root that can be written to\n")
    assert printed.count("\n") == 1
