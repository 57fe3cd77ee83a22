"""The progress bar: tqdm's, in a notebook or on a terminal, and nowhere else."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from threading import RLock
from typing import Any

from dask.utils import format_bytes

from agatha_ckpt._format.manifest import PartitionInfo


@contextmanager
def bar(
    name: str, total: int, kept: Iterable[PartitionInfo]
) -> Iterator[Callable[[PartitionInfo], None] | None]:
    """Draw a bar of partitions on stderr, where it is a terminal or a notebook.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    total : int
        Number of partitions of the bag.
    kept : iterable of PartitionInfo
        Those that are stored already, which count at once.

    Yields
    ------
    callable or None
        What to call with each partition as it is stored. A terminal that is gone
        makes no error of it: the save goes on.
    """
    stored = list(kept)
    drawn = None
    if len(stored) < total and _is_seen():
        with suppress(OSError, ValueError):
            drawn = _bars()(
                desc=name,
                total=total,
                initial=len(stored),
                unit="partition",
                file=sys.stderr,
                leave=False,
                **_width(),
                # Else tqdm guesses from the pace how many to wait for, and needs a
                # thread that looks whether it guessed wrong.
                miniters=1,
            )
    if drawn is None:
        yield None
        return
    records = sum(info.records for info in stored)
    size = sum(info.bytes for info in stored)

    def landed(info: PartitionInfo) -> None:
        nonlocal records, size
        records += info.records
        size += info.bytes
        with suppress(OSError, ValueError):
            text = f"{format_bytes(size)}, records: {records:,}"
            drawn.set_postfix_str(text, refresh=False)
            drawn.update()

    try:
        yield landed
    finally:
        with suppress(OSError, ValueError):
            drawn.close()


def aside() -> AbstractContextManager[object]:
    """Take the bars away while something is printed, and put them back after it."""
    if "tqdm" not in sys.modules:  # no bar of anybody's
        return nullcontext()
    taken_away: AbstractContextManager[object] = _bars().external_write_mode()
    return taken_away


def _is_seen() -> bool:
    return _in_notebook() or _is_terminal(sys.stderr)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _width() -> dict[str, Any]:
    """Return what makes the bar as wide as the terminal, also when that changes."""
    with suppress(OSError, ValueError, AttributeError):
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:  # it does not know
            return {"ncols": 80, "nrows": 24}
    return {"dynamic_ncols": True}


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


@cache
def _bars() -> Any:
    """Return tqdm's class for where we are, with a lock and without a thread."""
    from tqdm import TqdmWarning  # when the first one is drawn

    with warnings.catch_warnings():
        # That a notebook could have a nicer one: it has one of text instead.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

    def forget() -> None:
        # A child that was forked draws none of its parent's bars, and must not wait
        # for a thread of the parent that was drawing.
        Bar.set_lock(RLock())
        for one in [bar for bar in Bar._instances if isinstance(bar, Bar)]:
            Bar._instances.discard(one)

    # tqdm's own lock is also one between processes, which takes a semaphore of the
    # system; workers do not draw.
    Bar.set_lock(RLock())
    os.register_at_fork(after_in_child=forget)
    return Bar
