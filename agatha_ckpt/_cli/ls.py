"""``agatha-ckpt ls``: what is there."""

import json
from typing import Any

import click

from agatha_ckpt._cli.common import ALLOWED, found, takes_root
from agatha_ckpt._cli.table import coloured, printable, table
from agatha_ckpt._human import count
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore

HEADER = (
    "NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS", "SIZE", "AGE", "VERSION",
)  # fmt: skip
RIGHT = "<<<>>>><"


@click.command()
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
def ls(store: CheckpointStore, pattern: str, as_json: bool) -> None:
    """List the checkpoints under ROOT whose name matches GLOB, by name.

    The state is done, partial (how many of its partitions are stored), damaged (its
    done marker cannot be read; the reason is printed below the table), unsupported (it
    is in another version of the format) or unreadable (this account has no permission
    to read it, and the exit code is 1). The age is that of the commit, or of the newest
    file of a partial.

    Example: agatha-ckpt ls /data/run-1 '*_sentences'
    """
    rows, records, problems, unreadable = [], [], [], 0
    for status in found(store, pattern):  # their manifests are dropped at once
        rows.append(row(status))
        records.append(record(status))
        if status.problem:
            problems.append(status.problem)
        unreadable += status.state == State.UNREADABLE
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif rows:
        click.echo("\n".join(table(HEADER, rows, RIGHT)))
        for problem in problems:
            click.echo(f"\n{problem}", err=True)
    if unreadable:
        raise click.ClickException(
            f"{unreadable:,} of {count(len(rows), 'checkpoint')} unreadable; {ALLOWED}"
        )


def row(status: Status) -> list[str]:
    """Return the cells of a checkpoint's line."""
    name, state, *others = cells(status).values()
    return [name, coloured(state), *map(printable, others)]


def record(status: Status) -> dict[str, Any]:
    """Return what ``--json`` says of a checkpoint."""
    manifest, is_known = status.manifest, status.state != State.UNREADABLE
    return {
        "name": status.name,
        "state": status.state,
        "format": status.format,
        "partitions": status.partitions if is_known else None,
        "expected": status.expected,
        "records": status.records,
        "bytes": status.bytes if is_known else None,
        "created": status.created,
        "changed": status.changed,
        "version": status.version,
        "id": manifest.id if manifest else None,
        "parents": [name for name, _ in manifest.plan.parents] if manifest else [],
        "problem": status.problem,
    }
