"""Amazon S3, and servers that speak its protocol."""

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import sync

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles

_TRIES = 5  # of a read of a marker, as s3fs makes them of other reads


class S3Files(ObjectStoreFiles):
    """An s3fs filesystem.

    Conditional requests go to `call_s3`: the methods of the filesystem drop conditions
    that they do not support.
    """

    batch_size = 1_000

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__(fs)
        # With more than one connection, s3fs asks for the size first. Older versions
        # have one.
        one = {"max_concurrency": 1}
        known = inspect.signature(fs.cat_file).parameters
        self._read_options = one if one.keys() <= known.keys() else {}

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path, **self._read_options)
        return data

    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        from s3fs.core import S3_RETRYABLE_ERRORS

        for _ in range(_TRIES - 1):
            with suppress(*S3_RETRYABLE_ERRORS):
                return self._read_tagged_once(path)
        return self._read_tagged_once(path)

    def _read_tagged_once(self, path: str) -> tuple[str, bytes]:
        # s3fs tries a request again, but not the reading of its body.
        answer = self._call("get_object", path)
        return answer["ETag"], sync(self._fs.loop, _content_of, answer["Body"])

    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        self._call("put_object", path, Body=data, IfMatch=tag)

    def _remove_if(self, path: str, tag: str) -> None:
        self._call("delete_object", path, IfMatch=tag)

    def _call(self, operation: str, path: str, **options: Any) -> Any:
        bucket, key, _ = self._fs.split_path(path)
        return self._fs.call_s3(operation, Bucket=bucket, Key=key, **options)

    def _remove_batch(self, paths: Sequence[str]) -> Sequence[str]:
        # s3fs does not report what a bulk delete could not remove.
        bucket, _, _ = self._fs.split_path(paths[0])
        by_key = {self._fs.split_path(path)[1]: path for path in paths}
        objects = [{"Key": key} for key in by_key]
        answer = self._fs.call_s3(
            "delete_objects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
        )
        refused = {error.get("Key") for error in answer.get("Errors", [])}
        # Some servers do not name the key.
        return [by_key[key] for key in refused] if refused <= by_key.keys() else paths


async def _content_of(body: Any) -> bytes:
    try:
        content: bytes = await body.read()
    finally:
        body.close()
    return content
