"""Random values of every type that the codec takes, and of types close to these."""

import pytest

from tests.format.mixed_values import check


def test_p9_mixed_values_come_back_equal_or_are_refused():
    kept, refused = check(count=2_000, seed=7)
    assert kept > 1_700
    assert refused > 50


@pytest.mark.long
def test_p9_a_million_mixed_values_come_back_equal_or_are_refused():
    kept, refused = check(count=1_000_000, seed=1)
    assert kept + refused == 1_000_000
