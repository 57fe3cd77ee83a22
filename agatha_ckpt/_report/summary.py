"""What a report says of the checkpoints of a root: the figures, before any page."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from agatha_ckpt._errors import redact, refusal
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.manifest import library_version
from agatha_ckpt._report.lineage import Kin, lineage
from agatha_ckpt._report.skew import (
    SKEW_LEAST_BYTES,
    SKEW_LEAST_SECONDS,
    Spread,
    spread_of,
)
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import DamagedPartition, find_missing

# In the order of how much they want to be looked at.
STATES = ("damaged", "unreadable", "unsupported", "stale", "partial", "done")


@dataclass(frozen=True)
class Entry:
    """One checkpoint of a report.

    Attributes
    ----------
    status : Status
    kin : Kin
    missing : tuple of DamagedPartition
        Partitions whose file is missing or of another size.
    where : str
        How messages speak of it.
    refused : PermissionError, optional
        Why nothing is missing as far as is known: its files may not be listed.
    """

    status: Status
    kin: Kin = field(default_factory=Kin)
    missing: tuple[DamagedPartition, ...] = ()
    where: str = ""
    refused: PermissionError | None = None

    @property
    def name(self) -> str:
        """The name of the checkpoint."""
        return self.status.name

    @property
    def state(self) -> str:
        """One of `STATES`: the one that most wants to be looked at."""
        condition = self.status.state
        if self.refused:
            return State.UNREADABLE
        if condition == "done" and self.missing:
            return "damaged"
        if condition == "done" and self.kin.stale:
            return "stale"
        return condition

    @property
    def problems(self) -> list[str]:
        """What is wrong with what is stored, each in half a sentence."""
        problem = self.status.problem
        # On a page about it, it need not be said of what.
        if problem and self.where:
            problem = problem.replace(f" of {self.where}", "")
            problem = problem.replace(self.where, "it")
        problems = [problem] if problem else []
        if self.refused:
            problems.append(f"of its files, {refusal(self.refused)}")
        return problems + [f"partition {d.index}: {d.reason}" for d in self.missing]

    @cached_property
    def bytes(self) -> Spread | None:
        """The spread of the sizes of the partition files, where they are known."""
        return self._spread(lambda i: i.bytes, SKEW_LEAST_BYTES)

    @cached_property
    def seconds(self) -> Spread | None:
        """The spread of the times that partitions took, where they are known."""
        return self._spread(lambda i: i.seconds, SKEW_LEAST_SECONDS)

    def _spread(self, value: Callable[..., float], least: float) -> Spread | None:
        manifest = self.status.manifest
        return spread_of(map(value, manifest.partitions), least) if manifest else None

    @property
    def is_skewed(self) -> bool:
        """Whether one partition is far larger, or took far longer, than most."""
        return any(s.is_skewed for s in (self.bytes, self.seconds) if s)


@dataclass(frozen=True)
class Report:
    """What there is under a root.

    Attributes
    ----------
    root : str
        As it may be shown.
    entries : tuple of Entry
        By name.
    made : datetime
    library : str
        Version of the library that looked.
    """

    root: str
    entries: tuple[Entry, ...]
    made: datetime = field(default_factory=lambda: datetime.now(UTC))
    library: str = field(default_factory=library_version)

    @cached_property
    def by_state(self) -> Mapping[str, list[Entry]]:
        """The entries of each of `STATES`."""
        return {s: [e for e in self.entries if e.state == s] for s in STATES}

    @property
    def bytes(self) -> int:
        """Size of all partition files."""
        return sum(entry.status.bytes for entry in self.entries)

    @property
    def records(self) -> int:
        """Number of records of all done checkpoints that have counted them."""
        return sum(entry.status.records or 0 for entry in self.entries)

    @property
    def partitions(self) -> int:
        """Number of partitions that are stored."""
        return sum(entry.status.partitions for entry in self.entries)


def gather(store: CheckpointStore) -> Report:
    """Return what there is under the root of *store*; nothing is written.

    Notes
    -----
    Costs what ``store.statuses()`` costs, and a listing of each done checkpoint (one
    for each 1,000 files on an object store), concurrently. The parents are those
    under the same root.
    """
    statuses = list(store.statuses())
    kin = lineage_of(statuses)
    entries = tuple(
        map_ordered(
            lambda status: _entry(store, status, kin[status.name]),
            statuses,
            store._files.concurrent,
        )
    )
    return Report(redact(str(store.root)), entries)


def _entry(store: CheckpointStore, status: Status, kin: Kin) -> Entry:
    entry = Entry(status, kin, where=store._folder(status.name).describe())
    if status.manifest is None:
        return entry
    try:
        missing = find_missing(store._folder(status.name), status.manifest)
    except PermissionError as error:
        return replace(entry, refused=error)
    return replace(entry, missing=tuple(missing))


def lineage_of(statuses: Iterable[Status]) -> dict[str, Kin]:
    """Return the relations of all checkpoints of a root."""
    statuses = list(statuses)
    unknown = (status.name for status in statuses if status.state == State.UNREADABLE)
    return lineage({status.name: status.manifest for status in statuses}, unknown)
