"""fsspec's memory filesystem, which is of one process."""

import io
import os
import platform
import threading
from collections.abc import Iterable
from typing import Any, BinaryIO

from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._filesystem.remote import RemoteFiles

_lock = threading.Lock()  # the filesystem is one for the whole process


class MemoryFiles(RemoteFiles):
    """The memory filesystem; its folders exist as long as files are in them."""

    remote = False
    has_folders = False

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        # All readers that the filesystem opens of one file share one position.
        return io.BytesIO(self.read(path))

    def atomic_swap(self, folder: str) -> bool:
        return True

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        with _lock:
            return super().swap(path, expected, data)

    def remove(self, folder: str, names: Iterable[str]) -> None:
        with _lock:
            super().remove(folder, names)

    def make_folder(self, folder: str) -> None:
        """Do nothing: an empty folder would stay behind."""

    def remove_folder(self, folder: str) -> None:
        """Do nothing."""


class ElsewhereFiles:
    """The memory of another process: whatever is asked of it is refused."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __getattr__(self, name: str) -> Any:
        raise RootNotSetError(
            f"the root {self._root!r} lies in the memory of another process; compute "
            "with scheduler='threads', or set another root"
        )


def this_process() -> tuple[str, int]:
    """Return what tells this process from all others."""
    return platform.node(), os.getpid()
