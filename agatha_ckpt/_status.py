"""What is stored under a name, in figures."""

from dataclasses import dataclass

from agatha_ckpt._codec import read_header
from agatha_ckpt._errors import CheckpointError, noted
from agatha_ckpt._folder import Folder
from agatha_ckpt._layout import (
    MSGPACK,
    TEXT,
    FileName,
    parse_filename,
    parse_text_attempt,
)


@dataclass(frozen=True)
class Status:
    """What is stored under a name.

    Attributes
    ----------
    name : str
    state : str
        ``"absent"``, ``"partial"`` or ``"done"``.
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
        Why a checkpoint with a done marker is not done.
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


def status_of(folder: Folder) -> Status:
    """Return the status of a checkpoint.

    Costs one read of the marker; where there is none, one listing and the header of
    one partition file.
    """
    problem = None
    try:
        manifest = folder.find_manifest()
    except CheckpointError as error:
        manifest, problem = None, str(error)
    if manifest is None:
        return _partial(folder, problem)
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
    )


def _partial(folder: Folder, problem: str | None) -> Status:
    sizes = folder.sizes()
    plans: dict[str, dict[str, FileName]] = {}
    for filename in sizes:
        if parsed := parse_filename(filename):
            plans.setdefault(parsed.plan, {})[filename] = parsed
    if not plans:
        return Status(folder.name, "absent", problem=problem)
    files = max(plans.values(), key=len)
    filename, parsed = next(iter(files.items()))
    return Status(
        folder.name,
        "partial",
        partitions=len({file.index for file in files.values()}),
        expected=_expected(folder, filename, parsed, sizes[filename]),
        bytes=sum(sizes[filename] for filename in files),
        format=TEXT if parsed.suffix == "txt" else MSGPACK,
        problem=problem,
    )


def _expected(folder: Folder, filename: str, parsed: FileName, size: int) -> int | None:
    if parsed.suffix == "txt":
        text = parse_text_attempt(parsed.attempt)
        return text[0] if text else None
    where, path = folder.describe(parsed.index), folder.file(filename)
    try:
        with noted(f"reading {where}"), folder.files.open(path, size) as source:
            return read_header(source, where).npartitions
    except (CheckpointError, FileNotFoundError):
        return None
