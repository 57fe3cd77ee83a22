"""Which filesystem a URL has, and which implementation of `Files` it gets."""

from typing import Any

import fsspec
from fsspec import AbstractFileSystem, available_protocols, get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.implementations.cached import CachingFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import get_protocol

from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._filesystem.azure import AzureFiles
from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.ftp import FTPFiles
from agatha_ckpt._filesystem.gcs import GCSFiles
from agatha_ckpt._filesystem.http import HTTPFiles
from agatha_ckpt._filesystem.local import LocalFiles
from agatha_ckpt._filesystem.memory import MemoryFiles
from agatha_ckpt._filesystem.remote import RemoteFiles
from agatha_ckpt._filesystem.s3 import S3Files
from agatha_ckpt._filesystem.sharing import knows, layers
from agatha_ckpt._filesystem.webdav import WebDAVFiles

# By protocol; and what the filesystem must have beyond fsspec's interface, as others
# than s3fs, gcsfs and adlfs may have the same protocol.
_BY_PROTOCOL: tuple[tuple[set[str], str, type[RemoteFiles]], ...] = (
    ({"s3", "s3a"}, "call_s3", S3Files),
    ({"gs", "gcs"}, "call", GCSFiles),
    ({"abfs", "abfss", "az"}, "service_client", AzureFiles),
    ({"ftp"}, "ftp", FTPFiles),
    ({"http", "https"}, "encode_url", HTTPFiles),
    ({"webdav", "dav"}, "client", WebDAVFiles),
)


def filesystem_of(url: str, options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem of a URL and the path on it, as fsspec does.

    Its cache of listings is off where it has one: s3fs and gcsfs would not find files
    that another process wrote after the folder was listed.
    """
    without_cache = {"use_listings_cache": False} | options
    if get_protocol(url) in ("file", "local", "memory"):
        without_cache = options
    try:
        fs, path = url_to_fs(url, **without_cache)
    except TypeError as error:  # sshfs and webdav4 know no such option
        if "use_listings_cache" not in str(error):
            raise
        fs, path = url_to_fs(url, **options)
    return fs, path


def is_chain(url: str) -> bool:
    """Return whether each link of a URL but the last uses the filesystem behind it.

    fsspec takes the first link, and leaves out what that one does not use.
    """
    *links, last = url.split("::")
    for link in links:
        protocol = link.partition("://")[0]
        if protocol not in {*available_protocols(), *fsspec.registry}:
            return False
        try:
            classes = get_filesystem_class(protocol).__mro__
        except ImportError:  # which the URL itself raises as well
            continue
        if not any(knows(cls.__init__, "target_protocol") for cls in classes):
            return False
    return bool(last)


def files_for(fs: AbstractFileSystem, fsync: bool) -> Files:
    """Return how the store uses a filesystem; *fsync* applies to local disk only.

    Raises
    ------
    RootNotSetError
        The filesystem, or one that it uses, keeps copies of files.
    """
    for layer in layers(fs):
        if issubclass(type(layer), CachingFileSystem):
            name = _protocols(type(layer))[0]
            raise RootNotSetError(
                f"the filesystem {name!r} keeps copies of files, so that what other "
                "runs have saved or cleared would not be seen; set the root that is "
                "behind it"
            )
    if isinstance(fs, LocalFileSystem):
        return LocalFiles(fsync)
    if isinstance(fs, MemoryFileSystem):
        return MemoryFiles(fs)
    for names, member, files in _BY_PROTOCOL:
        if names.intersection(_protocols(fs)) and hasattr(fs, member):
            return files(fs)
    return RemoteFiles(fs)


def _protocols(
    fs: AbstractFileSystem | type[AbstractFileSystem],
) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
