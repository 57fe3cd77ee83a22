"""Filesystems on which one operation, or all from one on, go wrong.

An injector counts the operations of a filesystem: those that `agatha_ckpt` asks of the
operating system for a root on local disk, and those that it asks of an fsspec
filesystem elsewhere. It lets the one that a fault names happen as the fault says.
"""

import errno
import io
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import CheckpointStore
from agatha_ckpt._filesystem import local as _local
from agatha_ckpt._store import rivals as _rivals

READS, LISTINGS = frozenset({"read", "get"}), frozenset({"list"})
BODIES = frozenset({"write", "put"})  # what carries a part or the whole of a file
REQUESTS = frozenset({"put", "create", "delete"})
NEEDS_SPACE = BODIES | {"create", "rename", "open", "mkdir"}
CHANGES = NEEDS_SPACE | {"delete", "sync"}
EVERYTHING = READS | LISTINGS | CHANGES

# What a fault is called, and the operations that it can happen to.
FAULTS = {
    "error before": EVERYTHING,
    "error after": CHANGES,  # it was done, and the answer was lost
    "outage": EVERYTHING,  # an error, and so is all that comes after
    "no space": NEEDS_SPACE,  # and so for all that comes after
    "death before": EVERYTHING,
    "death after": CHANGES,
    "torn, then an error": BODIES,
    "torn, then death": BODIES,
    "done twice": frozenset({"create", "delete"}),  # as by a client that tries again
    "late": REQUESTS,  # an error, and it is done after the next run
}
# Those in which the filesystem says that all is well.
LIES = {
    "torn, unseen": BODIES,
    "flipped, unseen": BODIES,
    "lost, unseen": BODIES | {"create"},
    "short read": READS,
    "flipped read": READS,
    "nothing to read": frozenset({"get"}),
    "empty listing": LISTINGS,
    "half a listing": LISTINGS,
}
LASTING = frozenset({"outage", "no space"})
_ERRORS = (OSError, PermissionError, TimeoutError, ConnectionResetError)


class Died(BaseException):
    """Stands for the end of the process: nothing is done after it."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the operation number *at*, from 0.

    Or, if it *waits*, at the first one from there on that it can happen to.
    """

    kind: str
    at: int
    waits: bool = False


@dataclass
class Injector:
    """Counts operations, and lets a fault happen to one of them.

    Attributes
    ----------
    fault : Fault, optional
    operations : list
        Kind and file name of each.
    raised : list
        The errors that were raised as the filesystem's.
    struck : int, optional
        The number of the operation that the fault happened to first.
    """

    fault: Fault | None = None
    operations: list = field(default_factory=list)
    raised: list = field(default_factory=list)
    struck: int | None = None
    dead: bool = False
    _late: list = field(default_factory=list)
    _open: list = field(default_factory=list)
    _lock: object = field(default_factory=threading.Lock)

    def __call__(self, operation, path, do, data=None):
        """Call *do*, with *data* if given, or let happen what the fault says."""
        with self._lock:
            number = len(self.operations)
            self.operations.append((operation, os.path.basename(str(path))))
        if self.dead:
            raise Died
        if not self._strikes(number, operation):
            return do() if data is None else do(data)
        if operation in READS:
            return self._read(do)
        return self._happen(operation, do, data)

    def _strikes(self, number, operation):
        fault = self.fault
        if fault is None or operation not in (FAULTS | LIES)[fault.kind]:
            return False
        with self._lock:
            if self.struck is not None:
                return fault.kind in LASTING
            if number == fault.at or (fault.waits and number > fault.at):
                self.struck = number
                return True
        return False

    def _read(self, do):
        match self.fault.kind:
            case "short read":
                found = do()
                return found[: len(found) // 2]
            case "flipped read":
                return flipped(do())
            case "nothing to read":
                raise FileNotFoundError(errno.ENOENT, "an injected absence")
            case "death before":
                raise self.death()
        raise self.error(errno.EIO)

    def _happen(self, operation, do, data):
        done = do if data is None else partial(do, data)
        match self.fault.kind:
            case "error after":
                _close(done())
                raise self.error(errno.EIO)
            case "no space":
                if operation == "write":
                    do(_half(data))
                raise self.error(errno.ENOSPC)
            case "death before":
                raise self.death()
            case "death after":
                _close(done())
                raise self.death()
            case "torn, then an error":
                do(_half(data))
                raise self.error(errno.EIO)
            case "torn, then death":
                do(_half(data))
                raise self.death()
            case "torn, unseen":
                do(_half(data))
                return len(data)
            case "flipped, unseen":
                return do(flipped(data))
            case "lost, unseen":
                return None if data is None else len(data)
            case "done twice":
                done()
                return done()
            case "late":
                self._late.append(done)
                raise self.error(errno.EIO)
            case "empty listing":
                return []
            case "half a listing":
                return list(do())[::2]
        raise self.error(errno.EIO)

    def error(self, number):
        """Return an error of a kind that filesystems raise."""
        kind = _ERRORS[len(self.operations) % len(_ERRORS)]
        kind = kind if number == errno.EIO else OSError
        error = kind(number, "an injected fault")
        self.raised.append(error)
        return error

    def death(self):
        """Return the end of the process; it can do nothing from now on."""
        self.dead = True
        return Died()

    def opened(self, descriptor):
        """Take note of a descriptor that the end of the process would close."""
        self._open.append(descriptor)
        return descriptor

    def closed(self, descriptor):
        """Forget a descriptor."""
        self._open.remove(descriptor)

    def bury(self):
        """Do what the system does when a process has ended; the next begins."""
        for descriptor in self._open:
            _local._held.discard(descriptor)
            os.close(descriptor)
        self._open.clear()
        _rivals._ended.clear()
        _rivals._lost.clear()

    def land(self):
        """Do what is late; say whether anything was."""
        any_late = bool(self._late)
        while self._late:
            # A server may say no, and nobody hears it.
            with suppress(OSError):
                self._late.pop(0)()
        return any_late


def _half(data):
    return bytes(data[: len(data) // 2])


def flipped(data):
    """Return *data* with one bit changed."""
    if not len(data):
        return data
    middle = len(data) // 2
    return b"".join([data[:middle], bytes([data[middle] ^ 0x10]), data[middle + 1 :]])


def _close(found):
    if isinstance(found, int):
        pass  # the injector closes descriptors
    elif hasattr(found, "close"):
        found.close()


# ---- fsspec filesystems ----


class Faulty(AbstractFileSystem):
    """An fsspec filesystem that asks an injector for each operation."""

    cachable = False

    def __init__(self, real, injector):
        super().__init__()
        self.real, self.injector = real, injector
        self.protocol = real.protocol
        self._strip_protocol = real._strip_protocol
        self.unstrip_protocol = real.unstrip_protocol
        self.invalidate_cache = real.invalidate_cache

    def __reduce__(self):
        raise TypeError("a filesystem with faults stays in its process")

    def cat_file(self, path, start=None, end=None, **options):
        return self.injector(
            "get",
            path,
            lambda: self.real.cat_file(path, start=start, end=end, **options),
        )

    def pipe_file(self, path, value, mode="overwrite", **options):
        def put(data):
            self.real.pipe_file(path, data, mode=mode, **options)

        if mode == "create":
            return self.injector("create", path, partial(put, value))
        return self.injector("put", path, put, value)

    def rm_file(self, path):
        self.injector("delete", path, lambda: self.real.rm_file(path))

    def rm(self, path, recursive=False, maxdepth=None):
        assert isinstance(path, list)
        assert not recursive
        self.injector("delete", path[-1], lambda: self.real.rm(path))

    def ls(self, path, detail=True, **options):
        return self.injector(
            "list", path, lambda: self.real.ls(path, detail=True, **options)
        )

    def find(self, path, prefix="", detail=True, **options):
        def found():
            names = self.real.find(path, prefix=prefix, detail=True, **options)
            return list(names.values())

        listing = self.injector("list", prefix, found)
        return {entry["name"]: entry for entry in listing}


class FaultyMemory(Faulty, MemoryFileSystem):
    """The memory filesystem, which has its own rules in the library."""


def faulty(real, injector):
    """Return a filesystem that asks *injector* before it asks *real*."""
    kind = FaultyMemory if isinstance(real, MemoryFileSystem) else Faulty
    return kind(real, injector)


# ---- local disk ----


class _File(io.FileIO):
    """A file whose reads and writes ask an injector, below the buffer."""

    def __init__(self, path, mode, injector):
        super().__init__(path, mode)
        self._injector = injector

    def write(self, data):
        return self._injector("write", self.name, super().write, bytes(data))

    def readinto(self, buffer):
        data = self._injector("read", self.name, partial(super().read, len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def readall(self):
        return self._injector("read", self.name, super().readall)


class FaultyOs:
    """What `os` is for the module for local disk, and asks an injector."""

    def __init__(self, injector):
        self._injector = injector

    def __getattr__(self, name):
        return getattr(os, name)

    def open_file(self, path, mode, buffering=io.DEFAULT_BUFFER_SIZE):
        def opened():
            return _File(path, mode.replace("b", ""), self._injector)

        file = self._injector("open", path, opened)
        buffered = io.BufferedReader if mode == "rb" else io.BufferedWriter
        return buffered(file, buffering)

    def open(self, path, *flags):
        def opened():
            return self._injector.opened(os.open(path, *flags))

        return self._injector("open", path, opened)

    def close(self, descriptor):
        os.close(descriptor)
        self._injector.closed(descriptor)

    def fsync(self, descriptor):
        # It is not done: what a sync does for a power cut is for `test_power`.
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self._injector("sync", path, lambda: None)

    def replace(self, source, target):
        self._injector("rename", target, partial(os.replace, source, target))

    def link(self, source, target):
        self._injector("create", target, partial(os.link, source, target))

    def unlink(self, path):
        self._injector("delete", path, partial(os.unlink, path))

    def mkdir(self, path):
        self._injector("mkdir", path, partial(os.mkdir, path))

    def rmdir(self, path):
        self._injector("delete", path, partial(os.rmdir, path))

    def scandir(self, path):
        return _Listing(self._injector("list", path, lambda: _entries(path)))


def _entries(path):
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


class _Listing(list):
    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        pass


@contextmanager
def faulty_store(store, injector):
    """Give *store* as a process sees it in which the injector's fault happens."""
    try:
        if not store._root.is_local:
            fs = faulty(store.fs, injector)
            yield CheckpointStore(str(store.root), fs=fs)
            return
        with pytest.MonkeyPatch.context() as patch:
            system = FaultyOs(injector)
            patch.setattr(_local, "os", system)
            patch.setattr(_local, "open", system.open_file, raising=False)
            yield CheckpointStore(store.root)
    finally:
        injector.bury()
