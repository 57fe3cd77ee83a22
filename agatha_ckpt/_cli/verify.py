"""``agatha-ckpt verify``: whether it is what was saved."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import click
from tqdm import tqdm

from agatha_ckpt._cli.common import ALLOWED, found, takes_root
from agatha_ckpt._cli.table import coloured, width
from agatha_ckpt._errors import refusal
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import LEGACY
from agatha_ckpt._human import count
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import DamagedPartition, find_faults, find_missing


@click.command(short_help="Read everything in full, and name what is damaged.")
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option("--fast", is_flag=True, help="Only compare the sizes of the files.")
@click.option(
    "--allow-pickle", is_flag=True,
    help="Unpickle what Agatha itself wrote, which can run any code; without it only "
    "the presence of those files is checked.",
)  # fmt: skip
def verify(
    store: CheckpointStore, pattern: str, fast: bool, allow_pickle: bool
) -> None:
    """Read what is done under ROOT and matches GLOB in full; name what is damaged.

    Every checksum and digest is compared, many partitions at once. The exit code is 1
    where something is damaged or may not be read, or where nothing matches GLOB.

    Example: agatha-ckpt verify s3://bucket/run-1 '*_sentences'
    """
    statuses = list(found(store, pattern, must_match=True))
    done = [(s.name, s.manifest) for s in statuses if s.manifest]
    column = max((width(status.name) for status in statuses), default=0)
    met: Counter[str] = Counter()
    with tqdm(
        total=sum(info.bytes for _, m in done for info in m.partitions),
        desc="verifying", unit="B", unit_scale=True, unit_divisor=1024,
        leave=False, disable=True if fast else None,  # None: unless on a terminal
    ) as bar:  # fmt: skip
        faults = (
            _by_size(store, done) if fast else _read(store, done, allow_pickle, bar)
        )
        for status in statuses:
            found_here = next(faults) if status.manifest else []
            word = _word(status, found_here)
            met[word] += 1
            lines = [status.problem] if status.problem else grouped(found_here)
            with bar.external_write_mode(sys.stdout):
                click.echo(_result(status, word, column, allow_pickle))
                for line in lines:
                    click.echo(f"    {line}")
    if met["damaged"] or met[State.UNREADABLE]:
        raise click.ClickException(_summary(met))


def _word(status: Status, faults: list[DamagedPartition]) -> str:
    """Return what is wrong with a checkpoint in one word; "" where nothing is."""
    if status.state == State.UNREADABLE:
        return State.UNREADABLE
    if status.problem or any(type(fault) is DamagedPartition for fault in faults):
        return "damaged"
    return State.UNREADABLE if faults else ""


def _summary(met: Counter[str]) -> str:
    """Return how many checkpoints are not well, and what to do."""
    words = [word for word in ("damaged", State.UNREADABLE) if met[word]]
    first, *more = [f"{met[word]:,}" for word in words]
    text = f"{first} of {count(met.total(), 'checkpoint')} {words[0]}"
    if more:
        text += f", {more[0]} {words[1]}"
    mending = (
        "Checkpointer.repair(name, bag) computes again what is damaged; or clear it"
    )
    return f"{text}; {mending if met['damaged'] else ALLOWED}"


def _result(status: Status, word: str, column: int, allow_pickle: bool) -> str:
    name = status.name + " " * (column - width(status.name))
    if word:
        return f"{name}  {coloured(word)}"
    if status.state != "done":
        return f"{name}  {coloured(cells(status)['state'])}, not checked"
    unread = status.format == LEGACY and not allow_pickle
    note = ", but for the content of its pickles" if unread else ""
    return f"{name}  {coloured('ok')}{note}"


class Unreadable(DamagedPartition):
    """A partition whose file may not be read: whether it is damaged is not known."""


def _read(
    store: CheckpointStore,
    done: list[tuple[str, Manifest]],
    allow_pickle: bool,
    bar: "tqdm[None]",
) -> Iterator[list[DamagedPartition]]:
    folders = ((store._folder(name), manifest) for name, manifest in done)
    faults = find_faults(folders, allow_pickle, store._files.concurrent)
    for _, manifest in done:
        found: list[DamagedPartition] = []
        for index, info in enumerate(manifest.partitions):
            for fault in islice(faults, 1):
                if isinstance(fault, PermissionError):
                    found.append(Unreadable(index, refusal(fault)))
                elif fault:
                    found.append(DamagedPartition(index, fault))
            bar.update(max(info.bytes, 0))
        yield found


def _by_size(
    store: CheckpointStore, done: list[tuple[str, Manifest]]
) -> Iterator[list[DamagedPartition]]:
    def missing(one: tuple[str, Manifest]) -> list[DamagedPartition]:
        name, manifest = one
        try:
            return find_missing(store._folder(name), manifest)
        except PermissionError as error:
            reason = refusal(error)
            return [Unreadable(i, reason) for i in range(len(manifest.partitions))]

    return map_ordered(missing, done, store._files.concurrent)


def grouped(damaged: Iterable[DamagedPartition]) -> Iterator[str]:
    """Yield a line for each reason, with the partitions that have it.

    Examples
    --------
    >>> gone = [DamagedPartition(i, "its file is missing") for i in (1, 4, 5, 6)]
    >>> list(grouped([*gone, DamagedPartition(7, "it is empty")]))
    ['partitions 1, 4-6: its file is missing', 'partition 7: it is empty']
    """
    by_reason: dict[str, list[int]] = {}
    for one in damaged:
        by_reason.setdefault(one.reason, []).append(one.index)
    for reason, indexes in by_reason.items():
        noun = "partition" if len(indexes) == 1 else "partitions"
        yield f"{noun} {_ranges(indexes)}: {reason}"


def _ranges(indexes: list[int]) -> str:
    runs: list[list[int]] = []
    for index in indexes:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
