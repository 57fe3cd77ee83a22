"""The files of this library in a checkpoint's folder, in any state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agatha_ckpt._errors import NETWORK_ERRORS, CheckpointError, error_note
from agatha_ckpt._filesystem.base import FileInfo, FolderGoneError
from agatha_ckpt._format.done_marker import encode_manifest
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import DONE_MARKER, is_own_file, new_token
from agatha_ckpt._store.folder import Folder


@dataclass(frozen=True)
class Contents:
    """The files in the folder of a checkpoint."""

    own: Mapping[str, FileInfo]  # what a clear removes, by name
    foreign: int  # number of other files

    @property
    def bytes(self) -> int:
        """Size of this library's files."""
        return sum(file.bytes for file in self.own.values())

    @property
    def changed(self) -> str | None:
        """When the newest of them was written, ISO 8601, where that is known."""
        return newest(self.own.values())

    def leftovers(self, manifest: Manifest | None) -> "Contents":
        """Return the same with only the files that the done marker does not name."""
        named = {DONE_MARKER, *(manifest.files if manifest else ())}
        own = {name: file for name, file in self.own.items() if name not in named}
        return Contents(own, self.foreign)


def contents_of(folder: Folder) -> Contents:
    """Return the files in the folder of a checkpoint, from one listing.

    Where Agatha saved it, the marker is read as well.
    """
    listed = folder.list()
    names = folder.own_files(listed)
    own = {name: file for name, file in sorted(listed.items()) if name in names}
    return Contents(own, len(listed) - len(own))


def remove_leftovers(folder: Folder, names: Iterable[str]) -> bool:
    """Remove those of the files *names* that the done marker does not name.

    First the marker gets another token. A run that could still reuse one of the files
    was to replace the marker with the old token, and can no longer commit. Return
    False, and remove nothing, if another run changed the marker meanwhile.
    """
    with error_note(f"removing leftovers of {folder.describe()}"):
        data = folder.read_marker()
        manifest = None if data is None else folder.manifest_from(data)
        if manifest and manifest.token:
            new = encode_manifest(replace(manifest, token=new_token()))
            try:
                swapped = folder.files.swap(folder.marker, data, new)
            except FolderGoneError:
                swapped = False
            if not swapped:
                return False
        kept = {DONE_MARKER, *(manifest.files if manifest else ())}
        going = [name for name in names if is_own_file(name) and name not in kept]
        folder.files.remove(folder.path, going)
        folder.sync()
        if manifest is None:
            folder.files.remove_folder(folder.path)
    return True


def clear(folder: Folder) -> bool:
    """Remove the marker, then the library's other files, then the empty folder.

    The marker is removed once more at the end: a commit that listed the files before
    they were removed may have written it meanwhile. One that lists later fails. Return
    whether there was anything to remove.
    """
    with error_note(f"clearing {folder.describe()}; clear it again"):
        own = folder.own_files(folder.list())
        if own:
            folder.check_spelling()
            marker = [DONE_MARKER]
            if DONE_MARKER in own:
                folder.files.remove(folder.path, marker)
                folder.sync()
            # A power cut must not bring back what the next run would reuse.
            folder.files.remove(folder.path, sorted(own - {DONE_MARKER}))
            folder.files.remove(folder.path, marker)
            folder.sync()
        folder.files.remove_folder(folder.path)
    return bool(own)


def clear_each(folders: Iterable[Folder]) -> None:
    """Clear several; then raise the first error of any, with the number of others."""
    errors = []
    for folder in folders:
        try:
            clear(folder)
        except NETWORK_ERRORS:
            raise
        except (CheckpointError, OSError) as error:
            errors.append(error)
    if errors:
        if len(errors) > 1:
            errors[0].add_note(f"and {len(errors) - 1} more could not be cleared")
        raise errors[0]


def newest(files: Iterable[FileInfo]) -> str | None:
    """Return when the newest file was written, ISO 8601, where that is known."""
    times = [file.modified for file in files if file.modified is not None]
    try:
        return datetime.fromtimestamp(max(times), UTC).isoformat() if times else None
    except (ValueError, OverflowError, OSError):  # before year 1, or beyond 9999
        return None
