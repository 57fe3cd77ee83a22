"""Skew, and its charts."""

import re

import pytest

from agatha_ckpt._report.charts import HEIGHT, STRIP_WIDTH, WIDTH, profile, strip
from agatha_ckpt._report.skew import SKEW_FACTOR, SKEW_MIN_BYTES, Spread, spread_of


@pytest.mark.parametrize(
    "values, skewed",
    [
        ([100_000] * 8 + [300_000], False),
        ([100_000] * 8 + [300_001], True),
        ([10] * 8 + [SKEW_MIN_BYTES], False),  # too small to matter
        ([10] * 8 + [SKEW_MIN_BYTES + 1], True),
        ([0] * 8 + [300_000], True),  # the median is 0
        ([300_000], False),
    ],
)
def test_a_checkpoint_is_skewed_above_the_factor(values, skewed):
    assert SKEW_FACTOR == 3
    assert spread_of(values, SKEW_MIN_BYTES).is_skewed is skewed


@pytest.mark.parametrize("values", [[], [-1, -1], [5, -1], [0, 0]])
def test_unknown_values_have_no_spread(values):
    assert spread_of(values) is None


def columns(path):
    number = r"(-?[\d.]+)"
    found = re.findall(rf"M{number} {number}V{number}h{number}V", path)
    return [tuple(map(float, column)) for column in found]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, 100_001])
def test_a_profile_has_a_column_for_each_partition_inside_its_frame(count):
    paths = profile(Spread(tuple(float(1 + k % 7) for k in range(count))))
    dark = columns(paths["dark"])
    assert len(dark) == count if count <= 64 else 32 < len(dark) <= 64
    for x, base, top, width in dark + columns(paths.get("pale", "")):
        assert x >= 0
        assert width > 0
        assert x + width <= WIDTH + 0.01
        assert 0 <= top < base <= HEIGHT


def test_an_outlier_is_marked():
    paths = profile(Spread((1.0,) * 20 + (9.0,) + (1.0,) * 20))
    ((_, _, top, _),) = columns(paths["high"])
    assert top == 1
    assert len(columns(paths["dark"])) == 40
    assert "limit" in paths
    assert "limit" not in profile(Spread((1.0, 2.0)))


def test_a_strip_is_inside_its_frame():
    paths = strip(Spread((0.0, 1.0, 50.0, 100.0)))
    xs = [float(x) for x in re.findall(r"[MH]([\d.]+)", "".join(paths.values()))]
    assert 0 < min(xs) < max(xs) < STRIP_WIDTH
