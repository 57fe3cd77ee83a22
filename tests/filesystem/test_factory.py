"""Which filesystem a URL has, and which implementation it gets."""

import gc
import os
import threading

import fsspec
import pytest
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.local import LocalFileSystem

from agatha_ckpt import CheckpointStore, RootNotSetError
from agatha_ckpt._filesystem.azure import AzureFiles
from agatha_ckpt._filesystem.factory import files_for, filesystem_of
from agatha_ckpt._filesystem.ftp import FTPFiles
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
def test_each_filesystem_has_its_implementation(protocol, options, expected, tmp_path):
    fs = fsspec.filesystem(protocol, **options)
    files = files_for(fs, fsync=False)
    assert type(files) is expected
    assert files.local == (expected is LocalFiles)
    assert files.one_process == ("memory" in (protocol, *options.values()))
    assert files.atomic_swap(str(tmp_path)) == (expected is not RemoteFiles)


class Other(fsspec.AbstractFileSystem):
    """A client that is not s3fs, of a protocol of its own or of S3."""

    cachable = False
    protocol = ("s3", "s3a")


def test_another_client_of_a_known_protocol_is_used_by_fsspecs_interface():
    assert type(files_for(Other(), fsync=False)) is RemoteFiles


class OfFTP(FTPFileSystem):
    def _connect(self):
        self.ftp = open(os.devnull)  # noqa: SIM115


class Strict(LocalFileSystem):
    """A filesystem that refuses what it does not know, as sshfs does."""

    cachable = False
    protocol = "strict"

    def __init__(self, **options):
        if unknown := set(options) - {"auto_mkdir"}:
            raise TypeError(f"got an unexpected keyword argument {unknown.pop()!r}")
        super().__init__(**options)


def test_a_filesystem_that_takes_no_option_for_listings_gets_none():
    fsspec.register_implementation("strict", Strict, clobber=True)
    fs, path = filesystem_of("strict:///x", {"auto_mkdir": True})
    assert (type(fs), path) == (Strict, Strict._strip_protocol("strict:///x"))
    with pytest.raises(TypeError, match="colour"):
        filesystem_of("strict:///x", {"colour": "red"})
    fs, _ = filesystem_of("s3://bucket/x", {"anon": True})
    assert fs.storage_options["use_listings_cache"] is False


CACHES = ["simplecache", "filecache", "blockcache", "cached"]


@pytest.mark.parametrize("protocol", CACHES)
@pytest.mark.parametrize("form", ["{}::memory://x", "dir://x::{}::memory://"])
def test_a_root_whose_files_are_cached_is_refused(protocol, form):
    with pytest.raises(RootNotSetError, match=r"keeps copies of files.*set the root"):
        CheckpointStore(form.format(protocol))


# Older fsspec leaves the file of an archive to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_filesystem_that_caches_files_is_refused_wherever_it_is(tmp_path):
    cached = SimpleCacheFileSystem(
        fs=LocalFileSystem(), cache_storage=str(tmp_path / "cache")
    )
    for fs in (cached, DirFileSystem(str(tmp_path), cached)):
        with pytest.raises(RootNotSetError, match="'simplecache' keeps copies"):
            CheckpointStore("x", fs=fs)
    archive = tmp_path / "a.zip"
    fsspec.filesystem("zip", fo=str(archive), mode="w").close()
    with pytest.raises(RootNotSetError, match="keeps copies"):
        CheckpointStore(f"zip://x::simplecache::file://{archive}")
    gc.collect()
    CheckpointStore(f"zip://x::file://{archive}")


def test_one_connection_is_used_by_one_thread_at_a_time_in_all_stores():
    """FTP and SFTP (paramiko) have one for each filesystem."""
    inside, most = [], []

    class Single(OfFTP):
        def cat_file(self, path, **kwargs):
            inside.append(path)
            most.append(len(inside))
            threading.Event().wait(0.001)
            inside.pop()
            return b""

    fs = Single("host")
    stores = [files_for(fs, fsync=False), files_for(DirFileSystem("/", fs), False)]
    assert type(stores[0]) is FTPFiles
    assert not any(files.concurrent for files in stores)
    threads = [
        threading.Thread(target=files.read, args=("/a",)) for files in stores * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 16
