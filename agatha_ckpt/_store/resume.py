"""Which stored partition files a save can reuse."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    UnsupportedFormatError,
    error_note,
)
from agatha_ckpt._filesystem.base import FileInfo
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.base import Codec
from agatha_ckpt._format.codec import codec_for, codec_of_suffix
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import FileName, parse_filename
from agatha_ckpt._store.folder import Folder, Marker


@dataclass(frozen=True)
class Reusable:
    """What a save keeps, and why it does not keep the rest."""

    kept: dict[int, PartitionInfo]  # by partition number
    refused: tuple[str, ...] = ()  # a reason for each other file of unfinished runs


def find_reusable(
    folder: Folder,
    codec: Codec,
    wanted: Sequence[str],
    marker: Marker,
    damaged: frozenset[int] = frozenset(),
) -> Reusable:
    """Return the stored files that a save reuses, after checks.

    A file is reused if its fingerprint is wanted, and either *marker* names it, or an
    unfinished run wrote it to replace *marker*. Files that the marker names were whole
    when it was committed, and are kept but for the partitions in *damaged*; the others
    are checked, as `Codec.inspect` does. *codec* is that of the format that is to be
    saved, and *wanted* has the fingerprint of each partition.

    Costs one listing, and one read for each candidate that no marker names.
    """
    listed = folder.list()
    needed = set(wanted)
    named = _named(marker, codec, listed, damaged)
    partials = []
    refused = []
    for filename in sorted(listed):
        parsed = parse_filename(filename)
        if parsed is None or filename in marker.files:
            continue
        if codec_of_suffix(parsed.suffix) is not codec:
            refused.append("in another format")
        elif parsed.base != marker.base:
            refused.append("of an older run")
        elif parsed.fingerprint not in needed:
            refused.append("from other inputs")
        else:
            partials.append((parsed, filename, listed[filename].bytes))
    whole = [(parsed, info) for parsed, info in named if parsed.fingerprint in needed]
    checked = map_ordered(
        lambda file: _inspect(folder, codec, *file[1:]),
        partials,
        folder.files.concurrent,
    )
    for (parsed, *_), found in zip(partials, checked, strict=True):
        if isinstance(found, str):
            refused.append(found)
        else:
            whole.append((parsed, found))
    return Reusable(assign(wanted, whole), tuple(refused))


def _named(
    marker: Marker,
    codec: Codec,
    listed: dict[str, FileInfo],
    damaged: frozenset[int],
) -> list[tuple[FileName, PartitionInfo]]:
    """Return the files of the marker that are there with their size."""
    if marker.manifest is None or codec_for(marker.manifest.plan.format) is not codec:
        return []
    found = []
    for index, info in enumerate(marker.manifest.partitions):
        parsed = parse_filename(info.file)
        there = info.file in listed and listed[info.file].bytes == info.bytes
        if parsed and there and index not in damaged:
            # Its number in the marker counts, not that in its name.
            found.append((replace(parsed, index=index), info))
    return found


def _inspect(
    folder: Folder, codec: Codec, filename: str, size: int
) -> PartitionInfo | str:
    """Return what is known of a file that is whole; else what is wrong with it."""
    file = folder.partition_file(filename, size)
    try:
        with error_note(f"checking {file.where}"):
            return codec.inspect(file)
    except (CorruptCheckpointError, FileNotFoundError):
        return "damaged"
    except UnsupportedFormatError:
        return "of another version of the format"


def assign(
    wanted: Sequence[str], whole: Sequence[tuple[FileName, PartitionInfo]]
) -> dict[int, PartitionInfo]:
    """Return which of the *whole* files is used for which partition; each for one.

    A file is used for the partition of its own number, or another where only that one
    has its fingerprint.

    Examples
    --------
    >>> file = FileName(1, "a", "", "", "", "msgpack"), PartitionInfo("f", 1, 1, "")
    >>> sorted(assign(["b", "a"], [file])), sorted(assign(["a", "b"], [file]))
    ([1], [0])
    >>> sorted(assign(["a", "b", "a"], [file]))
    []
    """
    uses = Counter(wanted)
    kept: dict[int, PartitionInfo] = {}
    others: defaultdict[str, list[PartitionInfo]] = defaultdict(list)
    for parsed, info in whole:
        index = parsed.index
        if index < len(wanted) and wanted[index] == parsed.fingerprint:
            kept.setdefault(index, info)
        else:
            others[parsed.fingerprint].append(info)
    for index, fingerprint in enumerate(wanted):
        if index not in kept and uses[fingerprint] == 1 and others[fingerprint]:
            kept[index] = others[fingerprint][0]
    return kept
