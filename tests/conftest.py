"""Stores on every filesystem, and nothing left over from one test to the next."""

import uuid

import fsspec
import pytest

import agatha_ckpt
from agatha_ckpt import Checkpointer, CheckpointStore


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """A root that does not exist yet, on each filesystem."""
    if request.param == "local":
        yield str(tmp_path / "root")
        return
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)


@pytest.fixture
def store(root):
    return CheckpointStore(root)


@pytest.fixture
def local(tmp_path):
    """A store on local disk, for what only local disk has."""
    return CheckpointStore(tmp_path / "root")


@pytest.fixture
def checkpointer(store):
    return Checkpointer(store, verbose=False)


@pytest.fixture(autouse=True)
def _default_checkpointer():
    """The default Checkpointer as it is after import, before and after each test."""
    agatha_ckpt.reset()
    yield
    agatha_ckpt.reset()
