"""Object stores for tests: each a server process that its fixture starts and stops.

The filesystem's options go to fsspec's configuration, as a user's own configuration
file would, so that a URL alone names a root in this process and in those it starts.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec
import pytest

SERVE = Path(__file__).with_name("serve.py")
# Azurite is known to everybody by this account; it is no secret.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
    "K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Cloud:
    """A bucket on a running server."""

    protocol: str
    bucket: str
    url: str  # of the server
    options: dict  # for the filesystem

    @property
    def fs(self):
        """A filesystem that sees what others write."""
        options = self.options | {"use_listings_cache": False}
        return fsspec.filesystem(self.protocol, **options)

    def new_root(self):
        """The URL of a root that nobody has used."""
        return f"{self.protocol}://{self.bucket}/{uuid.uuid4().hex}"

    def through(self, url):
        """The same bucket, reached at another URL, such as that of a proxy."""
        text = json.dumps(self.options).replace(self.url, url)
        return replace(self, url=url, options=json.loads(text))

    @contextlib.contextmanager
    def configured(self):
        """Let the protocol mean this server, here and in processes started here."""
        with pytest.MonkeyPatch.context() as patch:
            conf = fsspec.config.conf
            patch.setitem(conf, self.protocol, self.options)
            variable = f"FSSPEC_{self.protocol.upper()}"
            patch.setenv(variable, json.dumps(self.options))
            yield self


@contextlib.contextmanager
def served(which, *arguments):
    """Run a server of `serve.py` and give its URL."""
    process = subprocess.Popen(
        [sys.executable, str(SERVE), which, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PATH": _path()},
    )
    try:
        url = process.stdout.readline().strip()
        assert url, f"the server {which} did not start"
        yield url
    finally:
        process.communicate()


def _path():
    # Programs that were installed beside this Python, and in no activated environment.
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])


@contextlib.contextmanager
def s3(server, key, secret, **options):
    with served(server) as url:
        options |= {"key": key, "secret": secret, "endpoint_url": url}
        cloud = Cloud("s3", "bucket", url, options)
        cloud.fs.mkdir(cloud.bucket)
        yield cloud


@contextlib.contextmanager
def gcs():
    with served("gcs") as url:
        options = {"token": "anon", "endpoint_url": url, "project": "project"}
        cloud = Cloud("gs", "bucket", url, options)
        cloud.fs.mkdir(cloud.bucket)
        yield cloud


@contextlib.contextmanager
def azure(shared_folder):
    """Azurite, from the PATH or else from npm."""
    program = shutil.which("azurite-blob")
    if program is None:
        if shutil.which("npm") is None:
            pytest.skip("Azurite runs on Node, which is not installed")
        program = _installed_azurite(shared_folder)
    with served("azurite", program) as url:
        account = f"{url}/{AZURITE_ACCOUNT}"
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};"
            f"AccountKey={AZURITE_KEY};BlobEndpoint={account};"
        )
        cloud = Cloud("abfs", "bucket", url, {"connection_string": connection})
        cloud.fs.mkdir(cloud.bucket)
        yield cloud


def _installed_azurite(shared_folder):
    folder = shared_folder / "azurite"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    with open(shared_folder / "azurite.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
            command += ["--prefix", str(folder), "azurite@3.37.0"]
            # Where there is no registry, npm tries for minutes.
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=300)
            except subprocess.SubprocessError as error:
                pytest.skip(f"npm cannot install Azurite: {error}")
    return str(program)
