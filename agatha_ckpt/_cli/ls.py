"""``agatha-ckpt ls``: the checkpoints of a root."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import click

from agatha_ckpt._cli.common import UNREADABLE_HINT, find_statuses, takes_root
from agatha_ckpt._cli.table import printable, state_cell, table
from agatha_ckpt._human import format_count
from agatha_ckpt._report.lineage import Lineage, find_lineages
from agatha_ckpt._store.status import State, Status, cells
from agatha_ckpt._store.store import CheckpointStore

_HEADER = (
    "NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS", "SIZE", "AGE", "VERSION", "",
)  # fmt: skip
_SIDES = "<<<>>>><"
_SPARE = ("FORMAT", "VERSION", "PARTITIONS", "RECORDS", "SIZE", "AGE")


@click.command(short_help="List the checkpoints under ROOT.")
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
def ls(store: CheckpointStore, pattern: str, as_json: bool) -> None:
    """List the checkpoints under ROOT whose name matches GLOB, by name.

    The state is done; stale, where a parent has other records now, is gone or is
    stale; partial, with how many of its partitions are stored; damaged, where the done
    marker is cut or changed; unsupported, where it is in another version of the format;
    or unreadable, where this account has no permission to read it or the disk has a
    fault (the exit code is then 1). The age is that of the commit, or of the newest
    file of a partial.

    Example: agatha-ckpt ls /data/run-1 '*_sentences'
    """
    found: list[Status] = []
    objects: list[dict[str, Any]] = []

    def collect() -> Iterator[Status]:
        for status in find_statuses(store, pattern):
            found.append(replace(status, manifest=None))  # which can be large
            objects.append(json_object(status))
            yield status

    lineages = find_lineages(collect())
    if pattern != "*" and any(item["parents"] for item in objects):
        lineages = find_lineages(store.statuses())  # a parent need not match
    stale = [lineages.get(status.name, Lineage()).stale for status in found]
    if as_json:
        pairs = zip(objects, stale, strict=True)
        array = [item | {"stale": list(reasons)} for item, reasons in pairs]
        click.echo(json.dumps(array, indent=2))
    elif found:
        rows = map(_row, found, stale)
        click.echo("\n".join(table(_HEADER, rows, _SIDES, _SPARE)))
        for status in found:
            if status.problem:
                click.echo(f"\n{status.problem}", err=True)
    unreadable = sum(status.state is State.UNREADABLE for status in found)
    if unreadable:
        raise click.ClickException(
            f"{unreadable:,} of {format_count(len(found), 'checkpoint')} unreadable; "
            f"{UNREADABLE_HINT}"
        )


def _row(status: Status, stale: Sequence[str]) -> list[str]:
    name, _, *others = cells(status).values()
    state = state_cell(status, stale=bool(stale))
    return [name, state, *map(printable, [*others, "; ".join(stale)])]


def json_object(status: Status) -> dict[str, Any]:
    """Return a checkpoint as ``--json`` prints it."""
    manifest, is_known = status.manifest, status.state is not State.UNREADABLE
    return {
        "name": status.name,
        "state": status.state,
        "kind": manifest.collection["kind"] if manifest else None,
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
