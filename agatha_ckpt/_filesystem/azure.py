"""Azure Blob Storage."""

from collections.abc import Iterable
from typing import Any

from fsspec.asyn import sync

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles


class AzureFiles(ObjectStoreFiles):
    """An adlfs filesystem."""

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
        async def remove() -> None:
            async with self._blob(path) as blob:
                await blob.delete_blob(**_unchanged(tag))

        sync(self._fs.loop, remove)

    def _ls_files(self, folder: str) -> Iterable[Any]:
        # adlfs sends a second request where a `find` finds nothing.
        from azure.core.exceptions import ResourceNotFoundError

        container, _, prefix = folder.partition("/")
        service = self._fs.service_client

        async def entries() -> list[dict[str, Any]]:
            async with service.get_container_client(container=container) as client:
                return [
                    {
                        "name": f"{container}/{blob.name}",
                        "type": "file",
                        "size": blob.size,
                        "last_modified": blob.last_modified,
                    }
                    async for blob in client.list_blobs(name_starts_with=f"{prefix}/")
                ]

        try:
            found: list[dict[str, Any]] = sync(self._fs.loop, entries)
        except ResourceNotFoundError as error:  # there is no such container
            raise FileNotFoundError(folder) from error
        return found

    def _blob(self, path: str) -> Any:
        container, blob, _ = self._fs.split_path(path)
        return self._fs.service_client.get_blob_client(container=container, blob=blob)


def _unchanged(tag: str) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": tag, "match_condition": MatchConditions.IfNotModified}
