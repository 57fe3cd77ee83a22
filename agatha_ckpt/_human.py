"""Numbers, sizes and times for people."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby

_BYTES = ((50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "kiB"))
_AGES = (  # seconds of a unit, and up to how many seconds it is used
    (1, "s", 60),
    (60, "min", 3600),
    (3600, "h", 48 * 3600),
    (86_400, "d", 60 * 86_400),
    (30.44 * 86_400, "mo", 730 * 86_400),
    (365.25 * 86_400, "y", float("inf")),
)


def format_count(number: int | None, noun: str = "") -> str:
    """Return a number with a noun; ``"?"`` where the number is not known.

    Examples
    --------
    >>> format_count(1234567), format_count(1, "record"), format_count(2, "record")
    ('1,234,567', '1 record', '2 records')
    """
    if number is None:
        return "?"
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


def format_bytes(number: float) -> str:
    """Return a number of bytes, written as dask writes it.

    Examples
    --------
    >>> format_bytes(921), format_bytes(922), format_bytes(12345678)
    ('921 B', '0.90 kiB', '11.77 MiB')
    """
    number = round(number)
    for power, unit in _BYTES:
        if number >= 0.9 * 2**power:
            return f"{number / 2**power:.2f} {unit}"
    return f"{number} B"


def format_age(time: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, in one unit; ``"?"`` where it is not known.

    Parameters
    ----------
    time : str, optional
        ISO 8601; UTC where it has no offset.
    now : datetime, optional

    Examples
    --------
    >>> now = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    >>> format_age("2026-03-01T09:00:00+00:00", now)
    '3 d'
    >>> format_age("2026-03-04T11:55:00+00:00", now)
    '5 min'
    """
    seconds = seconds_since(time, now)
    if seconds is None:
        return "?"
    seconds = max(seconds, 0)
    unit, name = next((u, n) for u, n, limit in _AGES if seconds < limit)
    return f"{int(seconds / unit)} {name}"


def seconds_since(time: str | None, now: datetime | None = None) -> float | None:
    """Return how many seconds ago a time was; None where it is not known."""
    try:
        then = datetime.fromisoformat(time or "")
    except (ValueError, TypeError):  # a manifest may hold anything
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return ((now or datetime.now(UTC)) - then).total_seconds()


def format_duration(seconds: float) -> str:
    """Return how long something took, in two digits or more.

    Examples
    --------
    >>> format_duration(0), format_duration(0.00012), format_duration(0.25)
    ('0 s', '120 us', '250 ms')
    >>> format_duration(3.14), format_duration(59.99), format_duration(754)
    ('3.1 s', '60 s', '12 min 34 s')
    >>> format_duration(7384)
    '2 h 3 min'
    """
    if seconds < 0.000_95:
        return f"{_two_digits(seconds * 1_000_000)} us" if seconds else "0 s"
    if seconds < 1:
        return f"{_two_digits(seconds * 1000)} ms"
    if round(seconds, 1) <= 60:
        return f"{_two_digits(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60)} min"


def format_ratio(factor: float) -> str:
    """Return a factor with a multiplication sign.

    Examples
    --------
    >>> [format_ratio(factor)[:-1] for factor in (1, 3.14159, 1234)]
    ['1.0', '3.1', '1,234']
    """
    return f"{_two_digits(factor)}\N{MULTIPLICATION SIGN}"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def format_partitions(indexes: Iterable[int]) -> str:
    """Return partition numbers as ranges.

    Examples
    --------
    >>> format_partitions([7, 1, 5, 6]), format_partitions([3])
    ('partitions 1, 5-7', 'partition 3')
    """
    ordered = sorted(indexes)
    spans = []
    # Consecutive numbers have the same distance from their position.
    for _, pairs in groupby(enumerate(ordered), lambda pair: pair[1] - pair[0]):
        span = [index for _, index in pairs]
        spans.append(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]))
    return f"partition{'' if len(ordered) == 1 else 's'} {', '.join(spans)}"


def format_state(state: str, partitions: int | None, expected: int | None) -> str:
    """Return a state, with how many of its partitions a partial has.

    Examples
    --------
    >>> format_state("done", 4, 4), format_state("partial", 1, None)
    ('done', 'partial 1/?')
    """
    if state != "partial":
        return state
    return f"{state} {format_count(partitions)}/{format_count(expected)}"
