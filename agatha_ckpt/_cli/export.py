"""``agatha-ckpt export``: the records of a checkpoint for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

import click

from agatha_ckpt._cli.common import (
    complete_name,
    find_done,
    pickle_advice,
    pickle_option,
    takes_root,
)
from agatha_ckpt._cli.output import output_option, whole_file
from agatha_ckpt._cli.plain import NotPlainError, plain_line
from agatha_ckpt._cli.table import printable, terminal_columns
from agatha_ckpt._cli.tabular import (
    NotTabularError,
    Records,
    write_batches,
    write_csv,
    write_parquet,
)
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.records import records_of
from agatha_ckpt._store.store import CheckpointStore


@click.command(short_help="Write the records of a checkpoint as JSON, CSV or Parquet.")
@takes_root()
@click.argument("name", shell_complete=complete_name)
@output_option(default="-", show_default=True)
@click.option(
    "--format", "fmt", metavar="FORMAT", show_default=True, default="jsonl",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="jsonl, or for flat dicts and rows csv or parquet.",
)  # fmt: skip
@pickle_option
def export(
    store: CheckpointStore, name: str, output: str, fmt: str, allow_pickle: bool
) -> None:
    """Write the records of NAME under ROOT for other programs, by default to stdout.

    FILE is written whole or not at all. The memory does not grow with the checkpoint.

    jsonl is plain JSON, a record a line: tuples and sets are arrays, and what JSON does
    not have is a string (dates and times in ISO 8601, bytes in base64, nan and inf,
    decimals). `head` has tags for these instead. csv and parquet have a column for each
    key of a dict, or for each place in a row, and an empty cell where there is none.

    Example: agatha-ckpt export /data/run-1 terms -o terms.parquet --format parquet
    """
    folder, manifest = find_done(store, name)
    chunks = manifest.collection.get("chunks", ())
    if any(len(sizes) > 1 for sizes in chunks[1:]):
        raise click.ClickException(
            f"{folder.describe()} is an array whose blocks hold parts of rows; save it "
            "with whole rows (rechunk), or read the blocks (CheckpointStore.files)"
        )
    is_terminal = output == "-" and terminal_columns() is not None
    write: Any = {"csv": write_csv, "parquet": write_parquet}.get(
        fmt, partial(_write_jsonl, escaped=is_terminal)
    )
    if fmt == "parquet":
        _check_parquet(is_terminal)
    records = partial(records_of, folder, manifest, None, allow_pickle)
    if fmt != "jsonl" and hasattr(codec_for(manifest.plan.format), "batches"):
        batches = partial(_batches, folder, manifest)
        if fmt == "parquet":
            write, records = write_batches, batches
        else:  # which has the names of the columns also where there are no rows
            write = partial(write_csv, names=next(batches()).schema.names)
    try:
        with pickle_advice(folder.describe()), whole_file(output) as file:
            write(records, file)
    except NotTabularError as error:
        raise click.ClickException(
            f"{folder.describe()} cannot be written as {fmt}: {error}; "
            "use --format jsonl"
        ) from None
    except NotPlainError as error:
        raise click.ClickException(
            f"{folder.describe()} cannot be written as plain JSON: a record {error}; "
            "read it with CheckpointStore.records"
        ) from None


def _batches(folder: Folder, manifest: Manifest) -> Iterator[Any]:
    """Yield the rows of a frame as Arrow has them, whose types records do not keep."""
    codec: Any = codec_for(manifest.plan.format)
    for index, info in enumerate(manifest.partitions):
        with folder.reading(index, info) as file:
            yield from codec.batches(file, info)


def _check_parquet(is_terminal: bool) -> None:
    if is_terminal:
        raise click.UsageError("Parquet is not for a terminal; give -o FILE")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise click.ClickException(
            "Parquet needs pyarrow; pip install pyarrow, or use another --format"
        ) from None


def _write_jsonl(records: Records, sink: BinaryIO, escaped: bool) -> None:
    for record in records():
        line = plain_line(record)
        sink.write(f"{printable(line) if escaped else line}\n".encode())
