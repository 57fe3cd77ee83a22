"""Local disk: how a file becomes visible, whole and durable there."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from agatha_ckpt._filesystem.base import FolderGoneError, Stored, Writer, writer_of
from agatha_ckpt._format.names import temporary_filename

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BUFFER_BYTES = 256 * 1024
_TRIES = 100  # against others who make and remove a folder at the same moment
_held: set[int] = set()  # descriptors


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

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        return open(path, "rb", buffering=_BUFFER_BYTES)

    def tail(self, path: str, size: int, count: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(max(size - count, 0))
            return file.read(count)

    def sizes(self, folder: str) -> dict[str, int]:
        return {name: file.bytes for name, file in self.stored(folder).items()}

    def stored(self, folder: str) -> dict[str, Stored]:
        found = {}
        with self._scan(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        stat = entry.stat()
                        found[entry.name] = Stored(stat.st_size, stat.st_mtime)
        return found

    def folders(self, folder: str, links: bool) -> list[str]:
        with self._scan(folder) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=links)]

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
        with self._written(folder, writer_of(data, path)) as (temporary, _):
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
        except BaseException:  # the caller is told that it is not there
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        self.sync_folder(os.path.dirname(path))
        return True

    def replace(self, path: str, data: bytes) -> None:
        self.publish(os.path.dirname(path), writer_of(data, path))
        self.sync_folder(os.path.dirname(path))

    def remove(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))

    def make_folder(self, folder: str) -> None:
        # Others may make or remove it, and those above it, at the same moment.
        for tries_left in reversed(range(_TRIES)):
            parent = os.path.dirname(folder)
            if os.path.isdir(folder):
                # Whoever made it may have been killed before this.
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
        if not self._fsync or os.name == "nt":  # Windows cannot sync a folder
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
