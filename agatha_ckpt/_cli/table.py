"""Tables for people."""

import json
import unicodedata
from collections.abc import Iterable, Sequence

import click


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right: str = ""
) -> list[str]:
    """Return the lines of a table whose columns stand below each other.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of str
        Cells may be styled with ``click.style``.
    right : str
        Which columns stand at the right, as figures do: ``>`` for those, and any
        other character for the others, in order.

    Examples
    --------
    >>> for line in table(["NAME", "SIZE"], [["a", "10 B"], ["bcdef", "9 B"]], "<>"):
    ...     print(line)
    NAME   SIZE
    a      10 B
    bcdef   9 B
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    sides = right.ljust(len(widths))
    return [
        "  ".join(
            _padded(cell, width, side == ">")
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in cells
    ]


def _padded(cell: str, to: int, right: bool) -> str:
    space = " " * (to - width(cell))
    return space + cell if right else cell + space


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
    r"""Return *text* with escapes for what a terminal would not print but obey.

    They are those of JSON. What comes from a file may hold anything.

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


def coloured(condition: str) -> str:
    """Return a state in its colour, which a terminal alone shows."""
    return click.style(condition, fg=_COLOURS.get(condition.split()[0], "yellow"))
