"""Figures for people: counts, sizes, times."""

from datetime import UTC, datetime

_STEPS = (  # seconds of a unit, and up to how many seconds it is used
    (1, "s", 60),
    (60, "min", 3600),
    (3600, "h", 48 * 3600),
    (86_400, "d", 60 * 86_400),
    (30.44 * 86_400, "mo", 730 * 86_400),
    (365.25 * 86_400, "y", float("inf")),
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


def size(number: float) -> str:
    """Return a number of bytes for people."""
    from dask.utils import format_bytes  # not before it is needed: the store is below

    text: str = format_bytes(round(number))
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
    except (ValueError, TypeError):  # what a file says may be anything
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


def took(seconds: float) -> str:
    """Return how long something took, for people, in two digits or more.

    Examples
    --------
    >>> took(0), took(0.0012), took(0.25), took(3.14), took(59.99), took(754)
    ('0 s', '1.2 ms', '250 ms', '3.1 s', '60 s', '12 min 34 s')
    >>> took(7384)
    '2 h 3 min'
    """
    if seconds < 1:
        return f"{_digits(seconds * 1000)} ms" if seconds else "0 s"
    if round(seconds, 1) <= 60:
        return f"{_digits(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60)} min"


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def times(factor: float) -> str:
    """Return a factor for people.

    Examples
    --------
    >>> [times(factor)[:-1] for factor in (1, 3.14159, 1234)]
    ['1.0', '3.1', '1,234']
    """
    text = f"{factor:.1f}" if factor < 9.95 else f"{factor:,.0f}"
    return text + "\N{MULTIPLICATION SIGN}"
