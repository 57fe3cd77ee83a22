"""``agatha-ckpt copy`` and ``rename``."""

from typing import Any

import click

from agatha_ckpt._cli.common import (
    check_names,
    complete_name,
    open_store,
    parse_options,
    root_of,
    takes_root,
)
from agatha_ckpt._store.store import CheckpointStore


@click.command(short_help="Give a checkpoint another name.")
@takes_root()
@click.argument("old", shell_complete=complete_name)
@click.argument("new")
def rename(store: CheckpointStore, old: str, new: str) -> None:
    """Rename the done checkpoint OLD under ROOT to NEW.

    Its records and its id stay, so that what was built from it does not become stale.
    If this is interrupted, nothing is lost; run it again.

    Example: agatha-ckpt rename /data/run-1 sentences en_sentences
    """
    [old] = check_names(store, [old])
    store.rename(old, new)
    click.echo(f"renamed {old} to {new}")


@click.command(short_help="Copy a checkpoint to another root.")
@takes_root()
@click.argument("name", shell_complete=complete_name)
@click.argument("to", metavar="TO_ROOT")
@click.option("--as", "new", metavar="NEW", help="The name there, in place of NAME.")
@click.option(
    "--to-storage-options", metavar="JSON", default="{}", callback=parse_options,
    help="As --storage-options, for TO_ROOT.",
)  # fmt: skip
@click.pass_context
def copy(
    ctx: click.Context,
    store: CheckpointStore,
    name: str,
    to: str,
    new: str | None,
    to_storage_options: dict[str, Any],
) -> None:
    """Copy the done checkpoint NAME under ROOT to TO_ROOT, which may be the same.

    On one object store, the server copies. The contents are not checked: `verify` does
    that. If this is interrupted, run it again.

    Example: agatha-ckpt copy /data/run-1 sentences s3://bucket/run-1
    """
    [name] = check_names(store, [name])
    target = open_store(ctx, to, to_storage_options)
    store.copy(name, target, new)
    click.echo(f"copied {name} to {new or name} under {root_of(target)}")
