"""``agatha-ckpt report``: what is there, as a page to look at."""

import os

import click

from agatha_ckpt._cli.common import check_root, takes_root
from agatha_ckpt._human import count
from agatha_ckpt._report.page import page
from agatha_ckpt._report.summary import gather
from agatha_ckpt._store.store import CheckpointStore


@click.command()
@takes_root(optional=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    help="Where the page goes, in place of what is there; - stands for stdout.",
)
def report(store: CheckpointStore, output: str) -> None:
    """Write a page of HTML about the checkpoints under ROOT.

    It shows what was built from what, what is stale, partial or damaged, and how
    unequal partitions are in bytes and seconds. The page needs no network, and holds
    names, versions and figures, no records. Markers are read, and names and sizes of
    files compared; `verify` reads the files themselves.

    Example: agatha-ckpt report /data/run-1 -o report.html
    """
    folder = os.path.dirname(os.path.abspath(output))
    if output != "-" and not os.path.isdir(folder):
        raise click.BadParameter(
            f"there is no folder {folder!r}; make it first, or write elsewhere",
            param_hint="--output",
        )
    found = gather(store)
    if not found.entries:
        check_root(store)
    with click.open_file(output, "w", encoding="utf-8", atomic=True) as file:
        file.write(page(found))
    if output != "-":
        click.echo(f"{output}: {count(len(found.entries), 'checkpoint')}", err=True)
