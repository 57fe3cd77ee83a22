"""The command line: the group of all commands."""

from typing import Any

import click

from agatha_ckpt._cli.common import Commands, Group, storage_options

_COMMANDS = Commands(
    ls="ls", show="show", head="head", export="export", verify="verify",
    report="report", probe="probe", copy="transfer", rename="transfer",
    clear="delete", prune="delete",
)  # fmt: skip
_HELP = {"help_option_names": ["-h", "--help"]}


# "ckpt" is the name as a plugin of dask; the program is named as it was started.
@click.group("ckpt", cls=Group, commands=_COMMANDS, context_settings=_HELP)
@storage_options
@click.version_option(package_name="agatha-ckpt")
@click.pass_context
def main(ctx: click.Context, storage_options: dict[str, Any]) -> None:
    """Inspect the checkpoints under ROOT, copy them, and delete those not needed.

    ROOT is a path or fsspec URL; - stands for the configured root
    (DASK_AGATHA_CKPT__ROOT, or agatha-ckpt.root in dask's configuration).

    Exit codes: 0, success; 1, something is damaged or failed, and a line on stderr
    gives the reason; 2, the command line is invalid.
    """
    ctx.obj = storage_options
