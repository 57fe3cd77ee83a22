"""Printing that never raises: progress must not end what it tells of."""

import atexit
import os
import sys
from contextlib import suppress
from functools import cache
from typing import Any


def print_line(line: str) -> bool:
    """Print a line, and return whether it was printed.

    It is not where there is no stdout, or it is closed, or nothing reads it. Characters
    that it cannot show are escaped. In a task of a cluster, its clients print it.
    """
    try:
        if worker := _worker():
            worker.log_event("print", line)  # the topic of ``distributed.print``
            return True
    except Exception:  # any, from a cluster that is being closed
        return False
    stream = sys.stdout
    if stream is None or getattr(stream, "closed", False):
        return False
    try:
        try:
            _write(stream, line)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            shown = line.encode(encoding, "backslashreplace").decode(encoding)
            _write(stream, shown)
    except OSError:
        _discard_at_exit(stream)
        return False
    except Exception:  # any, from a stream of the program's own
        return False
    return True


def ipython_shell() -> Any:
    """Return the shell of IPython that this program runs in; None without one."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def _worker() -> Any:
    """Return the worker of a cluster that this is a task of; None where it is not."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def _write(stream: Any, line: str) -> None:
    if "tqdm" not in sys.modules:
        print(line, file=stream, flush=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=stream):  # bars are redrawn below the line
        print(line, file=stream, flush=True)


@cache
def _discard_at_exit(stream: Any) -> None:
    """Let Python's exit flush what cannot be written to nowhere, not to an error."""

    def discard() -> None:
        with suppress(Exception):  # any, from a stream of the program's own
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    if stream is sys.__stdout__:
        atexit.register(discard)
