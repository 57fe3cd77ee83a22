"""Where the checkpoints of a store lie, and on which filesystem."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.local import LocalFiles
from agatha_ckpt._filesystem.remote import ObjectFiles
from agatha_ckpt._format.names import DONE_MARKER, validate_name
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.root import Root


class Place:
    """A root on a filesystem: what of a store has nothing to do with what is there.

    Parameters and errors are those of `CheckpointStore`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        fs: fsspec.AbstractFileSystem | None = None,
        storage_options: dict[str, Any] | None = None,
        fsync: bool = True,
    ) -> None:
        self._root = Root(root, fs, storage_options)
        self.fsync = fsync
        fs = self._root.fs
        self._files: Files = (
            LocalFiles(fsync) if self._root.is_local else ObjectFiles(fs)
        )

    def __reduce__(self) -> Any:
        make = partial(type(self), fs=self.fs, fsync=self.fsync)
        return make, (self._root.portable,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root.shown!r})"

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The filesystem."""
        return self._root.fs

    @property
    def root(self) -> Path | str:
        """The root as it was given: a path on local disk, a URL elsewhere."""
        return self._root.path()

    @property
    def url(self) -> str:
        """The absolute root as a URL."""
        return self._root.url

    @property
    def remote(self) -> bool:
        """Whether reading a file costs a trip over a network."""
        return self._files.remote

    @property
    def one_process(self) -> bool:
        """Whether what one process writes is there for that process alone."""
        return self._files.one_process

    def path(self, name: str) -> Path | str:
        """Return the folder of a checkpoint: a path on local disk, else a URL."""
        return self._root.path(validate_name(name))

    def done_marker(self, name: str) -> Path | str:
        """Return where the done marker of a checkpoint is or would be."""
        return self._root.path(validate_name(name), DONE_MARKER)

    def name_of(self, name: object) -> str:
        """Return the checkpoint name that *name* is, or is the path of.

        Raises
        ------
        InvalidNameError
            It is neither a legal name nor a path directly under the root.
        """
        return self._root.name_of(name)

    def describe(self, name: str, index: int | None = None) -> str:
        """Return how messages speak of a checkpoint or of one of its partitions."""
        return self._folder(name).describe(index)

    def _folder(self, name: str) -> Folder:
        return Folder(self._files, self._root.folder(name), name, self._root.shown)
