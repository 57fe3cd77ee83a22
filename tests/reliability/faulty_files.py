"""Filesystems on which one operation, or all from one on, go wrong.

An injector counts the operations of a filesystem: those that `agatha_ckpt` asks of the
operating system for a root on local disk, and those that it asks of an fsspec
filesystem elsewhere. The operation that a fault names goes wrong as the fault says.
"""

import errno
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from fsspec import AbstractFileSystem
from fsspec.asyn import sync
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import CheckpointStore
from tests.reliability.system import Died, System

READS, LISTINGS = frozenset({"read", "get"}), frozenset({"list"})
BODIES = frozenset({"write", "put"})  # these carry a part or the whole of a file
REQUESTS = frozenset({"put", "create", "delete"})
NEEDS_SPACE = BODIES | {"create", "rename", "open", "mkdir"}
CHANGES = NEEDS_SPACE | {"delete", "sync"}
EVERYTHING = READS | LISTINGS | CHANGES

# Kinds of faults, and the operations that each can happen to.
ERRORS = {
    "error before": EVERYTHING,
    "error after": CHANGES,  # it was done, and the answer was lost
    "outage": EVERYTHING,  # an error, and an error for everything that follows
    "no space": NEEDS_SPACE,  # and none for everything that follows
    "death before": EVERYTHING,
    "death after": CHANGES,
    "torn, then an error": BODIES,
    "torn, then death": BODIES,
    "done twice": frozenset({"create", "delete"}),  # as by a client that retries
    "late": REQUESTS,  # an error, and it is done after the next run
}
# Faults that the filesystem does not report.
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
KINDS = ERRORS | LIES
LASTING = frozenset({"outage", "no space"})
_ERRORS = (OSError, PermissionError, TimeoutError, ConnectionResetError)


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
    """Counts operations, and lets a fault happen to one of them."""

    fault: Fault | None = None
    operations: list = field(default_factory=list)  # kind and file name of each
    raised: list = field(default_factory=list)  # errors, as the filesystem's
    struck: int | None = None  # the operation that the fault happened to first
    dead: bool = False
    _late: list = field(default_factory=list)
    _lock: object = field(default_factory=threading.Lock)

    def __call__(self, operation, path, do, data=None):
        """Call *do*, with *data* if given, or let the fault happen."""
        with self._lock:
            number = len(self.operations)
            self.operations.append((operation, os.path.basename(str(path))))
        if self.dead:
            raise Died
        done = do if data is None else partial(do, data)
        if not self._strikes(number, operation):
            return done()
        return self._happen(operation, do, done, data)

    def _strikes(self, number, operation):
        fault = self.fault
        if fault is None or operation not in KINDS[fault.kind]:
            return False
        with self._lock:
            if self.struck is not None:
                return fault.kind in LASTING
            if number == fault.at or (fault.waits and number > fault.at):
                self.struck = number
                return True
        return False

    def _happen(self, operation, do, done, data):
        kind = self.fault.kind
        match kind:
            case "short read":
                found = do()
                return found[: len(found) // 2]
            case "flipped read":
                return flipped(do())
            case "nothing to read":
                raise FileNotFoundError(errno.ENOENT, "an injected absence")
            case "empty listing":
                return []
            case "half a listing":
                return list(do())[::2]
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
            case "error after" | "death after":
                found = done()
                if operation == "open":  # its caller does not get the descriptor
                    os.close(found)
            case "torn, then an error" | "torn, then death":
                do(_half(data))
            case "no space" if operation == "write":
                do(_half(data))
        if "death" in kind:
            self.dead = True
            raise Died
        raise self._error(errno.ENOSPC if kind == "no space" else errno.EIO)

    def _error(self, number):
        """Return an error of a kind that filesystems raise."""
        kind = _ERRORS[len(self.operations) % len(_ERRORS)]
        error = (kind if number == errno.EIO else OSError)(number, "an injected fault")
        self.raised.append(error)
        return error

    def land(self):
        """Do what is late; return whether anything was."""
        any_late = bool(self._late)
        while self._late:
            # The server may refuse it; its client is gone.
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


# ---- fsspec filesystems ----


class FaultyFileSystem(AbstractFileSystem):
    """An fsspec filesystem that asks an injector for each operation."""

    cachable = False

    def __init__(self, real, injector):
        super().__init__()
        self.real, self.injector = real, injector
        self.protocol = real.protocol
        for name in (
            *("_strip_protocol", "unstrip_protocol", "invalidate_cache"),
            *("split_path", "loop"),
        ):
            if hasattr(real, name):
                setattr(self, name, getattr(real, name))

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

    def cp_file(self, path1, path2, **options):
        self.injector("create", path2, lambda: self.real.cp_file(path1, path2))

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


class FaultyS3(FaultyFileSystem):
    """An S3 filesystem, whose conditional requests the library makes by `call_s3`."""

    def call_s3(self, operation, **options):
        def request():
            return self.real.call_s3(operation, **options)

        if operation == "delete_objects":
            return self.injector(
                "delete", options["Delete"]["Objects"][0]["Key"], request
            )
        key = options["Key"]
        if operation == "get_object":
            answer = request()
            data = self.injector(
                "get", key, lambda: sync(self.loop, answer["Body"].read)
            )
            return answer | {"Body": _Body(data)}
        kind = {"put_object": "create", "delete_object": "delete"}[operation]
        return self.injector(kind, key, request)


@dataclass(frozen=True)
class _Body:
    data: bytes

    async def read(self):
        return self.data

    def close(self):
        """Do nothing: the answer is in memory."""


class FaultyMemory(FaultyFileSystem, MemoryFileSystem):
    """The memory filesystem, which the library knows by its class."""


# ---- local disk ----

_OPERATIONS = {
    "create": "open",
    "open": "open",
    "fsync": "sync",
    "replace": "rename",
    "link": "create",
    "unlink": "delete",
    "rmdir": "delete",
    "mkdir": "mkdir",
    "scandir": "list",
}


class FaultySystem(System):
    """The operating system, asking an injector for each operation."""

    def __init__(self, folder, injector):
        super().__init__(folder)
        self.injector = injector

    def call(self, kind, do, *paths):
        if kind == "scandir":
            return _Listing(self.injector("list", paths[0], lambda: _entries(do)))
        if kind == "fsync":  # what a sync does for a power cut is for `test_power`
            return self.injector("sync", paths[0], lambda: None)
        return self.injector(_OPERATIONS[kind], paths[-1], do)

    def read(self, do, path):
        return self.injector("read", path, do)

    def write(self, do, path, data):
        return self.injector("write", path, do, data)


def _entries(scandir):
    with scandir() as entries:
        return sorted(entries, key=lambda entry: entry.name)


class _Listing(list):
    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        pass


@contextmanager
def faulty_store(store, injector):
    """Give *store* as a process sees it in which the injector's fault happens."""
    if "://" in str(store.root):
        kind = FaultyMemory if isinstance(store.fs, MemoryFileSystem) else FaultyS3
        yield CheckpointStore(str(store.root), fs=kind(store.fs, injector))
        return
    with FaultySystem(store.root, injector).in_place():
        yield CheckpointStore(store.root)
