"""Every fsspec filesystem other than local disk."""

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from shutil import copyfileobj
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._filesystem.base import FileInfo, Files, FolderGoneError, Writer
from agatha_ckpt._filesystem.descriptors import not_a_file
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._filesystem.ranges import RangeReader
from agatha_ckpt._filesystem.sharing import is_concurrent, knows, layers, lock_of
from agatha_ckpt._format.names import temporary_filename

_MIB = 1024 * 1024
SPOOL_BYTES = 16 * _MIB  # of a file in memory; a larger one goes over a temporary file
_RANGE_BYTES = 8 * _MIB
_TRIES = 4  # against other runs that change a folder at the same moment


class RemoteFiles:
    """Any fsspec filesystem: encode to a bounded spool, then one upload.

    Nothing is assumed beyond fsspec's own interface, so that `swap` is not atomic.
    Subclasses use conditional requests.
    """

    local = False
    remote = True
    has_folders = True
    can_remove_folders = True

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs
        self.concurrent = is_concurrent(fs)
        self.one_process = any(isinstance(f, MemoryFileSystem) for f in layers(fs))
        self._lock = nullcontext() if self.concurrent else lock_of(fs)
        # SMB lets no second reader open a file by default.
        self._options = {"share_access": "rwd"} if hasattr(fs, "share_access") else {}
        # sshfs returns all of a file whatever the range.
        cat_file = getattr(fs, "_cat_file", fs.cat_file)
        self._has_ranges = not self.concurrent or knows(cat_file, "start")

    @contextmanager
    def _calling(self, path: str) -> Iterator[None]:
        """Call the filesystem for *path*; only FileNotFoundError means absent."""
        with self._lock:
            try:
                yield
            except Exception as error:
                if self._means_absent(error, path):
                    raise FileNotFoundError(
                        errno.ENOENT, os.strerror(errno.ENOENT), path
                    ) from error
                if isinstance(error, FileNotFoundError):
                    raise OSError(f"{path}: {error.__cause__ or error}") from error
                if isinstance(error, IsADirectoryError):
                    raise not_a_file(path) from error
                raise

    def _means_absent(self, error: Exception, path: str) -> bool:
        if isinstance(error, KeyError):  # of zip, with older fsspec
            used = layers(self._fs)
            return any(isinstance(fs, AbstractArchiveFileSystem) for fs in used)
        # SMB raises an OSError of its own.
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        return absent or getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR)

    def read(self, path: str) -> bytes:
        with self._calling(path):
            data: bytes = self._fs.cat_file(path, **self._options)
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
            with self._calling(path):
                data = self._fetch(path, start, end)
        except FileNotFoundError:
            raise
        except Exception:
            # A range beyond the end is an error of its own on each server. A local
            # file gives nothing there, and the decoder reports that it is cut.
            if not self._ends_before(path, start):
                raise
            return b""
        return data[start:end] if len(data) > end - start else data

    def _fetch(self, path: str, start: int, end: int) -> bytes:
        if self._has_ranges:
            data: bytes = self._fs.cat_file(path, start=start, end=end, **self._options)
            return data
        with self._fs.open(path, "rb") as file:
            file.seek(start)
            found: bytes = file.read(end - start)
            return found

    def _ends_before(self, path: str, start: int) -> bool:
        with suppress(Exception), self._calling(path):  # the first error is raised
            self._fs.invalidate_cache(path)
            size = self._fs.size(path)
            return size is not None and size <= start
        return False

    def list(self, folder: str) -> dict[str, FileInfo]:
        entries = {
            name: entry
            for name, entry in self._entries(folder, self._ls_files).items()
            # An object with a slash at its end stands for a folder.
            if entry["type"] == "file" and not entry["name"].endswith("/")
        }
        unknown = [name for name in entries if entries[name].get("size") is None]
        asked = map_ordered(
            lambda name: self._size(f"{folder.rstrip('/')}/{name}"),
            unknown,
            self.concurrent,
        )
        sizes = dict(zip(unknown, asked, strict=True))
        return {
            name: FileInfo(size, _modified(entry))
            for name, entry in entries.items()
            if (size := sizes.get(name, entry.get("size"))) is not None
        }

    def _size(self, path: str) -> int | None:
        """Return the size of a file that a listing names without; None if it is gone.

        Some HTTP servers tell it by a request for the file, and some only with all
        of its content.
        """
        try:
            with self._calling(path):
                size: int | None = self._fs.size(path)
            return len(self.read(path)) if size is None else size
        except FileNotFoundError:
            return None

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        entries = self._entries(folder, self._ls)
        return [n for n, entry in entries.items() if entry["type"] == "directory"]

    def _entries(
        self, folder: str, ls: Callable[[str], Iterable[Any]]
    ) -> dict[str, Any]:
        folder = folder.rstrip("/")
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._calling(folder):
                    self._fs.invalidate_cache(folder)
                    listing = ls(folder)
                break
            except FileNotFoundError:
                # SMB asks for each file after the listing, and another run may have
                # removed one meanwhile.
                if not (self.has_folders and self._exists(folder)):
                    return {}
                if not tries_left:
                    raise
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

    def _exists(self, path: str) -> bool:
        # fs.exists takes each error for absence.
        try:
            with self._calling(path):
                self._fs.invalidate_cache(path)
                self._fs.invalidate_cache(os.path.dirname(path))
                self._fs.info(path)
        except FileNotFoundError:
            return False
        return True

    def publish(self, folder: str, write: Writer) -> str:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            filename = write(spool)  # type: ignore[arg-type]
            size = spool.tell()
            spool.seek(0)
            path = f"{folder}/{filename}"
            with self._writing(folder, path):
                if size <= SPOOL_BYTES:
                    self._fs.pipe_file(path, spool.read(), **self._options)
                else:
                    self._upload(spool, path, size)
        return filename

    @contextmanager
    def _writing(self, folder: str, path: str) -> Iterator[None]:
        try:
            with self._calling(path):
                yield
        except FileNotFoundError as error:
            if not self.has_folders or self._exists(folder):
                # The bucket is missing, or FTP has no permission.
                raise (error.__cause__ or error) from None
            raise FolderGoneError(folder) from error

    def _upload(self, spool: Any, path: str, size: int) -> None:
        target = self._fs.open(path, "wb", **self._upload_options(size))
        try:
            copyfileobj(spool, target, 4 * _MIB)
            target.close()
        except BaseException:
            # Closing would publish what has been sent so far, and so would the
            # garbage collector if the file did not look closed.
            if hasattr(target, "discard"):
                with suppress(Exception):
                    target.discard()
                with suppress(AttributeError):
                    target.closed = True
            else:
                with suppress(Exception):
                    target.close()
                with suppress(Exception):
                    self._fs.rm_file(path)
            raise

    def _upload_options(self, size: int) -> dict[str, Any]:
        return self._options

    def atomic_swap(self, folder: str) -> bool:
        return False

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        with self._lock:
            if self._content(path) != expected:
                return False
            try:
                if data is None:
                    with self._calling(path):
                        self._fs.rm_file(path)
                else:
                    with self._writing(os.path.dirname(path), path):
                        self._fs.pipe_file(path, data, **self._options)
            except FolderGoneError:
                raise
            except FileNotFoundError:
                return False
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
        with suppress(Exception):  # the first error is raised
            return self._content(path) == data
        return False

    def remove(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            path = f"{folder}/{name}"
            with suppress(FileNotFoundError), self._calling(path):
                self._fs.rm_file(path)

    def clone(self, source: Files, path: str, target: str, link: bool) -> bool:
        return False

    def make_folder(self, folder: str) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._calling(folder):
                    self._fs.makedirs(folder, exist_ok=True)
                break
            except Exception:
                # Another run may make it, or its parent, at the same moment.
                if self._exists(folder):
                    break
                if not tries_left:
                    raise
        self._try_to_write(folder)

    def _try_to_write(self, folder: str) -> None:
        """Write a file and remove it; many filesystems can only be read."""
        name = temporary_filename()
        try:
            self.remove(folder, [name])  # also where nothing can be removed
            with self._calling(folder):
                self._fs.pipe_file(f"{folder}/{name}", b"", **self._options)
            self.remove(folder, [name])
        except OSError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise OSError(errno.EROFS, reason, folder) from error

    def remove_folder(self, folder: str) -> None:
        if self.can_remove_folders:
            with suppress(Exception), self._calling(folder):
                self._fs.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        """Do nothing: an upload that was answered is durable."""


def _modified(entry: Mapping[str, Any]) -> float | None:
    """Return when a file was last written; each filesystem has its own key for it."""
    keys = "LastModified", "last_modified", "mtime", "modified", "updated", "modify"
    for key in keys:
        if entry.get(key):
            return _timestamp(entry[key])
    return _timestamp(entry.get("created"))


def _timestamp(value: object) -> float | None:
    if isinstance(value, str):
        try:
            if value.isdigit():  # FTP
                value = datetime.strptime(value, "%Y%m%d%H%M%S")
            else:
                value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, int | float) else None
