"""``agatha-ckpt report``: a page of HTML about the checkpoints of a root."""

import click

from agatha_ckpt._cli.common import check_root, takes_root
from agatha_ckpt._cli.output import output_option, whole_file
from agatha_ckpt._human import format_count
from agatha_ckpt._report.summary import gather
from agatha_ckpt._store.store import CheckpointStore


@click.command(short_help="Write a page with a graph and plots.")
@takes_root(optional=True)
@output_option(required=True)
def report(store: CheckpointStore, output: str) -> None:
    """Write a page of HTML about the checkpoints under ROOT.

    It shows which checkpoint was built from which, which are stale, partial or
    damaged, and how partitions differ in size and time. The page needs no network. It
    holds names, versions and figures, and no records. The done markers are read, and
    the sizes of files compared; `verify` reads the files themselves.

    Example: agatha-ckpt report /data/run-1 -o report.html
    """
    from agatha_ckpt._report.page import render  # loads jinja2, which others need not

    found = gather(store)
    if not found.entries:
        check_root(store)
    page = render(found).encode()
    with whole_file(output) as file:
        file.write(page)
    if output != "-":
        number = format_count(len(found.entries), "checkpoint")
        click.echo(f"{output}: {number}", err=True)
