"""Object stores, and every other filesystem that is not local disk."""

import contextlib
import inspect
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from shutil import copyfileobj
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._filesystem.base import Stored, Writer

_MIB = 1024 * 1024
SPOOL_BYTES = 16 * _MIB  # of a file in memory; a larger one goes over a temporary file
_RANGE_BYTES = 8 * _MIB
_MAX_PARTS = 9_000  # S3 takes 10,000 parts in one upload
_CREATE_TRIES = 12
_S3 = frozenset({"s3", "s3a"})
_GCS = frozenset({"gs", "gcs"})
_AZURE = frozenset({"abfs", "abfss", "az"})
_memory_lock = threading.Lock()


class ObjectFiles:
    """Any other filesystem: encode to a bounded spool, then one upload."""

    local = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs
        protocol = fs.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._s3 = bool(protocols & _S3)
        self._gcs = bool(protocols & _GCS)
        self._azure = bool(protocols & _AZURE)
        self._conditional = self._s3 or self._gcs or self._azure
        self._memory = self.one_process = isinstance(fs, MemoryFileSystem)
        self.remote = not self._memory
        # s3fs asks for the size first unless it is told to use one connection.
        read = inspect.signature(getattr(fs, "_cat_file", fs.cat_file))
        one = {"max_concurrency": 1}
        self._read_options = one if one.keys() <= read.parameters.keys() else {}

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path, **self._read_options)
        return data

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        # All readers of one file in the memory filesystem share one position.
        if self._memory or size <= (piece or SPOOL_BYTES):
            return io.BytesIO(self.read(path))
        ranges = _Ranges(self._read_range, path, size)
        return io.BufferedReader(ranges, piece or _RANGE_BYTES)

    def tail(self, path: str, size: int, count: int) -> bytes:
        if not size:  # of an empty object no server gives a part
            return self.read(path)
        return self._read_range(path, max(size - count, 0), size)

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        try:
            data: bytes = self._fs.cat_file(path, start=start, end=end)
        except FileNotFoundError:
            raise
        except Exception:
            # Of what begins beyond the end, servers give an error, each its own; a
            # file gives nothing, and whoever reads it says that it is cut.
            if not self._ends_before(path, start):
                raise
            return b""
        return data

    def _ends_before(self, path: str, start: int) -> bool:
        with contextlib.suppress(Exception):  # the first error says more
            self._fs.invalidate_cache(path)
            size = self._fs.size(path)
            return size is not None and size <= start
        return False

    def sizes(self, folder: str) -> dict[str, int]:
        return {name: file.bytes for name, file in self.stored(folder).items()}

    def stored(self, folder: str) -> dict[str, Stored]:
        return {
            name: Stored(entry["size"], _modified(entry))
            for name, entry in self._entries(folder, self._listing).items()
            if entry["type"] == "file"
        }

    def folders(self, folder: str, links: bool) -> list[str]:
        entries = self._entries(folder, self._ls)
        return [n for n, entry in entries.items() if entry["type"] == "directory"]

    def _entries(self, folder: str, ls: Callable[[str], list[Any]]) -> dict[str, Any]:
        folder = folder.rstrip("/")
        self._fs.invalidate_cache(folder)
        try:
            listing = ls(folder)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {
            name: entry
            for entry in listing
            if (name := entry["name"].rstrip("/").removeprefix(f"{folder}/"))
            and "/" not in name
        }

    def _ls(self, path: str, **options: Any) -> list[Any]:
        return list(self._fs.ls(path, detail=True, **options))

    def _listing(self, folder: str) -> list[Any]:
        # Of a prefix in the bucket, which need not exist: of a folder that does not,
        # the clients would ask by a request more whether it is a file.
        bucket, _, key = folder.partition("/")
        if self._s3 or self._azure:
            found = self._fs.find(bucket, prefix=f"{key}/", detail=True)
            return list(found.values())
        if self._gcs:
            return self._ls(bucket, prefix=f"{key}/")
        return self._ls(folder)

    def publish(self, folder: str, write: Writer) -> str:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            filename = write(spool)  # type: ignore[arg-type]
            size = spool.tell()
            spool.seek(0)
            path = f"{folder}/{filename}"
            if size <= SPOOL_BYTES:
                self._fs.pipe_file(path, spool.read())
            else:
                self._upload(spool, path, size)
        return filename

    def _upload(self, spool: Any, path: str, size: int) -> None:
        part = max(SPOOL_BYTES, -(-size // _MAX_PARTS // _MIB) * _MIB)
        target = self._fs.open(path, "wb", block_size=part)
        try:
            copyfileobj(spool, target, 4 * _MIB)
            target.close()
        except BaseException:
            # Closing would publish what has been sent so far, and so would the
            # garbage collector if the file did not look closed.
            with contextlib.suppress(Exception):
                target.discard()
            target.closed = True
            raise

    def create(self, path: str, data: bytes) -> bool:
        try:
            if self._conditional:
                return self._create_conditionally(path, data)
            if self._memory:
                with _memory_lock:  # its create looks first and writes then
                    self._fs.pipe_file(path, data, mode="create")
            elif self._fs.exists(path):
                return False
            else:
                self._fs.pipe_file(path, data)
        except FileExistsError:
            return False
        return True

    def _create_conditionally(self, path: str, data: bytes) -> bool:
        for tries_left in reversed(range(_CREATE_TRIES)):
            try:
                self._fs.pipe_file(path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:
                status = _http_status(error)
                if status == 412:  # some servers do not say which condition failed
                    return False
                if status != 409 or not tries_left:
                    raise
            # S3 says 409 while another writer's request is under way. s3fs does not
            # try again, as it does after other answers of this kind.
            time.sleep(random.uniform(0, 0.1 * (_CREATE_TRIES - tries_left)))
        raise AssertionError("unreachable")

    def replace(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(path, data)

    def remove(self, folder: str, names: Iterable[str]) -> None:
        paths = [f"{folder}/{name}" for name in names]
        aloud = self._s3 and len(paths) == 1
        if aloud or not self._conditional or any(c in folder for c in "*?["):
            # Bulk deletes are worth it on object stores only, and s3fs says nothing of
            # what one could not delete; and rm takes such a path for a pattern, and
            # would delete its neighbours.
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(path)
        elif paths:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(paths)

    def make_folder(self, folder: str) -> None:
        if self._has_folders:
            self._fs.makedirs(folder, exist_ok=True)

    def remove_folder(self, folder: str) -> None:
        if self._has_folders:
            with contextlib.suppress(OSError):
                self._fs.rmdir(folder)

    @property
    def _has_folders(self) -> bool:
        return not (self._memory or self._conditional)

    def hold(self, path: str) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def is_held(self, path: str) -> bool:
        return False

    def sync_folder(self, folder: str) -> None:
        """Do nothing: an upload that was answered is durable."""


class _Ranges(io.RawIOBase):
    """A file that is read by one request for each range that is asked for."""

    def __init__(
        self, read_range: Callable[[str, int, int], bytes], path: str, size: int
    ) -> None:
        self._read_range = read_range
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
        self._at = start[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if self._at >= end:
            return 0
        data = self._read_range(self._path, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _modified(entry: Mapping[str, Any]) -> float | None:
    """Return when a file was last written, which each filesystem says in its way."""
    for key in ("LastModified", "last_modified", "mtime", "modified", "updated"):
        if entry.get(key):
            return _timestamp(entry[key])
    return _timestamp(entry.get("created"))


def _timestamp(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, int | float) else None


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an answer that botocore raised, where it is one."""
    response = getattr(error.__cause__ or error, "response", None)
    if not isinstance(response, dict):
        return None
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
