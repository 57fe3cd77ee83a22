"""Command line: parsing, printing, exit codes."""

import json
from typing import Any

import click
from dask.utils import format_bytes

from agatha_ckpt._errors import CheckpointError
from agatha_ckpt._status import Status
from agatha_ckpt._store import CheckpointStore


class _Group(click.Group):
    """Commands that end with one line on stderr where this library says no."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CheckpointError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.option("--storage-options", default="{}", help="Filesystem options, as JSON.")
@click.version_option(package_name="agatha-ckpt")
@click.pass_context
def main(ctx: click.Context, storage_options: str) -> None:
    """Look at the checkpoints of dask bags under ROOT, a path or fsspec URL.

    Exit codes: 0 where all is well, 1 where something is damaged or cannot be done,
    2 where the command line is wrong.
    """
    try:
        ctx.obj = dict(json.loads(storage_options).items())
    except (ValueError, AttributeError) as error:
        raise click.BadParameter(
            f"--storage-options is no JSON object ({error}); "
            "write it as '{\"key\": 1}'"
        ) from error


@main.command()
@click.argument("root")
@click.argument("pattern", default="*")
@click.pass_obj
def ls(options: dict[str, Any], root: str, pattern: str) -> None:
    """List the checkpoints under ROOT, done or partial.

    Example: agatha-ckpt ls /data/run-1 '*_sentences'
    """
    store = CheckpointStore(root, storage_options=options)
    found = [store.status(name) for name in store.folders(pattern)]
    rows = [_row(status) for status in found if status.state != "absent"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _row(status: Status) -> list[str]:
    state = status.state
    if state == "partial":
        state = f"partial {status.partitions}/{status.expected or '?'}"
    records = "" if status.records is None else f"{status.records:,} records"
    return [
        status.name,
        state,
        status.format or "",
        f"{status.partitions:,} partitions",
        records,
        format_bytes(status.bytes),
    ]


@main.command()
@click.argument("root")
@click.argument("pattern", default="*")
@click.pass_obj
def verify(options: dict[str, Any], root: str, pattern: str) -> None:
    """Read the done checkpoints under ROOT in full, and name what is damaged.

    Example: agatha-ckpt verify s3://bucket/run-1
    """
    store = CheckpointStore(root, storage_options=options)
    all_well = True
    for name in store.folders(pattern):
        status = store.status(name)
        problems = [status.problem] if status.problem else []
        if status.state == "done":
            problems += [
                f"partition {damaged.index}: {damaged.reason}"
                for damaged in store.verify(name)
            ]
        all_well = all_well and not problems
        if problems or status.state == "done":
            click.echo(
                "\n\t".join([f"{name}: {'damaged' if problems else 'ok'}", *problems])
            )
    if not all_well:
        raise click.exceptions.Exit(1)
