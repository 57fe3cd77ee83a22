"""``agatha-ckpt verify``: whether it is what was saved."""

import click

from agatha_ckpt._cli_base import takes_root
from agatha_ckpt._store import CheckpointStore


@click.command()
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
def verify(store: CheckpointStore, pattern: str) -> None:
    """Read what is done under ROOT and matches GLOB in full; name what is damaged.

    Example: agatha-ckpt verify s3://bucket/run-1
    """
    all_well = True
    for status in store.statuses(pattern):
        name = status.name
        problems = [status.problem] if status.problem else []
        if status.state == "done" and not problems:
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
