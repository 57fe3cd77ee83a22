"""The state of a checkpoint, and its figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from agatha_ckpt._errors import (
    NETWORK_ERRORS,
    CheckpointError,
    UnsupportedFormatError,
    error_note,
    refusal,
)
from agatha_ckpt._filesystem.base import FileInfo
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.codec import codec_of_suffix
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import is_own_file, parse_filename
from agatha_ckpt._human import format_age, format_bytes, format_count, format_state
from agatha_ckpt._store.contents import newest
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.html import fields_table


class State(StrEnum):
    """The state of a checkpoint."""

    ABSENT = "absent"
    PARTIAL = "partial"  # partition files without a done marker
    DONE = "done"
    DAMAGED = "damaged"  # its done marker is empty, cut or changed
    UNSUPPORTED = "unsupported"  # done, in another version of the format
    UNREADABLE = "unreadable"  # no permission, or a fault of the disk

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, repr=False)
class Status:
    """The state of a checkpoint, and its figures.

    Attributes
    ----------
    name : str
    state : State
        ``"absent"``, ``"partial"`` or ``"done"``; ``"damaged"`` where the done marker
        cannot be read, ``"unsupported"`` where it is of another version of the format,
        ``"unreadable"`` where this account may not read it, or the disk has a fault
        (`statuses` only).
    partitions : int
        Number of partitions that are stored.
    expected : int, optional
        Partition count of the collection, where it is known.
    records : int, optional
        Number of records of a done checkpoint (Agatha kept no count).
    bytes : int
        Size of the partition files, in bytes.
    format : str, optional
        ``"msgpack"``, ``"text"`` or ``"pickle"``.
    version : str, optional
        The caller's version label.
    created : str, optional
        Time of the commit, ISO 8601 with offset.
    problem : str, optional
        Why the state is damaged, unsupported or unreadable.
    changed : str, optional
        Time of the commit, or when the newest file of a partial was written; ISO
        8601 with offset.
    manifest : Manifest, optional
    """

    name: str
    state: State
    partitions: int = 0
    expected: int | None = None
    records: int | None = None
    bytes: int = 0
    format: str | None = None
    version: str | None = None
    created: str | None = None
    problem: str | None = None
    changed: str | None = None
    manifest: Manifest | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        shown = cells(self)
        parts = [shown["state"]]
        if self.partitions:
            parts.append(format_count(self.partitions, "partition"))
        if self.records is not None:
            parts.append(format_count(self.records, "record"))
        parts += [shown["bytes"], shown["format"]] if self.partitions else []
        if self.version is not None:
            parts.append(f"version {self.version!r}")
        if self.changed:
            parts.append(f"written {self.changed}")
        if self.problem:
            parts.append(self.problem)
        return f"<Status of {self.name!r}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        fields = {name: text for name, text in cells(self).items() if text != "?"}
        return fields_table(
            f"Status of {self.name!r}", {**fields, "problem": self.problem}
        )


def cells(status: Status, now: datetime | None = None) -> dict[str, str]:
    """Return the row of a checkpoint in a table, by column; not escaped."""
    is_known = status.state is not State.UNREADABLE
    is_partial = status.state is State.PARTIAL
    return {
        "name": status.name,
        "state": format_state(status.state, status.partitions, status.expected),
        "format": status.format or "?",
        "partitions": format_count(status.partitions if is_known else None),
        "records": "" if is_partial else format_count(status.records),
        "bytes": format_bytes(status.bytes) if is_known else "?",
        "age": format_age(status.changed, now),
        "version": "" if status.version is None else str(status.version),
    }


def statuses_of(folders: Iterable[Folder], concurrent: bool) -> Iterator[Status]:
    """Yield the status of each checkpoint that is there, the unreadable included."""
    for status in map_ordered(status_or_refusal, folders, concurrent):
        if status.state is not State.ABSENT:
            yield status


def status_or_refusal(folder: Folder) -> Status:
    """Return the status of a checkpoint, also where it cannot be read."""
    try:
        return status_of(folder)
    except NETWORK_ERRORS:
        raise
    except OSError as error:
        problem = (
            f"{folder.describe()} cannot be read: {refusal(error)}; "
            "use an account that may read it, or check its disk"
        )
        return Status(folder.name, State.UNREADABLE, problem=problem)


def is_done(folder: Folder) -> bool:
    """Return whether a checkpoint is done; one with a damaged marker is not."""
    try:
        return folder.find_manifest() is not None
    except UnsupportedFormatError:
        return True  # in another version of the format
    except CheckpointError:
        return False


def done_names(folders: Iterable[Folder], concurrent: bool) -> list[str]:
    """Return the names of those that are done; what cannot be read is left out."""

    def name_if_done(folder: Folder) -> str:
        try:
            return folder.name if is_done(folder) else ""
        except NETWORK_ERRORS:
            raise
        except OSError:
            return ""

    return list(filter(None, map_ordered(name_if_done, folders, concurrent)))


def status_of(folder: Folder) -> Status:
    """Return the status of a checkpoint.

    Costs one read of the marker; where there is none, one listing and the header of
    one partition file.
    """
    try:
        manifest = folder.find_manifest()
    except UnsupportedFormatError as error:
        return replace(_partial(folder), state=State.UNSUPPORTED, problem=str(error))
    except CheckpointError as error:
        return replace(_partial(folder), state=State.DAMAGED, problem=str(error))
    if manifest is None:
        return _partial(folder)
    plan = manifest.plan
    return Status(
        folder.name,
        State.DONE,
        partitions=len(manifest.partitions),
        expected=plan.npartitions,
        records=manifest.records,
        bytes=manifest.bytes,
        format=plan.format,
        version=plan.version,
        created=manifest.created or None,
        changed=manifest.created or None,
        manifest=manifest,
    )


def _partial(folder: Folder) -> Status:
    """Return the status of a checkpoint without a marker, from its newest run."""
    listed = folder.list()
    parsed = {name: parse_filename(name) for name in listed}
    files = {name: part for name, part in parsed.items() if part is not None}
    if not files:
        return _unreleased(folder, listed)
    last = max(files, key=lambda name: (listed[name].modified or 0, name))
    files = {n: part for n, part in files.items() if part.base == files[last].base}
    codec = codec_of_suffix(files[last].suffix)
    return Status(
        folder.name,
        State.PARTIAL,
        partitions=len({part.fingerprint for part in files.values()}),
        expected=_expected(folder, last, listed[last].bytes),
        bytes=sum(listed[name].bytes for name in files),
        format=codec.name if codec else None,
        changed=newest(listed[name] for name in files),
    )


def _unreleased(folder: Folder, listed: dict[str, FileInfo]) -> Status:
    own = [file for name, file in listed.items() if is_own_file(name)]
    if not any(name.startswith("part-") for name in listed if is_own_file(name)):
        return Status(folder.name, State.ABSENT)
    size = sum(file.bytes for file in own)
    return Status(folder.name, State.PARTIAL, bytes=size, changed=newest(own))


def _expected(folder: Folder, filename: str, size: int) -> int | None:
    file = folder.partition_file(filename, size)
    codec = codec_of_suffix(filename.rpartition(".")[2])
    if codec is None:
        return None
    try:
        with error_note(f"reading {file.where}"):
            return codec.expected_partitions(file)
    except (CheckpointError, FileNotFoundError):
        return None
