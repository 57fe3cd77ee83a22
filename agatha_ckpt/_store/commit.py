"""The commit: how a set of partition files becomes a checkpoint, once and whole."""

from collections.abc import Iterable, Mapping
from time import sleep

from agatha_ckpt._errors import CheckpointConflictError, CorruptCheckpointError
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._format.manifest import (
    Manifest,
    PartitionInfo,
    decode_manifest,
    encode_manifest,
)
from agatha_ckpt._format.names import (
    DONE_MARKER,
    Plan,
    claim_filename,
    is_own_file,
    parse_filename,
)
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.rivals import RunGoesOnError, lose, runs_that_go_on

_TRIES, _PAUSE_SECONDS = 10, 0.05  # of putting a marker that others put or clear


def commit(
    folder: Folder,
    manifest: Manifest,
    replaces: Manifest | None = None,
    seen: frozenset[str] | None = None,
) -> Manifest:
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
    seen : frozenset of str, optional
        The files that were there when it was found out which of them to keep.

    Returns
    -------
    Manifest
        *manifest*; or that of another run with the same plan that was first.

    Raises
    ------
    CheckpointConflictError
        Another run with another plan was first, or the files were cleared.
    RunGoesOnError
        A run whose files were kept has written others since they were *seen*.
    """
    try:
        folder.files.sync_folder(folder.path)
        sizes = folder.sizes()
        if not _all_there(folder, manifest, sizes):
            return _without_files(folder, manifest, replaces)
        marked = DONE_MARKER in sizes
        if seen is not None:
            runs = runs_that_go_on(manifest.files & seen, seen, sizes)
            if runs and _other(folder, replaces) is None:
                raise RunGoesOnError(runs)
            marked = marked or bool(runs)
        winner, placed = _put_marker(folder, manifest, replaces, marked)
    except (FolderGoneError, FileNotFoundError):
        raise _cleared(folder) from None
    # Whoever won, these are not in use any more; Agatha's own files are ours to
    # remove only as those of the marker that was replaced.
    replaced = replaces.files if replaces else frozenset()
    if placed:  # also for another run that died: nobody else removes what it left
        winner = _tidied(folder, winner, _left_over(folder, winner, sizes, replaced))
    if winner.token == manifest.token:
        return manifest
    folder.files.remove(folder.path, (manifest.files | replaced) - winner.files)
    return _of_plan(folder, manifest.plan, winner)


def adopt(
    folder: Folder, plan: Plan, replaces: Manifest | None, run: str
) -> Manifest | None:
    """Return what another run with the same plan committed meanwhile, if one did.

    The files that the run *run* wrote are then removed, as far as they are not its,
    and also where the other run's plan is another one.
    """
    winner = _other(folder, replaces)
    if winner is None:
        return None
    lose(run)
    folder.sync()
    written = {n for n in folder.sizes() if (f := parse_filename(n)) and f.run == run}
    folder.files.remove(folder.path, written - winner.files)
    return winner if winner.plan.digest == plan.digest else None


def _of_plan(folder: Folder, plan: Plan, winner: Manifest) -> Manifest:
    """Return what another run has committed, if a run with *plan* may take it."""
    if winner.plan.digest != plan.digest:
        raise CheckpointConflictError(
            f"{folder.describe()} was saved by another run with another plan "
            "(partition count, format, version or parents) while this run was "
            "saving it; load that one, or clear it and run again"
        )
    return winner


def _other(folder: Folder, replaces: Manifest | None) -> Manifest | None:
    """Return what is done, if it is not what a run set out to replace."""
    try:
        current = folder.find_manifest()
    except CorruptCheckpointError:
        return None
    replaced = current and replaces and current.token == replaces.token
    return None if replaced else current


def _all_there(folder: Folder, manifest: Manifest, sizes: Mapping[str, int]) -> bool:
    return all(
        sizes[info.file] == info.bytes
        if info.file in sizes
        else _can_be_read(folder, info)
        for info in manifest.partitions
    )


def _can_be_read(folder: Folder, info: PartitionInfo) -> bool:
    """Whether a file is there that a listing does not name, as one on NFS may not."""
    try:
        folder.files.tail(folder.file(info.file), info.bytes, min(info.bytes, 1))
    except FileNotFoundError:
        return False
    return True


def _check_again(folder: Folder, manifest: Manifest) -> None:
    """Take the marker back if the files were cleared while it was being written.

    Only on local disk, where a listing is no request: elsewhere it is left to
    `Folder.clear`, which removes the marker once more after the files.
    """
    if not folder.files.local or _all_there(folder, manifest, folder.sizes()):
        return
    current = _other(folder, None)
    if current is not None and current.token == manifest.token:
        folder.files.remove(folder.path, [DONE_MARKER, *manifest.files])
    raise _cleared(folder)


def _left_over(
    folder: Folder, manifest: Manifest, names: Iterable[str], replaced: frozenset[str]
) -> list[str]:
    """Return this library's files that a done checkpoint does not name."""
    kept = manifest.files | {DONE_MARKER}
    others = [n for n in names if n not in kept and (is_own_file(n) or n in replaced)]
    return [name for name in others if not folder.in_use(name)]


def _tidied(folder: Folder, winner: Manifest, left_over: list[str]) -> Manifest:
    """Remove what the marker that was put does not name; return what is in place."""
    _check_again(folder, winner)
    if not left_over:
        return winner
    confirmed = _confirmed(folder, winner)
    if confirmed.token == winner.token:
        folder.files.remove(folder.path, left_over)
    return confirmed


def _confirmed(folder: Folder, manifest: Manifest) -> Manifest:
    """Return the manifest in place, before files that it may name are removed.

    Some servers write a marker over the one that they were told to create only if
    there was none.
    """
    if folder.files.local:
        return manifest
    marker = folder.read_marker()
    return (marker and _readable(folder, marker)) or manifest


def _without_files(
    folder: Folder, manifest: Manifest, replaces: Manifest | None
) -> Manifest:
    """Return the winner whose commit removed our files; raise where there is none."""
    winner = _other(folder, replaces)
    kept = winner or replaces
    folder.files.remove(folder.path, manifest.files - (kept.files if kept else set()))
    if winner is None:
        raise _cleared(folder)
    return _of_plan(folder, manifest.plan, winner)


def _cleared(folder: Folder) -> CheckpointConflictError:
    return CheckpointConflictError(
        f"files of {folder.describe()} were removed by another run or by hand before "
        "it could be marked done; run again"
    )


def _put_marker(
    folder: Folder, manifest: Manifest, replaces: Manifest | None, seen: bool
) -> tuple[Manifest, bool]:
    """Return the manifest that is in place afterwards, and whether this put it there.

    A marker that was *seen* is not written over by a filesystem that creates what is
    there already; only one that appears after that is.
    """
    data = encode_manifest(manifest)
    for tried in range(_TRIES):
        sleep(_PAUSE_SECONDS * tried)
        if not seen and replaces is None and folder.files.create(folder.marker, data):
            return manifest, True
        found = folder.read_marker()
        if found is None:
            replaces, seen = None, False
        elif found == data:  # a retry met our own first try
            return manifest, True
        else:
            current = _readable(folder, found)
            if current and (replaces is None or current.token != replaces.token):
                return current, False
            winner = _replace_marker(folder, found, manifest, data)
            if winner is not None:
                return winner, True
    # Our files stay: whoever was first may have kept them.
    raise CheckpointConflictError(
        f"the done marker of {folder.describe()} is there when it is written and gone "
        "when it is read, because the store answers with what was there before, or "
        "others go on clearing it; run again later"
    )


def _readable(folder: Folder, marker: bytes) -> Manifest | None:
    try:
        return folder.manifest_from(marker)
    except CorruptCheckpointError:
        return None  # nobody's checkpoint: it makes room


def _replace_marker(
    folder: Folder, found: bytes, manifest: Manifest, data: bytes
) -> Manifest | None:
    """Replace the marker *found*; return what replaced it, None to look again.

    Of several runs that want to replace one marker, the one that puts a claim for it
    first is the winner. The claim holds the winner's manifest, so that the others can
    finish what a winner that died has begun.
    """
    claim = claim_filename(found)
    winner = manifest
    if not folder.files.create(folder.file(claim), data):
        try:
            data = folder.files.read(folder.file(claim))
            winner = decode_manifest(data, folder.describe())
        except FileNotFoundError:
            return None
        except CorruptCheckpointError:
            folder.files.remove(folder.path, [claim])
            return None
    in_time = folder.read_marker() == found
    if in_time:
        folder.files.replace(folder.marker, data)
    folder.files.remove(folder.path, [claim])
    return winner if in_time else None
