"""``agatha-ckpt probe``: what a root promises."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from secrets import token_hex

import click

from agatha_ckpt._cli.common import root_of, takes_root
from agatha_ckpt._cli.table import hanging, printable, table
from agatha_ckpt._errors import absent_bucket, error_note, redact
from agatha_ckpt._filesystem.base import FolderGoneError
from agatha_ckpt._filesystem.probe import Check, Result
from agatha_ckpt._filesystem.probe import probe as try_filesystem
from agatha_ckpt._store.store import CheckpointStore

_COLOURS = {Result.YES: "green", Result.WEAK: "yellow", Result.NO: "red"}


@click.command(short_help="Try what the filesystem of a root promises.")
@takes_root(optional=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
def probe(store: CheckpointStore, as_json: bool) -> None:
    """Try what the filesystem of ROOT promises, with files of its own, and remove them.

    The table has a line for each thing that the library counts on: yes; weak, where it
    looks before it writes, which two processes can do at the same moment; no; or not
    needed. ROOT need not exist. The exit code is 0 whenever everything was tried.

    Example: agatha-ckpt probe s3://bucket/run-1
    """
    where = f"the root {root_of(store)}"
    try:
        with error_note(f"probing {where}"), _folder_in(store) as folder:
            checks = try_filesystem(store._files, folder)
    except FolderGoneError as error:
        raise absent_bucket(error, where) from None
    if as_json:
        kind = type(store.fs)
        found = {
            "root": redact(str(store.root)),
            "filesystem": f"{kind.__module__}.{kind.__qualname__}",
            "commit": _commit(checks),
            "checks": [asdict(check) for check in checks],
        }
        click.echo(json.dumps(found, indent=2))
        return
    rows = [_row(check) for check in checks]
    lines = table(["WHAT", "RESULT", ""], rows)
    click.echo("\n".join([*lines, "", *hanging("", _SUMMARIES[_commit(checks)])]))


_SUMMARIES = {
    "atomic": "Commits are atomic, also of several runs that save one name at once.",
    "weak": "Commits are weak: let only one run at a time save a name.",
    "broken": "Something does not work that saving needs; see what has the result no.",
}
_MAY_LACK = ("folder fsync", "hard links", "case")


def _commit(checks: list[Check]) -> str:
    """Return what is promised of a commit: ``"atomic"``, ``"weak"``, ``"broken"``."""
    if any(c.result is Result.NO and c.name not in _MAY_LACK for c in checks):
        return "broken"
    return "weak" if any(c.result is Result.WEAK for c in checks) else "atomic"


def _row(check: Check) -> list[str]:
    result = click.style(check.result, fg=_COLOURS.get(check.result))
    return [check.name, result, printable(redact(check.detail))]


@contextmanager
def _folder_in(store: CheckpointStore) -> Iterator[str]:
    """Yield a path below the root that is unused, and remove at the end what was made.

    An empty root stays on WebDAV, which has no safe way to remove a folder, and on
    sshfs, whose `rmdir` does nothing.
    """
    root = store._root.base
    made, parent = [], root
    if store._root.is_local:
        while not os.path.exists(parent):
            made.append(parent)
            parent = os.path.dirname(parent)
    elif not store._root.exists():
        made = [root]
    folder = f"{root.rstrip('/')}/.probe-{token_hex(8)}"  # of no checkpoint
    try:
        yield folder
    finally:
        if store.fs.exists(folder):  # there also where folders are not removed
            with suppress(FileNotFoundError):  # of files that are not listed
                store.fs.rm(folder, recursive=True)
        for path in made:
            store._files.remove_folder(path)
