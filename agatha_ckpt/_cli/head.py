"""``agatha-ckpt head``: the first records of a checkpoint."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from agatha_ckpt._cli.common import (
    check_names,
    complete_name,
    pickle_advice,
    pickle_option,
    takes_root,
)
from agatha_ckpt._cli.records import json_line
from agatha_ckpt._errors import CheckpointNotFoundError
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._human import format_count
from agatha_ckpt._store.store import CheckpointStore


@click.command(short_help="Print the first records of a checkpoint as JSON.")
@takes_root()
@click.argument("name", shell_complete=complete_name)
@click.option(
    "-n", "number", metavar="N", default=10, show_default=True,
    type=click.IntRange(min=0), help="Number of records.",
)  # fmt: skip
@click.option(
    "--partition", metavar="I", type=click.IntRange(min=0),
    help="Only of this partition, numbered from 0.",
)  # fmt: skip
@pickle_option
def head(
    store: CheckpointStore,
    name: str,
    number: int,
    partition: int | None,
    allow_pickle: bool,
) -> None:
    """Print the first records of NAME under ROOT as JSON, one a line.

    No more is read than they take. Lines of a text checkpoint are therefore not
    checked; all other records are.

    A value that JSON does not have is an object with one key, a tag:
    {"$tuple": [1, 2]}, and so $set, $frozenset, $deque, $bytes and $bytearray
    (base64), $int (hexadecimal, above 2,000 bits), $float (nan, inf), $complex,
    $datetime, $date, $time, $timedelta (seconds), $decimal, $fraction, $uuid, $path,
    $ndarray and $numpy (a scalar), $object (its repr), and pairs of key and value for
    $counter, $ordereddict, $defaultdict, and $dict (with keys that are not strings, or
    begin with $).

    Example: agatha-ckpt head /data/run-1 sentences -n 3 --partition 7
    """
    folder = store._folder(name)
    try:
        manifest = folder.manifest()
    except CheckpointNotFoundError:
        check_names(store, [name])  # raises with the nearest names
        raise
    if partition is not None and partition >= len(manifest.partitions):
        raise click.ClickException(
            f"there is no partition {partition} in {folder.describe()}, which has "
            f"{format_count(len(manifest.partitions), 'partition')}, numbered from 0"
        )
    indexes = range(len(manifest.partitions)) if partition is None else [partition]
    ascii_only = not _stdout_is_unicode()
    records = _records(store, name, manifest, indexes, number, allow_pickle)
    with pickle_advice(folder.describe()):
        for record in islice(records, number):
            click.echo(json_line(record, ascii_only))


def _records(
    store: CheckpointStore,
    name: str,
    manifest: Manifest,
    indexes: range | list[int],
    number: int,
    allow_pickle: bool,
) -> Iterator[Any]:
    for index in indexes:
        info = manifest.partitions[index]
        if info.records:
            yield from store.open_partition(
                name, manifest.plan, index, info, allow_pickle=allow_pickle
            ).first(number)


def _stdout_is_unicode() -> bool:
    encoding = getattr(sys.stdout, "encoding", None)
    return str(encoding).lower().replace("-", "").startswith("utf")
