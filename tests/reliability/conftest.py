"""Fixtures of more than one module."""

import gc
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


@pytest.fixture
def young():
    """Freeze what other tests have left, so that the collector does not walk it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
