"""Which filesystems several threads may use at once."""

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import OpenFile
from fsspec.implementations.arrow import ArrowFSWrapper

_LOCK = "_checkpoint_lock"


def layers(fs: AbstractFileSystem) -> Iterator[AbstractFileSystem]:
    """Yield a filesystem and those that it uses, as ``dir::`` uses another."""
    seen: list[AbstractFileSystem] = [fs]
    for layer in seen:  # grows meanwhile
        yield layer
        for value in vars(layer).values():
            held = value.values() if isinstance(value, dict) else [value]
            for one in held:
                inner = one.fs if isinstance(one, OpenFile) else one
                if isinstance(inner, AbstractFileSystem) and not any(
                    inner is known for known in seen
                ):
                    seen.append(inner)


def is_concurrent(fs: AbstractFileSystem) -> bool:
    """Return whether several threads may use a filesystem at once.

    One that is not asynchronous may have a single connection, as SFTP and FTP have.
    """
    return all(
        getattr(layer, "async_impl", False) or isinstance(layer, ArrowFSWrapper)
        for layer in layers(fs)
    )


def lock_of(fs: AbstractFileSystem) -> Any:
    """Return the lock that goes with the connection of a filesystem."""
    *_, innermost = layers(fs)
    # fsspec hands out one object for equal options, and each store that uses it must
    # get the same lock. setdefault is atomic.
    return vars(innermost).setdefault(_LOCK, threading.RLock())


def knows(function: Callable[..., Any], parameter: str) -> bool:
    """Return whether a function has a parameter of that name."""
    return parameter in inspect.signature(function).parameters
