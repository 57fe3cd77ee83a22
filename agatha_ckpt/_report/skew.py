"""How unequal the partitions of a checkpoint are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

SKEW_FACTOR = 3.0  # largest to median, above which a checkpoint is called skewed
# Partitions below these cost no time: their factor is chance, or a file header.
SKEW_MIN_BYTES = 64 * 1024
SKEW_MIN_SECONDS = 1.0


@dataclass(frozen=True)
class Spread:
    """Bytes or seconds of the partitions of one checkpoint.

    Attributes
    ----------
    values : tuple of float
        In order of partition number; not empty.
    threshold : float
        The largest value that never counts as skewed.

    Examples
    --------
    >>> spread = Spread((2.0, 1.0, 2.0, 9.0))
    >>> spread.median, spread.largest, spread.largest_index, spread.factor
    (2.0, 9.0, 3, 4.5)
    >>> spread.is_skewed
    True
    """

    values: tuple[float, ...]
    threshold: float = 0.0

    @cached_property
    def smallest(self) -> float:
        """The smallest value."""
        return min(self.values)

    @cached_property
    def median(self) -> float:
        """The median."""
        return median(self.values)

    @cached_property
    def largest(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def largest_index(self) -> int:
        """The number of the first partition that has the largest value."""
        return self.values.index(self.largest)

    @property
    def factor(self) -> float | None:
        """The largest divided by the median; None where the median is 0."""
        return self.largest / self.median if self.median > 0 else None

    @cached_property
    def is_skewed(self) -> bool:
        """Whether one partition is far larger than most."""
        if self.largest <= self.threshold or len(self.values) < 2:
            return False
        return self.factor is None or self.factor > SKEW_FACTOR

    def is_outlier(self, value: float) -> bool:
        """Return whether a partition of that size makes the checkpoint skewed."""
        return self.is_skewed and value > SKEW_FACTOR * self.median

    def quantile(self, part: float) -> float:
        """Return the value that *part* of all, from 0 to 1, do not exceed."""
        ordered = sorted(self.values)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def spread_of(values: Iterable[float], threshold: float = 0.0) -> Spread | None:
    """Return the spread of *values*; None if there are none, or they are not known."""
    known = tuple(values)
    if not known or min(known) < 0 or not any(known):
        return None
    return Spread(known, threshold)


def group_neighbours(
    values: Sequence[float], max_groups: int
) -> list[tuple[float, float]]:
    """Return median and largest of neighbours, in at most *max_groups* equal groups.

    Examples
    --------
    >>> group_neighbours([1, 5, 2, 2], 2)
    [(3.0, 5), (2.0, 2)]
    """
    size = -(-len(values) // max_groups)
    groups = (values[i : i + size] for i in range(0, len(values), size))
    return [(median(group), max(group)) for group in groups]
