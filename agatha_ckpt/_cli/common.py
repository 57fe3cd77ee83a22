"""What all commands share: the root, storage options, and errors of one line."""

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import dask.config
from click.shell_completion import CompletionItem

from agatha_ckpt._config import configured_store
from agatha_ckpt._errors import CheckpointError, CheckpointNotFoundError, redact
from agatha_ckpt._store.status import Status
from agatha_ckpt._store.store import CheckpointStore, root_exists

CONFIGURED = "-"  # as ROOT
# What to do where something may not be read.
ALLOWED = "use an account that may do this, or give its credentials as storage options"


class Group(click.Group):
    """Commands that end with one line on stderr where something cannot be done."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if not _is_expected(error):
                raise  # a defect of this program: its traceback says more
            raise click.ClickException(one_line(error)) from error


def _is_expected(error: Exception) -> bool:
    """Return whether *error* comes from the storage and not from a defect here."""
    has_notes = bool(getattr(error, "__notes__", ()))
    if isinstance(error, BrokenPipeError) and not has_notes:
        return False  # nobody reads on; click ends quietly
    return has_notes or isinstance(error, CheckpointError | OSError)


def one_line(error: Exception) -> str:
    """Return what an error says, what was being done, and what to do, in one line."""
    text = _shown(str(error)) or type(error).__name__
    if isinstance(error, CheckpointError):
        return text
    if not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}"
    text = ", ".join([text.rstrip("."), *map(_shown, getattr(error, "__notes__", ()))])
    if isinstance(error, PermissionError):
        return f"no permission: {text}; {ALLOWED}"
    return (
        f"{text}; check the root, its storage options and the network, then run this "
        "again"
    )


def _shown(text: str) -> str:
    return redact(" ".join(text.split()))


class BadValue(click.ClickException):
    """A value on the command line that cannot be: one line, and exit code 2."""

    exit_code = 2


def _options_from(
    ctx: click.Context, param: click.Parameter, value: str
) -> dict[str, Any]:
    """Return a JSON object; its content is never shown, as it may be a secret."""
    try:
        return dict(json.loads(value).items())
    except (ValueError, AttributeError) as error:
        reason = error if isinstance(error, ValueError) else "it is another value"
        raise BadValue(
            f"--storage-options is no JSON object ({reason}); write it as "
            "'{\"key\": 1}'"
        ) from None


storage_options = click.option(
    "--storage-options",
    metavar="JSON",
    default="{}",
    callback=_options_from,
    help="Options of the root's filesystem, such as credentials, as a JSON object. "
    "DASK_AGATHA_CKPT__STORAGE_OPTIONS takes them as well, unseen by `ps`.",
)


def takes_root(optional: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Give a command ROOT and ``--storage-options``, and hand it the store there.

    Put it above the command's other arguments; the function gets ``store``.

    Parameters
    ----------
    optional : bool
        Whether the configured root is meant where none is given: only where no
        argument that must be given follows, or they would be confused.
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
    """Return the store at *root*; options given before the command count as well."""
    chosen = None if root == CONFIGURED else root
    if chosen is None and not dask.config.get("agatha-ckpt.root", None):
        raise click.UsageError(
            "no root is given; give ROOT, or set DASK_AGATHA_CKPT__ROOT in the "
            "environment",
            ctx,
        )
    options = (ctx.obj or {}) | options
    try:
        return configured_store(chosen, options)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # whatever a filesystem says to options
        raise click.ClickException(
            f"the filesystem of {redact(root)!r} cannot be used with these storage "
            f"options ({type(error).__name__}); correct --storage-options and "
            "DASK_AGATHA_CKPT__STORAGE_OPTIONS"
        ) from None  # it may show what must not be


def check_root(store: CheckpointStore) -> None:
    """Raise where the root is not there: for a command that has found nothing."""
    if not root_exists(store):
        raise CheckpointNotFoundError(
            f"there is nothing at the root {redact(str(store.root))!r}: it does not "
            "exist; check how it is written"
        )


def found(
    store: CheckpointStore, pattern: str, must_match: bool = False
) -> Iterator[Status]:
    """Yield the checkpoints that match, and say where there are none.

    Parameters
    ----------
    store : CheckpointStore
    pattern : str
    must_match : bool
        Whether it is an error that nothing matches, unless all was asked for.

    Raises
    ------
    CheckpointNotFoundError
        There is no root, or nothing matches what must.
    """
    there_are_some = False
    for status in store.statuses(pattern):
        there_are_some = True
        yield status
    if there_are_some:
        return
    known = store._folder_names()
    if not known:
        check_root(store)
    if must_match and pattern != "*":
        raise CheckpointNotFoundError(no_such_name(store, pattern, known))
    matching = "" if pattern == "*" else f" that match {pattern!r}"
    root = redact(str(store.root))
    click.echo(f"There are no checkpoints{matching} under {root!r}.", err=True)


def check_names(store: CheckpointStore, names: Iterable[str]) -> list[str]:
    """Return *names* of checkpoints as they are called, paths under the root too.

    Raises
    ------
    CheckpointNotFoundError
        There is no such folder; the message has the nearest names.
    """
    known = store._folder_names()
    if not known:
        check_root(store)
    checked = [store._folder(name).name for name in names]
    for name in checked:
        if name not in known:
            raise CheckpointNotFoundError(no_such_name(store, name, known))
    return list(dict.fromkeys(checked))


def no_such_name(store: CheckpointStore, name: str, known: list[str]) -> str:
    """Return that there is no such checkpoint, and which names are near to it."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = "; did you mean " + " or ".join(map(repr, near)) + "?" if near else ""
    root = redact(str(store.root))
    hint = hint or f"; `agatha-ckpt ls {root}` lists those that there are"
    return f"there is no checkpoint {name!r} under {root!r}{hint}"


def complete_name(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names under the root that begin so, for the shell."""
    try:
        store = open_store(
            ctx, ctx.params["root"], ctx.params.get("storage_options") or {}
        )
        names = store._folder_names()
    except Exception:  # a shell shows nothing where nothing can be found
        return []
    return [CompletionItem(n) for n in names if n.startswith(incomplete)]
