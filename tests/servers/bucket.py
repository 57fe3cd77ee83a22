"""A bucket on a server that a test has started."""

import contextlib
import json
import uuid
from dataclasses import dataclass, replace

import fsspec
import pytest


@contextlib.contextmanager
def configured(protocol, options):
    """Make the protocol lead to a server, here and in processes started here.

    The options go to fsspec's configuration, as a user's own configuration file would,
    so that a URL alone names a root.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, protocol, options)
        patch.setenv(f"FSSPEC_{protocol.upper()}", json.dumps(options))
        yield


@dataclass(frozen=True)
class Bucket:
    """A bucket on a running server."""

    protocol: str
    url: str  # of the server
    options: dict  # of the filesystem
    name: str = "bucket"

    @property
    def fs(self):
        """A filesystem that sees what other processes write."""
        options = self.options | {"use_listings_cache": False}
        return fsspec.filesystem(self.protocol, **options)

    def made(self):
        """Return this bucket after making it on the server."""
        self.fs.mkdir(self.name)
        return self

    def new_root(self):
        """Return the URL of an unused root."""
        return f"{self.protocol}://{self.name}/{uuid.uuid4().hex}"

    def through(self, url):
        """Return the same bucket reached at another URL, such as that of a proxy."""
        text = json.dumps(self.options).replace(self.url, url)
        return replace(self, url=url, options=json.loads(text))

    @contextlib.contextmanager
    def configured(self):
        """Make the protocol lead to this server."""
        with configured(self.protocol, self.options):
            yield self
