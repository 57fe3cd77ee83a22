"""The default Checkpointer, and the documented functions over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack, cast

from agatha_ckpt._caller_frame import checkpoint_variable
from agatha_ckpt._checkpointer import Checkpointer
from agatha_ckpt._run.signatures import typed
from agatha_ckpt._settings import (
    CkptOptions,
    Compression,
    OnError,
    OnStale,
    Settings,
)
from agatha_ckpt._store.root import make_root
from agatha_ckpt._store.store import CheckpointStore

_default = Checkpointer()


@typed
def checkpoint(
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

    As `Checkpointer.checkpoint` of the default Checkpointer, whose settings
    `set_verbose` and the other setters change.

    Parameters
    ----------
    name : str or os.PathLike
        Name of the checkpoint, or its path directly under the root.
    bag : dask collection, optional
        What to save. Without it the checkpoint must be done.
    verbose, allow_partial : bool, optional
        In place of the settings of that name, for this call.
    halt_after : str, optional
        In place of the halt point: stop after exactly the checkpoint of this name.
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
        Other fields of `Settings`, for this call; and what dask takes: ``scheduler``
        and the keywords of that scheduler.

    Returns
    -------
    dask collection or None
        One of the same kind that loads the checkpoint. After `disable`, the one that
        was given. None with ``textfile=True``.

    Raises
    ------
    RootNotSetError
        No root was set, or it cannot be written to.
    CheckpointError, CheckpointHalt, TypeError
        As `Checkpointer.checkpoint`.
    """
    return _default.checkpoint(
        name,
        bag,
        verbose,
        allow_partial,
        halt_after,
        textfile,
        version=version,
        overwrite=overwrite,
        metadata=metadata,
        **options,
    )


def ckpt(
    bag_name: str, ckpt_prefix: str | None = None, **kwargs: Unpack[CkptOptions]
) -> None:
    """Replace the variable *bag_name* of the caller by its checkpoint.

    ``ckpt("sentences")`` is ``sentences = checkpoint("sentences", sentences)``.

    Parameters
    ----------
    bag_name : str
        Name of a variable of the caller that holds a collection; also the name of the
        checkpoint.
    ckpt_prefix : str, optional
        The checkpoint is called *ckpt_prefix*, ``_``, *bag_name*, so that functions
        which use the same variable names can save different checkpoints.
    **kwargs
        Those of `checkpoint`. With ``textfile=True`` the variable stays.

    Raises
    ------
    InvalidNameError
        The caller sees no variable of that name.
    EncodeError
        It does not hold a collection.
    CheckpointError
        As `checkpoint`.
    """
    checkpoint_variable(checkpoint, sys._getframe(1), bag_name, ckpt_prefix, kwargs)


def set_root(
    root: str | os.PathLike[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    fsync: bool = True,
    **options: Any,
) -> None:
    """Set the path or fsspec URL of the folder of the checkpoints.

    A local folder is made; on a bucket nothing is written, and the bucket must
    exist. *storage_options* and *options* go to the filesystem. The root may also be
    given by the name ``ckpt_root``.

    Raises
    ------
    RootNotSetError
        The root is empty, is a file, or cannot be made.
    InvalidValueError
        *storage_options* is not a dict, or *fsync* not a bool.
    """
    root = options.pop("ckpt_root", root)
    if options:
        storage_options = {**(storage_options or {}), **options}
    # The store refuses None with a message of its own.
    store = CheckpointStore(
        cast(str, root), storage_options=storage_options, fsync=fsync
    )
    make_root(store._root, store._files)
    _default.store = store


def get_root() -> Path | str:
    """Return the root as it was given: a path on local disk, a URL elsewhere.

    Raises
    ------
    RootNotSetError
        None was set, and dask's configuration has none.
    """
    return _default.store.root


def enable() -> None:
    """Save and load checkpoints again, after `disable`."""
    _default.configure(enabled=True)


def disable() -> None:
    """Make `checkpoint` return the collection that it is given.

    Without one, a done checkpoint still loads.
    """
    _default.configure(enabled=False)


def set_allow_partial(allow: bool) -> None:
    """Set whether the whole partitions of an unfinished run are kept."""
    _default.configure(allow_partial=allow)


def get_allow_partial() -> bool:
    """Return whether the whole partitions of an unfinished run are kept."""
    return _default.settings.allow_partial


def set_verbose(is_verbose: bool) -> None:
    """Set whether progress messages are printed."""
    _default.configure(verbose=is_verbose)


def get_verbose() -> bool:
    """Return whether progress messages are printed."""
    return _default.settings.verbose


def set_allow_pickle(allow: bool) -> None:
    """Set whether values of other types are pickled, and pickles are loaded.

    Unpickling can run any code: allow it only where you trust everyone who can
    write to the root.
    """
    _default.configure(allow_pickle=allow)


def get_allow_pickle() -> bool:
    """Return whether values of other types are pickled, and pickles are loaded."""
    return _default.settings.allow_pickle


def set_compression(compression: Compression) -> None:
    """Set how new partitions are compressed: ``"auto"``, None or ``"zstd"``."""
    _default.configure(compression=compression)


def get_compression() -> Compression:
    """Return how new partitions are compressed: ``"auto"``, None or ``"zstd"``."""
    return _default.settings.compression


def set_on_stale(on_stale: OnStale) -> None:
    """Set what happens to a stale checkpoint.

    ``"warn"`` loads it with a warning, ``"recompute"`` computes it again, ``"error"``
    raises CheckpointConflictError.
    """
    _default.configure(on_stale=on_stale)


def get_on_stale() -> OnStale:
    """Return what happens to a stale checkpoint."""
    return _default.settings.on_stale


def set_on_error(on_error: OnError) -> None:
    """Set what happens when a partition fails.

    ``"raise"`` raises its error at once, ``"continue"`` tries the others first, and
    then raises PartitionsFailedError.
    """
    _default.configure(on_error=on_error)


def get_on_error() -> OnError:
    """Return what happens when a partition fails."""
    return _default.settings.on_error


def set_read_only(is_read_only: bool) -> None:
    """Set whether what is done is loaded, and nothing is written."""
    _default.configure(read_only=is_read_only)


def get_read_only() -> bool:
    """Return whether what is done is loaded, and nothing is written."""
    return _default.settings.read_only


def set_halt_point(name: str) -> None:
    """Set the name of the checkpoint after which the program stops."""
    _default.configure(halt_after=name)


def clear_halt_point() -> None:
    """Remove the halt point."""
    _default.configure(halt_after=None)


def is_ckpt_done(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is done; nothing is written.

    Raises
    ------
    RootNotSetError, InvalidNameError
    """
    return _default.is_done(name)


def get_checkpoints_like(glob_pattern: str) -> set[str]:
    """Return the names of the done checkpoints that match a shell pattern.

    For a stable order use ``sorted``, or ``Checkpointer.names``.

    Raises
    ------
    RootNotSetError
    """
    return set(_default.names(glob_pattern))


def get_or_make_ckpt_dir(name: str | os.PathLike[str]) -> Path | str:
    """Return the folder of a checkpoint, made if it is on local disk.

    Raises
    ------
    RootNotSetError, InvalidNameError
    """
    store = _default.store
    folder = store._folder(name)
    folder.make()
    return store.path(name)


def get_done_file_path(name: str | os.PathLike[str]) -> Path | str:
    """Return where the done marker of a checkpoint is or would be.

    Raises
    ------
    RootNotSetError, InvalidNameError
    """
    return _default.store.done_marker(name)


def clear_ckpt(name: str | os.PathLike[str]) -> bool:
    """Remove a checkpoint, done or partial, and return whether there was one.

    Files that are not this library's stay.

    Raises
    ------
    RootNotSetError, InvalidNameError
    """
    return _default.clear(name)


def clear_all_ckpt() -> None:
    """Remove all checkpoints and empty folders directly under the root.

    Files that are not this library's stay, and so do the root and what links lead to.

    Raises
    ------
    RootNotSetError
    """
    _default.clear_all()


def reset() -> None:
    """Forget the root, and put every setting back to its default."""
    _default.store = None
    _default.configure(**vars(Settings()))
