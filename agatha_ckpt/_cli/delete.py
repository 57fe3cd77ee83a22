"""``agatha-ckpt clear`` and ``prune``: what goes, said and asked before."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from dask.utils import parse_timedelta

from agatha_ckpt._cli.common import (
    BadValue,
    check_names,
    check_root,
    complete_name,
    takes_root,
)
from agatha_ckpt._cli.table import coloured, table
from agatha_ckpt._errors import redact
from agatha_ckpt._human import age, count, size
from agatha_ckpt._store.contents import contents_of
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.prune import Criteria, Removal, find_removal, find_removals
from agatha_ckpt._store.store import CheckpointStore

_HEADER = ("NAME", "STATE", "GOES", "FILES", "FREES", "AGE", "")
_RIGHT = "<<<>>><"


def _asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--yes`` and ``--dry-run``."""
    yes = click.option("-y", "--yes", is_flag=True, help="Delete without asking.")
    dry_run = click.option(
        "-n", "--dry-run", is_flag=True, help="Say what would be deleted, and stop."
    )
    return yes(dry_run(command))


@click.command()
@takes_root()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_name)
@click.option("--all", "everything", is_flag=True, help="Every checkpoint under ROOT.")
@_asks
def clear(
    store: CheckpointStore,
    names: tuple[str, ...],
    everything: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete the checkpoints NAME... under ROOT, done or not.

    It is shown before what would be deleted and how much that frees, and asked.
    Files that are not this program's stay, and so does then their folder.

    Example: agatha-ckpt clear /data/run-1 sentences terms --dry-run
    """
    if everything == bool(names):
        raise click.UsageError("give either the names of checkpoints or --all")
    chosen = (
        store._folder_names(links=False) if everything else check_names(store, names)
    )
    if not chosen:
        check_root(store)
    found = []
    for name in chosen:
        removal = Removal(store.status(name), contents_of(store._folder(name)))
        if removal.contents.own:
            found.append(removal)
        elif not everything:
            raise click.ClickException(
                f"the folder of {name!r} under {redact(str(store.root))!r} holds "
                "nothing of this program's; delete it yourself if it may go"
            )

    def still(removal: Removal) -> bool:
        name = removal.status.name
        now = Removal(store.status(name), contents_of(store._folder(name)))
        return removal.is_same(now)

    _remove(store, found, still, yes, dry_run)


@click.command()
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option(
    "--older-than", metavar="AGE", callback=lambda ctx, param, text: _seconds(text),
    help="Only what was last written so long ago: 36h, 30d, 8w.",
)  # fmt: skip
@click.option("--partial", is_flag=True, help="Unfinished checkpoints.")
@click.option(
    "--leftovers", is_flag=True,
    help="Files that no done marker names, of runs that were killed or lost.",
)  # fmt: skip
@_asks
def prune(
    store: CheckpointStore,
    pattern: str,
    older_than: float | None,
    partial: bool,
    leftovers: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete what is old or unfinished under ROOT and matches GLOB.

    --partial and --leftovers say what is meant, and --older-than narrows it; alone,
    --older-than means checkpoints in every state. Never deleted are files that are
    not this program's, and what a run is saving right now; where that cannot be seen
    (in a bucket), what was written in the last 24 hours, unless --older-than says
    otherwise. It is shown before what would be deleted, and asked.

    Example: agatha-ckpt prune s3://bucket/run-1 --older-than 30d --partial --leftovers
    """
    criteria = Criteria(older_than, partial, leftovers)
    if criteria == Criteria():
        raise click.UsageError(
            "say what may go: --older-than AGE, --partial, --leftovers, or several "
            "of them"
        )
    names = store._folder_names(pattern, links=False)
    if not names:
        check_root(store)
    found = list(find_removals([store._folder(name) for name in names], criteria))

    def still(removal: Removal) -> bool:
        return removal.is_same(
            find_removal(store._folder(removal.status.name), criteria)
        )

    _remove(store, found, still, yes, dry_run)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    # A bare m could be meant as minutes or as months, and here that matters.
    if re.fullmatch(r"\d+(\.\d+)? ?([shdw]|[a-z]{4,})", text.strip()):
        try:
            return float(parse_timedelta(text))
        except (ValueError, KeyError, OverflowError):
            pass
    raise BadValue(
        f"--older-than {text!r} is no age; write a number and a unit, such as "
        "90minutes, 36h, 30d or 8w"
    )


def _remove(
    store: CheckpointStore,
    found: Sequence[Removal],
    still: Callable[[Removal], bool],
    yes: bool,
    dry_run: bool,
) -> None:
    """Show what is to go, ask, and delete what is still the same then."""
    going = [removal for removal in found if removal.skip_reason is None]
    if found:
        click.echo("\n".join(table(_HEADER, map(_row, found), _RIGHT)))
    root = redact(str(store.root))
    if not going:
        click.echo(f"There is nothing to delete under {root!r}.", err=True)
        return
    if dry_run:
        click.echo(f"Would delete {_what(going)} under {root!r}.", err=True)
        return
    if not yes:
        _ask(f"Delete {_what(going)} under {root!r}?")
    freed = left = 0
    for removal in going:
        name = removal.status.name
        if not still(removal):
            click.echo(f"{name} has changed meanwhile, and is left as it is", err=True)
            left += 1
            continue
        removal.apply(store._folder(name))
        freed += removal.contents.bytes
        click.echo(f"deleted {'' if removal.whole else 'what was left over in '}{name}")
    click.echo(f"freed {size(freed)}")
    if left:
        raise click.ClickException(
            f"{left} of {count(len(going), 'checkpoint')} changed while you were "
            "asked, and so stayed; run this again to look again"
        )


def _ask(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question has no end of line
        raise click.ClickException(
            "nothing was deleted; answer y, or give --yes where nobody can"
        ) from None
    if not agreed:
        raise click.ClickException("nothing was deleted")


def _row(removal: Removal) -> list[str]:
    contents = removal.contents
    notes = [removal.skip_reason] if removal.skip_reason else []
    if removal.whole and contents.foreign:
        notes.append(f"{count(contents.foreign, 'foreign file')} stays")
    goes = "all" if removal.whole else "left-over"
    return [
        removal.status.name,
        coloured(cells(removal.status)["state"]),
        "nothing" if removal.skip_reason else goes,
        count(len(contents.own)),
        size(contents.bytes),
        age(removal.changed),
        "; ".join(notes),
    ]


def _what(going: Iterable[Removal]) -> str:
    going = list(going)
    whole = sum(removal.whole for removal in going)
    parts = [count(whole, "checkpoint")] if whole else []
    if whole < len(going):
        files = sum(len(r.contents.own) for r in going if not r.whole)
        parts.append(count(files, "left-over file"))
    freed = sum(removal.contents.bytes for removal in going)
    return f"{' and '.join(parts)}, {size(freed)},"
