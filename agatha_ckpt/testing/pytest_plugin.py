"""Fixtures for pytest: ``pytest_plugins = ["agatha_ckpt.testing.pytest_plugin"]``."""

from collections.abc import Iterator

import pytest

from agatha_ckpt import Checkpointer
from agatha_ckpt.testing import memory_checkpointer, memory_root


@pytest.fixture
def ckpt() -> Iterator[Checkpointer]:
    """Give the Checkpointer of `memory_checkpointer`, a new one for each test."""
    with memory_checkpointer() as ckpt:
        yield ckpt


@pytest.fixture
def ckpt_root() -> Iterator[str]:
    """Give the URL of `memory_root`, a new one for each test."""
    with memory_root() as root:
        yield root
