"""``agatha-ckpt clear`` and ``prune``: show what is to be deleted, ask, delete."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from agatha_ckpt._cli.common import (
    BadValue,
    check_names,
    check_root,
    complete_name,
    root_of,
    takes_root,
)
from agatha_ckpt._cli.table import state_cell, table
from agatha_ckpt._errors import redact
from agatha_ckpt._human import format_age, format_bytes, format_count
from agatha_ckpt._store.contents import contents_of
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.prune import Criteria, Finder, Removal, find_removals, remove
from agatha_ckpt._store.status import status_of
from agatha_ckpt._store.store import CheckpointStore

_HEADER = ("NAME", "STATE", "DELETES", "FILES", "FREES", "AGE", "")
_SIDES = "<<<>>><"
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_UNITS |= {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}


def _asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--yes`` and ``--dry-run``."""
    yes = click.option("-y", "--yes", is_flag=True, help="Delete without asking.")
    dry_run = click.option(
        "-n", "--dry-run", is_flag=True, help="Show what would be deleted, and stop."
    )
    return yes(dry_run(command))


@click.command(short_help="Delete checkpoints by name.")
@takes_root()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_name)
@click.option("--all", "all_names", is_flag=True, help="Every checkpoint under ROOT.")
@_asks
def clear(
    store: CheckpointStore,
    names: tuple[str, ...],
    all_names: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete the checkpoints NAME... under ROOT, done or not.

    A table shows first what would be deleted and how much that frees. Files of other
    programs are kept, and then their folder is kept too.

    Example: agatha-ckpt clear /data/run-1 sentences terms --dry-run
    """
    if all_names == bool(names):
        raise click.UsageError("give either the names of checkpoints or --all")
    if all_names:
        chosen = store._folder_names(links=False)
    else:
        chosen = check_names(store, names)
    if not chosen:
        check_root(store)

    def find(folder: Folder) -> Removal:
        return Removal(status_of(folder), contents_of(folder))

    found = []
    for removal in map(find, map(store._folder, chosen)):
        if removal.contents.own:
            found.append(removal)
        elif not all_names:
            raise click.ClickException(
                f"the folder of {removal.status.name!r} under {root_of(store)} holds "
                "no files of agatha_ckpt; delete it by hand if it is not needed"
            )
    _remove(store, found, find, yes, dry_run)


def _parse_age(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> float | None:
    """Return an age in seconds; ``m`` is not a unit: minutes and months differ."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?) ?([a-z]+?)", text.strip())
    if match:
        unit = match[2] if match[2] in _UNITS else match[2].removesuffix("s")
        if unit in _UNITS:
            return float(match[1]) * _UNITS[unit]
    raise BadValue(
        f"invalid value {text!r} for --older-than: expected a number and a unit, such "
        "as 90minutes, 36h, 30d or 8w"
    )


@click.command(short_help="Delete old or unfinished checkpoints, and leftovers.")
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option(
    "--older-than", metavar="AGE", callback=_parse_age,
    help="Only what was last written longer ago: 36h, 30d, 8w.",
)  # fmt: skip
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=1),
    help="Done checkpoints that match GLOB, but not the N newest of them.",
)  # fmt: skip
@click.option("--partial", is_flag=True, help="Unfinished checkpoints.")
@click.option(
    "--leftovers", is_flag=True,
    help="Files that no done marker names, of runs that failed or were killed.",
)  # fmt: skip
@_asks
def prune(
    store: CheckpointStore,
    pattern: str,
    older_than: float | None,
    keep: int | None,
    partial: bool,
    leftovers: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete what is old or unfinished under ROOT and matches GLOB.

    --keep, --partial and --leftovers select what to delete, and --older-than narrows
    it. Alone, --older-than selects checkpoints in every state. A table shows first
    what would be deleted. Files of other programs are kept, and so are partials and
    leftovers that were written in the last 24 hours, as a run may be using them;
    --older-than replaces that limit.

    Example: agatha-ckpt prune s3://bucket/run-1 --older-than 30d --partial --leftovers
    """
    if older_than is None and keep is None and not (partial or leftovers):
        raise click.UsageError(
            "nothing is selected; give --older-than AGE, --keep N, --partial, "
            "--leftovers, or several of them"
        )
    criteria = Criteria(older_than, keep, partial, leftovers)
    names = store._folder_names(pattern, links=False)
    if not names:
        check_root(store)
    found, find = find_removals([store._folder(name) for name in names], criteria)
    _remove(store, found, find, yes, dry_run)


def _remove(
    store: CheckpointStore,
    found: Sequence[Removal],
    find_again: Finder,
    yes: bool,
    dry_run: bool,
) -> None:
    """Show what is to be deleted, ask, and delete what has not changed meanwhile."""
    removals = [removal for removal in found if removal.skip_reason is None]
    if found:
        click.echo(
            "\n".join(
                table(_HEADER, map(_row, found), _SIDES, ("AGE", "FILES", "STATE"))
            )
        )
    if not removals:
        click.echo(f"There is nothing to delete under {root_of(store)}.", err=True)
        return
    what = f"{_summary(removals)}, under {root_of(store)}"
    if dry_run:
        click.echo(f"Would delete {what}.", err=True)
        return
    if not yes:
        _ask(f"Delete {what}?")
    freed = kept = 0
    for removal in removals:
        name = removal.status.name
        reason = remove(store._folder(name), removal, find_again).skip_reason
        if reason:
            click.echo(f"kept {name}: {redact(reason)}", err=True)
            kept += 1
            continue
        freed += removal.contents.bytes
        click.echo(f"deleted {name if removal.whole else f'leftovers of {name}'}")
    click.echo(f"freed {format_bytes(freed)}")
    if kept:
        raise click.ClickException(
            f"{kept} of {format_count(len(removals), 'checkpoint')} not deleted"
        )


def _ask(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        click.echo(err=True)  # end the line of the question
        raise click.ClickException(
            "nothing was deleted; answer y, or give --yes in a script"
        ) from None
    if not agreed:
        raise click.ClickException("nothing was deleted")


def _row(removal: Removal) -> list[str]:
    contents = removal.contents
    notes = [removal.skip_reason] if removal.skip_reason else []
    if removal.whole and contents.foreign:
        notes.append(f"keeps {format_count(contents.foreign, 'foreign file')}")
    deletes = "all" if removal.whole else "leftovers"
    return [
        removal.status.name,
        state_cell(removal.status),
        "nothing" if removal.skip_reason else deletes,
        format_count(len(contents.own)),
        format_bytes(contents.bytes),
        format_age(removal.changed),
        "; ".join(notes),
    ]


def _summary(removals: Sequence[Removal]) -> str:
    """Return what is to be deleted, and its size."""
    whole = sum(removal.whole for removal in removals)
    files = sum(len(removal.contents.own) for removal in removals if not removal.whole)
    size = format_bytes(sum(removal.contents.bytes for removal in removals))
    parts = [format_count(whole, "checkpoint")] if whole else []
    if files:
        parts.append(format_count(files, "leftover file"))
    return f"{' and '.join(parts)}, {size}"
