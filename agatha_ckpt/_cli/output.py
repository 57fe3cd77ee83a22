"""Files that a command writes: whole, or not at all."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from secrets import token_hex
from typing import Any, BinaryIO, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Yield a file that appears at *path* when the block ends, not where it raises.

    ``"-"`` stands for stdout.
    """
    if path == "-":
        if sys.stdout is None:
            raise click.UsageError("stdout is closed; give -o FILE")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # a FIFO or a device
        with open(target, "wb") as special:
            yield special
        return
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise click.BadParameter(
            f"the folder {folder!r} does not exist; create it, or give another file",
            param_hint="--output",
        )
    temporary = os.path.join(folder, f".{name[:200]}.{token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def output_option(**attributes: Any) -> Callable[[F], F]:
    """Give a command ``--output``, with further attributes of the option."""
    return click.option(
        "-o",
        "--output",
        metavar="FILE",
        type=click.Path(dir_okay=False, writable=True, allow_dash=True),
        help="The file to write, or to replace; - stands for stdout.",
        **attributes,
    )
