"""A crash in the middle of a save, for a test that a pipeline resumes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, cast

from agatha_ckpt import _facade
from agatha_ckpt._checkpointer import Checkpointer
from agatha_ckpt._errors import InvalidValueError
from agatha_ckpt._filesystem.base import Files, Writer
from agatha_ckpt._run.events import Event, PartitionStored, Subscriber


class SimulatedCrash(BaseException):
    """Raised by `crash_after` where a real run would have died.

    Like a KeyboardInterrupt it is not an `Exception`, so that ``except Exception`` and
    ``on_error="continue"`` do not catch it.
    """


@contextmanager
def crash_after(n: int, checkpointer: Checkpointer | None = None) -> Iterator[None]:
    """Let *n* partitions be stored, and then raise `SimulatedCrash`.

    They are counted over all checkpoints that are saved in the ``with`` block. After
    the last of them, whatever the run asks of the store raises: nothing is committed or
    removed, as if the process had been killed. After the block the store works again.

    Parameters
    ----------
    n : int
        With 0, the first use of the store raises.
    checkpointer : Checkpointer, optional
        The one that the run uses, with any root; by default that of the functions of
        the package. Another one over the same root is not affected.

    Raises
    ------
    SimulatedCrash
        From the call that saves. A run that stores fewer partitions ends as usual.
    InvalidValueError
        *n* is not a number of partitions.

    Notes
    -----
    With ``scheduler="sync"`` or ``"threads"``, exactly *n* partitions are stored. Other
    processes, and clusters, store at least *n*, and may complete those that they are
    computing.

    Examples
    --------
    >>> import dask.bag
    >>> from agatha_ckpt.testing import memory_checkpointer
    >>> numbers = dask.bag.from_sequence(range(6), npartitions=3)
    >>> with memory_checkpointer() as ckpt:
    ...     try:
    ...         with crash_after(2, ckpt):
    ...             ckpt.checkpoint("numbers", numbers)
    ...     except SimulatedCrash as crash:
    ...         print(crash)
    ...     ckpt.explain("numbers", numbers).kept
    simulated crash: 2 partitions are stored
    2
    """
    if type(n) is not int or n < 0:
        raise InvalidValueError(
            f"invalid value {n!r} for crash_after: expected a number of partitions"
        )
    ckpt = _facade._default if checkpointer is None else checkpointer
    store, on_event = ckpt.store, ckpt._on_event
    crash = CrashingFiles(store._files, n)

    def count(event: Event) -> None:
        on_event(event)
        if isinstance(event, PartitionStored):
            crash.landed()

    crashing = copy(store)
    crashing._files = cast(Files, crash)
    ckpt.store, ckpt._on_event = crashing, Subscriber(count)
    try:
        yield
    finally:
        ckpt.store, ckpt._on_event = store, on_event
        crash.end()


class CrashingFiles:
    """The `Files` of a run that dies when *n* partitions are stored.

    A copy of the store in another process has other `Files`. What is stored there is
    counted when the caller is told of it.
    """

    def __init__(self, files: Files, n: int) -> None:
        self._files = files
        self._n = n
        self._publishing = self._published = self._landed = 0
        self._changed = threading.Condition()
        self._has_crashed = self._is_over = False

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._files, name)

    def publish(self, folder: str, write: Writer) -> str:
        """Write a file, unless *n* files are written or being written.

        A task that the scheduler did not wait for writes none after the block either.
        """
        with self._changed:
            if self._has_crashed:
                raise self._crash()
            self._check(self._publishing)
            self._publishing += 1
        try:
            name = self._files.publish(folder, write)
            with self._changed:
                self._published += 1
            return name
        finally:
            with self._changed:
                self._publishing -= 1
                self._changed.notify_all()

    def landed(self) -> None:
        """Count a partition that the caller is told of."""
        self._landed += 1
        self._check()

    def end(self) -> None:
        """Wait for the threads that are writing files, and crash no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._publishing == 0)
            self._is_over = True

    def _check(self, more: int = 0) -> None:
        stored = max(self._published + more, self._landed)
        if stored >= self._n and not self._is_over:
            self._has_crashed = True
            raise self._crash()

    def _crash(self) -> SimulatedCrash:
        return SimulatedCrash(f"simulated crash: {self._n} partitions are stored")
