"""Queries over several stores, of which the first is the own one."""

import os
from collections.abc import Sequence

from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore


def names_in(stores: Sequence[CheckpointStore], pattern: str) -> list[str]:
    """Return the sorted names of what is done in any of them."""
    return sorted({name for store in stores for name in store.names(pattern)})


def is_done_in(stores: Sequence[CheckpointStore], name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is done in any of them."""
    name = stores[0]._folder(name).name  # which may be a path
    return any(store.is_done(name) for store in stores)


def status_in(
    stores: Sequence[CheckpointStore], name: str | os.PathLike[str]
) -> Status:
    """Return the status in the first in which it is done; else in the own one."""
    own = stores[0].status(name)
    if own.state is State.DONE:
        return own
    others = (store.status(own.name) for store in stores[1:])
    return next((other for other in others if other.state is State.DONE), own)
