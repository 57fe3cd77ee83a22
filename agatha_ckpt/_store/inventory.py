"""Which checkpoints there are under a root, and in which state: as questions."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

from agatha_ckpt._errors import (
    CheckpointError,
    CorruptCheckpointError,
    InvalidNameError,
    UnsupportedFormatError,
    error_note,
)
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import validate_name
from agatha_ckpt._store.display import notebook_table
from agatha_ckpt._store.folder import DamagedPartition
from agatha_ckpt._store.place import Place
from agatha_ckpt._store.status import Status, status_of, statuses_of


class Inventory(Place):
    """The checkpoints under a root, looked at; nothing is written, no record read.

    Parameters and errors are those of `CheckpointStore`.
    """

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.statuses)

    def names(self, pattern: str = "*") -> list[str]:
        """Return the sorted names of the done checkpoints that match *pattern*.

        Parameters
        ----------
        pattern : str
            Shell pattern (``*``, ``?``, ``[...]``), matched with regard to case.

        Notes
        -----
        Costs one listing of the root and one read for each folder that matches,
        concurrently.
        """
        names = self.folders(pattern)
        done = map_ordered(self.is_done, names)
        return [name for name, is_done in zip(names, done, strict=True) if is_done]

    def folders(self, pattern: str = "*", links: bool = True) -> list[str]:
        """Return the sorted names under the root that can be checkpoints."""
        if not isinstance(pattern, str | os.PathLike):
            raise InvalidNameError(
                f"{pattern!r} is no pattern for names; use a str such as '*_sentences'"
            )
        found = []
        with error_note(f"listing the checkpoints under {self._root.shown!r}"):
            folders = self._files.folders(self._root.base, links)
        for name in folders:
            try:
                validate_name(name)
            except CheckpointError:
                continue
            if fnmatchcase(name, os.fspath(pattern)):
                found.append(name)
        return sorted(found)

    def is_done(self, name: str) -> bool:
        """Say whether a checkpoint is done, by one read of its marker.

        A marker that is empty, cut or changed is not done. Nothing is written.
        """
        try:
            return self.find_manifest(name) is not None
        except UnsupportedFormatError:
            return True  # by a newer version, and whole
        except CorruptCheckpointError:
            return False

    def manifest(self, name: str) -> Manifest:
        """Return what the done marker of a checkpoint says.

        Raises
        ------
        CheckpointNotFoundError
            The checkpoint is not done.
        CorruptCheckpointError
            The marker is empty, cut or changed.
        UnsupportedFormatError
            It is from a newer version of the format.
        """
        return self._folder(name).manifest()

    def find_manifest(self, name: str) -> Manifest | None:
        """Return what the done marker says, or None where there is none.

        Raises
        ------
        CorruptCheckpointError, UnsupportedFormatError
            As `manifest`.
        """
        return self._folder(name).find_manifest()

    def missing(self, name: str, manifest: Manifest) -> list[DamagedPartition]:
        """Return the partitions whose file is missing or of another size.

        Costs one listing (one for each 1,000 files on an object store).
        """
        return self._folder(name).missing(manifest)

    def status(self, name: str) -> Status:
        """Return whether a checkpoint is absent, partial or done, and its figures."""
        return status_of(self._folder(name))

    def statuses(self, pattern: str = "*") -> Iterator[Status]:
        """Yield the status of each checkpoint that matches, done or not, by name.

        One that this account may not read is among them, in the state
        ``"unreadable"``; `status` raises the `PermissionError`.

        Notes
        -----
        Costs one listing of the root and what `status` costs for each folder that
        matches, concurrently. Statuses are made as they are taken, so that their
        manifests need not all be held.
        """
        return statuses_of(map(self._folder, self.folders(pattern)))

    def exists(self) -> bool:
        """Say whether the root is there; on an object store, whether anything is."""
        with error_note(f"looking for the root {self._root.shown!r}"):
            return bool(self.fs.exists(self._root.base))
