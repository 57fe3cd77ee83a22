"""The folder of one checkpoint: its done marker and its partition files."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar
from unicodedata import normalize

from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    RootNotSetError,
    UnsupportedFormatError,
    absent_bucket,
    damaged,
    error_note,
)
from agatha_ckpt._filesystem.base import FileInfo, Files, FolderGoneError, NotAFileError
from agatha_ckpt._format.agatha import decode_agatha_manifest, is_agatha_file
from agatha_ckpt._format.base import StoredFile
from agatha_ckpt._format.done_marker import decode_manifest
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import (
    DONE_MARKER,
    NO_BASE,
    is_own_file,
    is_variant,
    parse_filename,
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


@dataclass(frozen=True)
class Marker:
    """The done marker of a checkpoint at one moment."""

    data: bytes | None = None  # its content; None where there is none
    manifest: Manifest | None = None  # None also where it cannot be read

    @property
    def base(self) -> str:
        """The 8 hex digits in the file names of a run that is to replace it."""
        if self.manifest and self.manifest.token:
            return self.manifest.token[:8]
        return NO_BASE if self.data is None else sha256(self.data).hexdigest()[:8]

    @property
    def files(self) -> frozenset[str]:
        """The names of the files that it names."""
        return self.manifest.files if self.manifest else frozenset()


@dataclass(frozen=True)
class Folder:
    """The folder of one checkpoint."""

    files: Files
    path: str  # without protocol
    name: str  # of the checkpoint
    root: str  # as messages show it

    def describe(self, index: int | None = None) -> str:
        """Return the words for the checkpoint, or a partition of it, in messages."""
        of = "" if index is None else f"partition {index} of "
        return f"{of}checkpoint {self.name!r} under {self.root!r}"

    def file(self, filename: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.path}/{filename}"

    @property
    def marker(self) -> str:
        """The path of the done marker."""
        return self.file(DONE_MARKER)

    def list(self) -> dict[str, FileInfo]:
        """Return the files in the folder by name, from one listing.

        Raises
        ------
        RootNotSetError
            It is on an object store, where there is no such bucket.
        """
        try:
            with error_note(f"listing the files of {self.describe()}"):
                return self.files.list(self.path)
        except FolderGoneError as error:
            raise absent_bucket(error, self.describe()) from None

    def sync(self) -> None:
        """Make durable what was done in the folder."""
        with suppress(FileNotFoundError):  # another run may remove it
            self.files.sync_folder(self.path)

    def make(self) -> None:
        """Make the folder, to write to it.

        Errors are those of `check_spelling` and `make_folder`.
        """
        self.check_spelling()
        make_folder(self.files, self.path, f"the folder of {self.describe()}")

    def check_spelling(self) -> None:
        """Refuse a folder that was made for a name in other case or Unicode form.

        Disks of macOS and Windows, and others, take both names for one folder. There it
        raises a CheckpointConflictError.
        """
        if not self.files.has_folders:  # and so names are exact
            return
        with error_note(f"listing the root of {self.describe()}"):
            try:
                found = self.files.folders(os.path.dirname(self.path), True)
            except PermissionError:  # it can be used without being listed
                return
        names = [normalize("NFC", name) for name in found]
        other = next((name for name in names if is_variant(name, self.name)), None)
        if other is None or self.name in names:
            return
        if not any(map(is_own_file, self.list())):  # the disk keeps the names apart
            return
        manifest = self.find_marker().manifest
        if manifest is None or manifest.name != self.name:
            raise self._variant_error(other)

    def _variant_error(self, other: str) -> CheckpointConflictError:
        return CheckpointConflictError(
            f"the folder of {self.describe()} is that of {other!r}, a name that "
            f"differs in case or Unicode form alone; use {other!r}, or a name that "
            "differs in more"
        )

    # ---- the done marker ----

    def read_marker(self) -> bytes | None:
        """Return the content of the done marker, or None where there is none."""
        try:
            with error_note(f"reading the done marker of {self.describe()}"):
                return self.files.read(self.marker)
        except FileNotFoundError:
            return None
        except NotAFileError:
            raise CorruptCheckpointError(
                f"the done marker of {self.describe()} is not a file; remove by hand "
                "what lies in its place"
            ) from None

    def find_marker(self) -> Marker:
        """Return the done marker; its manifest is None where it is corrupt."""
        data = self.read_marker()
        return Marker(data, None if data is None else self.readable_manifest(data))

    def find_manifest(self) -> Manifest | None:
        """Return the manifest in the done marker, or None where there is none.

        Errors are those of `manifest_from`.
        """
        data = self.read_marker()
        return None if data is None else self.manifest_from(data)

    def manifest(self) -> Manifest:
        """Return the manifest in the done marker.

        Errors are those of `manifest_from`; and CheckpointNotFoundError, for none.
        """
        manifest = self.find_manifest()
        if manifest is None:
            raise CheckpointNotFoundError(
                f"{self.describe()} is not done; save a collection under this name "
                "first"
            )
        return manifest

    def manifest_from(self, data: bytes) -> Manifest:
        """Return the manifest in *data*, the content of a done marker.

        Raises
        ------
        CorruptCheckpointError
            It is empty, cut or changed.
        UnsupportedFormatError
            It is of another version of the format.
        CheckpointConflictError
            It is that of a checkpoint whose name differs in case or Unicode form alone.
        """
        if data.startswith(b"{"):
            manifest = decode_manifest(data, self.describe())
            if is_variant(manifest.name, self.name):
                raise self._variant_error(manifest.name)
            return manifest
        listed = self.list()
        if not data.strip() and any(map(parse_filename, listed)):
            # A marker that was touched by hand has no partition files beside it.
            raise CorruptCheckpointError(
                f"the done marker of {self.describe()} is empty, cut or changed; "
                "give the collection to save it again, or clear it"
            )
        files = {name: (file.bytes, file.modified) for name, file in listed.items()}
        return decode_agatha_manifest(data, files, self.describe(), self.name)

    def readable_manifest(self, data: bytes) -> Manifest | None:
        """Return the manifest in *data*, or None where it is corrupt."""
        with suppress(CorruptCheckpointError):
            return self.manifest_from(data)
        return None

    # ---- partition files ----

    def partition_file(
        self, filename: str, size: int, index: int | None = None
    ) -> StoredFile:
        """Return a partition file; *index* is its partition, by default its own."""
        files, path, name = self.files, self.file(filename), parse_filename(filename)
        if index is None and name is not None:
            index = name.index
        where = self.describe(index)

        def reader(read: Callable[[str, int, int], T]) -> Callable[..., T]:
            def call(count: int = 0) -> T:
                try:
                    return read(path, size, count)
                except NotAFileError:
                    reason = "what lies in the place of its file is not a file"
                    raise damaged(where, reason) from None

            return call

        open, tail = reader(files.open), reader(files.tail)
        return StoredFile(filename, name, where, size, files.remote, open, tail)

    @contextmanager
    def reading(
        self, index: int, info: PartitionInfo, note: str = ""
    ) -> Iterator[StoredFile]:
        """Yield the file of a partition; errors get *note*, which names what is done.

        Raises
        ------
        CorruptCheckpointError
            It is missing, or was replaced meanwhile.
        UnsupportedFormatError
            A package that its format needs is not installed.
        """
        file = self.partition_file(info.file, info.bytes, index)
        with error_note(note or f"reading {file.where}"):
            try:
                yield file
            except FileNotFoundError:
                raise self._missing_file_error(index, info) from None
            except ModuleNotFoundError as error:
                raise UnsupportedFormatError(
                    f"{file.where} needs the package {error.name!r}, which is not "
                    "installed here; pip install it, then load again"
                ) from None

    def _missing_file_error(
        self, index: int, info: PartitionInfo
    ) -> CorruptCheckpointError:
        if info.file not in self._named_files():
            return CorruptCheckpointError(
                f"{self.describe(index)} was replaced or cleared since this collection "
                "was loaded; load the checkpoint again"
            )
        return CorruptCheckpointError(
            f"{self.describe(index)} is damaged: its file is missing; give the "
            "collection to repair the checkpoint, or clear it"
        )

    def own_files(self, listed: Mapping[str, FileInfo]) -> set[str]:
        """Return those of the *listed* files that a clear removes.

        A file that Agatha wrote is only ours if its marker names it.
        """
        own = {name for name in listed if is_own_file(name)}
        if DONE_MARKER in own and any(map(is_agatha_file, listed)):
            own |= self._named_files()
        return own

    def _named_files(self) -> frozenset[str]:
        """Return the files that the done marker names, where it can be read."""
        with suppress(CheckpointError):
            return Marker(manifest=self.find_manifest()).files
        return frozenset()


def all_present(
    folder: Folder, infos: Iterable[PartitionInfo], listed: Mapping[str, FileInfo]
) -> bool:
    """Return whether each file is there with its size."""
    return all(
        listed[info.file].bytes == info.bytes
        if info.file in listed
        else _is_readable(folder, info)
        for info in infos
    )


def _is_readable(folder: Folder, info: PartitionInfo) -> bool:
    """Return whether a file is there that a listing lacks, as NFS's may."""
    try:
        folder.files.tail(folder.file(info.file), info.bytes, min(info.bytes, 1))
    except FileNotFoundError:
        return False
    return True


def make_folder(files: Files, path: str, what: str) -> None:
    """Make a folder to write to, *what* in messages.

    Raises
    ------
    RootNotSetError
        It cannot be made or written to, and not for lack of space.
    """
    try:
        with error_note(f"making {what}"):
            files.make_folder(path)
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in _NO_SPACE:
            raise
        advice = "set a root that can be written to"
        if isinstance(error, FileExistsError):
            advice = "remove by hand what lies in its place"
        raise RootNotSetError(
            f"{what} cannot be made or written to ({type(error).__name__}: {error}); "
            f"{advice}"
        ) from error
