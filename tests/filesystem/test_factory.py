"""Which implementation a filesystem gets."""

import fsspec
import pytest

from agatha_ckpt._filesystem.azure import AzureFiles
from agatha_ckpt._filesystem.factory import files_for
from agatha_ckpt._filesystem.gcs import GCSFiles
from agatha_ckpt._filesystem.local import LocalFiles
from agatha_ckpt._filesystem.memory import MemoryFiles
from agatha_ckpt._filesystem.remote import RemoteFiles
from agatha_ckpt._filesystem.s3 import S3Files

AZURE = "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://localhost:1/a;"


@pytest.mark.parametrize(
    "protocol, options, expected",
    [
        ("file", {}, LocalFiles),
        ("memory", {}, MemoryFiles),
        ("s3", {}, S3Files),
        ("gs", {"token": "anon"}, GCSFiles),
        ("abfs", {"connection_string": AZURE}, AzureFiles),
        ("dir", {"path": "/", "target_protocol": "memory"}, RemoteFiles),
    ],
)
def test_each_filesystem_has_its_implementation(protocol, options, expected):
    fs = fsspec.filesystem(protocol, **options)
    files = files_for(fs, fsync=False)
    assert type(files) is expected
    assert files.local == (expected is LocalFiles)
    assert files.one_process == ("memory" in (protocol, *options.values()))
    assert files.atomic_swap == (expected is not RemoteFiles)


class OtherS3(fsspec.AbstractFileSystem):
    """A client of S3 that is not s3fs."""

    cachable = False
    protocol = ("s3", "s3a")


def test_another_client_of_a_known_protocol_is_used_by_fsspecs_interface():
    assert type(files_for(OtherS3(), fsync=False)) is RemoteFiles
