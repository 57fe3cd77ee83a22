"""Local disk: how a file becomes visible, whole and durable there."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from agatha_ckpt._filesystem.base import (
    FileInfo,
    FolderGoneError,
    Writer,
    writer_of,
)
from agatha_ckpt._filesystem.folder_lock import (
    BUFFER_BYTES,
    HAS_LOCKS,
    OpenFolder,
    lock_folder,
)
from agatha_ckpt._format.names import temporary_filename

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TRIES = 100  # against other runs that make and remove a folder at the same moment
_held: set[int] = set()  # descriptors


class LocalFiles:
    """Local disk: temporary file in the same folder, sync, rename.

    Parameters
    ----------
    fsync : bool
        Whether what is written survives a power cut.
    """

    local = True
    remote = False
    one_process = False
    concurrent = True
    atomic_swap = HAS_LOCKS

    def __init__(self, fsync: bool) -> None:
        self._fsync = fsync

    def read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        return open(path, "rb", buffering=BUFFER_BYTES)

    def tail(self, path: str, size: int, count: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(max(size - count, 0))
            return file.read(count)

    def list(self, folder: str) -> dict[str, FileInfo]:
        found = {}
        with _scan(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        stat = entry.stat()
                        found[entry.name] = FileInfo(stat.st_size, stat.st_mtime)
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        return {name: file.bytes for name, file in self.list(folder).items()}

    def stored(self, folder: str) -> dict[str, FileInfo]:
        return self.list(folder)

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        with _scan(folder) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=links)]

    def publish(self, folder: str, write: Writer) -> str:
        place = OpenFolder(folder)
        with self._written(place, write) as (temporary, filename):
            place.rename(temporary, filename)
        return filename

    @contextlib.contextmanager
    def _written(self, folder: OpenFolder, write: Writer) -> Iterator[tuple[str, str]]:
        """Give a whole and durable temporary file, and the name *write* returned."""
        temporary = temporary_filename()
        file = folder.create(temporary)
        try:
            with file:
                filename = write(file)
                self._sync(file)
            yield temporary, filename
        except BaseException:
            with contextlib.suppress(OSError):
                folder.unlink(temporary)
            raise

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        if self._fsync:
            os.fsync(file.fileno())

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        folder_path, name = os.path.split(path)
        with lock_folder(folder_path) as folder:
            if folder.read(name) != expected:
                return False
            if data is None:
                done = folder.unlink(name)
            else:
                done = self._put(folder, name, data, exclusive=expected is None)
            if done and self._fsync:
                folder.sync()
            return done

    def _put(
        self, folder: OpenFolder, name: str, data: bytes, *, exclusive: bool
    ) -> bool:
        with self._written(folder, writer_of(data, name)) as (temporary, _):
            if exclusive:
                # One writer wins, also where the filesystem has no locks.
                try:
                    folder.link(temporary, name)
                except FileExistsError:
                    folder.unlink(temporary)
                    return False
                except OSError:  # a filesystem without hard links
                    folder.rename(temporary, name)
                else:
                    folder.unlink(temporary)
            else:
                folder.rename(temporary, name)
        return True

    def create(self, path: str, data: bytes) -> bool:
        return self.swap(path, None, data)

    def replace(self, path: str, data: bytes) -> None:
        self.publish(os.path.dirname(path), writer_of(data, path))
        self.sync_folder(os.path.dirname(path))

    def remove(self, folder: str, names: Iterable[str]) -> None:
        # Locked, as one of them may be a file that another run swaps.
        with contextlib.suppress(FolderGoneError), lock_folder(folder) as place:
            for name in names:
                place.unlink(name)

    def make_folder(self, folder: str) -> None:
        # Other runs may make or remove it, and its parents, at the same moment.
        for tries_left in reversed(range(_TRIES)):
            parent = os.path.dirname(folder)
            if os.path.isdir(folder):
                # The run that made it may have been killed before this.
                with contextlib.suppress(PermissionError):
                    self.sync_folder(parent)
                return
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

    @contextlib.contextmanager
    def hold(self, path: str) -> Iterator[None]:
        # The system lets go of the lock when the process ends, however it ends. A
        # child that is forked meanwhile must not hold it on.
        descriptor = None
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a full disk
                descriptor = self._locked(path)
        if descriptor is None:
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
            _close(descriptor)

    def _locked(self, path: str) -> int:
        """Make a file that is locked when it appears, so that nobody removes it."""
        folder = os.path.dirname(path)
        for tries_left in reversed(range(_TRIES)):
            temporary = os.path.join(folder, temporary_filename())
            descriptor = None
            try:
                descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
                _held.add(descriptor)
                _lock(descriptor, fcntl.LOCK_EX)
                os.replace(temporary, path)
                return descriptor
            except OSError as error:
                if descriptor is not None:
                    _close(descriptor)
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                if not isinstance(error, FileNotFoundError) or not tries_left:
                    raise
            self.make_folder(folder)  # another run clears it at this moment
        raise AssertionError("unreachable")

    def is_held(self, path: str) -> bool:
        if fcntl is None:
            return False
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def sync_folder(self, folder: str) -> None:
        if self._fsync:
            OpenFolder(folder).sync()


def _scan(folder: str) -> Any:
    try:
        return os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return contextlib.nullcontext(())


def _lock(descriptor: int, kind: int) -> bool:
    """Lock an open file; say whether nobody certainly holds a lock against it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem without locks
        return True
    return True


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
