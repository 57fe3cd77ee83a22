"""What is said while a bag is saved or loaded."""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from dask.utils import format_bytes, format_time

from agatha_ckpt._decide import Decision
from agatha_ckpt._manifest import Manifest
from agatha_ckpt._survey import Survey

logger = logging.getLogger("agatha_ckpt")


class Reporter:
    """Says what happens to one checkpoint: printed if asked for, logged always.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    verbose : bool
        Whether to print.
    """

    def __init__(self, name: str, verbose: bool) -> None:
        self._name = name
        self._verbose = verbose
        if verbose:
            print(
                f"Checkpoint: {name} \t {datetime.now():%Y-%m-%d %H:%M:%S}", flush=True
            )

    def say(self, line: str, warn: bool = False) -> None:
        """Say one line; one to look at is logged as a warning if nobody sees it."""
        if self._verbose:
            print(f"\t- {line}", flush=True)
        level = logging.WARNING if warn and not self._verbose else logging.INFO
        logger.log(level, "checkpoint %r: %s", self._name, line)


def passing(decision: Decision) -> str:
    """Return that a bag is handed back, and why."""
    return f"Passing the bag on: {decision.reason}"


def loading(decision: Decision, manifest: Manifest) -> str:
    """Return what is about to be loaded, and what there is to say of it."""
    line = f"Ready: {figures(manifest)}"
    return f"{line}; {decision.reason}" if decision.reason else line


def saving(decision: Decision, survey: Survey, bag: str, missing: Sequence[int]) -> str:
    """Return what is about to be saved, what is kept, and why."""
    total = len(survey.kept) + len(missing)
    line = f"Saving {len(missing):,} of {_count(total, 'partition')}"
    reasons = [decision.reason] if decision.reason else []
    if survey.kept:
        reasons.append(f"{len(survey.kept):,} kept, whole and of the same plan")
    for reason, number in Counter(survey.refused).items():
        reasons.append(f"{_count(number, 'file')} {reason} not kept")
    if survey.bags - {bag}:
        reasons.append("some of those kept are of a graph with another name")
    return "; ".join([line, *reasons])


def figures(manifest: Manifest, seconds: float | None = None) -> str:
    """Return partitions, records, bytes, and the time and rate where known."""
    partitions = manifest.partitions
    parts = [_count(len(partitions), "partition")]
    if all(info.records >= 0 for info in partitions):
        parts.append(_count(sum(info.records for info in partitions), "record"))
    size = sum(max(info.bytes, 0) for info in partitions)
    parts.append(format_bytes(size))
    text = ", ".join(parts)
    if seconds is not None:
        text += f" in {format_time(seconds).strip()}"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
