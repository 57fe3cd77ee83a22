"""What of this library's lies in the folder of a checkpoint, whatever its state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agatha_ckpt._filesystem.base import Stored
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import DONE_MARKER, is_own_file
from agatha_ckpt._store.folder import Folder


@dataclass(frozen=True)
class Contents:
    """What lies in the folder of a checkpoint.

    Attributes
    ----------
    own : mapping of str to Stored
        The files that a clear removes.
    foreign : int
        How many other files there are.
    goes_on : bool, optional
        Whether a run saves it at this moment; None where that cannot be seen.
    """

    own: Mapping[str, Stored]
    foreign: int
    goes_on: bool | None

    @property
    def bytes(self) -> int:
        """Size of this library's files."""
        return sum(file.bytes for file in self.own.values())

    @property
    def changed(self) -> str | None:
        """When the newest of them was written, ISO 8601; None where it is not known."""
        return newest(self.own.values())

    def only(self, names: Iterable[str]) -> "Contents":
        """Return the same without the files that are not among *names*."""
        own = {name: self.own[name] for name in names}
        return Contents(own, self.foreign, self.goes_on)

    def left_over(self, manifest: Manifest | None) -> "Contents":
        """Return the same with those files only that the done marker does not name."""
        named = {DONE_MARKER, *(manifest.files if manifest else ())}
        return self.only(name for name in self.own if name not in named)


def contents_of(folder: Folder) -> Contents:
    """Return what lies in the folder of a checkpoint, by one listing.

    Of what Agatha itself saved, the marker is read as well.
    """
    stored = folder.stored()
    names = folder.own_files(stored)
    own = {name: file for name, file in sorted(stored.items()) if name in names}
    others = stored.keys() - names
    in_use = {name for name in others if folder.in_use(name)}
    goes_on = bool(in_use) if folder.files.local else None
    return Contents(own, len(others - in_use), goes_on)


def remove_left_over(folder: Folder, names: Iterable[str]) -> None:
    """Remove files of this library that the done marker does not name now either."""
    manifest = folder.find_manifest()
    named = manifest.files if manifest else frozenset()
    going = [
        name
        for name in names
        if is_own_file(name)
        and name != DONE_MARKER
        and name not in named
        and not folder.in_use(name)
    ]
    folder.files.remove(folder.path, going)
    folder.sync()
    if manifest is None:
        folder.files.remove_folder(folder.path)


def newest(files: Iterable[Stored]) -> str | None:
    """Return when the newest file was written, ISO 8601, where that is known."""
    times = [file.modified for file in files if file.modified is not None]
    return datetime.fromtimestamp(max(times), UTC).isoformat() if times else None
