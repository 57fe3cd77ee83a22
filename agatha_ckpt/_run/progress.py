"""Progress messages and the progress bar of one call."""

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from time import perf_counter

from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._human import format_bytes, format_count, format_duration
from agatha_ckpt._run.decision import Decision, edited_code
from agatha_ckpt._run.events import Committed, Event, Loaded, PartitionStored, Started
from agatha_ckpt._run.printing import ipython_shell, print_line
from agatha_ckpt._store.resume import Reusable

logger = logging.getLogger("agatha_ckpt")

WEAK_COMMIT = (
    "save this name in one run at a time: the filesystem has no compare-and-swap"
)


class _Stored:
    """Running totals of what is stored."""

    def __init__(self, infos: Iterable[PartitionInfo]) -> None:
        self.partitions = self.records = self.bytes = 0
        for info in infos:
            self.add(info)

    def add(self, info: PartitionInfo) -> None:
        self.partitions += 1
        self.records += info.records
        self.bytes += max(info.bytes, 0)

    def figures(self) -> str:
        return f"{format_bytes(self.bytes)}, records: {self.records:,}"


class Reporter:
    """Prints progress messages of one checkpoint, if asked for; else logs them.

    The first to be called with each event. Nothing that it does raises.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    verbose : bool
        Whether to print, and to show how a save advances.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self, name: str, verbose: bool, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._name = name
        self._verbose = verbose
        self._clock = clock
        self._header = f"Checkpoint: {name} \t {datetime.now():%Y-%m-%d %H:%M:%S}"
        self._landed: Callable[[PartitionInfo], None] | None = None

    def __call__(self, event: Event) -> None:
        """Report an event."""
        if isinstance(event, PartitionStored) and self._landed:
            self._landed(event.info)
        if isinstance(event, Loaded | Started | Committed):
            self.report(event.line, getattr(event, "warn", False))

    def report(self, line: str, warn: bool = False) -> None:
        """Print a line, or log it; as a warning where *warn*."""
        header, self._header = self._header, ""
        if header and self._verbose:
            print_line(header)
        if self._verbose and print_line(f"\t- {line}"):
            return
        level = logging.WARNING if warn else logging.INFO
        with suppress(Exception):  # any, from a handler of the program's own
            logger.log(level, "checkpoint %r: %s", self._name, line)

    @contextmanager
    def bar(self, total: int, kept: Collection[PartitionInfo]) -> Iterator[None]:
        """Show how a save advances, if asked for, by each partition that is stored.

        By a bar on a terminal or in a notebook, else by lines: one for each minute, and
        of ten partitions or more one for each tenth, a second apart.

        Parameters
        ----------
        total : int
            Number of partitions of the collection.
        kept : collection of PartitionInfo
            Those that are stored already.
        """
        stored = _Stored(kept)
        if not self._verbose or stored.partitions == total:
            yield
        elif _is_seen():
            with _drawn(self._name, total, stored) as self._landed:
                yield
        else:
            self._landed = self._lines(total, stored)
            yield

    def _lines(self, total: int, stored: _Stored) -> Callable[[PartitionInfo], None]:
        last, tenth = self._clock(), stored.partitions * 10 // total

        def landed(info: PartitionInfo) -> None:
            nonlocal last, tenth
            stored.add(info)
            passed = self._clock() - last
            reached = stored.partitions * 10 // total
            is_tenth = total >= 10 and reached > tenth and passed >= 1
            if stored.partitions < total and (is_tenth or passed >= 60):
                last, tenth = self._clock(), reached
                of = format_count(total, "partition")
                self.report(f"{stored.partitions:,} of {of} stored, {stored.figures()}")

        return landed


@contextmanager
def _drawn(
    name: str, total: int, stored: _Stored
) -> Iterator[Callable[[PartitionInfo], None]]:
    """Draw a bar of partitions."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets it warns, and draws by characters.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    drawn = None
    with suppress(Exception):  # the terminal is gone, or cannot show the name
        drawn = tqdm(
            desc=name,
            total=total,
            initial=stored.partitions,
            unit="partition",
            leave=False,
            dynamic_ncols=True,
        )

    def landed(info: PartitionInfo) -> None:
        stored.add(info)
        if drawn is None:
            return
        with suppress(Exception):
            drawn.set_postfix_str(stored.figures(), refresh=False)
            drawn.update()

    try:
        yield landed
    finally:
        with suppress(Exception):
            if drawn is not None:
                drawn.close()


def _is_seen() -> bool:
    try:
        return hasattr(ipython_shell(), "kernel") or sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False


def passing(decision: Decision) -> str:
    """Return the line of a call that returns its bag."""
    return f"Returning the collection as it is: {decision.reason}"


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


def adopted(manifest: Manifest) -> str:
    """Return the line of a save that another run has made before."""
    return (
        "Another run with the same inputs was first; taking its records: "
        f"{figures(manifest)}"
    )


def done(manifest: Manifest, computed: Iterable[int], seconds: float | None) -> str:
    """Return the line of a save that is done.

    Parameters
    ----------
    manifest : Manifest
    computed : iterable of int
        Numbers of the partitions that were computed in that time.
    seconds : float, optional
        None where that is not known.
    """
    ours = _Stored(manifest.partitions[index] for index in computed)
    line = f"Done! {figures(manifest)}"
    if kept := len(manifest.partitions) - ours.partitions:
        line += f"; {kept:,} kept and {ours.partitions:,} computed"
    if seconds is not None:
        seconds = max(seconds, 1e-6)
        records, size = ours.records / seconds, format_bytes(ours.bytes / seconds)
        line += f" in {format_duration(seconds)} ({records:,.0f} records/s, {size}/s)"
    return line


def figures(manifest: Manifest) -> str:
    """Return partitions, records where they were counted, and bytes."""
    parts = [format_count(len(manifest.partitions), "partition")]
    if manifest.records is not None:
        parts.append(format_count(manifest.records, "record"))
    return ", ".join([*parts, format_bytes(manifest.bytes)])
