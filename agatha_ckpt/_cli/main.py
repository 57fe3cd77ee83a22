"""The command line: the group of all commands, each of which has its own module."""

from typing import Any

import click

from agatha_ckpt._cli.common import Group, storage_options
from agatha_ckpt._cli.delete import clear, prune
from agatha_ckpt._cli.head import head
from agatha_ckpt._cli.ls import ls
from agatha_ckpt._cli.report import report
from agatha_ckpt._cli.show import show
from agatha_ckpt._cli.verify import verify

_HELP = {"help_option_names": ["-h", "--help"]}


# The name is that below `dask`; alone, the program is called as it was started.
@click.group("ckpt", cls=Group, context_settings=_HELP)
@storage_options
@click.version_option(package_name="agatha-ckpt")
@click.pass_context
def main(ctx: click.Context, storage_options: dict[str, Any]) -> None:
    """Look at the checkpoints of dask bags under ROOT, and clean up there.

    ROOT is a path or fsspec URL; - stands for the one that DASK_AGATHA_CKPT__ROOT
    (or dask's configuration) names.

    \b
    Exit codes:
      0  all is well
      1  something is damaged, or could not be done; a line on stderr says what
      2  the command line is wrong
    """  # noqa: D301  # \b is click's
    ctx.obj = storage_options


for command in (ls, show, head, verify, report, clear, prune):
    main.add_command(command)
