"""Which checkpoints and left-over files may go, and why the others stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._human import seconds_since
from agatha_ckpt._store.contents import Contents
from agatha_ckpt._store.status import Status
from agatha_ckpt._store.store import CheckpointStore

# Where it cannot be seen that a run goes on, what it wrote is not touched for so long.
UNSEEN_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Criteria:
    """What is to go.

    Attributes
    ----------
    older_than : float, optional
        Only what was last written so many seconds ago.
    partial : bool
        Unfinished checkpoints.
    leftovers : bool
        Files that no done marker names, beside a done marker or alone.

    With neither of the last two, whole checkpoints in whatever state are meant.
    """

    older_than: float | None = None
    partial: bool = False
    leftovers: bool = False

    def concerns(self, status: Status) -> bool:
        """Whether such a checkpoint, or files beside it, can be meant at all."""
        match status.condition:
            case "partial":
                return self.partial or not self.leftovers
            case "absent":
                return self.leftovers
            case "done":
                return self.leftovers or not self.partial
            case _:
                return not (self.partial or self.leftovers)


@dataclass(frozen=True)
class Removal:
    """What is to be removed of one checkpoint.

    Attributes
    ----------
    status : Status
    contents : Contents
        The files that go.
    whole : bool
        Whether the checkpoint itself goes, and not only what is left over beside it.
    stays : str, optional
        Half a sentence that says why nothing goes after all.
    """

    status: Status
    contents: Contents
    whole: bool = True
    stays: str | None = None

    @property
    def changed(self) -> str | None:
        """When it was last written, ISO 8601, where that is known."""
        return (self.whole and self.status.changed) or self.contents.changed

    def same_as(self, other: "Removal | None") -> bool:
        """Whether nothing has happened to what goes."""
        return (
            other is not None
            and other.stays is None
            and self.whole == other.whole
            and self.contents.own == other.contents.own
        )


def removals(
    store: CheckpointStore, names: list[str], criteria: Criteria
) -> Iterator[Removal]:
    """Yield what can go of each of the checkpoints, and what stays though it is meant.

    Costs what the status costs, and one listing for each that can be meant.
    """
    for removal in map_ordered(lambda name: removal_of(store, name, criteria), names):
        if removal is not None:
            yield removal


def removal_of(store: CheckpointStore, name: str, criteria: Criteria) -> Removal | None:
    """Return what can go of a checkpoint; None where it is not meant."""
    status = store.status(name)
    if not criteria.concerns(status):
        return None
    return decide(status, store.contents(name), criteria, datetime.now(UTC))


def decide(
    status: Status, contents: Contents, criteria: Criteria, now: datetime
) -> Removal | None:
    """Return what is to go of a checkpoint; None where it is not meant.

    Parameters
    ----------
    status : Status
        One that *criteria* concern.
    contents : Contents
    criteria : Criteria
    now : datetime
    """
    whole = not (criteria.leftovers and status.condition in ("done", "absent"))
    going = contents if whole else contents.left_over(status.manifest)
    if not going.own:
        return None
    removal = Removal(status, going, whole)
    finished = whole and status.condition == "done"
    stays = _reason_to_stay(removal, criteria, finished, now)
    if stays == "":
        return None
    return Removal(status, going, whole, stays)


def _reason_to_stay(
    removal: Removal, criteria: Criteria, finished: bool, now: datetime
) -> str | None:
    """Return why it stays; "" where it is simply not old enough; None where it goes."""
    age = seconds_since(removal.changed, now)
    if criteria.older_than is not None:
        if age is None:
            return "when it was written is not known"
        if age < criteria.older_than:
            return ""
    if removal.status.condition == "newer":
        return "it takes a newer version of this program"
    if removal.contents.goes_on:
        return "a run is saving it now"
    if finished:
        return None
    unseen = removal.contents.goes_on is None and criteria.older_than is None
    if unseen and (age is None or age < UNSEEN_SECONDS):
        return "a run may be saving it: it was written less than 24 h ago"
    return None
