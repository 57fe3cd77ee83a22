"""A bucket on a server that a test has started."""

import contextlib
import json
import uuid
from dataclasses import dataclass, replace

import fsspec
import pytest


@dataclass(frozen=True)
class Bucket:
    """A bucket on a running server.

    The options go to fsspec's configuration, as a user's own configuration file would,
    so that a URL alone names a root in this process and in those that it starts.
    """

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
        """Make the protocol lead to this server, here and in processes started here."""
        with pytest.MonkeyPatch.context() as patch:
            conf = fsspec.config.conf
            patch.setitem(conf, self.protocol, self.options)
            variable = f"FSSPEC_{self.protocol.upper()}"
            patch.setenv(variable, json.dumps(self.options))
            yield self
