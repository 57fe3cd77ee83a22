"""The manifest: the content of a done marker, as values."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agatha_ckpt._format.columns import Strings, column
from agatha_ckpt._format.names import MSGPACK, canonical, new_token

_ID_DIGITS = 32


@dataclass(frozen=True)
class Plan:
    """The plan in a manifest.

    Attributes
    ----------
    npartitions : int
        Partition count of the collection.
    format : str
        ``"msgpack"`` or ``"text"``; ``"pickle"`` for what Agatha wrote.
    version : str, optional
        The caller's version label.
    parents : tuple of (name, id)
        The checkpoints that the collection was built from, sorted.
    """

    npartitions: int
    format: str = MSGPACK
    version: str | None = None
    parents: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition's entry in a manifest.

    Attributes
    ----------
    file : str
        File name, relative to the checkpoint's folder.
    records : int
        Number of records; -1 where it is not known (checkpoints of Agatha).
    bytes : int
        Size of the file in bytes; -1 where it is not known.
    digest : str
        32 hex digits over the content, equal for equal records in any compression;
        empty where it is not known.
    seconds : float
        Time it took to compute and write the partition.
    holds_pickle : bool
        Whether a value in it was pickled.
    fingerprint : str
        32 hex digits that identify what the partition is computed from.
    code : str
        The steps that computed it and a digest of the code of each, as
        ``"step=<8 hex digits>;..."``; empty where they are not known.
    classes : tuple of str
        Classes of the program that the pickles in it name.
    checksums : str
        The CRC-32 of each 256 KiB of a file that has no checksums of its own, in
        base64; empty for others.
    """

    file: str
    records: int
    bytes: int
    digest: str
    seconds: float = 0.0
    holds_pickle: bool = False
    fingerprint: str = ""
    code: str = ""
    classes: tuple[str, ...] = ()
    checksums: str = ""


@cache
def library_version() -> str:
    """Return the version of this library; ``"0"`` where it is not installed."""
    try:
        return version("agatha-ckpt")
    except PackageNotFoundError:
        return "0"


@dataclass(frozen=True)
class Manifest:
    """The content of a done marker.

    Attributes
    ----------
    plan : Plan
    partitions : sequence of PartitionInfo
        In order of partition number.
    name : str
        Name of the checkpoint when it was committed.
    metadata : mapping
        The caller's own, as JSON can hold it.
    scheme : str
        Version of the rules by which fingerprints are made; empty where there are
        none.
    dask : str
        Version of dask that built the graph.
    opaque : tuple of str
        Values that the fingerprints could not look into.
    collection : mapping
        What was saved: its kind, and what a load of that kind needs.
    created : str
        Time of the commit, ISO 8601 with offset.
    library : str
        Version of the library that wrote it.
    token : str
        16 random hex digits, new for each commit; empty for a marker of Agatha.
    """

    plan: Plan
    partitions: Sequence[PartitionInfo]
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scheme: str = ""
    dask: str = ""
    opaque: tuple[str, ...] = ()
    collection: Mapping[str, Any] = field(default_factory=lambda: {"kind": "bag"})
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    library: str = field(default_factory=library_version)
    token: str = field(default_factory=new_token)

    @cached_property
    def id(self) -> str:
        """A digest of the content: equal records in equal partitions, equal id."""
        content: bytes | memoryview
        digests = column(self.partitions, "digest")
        if isinstance(digests, Strings):
            content = digests.json
        else:
            content = canonical(
                [p.digest or p.fingerprint or p.file for p in self.partitions]
            )
        hashed = hashlib.sha256(b"[%s," % canonical(self.plan.format))
        hashed.update(content)
        hashed.update(b"]")
        return hashed.hexdigest()[:_ID_DIGITS]

    @cached_property
    def files(self) -> frozenset[str]:
        """The names of the files that make up the checkpoint."""
        return frozenset(column(self.partitions, "file"))

    @cached_property
    def records(self) -> int | None:
        """Number of records; None where it is not known."""
        counts = column(self.partitions, "records")
        return None if min(counts, default=0) < 0 else sum(counts)

    @cached_property
    def bytes(self) -> int:
        """Size of the files, as far as it is known."""
        return sum(size for size in column(self.partitions, "bytes") if size > 0)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint of each partition."""
        return tuple(partition.fingerprint for partition in self.partitions)

    @property
    def is_agatha(self) -> bool:
        """Whether Agatha wrote it, which recorded neither inputs nor parents."""
        return not self.token

    @property
    def holds_pickle(self) -> bool:
        """Whether loading it may unpickle something."""
        return any(column(self.partitions, "holds_pickle"))
