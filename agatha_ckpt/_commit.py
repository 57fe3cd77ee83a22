"""The commit: how a set of partition files becomes a checkpoint, once and whole."""

from collections.abc import Iterable

from agatha_ckpt._errors import (
    CheckpointConflictError,
    CorruptCheckpointError,
    RootNotSetError,
)
from agatha_ckpt._files import FolderGoneError
from agatha_ckpt._folder import Folder
from agatha_ckpt._layout import (
    DONE_MARKER,
    Manifest,
    Plan,
    encode_manifest,
    is_own_file,
)


def commit(folder: Folder, manifest: Manifest, replaces: Manifest | None) -> Manifest:
    """Make *manifest* what the checkpoint is, unless another run was first.

    The order is what makes it atomic and durable: the folder is synced, so that all
    partition files are there after a power cut; they are found in it; the marker
    appears; what it does not name is removed.

    Parameters
    ----------
    folder : Folder
    manifest : Manifest
    replaces : Manifest, optional
        What the done marker says now, where a checkpoint is repaired or computed
        again; without it the first marker wins.

    Returns
    -------
    Manifest
        *manifest*; or that of another run with the same plan that was first.

    Raises
    ------
    CheckpointConflictError
        Another run with another plan was first, or the files were cleared.
    RootNotSetError
        The files are in the memory of another process.
    """
    try:
        folder.files.sync_folder(folder.path)
        sizes = folder.sizes()
        if any(sizes.get(info.file) != info.bytes for info in manifest.partitions):
            return _without_files(folder, manifest, replaces)
        winner = _put_marker(folder, manifest, replaces)
    except (FolderGoneError, FileNotFoundError):
        raise _cleared(folder) from None
    if winner.token == manifest.token:
        _sweep(folder, manifest, sizes)
        if replaces:  # Agatha's own files are ours to remove only as its marker's
            folder.files.remove(folder.path, replaces.files - manifest.files)
        return manifest
    folder.files.remove(folder.path, manifest.files - winner.files)
    if winner.plan.digest != manifest.plan.digest:
        raise CheckpointConflictError(
            f"{folder.describe()} was saved by another run with another plan "
            "(partition count, format, version or parents) while this run was "
            "saving it; load that one, or clear it and run again"
        )
    return winner


def adopt(folder: Folder, plan: Plan, replaces: Manifest | None) -> Manifest | None:
    """Return what another run with the same plan committed meanwhile, if one did.

    What is left over beside it is removed.
    """
    try:
        current = folder.find_manifest()
    except CorruptCheckpointError:
        return None
    if current is None or current.plan.digest != plan.digest:
        return None
    if replaces is not None and current.token == replaces.token:
        return None
    _sweep(folder, current, folder.sizes())
    return current


def _sweep(folder: Folder, manifest: Manifest, names: Iterable[str]) -> None:
    """Remove this library's files that a done checkpoint does not name."""
    kept = manifest.files | {DONE_MARKER}
    left_over = [n for n in names if is_own_file(n) and n not in kept]
    folder.files.remove(folder.path, left_over)


def _without_files(
    folder: Folder, manifest: Manifest, replaces: Manifest | None
) -> Manifest:
    """Return the winner whose commit removed our files; raise where there is none."""
    if winner := adopt(folder, manifest.plan, replaces):
        return winner
    kept = replaces.files if replaces else frozenset()
    folder.files.remove(folder.path, manifest.files - kept)
    if folder.files.one_process:
        raise RootNotSetError(
            f"{folder.describe()} was not saved, because its root lies in the memory "
            "of one process and the bag was computed in others; compute with "
            "scheduler='threads', or set another root"
        )
    raise _cleared(folder)


def _cleared(folder: Folder) -> CheckpointConflictError:
    return CheckpointConflictError(
        f"files of {folder.describe()} were removed by another run or by hand before "
        "it could be marked done; run again"
    )


def _put_marker(
    folder: Folder, manifest: Manifest, replaces: Manifest | None
) -> Manifest:
    """Return the manifest that is in place afterwards."""
    data = encode_manifest(manifest)
    while True:
        if replaces is None and folder.files.create(folder.marker, data):
            return manifest
        try:
            current = folder.find_manifest()
        except CorruptCheckpointError:
            # Nobody's checkpoint: it makes room for the next try.
            folder.files.remove(folder.path, [DONE_MARKER])
            current = None
        if current is None:
            replaces = None
        elif replaces is not None and current.token == replaces.token:
            folder.files.replace(folder.marker, data)
            return manifest
        else:
            # Another run's; or our own, where a retry met the first try.
            return current
