"""Which checkpoints and leftovers may be deleted, and why the others stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._human import seconds_since
from agatha_ckpt._store.contents import Contents, clear, contents_of, remove_leftovers
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.status import State, Status, status_of

# A run may be writing what is younger than this, in seconds.
MIN_AGE = 24 * 3600
_NO_TIME = "the time of its last write is not known"


@dataclass(frozen=True)
class Criteria:
    """What is to be deleted.

    Attributes
    ----------
    older_than : float, optional
        Only what was last written more than so many seconds ago.
    partial : bool
        Unfinished checkpoints.
    leftovers : bool
        Files that no done marker names.

    With neither of the last two, whole checkpoints in any state are selected.
    """

    older_than: float | None = None
    partial: bool = False
    leftovers: bool = False

    def concern(self, state: State) -> bool:
        """Return whether a checkpoint in *state*, or its leftovers, can be selected."""
        match state:
            case State.PARTIAL:
                return self.partial or not self.leftovers
            case State.ABSENT:
                return self.leftovers
            case State.DONE:
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
        The files to remove.
    whole : bool
        Whether the checkpoint itself is removed, and not only leftovers.
    skip_reason : str, optional
        Why this is not deleted.
    """

    status: Status
    contents: Contents
    whole: bool = True
    skip_reason: str | None = None

    @property
    def changed(self) -> str | None:
        """When it was last written, ISO 8601, where that is known."""
        return (self.whole and self.status.changed) or self.contents.changed

    def is_same(self, other: "Removal | None") -> bool:
        """Return whether the files to remove are the same."""
        return (
            other is not None
            and other.skip_reason is None
            and self.whole == other.whole
            and self.contents.own == other.contents.own
        )

    def apply(self, folder: Folder) -> bool:
        """Remove the files; return False if another run changed the marker."""
        if self.whole:
            clear(folder)
            return True
        return remove_leftovers(folder, self.contents.own)


def find_removals(folders: list[Folder], criteria: Criteria) -> Iterator[Removal]:
    """Yield what the criteria select of each checkpoint, and what is skipped.

    Costs what the status costs, and one listing for each that can be selected.
    """
    concurrent = all(folder.files.concurrent for folder in folders)
    for removal in map_ordered(
        lambda folder: find_removal(folder, criteria), folders, concurrent
    ):
        if removal is not None:
            yield removal


def find_removal(folder: Folder, criteria: Criteria) -> Removal | None:
    """Return what the criteria select of a checkpoint; None if nothing."""
    status = status_of(folder)
    if not criteria.concern(status.state):
        return None
    return decide(status, contents_of(folder), criteria, datetime.now(UTC))


def decide(
    status: Status, contents: Contents, criteria: Criteria, now: datetime
) -> Removal | None:
    """Return what the criteria select of a checkpoint with *status*; None if nothing.

    Parameters
    ----------
    status : Status
        In a state that *criteria* concern.
    contents : Contents
    criteria : Criteria
    now : datetime
    """
    whole = not (criteria.leftovers and status.state in (State.DONE, State.ABSENT))
    selected = contents if whole else contents.leftovers(status.manifest)
    if not selected.own:
        return None
    removal = Removal(status, selected, whole)
    age = seconds_since(removal.changed, now)
    reason = None
    if criteria.older_than is not None:
        if age is None:
            reason = _NO_TIME
        elif age < criteria.older_than:
            return None
    if status.state is State.UNSUPPORTED:
        reason = "it is in another version of the format"
    finished = whole and status.state is State.DONE
    if reason is None and criteria.older_than is None and not finished:
        newest = seconds_since(contents.changed, now)
        if newest is None:
            reason = _NO_TIME
        elif newest < MIN_AGE:
            reason = "it was written less than 24 h ago, so a run may be saving it"
    return Removal(status, selected, whole, reason)
