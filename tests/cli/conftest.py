"""Roots for the command line."""

import tempfile
from pathlib import Path

import pytest

from tests.cli.cases import fill
from tests.store.test_requests import counting


@pytest.fixture
def folder(tmp_path):
    """A root with three checkpoints and files of other programs."""
    fill(tmp_path)
    tmp_path.joinpath("notes.txt").write_text("mine")
    tmp_path.joinpath("foreign").mkdir()
    tmp_path.joinpath("foreign/data.csv").write_text("mine")
    return tmp_path


@pytest.fixture
def shared():
    """A root with three checkpoints that other users can read."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        fill(path)
        yield path


@pytest.fixture
def counted(s3):
    with counting(s3) as counted:
        yield counted
