"""Fixtures of more than one module."""

from collections import Counter

import dask
import pytest


@pytest.fixture
def in_this_process():
    """Let dask compute in this process and thread."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def figures(record_property):
    """Counts, shown at the end of the test run."""
    counted = Counter()
    yield counted
    line = ", ".join(f"{n:,} {what}" for what, n in sorted(counted.items()))
    record_property("figures", line)
