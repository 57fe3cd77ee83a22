"""Clearing checkpoints, where the settings allow it."""

import os

from agatha_ckpt._errors import read_only_refusal
from agatha_ckpt._run.progress import Reporter
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.store import CheckpointStore


def clear(
    store: CheckpointStore, name: str | os.PathLike[str], settings: Settings
) -> bool:
    """Clear a checkpoint, and report whether there was one.

    Raises
    ------
    InvalidValueError
        ``read_only=True`` is set.
    """
    folder = store._folder(name)
    if settings.read_only:
        raise read_only_refusal(folder.describe(), "cleared")
    is_cleared = store.clear(name)
    reporter = Reporter(folder.name, settings.verbose)
    reporter.report("Cleared" if is_cleared else f"No {folder.describe()} to clear")
    return is_cleared


def clear_all(store: CheckpointStore, settings: Settings) -> None:
    """Clear every checkpoint of a store.

    Raises
    ------
    InvalidValueError
        ``read_only=True`` is set.
    """
    if settings.read_only:
        raise read_only_refusal(f"what {store!r} holds", "cleared")
    store.clear_all()
