"""Tables on a terminal."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import click

from agatha_ckpt._human import format_state
from agatha_ckpt._store.status import Status


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    sides: str = "",
    spare: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a table with aligned columns, narrowed to the terminal.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of str
        Cells may be styled with ``click.style``.
    sides : str
        For each column ``>`` (right) or ``<`` (left, also for those beyond).
    spare : sequence of str
        Headers of the columns that a narrow terminal can do without, the first first.
        What is left is narrowed by shorter names in the first column. The last column
        is wrapped; one without a header, of notes, is put below where it has no room.

    Examples
    --------
    >>> for line in table(["NAME", "SIZE"], [["a", "10 B"], ["bcdef", "9 B"]], "<>"):
    ...     print(line)
    NAME   SIZE
    a      10 B
    bcdef   9 B
    """
    columns = list(zip(header, *rows, strict=True))
    places = list(zip(columns, sides.ljust(len(columns), "<"), strict=True))
    available = terminal_columns()
    if available:
        places = _fit(places, available, list(spare))
    *aligned, (notes, last_side) = places
    widths = [max(map(width, cells)) for cells, _ in aligned]
    last = max(map(width, notes))
    room = (available or 1_000) - sum(wide + 2 for wide in widths)
    below = not notes[0] and room < min(last, _NOTE_COLUMNS)
    lines = []
    for *line, note in zip(*(cells for cells, _ in places), strict=True):
        lead = "".join(
            pad(cell, wide, side) + "  "
            for cell, wide, (_, side) in zip(line, widths, aligned, strict=True)
        )
        if below:
            lines.append(lead.rstrip())
            lead = "    "
            if not note:
                continue
        lines += hanging(lead, note if last_side == "<" else pad(note, last, ">"))
    return lines


def hanging(lead: str, text: str) -> list[str]:
    """Return *lead* and *text*, which is wrapped on a terminal, between words.

    A word that is longer than a line stays whole, so that a path can be copied.
    """
    indent = width(lead)
    room = max((terminal_columns() or sys.maxsize) - indent, _WORD_COLUMNS)
    first, *others = text.split(" ")
    lines = [first]
    for word in others:
        if width(f"{lines[-1]} {word}") > room:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return [
        f"{' ' * indent if number else lead}{line}".rstrip()
        for number, line in enumerate(lines)
    ]


def terminal_columns() -> int | None:
    """Return the width of the terminal that stdout is; None where it is another."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


_Place = tuple[tuple[str, ...], str]  # the cells of a column, and their side
_NAME_COLUMNS = 16  # of the shortest name
_NOTE_COLUMNS = 24  # of notes at the right of other columns
_WORD_COLUMNS = 12  # of wrapped text


def _fit(places: list[_Place], available: int, spare: list[str]) -> list[_Place]:
    """Return the columns of a table for so many columns of a terminal."""
    (names, side), *others = places
    used = sum(2 + max(map(width, cells)) for cells, _ in others if cells[0])
    longest = max(map(width, names))
    if spare and available - used < min(longest, _NAME_COLUMNS):
        left = [place for place in places if place[0][0] != spare[0]]
        return _fit(left, available, spare[1:])
    room = max(available - used, _NAME_COLUMNS)
    return [(tuple(shorten(name, room) for name in names), side), *others]


def shorten(name: str, columns: int) -> str:
    """Return a name of at most so many columns: names differ as often at their ends.

    Examples
    --------
    >>> shorten("sentences_of_2026", 9), shorten("sentences", 9)
    ('sent…2026', 'sentences')
    """
    if width(name) <= columns:
        return name
    head, tail = name[: len(name) // 2], name[len(name) // 2 :]
    while width(f"{head}…{tail}") > columns:
        if width(head) > width(tail):
            head = head[:-1]
        else:
            tail = tail[1:]
    return f"{head}…{tail}"


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
