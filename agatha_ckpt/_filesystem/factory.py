"""Which implementation of `Files` a filesystem gets."""

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._filesystem.azure import AzureFiles
from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.gcs import GCSFiles
from agatha_ckpt._filesystem.local import LocalFiles
from agatha_ckpt._filesystem.memory import MemoryFiles
from agatha_ckpt._filesystem.remote import RemoteFiles
from agatha_ckpt._filesystem.s3 import S3Files

# By protocol; and what the filesystem must have beyond fsspec's interface, as others
# than s3fs, gcsfs and adlfs may have the same protocol.
_OBJECT_STORES = (
    ({"s3", "s3a"}, "call_s3", S3Files),
    ({"gs", "gcs"}, "call", GCSFiles),
    ({"abfs", "abfss", "az"}, "service_client", AzureFiles),
)


def files_for(fs: AbstractFileSystem, fsync: bool) -> Files:
    """Return how the store uses a filesystem; *fsync* applies to local disk only."""
    if isinstance(fs, LocalFileSystem):
        return LocalFiles(fsync)
    if isinstance(fs, MemoryFileSystem):
        return MemoryFiles(fs)
    protocol = fs.protocol
    protocols = {protocol} if isinstance(protocol, str) else set(protocol)
    for names, member, files in _OBJECT_STORES:
        if protocols & names and hasattr(fs, member):
            return files(fs)
    return RemoteFiles(fs)
