"""The operating system below one folder, as tests replace it: `os` and `open`."""

import builtins
import io
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def limited(kind, most):
    """Limit what this process may take, by one of the ``RLIMIT_`` constants."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


class Died(BaseException):
    """Stands for the death of the process: nothing is done after it."""


_REAL = {
    name: getattr(os, name)
    for name in (
        *("open", "close", "fsync", "replace", "link", "unlink", "mkdir", "rmdir"),
        "scandir",
    )
}
_real_open = builtins.open


class System:
    """What a process asks of the operating system for the files below a folder.

    A subclass overrides `call`, `read` and `write`. Kinds of calls are create, open,
    fsync, replace, link, unlink, mkdir, rmdir and scandir.
    """

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.paths = {}  # of open descriptors

    def call(self, kind, do, *paths):
        return do()

    def read(self, do, path):
        return do()

    def write(self, do, path, data):
        return do(data)

    @contextmanager
    def in_place(self) -> Iterator["System"]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtins, "open", self._open_file)
            for name in _REAL:
                patch.setattr(os, name, getattr(self, f"_{name}"))
            yield self

    def _path(self, path, dir_fd=None):
        """Return the absolute path of a file below the folder; None for another."""
        if not isinstance(path, str | os.PathLike):
            return None
        if dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        path = os.path.abspath(path)
        below = path == self.folder or path.startswith(self.folder + os.sep)
        return path if below else None

    def _open_file(self, file, mode="r", buffering=-1, *args, opener=None, **options):
        if "b" not in mode or (opener is None and self._path(file) is None):
            options |= {"opener": opener}
            return _real_open(file, mode, buffering, *args, **options)
        opener = opener or (lambda path, flags: self._open(path, flags, 0o666))
        raw = _RawFile(self, file, mode.replace("b", ""), opener)
        buffered = io.BufferedReader if "r" in mode else io.BufferedWriter
        return buffered(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        def do():
            return _REAL["open"](path, flags, mode, dir_fd=dir_fd)

        found = self._path(path, dir_fd)
        if found is None:
            return do()
        descriptor = self.call("create" if flags & os.O_CREAT else "open", do, found)
        self.paths[descriptor] = found
        return descriptor

    def _close(self, descriptor):
        self.paths.pop(descriptor, None)
        _REAL["close"](descriptor)

    def _fsync(self, descriptor):
        def do():
            _REAL["fsync"](descriptor)

        path = self.paths.get(descriptor)
        return do() if path is None else self.call("fsync", do, path)

    def _two(self, kind, source, target, src_dir_fd=None, dst_dir_fd=None):
        def do():
            descriptors = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}
            _REAL[kind](source, target, **descriptors)

        paths = self._path(source, src_dir_fd), self._path(target, dst_dir_fd)
        return do() if None in paths else self.call(kind, do, *paths)

    def _replace(self, source, target, **descriptors):
        return self._two("replace", source, target, **descriptors)

    def _link(self, source, target, **descriptors):
        return self._two("link", source, target, **descriptors)

    def _one(self, kind, path, *args, dir_fd=None):
        def do():
            options = {} if dir_fd is None else {"dir_fd": dir_fd}
            return _REAL[kind](path, *args, **options)

        found = self._path(path, dir_fd)
        return do() if found is None else self.call(kind, do, found)

    def _unlink(self, path, *, dir_fd=None):
        return self._one("unlink", path, dir_fd=dir_fd)

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        return self._one("mkdir", path, mode, dir_fd=dir_fd)

    def _rmdir(self, path, *, dir_fd=None):
        return self._one("rmdir", path, dir_fd=dir_fd)

    def _scandir(self, path="."):
        return self._one("scandir", path)


class _RawFile(io.FileIO):
    def __init__(self, system, file, mode, opener):
        super().__init__(file, mode, opener=opener)
        self._system = system
        self.path = system.paths.get(self.fileno())

    def write(self, data):
        data = bytes(data)
        if self.path is None:
            return super().write(data)
        return self._system.write(super().write, self.path, data)

    def readinto(self, buffer):
        if self.path is None:
            return super().readinto(buffer)
        read = super().read
        data = self._system.read(lambda: read(len(buffer)), self.path)
        buffer[: len(data)] = data
        return len(data)

    def readall(self):
        if self.path is None:
            return super().readall()
        return self._system.read(super().readall, self.path)

    def close(self):
        if not self.closed:
            self._system.paths.pop(self.fileno(), None)
        super().close()
