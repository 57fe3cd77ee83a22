"""What a done marker says, and its bytes: as pure functions.

Nothing here touches a file. ``docs/format.md`` says the same for other programs.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Any

from agatha_ckpt._errors import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.names import (
    FORMAT_VERSION,
    SUFFIXES,
    Plan,
    canonical,
    new_attempt,
    parse_filename,
)

_ID_DIGITS = 32
_DIGEST = re.compile("[0-9a-f]{32}")
# More than any file has: a compressed block of 64 KiB takes up over 26 bytes.
_RECORDS_PER_BYTE = 4096


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
    fingerprint: str = ""
    code: str = ""


@cache
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
        return hashlib.sha256(canonical(content)).hexdigest()[:_ID_DIGITS]

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
    body = canonical(
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
    if type(format_version) is not int:
        raise corrupt("gives no format version")
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
            parents=tuple((name, id) for name, id in document["parents"]),
        ),
        partitions=tuple(PartitionInfo(*row) for row in zip(*columns, strict=True)),
        created=document["created"],
        library=document["library"],
        token=document["token"],
    )


def _manifest_fault(manifest: Manifest) -> str | None:
    plan = manifest.plan
    texts = [plan.format, manifest.created, manifest.library, manifest.token]
    texts += [text for parent in plan.parents for text in parent]
    if plan.version is not None:
        texts.append(plan.version)
    if any(type(text) is not str for text in texts):
        return "gives something else where a text belongs"
    if plan.format not in SUFFIXES:
        return f"has the unknown format {plan.format!r}"
    if not _is_count(plan.npartitions):
        return "gives no number of partitions"
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
        if not _DIGEST.fullmatch(partition.digest):
            return f"gives no digest for partition {index}"
        if not _is_time(partition.seconds):
            return f"gives no time for partition {index}"
        if type(partition.holds_pickle) is not bool:
            return f"does not say whether partition {index} holds pickles"
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < inf  # type: ignore[operator]


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
