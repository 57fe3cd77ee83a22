"""An Azure Blob Storage server."""

import contextlib

from tests.servers.bucket import Bucket
from tests.servers.process import find_program, running

# The documented account of every Azurite; not a secret.
ACCOUNT = "devstoreaccount1"
KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
    "K1SZFPTOtr/KBHBeksoGMGw=="
)


@contextlib.contextmanager
def azurite():
    """Run Azurite."""
    program = find_program("azurite-blob", "npm install azurite")
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", "0"]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    with running(*command) as url:
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};"
            f"AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT};"
        )
        yield Bucket("abfs", url, {"connection_string": connection}).made()
