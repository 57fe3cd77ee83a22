"""Amazon S3, and servers that speak its protocol."""

from collections.abc import Iterable, Sequence
from typing import Any

from fsspec.asyn import sync

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles


class S3Files(ObjectStoreFiles):
    """An s3fs filesystem.

    Conditional requests go to `call_s3`: the methods of the filesystem drop conditions
    that they do not know.
    """

    def read(self, path: str) -> bytes:
        # With more connections, s3fs asks for the size first.
        data: bytes = self._fs.cat_file(path, max_concurrency=1)
        return data

    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        answer = self._call("get_object", path)
        return answer["ETag"], sync(self._fs.loop, answer["Body"].read)

    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        self._call("put_object", path, Body=data, IfMatch=tag)

    def _remove_if(self, path: str, tag: str) -> None:
        self._call("delete_object", path, IfMatch=tag)

    def _call(self, operation: str, path: str, **options: Any) -> Any:
        bucket, key, _ = self._fs.split_path(path)
        return self._fs.call_s3(operation, Bucket=bucket, Key=key, **options)

    def _remove_paths(self, paths: Sequence[str]) -> None:
        # s3fs does not report what a bulk delete could not remove.
        if len(paths) == 1:
            self._fs.rm_file(paths[0])
        else:
            super()._remove_paths(paths)

    def _ls_files(self, folder: str) -> Iterable[Any]:
        # By prefix: a listing of an absent folder costs a second request, which asks
        # whether it is a file.
        bucket, _, key = folder.partition("/")
        found = self._fs.find(bucket, prefix=f"{key}/", detail=True)
        entries: Iterable[Any] = found.values()
        return entries
