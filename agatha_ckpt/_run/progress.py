"""Progress messages and the progress bar of one call."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._human import format_bytes, format_count, format_duration
from agatha_ckpt._run.decision import Decision, edited_code
from agatha_ckpt._store.resume import Reusable

logger = logging.getLogger("agatha_ckpt")

WEAK_COMMIT = (
    "save this name in one run at a time: the filesystem has no compare-and-swap"
)


class Reporter:
    """Prints progress messages of one checkpoint, if asked for, and logs them.

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
            _print(f"Checkpoint: {name} \t {datetime.now():%Y-%m-%d %H:%M:%S}")

    def report(self, line: str, warn: bool = False) -> None:
        """Print and log a line; as a warning where *warn* and it is not printed."""
        if self._verbose:
            _print(f"\t- {line}")
        level = logging.WARNING if warn and not self._verbose else logging.INFO
        logger.log(level, "checkpoint %r: %s", self._name, line)

    @contextmanager
    def bar(
        self, total: int, kept: Collection[PartitionInfo]
    ) -> Iterator[Callable[[PartitionInfo], None] | None]:
        """Draw a bar of partitions, if asked for, on a terminal or in a notebook.

        Parameters
        ----------
        total : int
            Number of partitions of the bag.
        kept : collection of PartitionInfo
            Those that are stored already.

        Yields
        ------
        callable or None
            To be called with each partition as it is stored.
        """
        if not self._verbose or not _is_seen() or len(kept) == total:
            yield None
            return
        from tqdm.auto import tqdm

        stored = list(kept)

        def landed(info: PartitionInfo) -> None:
            stored.append(info)
            records = sum(info.records for info in stored)
            text = f"{_size(stored)}, records: {records:,}"
            if drawn is None:
                return
            with suppress(OSError, ValueError):  # the terminal is gone
                drawn.set_postfix_str(text, refresh=False)
                drawn.update()

        drawn = None
        with suppress(OSError, ValueError):
            drawn = tqdm(
                desc=self._name,
                total=total,
                initial=len(stored),
                unit="partition",
                leave=False,
                dynamic_ncols=True,
            )
        try:
            yield landed
        finally:
            with suppress(OSError, ValueError):
                if drawn is not None:
                    drawn.close()


def _print(line: str) -> None:
    if "tqdm" not in sys.modules:
        print(line, flush=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode():  # bars are redrawn below the line
        print(line, flush=True)


def _is_seen() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    try:
        return hasattr(shell, "kernel") or sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False


def passing(decision: Decision) -> str:
    """Return the line of a call that returns its bag."""
    return f"Returning the bag as it is: {decision.reason}"


def loading(decision: Decision, manifest: Manifest) -> str:
    """Return the line of a call that loads."""
    line = f"Ready: {figures(manifest)}"
    return f"{line}; {decision.reason}" if decision.reason else line


def verified(manifest: Manifest, damaged: int) -> str:
    """Return the line of a repair that has read a checkpoint in full."""
    result = f"{damaged:,} damaged" if damaged else "all whole"
    return f"Verified {figures(manifest)}: {result}"


def saving(
    decision: Decision,
    reusable: Reusable,
    missing: Sequence[int],
    edited: Iterable[str],
    opaque: Sequence[str],
) -> str:
    """Return the line of a save that begins.

    Parameters
    ----------
    decision : Decision
    reusable : Reusable
    missing : sequence of int
        Numbers of the partitions that are computed.
    edited : iterable of str
        Steps whose code has changed since the partitions that are kept were stored.
    opaque : sequence of str
        Values that fingerprints do not cover.
    """
    total = len(reusable.kept) + len(missing)
    parts = [f"Saving {len(missing):,} of {format_count(total, 'partition')}"]
    if decision.reason:
        parts.append(decision.reason)
    if reusable.kept:
        parts.append(f"{len(reusable.kept):,} kept, whole and from the same inputs")
    parts += edited_code(edited)
    for reason, number in Counter(reusable.refused).items():
        parts.append(f"{format_count(number, 'file')} {reason} not kept")
    if opaque:
        parts.append(f"not compared: {', '.join(opaque)}")
    return "; ".join(parts)


def done(manifest: Manifest, computed: Iterable[int], seconds: float) -> str:
    """Return the line of a save that is done.

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
    elapsed = f"in {format_duration(seconds)}"
    kept = len(manifest.partitions) - len(ours)
    if kept:
        elapsed = f"{kept:,} kept and {len(ours):,} computed {elapsed}"
        return f"Done! {figures(manifest)}; {elapsed} ({rate})"
    return f"Done! {figures(manifest)} {elapsed} ({rate})"


def _size(infos: Iterable[PartitionInfo], seconds: float = 1) -> str:
    return format_bytes(sum(max(info.bytes, 0) for info in infos) / seconds)


def figures(manifest: Manifest) -> str:
    """Return partitions, records where they were counted, and bytes."""
    partitions = manifest.partitions
    parts = [format_count(len(partitions), "partition")]
    if all(info.records >= 0 for info in partitions):
        parts.append(format_count(sum(info.records for info in partitions), "record"))
    parts.append(_size(partitions))
    return ", ".join(parts)
