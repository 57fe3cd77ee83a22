"""What the commands share: ROOT, storage options, names, errors of one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shlex
import shutil
import sys
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from agatha_ckpt._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    PickleNotAllowedError,
    redact,
)

if TYPE_CHECKING:  # imported when a command needs them
    from click.shell_completion import CompletionItem

    from agatha_ckpt._format.manifest import Manifest
    from agatha_ckpt._store.folder import Folder
    from agatha_ckpt._store.status import Status
    from agatha_ckpt._store.store import CheckpointStore

_MAX_FOLDERS = 50  # that are looked into
INTERRUPTED = 128 + 2  # the exit code of a shell
CONFIGURED = "-"  # as ROOT: the one of the configuration
UNREADABLE_HINT = "use an account that may read it, or check its disk"
PERMISSION_HINT = (
    "use an account that has permission, or give its credentials as storage options"
)


class Commands(UserDict[str, Any]):
    """Commands by name, each imported from its module when it is used."""

    def __getitem__(self, name: str) -> Any:
        return getattr(import_module(f"agatha_ckpt._cli.{self.data[name]}"), name)


class Group(click.Group):
    """A group whose commands report errors of the storage in one line on stderr."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line."""
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            is_program = not args and extra.get("args") is None
            if is_program and end.code == INTERRUPTED:
                os._exit(INTERRUPTED)  # threads may still wait for a server
            raise

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line; this prints the help and the version."""
        columns = min(shutil.get_terminal_size().columns, 80)
        kwargs.setdefault("terminal_width", max(columns - 2, 30))  # click's least: 50
        with _ends():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        with contextlib.suppress(AttributeError):  # not every stream is of a terminal
            if sys.stdout.errors == "strict":  # and would refuse some names
                sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        with _ends():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ends() -> Iterator[None]:
    """End with the exit code of a shell on Ctrl-C and a closed pipe, silently.

    Other errors of the storage become one line on stderr.
    """
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not _has_notes(error):
            with contextlib.suppress(OSError):  # else Python reports it at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(128 + 13) from None
        if isinstance(error, CheckpointError | OSError) or _has_notes(error):
            raise click.ClickException(one_line(error)) from error
        raise  # a defect of this program, which needs its traceback


def _has_notes(error: Exception) -> bool:
    """Return whether it is an error of the storage, which error_note describes."""
    return bool(getattr(error, "__notes__", ()))


def one_line(error: Exception) -> str:
    """Return what failed, where and what to do, in one line without secrets."""
    text = _clean(str(error)) or type(error).__name__
    if isinstance(error, CheckpointError):
        return text
    if not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}"
    notes = map(_clean, getattr(error, "__notes__", ()))
    text = ", ".join([text.rstrip("."), *notes])
    if isinstance(error, PermissionError):
        return f"no permission: {text}; {PERMISSION_HINT}"
    if getattr(error, "errno", 0) == errno.ENOSPC:
        return f"{text}; free space there, and retry"
    return f"{text}; check the root, its storage options and the network, and retry"


def _clean(text: str) -> str:
    return redact(" ".join(text.split()))


class BadValue(click.ClickException):
    """An invalid value on the command line: one line without usage, and exit code 2."""

    exit_code = 2


def parse_options(
    ctx: click.Context, param: click.Parameter, value: str
) -> dict[str, Any]:
    """Return a JSON object. Its content may be secret, and no message shows it."""
    try:
        return dict(json.loads(value).items())
    except (ValueError, AttributeError) as error:
        reason = error if isinstance(error, ValueError) else "it is another JSON value"
        raise BadValue(
            f"invalid value for --storage-options: expected a JSON object ({reason}); "
            "write it as '{\"key\": 1}'"
        ) from None


storage_options = click.option(
    "--storage-options",
    metavar="JSON",
    default="{}",
    callback=parse_options,
    help="Options of the root's filesystem, such as credentials, as a JSON object. "
    "`ps` shows them; the variable DASK_AGATHA_CKPT__STORAGE_OPTIONS is not shown.",
)


pickle_option = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Load pickled values, which can run any code: only if you trust everyone "
    "who can write to the root.",
)


@contextlib.contextmanager
def pickle_advice(where: str) -> Iterator[None]:
    """Name ``--allow-pickle`` where pickled values are refused."""
    try:
        yield
    except PickleNotAllowedError:
        raise click.ClickException(
            f"{where} holds pickled values, and loading those can run any code; give "
            "--allow-pickle if you trust everyone who can write to the root"
        ) from None


def takes_root(optional: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Give a command ROOT and ``--storage-options``; it receives ``store``.

    Put it above the command's other arguments. Where *optional*, ROOT may be left out,
    for the configured one: only for a command without other required arguments, as
    these would be taken for ROOT.
    """

    def decorate(command: Callable[..., Any]) -> Any:
        @functools.wraps(command)
        @click.pass_context
        def with_store(
            ctx: click.Context,
            /,
            root: str,
            storage_options: dict[str, Any],
            **arguments: Any,
        ) -> Any:
            return command(store=open_store(ctx, root, storage_options), **arguments)

        default = {"default": CONFIGURED, "metavar": "[ROOT]"} if optional else {}
        argument = click.argument("root", **default)  # type: ignore[arg-type]
        return argument(storage_options(with_store))

    return decorate


def open_store(
    ctx: click.Context, root: str, options: dict[str, Any]
) -> CheckpointStore:
    """Return the store at *root*, with the options given before the command too."""
    from fsspec.utils import get_protocol

    options = (ctx.obj or {}) | options
    try:
        if root != CONFIGURED and get_protocol(root) in ("file", "local"):
            from agatha_ckpt._store.store import CheckpointStore

            # Without the configuration, for which dask would be imported: of what it
            # holds, only fsync could matter, and not to what reads.
            return CheckpointStore(root, storage_options=options)
        return _configured_store(ctx, None if root == CONFIGURED else root, options)
    except (click.ClickException, CheckpointError, OSError):
        raise
    except Exception as error:  # filesystems raise anything for wrong options
        raise click.ClickException(
            f"the filesystem of {redact(root)!r} cannot be used with these storage "
            f"options ({type(error).__name__}); correct --storage-options and "
            "DASK_AGATHA_CKPT__STORAGE_OPTIONS"
        ) from None  # its message may hold secrets


def _configured_store(
    ctx: click.Context, root: str | None, options: dict[str, Any]
) -> CheckpointStore:
    from agatha_ckpt._config import configured_store, has_root  # imports dask

    try:
        configured = has_root()
    except TypeError as error:  # an unknown key in the configuration
        raise click.ClickException(str(error)) from None
    if root is None and not configured:
        raise click.UsageError(
            "no root is given; give ROOT, or set DASK_AGATHA_CKPT__ROOT in the "
            "environment",
            ctx,
        )
    return configured_store(root, options)


def root_of(store: CheckpointStore) -> str:
    """Return the root as messages show it: quoted, without secrets."""
    return repr(redact(str(store.root)))


def shown_root(store: CheckpointStore) -> str:
    """Return the root for a shell, without secrets."""
    from agatha_ckpt._cli.table import printable

    return printable(shlex.quote(redact(str(store.root))))


def check_root(store: CheckpointStore) -> None:
    """Raise CheckpointNotFoundError if the root does not exist."""
    if not store._root.exists():
        raise CheckpointNotFoundError(
            f"the root {root_of(store)} does not exist; check the path or URL"
        )


def find_statuses(
    store: CheckpointStore, pattern: str, must_match: bool = False
) -> Iterator[Status]:
    """Yield the statuses that match; print a line on stderr if there are none.

    Raises
    ------
    CheckpointNotFoundError
        The root does not exist; or nothing matches although *must_match*, which does
        not hold for ``"*"``.
    """
    found = False
    for status in store.statuses(pattern):
        found = True
        yield status
    if found:
        return
    names = store._folder_names()
    if not names:
        check_root(store)
    if pattern == "*":
        text = f"There are no checkpoints under {root_of(store)}."
        if roots := list(_roots_below(store)):
            text += f" Roots one level below: {', '.join(roots)}"
        click.echo(text, err=True)
    elif must_match:
        raise unknown_name(store, pattern, names)
    else:
        text = f"No checkpoint under {root_of(store)} matches {pattern!r}."
        click.echo(text, err=True)


def _roots_below(store: CheckpointStore) -> Iterator[str]:
    """Yield the folders in the root that hold checkpoints, for a shell."""
    folders = sorted(store._files.folders(store._root.base, True))
    for name in folders[:_MAX_FOLDERS]:
        below = type(store)(str(store._root.path(name)), fs=store.fs)
        with contextlib.suppress(CheckpointError, OSError):  # only a hint
            if next(below.statuses(), None):
                yield shown_root(below)
    if len(folders) > _MAX_FOLDERS:
        yield "..."


def check_names(store: CheckpointStore, names: Iterable[str]) -> list[str]:
    """Return the checkpoint names in *names*, which may be paths under the root.

    Raises
    ------
    CheckpointNotFoundError
        One does not exist; the message names the nearest.
    """
    known = store._folder_names()
    if not known:
        check_root(store)
    checked = [store._folder(name).name for name in names]
    for name in checked:
        if name not in known:
            raise unknown_name(store, name, known)
    return list(dict.fromkeys(checked))


def find_done(store: CheckpointStore, name: str) -> tuple[Folder, Manifest]:
    """Return the folder and the manifest of a done checkpoint.

    Raises
    ------
    CheckpointNotFoundError
        It does not exist, and the message names the nearest; or it is not done.
    """
    folder = store._folder(name)
    try:
        return folder, folder.manifest()
    except CheckpointNotFoundError:
        check_names(store, [name])
        raise


def unknown_name(
    store: CheckpointStore, name: str, known: list[str]
) -> CheckpointNotFoundError:
    """Return the error for a name, or a pattern, without a checkpoint."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        hint = f"`agatha-ckpt ls {shown_root(store)}` lists the existing ones"
    return CheckpointNotFoundError(
        f"there is no checkpoint {name!r} under {root_of(store)}; {hint}"
    )


def complete_name(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names under the root that begin with *incomplete*, for the shell."""
    from click.shell_completion import CompletionItem

    try:
        store = open_store(
            ctx, ctx.params["root"], ctx.params.get("storage_options") or {}
        )
        names = store._folder_names()
    except Exception:  # the shell completes nothing, and shows no error
        return []
    return [CompletionItem(n) for n in names if n.startswith(incomplete)]
