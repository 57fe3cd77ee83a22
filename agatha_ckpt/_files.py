"""How a file becomes visible, whole and durable, on each kind of filesystem.

Two rooms with the same doors: `LocalFiles` for local disk, `ObjectFiles` for every
other fsspec filesystem. Paths are the filesystem's own, without protocol.
"""

import contextlib
import inspect
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from shutil import copyfileobj
from typing import Any, BinaryIO, Protocol

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._layout import temporary_filename

SPOOL_BYTES = 16 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
_memory_lock = threading.Lock()

Writer = Callable[[BinaryIO], str]


class FolderGoneError(Exception):
    """The folder was removed while a file was being written into it."""


class Files(Protocol):
    """What a store needs of a filesystem."""

    local: bool  # whether this is local disk
    remote: bool  # whether reading costs a trip over a network
    one_process: bool  # whether other processes see other files

    def read(self, path: str) -> bytes:
        """Return the content of a file; only FileNotFoundError means absent."""

    def open(self, path: str, size: int) -> BinaryIO:
        """Open a file of *size* bytes for reading in pieces."""

    def tail(self, path: str, size: int, count: int) -> bytes:
        """Return the last *count* bytes of a file of *size* bytes."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names and sizes of the files in a folder, by one listing."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, by one listing."""

    def publish(self, folder: str, write: Writer) -> str:
        """Write a file that appears when it is whole, under the name *write* returns.

        Whatever *write* raises, nothing appears.
        """

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists; say whether it was written."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a file in place of the one that exists."""

    def remove(self, folder: str, names: Iterable[str]) -> None:
        """Remove files by name; those that are not there are no error."""

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it, where the filesystem has folders."""

    def remove_folder(self, folder: str) -> None:
        """Remove a folder if it is empty."""

    def sync_folder(self, folder: str) -> None:
        """Return when the entries of a folder are durable."""


def files_of(fs: AbstractFileSystem, fsync: bool) -> Files:
    """Return the room for *fs*."""
    return LocalFiles(fsync) if isinstance(fs, LocalFileSystem) else ObjectFiles(fs)


def _writer_of(data: bytes, path: str) -> Writer:
    def write(file: BinaryIO) -> str:
        file.write(data)
        return os.path.basename(path)

    return write


class LocalFiles:
    """Local disk: temporary file in the same folder, sync, rename."""

    local = True
    remote = False
    one_process = False

    def __init__(self, fsync: bool) -> None:
        self._fsync = fsync

    def read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def open(self, path: str, size: int) -> BinaryIO:
        return open(path, "rb", buffering=_BUFFER_BYTES)

    def tail(self, path: str, size: int, count: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(max(size - count, 0))
            return file.read(count)

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        with self._scan(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found

    def folders(self, folder: str) -> list[str]:
        with self._scan(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]

    def _scan(self, folder: str) -> Any:
        try:
            return os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return contextlib.nullcontext(())

    def publish(self, folder: str, write: Writer) -> str:
        with self._written(folder, write) as (temporary, filename):
            try:
                os.replace(temporary, os.path.join(folder, filename))
            except FileNotFoundError as error:
                raise FolderGoneError(folder) from error
        return filename

    @contextlib.contextmanager
    def _written(self, folder: str, write: Writer) -> Iterator[tuple[str, str]]:
        """Give a whole and durable temporary file, and the name *write* returned."""
        temporary = os.path.join(folder, temporary_filename())
        try:
            # Exclusive, and with the permissions that the user's umask gives.
            file = open(temporary, "xb", buffering=_BUFFER_BYTES)  # noqa: SIM115
        except FileNotFoundError as error:
            raise FolderGoneError(folder) from error
        try:
            with file:
                filename = write(file)
                self._sync(file)
            yield temporary, filename
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        if self._fsync:
            os.fsync(file.fileno())

    def create(self, path: str, data: bytes) -> bool:
        # The content under a name of its own first, then a hard link: of several
        # writers one wins, and nobody ever sees half a file.
        folder = os.path.dirname(path)
        with self._written(folder, _writer_of(data, path)) as (temporary, _):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except FileNotFoundError as error:
                raise FolderGoneError(folder) from error
            except OSError:
                return self._create_without_link(path, data)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        self.sync_folder(folder)
        return True

    def _create_without_link(self, path: str, data: bytes) -> bool:
        # A filesystem without hard links: still one winner, but a reader may see
        # the file before it is whole, and takes that for not done.
        try:
            with open(path, "xb") as file:
                file.write(data)
                self._sync(file)
        except FileExistsError:
            return False
        self.sync_folder(os.path.dirname(path))
        return True

    def replace(self, path: str, data: bytes) -> None:
        self.publish(os.path.dirname(path), _writer_of(data, path))
        self.sync_folder(os.path.dirname(path))

    def remove(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))

    def make_folder(self, folder: str) -> None:
        # Others may make or remove it, and those above it, at the same moment.
        for tries_left in reversed(range(100)):
            if os.path.isdir(folder):
                return
            parent = os.path.dirname(folder)
            self.make_folder(parent)
            try:
                os.mkdir(folder)
                self.sync_folder(parent)
            except (FileNotFoundError, FileExistsError):
                if not tries_left or os.path.isfile(folder):
                    raise

    def remove_folder(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        if not self._fsync or os.name == "nt":  # Windows cannot sync a folder
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ObjectFiles:
    """Any other filesystem: encode to a bounded spool, then one upload."""

    local = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs
        protocol = fs.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._conditional = bool(protocols & _OBJECT_STORES)
        self._memory = self.one_process = isinstance(fs, MemoryFileSystem)
        self.remote = not self._memory
        # s3fs asks for the size first unless it is told to use one connection.
        read = inspect.signature(getattr(fs, "_cat_file", fs.cat_file))
        one = {"max_concurrency": 1}
        self._read_options = one if one.keys() <= read.parameters.keys() else {}

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path, **self._read_options)
        return data

    def open(self, path: str, size: int) -> BinaryIO:
        # All readers of one file in the memory filesystem share one position.
        if self._memory or size <= SPOOL_BYTES:
            return io.BytesIO(self.read(path))
        file: BinaryIO = self._fs.open(path, "rb")
        return file

    def tail(self, path: str, size: int, count: int) -> bytes:
        data: bytes = self._fs.cat_file(path, start=max(size - count, 0), end=size)
        return data

    def sizes(self, folder: str) -> dict[str, int]:
        return {
            name: entry["size"]
            for name, entry in self._entries(folder).items()
            if entry["type"] == "file"
        }

    def folders(self, folder: str) -> list[str]:
        entries = self._entries(folder)
        return [n for n, entry in entries.items() if entry["type"] == "directory"]

    def _entries(self, folder: str) -> dict[str, Any]:
        self._fs.invalidate_cache(folder)
        try:
            listing = self._fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        prefix = folder.rstrip("/") + "/"
        return {
            name: entry
            for entry in listing
            if (name := entry["name"].rstrip("/").removeprefix(prefix))
            and "/" not in name
        }

    def publish(self, folder: str, write: Writer) -> str:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            filename = write(spool)  # type: ignore[arg-type]
            size = spool.tell()
            spool.seek(0)
            path = f"{folder}/{filename}"
            if size <= SPOOL_BYTES:
                self._fs.pipe_file(path, spool.read())
            else:
                self._upload(spool, path)
        return filename

    def _upload(self, spool: Any, path: str) -> None:
        target = self._fs.open(path, "wb")
        try:
            copyfileobj(spool, target, 4 * 1024 * 1024)
        except BaseException:
            # Closing would publish what has been sent so far, and so would the
            # garbage collector if the file did not look closed.
            with contextlib.suppress(Exception):
                target.discard()
            target.closed = True
            raise
        target.close()

    def create(self, path: str, data: bytes) -> bool:
        try:
            if self._conditional:
                self._fs.pipe_file(path, data, mode="create")
            elif self._memory:
                with _memory_lock:  # its create looks first and writes then
                    self._fs.pipe_file(path, data, mode="create")
            elif self._fs.exists(path):
                return False
            else:
                self._fs.pipe_file(path, data)
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(path, data)

    def remove(self, folder: str, names: Iterable[str]) -> None:
        paths = [f"{folder}/{name}" for name in names]
        if not self._conditional or any(c in folder for c in "*?["):
            # Bulk deletes are worth it on object stores only; and rm takes such a
            # path for a pattern, and would delete its neighbours.
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

    def sync_folder(self, folder: str) -> None:
        """Do nothing: an upload that was answered is durable."""
