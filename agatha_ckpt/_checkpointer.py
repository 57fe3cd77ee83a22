"""Checkpointer: a store, settings, and the calls that save and load."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack

from agatha_ckpt._caller_frame import checkpoint_variable
from agatha_ckpt._errors import CheckpointError
from agatha_ckpt._run.clearing import clear, clear_all
from agatha_ckpt._run.decision import Action
from agatha_ckpt._run.events import Event, Subscriber
from agatha_ckpt._run.explanation import Explanation
from agatha_ckpt._run.signatures import C, CheckpointerOptions, DaskCollection, typed
from agatha_ckpt._settings import (
    CkptOptions,
    RepairOptions,
    Settings,
    SettingsDict,
    check_names,
)
from agatha_ckpt._store.display import notebook_table
from agatha_ckpt._store.given import Given, store_of, stores_of
from agatha_ckpt._store.several import is_done_in, names_in, status_in
from agatha_ckpt._store.status import Status
from agatha_ckpt._store.store import CheckpointStore

if TYPE_CHECKING:  # dask is imported when the first call needs it
    from agatha_ckpt._dask.pool import WarmPool
    from agatha_ckpt._run.execution import Call
_ASKED = ("textfile", "version", "overwrite", "metadata", "compute")


class Checkpointer:
    """Named, durable checkpoints of dask collections.

    Parameters
    ----------
    store : CheckpointStore, str or os.PathLike, optional
        The store of the checkpoints, or the path or URL of its root.
        Without it, the root is that of dask's configuration
        (``agatha-ckpt.root``, or the environment variable
        ``DASK_AGATHA_CKPT__ROOT``), looked up when it is first needed.
    storage_options, fsync : optional
        As for `CheckpointStore`, with a path or URL.
    read_from : iterable of stores, Checkpointers, paths and URLs, optional
        Where else to look, in this order, for what is done. Nothing is written there.
    on_event : callable, optional
        Called with each `Event` of a call, in the caller's thread; of a deferred save,
        in a task.
    **settings
        The fields of `Settings`.

    Raises
    ------
    RootNotSetError, InvalidValueError, TypeError
        The root cannot be used, an argument does not take its value, or a name is not a
        setting.

    Notes
    -----
    Checkpointers share nothing, in one process or in several. Making one touches
    nothing. The pickle of one holds its stores, with their storage options, and its
    settings, but not *on_event*.

    Examples
    --------
    >>> import dask.bag
    >>> ckpt = Checkpointer("memory://doctest-checkpointer", verbose=False)
    >>> numbers = dask.bag.from_sequence(range(6), npartitions=2)
    >>> squares = ckpt.checkpoint(
    ...     "squares", numbers.map(lambda n: n * n), scheduler="sync"
    ... )
    >>> squares.compute(scheduler="sync")
    [0, 1, 4, 9, 16, 25]
    >>> ckpt.names()
    ['squares']
    """

    def __init__(
        self,
        store: Given | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        fsync: bool | None = None,
        read_from: Iterable[Given | Checkpointer] = (),
        on_event: Callable[[Event], Any] | None = None,
        **settings: Unpack[SettingsDict],
    ) -> None:
        check_names(settings, ("storage_options", "fsync", "read_from", "on_event"))
        self._store = store_of(store, storage_options, fsync)
        self._read_from = stores_of(read_from)
        self._on_event = Subscriber(on_event)
        self._settings = Settings(**settings)
        self._lock = threading.Lock()
        self._pool: WarmPool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_lock": None, "_pool": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @classmethod
    def from_config(cls, **options: Unpack[CheckpointerOptions]) -> Self:
        """Return a Checkpointer with the ``agatha-ckpt`` section of dask.config.

        *options* are those of `Checkpointer`, and take precedence.

        Keys are ``root``, ``storage-options``, ``fsync`` and the names of the
        settings, with ``-`` or ``_``; in the environment ``DASK_AGATHA_CKPT__ROOT``
        and the like.

        Raises
        ------
        RootNotSetError, InvalidValueError, TypeError
            The section has no root, a key does not take its value, or is not a setting.
        """
        from agatha_ckpt._config import configured_settings, configured_store

        settings = vars(configured_settings())
        return cls(configured_store(), **(settings | dict[str, Any](options)))

    @property
    def store(self) -> CheckpointStore:
        """The store.

        Raises
        ------
        RootNotSetError
            None was given, and dask's configuration has no root.
        """
        with self._lock:
            if self._store is None:
                from agatha_ckpt._config import configured_store

                self._store = configured_store()
            return self._store

    @store.setter
    def store(self, store: Given | None) -> None:
        store = store_of(store)
        with self._lock:
            self._store = store

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def configure(self, **changes: Unpack[SettingsDict]) -> None:
        """Replace settings.

        Raises
        ------
        InvalidValueError, TypeError
            A setting does not take its value, or a name is not a setting.
        """
        with self._lock:
            self._settings = self._settings.override(**changes)

    def __repr__(self) -> str:
        others = f", read_from={[*self._read_from]!r}" if self._read_from else ""
        return f"{type(self).__name__}({self._store!r}, {self._settings!r}{others})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), lambda: self.store.statuses())

    def close(self) -> None:
        """End the worker processes that saves on dask's process scheduler left ready.

        They take memory and nothing else, and end with the program in any case. The
        next such save starts new ones.
        """
        if self._pool is not None:
            self._pool.close()

    @typed
    def checkpoint(
        self,
        name: str | os.PathLike[str],
        bag: Any = None,
        verbose: bool | None = None,
        allow_partial: bool | None = None,
        halt_after: str | None = None,
        textfile: bool = False,
        *,
        version: str | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Save a collection under *name* unless that is done; return one that loads it.

        Parameters
        ----------
        name : str or os.PathLike
            Name of the checkpoint, or its path directly under the root.
        bag : dask collection, optional
            What to save. Without it the checkpoint must be done.
        verbose, allow_partial, halt_after : optional
            In place of the settings of that name, for this call.
        textfile : bool, default False
            Save strings, one record a line, for other programs; returns None.
        version : str, optional
            A label of yours. A done checkpoint with another label is computed again.
        overwrite : bool, default False
            Compute every partition, whatever is stored. Version label and metadata are
            then those of this call alone.
        metadata : mapping, optional
            Values of yours, kept in the manifest of what is saved: at most 64 KiB of
            JSON. They are part of no identity.
        **options
            Other fields of `Settings`, for this call; what dask takes, ``scheduler``
            and its keywords; ``compute=False``: the save is deferred.

        Returns
        -------
        dask collection or None
            One of the same kind that loads the checkpoint; with ``enabled=False`` the
            one given; with ``textfile=True`` None; with ``compute=False`` a Delayed
            that saves.

        Raises
        ------
        RootNotSetError
            There is no root, or it cannot be written to.
        InvalidNameError
            The name is not legal.
        CheckpointNotFoundError
            The checkpoint is not done and no collection was given.
        CorruptCheckpointError
            Its marker is damaged and no collection was given.
        EncodeError
            *bag* is not a collection that is known, or cannot be stored faithfully.
        PickleNotAllowedError
            It holds pickled values and pickle is not allowed.
        CheckpointConflictError
            It is stale, and ``on_stale="error"``; or it has another version, and no
            bag was given; or another run saved the name from other inputs meanwhile.
        UnsupportedFormatError
            It was written in another version of the format.
        CheckpointHalt
            After the checkpoint is done, where a halt was asked for.
        TypeError
            Neither the call nor the scheduler in force takes an option.

        Notes
        -----
        The checkpoint becomes done at once and whole, or not at all. What the
        collection's own functions raise reaches the caller unchanged; partitions that
        were saved before stay, and the next call keeps those that are still right.
        """
        given = dict(
            options,
            verbose=verbose,
            allow_partial=allow_partial,
            halt_after=halt_after,
            textfile=textfile,
            version=version,
            overwrite=overwrite,
            metadata=metadata,
        )
        return self._call(name, bag, given).checkpoint()

    def explain(
        self,
        name: str | os.PathLike[str],
        bag: DaskCollection | None = None,
        **options: Unpack[CkptOptions],
    ) -> Explanation:
        """Return what `checkpoint` would do with the same arguments; touch nothing.

        Parameters
        ----------
        name, bag, **options
            As for `checkpoint`.

        Returns
        -------
        Explanation
            ``str`` of it is readable. A `CheckpointError` that the call would raise for
            what is given or stored is in ``error``. It neither writes nor computes.

        Examples
        --------
        >>> import dask.bag
        >>> ckpt = Checkpointer("memory://doctest-explain", verbose=False)
        >>> numbers = dask.bag.from_sequence(range(6), npartitions=2)
        >>> print(ckpt.explain("numbers", numbers))
        numbers: compute. Saving 2 of 2 partitions
        """
        try:
            return self._call(name, bag, options).explain()
        except CheckpointError as error:
            return Explanation(str(name), Action.ERROR, str(error), error=error)

    def repair(
        self,
        name: str | os.PathLike[str],
        bag: C,
        **options: Unpack[RepairOptions],
    ) -> C | Any:
        """Read a done checkpoint in full, and compute again what is damaged.

        Parameters
        ----------
        name : str or os.PathLike
            Name of the checkpoint, or its path directly under the root.
        bag : dask collection
            The collection that was saved.
        **options
            The fields of `Settings`, for this call, and what dask takes.

        Returns
        -------
        dask collection or None
            One that loads the checkpoint; None for a text checkpoint.

        Raises
        ------
        CheckpointNotFoundError
            The checkpoint is not done.
        CheckpointError
            As `checkpoint`.
        """
        return self._call(name, bag, {"enabled": True} | options, ()).repair()

    def ckpt(
        self,
        bag_name: str,
        ckpt_prefix: str | None = None,
        **kwargs: Unpack[CkptOptions],
    ) -> None:
        """Replace the caller's variable *bag_name* by its checkpoint.

        The same as ``bag = checkpointer.checkpoint("bag", bag)``, which reads better.

        Parameters
        ----------
        bag_name : str
            Name of a variable of the caller that holds a collection; also that of the
            checkpoint.
        ckpt_prefix : str, optional
            The checkpoint is called *ckpt_prefix*, ``_``, *bag_name*.
        **kwargs
            Those of `checkpoint`. With ``textfile=True`` the variable stays.

        Raises
        ------
        CheckpointError
            The variable is missing or holds no collection; and as `checkpoint`.
        """
        frame = sys._getframe(1)
        checkpoint_variable(self.checkpoint, frame, bag_name, ckpt_prefix, kwargs)

    def _call(
        self,
        name: str | os.PathLike[str],
        bag: Any,
        given: Mapping[str, Any],
        asked: tuple[str, ...] = _ASKED,
    ) -> Call:
        from agatha_ckpt._dask.pool import WarmPool
        from agatha_ckpt._run.request import call_for

        store, settings = self.store, self._settings
        with self._lock:
            self._pool = self._pool or WarmPool()
        others = [each for each in self._read_from if each != store]
        return call_for(
            store, settings, self._pool, name, bag, given, asked, others, self._on_event
        )

    @property
    def _stores(self) -> list[CheckpointStore]:
        return [self.store, *self._read_from]

    def names(self, pattern: str = "*") -> list[str]:
        """Return the sorted names of the done checkpoints that match *pattern*."""
        return names_in(self._stores, pattern)

    def is_done(self, name: str | os.PathLike[str]) -> bool:
        """Return whether a checkpoint is done; nothing is written."""
        return is_done_in(self._stores, name)

    def status(self, name: str | os.PathLike[str]) -> Status:
        """Return whether a checkpoint is absent, partial or done, and its figures."""
        return status_in(self._stores, name)

    def clear(self, name: str | os.PathLike[str]) -> bool:
        """Remove a checkpoint, done or partial, and return whether there was one."""
        return clear(self.store, name, self._settings)

    def clear_all(self) -> None:
        """Clear every checkpoint under the root; foreign files and the root stay."""
        clear_all(self.store, self._settings)
