"""The task that writes one partition."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import cloudpickle

from agatha_ckpt._format.base import WriteOptions
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.partition import write_partition
from agatha_ckpt._store.store import CheckpointStore


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


@dataclass(frozen=True)
class SavePartition:
    """The task that writes one partition; it is pickled for the workers.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    options : WriteOptions
    prepare : callable, optional
        `Source.prepare`.
    catches : bool
        Whether an error is the result of the task, so that the others are tried.
    deferred : bool
        Whether it is computed after the call that made the folder has returned.
    home : tuple of (str, int)
        The machine and the process that the task was made in.
    """

    store: CheckpointStore
    name: str
    options: WriteOptions
    prepare: Callable[[Any, int, str], Any] | None = None
    catches: bool = False
    deferred: bool = False
    home: tuple[str, int] = field(default_factory=_this_process)

    def __reduce__(self) -> Any:
        return _unpickled, (self._pickled,)

    @cached_property
    def _pickled(self) -> bytes:
        """What all tasks of a save have in common, pickled once and not with each."""
        mine = tuple(getattr(self, each.name) for each in fields(self))
        pickled: bytes = cloudpickle.dumps(mine)
        return pickled

    @cached_property
    def folder(self) -> Folder:
        """That of the checkpoint."""
        return self.store._folder(self.name)

    @property
    def is_at_home(self) -> bool:
        """Whether this is the process that the task was made in."""
        return self.home == _this_process()

    def __call__(
        self, value: Any, index: int, fingerprint: str, code: str
    ) -> PartitionInfo:
        """Write the partition *index* and return its entry in the manifest."""
        if self.prepare is not None:
            value = self.prepare(value, index, self.folder.describe(index))
        return write_partition(
            self.folder, value, index, fingerprint, code, self.options, self.deferred
        )


@lru_cache(maxsize=8)
def _unpickled(pickled: bytes) -> SavePartition:
    """Return what was pickled: in a worker, one object for all tasks of a save."""
    return SavePartition(*cloudpickle.loads(pickled))
