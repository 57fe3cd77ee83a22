"""What is stored under a name, in figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from agatha_ckpt._errors import (
    CheckpointError,
    UnsupportedFormatError,
    error_note,
    refusal,
)
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.framing import HEADER_BYTES, read_header
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import (
    MSGPACK,
    TEXT,
    FileName,
    parse_filename,
    parse_text_attempt,
)
from agatha_ckpt._store.contents import newest
from agatha_ckpt._store.folder import Folder

UNREADABLE = "unreadable"  # a state


@dataclass(frozen=True)
class Status:
    """What is stored under a name.

    Attributes
    ----------
    name : str
    state : str
        ``"absent"``, ``"partial"`` or ``"done"``; ``"unreadable"`` where several are
        asked for, and this account may not read this one.
    partitions : int
        Number of partitions that are stored.
    expected : int, optional
        Number of partitions of the bag, where it is known.
    records : int, optional
        Number of records of a done checkpoint (Agatha's own kept no count).
    bytes : int
        Size of the partition files.
    format : str, optional
        ``"msgpack"``, ``"text"`` or ``"pickle"``.
    version : str, optional
        The caller's label.
    created : str, optional
        Time of the commit, ISO 8601 with offset.
    problem : str, optional
        Why a checkpoint with a done marker is not done, or, where it is done, why
        this version cannot read it, or why nothing is known of it.
    changed : str, optional
        Time of the commit, or when the newest file of a partial was written; ISO
        8601 with offset.
    manifest : Manifest, optional
        What the done marker says.
    """

    name: str
    state: str
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

    @property
    def condition(self) -> str:
        """The state for people, in one word.

        ``"done"``, ``"partial"``, ``"absent"``, ``"unreadable"``; ``"damaged"`` where
        there is a marker that is cut or changed; ``"newer"`` where a newer version of
        this library is needed to read it.
        """
        if self.problem is None or self.state == UNREADABLE:
            return self.state
        return "newer" if self.state == "done" else "damaged"


def statuses_of(folders: Iterable[Folder]) -> Iterator[Status]:
    """Yield the status of each checkpoint that is there, read concurrently.

    One that may not be read is no reason to say nothing of the others.
    """
    for status in map_ordered(_status_or_refusal, folders):
        if status.condition != "absent":
            yield status


def _status_or_refusal(folder: Folder) -> Status:
    try:
        return status_of(folder)
    except PermissionError as error:
        problem = (
            f"{folder.describe()} is not known: {refusal(error)}; use an account that "
            "may read it, or give its credentials as storage options"
        )
        return Status(folder.name, UNREADABLE, problem=problem)


def status_of(folder: Folder) -> Status:
    """Return the status of a checkpoint.

    Costs one read of the marker; where there is none, one listing and the header of
    one partition file.
    """
    try:
        manifest = folder.find_manifest()
    except UnsupportedFormatError as error:
        return replace(_partial(folder), state="done", problem=str(error))
    except CheckpointError as error:
        return replace(_partial(folder), problem=str(error))
    if manifest is None:
        return _partial(folder)
    plan, partitions = manifest.plan, manifest.partitions
    counted = all(info.records >= 0 for info in partitions)
    return Status(
        folder.name,
        "done",
        partitions=len(partitions),
        expected=plan.npartitions,
        records=sum(info.records for info in partitions) if counted else None,
        bytes=sum(max(info.bytes, 0) for info in partitions),
        format=plan.format,
        version=plan.version,
        created=manifest.created or None,
        changed=manifest.created or None,
        manifest=manifest,
    )


def _partial(folder: Folder) -> Status:
    stored = folder.stored()
    plans: dict[str, dict[str, FileName]] = {}
    for filename in stored:
        if parsed := parse_filename(filename):
            plans.setdefault(parsed.plan, {})[filename] = parsed
    if not plans:
        return Status(folder.name, "absent")
    files = max(plans.values(), key=len)
    filename, parsed = next(iter(files.items()))
    return Status(
        folder.name,
        "partial",
        partitions=len({file.index for file in files.values()}),
        expected=_expected(folder, filename, parsed, stored[filename].bytes),
        bytes=sum(stored[filename].bytes for filename in files),
        format=TEXT if parsed.suffix == "txt" else MSGPACK,
        changed=newest(stored[filename] for filename in files),
    )


def _expected(folder: Folder, filename: str, parsed: FileName, size: int) -> int | None:
    if parsed.suffix == "txt":
        text = parse_text_attempt(parsed.attempt)
        return text[0] if text else None
    where, path = folder.describe(parsed.index), folder.file(filename)
    try:
        with (
            error_note(f"reading {where}"),
            folder.files.open(path, size, HEADER_BYTES) as source,
        ):
            return read_header(source, where).npartitions
    except (CheckpointError, FileNotFoundError):
        return None
