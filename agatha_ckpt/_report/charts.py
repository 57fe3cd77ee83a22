"""The lines and columns of charts, as classes and paths of SVG."""

from agatha_ckpt._report.skew import SKEW_FACTOR, Spread, group_neighbours

WIDTH, HEIGHT = 256, 72
STRIP_WIDTH, STRIP_HEIGHT = 52, 14
MAX_COLUMNS = 64
_MAX_COLUMN_WIDTH = 20.0


def profile(spread: Spread) -> dict[str, str]:
    """Return the values in order of partition number, as columns on a base line.

    Where there are more partitions than columns, a column stands for several
    neighbours: dark up to their median, pale up to their largest.
    """
    columns = group_neighbours(spread.values, MAX_COLUMNS)
    scale = (HEIGHT - 2) / spread.largest
    end = WIDTH * filled(spread)
    step = end / len(columns)
    width = step - (1 if step > 2.5 else 0.25)
    paths = {"base": _level(-0.5, end), "pale": "", "high": "", "dark": ""}
    for k, (middle, largest) in enumerate(columns):
        is_high = spread.is_outlier(largest)
        if is_high or largest > middle:
            kind = "high" if is_high else "pale"
            paths[kind] += _column(k * step, width, largest * scale)
        if not is_high or middle < largest:
            paths["dark"] += _column(k * step, width, middle * scale)
    paths["middle"] = _level(spread.median * scale, end)
    if spread.is_skewed and spread.median:
        paths["limit"] = _level(SKEW_FACTOR * spread.median * scale, end)
    return {kind: path for kind, path in paths.items() if path}


def filled(spread: Spread) -> float:
    """Return how much of its width a profile fills: few columns do not fill it."""
    return min(1.0, len(spread.values) * _MAX_COLUMN_WIDTH / WIDTH)


def strip(spread: Spread) -> dict[str, str]:
    """Return the spread on one line from 0 to the largest, for a cell of a table.

    A thin line from the smallest to the largest, a box around the middle half of the
    partitions, and a stroke at the median: the further left these are, the more the
    largest partition stands out.
    """
    scale = (STRIP_WIDTH - 2) / spread.largest
    smallest, low, median, high, largest = (
        f"{1 + value * scale:.5g}"
        for value in (
            spread.smallest,
            spread.quantile(0.25),
            spread.median,
            spread.quantile(0.75),
            spread.largest,
        )
    )
    middle = STRIP_HEIGHT // 2
    return {
        "range": f"M{smallest} {middle}H{largest}M{largest} {middle - 3}v6",
        "half": f"M{low} {middle - 4}H{high}v8H{low}z",
        "stroke": f"M{median} 1V{STRIP_HEIGHT - 1}",
    }


def _column(x: float, width: float, height: float) -> str:
    height = max(height, 0.75)  # even the smallest partition is visible
    base, top = HEIGHT - 1, HEIGHT - 1 - height
    return f"M{x:.5g} {base}V{top:.5g}h{width:.5g}V{base}z"


def _level(height: float, end: float) -> str:
    return f"M0 {HEIGHT - 1 - height:.5g}H{end:.5g}"
