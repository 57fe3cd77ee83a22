"""Azure Blob Storage."""

from collections.abc import Iterable, Sequence
from typing import Any

from fsspec.asyn import sync

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles


class AzureFiles(ObjectStoreFiles):
    """An adlfs filesystem."""

    batch_size = 256

    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        from azure.core.exceptions import ResourceNotFoundError

        async def read() -> tuple[str, bytes]:
            async with self._blob(path) as blob:
                stream = await blob.download_blob()
                return stream.properties.etag, await stream.readall()

        try:
            tagged: tuple[str, bytes] = sync(self._fs.loop, read)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error
        return tagged

    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        self._fs.pipe_file(path, data, overwrite=True, **_unchanged(tag))

    def _remove_if(self, path: str, tag: str) -> None:
        self._delete(path, **_unchanged(tag))

    def _remove_one(self, path: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self._delete(path)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error

    def _delete(self, path: str, **condition: Any) -> None:
        async def delete() -> None:
            async with self._blob(path) as blob:
                await blob.delete_blob(**condition)

        sync(self._fs.loop, delete)

    def _remove_batch(self, paths: Sequence[str]) -> Sequence[str]:
        container, _, _ = self._fs.split_path(paths[0])
        blobs = [self._fs.split_path(path)[1] for path in paths]
        service = self._fs.service_client

        async def delete() -> list[int]:
            async with service.get_container_client(container=container) as client:
                answers = await client.delete_blobs(*blobs, raise_on_any_failure=False)
                return [answer.status_code async for answer in answers]

        # In the order of the paths.
        statuses: list[int] = sync(self._fs.loop, delete)
        done = {n for n, status in enumerate(statuses) if status in (202, 404)}
        return [path for number, path in enumerate(paths) if number not in done]

    def _find(self, bucket: str, prefix: str) -> Iterable[Any]:
        # adlfs sends a second request where a `find` finds nothing.
        from azure.core.exceptions import ResourceNotFoundError

        service = self._fs.service_client

        async def entries() -> list[dict[str, Any]]:
            async with service.get_container_client(container=bucket) as client:
                return [
                    {
                        "name": f"{bucket}/{blob.name}",
                        "type": "file",
                        "size": blob.size,
                        "last_modified": blob.last_modified,
                    }
                    async for blob in client.list_blobs(name_starts_with=prefix)
                ]

        try:
            found: list[dict[str, Any]] = sync(self._fs.loop, entries)
        except ResourceNotFoundError as error:  # there is no such container
            raise FileNotFoundError(bucket) from error
        return found

    def _blob(self, path: str) -> Any:
        container, blob, _ = self._fs.split_path(path)
        return self._fs.service_client.get_blob_client(container=container, blob=blob)


def _unchanged(tag: str) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": tag, "match_condition": MatchConditions.IfNotModified}
