"""``agatha-ckpt head``: the first records of a checkpoint."""

import sys
from itertools import chain, islice

import click

from agatha_ckpt._cli.common import (
    complete_name,
    find_done,
    pickle_advice,
    pickle_option,
    takes_root,
)
from agatha_ckpt._cli.records import json_line
from agatha_ckpt._store.records import partitions_of
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
    folder, manifest = find_done(store, name)
    chosen = None if partition is None else [partition]
    partitions = partitions_of(folder, manifest, chosen, allow_pickle)
    records = chain.from_iterable(found.first(number) for found in partitions)
    ascii_only = not _stdout_is_unicode()
    with pickle_advice(folder.describe()):
        for record in islice(records, number):
            click.echo(json_line(record, ascii_only))


def _stdout_is_unicode() -> bool:
    encoding = getattr(sys.stdout, "encoding", None)
    return str(encoding).lower().replace("-", "").startswith("utf")
