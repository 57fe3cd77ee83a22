"""Which checkpoints and leftovers may be deleted, and why the others stay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agatha_ckpt._errors import (
    NETWORK_ERRORS,
    CheckpointError,
    InvalidValueError,
    refusal,
)
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._human import seconds_since
from agatha_ckpt._store.contents import Contents, clear, contents_of, remove_leftovers
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.status import State, Status, status_or_refusal

# A run may be writing what is younger than this, in seconds.
MIN_AGE = 24 * 3600
_NO_TIME = "the time of its last write is not known"


@dataclass(frozen=True)
class Criteria:
    """What is to be deleted.

    With none of *keep*, *partial* and *leftovers*, whole checkpoints in any state are
    selected.

    Raises
    ------
    InvalidValueError
        Nothing is selected, or a number is not one that can be.
    """

    older_than: float | None = None  # last written more than so many seconds ago
    keep: int | None = None  # done checkpoints, but not so many of the newest
    partial: bool = False  # unfinished checkpoints
    leftovers: bool = False  # files that no done marker names
    # Without older_than, partials and leftovers that are younger are skipped.
    min_age: float = MIN_AGE

    def __post_init__(self) -> None:
        if self.older_than is None and self._is_by_age:
            raise InvalidValueError(
                "nothing is selected; give older_than, keep, partial or leftovers"
            )
        for name, least in (("older_than", 0), ("keep", 1), ("min_age", 0)):
            value = getattr(self, name)
            types = int if name == "keep" else int | float
            if value is not None and not (
                isinstance(value, types) and value is not True and value >= least
            ):
                kind = "a whole number" if types is int else "a number of seconds"
                raise InvalidValueError(
                    f"invalid value {value!r} for {name}: give {kind}, at least {least}"
                )

    @property
    def _is_by_age(self) -> bool:
        return self.keep is None and not (self.partial or self.leftovers)

    def concern(self, state: State) -> bool:
        """Return whether a checkpoint in *state*, or its leftovers, can be selected."""
        match state:
            case State.PARTIAL:
                return self.partial or self._is_by_age
            case State.ABSENT:
                return self.leftovers
            case State.DONE:
                return self.leftovers or self.keep is not None or self._is_by_age
            case State.UNREADABLE:
                return True  # it may be in any state, and is skipped
            case _:
                return self._is_by_age


@dataclass(frozen=True)
class Removal:
    """What is removed of one checkpoint, or why it is not.

    Attributes
    ----------
    status : Status
        What it was before.
    contents
        The files to remove; see `files` and `bytes`.
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
    def name(self) -> str:
        """Name of the checkpoint."""
        return self.status.name

    @property
    def files(self) -> list[str]:
        """The names of the files to remove, sorted."""
        return sorted(self.contents.own)

    @property
    def bytes(self) -> int:
        """Their size in bytes."""
        return self.contents.bytes

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


Finder = Callable[[Folder], Removal | None]


def find_removals(
    folders: Sequence[Folder], criteria: Criteria
) -> tuple[list[Removal], Finder]:
    """Return what the criteria select and what is skipped; and what finds one again.

    Costs what the status costs, twice with *keep*, and one listing for each checkpoint
    that can be selected.
    """
    concurrent = all(folder.files.concurrent for folder in folders)
    newest: list[tuple[float, str]] = []
    if criteria.keep is not None:
        for status in map_ordered(status_or_refusal, folders, concurrent):
            age = seconds_since(status.changed)
            if status.state is State.DONE and age is not None:
                newest.append((age, status.name))
    kept = frozenset(name for _, name in sorted(newest)[: criteria.keep])

    def find(folder: Folder) -> Removal | None:
        status = status_or_refusal(folder)
        if not criteria.concern(status.state):
            return None
        if status.state is State.UNREADABLE:
            return Removal(status, Contents({}, 0), skip_reason="it cannot be read")
        try:
            contents = contents_of(folder)
        except NETWORK_ERRORS:
            raise
        except OSError as error:
            return Removal(status, Contents({}, 0), skip_reason=refusal(error))
        return decide(status, contents, criteria, datetime.now(UTC), kept)

    found = map_ordered(find, folders, concurrent)
    return [removal for removal in found if removal is not None], find


def remove(folder: Folder, removal: Removal, find_again: Finder) -> Removal:
    """Remove what was found; return it, with a reason where it was skipped."""
    try:
        if removal.is_same(find_again(folder)) and removal.apply(folder):
            return removal
        reason = "it has changed since it was listed; try again"
    except NETWORK_ERRORS:
        raise
    except CheckpointError as error:
        reason = str(error)
    except OSError as error:
        reason = refusal(error, "delete")
    return replace(removal, skip_reason=reason)


def prune(
    folders: Sequence[Folder], criteria: Criteria, dry_run: bool
) -> list[Removal]:
    """Remove what the criteria select, and return it with what was skipped."""
    by_name = {folder.name: folder for folder in folders}
    found, find = find_removals(folders, criteria)
    return [
        removal
        if dry_run or removal.skip_reason
        else remove(by_name[removal.name], removal, find)
        for removal in found
    ]


def decide(
    status: Status,
    contents: Contents,
    criteria: Criteria,
    now: datetime,
    kept: frozenset[str] = frozenset(),
) -> Removal | None:
    """Return what the criteria select of a checkpoint with *status*; None if nothing.

    The status is of a state that *criteria* concern; *kept* are the names of the
    newest, which they keep.
    """
    whole = not (criteria.leftovers and status.state in (State.DONE, State.ABSENT))
    if status.state is State.DONE and criteria.keep is not None:
        whole = status.name not in kept
        if not (whole or criteria.leftovers):
            return None
    selected = contents if whole else contents.leftovers(status.manifest)
    if not selected.own:
        return None
    removal = Removal(status, selected, whole)
    age = seconds_since(removal.changed, now)
    finished = whole and status.state is State.DONE
    reason = None
    if criteria.older_than is not None or (finished and criteria.keep is not None):
        if age is None:
            reason = _NO_TIME
        elif age < (criteria.older_than or 0):
            return None
    if status.state is State.UNSUPPORTED:
        reason = "it is in another version of the format"
    if reason is None and criteria.older_than is None and not finished:
        newest = seconds_since(contents.changed, now)
        if newest is None:
            reason = _NO_TIME
        elif newest < criteria.min_age:
            limit = f"less than {criteria.min_age / 3600:g} h ago"
            reason = f"it was written {limit}, so a run may be saving it"
    return Removal(status, selected, whole, reason)
