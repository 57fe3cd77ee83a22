"""Local disk: the lock of a folder, and what is durable."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._filesystem.local import LocalFiles
from tests.filesystem.conftest import Place

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    return Place(LocalFiles(fsync=True), str(folder))


def make_again(place):
    """Replace the folder by another one of the same path."""
    os.rename(place.folder, f"{place.folder}-removed")
    os.mkdir(place.folder)


def before_call(monkeypatch, name, action, module=os, when=lambda *args, **kw: True):
    """Do *action* once before the first call of a system function."""
    call, left = getattr(module, name), [action]

    def with_action(*args, **kwargs):
        if left and when(*args, **kwargs):
            left.pop()()
        return call(*args, **kwargs)

    monkeypatch.setattr(module, name, with_action)
    return left


def is_by_descriptor(*_, dir_fd=None):
    """Whether a file is opened relative to the folder, which is locked by then."""
    return dir_fd is not None


def test_a_swap_and_a_publish_need_the_folder(place):
    os.rmdir(place.folder)
    for expected, data in [(None, b"1"), (b"1", b"2"), (b"1", None)]:
        with pytest.raises(FolderGoneError):
            place.files.swap(place.path("marker"), expected, data)
    with pytest.raises(FolderGoneError):
        place.write("a", b"1")
    place.files.remove(place.folder, ["a"])


def test_a_folder_that_is_removed_while_it_is_checked_is_made_again(place, monkeypatch):
    left = before_call(monkeypatch, "access", lambda: os.rmdir(place.folder))
    place.files.make_folder(place.folder)
    assert not left
    assert os.path.isdir(place.folder)


def test_a_folder_that_was_made_again_before_the_lock_is_the_one_used(
    place, monkeypatch
):
    path = place.path("marker")
    assert place.files.swap(path, None, b"old")
    left = before_call(monkeypatch, "flock", lambda: make_again(place), fcntl)
    assert not place.files.swap(path, b"old", b"new")
    assert not left
    assert os.listdir(place.folder) == []
    assert os.listdir(f"{place.folder}-removed") == ["marker"]


@pytest.mark.parametrize("data", [b"new", None])
def test_a_folder_that_is_made_again_after_the_lock_is_not_touched(
    place, monkeypatch, data
):
    path = place.path("marker")
    assert place.files.swap(path, None, b"old")

    def another_run():
        make_again(place)
        assert LocalFiles(fsync=False).swap(path, None, b"old")

    left = before_call(monkeypatch, "open", another_run, when=is_by_descriptor)
    assert place.files.swap(path, b"old", data)
    assert not left
    assert place.files.read(path) == b"old"


def test_a_folder_that_is_removed_after_the_lock_is_gone(place, monkeypatch):
    def removed():
        os.rmdir(place.folder)
        os.mkdir(place.folder)

    left = before_call(monkeypatch, "open", removed, when=is_by_descriptor)
    with pytest.raises(FolderGoneError):
        place.files.swap(place.path("marker"), None, b"1")
    assert not left
    assert os.listdir(place.folder) == []


def test_a_removal_waits_for_a_swap(place, monkeypatch):
    """Else a swap could write a marker that a clear has removed."""
    path = place.path("marker")
    place.files.swap(path, None, b"old")
    remover = threading.Thread(
        target=place.files.remove, args=(place.folder, ["marker"])
    )

    def blocked():
        remover.start()
        while " -> " not in Path("/proc/locks").read_text():
            assert remover.is_alive()
        assert place.files.read(path) == b"old"

    if not os.path.exists("/proc/locks"):
        pytest.skip("which locks are waited for is only known on Linux")
    left = before_call(monkeypatch, "replace", blocked)
    assert place.files.swap(path, b"old", b"new")
    assert not left
    remover.join()
    assert os.listdir(place.folder) == []


COUNT = """
import sys
from agatha_ckpt._filesystem.local import LocalFiles

def count(path, times):
    files = LocalFiles(fsync=False)
    while times:
        seen = files.read(path)
        times -= files.swap(path, seen, b"%d" % (int(seen) + 1))

count(sys.argv[1], int(sys.argv[2]))
"""


def test_no_swap_of_two_processes_is_lost(place):
    path = place.path("counter")
    place.files.swap(path, None, b"0")
    command = [sys.executable, "-c", COUNT, path, "100"]
    with subprocess.Popen(command) as other:
        done = 0
        while other.poll() is None:
            seen = place.files.read(path)
            done += place.files.swap(path, seen, b"%d" % (int(seen) + 1))
    assert other.returncode == 0
    assert place.files.read(path) == b"%d" % (done + 100)


def test_a_child_that_was_forked_in_a_swap_does_not_keep_the_lock(place, monkeypatch):
    """It has the descriptor for as long as it lives."""
    inherited = []
    close = os.close

    def keep(descriptor):
        inherited.append(os.dup(descriptor))  # shares the lock, as a child's does
        close(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", keep)
        assert place.files.swap(place.path("marker"), None, b"1")
    try:
        mine = os.open(place.folder, os.O_RDONLY)
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(mine)
    finally:
        for descriptor in inherited:
            os.close(descriptor)


def fail(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


def test_a_filesystem_without_locks_and_links_still_swaps(place, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOTSUP))
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    path = place.path("marker")
    assert place.files.swap(path, None, b"1")
    assert not place.files.swap(path, None, b"2")
    assert place.files.swap(path, b"1", b"2")
    assert os.listdir(place.folder) == ["marker"]


def test_of_two_swaps_without_locks_one_creates_the_file(place, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOTSUP))
    path = place.path("marker")
    other = LocalFiles(fsync=False)
    left = before_call(monkeypatch, "link", lambda: other.swap(path, None, b"other"))
    assert not place.files.swap(path, None, b"1")
    assert not left
    assert place.files.read(path) == b"other"
    assert os.listdir(place.folder) == ["marker"]


def test_a_link_that_is_reported_to_exist_may_be_ours(place, monkeypatch):
    """NFS repeats a request whose answer was lost."""
    link = os.link

    def twice(*args, **kwargs):
        link(*args, **kwargs)
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", twice)
    assert place.files.swap(place.path("marker"), None, b"1")
    assert os.listdir(place.folder) == ["marker"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_swap_that_cannot_be_written_raises_and_leaves_the_old(
    place, monkeypatch, call
):
    path = place.path("marker")
    place.files.swap(path, None, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            place.files.swap(path, b"old", b"new")
    assert os.listdir(place.folder) == ["marker"]
    assert place.files.swap(path, b"old", b"new")


@pytest.mark.parametrize("fsync", [False, True])
def test_a_swap_is_durable_in_the_order_content_name_P2(place, monkeypatch, fsync):
    calls = []
    for name in ("fsync", "link", "replace", "unlink"):
        real = getattr(os, name)

        def call(*args, name=name, real=real, **kwargs):
            kind = name
            if name == "fsync":
                folder = os.path.samestat(os.fstat(args[0]), os.stat(place.folder))
                kind = "sync folder" if folder else "sync file"
            calls.append(kind)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)
    files, path = LocalFiles(fsync), place.path("marker")
    for expected, data, order in [
        (None, b"1", ["sync file", "link", "unlink", "sync folder"]),
        (b"1", b"2", ["sync file", "replace", "sync folder"]),
        (b"2", None, ["unlink", "sync folder"]),
    ]:
        calls.clear()
        assert files.swap(path, expected, data)
        assert calls == [c for c in order if fsync or "sync" not in c]


def test_links_to_folders_are_listed_on_demand(place, tmp_path):
    os.symlink(place.folder, tmp_path / "link")
    assert sorted(place.files.folders(str(tmp_path), links=True)) == ["link", "x"]
    assert place.files.folders(str(tmp_path), links=False) == ["x"]


def test_a_file_that_is_gone_although_its_removal_failed_is_removed(place, monkeypatch):
    real = os.unlink

    def remove_and_fail(*args, **kwargs):
        real(*args, **kwargs)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    names = ["one", "two"]
    for name in names:
        Path(place.path(name)).touch()
    monkeypatch.setattr(os, "unlink", remove_and_fail)
    place.files.remove(place.folder, names)
    assert os.listdir(place.folder) == []
