"""``agatha-ckpt ls``: the checkpoints of a root."""

import json
from typing import Any

import click

from agatha_ckpt._cli.common import PERMISSION_HINT, find_statuses, takes_root
from agatha_ckpt._cli.table import printable, state_cell, table
from agatha_ckpt._human import format_count
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore

_HEADER = (
    "NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS", "SIZE", "AGE", "VERSION",
)  # fmt: skip
_SIDES = "<<<>>>><"


@click.command()
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
def ls(store: CheckpointStore, pattern: str, as_json: bool) -> None:
    """List the checkpoints under ROOT whose name matches GLOB, by name.

    The state is done; partial, with how many of its partitions are stored; damaged,
    where the done marker is cut or changed; unsupported, where it is in another
    version of the format; or unreadable, where this account has no permission to read
    it (the exit code is then 1). The reasons are printed below the table. The age is
    that of the commit, or of the newest file of a partial.

    Example: agatha-ckpt ls /data/run-1 '*_sentences'
    """
    rows, records, problems, unreadable = [], [], [], 0
    for status in find_statuses(store, pattern):  # whose manifests are not kept
        rows.append(_row(status))
        records.append(json_object(status))
        if status.problem:
            problems.append(status.problem)
        unreadable += status.state is State.UNREADABLE
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif rows:
        click.echo("\n".join(table(_HEADER, rows, _SIDES)))
        for problem in problems:
            click.echo(f"\n{problem}", err=True)
    if unreadable:
        raise click.ClickException(
            f"{unreadable:,} of {format_count(len(rows), 'checkpoint')} unreadable; "
            f"{PERMISSION_HINT}"
        )


def _row(status: Status) -> list[str]:
    name, _, *others = cells(status).values()
    return [name, state_cell(status), *map(printable, others)]


def json_object(status: Status) -> dict[str, Any]:
    """Return a checkpoint as ``--json`` prints it."""
    manifest, is_known = status.manifest, status.state is not State.UNREADABLE
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
