"""CheckpointStore: the files of one root on one fsspec filesystem."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from agatha_ckpt._errors import error_note
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import Plan
from agatha_ckpt._store.commit import adopt, commit
from agatha_ckpt._store.contents import Contents, contents_of, remove_left_over
from agatha_ckpt._store.folder import DamagedPartition, make_folder
from agatha_ckpt._store.inventory import Inventory
from agatha_ckpt._store.partition import Partition, write_partition
from agatha_ckpt._store.survey import Survey, bag_of, faults_of, survey, verify


class CheckpointStore(Inventory):
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
        **only : ``run``, ``index`` and ``bag``, whose files alone count

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
        with error_note(f"marking {self.describe(name)} done"):
            return commit(self._folder(name), manifest, replaces, seen)

    # ---- checking and clearing ----

    def verify(
        self, name: str, allow_pickle: bool = False, manifest: Manifest | None = None
    ) -> list[DamagedPartition]:
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
        with error_note(f"taking what another run has saved of {self.describe(name)}"):
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
        with error_note(f"removing what is left over beside {folder.describe()}"):
            remove_left_over(folder, files)

    def clear_all(self) -> None:
        """Clear every checkpoint under the root, and remove empty folders there.

        Files that are not this library's stay, and so does the root. What a link
        leads to may lie anywhere and stays as well: clear it by its name.
        """
        for name in self.folders(links=False):
            self.clear(name)
