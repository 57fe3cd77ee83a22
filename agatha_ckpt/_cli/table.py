"""Tables on a terminal."""

import json
import unicodedata
from collections.abc import Iterable, Sequence

import click

from agatha_ckpt._human import format_state
from agatha_ckpt._store.status import Status


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], sides: str = ""
) -> list[str]:
    """Return the lines of a table with aligned columns.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of str
        Cells may be styled with ``click.style``.
    sides : str
        For each column ``>`` (right) or ``<`` (left, also for those beyond).

    Examples
    --------
    >>> for line in table(["NAME", "SIZE"], [["a", "10 B"], ["bcdef", "9 B"]], "<>"):
    ...     print(line)
    NAME   SIZE
    a      10 B
    bcdef   9 B
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    sides = sides.ljust(len(widths), "<")
    return [
        "  ".join(
            pad(cell, columns, side)
            for cell, columns, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in lines
    ]


def pad(cell: str, columns: int, side: str = "<") -> str:
    """Return *cell* with spaces up to a width in columns of a terminal."""
    space = " " * (columns - width(cell))
    return space + cell if side == ">" else cell + space


def width(text: str) -> int:
    """Return how many columns of a terminal *text* takes.

    Examples
    --------
    >>> width("Sätze"), width("文章")
    (5, 4)
    """
    plain = unicodedata.normalize("NFC", click.unstyle(text))
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in plain
    )


def printable(text: str) -> str:
    r"""Return *text* with JSON escapes for control characters of a terminal.

    Examples
    --------
    >>> printable("Sätze\x1b[2J")
    'Sätze\\u001b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


_COLOURS = {"ok": "green", "done": "green"} | dict.fromkeys(
    ("damaged", "unsupported", "unreadable"), "red"
)


def coloured(state: str) -> str:
    """Return a state in its colour; click removes it unless on a terminal."""
    return click.style(state, fg=_COLOURS.get(state.split()[0], "yellow"))


def state_cell(status: Status, stale: bool = False) -> str:
    """Return the state of a checkpoint in its colour."""
    state = "stale" if stale else status.state
    return coloured(format_state(state, status.partitions, status.expected))
