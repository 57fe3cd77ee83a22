"""Numbers, sizes and times for people."""

from datetime import UTC, datetime, timedelta

import pytest
from dask.utils import format_bytes as format_bytes_of_dask
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt._human import format_age, format_bytes

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@given(st.integers(0, 2**61))
def test_bytes_are_written_as_dask_writes_them(number):
    assert format_bytes(number) == format_bytes_of_dask(number)


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (3599, "59 min"),
        (47 * 3600, "47 h"),
        (48 * 3600, "2 d"),
        (59 * 86400, "59 d"),
        (100 * 86400, "3 mo"),
        (800 * 86400, "2 y"),
    ],
)
def test_an_age_has_one_unit(seconds, shown):
    assert format_age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown
    assert [format_age(time) for time in (None, "", "yesterday")] == ["?"] * 3
