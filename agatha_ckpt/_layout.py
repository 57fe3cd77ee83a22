"""The on-disk format as pure functions: names, file names, plan, manifest.

Nothing here touches a file. ``docs/format.md`` says the same for other programs.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    InvalidNameError,
    UnsupportedFormatError,
)

FORMAT_VERSION = 1
DONE_MARKER = "__done__"
MSGPACK, TEXT = "msgpack", "text"
LEGACY = "pickle"  # only ever read: what the original Agatha wrote
SUFFIXES = {MSGPACK: "msgpack", TEXT: "txt"}

_MAX_NAME_BYTES = 200
_PARTITION_FILE = re.compile(
    r"part-(?P<index>\d{5,10})-(?P<plan>[0-9a-f]{8})-(?P<attempt>[0-9a-f]{16,64})"
    r"\.(?P<suffix>msgpack|txt)"
)
_TEMPORARY_FILE = re.compile(r"\.tmp-[0-9a-f]{16}")
_CLAIM_FILE = re.compile(r"\.next-[0-9a-f]{16}")
_ID_DIGITS = 32
# More than any file has: a compressed block of 64 KiB takes up over 26 bytes.
_RECORDS_PER_BYTE = 4096


def validate_name(name: object) -> str:
    """Return *name* unchanged where it is a legal checkpoint name.

    Legal is one path segment of at most 200 bytes in UTF-8: letters and digits of
    any script in Unicode form NFC, ``_``, ``-``, ``.``, and spaces inside; not
    beginning with ``.`` or ``-``, not of the reserved form ``__x__``.

    Raises
    ------
    InvalidNameError
        In all other cases; the message says what is wrong with the name.
    """
    if not isinstance(name, str):
        raise InvalidNameError(
            f"a checkpoint name must be a str, not {type(name).__name__}: {name!r}"
        )
    fault = _name_fault(name)
    if fault:
        raise InvalidNameError(
            f"{name!r} cannot name a checkpoint: {fault}; use letters, digits, "
            "'_', '-', '.' and spaces inside"
        )
    return name


def _name_fault(name: str) -> str | None:
    if not name:
        return "it is empty"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if name.startswith("__") and name.endswith("__"):
        return "names of the form '__x__' are reserved"
    if name != name.strip(" "):
        return "it begins or ends with a space"
    for position, character in enumerate(name):
        kind = unicodedata.category(character)[0]
        # Marks (M) are part of letters in many scripts, but never stand first.
        legal = kind in "LN" or character in "_-. " or (kind == "M" and position)
        if not legal:
            return f"it holds {character!r}"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode form NFC (unicodedata.normalize helps)"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"it is longer than {_MAX_NAME_BYTES} bytes in UTF-8"
    return None


@dataclass(frozen=True)
class Plan:
    """The run description: partition files of different plans never mix.

    Attributes
    ----------
    npartitions : int
        Number of partitions of the bag.
    format : str
        ``"msgpack"`` or ``"text"`` (or ``"pickle"``, for what Agatha wrote).
    version : str, optional
        The caller's label.
    parents : tuple of (name, id)
        The checkpoints that the bag was built from, sorted.
    """

    npartitions: int
    format: str = MSGPACK
    version: str | None = None
    parents: tuple[tuple[str, str], ...] = ()

    @cached_property
    def digest(self) -> str:
        """8 hexadecimal digits that stand for the plan in file names."""
        description = [
            self.npartitions,
            self.format,
            self.version,
            # What the parents hold counts, not what they are called.
            sorted({parent_id for _, parent_id in self.parents}),
        ]
        return hashlib.sha256(_canonical(description)).hexdigest()[:8]

    @property
    def suffix(self) -> str:
        """Ending of the partition files, without the dot."""
        return SUFFIXES[self.format]


@dataclass(frozen=True)
class FileName:
    """The parts of a partition file's name."""

    index: int
    plan: str
    attempt: str
    suffix: str


def partition_filename(plan: Plan, index: int, attempt: str) -> str:
    """Return the name of the file that one attempt at a partition writes."""
    return f"part-{index:05d}-{plan.digest}-{attempt}.{plan.suffix}"


def parse_filename(filename: str) -> FileName | None:
    """Return the parts of a partition file's name; None for any other name."""
    match = _PARTITION_FILE.fullmatch(filename)
    if match is None or f"{int(match['index']):05d}" != match["index"]:
        return None
    return FileName(
        int(match["index"]), match["plan"], match["attempt"], match["suffix"]
    )


def new_run() -> str:
    """Return 8 random hexadecimal digits, new for each save of a bag."""
    return secrets.token_hex(4)


def new_attempt(run: str = "") -> str:
    """Return 16 hexadecimal digits, new for each try at a partition.

    They are random, but for the first 8 if *run* gives those: by them a run knows
    its own files, whichever of its workers wrote them.
    """
    return f"{run or new_run()}{secrets.token_hex(4)}"


# A text file has no room for a header, so its name carries what a header would:
# the partition count and the digest of the content. So even a text partition that
# no manifest names yet can be checked.
def text_attempt(npartitions: int, digest: str, run: str = "") -> str:
    """Return the attempt of a text file: as of others, partition count, digest."""
    return f"{new_attempt(run)}{npartitions:08x}{digest[:16]}"


def parse_text_attempt(attempt: str) -> tuple[int, str] | None:
    """Return the partition count and the beginning of the digest."""
    if len(attempt) != 40:
        return None
    return int(attempt[16:24], 16), attempt[24:]


def temporary_filename() -> str:
    """Return a name that nothing but ``is_own_file`` takes for ours."""
    return f".tmp-{new_attempt()}"


def is_temporary(filename: str) -> bool:
    """Say whether *filename* is one that `temporary_filename` makes."""
    return _TEMPORARY_FILE.fullmatch(filename) is not None


def claim_filename(marker: bytes) -> str:
    """Return the name under which one run claims to replace a done marker."""
    return f".next-{hashlib.sha256(marker).hexdigest()[:16]}"


def is_own_file(filename: str) -> bool:
    """Say whether a file of that name in a checkpoint's folder is this library's."""
    return (
        filename == DONE_MARKER
        or parse_filename(filename) is not None
        or is_temporary(filename)
        or _CLAIM_FILE.fullmatch(filename) is not None
    )


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """What the manifest says of one partition file.

    Attributes
    ----------
    file : str
        File name, relative to the checkpoint's folder.
    records : int
        Number of records; -1 where it is not known (Agatha's own checkpoints).
    bytes : int
        Size of the file; -1 where it is not known.
    digest : str
        32 hexadecimal digits over the content, the same for equal records in
        whatever compression; empty where it is not known.
    seconds : float
        Time it took to compute and write the partition.
    holds_pickle : bool
        Whether a value in it was pickled.
    """

    file: str
    records: int
    bytes: int
    digest: str
    seconds: float = 0.0
    holds_pickle: bool = False


def library_version() -> str:
    """Return the version of this library; ``"0"`` where it is not installed."""
    try:
        return version("agatha-ckpt")
    except PackageNotFoundError:
        return "0"


@dataclass(frozen=True)
class Manifest:
    """What the done marker says.

    Attributes
    ----------
    plan : Plan
    partitions : tuple of PartitionInfo
        In order of partition number.
    created : str
        Time of the commit, ISO 8601 with offset.
    library : str
        Version of the library that wrote it.
    token : str
        Random, new for each commit: tells our marker from another run's.
    """

    plan: Plan
    partitions: tuple[PartitionInfo, ...]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    library: str = field(default_factory=library_version)
    token: str = field(default_factory=new_attempt)

    @cached_property
    def id(self) -> str:
        """A digest of the content: equal records in equal partitions, equal id."""
        content = [self.plan.format, [p.digest or p.file for p in self.partitions]]
        return hashlib.sha256(_canonical(content)).hexdigest()[:_ID_DIGITS]

    @cached_property
    def files(self) -> frozenset[str]:
        """The names of the files that make up the checkpoint."""
        return frozenset(partition.file for partition in self.partitions)

    @property
    def knows_parents(self) -> bool:
        """Whether it was recorded what the bag was built from: not by Agatha."""
        return bool(self.token)

    @property
    def holds_pickle(self) -> bool:
        """Whether loading it may unpickle something."""
        return any(partition.holds_pickle for partition in self.partitions)


_COLUMNS = ("file", "records", "bytes", "digest", "seconds", "holds_pickle")
_HEAD, _MIDDLE, _TAIL = b'{"manifest":', b',"seal":"', b'"}\n'


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the content of the done marker: one line of JSON, sealed by a digest."""
    plan = manifest.plan
    body = _canonical(
        {
            "format_version": FORMAT_VERSION,
            "plan": {
                "npartitions": plan.npartitions,
                "format": plan.format,
                "version": plan.version,
                "digest": plan.digest,
            },
            "parents": [list(parent) for parent in plan.parents],
            "id": manifest.id,
            "created": manifest.created,
            "library": manifest.library,
            "token": manifest.token,
            # By column: a third of the size, and of the time to read it.
            "partitions": {
                column: [getattr(p, column) for p in manifest.partitions]
                for column in _COLUMNS
            },
        }
    )
    return _HEAD + body + _MIDDLE + _seal(body) + _TAIL


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return what a done marker says, after checking all of it.

    Parameters
    ----------
    data : bytes
        Content of the marker.
    where : str
        What it is the marker of, for messages.

    Raises
    ------
    CorruptCheckpointError
        It is empty, cut, changed, or names a file outside its folder.
    UnsupportedFormatError
        It is whole but from a newer version of the format.
    """

    def corrupt(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"the done marker of {where} {reason}; give the bag to save it again, "
            "or clear it"
        )

    seal = data[-len(_TAIL) - 64 : -len(_TAIL)]
    body = data[len(_HEAD) : -len(_TAIL) - 64 - len(_MIDDLE)]
    if data != _HEAD + body + _MIDDLE + seal + _TAIL or seal != _seal(body):
        raise corrupt("is cut, changed or empty (its seal does not match)")
    try:
        document = json.loads(body)
        format_version = document["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise corrupt(f"is no manifest ({error!r})") from None
    if format_version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{where} was written in format {format_version!r}, and this version of "
            f"agatha_ckpt reads format {FORMAT_VERSION}; upgrade agatha_ckpt"
        )
    try:
        manifest = _manifest_from(document)
        fault = _manifest_fault(manifest)
        if not fault and manifest.id != document["id"]:
            fault = "does not match its own id"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise corrupt(f"is no manifest ({error!r})") from None
    if fault:
        raise corrupt(fault)
    return manifest


def _manifest_from(document: dict[str, Any]) -> Manifest:
    plan = document["plan"]
    columns = [document["partitions"][column] for column in _COLUMNS]
    return Manifest(
        plan=Plan(
            npartitions=plan["npartitions"],
            format=plan["format"],
            version=plan["version"],
            parents=tuple((str(n), str(i)) for n, i in document["parents"]),
        ),
        partitions=tuple(PartitionInfo(*row) for row in zip(*columns, strict=True)),
        created=document["created"],
        library=document["library"],
        token=document["token"],
    )


def _manifest_fault(manifest: Manifest) -> str | None:
    plan = manifest.plan
    if plan.format not in SUFFIXES:
        return f"has the unknown format {plan.format!r}"
    if len(manifest.partitions) != plan.npartitions:
        return "does not name one file for each partition"
    digest, suffix = plan.digest, plan.suffix
    for index, partition in enumerate(manifest.partitions):
        parsed = parse_filename(partition.file)
        if parsed is None or (parsed.index, parsed.suffix) != (index, suffix):
            return f"names {partition.file!r}, which is no file of partition {index}"
        if parsed.plan != digest:
            return f"names {partition.file!r}, which belongs to another plan"
        records, size = partition.records, partition.bytes
        if not (_is_count(records) and _is_count(size)):
            return f"gives no size for partition {index}"
        if records > size * _RECORDS_PER_BYTE:
            return f"gives more records for partition {index} than its file can hold"
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _canonical(value: object) -> bytes:
    return json.dumps(
        value, ensure_ascii=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
