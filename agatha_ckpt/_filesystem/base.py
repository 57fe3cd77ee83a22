"""What a store needs of a filesystem, whichever it is.

Two rooms have these doors: `LocalFiles` for local disk, `ObjectFiles` for every other
fsspec filesystem. Paths are the filesystem's own, without protocol.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

Writer = Callable[[BinaryIO], str]


class FolderGoneError(Exception):
    """The folder was removed while a file was being written into it."""


@dataclass(frozen=True)
class Stored:
    """What a listing says of a file.

    Attributes
    ----------
    bytes : int
        Its size.
    modified : float, optional
        When it was last written, in seconds since the epoch, where that is known.
    """

    bytes: int
    modified: float | None = None


class Files(Protocol):
    """What a store needs of a filesystem."""

    local: bool  # whether this is local disk
    remote: bool  # whether reading costs a trip over a network
    one_process: bool  # whether other processes see other files

    def read(self, path: str) -> bytes:
        """Return the content of a file; only FileNotFoundError means absent."""

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        """Open a file of *size* bytes for reading in pieces.

        Over a network a small file is read at once, unless it is said how much a
        *piece* is to have: for a reader that does not want all of it.
        """

    def tail(self, path: str, size: int, count: int) -> bytes:
        """Return the last *count* bytes of a file of *size* bytes."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names and sizes of the files in a folder, by one listing."""

    def stored(self, folder: str) -> dict[str, Stored]:
        """Return what one listing says of the files in a folder, by name."""

    def folders(self, folder: str, links: bool) -> list[str]:
        """Return the names of the folders in a folder, by one listing.

        *links* says whether a link to a folder counts as one.
        """

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

    def hold(self, path: str) -> AbstractContextManager[object]:
        """Hold a file that says, for as long as this process lives, that it does."""

    def is_held(self, path: str) -> bool:
        """Whether somebody certainly holds a file; False where it cannot be known."""

    def sync_folder(self, folder: str) -> None:
        """Return when the entries of a folder are durable."""


def writer_of(data: bytes, path: str) -> Writer:
    """Return what writes *data* and names the file as *path* does."""

    def write(file: BinaryIO) -> str:
        file.write(data)
        return os.path.basename(path)

    return write
