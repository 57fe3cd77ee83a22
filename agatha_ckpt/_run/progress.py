"""What is said while a bag is saved or loaded."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from dask.utils import format_bytes, format_time

from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._run.bar import aside, bar
from agatha_ckpt._run.decision import Decision
from agatha_ckpt._store.resume import Reusable

logger = logging.getLogger("agatha_ckpt")


class Reporter:
    """Says what happens to one checkpoint: printed if asked for, logged always.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    verbose : bool
        Whether to print, and to draw a bar while a bag is saved.
    """

    def __init__(self, name: str, verbose: bool) -> None:
        self._name = name
        self._verbose = verbose
        if verbose:
            with aside():
                print(
                    f"Checkpoint: {name} \t {datetime.now():%Y-%m-%d %H:%M:%S}",
                    flush=True,
                )

    def say(self, line: str, warn: bool = False) -> None:
        """Say one line; one to look at is logged as a warning if nobody sees it."""
        level = logging.WARNING if warn and not self._verbose else logging.INFO
        with aside():
            if self._verbose:
                print(f"\t- {line}", flush=True)
            logger.log(level, "checkpoint %r: %s", self._name, line)

    def bar(
        self, total: int, kept: Iterable[PartitionInfo]
    ) -> AbstractContextManager[Callable[[PartitionInfo], None] | None]:
        """Draw a bar, if asked for and where one can be seen.

        Parameters
        ----------
        total : int
            Number of partitions of the bag.
        kept : iterable of PartitionInfo
            Those that are stored already.

        Returns
        -------
        context manager
            It gives what to call with each partition as it is stored, or None.
        """
        return bar(self._name, total, kept) if self._verbose else nullcontext()


def passing(decision: Decision) -> str:
    """Return that a bag is handed back, and why."""
    return f"Passing the bag on: {decision.reason}"


def loading(decision: Decision, manifest: Manifest) -> str:
    """Return what is about to be loaded, and what there is to say of it."""
    line = f"Ready: {figures(manifest)}"
    return f"{line}; {decision.reason}" if decision.reason else line


def saving(decision: Decision, reusable: Reusable, missing: Sequence[int]) -> str:
    """Return what is about to be saved, what is kept, and why."""
    total = len(reusable.kept) + len(missing)
    line = f"Saving {len(missing):,} of {_count(total, 'partition')}"
    reasons = [decision.reason] if decision.reason else []
    if reusable.kept:
        reasons.append(f"{len(reusable.kept):,} kept, whole and from the same inputs")
    for reason, number in Counter(reusable.refused).items():
        reasons.append(f"{_count(number, 'file')} {reason} not kept")
    return "; ".join([line, *reasons])


def done(manifest: Manifest, computed: Iterable[int], seconds: float) -> str:
    """Return what was saved, in which time and at which rate.

    Parameters
    ----------
    manifest : Manifest
    computed : iterable of int
        Numbers of the partitions that were computed in that time.
    seconds : float
    """
    ours = [manifest.partitions[index] for index in computed]
    seconds = max(seconds, 1e-6)
    records = sum(info.records for info in ours) / seconds
    rate = f"{records:,.0f} records/s, {_size(ours, seconds)}/s"
    took = f"in {format_time(seconds).strip()}"
    kept = len(manifest.partitions) - len(ours)
    if kept:
        took = f"{kept:,} kept and {len(ours):,} computed {took}"
        return f"Done! {figures(manifest)}; {took} ({rate})"
    return f"Done! {figures(manifest)} {took} ({rate})"


def _size(infos: Iterable[PartitionInfo], seconds: float = 1) -> str:
    size: str = format_bytes(int(sum(max(info.bytes, 0) for info in infos) / seconds))
    return size


def figures(manifest: Manifest) -> str:
    """Return partitions, records where they were counted, and bytes."""
    partitions = manifest.partitions
    parts = [_count(len(partitions), "partition")]
    if all(info.records >= 0 for info in partitions):
        parts.append(_count(sum(info.records for info in partitions), "record"))
    parts.append(_size(partitions))
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
