"""The figures of a report: the checkpoints of a root, and what needs attention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from agatha_ckpt._errors import NETWORK_ERRORS, redact, refusal
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.manifest import library_version
from agatha_ckpt._human import (
    format_bytes,
    format_count,
    format_duration,
    format_ratio,
    format_state,
)
from agatha_ckpt._report.lineage import Lineage, find_lineages, sort_topologically
from agatha_ckpt._report.skew import (
    SKEW_MIN_BYTES,
    SKEW_MIN_SECONDS,
    Spread,
    spread_of,
)
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import DamagedPartition, find_missing

# The most urgent first.
STATES = ("damaged", "unreadable", "unsupported", "stale", "partial", "done")


@dataclass(frozen=True)
class Entry:
    """One checkpoint of a report.

    Attributes
    ----------
    status : Status
    lineage : Lineage
    missing : tuple of DamagedPartition
        Partitions whose file is missing or of another size.
    where : str
        The name of the checkpoint in messages.
    refused : OSError, optional
        Why its files could not be listed, so that *missing* is not known.
    """

    status: Status
    lineage: Lineage = field(default_factory=Lineage)
    missing: tuple[DamagedPartition, ...] = ()
    where: str = ""
    refused: OSError | None = None

    @property
    def name(self) -> str:
        """The name of the checkpoint."""
        return self.status.name

    @cached_property
    def state(self) -> str:
        """The most urgent of `STATES` that applies."""
        if self.refused:
            return State.UNREADABLE
        if self.status.state is State.DONE and self.missing:
            return State.DAMAGED
        if self.status.state is State.DONE and self.lineage.stale:
            return "stale"
        return self.status.state

    @property
    def state_text(self) -> str:
        """The state, with how many of its partitions a partial has."""
        return format_state(self.state, self.status.partitions, self.status.expected)

    @cached_property
    def search_text(self) -> str:
        """What the search box of the page looks at."""
        return f"{self.name} {self.state}{' skewed' if self.is_skewed else ''}"

    @property
    def stored_part(self) -> float:
        """How much of a partial is stored, from 0 to 1."""
        return min(self.status.partitions / (self.status.expected or 1), 1.0)

    @cached_property
    def reasons(self) -> list[str]:
        """Why it is damaged, unreadable, unsupported or stale."""
        reasons = []
        if problem := self.status.problem:
            # A page about the checkpoint need not repeat its name.
            if self.where:
                problem = problem.replace(f" of {self.where}", "")
                problem = problem.replace(self.where, "it")
            reasons.append(problem)
        if self.refused:
            reasons.append(f"its files cannot be listed: {refusal(self.refused)}")
        reasons += [f"partition {d.index}: {d.reason}" for d in self.missing]
        return reasons + list(self.lineage.stale)

    @property
    def skew_reasons(self) -> list[str]:
        """Why it is skewed; empty where it is not."""
        reasons = []
        for spread, formatted, verb in (
            (self.bytes, format_bytes, "has"),
            (self.seconds, format_duration, "took"),
        ):
            if spread and spread.is_skewed:
                ratio = spread.factor and f", {format_ratio(spread.factor)} the median"
                reasons.append(
                    f"partition {spread.largest_index} {verb} "
                    f"{formatted(spread.largest)}{ratio or ''}"
                )
        return reasons

    @cached_property
    def bytes(self) -> Spread | None:
        """The sizes of the partition files, where they are known."""
        return self._spread(lambda i: i.bytes, SKEW_MIN_BYTES)

    @cached_property
    def seconds(self) -> Spread | None:
        """The times that partitions took, where they are known."""
        return self._spread(lambda i: i.seconds, SKEW_MIN_SECONDS)

    def _spread(self, value: Callable[..., float], least: float) -> Spread | None:
        manifest = self.status.manifest
        return spread_of(map(value, manifest.partitions), least) if manifest else None

    @cached_property
    def is_skewed(self) -> bool:
        """Whether one partition is far larger, or took far longer, than most."""
        return any(s.is_skewed for s in (self.bytes, self.seconds) if s)


@dataclass(frozen=True)
class Concern:
    """A checkpoint that needs attention.

    Attributes
    ----------
    entry : Entry
    reasons : list of str
    is_skew : bool
        Whether the concern is its skew, not its state.
    """

    entry: Entry
    reasons: list[str]
    is_skew: bool = False


@dataclass(frozen=True)
class Report:
    """The checkpoints of a root.

    Attributes
    ----------
    root : str
        Without its password.
    entries : tuple of Entry
        By name.
    generated : datetime
    library : str
        Version of the library that generated it.
    """

    root: str
    entries: tuple[Entry, ...]
    generated: datetime = field(default_factory=lambda: datetime.now(UTC))
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

    @cached_property
    def concerns(self) -> list[list[Concern]]:
        """What needs attention, in groups, the most urgent first, skew last.

        A parent is listed before its children, in the group of the most urgent of
        them: the cause comes before what follows from it.
        """
        entries = {entry.name: entry for entry in self.entries}
        parents = {
            entry.name: [
                parent.current
                for parent in entry.lineage.parents
                if parent.current in entries
            ]
            for entry in self.entries
        }
        order = sort_topologically(parents)
        urgency = {name: STATES.index(entry.state) for name, entry in entries.items()}
        for name in reversed(order):
            if entries[name].state != State.DONE:
                for parent in parents[name]:
                    urgency[parent] = min(urgency[parent], urgency[name])
        groups: list[list[Concern]] = [[] for _ in STATES]
        for name in order:
            if (entry := entries[name]).state != State.DONE:
                groups[urgency[name]].append(Concern(entry, _state_reasons(entry)))
        groups.append(
            [Concern(e, e.skew_reasons, True) for e in self.entries if e.is_skewed]
        )
        return [group for group in groups if group]


def _state_reasons(entry: Entry) -> list[str]:
    if entry.state != State.PARTIAL:
        return entry.reasons
    expected = format_count(entry.status.expected, "partition")
    return [f"{format_count(entry.status.partitions)} of {expected} stored"]


def gather(store: CheckpointStore) -> Report:
    """Return the report of the root of *store*; nothing is written.

    Notes
    -----
    Costs what ``store.statuses()`` costs, and a listing of each done checkpoint (one
    for each 1,000 files on an object store), concurrently.
    """
    statuses = list(store.statuses())
    lineages = find_lineages(statuses)
    entries = map_ordered(
        lambda status: _entry(store, status, lineages[status.name]),
        statuses,
        store._files.concurrent,
    )
    return Report(redact(str(store.root)), tuple(entries))


def _entry(store: CheckpointStore, status: Status, lineage: Lineage) -> Entry:
    folder = store._folder(status.name)
    entry = Entry(status, lineage, where=folder.describe())
    if status.manifest is None:
        return entry
    try:
        missing = find_missing(folder, status.manifest)
    except NETWORK_ERRORS:
        raise
    except OSError as error:
        return replace(entry, refused=error)
    return replace(entry, missing=tuple(missing))
