"""The folder of one checkpoint: its marker and its partition files."""

import errno
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from agatha_ckpt._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    RootNotSetError,
    error_note,
)
from agatha_ckpt._filesystem.base import Files, Stored
from agatha_ckpt._format.agatha import decode_legacy_manifest, is_legacy_file
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, decode_manifest
from agatha_ckpt._format.names import (
    DONE_MARKER,
    is_own_file,
    is_run_file,
    parse_filename,
    run_filename,
)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_PASSES = 5  # of a clear, where others go on storing


@dataclass(frozen=True)
class DamagedPartition:
    """A partition of a done checkpoint that does not hold what was saved.

    Attributes
    ----------
    index : int
        Partition number, from 0.
    reason : str
        What is wrong with it.
    """

    index: int
    reason: str


@dataclass(frozen=True)
class Folder:
    """Where one checkpoint lies, and how messages speak of it.

    Attributes
    ----------
    files : Files
    path : str
        Without protocol.
    name : str
        Name of the checkpoint.
    root : str
        The root as it was given.
    """

    files: Files
    path: str
    name: str
    root: str

    def describe(self, index: int | None = None) -> str:
        """Return how messages speak of the checkpoint or of one of its partitions."""
        of = "" if index is None else f"partition {index} of "
        return f"{of}checkpoint {self.name!r} under {self.root!r}"

    def file(self, filename: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.path}/{filename}"

    @property
    def marker(self) -> str:
        """The path of the done marker."""
        return self.file(DONE_MARKER)

    def hold(self, run: str) -> AbstractContextManager[object]:
        """Let others see that a run goes on, where the filesystem can tell."""
        return self.files.hold(self.file(run_filename(run)))

    def goes_on(self, run: str) -> bool:
        """Whether a run certainly goes on at this moment."""
        return self.files.is_held(self.file(run_filename(run)))

    def in_use(self, filename: str) -> bool:
        """Whether a file says that a run goes on, and so is not to be removed.

        Without it, what that run stores from now on would be taken for what a run
        has left that died.
        """
        return is_run_file(filename) and self.files.is_held(self.file(filename))

    def sizes(self) -> dict[str, int]:
        """Return names and sizes of the files in the folder, by one listing."""
        with error_note(f"listing the files of {self.describe()}"):
            return self.files.sizes(self.path)

    def stored(self) -> dict[str, Stored]:
        """Return what one listing says of the files in the folder, by name."""
        with error_note(f"listing the files of {self.describe()}"):
            return self.files.stored(self.path)

    def sync(self) -> None:
        """Make durable what was done in the folder, by this run or by another."""
        with suppress(FileNotFoundError):  # another run may remove it
            self.files.sync_folder(self.path)

    def find_manifest(self) -> Manifest | None:
        """Return what the done marker says, or None where there is none.

        Raises
        ------
        CorruptCheckpointError, UnsupportedFormatError
            As `manifest`.
        """
        data = self.read_marker()
        return None if data is None else self.manifest_from(data)

    def read_marker(self) -> bytes | None:
        """Return the content of the done marker, or None where there is none."""
        try:
            with error_note(f"reading the done marker of {self.describe()}"):
                return self.files.read(self.marker)
        except FileNotFoundError:
            return None

    def manifest_from(self, data: bytes) -> Manifest:
        """Return what the content of a done marker says.

        Raises
        ------
        CorruptCheckpointError, UnsupportedFormatError
            As `manifest`.
        """
        if data.startswith(b"{"):
            return decode_manifest(data, self.describe())
        sizes = self.sizes()
        if not data.strip() and any(map(parse_filename, sizes)):
            # A marker touched by hand has no partition files beside it.
            raise CorruptCheckpointError(
                f"the done marker of {self.describe()} is empty, cut or changed; "
                "give the bag to save it again, or clear it"
            )
        return decode_legacy_manifest(data, sizes, self.describe())

    def manifest(self) -> Manifest:
        """Return what the done marker says.

        Raises
        ------
        CheckpointNotFoundError
            There is none.
        CorruptCheckpointError
            It is empty, cut or changed.
        UnsupportedFormatError
            It is from a newer version of the format.
        """
        manifest = self.find_manifest()
        if manifest is None:
            raise CheckpointNotFoundError(
                f"{self.describe()} is not done; save a bag under this name first"
            )
        return manifest

    def missing(self, manifest: Manifest) -> list[DamagedPartition]:
        """Return the partitions whose file is missing or of another size."""
        sizes = self.sizes()
        damaged = []
        for index, info in enumerate(manifest.partitions):
            size = sizes.get(info.file)
            if size is None:
                damaged.append(DamagedPartition(index, "its file is missing"))
            elif size != info.bytes:
                reason = f"its file has {size} bytes, not {info.bytes}"
                damaged.append(DamagedPartition(index, reason))
        return damaged

    def open_file(self, index: int, info: PartitionInfo, piece: int = 0) -> BinaryIO:
        """Open a partition file that the manifest names; *piece* as in `Files.open`.

        Raises
        ------
        CorruptCheckpointError
            It is not there.
        """
        try:
            return self.files.open(self.file(info.file), info.bytes, piece)
        except FileNotFoundError:
            raise self._missing_file(index, info) from None

    def _missing_file(self, index: int, info: PartitionInfo) -> CorruptCheckpointError:
        try:
            current = self.find_manifest()
        except CheckpointError:
            current = None
        if current is None or info.file not in current.files:
            return CorruptCheckpointError(
                f"{self.describe(index)} was replaced or cleared since this bag was "
                "loaded; load the checkpoint again"
            )
        return CorruptCheckpointError(
            f"{self.describe(index)} is damaged: its file is missing (or is being "
            "replaced or cleared by another run right now); give the bag to repair "
            "the checkpoint, or clear it"
        )

    def clear(self) -> None:
        """Remove the marker, then the library's other files, then the empty folder."""
        with error_note(f"clearing {self.describe()}; clear it again"):
            self._clear()

    def _clear(self) -> None:
        # Until a listing shows nothing: a run that found its files before we removed
        # some of them has stored the others by then. It may mark them done, and what
        # is left of them would be kept beside the records of the next run.
        for _ in range(_MOST_PASSES):
            own = self.own_files(self.sizes())
            if not own:
                break
            if DONE_MARKER in own:
                self.files.remove(self.path, [DONE_MARKER])
                self.sync()
            # The marker once more, as it may have been put meanwhile.
            others = sorted(own - {DONE_MARKER})
            self.files.remove(self.path, [*others, DONE_MARKER])
            # Else a power cut might bring back what the next run would keep.
            self.sync()
        self.files.remove_folder(self.path)

    def own_files(self, names: Iterable[str]) -> set[str]:
        """Return those of the files in the folder that a clear removes.

        What Agatha itself wrote is only ours as its marker names it.
        """
        own = {name for name in names if is_own_file(name) and not self.in_use(name)}
        if DONE_MARKER in own and any(map(is_legacy_file, names)):
            own |= self._named_by_marker()
        return own

    def _named_by_marker(self) -> frozenset[str]:
        try:
            manifest = self.find_manifest()
        except CheckpointError:
            return frozenset()
        return manifest.files if manifest else frozenset()


def make_folder(files: Files, path: str, what: str) -> None:
    """Make a folder, *what* messages call it, where the filesystem has folders.

    Raises
    ------
    RootNotSetError
        It cannot be made, and not for want of space.
    """
    try:
        with error_note(f"making {what}"):
            files.make_folder(path)
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in _FULL:
            raise
        raise RootNotSetError(
            f"{what} cannot be made ({type(error).__name__}: {error}); set a root that "
            "can be written to"
        ) from error
