"""Local disk by descriptor: opening what is a file, and making it durable."""

import errno
import os
import stat
from typing import BinaryIO

from agatha_ckpt._filesystem.base import NotAFileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BUFFER_BYTES = 256 * 1024
# A FIFO would wait for a writer, and a terminal would become the process's own.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
# CIFS, FUSE and others do not sync folders, or do not know F_FULLFSYNC.
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def open_file(path: str, folder: int | None = None) -> BinaryIO:
    """Open a file for reading; *path* is relative to the descriptor *folder*, if given.

    Raises
    ------
    NotAFileError
        It is a folder, FIFO, socket or device, a loop of links, or a link to nothing.
    """

    def opener(path: str, flags: int) -> int:
        descriptor = os.open(path, flags | _AT_ONCE, dir_fd=folder)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise not_a_file(path)

    try:
        return open(path, "rb", buffering=BUFFER_BYTES, opener=opener)
    except FileNotFoundError as error:
        if _is_link(path, folder):
            raise not_a_file(path) from error
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        # The second is what a socket gives.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise not_a_file(path) from error
        raise


def _is_link(path: str, folder: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path, dir_fd=folder).st_mode)
    except OSError:
        return False


def not_a_file(path: str) -> NotAFileError:
    """Return the error for what is not a regular file."""
    return NotAFileError(errno.EINVAL, "Not a regular file", path)


def sync_file(descriptor: int) -> None:
    """Make the content of a file durable."""
    # On macOS fsync leaves it in the cache of the drive.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_folder(descriptor: int) -> None:
    """Make the entries of a folder durable, where the filesystem offers that."""
    try:
        sync_file(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
