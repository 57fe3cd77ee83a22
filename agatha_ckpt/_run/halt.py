"""Stopping the program after a checkpoint."""

import sys
import warnings
from typing import Any

from agatha_ckpt._errors import CheckpointHalt
from agatha_ckpt._run.printing import ipython_shell


def halt_of(where: str) -> CheckpointHalt:
    """Return what stops the program, after preparing an interactive shell for it."""
    if shell := ipython_shell():
        _show_briefly(shell)
    return CheckpointHalt(f"halted after {where}, as asked for")


def _show_briefly(shell: Any) -> None:
    """Let a shell of IPython show a halt as one line.

    Of every other SystemExit it shows how to see the traceback, and how to exit.
    """
    show = shell.showtraceback
    if getattr(show, "is_brief", False):
        return

    def showtraceback(*args: Any, **kwargs: Any) -> None:
        kind, halt, _ = sys.exc_info()
        if isinstance(halt, CheckpointHalt):
            shell._showtraceback(kind, halt, [f"{type(halt).__name__}: {halt}"])
        else:
            show(*args, **kwargs)

    showtraceback.is_brief = True  # type: ignore[attr-defined]
    shell.showtraceback = showtraceback
    warnings.filterwarnings("ignore", "To exit: use", UserWarning)
