"""What the store needs of a filesystem.

Implemented by `LocalFiles` and, for the other fsspec filesystems, by `RemoteFiles` and
its subclasses. Paths are the filesystem's own, without protocol.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

Writer = Callable[[BinaryIO], str]


class FolderGoneError(Exception):
    """The folder was removed before a file in it could be written or removed.

    On an object store: there is no such bucket.
    """


class NotAFileError(OSError):
    """What lies at a path is not a file: a folder, FIFO, device or loop of links."""


@dataclass(frozen=True)
class FileInfo:
    """A file as a listing shows it."""

    bytes: int
    modified: float | None = None  # in seconds since the epoch, where it is known


class Files(Protocol):
    """What the store needs of a filesystem."""

    local: bool  # whether this is local disk
    remote: bool  # whether a read is a request over a network
    one_process: bool  # whether other processes see other files
    concurrent: bool  # whether several threads may use it at once
    # Whether folders exist by themselves. Otherwise they are parts of keys, which are
    # exact: names that differ in case are those of different files.
    has_folders: bool

    def read(self, path: str) -> bytes:
        """Return the content of a file; only FileNotFoundError means absent.

        Raises
        ------
        NotAFileError
            There is something else. `open`, `tail` and `swap` raise it too.
        """

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        """Open a file of *size* bytes for reading in pieces.

        Over a network a small file is read at once. A reader that does not need all of
        the file gives the bytes of each read as *piece*.
        """

    def tail(self, path: str, size: int, count: int) -> bytes:
        """Return the last *count* bytes of a file of *size* bytes."""

    def list(self, folder: str) -> dict[str, FileInfo]:
        """Return the files in a folder by name, from one listing.

        The result is empty where the folder does not exist.
        """

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        """Return the names of the folders in a folder, from one listing.

        *links* includes symbolic links to folders.
        """

    def publish(self, folder: str, write: Writer) -> str:
        """Write a file that appears whole, under the name that *write* returns.

        Where *write* raises, no file appears.

        Raises
        ------
        FolderGoneError
            The folder does not exist.
        """

    def atomic_swap(self, folder: str) -> bool:
        """Return whether `swap` is atomic in a folder that exists.

        Otherwise it reads, compares and then writes, and two processes that swap at
        the same moment may both succeed.
        """

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        """Replace a small file if its content is still *expected*.

        Parameters
        ----------
        path : str
        expected : bytes or None
            None: the file must not exist.
        data : bytes or None
            None: the file is removed. Content must be the caller's own, as by a token
            in it: a write whose answer was lost is recognised by it.

        Returns
        -------
        bool
            Whether the file was written or removed.

        Raises
        ------
        FolderGoneError
            The folder does not exist, on filesystems that have folders.
        """

    def remove(self, folder: str, names: Iterable[str]) -> None:
        """Remove files by name; names of absent files are ignored."""

    def clone(self, source: "Files", path: str, target: str, link: bool) -> bool:
        """Copy a file of *source* to a new name without reading it, and return True.

        Return False where the filesystem does not offer that. Both names may be of one
        file where *link*.

        Raises
        ------
        FileNotFoundError
            There is no file to copy.
        FolderGoneError
            The folder of the copy does not exist, on filesystems that have folders.
        """

    def make_folder(self, folder: str) -> None:
        """Make a folder and its parents, on filesystems that have folders.

        It raises an error if it finds that the folder cannot be written to.
        """

    def remove_folder(self, folder: str) -> None:
        """Remove a folder if it is empty."""

    def sync_folder(self, folder: str) -> None:
        """Make the entries of a folder durable."""
