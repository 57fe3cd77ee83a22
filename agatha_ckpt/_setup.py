"""Which store and which settings a Checkpointer uses, and what it keeps ready."""

import os
import threading
from typing import Any, Self

from agatha_ckpt._config import configured_settings, configured_store
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.display import notebook_table
from agatha_ckpt._store.store import CheckpointStore


class Setup:
    """What a `Checkpointer` is made of; its parameters and errors are that one's."""

    def __init__(
        self,
        store: CheckpointStore | str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        if not (store is None or isinstance(store, CheckpointStore)):
            store = CheckpointStore(store)
        self._store = store
        self._settings = Settings(**settings)
        self._lock = threading.Lock()
        self._pool = WarmPool()

    @classmethod
    def from_config(cls) -> Self:
        """Return a Checkpointer as the ``agatha-ckpt`` section of dask.config says.

        Keys are ``root``, ``storage-options``, ``fsync`` and the names of the
        settings, with ``-`` or ``_``; in the environment ``DASK_AGATHA_CKPT__ROOT``
        and the like.

        Raises
        ------
        RootNotSetError
            The section has no root, or none that can be used.
        InvalidNameError
            A value is none of those that its key takes.
        TypeError
            It has a key that is no setting.
        """
        return cls(configured_store(), **vars(configured_settings()))

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
                self._store = configured_store()
            return self._store

    @store.setter
    def store(self, store: CheckpointStore | None) -> None:
        with self._lock:
            self._store = store

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def configure(self, **changes: Any) -> None:
        """Replace settings.

        Raises
        ------
        TypeError
            A name is no setting.
        InvalidNameError
            A value is none of those that the setting takes.
        """
        with self._lock:
            self._settings = self._settings.override(**changes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r}, {self._settings!r})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), lambda: self.store.statuses())

    def close(self) -> None:
        """End the worker processes that saves on dask's process scheduler left ready.

        They take memory and nothing else, and end with the program in any case. The
        next such save starts new ones.
        """
        self._pool.close()
