"""The commit: writing the done marker by compare-and-swap.

1. List the folder: all files that the manifest names must be there.
2. Swap the marker: it is written only if it is still what the run found.
3. List again: a clear may have removed files in between. If one is missing, take the
   marker back, but only if it is still ours.
4. Remove leftovers, but only names from the first listing: a later one may show files
   of a run that is about to commit on top of this marker.

A run that loses adopts the winner's manifest if its fingerprints are the same, and so
are chunks and divisions.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agatha_ckpt._errors import CheckpointConflictError, EncodeError, error_note
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._format.done_marker import encode_manifest, manifest_fault
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import DONE_MARKER, is_own_file, parse_filename
from agatha_ckpt._store.folder import Folder, Marker, all_present


def commit(
    folder: Folder, manifest: Manifest, replaces: Marker, run: str = ""
) -> Manifest:
    """Make *manifest* the done marker, unless another run committed first.

    *replaces* is the marker that the run found when it began. Of a run that loses, the
    files with the id *run* are removed. Return *manifest*, or that of another run
    with equal fingerprints that was first.

    Raises
    ------
    CheckpointConflictError
        Another run with other fingerprints was first, or files were removed.
    EncodeError
        No reader would accept the manifest.
    """
    if fault := manifest_fault(manifest):
        raise EncodeError(
            f"{folder.describe()} cannot be marked done: its manifest {fault}; write "
            "one file for each partition of the plan"
        )
    with error_note(f"marking {folder.describe()} done"):
        try:
            return _commit(folder, manifest, replaces, run)
        except FolderGoneError:
            raise _removed(folder) from None


def mark_done(
    folder: Folder, manifest: Manifest, replaces: Manifest | None
) -> Manifest:
    """Commit *manifest* in place of the manifest *replaces*; see `commit`."""
    marker = Marker()
    if replaces is not None:
        marker = folder.find_marker()
        if not marker.manifest or marker.manifest.token != replaces.token:
            raise CheckpointConflictError(
                f"{folder.describe()} is not what was to be replaced; another run has "
                "replaced or cleared it; load it again"
            )
    return commit(folder, replace(manifest, name=folder.name), marker)


def _commit(folder: Folder, manifest: Manifest, replaces: Marker, run: str) -> Manifest:
    def give_way() -> Manifest:
        return adopt(
            folder,
            manifest.plan.format,
            manifest.collection,
            manifest.fingerprints,
            replaces,
            run,
            manifest.files,
        )

    folder.sync()
    listed = folder.list()
    if not all_present(folder, manifest.partitions, listed):
        return give_way()
    data = encode_manifest(manifest)
    if not folder.files.swap(folder.marker, replaces.data, data):
        return give_way()
    if not all_present(folder, manifest.partitions, folder.list()):
        # A clear listed before the swap. Its files are gone, or will be.
        if folder.files.swap(folder.marker, data, None):
            raise _removed(folder)
        return give_way()
    _remove(folder, (n for n in listed if _is_leftover(n, manifest, replaces)))
    return manifest


def _is_leftover(filename: str, manifest: Manifest, replaces: Marker) -> bool:
    # Files that Agatha wrote are ours to remove only as those of the marker that was
    # replaced.
    own = is_own_file(filename) or filename in replaces.files
    return own and filename != DONE_MARKER and filename not in manifest.files


def adopt(
    folder: Folder,
    format: str,
    collection: Mapping[str, Any],
    fingerprints: Sequence[str],
    replaces: Marker,
    run: str,
    kept: Set[str],
) -> Manifest:
    """Return the manifest of the run that was first, if it is what this run needs.

    This run needs a *collection* of partitions with *fingerprints*, found the marker
    *replaces* when it began, and keeps of its files those in *kept*: a repair or an
    overwrite does not adopt a manifest that names others of them. The files that this
    run wrote are removed, if the winner does not name them.

    Raises
    ------
    CheckpointConflictError
        The winner has other fingerprints, or names a file that this run was to
        replace; or there is no winner: files were removed.
    """
    data = folder.read_marker()
    winner = None
    if data is not None and data != replaces.data:
        winner = folder.readable_manifest(data)
    if winner is None:
        raise _removed(folder)
    written = {n for n in folder.list() if (f := parse_filename(n)) and f.run == run}
    _remove(folder, written - winner.files)
    if winner.files & (replaces.files - kept):
        raise CheckpointConflictError(
            f"{folder.describe()} was changed by another run, which keeps files that "
            "this run was to compute again; run again"
        )
    found = winner.plan.format, winner.collection, winner.fingerprints
    if found != (format, collection, tuple(fingerprints)):
        raise CheckpointConflictError(
            f"{folder.describe()} was saved by another run from other inputs or with "
            "another version while this run was saving it; load that one, or save "
            "under another name"
        )
    return winner


def _removed(folder: Folder) -> CheckpointConflictError:
    return CheckpointConflictError(
        f"files of {folder.describe()} were removed by another run or by hand before "
        "it was marked done; run again"
    )


def _remove(folder: Folder, names: Iterable[str]) -> None:
    with suppress(PermissionError):  # an account that may not delete can save
        folder.files.remove(folder.path, sorted(names))
