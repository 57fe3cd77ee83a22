"""Figures for people, and tables of them."""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click
from dask.utils import format_bytes

_STEPS = (  # seconds of a unit, and up to how many seconds it is used
    (1, "s", 60),
    (60, "min", 3600),
    (3600, "h", 48 * 3600),
    (86_400, "d", 60 * 86_400),
    (30.44 * 86_400, "mo", 730 * 86_400),
    (365.25 * 86_400, "y", float("inf")),
)


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


def count(number: int | None, noun: str = "") -> str:
    """Return a number for people; ``"?"`` where it is not known.

    Examples
    --------
    >>> count(1234567), count(1, "partition"), count(2, "partition")
    ('1,234,567', '1 partition', '2 partitions')
    """
    if number is None:
        return "?"
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


def size(number: int) -> str:
    """Return a number of bytes for people."""
    text: str = format_bytes(number)
    return text


def age(time: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, in one unit; ``"?"`` where it is not known.

    Parameters
    ----------
    time : str, optional
        ISO 8601 with offset.
    now : datetime, optional

    Examples
    --------
    >>> now = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    >>> age("2026-03-01T09:00:00+00:00", now), age("2026-03-04T11:55:00+00:00", now)
    ('3 d', '5 min')
    """
    seconds = seconds_since(time, now)
    return "?" if seconds is None else duration(max(seconds, 0))


def seconds_since(time: str | None, now: datetime | None = None) -> float | None:
    """Return how many seconds ago a time was, where it is known."""
    try:
        then = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return ((now or datetime.now(UTC)) - then).total_seconds()


def duration(seconds: float) -> str:
    """Return a time for people, in one unit.

    Examples
    --------
    >>> duration(0.2), duration(59), duration(60), duration(86400), duration(5e6)
    ('0 s', '59 s', '1 min', '24 h', '57 d')
    """
    for unit, name, limit in _STEPS:
        if seconds < limit:
            return f"{int(seconds / unit)} {name}"
    raise AssertionError("unreachable")


_COLOURS = {"done": "green", "damaged": "red", "newer": "red"}


def coloured(condition: str) -> str:
    """Return a state in its colour, which a terminal alone shows."""
    return click.style(condition, fg=_COLOURS.get(condition.split()[0], "yellow"))
