"""Every fsspec filesystem other than local disk."""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from shutil import copyfileobj
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._filesystem.base import FileInfo, FolderGoneError, Writer
from agatha_ckpt._filesystem.ranges import RangeReader

_MIB = 1024 * 1024
SPOOL_BYTES = 16 * _MIB  # of a file in memory; a larger one goes over a temporary file
_RANGE_BYTES = 8 * _MIB
_MAX_PARTS = 9_000  # S3 takes 10,000 parts in one upload


class RemoteFiles:
    """Any fsspec filesystem: encode to a bounded spool, then one upload.

    Nothing is assumed beyond fsspec's own interface, so that `swap` is not atomic.
    Subclasses use conditional requests.
    """

    local = False
    remote = True
    has_folders = True
    atomic_swap = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs
        # Others may share one connection between threads.
        self.concurrent = bool(getattr(fs, "async_impl", False))
        while hasattr(fs, "fs"):  # that of a chained URL, such as dir::memory://run
            fs = fs.fs
        self.one_process = isinstance(fs, MemoryFileSystem)

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        if size <= (piece or SPOOL_BYTES):
            return io.BytesIO(self.read(path))
        ranges = RangeReader(self._read_range, path, size)
        return io.BufferedReader(ranges, piece or _RANGE_BYTES)

    def tail(self, path: str, size: int, count: int) -> bytes:
        if not size:  # servers refuse a range of an empty object
            return self.read(path)
        return self._read_range(path, max(size - count, 0), size)

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        try:
            data: bytes = self._fs.cat_file(path, start=start, end=end)
        except FileNotFoundError:
            raise
        except Exception:
            # A range beyond the end is an error of its own on each server. A local
            # file gives nothing there, and the decoder reports that it is cut.
            if not self._ends_before(path, start):
                raise
            return b""
        return data

    def _ends_before(self, path: str, start: int) -> bool:
        with contextlib.suppress(Exception):  # the first error is raised
            self._fs.invalidate_cache(path)
            size = self._fs.size(path)
            return size is not None and size <= start
        return False

    def list(self, folder: str) -> dict[str, FileInfo]:
        return {
            name: FileInfo(entry["size"], _modified(entry))
            for name, entry in self._entries(folder, self._ls_files).items()
            if entry["type"] == "file"
        }

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        entries = self._entries(folder, self._ls)
        return [n for n, entry in entries.items() if entry["type"] == "directory"]

    def _entries(
        self, folder: str, ls: Callable[[str], Iterable[Any]]
    ) -> dict[str, Any]:
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

    def _ls(self, path: str) -> Iterable[Any]:
        entries: Iterable[Any] = self._fs.ls(path, detail=True)
        return entries

    def _ls_files(self, folder: str) -> Iterable[Any]:
        """Return what is in a folder; entries of subfolders may be missing."""
        return self._ls(folder)

    def publish(self, folder: str, write: Writer) -> str:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            filename = write(spool)  # type: ignore[arg-type]
            size = spool.tell()
            spool.seek(0)
            path = f"{folder}/{filename}"
            try:
                if size <= SPOOL_BYTES:
                    self._fs.pipe_file(path, spool.read())
                else:
                    self._upload(spool, path, size)
            except FileNotFoundError as error:
                if not self.has_folders:  # the bucket is missing
                    raise
                raise FolderGoneError(folder) from error
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

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        if self._content(path) != expected:
            return False
        try:
            if data is None:
                self._fs.rm_file(path)
            else:
                self._fs.pipe_file(path, data)
        except FileNotFoundError as error:
            if data is None:
                return False
            raise FolderGoneError(os.path.dirname(path)) from error
        except Exception:
            if not self._has_content(path, data):
                raise
        return True

    def _content(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def _has_content(self, path: str, data: bytes | None) -> bool:
        """Return whether a write happened although an error was reported."""
        with contextlib.suppress(Exception):  # the first error is raised
            return self._content(path) == data
        return False

    def remove(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{folder}/{name}")

    def make_folder(self, folder: str) -> None:
        self._fs.makedirs(folder, exist_ok=True)

    def remove_folder(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            self._fs.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        """Do nothing: an upload that was answered is durable."""


def _modified(entry: Mapping[str, Any]) -> float | None:
    """Return when a file was last written; each filesystem has its own key for it."""
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
