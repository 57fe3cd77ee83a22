"""CheckpointStore: the checkpoints of one root on one fsspec filesystem."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import fsspec

from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.factory import files_for
from agatha_ckpt._filesystem.memory import ElsewhereFiles, this_process
from agatha_ckpt._format.base import WriteOptions
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import DONE_MARKER
from agatha_ckpt._store.commit import mark_done
from agatha_ckpt._store.contents import clear, clear_each
from agatha_ckpt._store.display import notebook_table
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.partition import Partition, write_partition
from agatha_ckpt._store.prune import MIN_AGE, Criteria, Removal, prune
from agatha_ckpt._store.records import records_of
from agatha_ckpt._store.root import Root, check_options, folder_names
from agatha_ckpt._store.status import (
    Status,
    done_names,
    is_done,
    status_of,
    statuses_of,
)
from agatha_ckpt._store.transfer import copy, rename
from agatha_ckpt._store.verify import DamagedPartition, verify

Name = str | os.PathLike[str]


class CheckpointStore:
    """The checkpoints under one root, as files.

    Parameters
    ----------
    root : str, os.PathLike or UPath
        fsspec URL or path of the folder under which the checkpoints lie. It need
        not exist; nothing is written before the first save.
    fs : fsspec.AbstractFileSystem, optional
        The filesystem; by default that of *root* and *storage_options*.
    storage_options : dict, optional
        Its options, such as credentials; never written to storage, never shown.
    fsync : bool, default True
        On local disk, whether what was written survives a power cut.

    Raises
    ------
    RootNotSetError
        *root* is empty, or is a file.
    InvalidValueError
        *fs* is not a filesystem, *storage_options* not a dict, or *fsync* not a bool.

    Notes
    -----
    The pickle of a store holds its storage options. A store can be used by any number
    of threads and processes at once; one in memory by those of one process, and others
    get a RootNotSetError. Two stores are equal when their roots are.

    Methods take the name of a checkpoint, or its path directly under the root, and
    raise InvalidNameError where it is neither.

    Examples
    --------
    >>> store = CheckpointStore("memory://doctest-store")
    >>> store.is_done("sentences")
    False
    >>> store.names()
    []
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        fs: fsspec.AbstractFileSystem | None = None,
        storage_options: Mapping[str, Any] | None = None,
        fsync: bool = True,
    ) -> None:
        check_options(fs, storage_options, fsync)
        self._root = Root(root, fs, storage_options)
        self._files: Files = files_for(self._root.fs, fsync)
        self._home = this_process()
        self.fsync: bool = fsync

    def __getstate__(self) -> tuple[Root, bool, tuple[str, int]]:
        return self._root, self.fsync, self._home

    def __setstate__(self, state: tuple[Root, bool, tuple[str, int]]) -> None:
        self._root, self.fsync, self._home = state
        self._files = files_for(self.fs, self.fsync)
        if self._files.one_process and self._home != this_process():
            self._files = cast(Files, ElsewhereFiles(self._root.shown))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CheckpointStore):
            return NotImplemented
        return self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root.shown!r})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self.statuses)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The filesystem."""
        return self._root.fs

    @property
    def root(self) -> Path | str:
        """The root as it was given: a path on local disk, a URL elsewhere."""
        return self._root.as_given

    @property
    def url(self) -> str:
        """The absolute root as a URL."""
        return self._root.url

    def path(self, name: Name) -> Path | str:
        """Return the folder of a checkpoint: its absolute path, or its URL."""
        return self._root.path(self._root.name_of(name))

    def done_marker(self, name: Name) -> Path | str:
        """Return the place of the done marker, whether it exists or not."""
        return self._root.path(self._root.name_of(name), DONE_MARKER)

    def _folder(self, name: Name) -> Folder:
        name = self._root.name_of(name)
        return Folder(self._files, self._root.folder(name), name, self._root.shown)

    def names(self, pattern: str = "*") -> list[str]:
        """Return the sorted names of the done checkpoints that match *pattern*.

        One that is damaged or unreadable is left out; `statuses` has it. *pattern* is a
        shell pattern (``*``, ``?``, ``[...]``), matched case-sensitively.

        Costs one listing of the root and one read for each folder that matches,
        concurrently.
        """
        folders = map(self._folder, self._folder_names(pattern))
        return done_names(folders, self._files.concurrent)

    def is_done(self, name: Name) -> bool:
        """Return whether a checkpoint is done, from one read of its marker.

        A marker that is empty, cut or changed is not done. Nothing is written.
        """
        return is_done(self._folder(name))

    def status(self, name: Name) -> Status:
        """Return the state of a checkpoint, and its figures."""
        return status_of(self._folder(name))

    def statuses(self, pattern: str = "*") -> Iterator[Status]:
        """Yield the status of each checkpoint that matches, done or not, by name.

        One that cannot be read, for lack of permission or by a fault of the disk, has
        the state ``"unreadable"``; `status` raises the `OSError`.

        Costs one listing of the root and what `status` costs for each folder that
        matches, concurrently. They are made as they are taken: manifests can be large.
        """
        return statuses_of(
            map(self._folder, self._folder_names(pattern)), self._files.concurrent
        )

    def manifest(self, name: Name) -> Manifest:
        """Return the manifest of a done checkpoint.

        Raises
        ------
        CheckpointNotFoundError
            The checkpoint is not done.
        CorruptCheckpointError
            Its marker is empty, cut or changed.
        UnsupportedFormatError
            It is in another version of the format.
        """
        return self._folder(name).manifest()

    def verify(self, name: Name, allow_pickle: bool = False) -> list[DamagedPartition]:
        """Read a done checkpoint in full and return the partitions that are damaged.

        Of the pickles that Agatha wrote, only the presence is checked, unless
        *allow_pickle*. Errors are those of `manifest`.
        """
        folder = self._folder(name)
        return verify(folder, folder.manifest(), allow_pickle)

    def _folder_names(self, pattern: str = "*", links: bool = True) -> list[str]:
        """Return the sorted names of the folders that can be checkpoints."""
        return folder_names(self._root, self._files, pattern, links)

    def records(
        self,
        name: Name,
        partitions: Iterable[int] | None = None,
        *,
        allow_pickle: bool = False,
    ) -> Iterator[Any]:
        """Return an iterator over the records of a done checkpoint, in order.

        Parameters
        ----------
        name : str or os.PathLike
        partitions : iterable of int, optional
            Only of these, in this order; by default of all.
        allow_pickle : bool

        Notes
        -----
        A block of records is in memory at a time. Errors are those of `manifest` and,
        while it iterates, those of `open_partition`.
        """
        folder = self._folder(name)
        return records_of(folder, folder.manifest(), partitions, allow_pickle)

    def files(self, name: Name) -> list[str]:
        """Return the partition files of a done checkpoint, in order.

        They are absolute paths on local disk, and URLs elsewhere, as pandas, pyarrow
        and DuckDB take them. Errors are those of `manifest`.
        """
        folder = self._folder(name)
        infos = folder.manifest().partitions
        return [str(self._root.path(folder.name, info.file)) for info in infos]

    def write_partition(
        self,
        name: Name,
        plan: Plan,
        index: int,
        records: Iterable[Any],
        *,
        fingerprint: str | None = None,
        compression: str | None = None,
        allow_pickle: bool = False,
    ) -> PartitionInfo:
        """Write one partition, streamed; the file appears when it is whole.

        Parameters
        ----------
        name, plan, index
        records : iterable
            What it raises passes through unchanged, and no file appears.
        fingerprint : str, optional
            32 hex digits that identify what the partition is computed from; by default
            random ones, so that the partition counts as equal to no other.
        compression : {None, "zstd"}
        allow_pickle : bool
            Whether values of types that the format does not have are pickled.

        Returns
        -------
        PartitionInfo
            The partition's entry in the manifest. Its file name is used only once, so
            that no other writer of the same partition can change the file.

        Raises
        ------
        EncodeError
            A record cannot be stored faithfully.
        CheckpointConflictError
            The checkpoint was cleared while the partition was being written.
        """
        folder = self._folder(name)
        folder.make()
        options = WriteOptions(
            plan.format,
            plan.npartitions,
            folder.find_marker().base,
            compression=compression,
            allow_pickle=allow_pickle,
        )
        fingerprint = fingerprint or uuid4().hex
        return write_partition(folder, records, index, fingerprint, "", options)

    def open_partition(
        self,
        name: Name,
        plan: Plan,
        index: int,
        info: PartitionInfo,
        *,
        allow_pickle: bool = False,
    ) -> Partition:
        """Return one partition of a done checkpoint, as a lazy sequence.

        Reading it raises CorruptCheckpointError where the file is missing, cut,
        changed or another partition's, PickleNotAllowedError where it holds pickled
        values that were not allowed, and UnsupportedFormatError where it is in
        another version of the format.
        """
        return Partition(self._folder(name), plan.format, index, info, allow_pickle)

    def mark_done(
        self, name: Name, manifest: Manifest, replaces: Manifest | None = None
    ) -> Manifest:
        """Commit: write the done marker with *manifest*. The last step of a save.

        *replaces* is the manifest of a done checkpoint that is to be replaced. Returned
        is *manifest*, or that of another run with equal fingerprints that was first.

        Raises
        ------
        CheckpointConflictError
            Another run with other fingerprints committed first, or files were
            removed meanwhile.
        """
        return mark_done(self._folder(name), manifest, replaces)

    def rename(self, name: Name, new: Name) -> None:
        """Rename a done checkpoint. Its id stays, so that its children stay current.

        Errors are those of `copy`. A crash loses nothing, and the same call then
        completes it.
        """
        rename(self._folder(name), self._folder(new))

    def copy(
        self, name: Name, store: "CheckpointStore", new: Name | None = None
    ) -> None:
        """Copy a done checkpoint to *store*, under its own name or *new*.

        On one object store, the server copies. Contents are not checked.

        Raises
        ------
        CheckpointNotFoundError, CorruptCheckpointError, UnsupportedFormatError
            It is not done, or damaged.
        CheckpointConflictError
            The copy exists, or another run saves it; or Agatha wrote the checkpoint.
        InvalidValueError
            *store* is not a store.
        """
        if not isinstance(store, CheckpointStore):
            raise InvalidValueError(
                f"cannot copy to a {type(store).__name__}; give CheckpointStore(root), "
                "or this store and a new name"
            )
        folder = self._folder(name)
        copy(folder, store._folder(folder.name if new is None else new))

    def clear(self, name: Name) -> bool:
        """Remove a checkpoint, done or partial, and return whether there was one.

        The marker is removed first, so that no reader uses the rest. Files that are
        not this library's stay, and then their folder stays too.
        """
        return clear(self._folder(name))

    def clear_all(self) -> None:
        """Clear every checkpoint under the root, and remove empty folders there.

        Files that are not this library's stay, and so does the root. Symbolic links
        are not followed: clear a linked checkpoint by its name. What one of them raises
        is raised after the others are cleared.
        """
        clear_each(map(self._folder, self._folder_names(links=False)))

    def prune(
        self,
        pattern: str = "*",
        *,
        older_than: float | None = None,
        keep: int | None = None,
        partial: bool = False,
        leftovers: bool = False,
        min_age: float = MIN_AGE,
        dry_run: bool = False,
    ) -> list[Removal]:
        """Delete what is old or unfinished and matches *pattern*, and return it.

        The rest is as for ``agatha-ckpt prune``, with ages in seconds. What is skipped
        is returned too, and has a ``skip_reason``.
        """
        criteria = Criteria(older_than, keep, partial, leftovers, min_age)
        names = self._folder_names(pattern, links=False)
        return prune([self._folder(name) for name in names], criteria, dry_run)
