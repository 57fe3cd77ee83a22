"""``agatha-ckpt verify``: whether it is what was saved."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import click
from tqdm import tqdm

from agatha_ckpt._cli_base import found, takes_root
from agatha_ckpt._cli_table import coloured, width
from agatha_ckpt._figures import count
from agatha_ckpt._folder import Damaged
from agatha_ckpt._layout import LEGACY
from agatha_ckpt._manifest import Manifest
from agatha_ckpt._status import Status
from agatha_ckpt._store import CheckpointStore
from agatha_ckpt._table import cells
from agatha_ckpt._threads import in_threads


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
    where something is damaged, or where nothing matches GLOB.

    Example: agatha-ckpt verify s3://bucket/run-1 '*_sentences'
    """
    statuses = list(found(store, pattern, must_match=True))
    done = [(s.name, s.manifest) for s in statuses if s.manifest]
    column = max((width(status.name) for status in statuses), default=0)
    damaged = 0
    with tqdm(
        total=sum(info.bytes for _, m in done for info in m.partitions),
        desc="verifying", unit="B", unit_scale=True, unit_divisor=1024,
        leave=False, disable=True if fast else None,  # None: unless on a terminal
    ) as bar:  # fmt: skip
        faults = (
            _by_size(store, done) if fast else _read(store, done, allow_pickle, bar)
        )
        for status in statuses:
            lines = _faults(status, faults)
            damaged += bool(lines)
            with bar.external_write_mode(sys.stdout):
                click.echo(_result(status, bool(lines), column, allow_pickle))
                for line in lines:
                    click.echo(f"    {line}")
    if damaged:
        raise click.ClickException(
            f"{damaged} of {count(len(statuses), 'checkpoint')} damaged; "
            "Checkpointer.repair(name, bag) computes again what is damaged; or clear it"
        )


def _faults(status: Status, faults: Iterator[list[Damaged]]) -> list[str]:
    if status.problem:
        return [status.problem]
    return list(grouped(next(faults))) if status.manifest else []


def _result(status: Status, is_damaged: bool, column: int, allow_pickle: bool) -> str:
    name = status.name + " " * (column - width(status.name))
    if is_damaged:
        return f"{name}  {coloured('damaged')}"
    if status.state != "done":
        return f"{name}  {coloured(cells(status)['state'])}, not checked"
    unread = status.format == LEGACY and not allow_pickle
    note = ", but for the content of its pickles" if unread else ""
    return f"{name}  {coloured('ok')}{note}"


def _read(
    store: CheckpointStore,
    done: list[tuple[str, Manifest]],
    allow_pickle: bool,
    bar: "tqdm[None]",
) -> Iterator[list[Damaged]]:
    faults = store.faults(done, allow_pickle)
    for _, manifest in done:
        damaged = []
        for index, info in enumerate(manifest.partitions):
            for fault in islice(faults, 1):
                if fault:
                    damaged.append(Damaged(index, fault))
            bar.update(max(info.bytes, 0))
        yield damaged


def _by_size(
    store: CheckpointStore, done: list[tuple[str, Manifest]]
) -> Iterator[list[Damaged]]:
    return in_threads(lambda one: store.missing(*one), done)


def grouped(damaged: Iterable[Damaged]) -> Iterator[str]:
    """Yield a line for each reason, with the partitions that have it.

    Examples
    --------
    >>> gone = [Damaged(i, "its file is missing") for i in (1, 4, 5, 6)]
    >>> list(grouped([*gone, Damaged(7, "it is empty")]))
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
