"""Exclusive access to a folder of local disk, against threads and processes."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._filesystem.descriptors import BUFFER_BYTES, open_file, sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HAS_LOCKS = fcntl is not None


@dataclass(frozen=True)
class OpenFolder:
    """A folder whose files are reached by name.

    Names are relative to *descriptor*, so that another folder that takes the same path
    meanwhile is not touched; without it they are relative to the path.
    """

    path: str
    descriptor: int | None = None

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def create(self, name: str) -> BinaryIO:
        """Open a new file for writing, with the permissions that the umask gives."""

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o666, dir_fd=self.descriptor)

        try:
            return open(self._at(name), "xb", buffering=BUFFER_BYTES, opener=opener)
        except FileNotFoundError as error:
            raise FolderGoneError(self.path) from error

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None where it does not exist."""
        try:
            with open_file(self._at(name), self.descriptor) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, unless a file has that name."""
        os.link(
            self._at(source),
            self._at(target),
            src_dir_fd=self.descriptor,
            dst_dir_fd=self.descriptor,
        )

    def rename(self, source: str, target: str) -> None:
        """Rename a file, in place of any file of that name."""
        try:
            os.replace(
                self._at(source),
                self._at(target),
                src_dir_fd=self.descriptor,
                dst_dir_fd=self.descriptor,
            )
        except FileNotFoundError as error:
            raise FolderGoneError(self.path) from error

    def unlink(self, name: str) -> bool:
        """Remove a file; return whether it existed."""
        path = self._at(name)
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(path, dir_fd=self.descriptor)
                return True
            except (IsADirectoryError, PermissionError):  # the second is that of macOS
                found = os.stat(path, dir_fd=self.descriptor, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    raise
        return False

    def sync(self) -> None:
        """Make the entries of the folder durable."""
        if os.name == "nt":  # Windows cannot sync a folder
            return
        if self.descriptor is not None:
            sync_folder(self.descriptor)
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            sync_folder(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def lock_folder(path: str) -> Iterator[OpenFolder]:
    """Lock a folder, and unlock it at the end; the lock leaves no file.

    Filesystems without `flock`, such as NFS, are used without a lock, and so is
    Windows.

    Raises
    ------
    FolderGoneError
        The folder does not exist.
    """
    if not _HAS_LOCKS:
        yield OpenFolder(path)
        return
    descriptor = _open_locked(path)
    try:
        yield OpenFolder(path, descriptor)
    finally:
        # A process that was forked meanwhile has the descriptor too: closing it here
        # would not unlock.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_lockable(path: str) -> bool:
    """Return whether a folder can be locked, if it exists."""
    if not _HAS_LOCKS:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # another run has removed it
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open_locked(path: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FolderGoneError(path) from error
        try:
            with contextlib.suppress(OSError):  # a filesystem without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _leads_to(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another folder has taken its place


def _leads_to(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
