"""Copying and renaming a done checkpoint.

A copy is a save whose partitions are copied and not computed: files with new names,
then the marker by compare-and-swap. A crash leaves a partial that the same copy, or a
save of the same inputs, completes. A rename is a copy and then a clear of the source,
whose marker is removed only if it is still the one that was copied. A crash in between
leaves both, and the same rename completes it.
"""

from collections.abc import Mapping
from dataclasses import replace
from shutil import copyfileobj
from typing import BinaryIO

from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    error_note,
)
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import copied_filename, new_run, new_token
from agatha_ckpt._store.commit import commit
from agatha_ckpt._store.contents import clear
from agatha_ckpt._store.folder import Folder, Marker
from agatha_ckpt._store.resume import find_reusable
from agatha_ckpt._store.verify import find_missing

_PIECE_BYTES = 1024 * 1024


def copy(source: Folder, target: Folder, link: bool = False) -> bytes:
    """Copy a done checkpoint; return the content of the marker that was copied.

    Files may be shared where *link*, as the source is cleared afterwards.

    Raises
    ------
    CheckpointNotFoundError, CorruptCheckpointError, UnsupportedFormatError
        The source is not done, or damaged.
    CheckpointConflictError
        The target exists, or another run saves it; or Agatha wrote the source.
    """
    data = source.read_marker()
    if data is None:
        raise CheckpointNotFoundError(f"{source.describe()} is not done; save it first")
    manifest = source.manifest_from(data)
    if manifest.is_agatha:
        raise CheckpointConflictError(
            f"{source.describe()} was written by Agatha, which kept no checksums; load "
            "it and save it under the new name"
        )
    damaged = find_missing(source, manifest)
    if damaged and source.read_marker() != data:  # another run has replaced it
        return copy(source, target, link)
    if damaged:
        raise CorruptCheckpointError(
            f"{source.describe()} cannot be copied: partition {damaged[0].index} is "
            f"damaged ({damaged[0].reason}); give its collection to repair it first"
        )
    found = target.read_marker()
    existing = None if found is None else target.readable_manifest(found)
    if found == data:  # to clear it could be to clear the source
        raise CheckpointConflictError(
            f"{target.describe()} is the same checkpoint; use another name"
        )
    if found is not None and not _is_copy(existing, manifest):
        raise CheckpointConflictError(
            f"{target.describe()} exists already; clear it first, or use another name"
        )
    if found is None:
        _copy(source, manifest, target, link)
    return data


def _copy(source: Folder, manifest: Manifest, target: Folder, link: bool) -> None:
    target.make()
    codec = codec_for(manifest.plan.format)
    reusable = find_reusable(target, codec, manifest.fingerprints, Marker())
    if set(reusable.refused) - {"damaged"}:
        raise CheckpointConflictError(
            f"{target.describe()} has files of an unfinished run from other inputs; "
            "clear it first, or use another name"
        )
    run = new_run()

    def copied(index: int) -> PartitionInfo:
        info, known = manifest.partitions[index], reusable.kept.get(index)
        if known is not None and known.digest == info.digest:
            return replace(info, file=known.file, bytes=known.bytes)
        filename = copied_filename(info.file, run)
        _copy_file(source, index, info, target, filename, link)
        return replace(info, file=filename)

    concurrent = source.files.concurrent and target.files.concurrent
    infos = tuple(map_ordered(copied, range(len(manifest.partitions)), concurrent))
    ours = replace(manifest, partitions=infos, name=target.name, token=new_token())
    theirs = commit(target, ours, Marker(), run)
    if not _is_copy(theirs, manifest):
        raise CheckpointConflictError(
            f"{target.describe()} was saved by another run meanwhile; use another name"
        )


def _copy_file(
    source: Folder,
    index: int,
    info: PartitionInfo,
    target: Folder,
    filename: str,
    link: bool,
) -> None:
    note = f"copying {source.describe(index)} to {target.describe()}"
    with source.reading(index, info, note) as file:

        def write(sink: BinaryIO) -> str:
            with file.open(_PIECE_BYTES) as content:
                copyfileobj(content, sink, _PIECE_BYTES)
            return filename

        try:
            path = source.file(info.file)
            if not target.files.clone(source.files, path, target.file(filename), link):
                target.files.publish(target.path, write)
        except FolderGoneError:
            raise CheckpointConflictError(
                f"{target.describe()} was cleared by another run while it was copied "
                "to; run again"
            ) from None


def _is_copy(found: Manifest | None, manifest: Manifest) -> bool:
    """Return whether a manifest is that of a copy: the same but for its files."""
    return found is not None and _content(found) == _content(manifest)


def _content(manifest: Manifest) -> Mapping[str, object]:
    infos = [replace(info, file="", bytes=0) for info in manifest.partitions]
    return vars(replace(manifest, partitions=tuple(infos), name="", token="-"))


def rename(source: Folder, target: Folder) -> None:
    """Rename a done checkpoint; its id stays, so that its children stay current.

    Raises
    ------
    CheckpointError
        As `copy`; and where the source was changed meanwhile, and both are there.
    """
    data = copy(source, target, link=True)
    with error_note(f"clearing {source.describe()} after it was renamed"):
        try:
            removed = source.files.swap(source.marker, data, None)
        except FolderGoneError:
            removed = False
    if not removed:
        raise CheckpointConflictError(
            f"{source.describe()} was changed by another run while it was renamed; "
            f"{target.name!r} has what it was before, so clear one of the two"
        )
    clear(source)
