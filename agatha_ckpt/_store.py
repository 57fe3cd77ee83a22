"""CheckpointStore: the files of one root on one fsspec filesystem."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import Any

from agatha_ckpt._commit import adopt, commit
from agatha_ckpt._contents import Contents, contents_of, remove_left_over
from agatha_ckpt._errors import (
    CheckpointError,
    CorruptCheckpointError,
    InvalidNameError,
    UnsupportedFormatError,
    noted,
)
from agatha_ckpt._folder import Damaged, make_folder
from agatha_ckpt._layout import Plan, validate_name
from agatha_ckpt._manifest import Manifest, PartitionInfo
from agatha_ckpt._partition import Partition, write_partition
from agatha_ckpt._place import Place
from agatha_ckpt._status import Status, status_of, statuses_of
from agatha_ckpt._survey import Survey, bag_of, faults_of, survey, verify
from agatha_ckpt._table import notebook_table
from agatha_ckpt._threads import in_threads


class CheckpointStore(Place):
    """The checkpoints under one root, as files.

    Parameters
    ----------
    root : str, os.PathLike or UPath
        fsspec URL or path of the folder under which the checkpoints lie. It need
        not exist; nothing is touched before the first save.
    fs : fsspec.AbstractFileSystem, optional
        The filesystem to use; by default the one that *root* and
        *storage_options* name.
    storage_options : dict, optional
        Options for that filesystem, such as credentials. They are never written
        to storage, and never shown.
    fsync : bool, default True
        On local disk, whether what was written survives a power cut.

    Raises
    ------
    RootNotSetError
        *root* is empty, or is a file.

    Notes
    -----
    A store can be pickled (its pickle holds the storage options) and used by any
    number of threads and processes at once. Two stores are equal when their roots
    are.

    Examples
    --------
    >>> store = CheckpointStore("memory://doctest-store")
    >>> store.is_done("sentences")
    False
    >>> store.names()
    []
    """

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.statuses)

    # ---- what is there ----

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
        done = in_threads(self.is_done, names)
        return [name for name, is_done in zip(names, done, strict=True) if is_done]

    def folders(self, pattern: str = "*", links: bool = True) -> list[str]:
        """Return the sorted names under the root that can be checkpoints."""
        if not isinstance(pattern, str | os.PathLike):
            raise InvalidNameError(
                f"{pattern!r} is no pattern for names; use a str such as '*_sentences'"
            )
        found = []
        with noted(f"listing the checkpoints under {self._root.shown!r}"):
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

    def missing(self, name: str, manifest: Manifest) -> list[Damaged]:
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
        with noted(f"looking for the root {self._root.shown!r}"):
            return bool(self.fs.exists(self._root.base))

    # ---- one partition ----

    def write_partition(
        self,
        name: str,
        plan: Plan,
        index: int,
        records: Iterable[Any],
        *,
        compression: str | None = None,
        allow_pickle: bool = False,
        bag: str = "",
        run: str = "",
    ) -> PartitionInfo:
        """Write one partition, streamed; the file appears when it is whole.

        Parameters
        ----------
        name : str
            Name of the checkpoint; `begin` must have been called for it.
        plan : Plan
        index : int
            Partition number, from 0.
        records : iterable
            What it raises passes through unchanged, and nothing appears.
        compression : {None, "zstd"}
        allow_pickle : bool
            Whether values of types that the format does not know are pickled.
        bag : str
            dask's name of the bag, kept as a hint.
        run : str
            8 hexadecimal digits that are the same for all partitions of a run.

        Returns
        -------
        PartitionInfo
            What the manifest has to say of it.

        Raises
        ------
        EncodeError
            A record cannot be stored faithfully.
        CheckpointConflictError
            The checkpoint was cleared while the partition was being written.

        Notes
        -----
        The file name is used once and never again, so that no other writer of the
        same partition can touch the file.
        """
        folder = self._folder(name)
        return write_partition(
            folder, plan, index, records, compression, allow_pickle, bag, run
        )

    def open_partition(
        self,
        name: str,
        plan: Plan,
        index: int,
        info: PartitionInfo,
        *,
        allow_pickle: bool = False,
    ) -> Partition:
        """Return one partition of a done checkpoint, lazily.

        Reading it raises CorruptCheckpointError where the file is missing, cut,
        changed or another partition's, PickleNotAllowedError where it holds
        pickled values that were not allowed, and UnsupportedFormatError where it
        is from a newer version.
        """
        return Partition(self._folder(name), plan, index, info, allow_pickle)

    # ---- saving ----

    def begin(self, name: str) -> None:
        """Make the folder of a checkpoint, where the filesystem has folders.

        Raises
        ------
        RootNotSetError
            The folder cannot be made.
        """
        folder = self._folder(name)
        make_folder(self._files, folder.path, f"the folder of {folder.describe()}")

    def sync(self, name: str) -> None:
        """Make durable, on local disk, what a run that was killed had just done."""
        if self.fsync:
            self._folder(name).sync()

    def hold(self, name: str, run: str) -> AbstractContextManager[object]:
        """Let other processes see that a run goes on, where files can be locked."""
        return self._folder(name).hold(run)

    def make_root(self) -> None:
        """Make the root, on local disk; a bucket is never made.

        Raises
        ------
        RootNotSetError
            The folder cannot be made.
        """
        if self._root.is_local:
            make_folder(self._files, self._root.base, f"the root {self._root.shown!r}")

    def survey(
        self,
        name: str,
        plan: Plan,
        exclude: frozenset[str] = frozenset(),
        **only: Any,
    ) -> Survey:
        """Return which partition files a resume with *plan* may keep, after checks.

        Parameters
        ----------
        name : str
        plan : Plan
        exclude : frozenset of str, optional
            File names that are not to be kept.
        **only : ``run`` and ``index``, whose files alone count

        Notes
        -----
        Costs one listing (one for each 1,000 files on an object store) and one read
        for each file of the plan: where it is large and remote, of its footer.
        """
        return survey(self._folder(name), plan, exclude, **only)

    def bag_of(self, name: str, index: int, info: PartitionInfo) -> str:
        """Return dask's name of the bag that a partition came from, or ""."""
        return bag_of(self._folder(name), index, info)

    def mark_done(
        self,
        name: str,
        manifest: Manifest,
        replaces: Manifest | None = None,
        seen: frozenset[str] | None = None,
    ) -> Manifest:
        """Commit: make *manifest* what the checkpoint is. The last step of a save.

        Parameters
        ----------
        name : str
        manifest : Manifest
        replaces : Manifest, optional
            The manifest of the done checkpoint that is being repaired or computed
            again; without it, the first marker wins.
        seen : frozenset of str, optional
            The files that `survey` saw, where any are kept.

        Returns
        -------
        Manifest
            *manifest*; or that of another run with the same plan that committed
            first, which is then the checkpoint.

        Raises
        ------
        CheckpointConflictError
            Another run with another plan committed first, or the files were
            cleared meanwhile. Either way this run's own files are removed.

        Notes
        -----
        Costs one listing, the marker, and a delete of left-over files if any.
        """
        with noted(f"marking {self.describe(name)} done"):
            return commit(self._folder(name), manifest, replaces, seen)

    # ---- checking and clearing ----

    def verify(
        self, name: str, allow_pickle: bool = False, manifest: Manifest | None = None
    ) -> list[Damaged]:
        """Read a done checkpoint in full and return the partitions that are damaged.

        Of Agatha's own pickles only the presence is checked, unless *allow_pickle*.
        What is read is what *manifest* names, by default what the done marker says.

        Raises
        ------
        CheckpointNotFoundError
            The checkpoint is not done.
        CorruptCheckpointError, UnsupportedFormatError
            The marker itself cannot be read.
        """
        folder = self._folder(name)
        return verify(folder, manifest or folder.manifest(), allow_pickle)

    def faults(
        self, done: Iterable[tuple[str, Manifest]], allow_pickle: bool = False
    ) -> Iterator[str | PermissionError | None]:
        """Yield of each partition of each checkpoint what is wrong with it, or None.

        As `verify`, for several checkpoints at once, and as it is found out. That a
        file may not be read says nothing of the others, and is not raised.
        """
        folders = ((self._folder(name), manifest) for name, manifest in done)
        return faults_of(folders, allow_pickle)

    def adopt(
        self, name: str, plan: Plan, replaces: Manifest | None, run: str
    ) -> Manifest | None:
        """Return what another run with the same plan committed meanwhile, if one did.

        The files that the run *run* wrote are then removed.
        """
        with noted(f"taking what another run has saved of {self.describe(name)}"):
            return adopt(self._folder(name), plan, replaces, run)

    def clear(self, name: str) -> None:
        """Remove a checkpoint, done or partial; nothing happens where there is none.

        The marker goes first, so that no reader takes the rest for a checkpoint.
        Files that are not this library's stay, and so does then their folder.
        """
        self._folder(name).clear()

    def contents(self, name: str) -> Contents:
        """Return what of this library's lies in a folder, by one listing."""
        return contents_of(self._folder(name))

    def remove_left_over(self, name: str, files: Iterable[str]) -> None:
        """Remove files of this library that the done marker does not name.

        Others, and any that are not this library's, stay.
        """
        folder = self._folder(name)
        with noted(f"removing what is left over beside {folder.describe()}"):
            remove_left_over(folder, files)

    def clear_all(self) -> None:
        """Clear every checkpoint under the root, and remove empty folders there.

        Files that are not this library's stay, and so does the root. What a link
        leads to may lie anywhere and stays as well: clear it by its name.
        """
        for name in self.folders(links=False):
            self.clear(name)
