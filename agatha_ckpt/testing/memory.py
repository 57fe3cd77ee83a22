"""Roots in memory, each new and empty, for a test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack

from agatha_ckpt import _facade
from agatha_ckpt._checkpointer import Checkpointer
from agatha_ckpt._run.signatures import CheckpointerOptions
from agatha_ckpt._settings import SettingsDict


@contextmanager
def memory_checkpointer(
    **options: Unpack[CheckpointerOptions],
) -> Iterator[Checkpointer]:
    """Give a `Checkpointer` whose root is in memory, new and empty, and its own.

    Within the ``with`` block dask computes in the caller's thread
    (``scheduler="sync"``), unless the code asks for another scheduler: worker processes
    do not have this memory. Afterwards the checkpoints are removed.

    Parameters
    ----------
    **options
        Those of `Checkpointer`; ``verbose`` is false by default.

    Examples
    --------
    >>> import dask.bag
    >>> numbers = dask.bag.from_sequence(range(6), npartitions=2)
    >>> with memory_checkpointer() as ckpt:
    ...     ckpt.checkpoint("squares", numbers.map(lambda n: n * n)).sum().compute()
    55
    """
    import dask.config

    root = f"memory://checkpoints-{uuid.uuid4().hex}"
    ckpt = Checkpointer(root, **({"verbose": False} | options))
    try:
        with dask.config.set(scheduler="sync"):
            yield ckpt
    finally:
        if ckpt.store.fs.exists(root):
            ckpt.store.fs.rm(root, recursive=True)


@contextmanager
def memory_root(**settings: Unpack[SettingsDict]) -> Iterator[str]:
    """Let the functions of the package use a root in memory, and give its URL.

    As `memory_checkpointer`, for code that calls ``agatha_ckpt.checkpoint`` and the
    other functions, or makes its Checkpointers of dask's configuration. Afterwards the
    root and the settings are those from before.

    Parameters
    ----------
    **settings
        The fields of `Settings`.
    """
    import dask.config

    default = _facade._default
    store, before = default._store, default.settings
    with memory_checkpointer(**settings) as ckpt:
        default.store = ckpt.store
        default.configure(**vars(ckpt.settings))
        root = str(ckpt.store.root)
        try:
            with dask.config.set({"agatha-ckpt.root": root}):
                yield root
        finally:
            default.store = store
            default.configure(**vars(before))
