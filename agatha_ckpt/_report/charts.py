"""Pictures of a spread, as SVG."""

from collections.abc import Callable

from agatha_ckpt._html import shown
from agatha_ckpt._report.skew import SKEW_FACTOR, Spread, binned

_WIDTH, _HEIGHT = 256, 72
_COLUMNS = 64
_WIDEST = 20.0  # a column


def profile(spread: Spread, what: str, written: Callable[[float], str]) -> str:
    """Return the values in order of partition number, as columns on a base line.

    Where there are more partitions than columns, a column stands for as many
    neighbours as another: dark up to their median, pale up to their largest.

    Parameters
    ----------
    spread : Spread
    what : str
        What the values are, such as ``"Bytes"``.
    written : callable
        Writes a value for people.
    """
    columns = binned(spread.values, _COLUMNS)
    scale = (_HEIGHT - 2) / spread.largest
    end = _WIDTH * filled(spread)
    step = end / len(columns)
    gap = 1 if step > 2.5 else 0.25
    paths: dict[str, list[str]] = {"pale": [], "high": [], "dark": []}
    for k, (middle, largest) in enumerate(columns):
        x, width = k * step, step - gap
        high = spread.is_outlier(largest)
        if high:
            paths["high"].append(_column(x, width, largest * scale))
        elif largest > middle:
            paths["pale"].append(_column(x, width, largest * scale))
        if not high or middle < largest:
            paths["dark"].append(_column(x, width, middle * scale))
    each = -(-len(spread.values) // _COLUMNS)
    grouped = f", a column for {each} neighbours" if each > 1 else ""
    desc = (
        f"{len(spread.values):,} partitions in order of their number{grouped}. "
        f"Smallest {written(spread.smallest)}, median {written(spread.median)}, "
        f"largest {written(spread.largest)} (partition {spread.where})."
    )
    lines = [_level("middle", spread.median * scale, end)]
    if spread.is_skewed and spread.median:
        lines.append(_level("limit", SKEW_FACTOR * spread.median * scale, end))
    drawn = "".join(
        f'<path class="{kind}" d="{"".join(parts)}"/>'
        for kind, parts in paths.items()
        if parts
    )
    return (
        f'<svg class="profile" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{shown(what)} of each partition</title><desc>{shown(desc)}</desc>"
        f'<path class="base" d="M0 {_HEIGHT - 0.5}H{_number(end)}"/>'
        f"{drawn}{''.join(lines)}</svg>"
    )


def filled(spread: Spread) -> float:
    """Return how much of its width a profile fills: few columns do not fill it."""
    columns = len(binned(spread.values, _COLUMNS))
    return min(1.0, columns * _WIDEST / _WIDTH)


def strip(spread: Spread, what: str, written: Callable[[float], str]) -> str:
    """Return the spread on one line from 0 to the largest, for a cell of a table.

    A thin line from the smallest to the largest, a box around the middle half of the
    partitions, and a stroke at the median: the further left these are, the more the
    largest partition stands out.
    """
    width, height = 52, 14
    scale = (width - 2) / spread.largest

    def x(value: float) -> str:
        return _number(1 + value * scale)

    low, high = spread.quantile(0.25), spread.quantile(0.75)
    label = (
        f"{what}: median {written(spread.median)}, largest {written(spread.largest)}"
    )
    middle = height // 2
    return (
        f'<svg class="strip" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img"><title>{shown(label)}</title>'
        f'<path class="range" d="M{x(spread.smallest)} {middle}H{x(spread.largest)}'
        f'M{x(spread.largest)} {middle - 3}v6"/>'
        f'<path class="half" d="M{x(low)} {middle - 4}H{x(high)}v8H{x(low)}z"/>'
        f'<path class="stroke" d="M{x(spread.median)} 1V{height - 1}"/></svg>'
    )


def _column(x: float, width: float, height: float) -> str:
    height = max(height, 0.75)  # what is small is there all the same
    top = _number(_HEIGHT - 1 - height)
    return f"M{_number(x)} {_HEIGHT - 1}V{top}h{_number(width)}V{_HEIGHT - 1}z"


def _level(kind: str, height: float, end: float) -> str:
    y = _number(_HEIGHT - 1 - height)
    return f'<path class="{kind}" d="M0 {y}H{_number(end)}"/>'


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
