"""What happens in a call for a checkpoint, as values, and who is told of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo

logger = logging.getLogger("agatha_ckpt")


@dataclass(frozen=True)
class Event:
    """Base of the events of a call.

    Attributes
    ----------
    name : str
        Name of the checkpoint.
    root : str
        The root, as messages show it.
    """

    name: str
    root: str


@dataclass(frozen=True)
class Stale(Event):
    """A done checkpoint is stale; it is then loaded anyway, or computed again.

    Attributes
    ----------
    reason : str
    """

    reason: str


@dataclass(frozen=True)
class Loaded(Event):
    """A done checkpoint is loaded.

    Attributes
    ----------
    manifest : Manifest
    line : str
        What is printed of it.
    warn : bool
        Whether it needs attention.
    """

    manifest: Manifest = field(repr=False)
    line: str
    warn: bool = False


@dataclass(frozen=True)
class Started(Event):
    """A save begins.

    Attributes
    ----------
    partitions : int
        Number of partitions of the collection.
    kept : tuple of PartitionInfo
        Those that are stored already, and are not computed.
    line : str
        What is printed of it, with the reason.
    warn : bool
        Whether it needs attention.
    """

    partitions: int
    kept: tuple[PartitionInfo, ...] = field(repr=False)
    line: str
    warn: bool = False


@dataclass(frozen=True)
class PartitionStored(Event):
    """A partition was computed and written.

    Attributes
    ----------
    index : int
        Its number.
    info : PartitionInfo
    """

    index: int
    info: PartitionInfo


@dataclass(frozen=True)
class PartitionFailed(Event):
    """A partition was not stored.

    Attributes
    ----------
    index : int
        Its number.
    error : Exception
    """

    index: int
    error: Exception = field(compare=False)


@dataclass(frozen=True)
class Committed(Event):
    """A save is done.

    Attributes
    ----------
    manifest : Manifest
        The one in place; that of another run with the same inputs, if that was first.
    seconds : float
        Since `Started`.
    line : str
        What is printed of it.
    """

    manifest: Manifest = field(repr=False)
    seconds: float
    line: str


@dataclass(frozen=True)
class Publisher:
    """What makes the events of one call.

    Attributes
    ----------
    name : str
        Name of the checkpoint.
    root : str
        The root, as messages show it.
    subscribers : tuple of callable
        They are called with each event, in this order.
    """

    name: str
    root: str
    subscribers: tuple[Callable[[Event], None], ...]

    def __call__(self, kind: Callable[..., Event], *values: Any) -> None:
        """Publish an event of a *kind*, with *values* beside name and root."""
        event = kind(self.name, self.root, *values)
        for subscriber in self.subscribers:
            subscriber(event)


class Subscriber:
    """The function of a caller, which is called with each event.

    One that raises is logged, and not called again. The pickle of a subscriber is one
    without a function: events are for the process that made it.
    """

    def __init__(self, function: Callable[[Event], Any] | None = None) -> None:
        if not (function is None or callable(function)):
            raise InvalidValueError(
                f"invalid value {function!r} for on_event: expected a function that "
                "takes an event"
            )
        self._function = function

    def __reduce__(self) -> Any:
        return type(self), ()

    def __deepcopy__(self, memo: object) -> "Subscriber":
        return self

    def __call__(self, event: Event) -> None:
        """Pass on an event."""
        if self._function is None:
            return
        try:
            self._function(event)
        except Exception:
            function, self._function = self._function, None
            logger.exception(
                "on_event=%r raised, and is not called again; it was called with %r",
                function,
                event,
            )
